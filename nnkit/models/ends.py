"""Where sequences end: the lengths, masks and padding along one dim agree in one draw of inputs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nnkit.contract.architecture import TensorSpec
from nnkit.contract.spec import ModelSpec
from nnkit.errors import UsageProblem

Axis = int | str
MARKS = ("lengths", "prefix", "suffix")


class Ends:
    """The ends of the sequences in one draw, along each dim, drawn when a tensor first needs them.

    Every tensor that marks ends along a dim gets the same ones: `lengths: [batch]` and a prefix mask
    `[batch, 1, time]` describe the same sequences. There is an end for each combination of the axes that all
    of them have beside the dim, here for each sample of the batch.

    full: let every sequence fill its dim, so that nothing is padding.
    """

    def __init__(self, spec: ModelSpec, generator: torch.Generator, full: bool) -> None:
        self._spec, self._generator, self._full = spec, generator, full
        self._drawn: dict[Axis, tuple[list[Axis], Tensor]] = {}

    def lengths(self, tensor: TensorSpec) -> Tensor:
        """Return values for integers that count along a dim."""
        axis = axis_of(tensor)
        shape, longest = self._spec.shape(tensor), self._size(axis)
        marking = self._marking(axis)
        if axis in self._spec.dims or any(each.sample != "lengths" for each in marking):
            return self._of(axis, tensor.shape).expand(shape)
        least = longest if self._full else tensor.least
        return draw_lengths(least, longest, shape, self._generator)  # a number, along which nothing ends

    def within(self, tensor: TensorSpec) -> Tensor:
        """Return a mask of the shape of `tensor`, True before the end of each sequence."""
        axis = axis_of(tensor)
        if axis not in tensor.shape:
            raise UsageProblem(
                f"input {tensor.name!r} has no axis {axis!r} for its {tensor.sample} to run along",
                f"its axes: {', '.join(map(str, tensor.shape)) or 'none'}",
            )
        along = len(tensor.shape) - 1 - tensor.shape[::-1].index(axis)
        positions = torch.arange(self._size(axis)).reshape(-1, *[1] * (len(tensor.shape) - 1 - along))
        rows = (*tensor.shape[:along], 1, *tensor.shape[along + 1 :])
        return (positions < self._of(axis, rows)).expand(self._spec.shape(tensor))

    def _of(self, axis: Axis, shape: Sequence[Axis]) -> Tensor:
        """Return the ends along `axis` for a tensor of this shape; they broadcast to it."""
        if axis not in self._drawn:
            self._drawn[axis] = self._draw(axis)
        axes, ends = self._drawn[axis]
        places = {each: shape.index(each) for each in axes}
        ends = ends.permute([axes.index(each) for each in sorted(axes, key=places.__getitem__)])
        return ends.reshape(
            [self._size(each) if index in places.values() else 1 for index, each in enumerate(shape)]
        )

    def _draw(self, axis: Axis) -> tuple[list[Axis], Tensor]:
        marking = self._marking(axis)
        first, *others = [_rows(tensor, axis) for tensor in marking]
        axes = [each for each in dict.fromkeys(first) if all(each in rows for rows in others)]
        longest = self._size(axis)
        counting = [tensor.least for tensor in marking if tensor.sample == "lengths"]
        least = longest if self._full else max(counting, default=1)
        if longest == 0:
            least = min(least, 0)
        return axes, draw_lengths(least, longest, [self._size(each) for each in axes], self._generator)

    def _marking(self, axis: Axis) -> list[TensorSpec]:
        return [tensor for tensor in self._spec.inputs if _marks(tensor) and axis_of(tensor) == axis]

    def _size(self, axis: Axis) -> int:
        return self._spec.shape(TensorSpec("", (axis,)))[0]


def axis_of(tensor: TensorSpec) -> Axis:
    """Return the axis along which a tensor marks ends: `index_of`, or the last one for integers padded."""
    if tensor.sample in MARKS:
        if tensor.index_of is None:
            raise UsageProblem(f"input {tensor.name!r} doesn't say what it counts", "set index_of to a dim")
        return tensor.index_of
    return tensor.shape[-1]


def _marks(tensor: TensorSpec) -> bool:
    return tensor.sample in MARKS or (tensor.padding is not None and len(tensor.shape) > 0)


def _rows(tensor: TensorSpec, axis: Axis) -> list[Axis]:
    """Return the axes of a tensor beside the one along which it marks ends."""
    rows = [each for each in tensor.shape if each != 1]
    if tensor.sample != "lengths" and axis in rows:
        del rows[len(rows) - 1 - rows[::-1].index(axis)]
    return rows


def draw_lengths(least: int, longest: int, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return integers from `least` to `longest`; the first along the last axis is the longest."""
    if least > longest:
        raise UsageProblem(f"no integer is from {least} to {longest}", "give other bounds or sizes")
    lengths = torch.randint(least, longest + 1, tuple(shape), generator=generator)
    if shape:
        lengths[..., :1] = longest  # a padded batch is as long as its longest sequence
    return lengths
