"""What integers may be, found by running a module: nothing declares it, and indexing beyond a table fails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nnkit.contract.architecture import Dim, TensorSpec
from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError
from nnkit.models.sampling import Inputs, dtype_of, sample_inputs
from nnkit.verbs.exporting.calls import run_module
from nnkit.verbs.exporting.copies import copy_of, whole_copy_of
from nnkit.verbs.exporting.sizes import PRIMES, Sizes, completed, traced_sizes

HIGHEST = 2**16  # values up to here are tried
SMALL = 8  # below this integers are drawn where any value will do


def with_found_limits(
    spec: ModelSpec, module: nn.Module, dims: Mapping[str, Dim]
) -> tuple[ModelSpec, tuple[str, ...]]:
    """Return `spec` with limits for the integers that declare none, and a sentence on each.

    Only inputs of a user's own module are looked at; a plugin says what it means. dims: the free ones.
    """
    assumed = []
    for place, tensor in enumerate(spec.inputs):
        if not spec.plugin and tensor.sample == "mask" and _Probe(spec, module, place).keeps(dims):
            spec = _with_input(spec, place, replace(tensor, sample="keep"))
        if spec.plugin or tensor.sample != "zeros" or not is_integer(dtype_of(spec, tensor)):
            continue
        found = _Probe(spec, module, place).find(dims)
        assumed.append(_sentence(tensor, found))
        spec = _with_input(spec, place, replace(tensor, sample=found.sample, index_of=found.index_of))
    return spec, tuple(assumed)


def _with_input(spec: ModelSpec, place: int, tensor: TensorSpec) -> ModelSpec:
    inputs = (*spec.inputs[:place], tensor, *spec.inputs[place + 1 :])
    return replace(spec, architecture=replace(spec.architecture, inputs=inputs))


def is_integer(dtype: torch.dtype) -> bool:
    """Whether it is one of integers, not bool."""
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)


@dataclass(frozen=True)
class _Found:
    """How an input is drawn; `limited` where forward fails for larger integers."""

    sample: str
    index_of: int | str
    limited: bool = True


def _sentence(tensor: TensorSpec, found: _Found) -> str:
    if found.sample == "lengths":
        return f"{tensor.name} takes integers from 1 to {found.index_of}, found by running forward"
    axes = ", ".join(map(str, tensor.shape))
    as_declared = f'--input "{tensor.name}: {tensor.dtype}[{axes}] < {found.index_of}"'
    if not found.limited:
        return f"{tensor.name} takes every integer that was tried; drawn as for {as_declared}"
    return f"{tensor.name} takes integers below {found.index_of}, found by running forward: {as_declared}"


def varied(module: nn.Module, names: Sequence[str], inputs: Inputs) -> Inputs:
    """Return other inputs like the given ones: in another order, or others where all values are equal."""
    generator = torch.Generator().manual_seed(0)
    others = []
    for place, tensor in enumerate(inputs):
        order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
        other = tensor.flatten()[order].reshape(tensor.shape)
        if torch.equal(other, tensor) and tensor.numel():
            other = _moved(module, names, inputs, place)
        others.append(other)
    return tuple(others)


def _moved(module: nn.Module, names: Sequence[str], inputs: Inputs, place: int) -> Tensor:
    """Return values beside those of one input that forward takes; the same where it takes no others."""
    tensor = inputs[place]
    if not is_integer(tensor.dtype) and tensor.dtype != torch.bool:
        return tensor * 0.9 + 0.1
    last = torch.zeros(tensor.shape, dtype=torch.bool, device=tensor.device)
    last[..., -1:] = True
    steps = (
        (tensor ^ last,) if tensor.dtype == torch.bool else (tensor + last, tensor - last.to(tensor.dtype))
    )
    for other in steps:
        try:
            run_module(module, names, (*inputs[:place], other, *inputs[place + 1 :]))
        except NnkitError:
            continue
        return other
    return tensor


class _Probe:
    """Fills one input with a value and sees what forward makes of it."""

    def __init__(self, spec: ModelSpec, module: nn.Module, place: int) -> None:
        self._spec, self._place = spec, place
        on_cpu = all(each.device.type == "cpu" for each in module.parameters())
        # An index that is out of range ends the whole context of an accelerator.
        self._module = copy_of(module) if on_cpu else whole_copy_of(module).cpu()

    def find(self, dims: Mapping[str, Dim]) -> _Found:
        """Return how to draw the integers: below a number or a dim, or as lengths.

        The limit is looked for at two assignments of sizes. All sizes differ, so a limit that follows one
        of them shows which.
        """
        first = traced_sizes(dims, {name: self._spec.sizes[name] for name in dims})
        second = completed(dims, {name: size + PRIMES[i] for i, (name, size) in enumerate(first.items())})
        limits = self._limit(first), self._limit(second)
        for name in dims:
            if limits == (first[name], second[name]):
                return _Found("index", name)
            if limits == (first[name] + 1, second[name] + 1):
                return _Found("lengths", name)
        known = [limit for limit in limits if limit is not None]
        return _Found("index", min(known)) if known else _Found("index", SMALL, limited=False)

    def keeps(self, dims: Mapping[str, Dim]) -> bool:
        """Whether True in a mask keeps and False hides: where all is hidden, outputs are 0 or not finite."""
        inputs = sample_inputs(
            self._spec, sizes=traced_sizes(dims, {name: self._spec.sizes[name] for name in dims})
        )
        empty = [self._is_empty(inputs, value) for value in (0, 1)]
        return empty == [True, False]

    def _is_empty(self, inputs: Inputs, value: int) -> bool:
        outputs = self._outputs(inputs, value) or []
        return any(
            not each.isfinite().all() or not each.any() for each in outputs if each.is_floating_point()
        )

    def _limit(self, sizes: Sizes) -> int | None:
        inputs = sample_inputs(self._spec, sizes=sizes)
        if not inputs[self._place].numel():
            return None
        low, high = (0, 1) if self._takes(inputs, 0) else (1, 2)
        highest = min(HIGHEST, torch.iinfo(inputs[self._place].dtype).max)
        while high <= highest and self._takes(inputs, high):
            low, high = high, high * 2
        if high > highest:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._takes(inputs, middle) else (low, middle)
        return high

    def _takes(self, inputs: Inputs, value: int) -> bool:
        return self._outputs(inputs, value) is not None

    def _outputs(self, inputs: Inputs, value: int) -> list[Tensor] | None:
        filled: Tensor = torch.full_like(inputs[self._place], value)
        try:
            others = (*inputs[: self._place], filled, *inputs[self._place + 1 :])
            return run_module(self._module, self._spec.input_names, others)
        except NnkitError:
            return None
