"""The dims in use under one config, and the constraints that hold their sizes together. Torch-free."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from nnkit.contract.architecture import ResolvedDim
from nnkit.contract.axes import holds, names_in_constraint

FARTHEST = 4096  # steps that a size is moved by, at most


class Dims(dict[str, ResolvedDim]):
    """The dims in use by name, with the constraints on their sizes.

    constraints: comparisons of sizes (`past + time <= context`). known: the names in them that are no
    dims in use: config fields, dims with a fixed size, and 0 for the dims of inputs that are left out.

    Example:

        time = Dim(default=8).resolve({})
        dims = Dims({"time": time}, ("time <= context",), {"context": 5})
        assert dims.problem_with({"time": 8}) == "time <= context doesn't hold for context=5, time=8"
        assert dims.satisfy({"time": 8}) == {"time": 5}
    """

    def __init__(
        self,
        dims: Mapping[str, ResolvedDim],
        constraints: Sequence[str] = (),
        known: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(dims)
        self.constraints, self.known = tuple(constraints), dict(known or {})

    def free(self, names: Collection[str], sizes: Mapping[str, int]) -> "Dims":
        """Return these dims alone; the others keep their size in `sizes`."""
        fixed = {name: sizes[name] for name in self if name not in names}
        kept = {name: dim for name, dim in self.items() if name in names}
        return Dims(kept, self.constraints, {**self.known, **fixed})

    def problem_with(self, sizes: Mapping[str, int]) -> str:
        """Return why these sizes don't go together, or an empty string."""
        values = {**self.known, **sizes}
        for constraint in self.constraints:
            if not holds(constraint, values):
                named = ", ".join(
                    f"{name}={values[name]}" for name in sorted(names_in_constraint(constraint))
                )
                return f"{constraint} doesn't hold for {named}"
        return ""

    def satisfy(self, sizes: Mapping[str, int], fixed: Collection[str] = ()) -> dict[str, int] | None:
        """Return sizes near these for which every constraint holds; None where none are found.

        Where a constraint is broken, its largest size is moved, first down and then up, to the first allowed
        size at which it holds. If none does, it is set to its smallest and the next size is moved.
        fixed: the dims whose size stays.
        """
        sizes = dict(sizes)
        for _ in self.constraints:
            for constraint in self.constraints:
                self._move(constraint, sizes, fixed)
        return None if self.problem_with(sizes) else sizes

    def _move(self, constraint: str, sizes: dict[str, int], fixed: Collection[str]) -> None:
        names = [name for name in names_in_constraint(constraint) if name in self and name not in fixed]
        for name in sorted(names, key=lambda name: (-sizes[name], name)):
            for size in (sizes[name], *self._sizes_near(name, sizes[name])):
                if holds(constraint, {**self.known, **sizes, name: size}):
                    sizes[name] = size
                    return
            sizes[name] = self[name].least

    def _sizes_near(self, name: str, size: int) -> Iterator[int]:
        """Yield the allowed sizes below `size`, the nearest first, then those above it."""
        dim = self[name]
        start = size // dim.multiple_of * dim.multiple_of
        downward = range(start, dim.least - 1, -dim.multiple_of)
        yield from downward[:FARTHEST]
        for step in range(1, FARTHEST):
            higher = start + step * dim.multiple_of
            if dim.max is not None and higher > dim.max:
                return
            if higher >= dim.least:
                yield higher
