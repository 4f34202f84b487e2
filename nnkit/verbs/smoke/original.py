"""The model that is checked, as it was built, and copies of it that share its weights.

Checks run copies, so that none sees what another has done. Nearly all only read the weights. Their copies
have buffers and attributes of their own but the parameters lie in one memory, which makes a copy of a large
model as cheap as one of a small one. Whether forward leaves its parameters alone is watched:

- torch counts each write to a tensor (`_version`), and copies that share a memory share the count;
- a write through `.data` isn't counted, so the first runs, in eval mode and in training mode, also compare
  checksums of the weights before and after, and so does each check that finds something.

If a parameter was written to, the model is built again, and from then on each copy is a whole one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nnkit.models.copies import is_shared, sharing_copy_of, whole_copy_of
from nnkit.models.members import named_parameters
from nnkit.verbs.smoke.elements import checksum, some_of

T = TypeVar("T")

NOISE = 0.02
MOST_NOISED = 2**18  # elements of a parameter; enough for each row and column of a large matrix


class Original:
    """A model as built; it is built when it is first needed, and again after it was given away.

    Attributes:
        shares: whether copies share its weights.

    Example:

        original = Original(lambda: nn.Linear(2, 2))
        copy = original.copy()
        assert copy is not original.module and copy.weight.data_ptr() == original.module.weight.data_ptr()
    """

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        self._build = build
        self._module: nn.Module | None = None
        self._versions: list[tuple[int, int]] = []
        self._checksums: list[Tensor] = []
        self._results: dict[object, Any] = {}
        self.shares = True
        self.is_noisy = False

    @property
    def module(self) -> nn.Module:
        """The model itself, for looking at: a check that runs it takes a copy."""
        if self._module is None:
            self._module = self._build()
            if _has_expanded(self._module):
                self.shares = False
            if self.shares:
                self._versions = _versions_of(self._module)
                self._checksums = _checksums_of(self._module)
        return self._module

    def copy(self) -> nn.Module:
        """Return a copy to run, which may not write to its parameters: others may have them too."""
        if self.shares:
            return sharing_copy_of(self.module)
        return whole_copy_of(self._noised if self.is_noisy else self.module)

    @contextmanager
    def noise(self) -> Iterator[None]:
        """Put a little noise on every parameter, so that nothing hides behind a zero; then take it off."""
        if self.is_noisy:
            yield
            return
        module = self.module
        undo = add_noise(module) if self.shares else None
        self.is_noisy = True
        try:
            yield
        finally:
            self.is_noisy = False
            if undo:
                undo()

    @cached_property
    def _noised(self) -> nn.Module:
        module = whole_copy_of(self.module)
        add_noise(module)
        return module

    def once(self, key: object, run: Callable[[], T]) -> T:
        """Return what `run` returns; it is run once for a key, unless forward writes to its weights.

        What it returns may hold the weights: it is forgotten when they are given away.
        """
        if not self.shares:
            return run()
        if key not in self._results:
            result = run()
            if not self.shares:
                return result
            self._results[key] = result
        found: T = self._results[key]
        return found

    def take(self) -> nn.Module:
        """Give the model itself away, to be changed in any way: no memory is needed for a copy."""
        module, self._module = self.module, None
        self._results.clear()
        return whole_copy_of(module) if _has_expanded(module) else module

    def checksums(self) -> list[Tensor]:
        """Return checksums of the shared weights, as they are with noise or as they were built."""
        if not self.shares:
            return []
        return _checksums_of(self.module) if self.is_noisy else self._checksums

    def is_intact(self, checksums: Sequence[Tensor] = ()) -> bool:
        """Whether no copy has written to the weights, as far as the counts of writes say.

        checksums: from before a run. A write through `.data`, which isn't counted, changes them.
        """
        if self._module is None or not self.shares:
            return True
        if _versions_of(self._module) != self._versions:
            return False
        return not checksums or all(map(torch.equal, checksums, _checksums_of(self._module)))

    def part(self) -> None:
        """Build the model again, and share its weights with no copy from now on."""
        self._module, self.shares = None, False
        self._results.clear()


def add_noise(module: nn.Module) -> Callable[[], None]:
    """Move every parameter a little, except integers such as quantized weights; return what moves them back.

    Of a large one only some elements are moved: no index of any of its axes is left out, and they can be put
    back without a copy of all.
    """
    generator = torch.Generator().manual_seed(0)
    moved: list[tuple[Tensor, Tensor]] = []

    def undo() -> None:
        for some, before in reversed(moved):  # two may lie in one memory
            some.copy_(before)

    try:
        for parameter in module.parameters():
            if parameter.is_floating_point() or parameter.is_complex():
                some = some_of(parameter.data, MOST_NOISED)  # `.data`: this write is not to be counted
                moved.append((some, some.clone()))
                some.add_(torch.randn(some.shape, generator=generator).to(some), alpha=NOISE)
    except Exception:  # a dtype that can't be added to: copies are to find none of it noisy
        undo()
        raise
    return undo


def _parameters_of(module: nn.Module) -> list[Tensor]:
    """Return the parameters whose memory copies share."""
    return [parameter for parameter in named_parameters(module).values() if is_shared(parameter)]


def _has_expanded(module: nn.Module) -> bool:
    """Whether elements of a parameter lie at one place, as `expand` has it: nothing can write to each.

    In a whole copy each has a place of its own.
    """
    return any(
        size > 1 and step == 0
        for parameter in _parameters_of(module)
        for size, step in zip(parameter.shape, parameter.stride(), strict=True)
    )


def _versions_of(module: nn.Module) -> list[tuple[int, int]]:
    return [(parameter._version, parameter.data_ptr()) for parameter in _parameters_of(module)]


def _checksums_of(module: nn.Module) -> list[Tensor]:
    return [checksum(parameter) for parameter in _parameters_of(module)]
