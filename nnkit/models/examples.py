"""Example tensors -> more of their kind: at other sizes, with other values that a module takes too."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

WIDER = (4, 2, -2)  # how many values are tried from the only one that the integers of an example have
LONG_ENOUGH = 5  # for an order that is no chance
FEW = 3  # a tensor of numbers with so few different values holds classes
KEPT = 0.5  # the share of the example that remains in a varied copy


@dataclass(frozen=True, eq=False)
class Example:
    """A tensor that the user gave, and what may be drawn in its place.

    Called as the `sample` of a TensorSpec. With seed 0, the values are those of the example as far as it
    reaches. Everything else is varied: values of the example in other places, and numbers moved by a part of
    their spread. What holds for the whole example stays true: signs, integers in ascending order, the range.

    Attributes:
        tensor: the example, on the CPU.
        varies: whether the module takes other values at all.
        span: for integers that are all the same, the smallest and the largest value to draw.
        indexes: the dim that integers index, and so stay below.
        counts: the dim that integers count, so that they go up to its size, if the largest did so.
    """

    tensor: Tensor
    varies: bool = True
    span: tuple[int, int] | None = None
    indexes: str = ""
    counts: str = ""

    def __call__(
        self,
        shape: tuple[int, ...],
        sizes: Mapping[str, int],
        dtype: torch.dtype,
        generator: torch.Generator,
    ) -> Tensor:
        """Return a tensor like the example, cut or repeated to a shape."""
        drawn = self._draw(shape, dtype, generator)
        if self.indexes:
            return drawn.remainder(max(sizes[self.indexes], 1))
        if self.counts:
            counts_all = drawn == int(self.tensor.max())
            return drawn.clamp(max=sizes[self.counts]).masked_fill(counts_all, sizes[self.counts])
        return drawn

    def _draw(self, shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
        if self.tensor.is_meta:
            return torch.zeros(shape, dtype=dtype)
        repeated = self._repeat(shape)
        if not self.varies or not repeated.numel():
            return repeated
        varied = self._vary(repeated, generator)
        if generator.initial_seed() == 0:
            corner = tuple(slice(min(size, own)) for size, own in zip(shape, self.tensor.shape, strict=True))
            varied[corner] = self.tensor[corner]
        if self._hidden is not None:
            return _show_in_each_row(varied, self._hidden)
        return varied.sort(-1).values if self._is_sorted else varied

    def _repeat(self, shape: tuple[int, ...]) -> Tensor:
        repeated = self.tensor
        for axis, size in enumerate(shape):
            own = repeated.shape[axis]
            if size != own:
                index = torch.arange(size) % max(own, 1)
                repeated = repeated.index_select(axis, index)
        return repeated.clone()

    def _vary(self, repeated: Tensor, generator: torch.Generator) -> Tensor:
        if repeated.is_complex():
            noise = torch.randn(repeated.shape, dtype=torch.complex64, generator=generator)
            return repeated + noise.to(repeated.dtype) * repeated.abs().mean()
        if repeated.dtype == torch.bool or self._is_mask:
            return _reorder(repeated, generator)
        if self._is_counting:
            return repeated
        mixed = self._mix(repeated, generator)
        if not repeated.is_floating_point() or self._holds_classes:
            return mixed
        return self._move(repeated, mixed, generator)

    def _mix(self, repeated: Tensor, generator: torch.Generator) -> Tensor:
        """Return a copy with a part of the values replaced by others of the example."""
        pool = self.tensor.flatten()
        if self.span is not None:
            low, high = self.span
            pool = torch.arange(low, high + 1).to(pool.dtype)
        index = torch.randint(pool.numel(), repeated.shape, generator=generator)
        kept = torch.rand(repeated.shape, generator=generator) < KEPT
        if self.span is not None:  # the largest is in every draw, so a draw shows whether it is taken
            index.view(-1)[:1], kept.view(-1)[:1] = pool.numel() - 1, False
        return torch.where(kept, repeated, pool[index])

    def _move(self, repeated: Tensor, mixed: Tensor, generator: torch.Generator) -> Tensor:
        """Return numbers moved by a part of their spread; signs, zeros of one sign and infinities stay."""
        noise = torch.randn(repeated.shape, generator=generator).to(repeated.dtype)
        low, high, mean, spread = self._statistics
        if spread == 0:
            moved = repeated * (0.3 * noise).exp() if high else noise
        elif low >= 0 or high <= 0:
            moved = (mixed * (0.2 * noise).exp()).clamp(low, high)
        else:
            part = math.sqrt(1 - KEPT**2)
            moved = mean + KEPT * (repeated - mean) + part * spread * noise
        return torch.where(repeated.isfinite(), moved, repeated)

    @property
    def is_integer(self) -> bool:
        """Whether it holds integers; bool is not."""
        dtype = self.tensor.dtype
        return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)

    @cached_property
    def largest(self) -> int:
        """The largest of integers; -1 of none."""
        return int(self.tensor.max()) if self.tensor.numel() and not self.tensor.is_meta else -1

    def following(self, dim: str, counts: bool) -> "Example":
        """Return the example so that its integers follow the size of a dim: they count it, or index it."""
        return replace(self, counts=dim) if counts else replace(self, indexes=dim)

    def wider(self) -> "list[Example]":
        """Return examples that draw more values, most first, where all integers of this one are the same."""
        if not self.is_integer or self.tensor.is_meta or not self.tensor.numel():
            return []
        value = int(self.tensor.min())
        if value != self.largest or self._is_mask:
            return []
        spans = [(value, value + count - 1) if count > 0 else (value + count + 1, value) for count in WIDER]
        return [replace(self, span=span) for span in spans]

    @cached_property
    def _statistics(self) -> tuple[float, float, float, float]:
        """The smallest and largest finite value, the mean and the standard deviation."""
        finite = self.tensor[self.tensor.isfinite()].double()
        if not finite.numel():
            return 0.0, 0.0, 0.0, 0.0
        spread = float(finite.std(correction=0))
        return float(finite.min()), float(finite.max()), float(finite.mean()), spread

    @cached_property
    def _holds_classes(self) -> bool:
        """Whether numbers are only a few different ones: a graph's edges, one-hot rows, a mask of 0 and 1."""
        if self.tensor.numel() <= FEW:
            return False
        return 1 < len(torch.unique(self.tensor.flatten()[:10_000])) <= FEW

    @cached_property
    def _is_mask(self) -> bool:
        """Whether integers are a mask: 0 and 1 in rows, as of a tokenizer; rows of only 0 may be anything."""
        if not self.is_integer or self.tensor.ndim < 2:
            return False
        return self.largest == 1 and bool(((self.tensor == 0) | (self.tensor == 1)).all())

    @property
    def hides_nothing(self) -> bool:
        """Whether integers are a mask of ones, which a module may ignore whatever its shape."""
        return not self.tensor.is_meta and self._is_mask and bool(self.tensor.all())

    @cached_property
    def _hidden(self) -> bool | None:
        """The value of a mask that no row of the example is full of, as attention over nothing is undefined.

        It is 0 in integers, and in bool the rarer value, since either may mean hidden.
        """
        is_bool = self.tensor.dtype == torch.bool and self.tensor.ndim > 0
        if not (is_bool or self._is_mask) or not self.tensor.numel():
            return None
        hidden = is_bool and 2 * int(self.tensor.count_nonzero()) < self.tensor.numel()
        return None if (self.tensor == hidden).all(-1).any() else hidden

    @cached_property
    def _is_counting(self) -> bool:
        """Whether integers count up along the last axis, as positions do."""
        return self._steps_by(lambda steps: bool((steps == 1).all()))

    @cached_property
    def _is_sorted(self) -> bool:
        """Whether the last axis ascends, as times do, or the number of a node's graph."""
        if self.tensor.ndim and self.tensor.shape[-1] < LONG_ENOUGH:
            return False
        return self._steps_by(lambda steps: bool((steps >= 0).all() and (steps > 0).any()))

    def _steps_by(self, holds: Callable[[Tensor], bool]) -> bool:
        if self.tensor.dtype == torch.bool or self.tensor.is_complex():
            return False
        return self.tensor.ndim > 0 and self.tensor.shape[-1] > 2 and holds(self.tensor.diff(dim=-1))


def _reorder(mask: Tensor, generator: torch.Generator) -> Tensor:
    """Return a mask with its rows in a different order, or its columns if all rows are equal.

    Where all elements are equal, the last of the first row and of some others is changed.
    """
    if not mask.ndim:
        return mask
    if mask.all() or not mask.any():
        some = torch.rand(mask[..., -1:].shape, generator=generator) < KEPT
        some.view(-1)[:1] = True
        return torch.cat([mask[..., :-1], mask[..., -1:] ^ some], -1)
    for axis in (0, -1):
        order = torch.randperm(mask.shape[axis], generator=generator)
        reordered = mask.index_select(axis, order)
        if not torch.equal(reordered, mask):
            return reordered
    return mask


def _show_in_each_row(mask: Tensor, hidden: bool) -> Tensor:
    """Return a mask without rows that are hidden as a whole: their last element isn't."""
    is_full = (mask == hidden).all(-1)
    return torch.cat([mask[..., :-1], mask[..., -1:].masked_fill(is_full[..., None], not hidden)], -1)
