"""Which call wrote last to the memory that a tensor shows, also where views share it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from nnkit.models.tensors import storages_of

PLAIN = (Tensor, torch.nn.Parameter, torch.nn.Buffer)


@dataclass(frozen=True)
class Region:
    """The part of a storage that a tensor shows, in bytes: where it begins, and how far each axis reaches."""

    start: int
    axes: tuple[tuple[int, int], ...]  # stride and size of each axis that has more than one element
    itemsize: int

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return math.prod(size for _, size in self.axes)

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.start + self.itemsize + sum(stride * (size - 1) for stride, size in self.axes)

    def overlaps(self, other: "Region") -> bool:
        """Whether some byte is in both; also if that is uncertain."""
        if self.end <= other.start or other.end <= self.start:
            return False
        boxes = _boxes(self, other)
        return boxes is None or all(low < above and below < high for (low, high), (below, above) in boxes)

    def covers(self, other: "Region") -> bool:
        """Whether it is certain that every byte of the other is in this one."""
        inside = self.start <= other.start and other.end <= self.end
        if inside and self.elements * self.itemsize == self.end - self.start:
            return True
        boxes = _boxes(self, other)
        if boxes is None:
            return False
        return all(low <= below and above <= high for (low, high), (below, above) in boxes)


def _boxes(one: Region, other: Region) -> list[tuple[tuple[int, int], tuple[int, int]]] | None:
    """Return two regions as boxes of one grid: for each axis where they begin and end; None if there is none.

    Two halves of the last axis of a matrix of 2 × 4, `x.chunk(2, -1)`: (0, 2) and (0, 2), (0, 2) and (2, 4).
    """
    strides = sorted({stride for stride, _ in (*one.axes, *other.axes)} | {one.itemsize}, reverse=True)
    if one.itemsize != other.itemsize:
        return None
    origin = min(one.start, other.start)
    limits: list[list[tuple[int, int]]] = []
    for region in (one, other):
        sizes = dict(region.axes)
        if len(sizes) < len(region.axes):
            return None
        rest, before, box = region.start - origin, 0, []
        for stride in strides:
            first, rest = divmod(rest, stride)
            last = first + sizes.get(stride, 1)
            if before and last * stride > before:
                return None  # it reaches into the next row of the grid
            box.append((first, last))
            before = stride
        limits.append(box)
    return list(zip(*limits, strict=True))


def region_of(tensor: Tensor) -> Region:
    """Return the part of its storage that a strided tensor shows."""
    itemsize = tensor.element_size()
    axes = zip(tensor.stride(), map(int, tensor.shape), strict=True)
    wide = tuple((stride * itemsize, size) for stride, size in axes if size > 1 and stride)
    return Region(int(tensor.storage_offset()) * itemsize, wide, itemsize)


def is_whole(tensor: Tensor) -> bool:
    """Whether a tensor shows all of its storage."""
    return bool(tensor.nbytes == tensor.untyped_storage().nbytes())


class Writes:
    """The numbers of the last writes to each storage.

    A number is that of the tensor that a write leaves; a later one is larger.
    """

    def __init__(self) -> None:
        self._whole: dict[int, int] = {}
        self._parts: dict[int, list[tuple[int, Region]]] = {}

    def last(self, storage: int) -> int:
        """Return the number of the last write to a storage, 0 if there was none."""
        parts = self._parts.get(storage)
        return parts[-1][0] if parts else self._whole.get(storage, 0)

    def note(self, storages: Iterable[int], number: int) -> None:
        """Note a write to all of some storages."""
        for storage in storages:
            self._whole[storage] = number
            if self._parts:
                self._parts.pop(storage, None)

    def note_part(self, storages: Iterable[int], number: int, region: Region) -> None:
        """Note a write to a part of some storages."""
        for storage in storages:
            parts = self._parts.setdefault(storage, [])
            parts[:] = [(earlier, part) for earlier, part in parts if not region.covers(part)]
            parts.append((number, region))

    def renumber(self, storage: int, number: int) -> None:
        """Give the last write to a storage another number."""
        if parts := self._parts.get(storage):
            parts[-1] = number, parts[-1][1]
        else:
            self._whole[storage] = number

    def numbers(self, tensor: Tensor, mark: int) -> list[int]:
        """Return the numbers of the writes that made a tensor what it is, 0 for none.

        mark: the number of the call that made it, as an object; writes before that don't count.
        """
        storages = storages_in(tensor)
        for storage in storages:
            mark = max(mark, self._whole.get(storage, 0))
        if self._parts and not self._parts.keys().isdisjoint(storages) and is_strided(tensor):
            parts = [write for storage in storages for write in self._parts[storage]]
            return _numbers_of_parts(region_of(tensor), parts, mark)
        return [mark]


def _numbers_of_parts(region: Region, parts: list[tuple[int, Region]], mark: int) -> list[int]:
    """Return the numbers of the writes that a region shows, the last first, and the mark if it shows more."""
    found: list[tuple[int, Region]] = []
    for number, part in reversed(parts):
        if number > mark and part.overlaps(region):
            found.append((number, part))
            if part.covers(region):
                return [number for number, _ in found]
    apart = all(not a.overlaps(b) for i, (_, a) in enumerate(found) for _, b in found[:i])
    complete = apart and sum(part.elements for _, part in found) >= region.elements
    return [number for number, _ in found] + ([] if found and complete else [mark])


def storages_in(tensor: Tensor) -> set[int]:
    """Return ids of the storages of a tensor, for a wrapper such as `vmap` makes those of what it wraps."""
    if is_strided(tensor):
        return {tensor.untyped_storage()._cdata}
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    with _disable_current_modes():
        return storages_of(tensor)


def is_strided(tensor: Tensor) -> bool:
    """Whether a tensor is a plain one with memory of its own."""
    return (
        tensor.layout == torch.strided
        and type(tensor) in PLAIN
        and not tensor.is_nested
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )
