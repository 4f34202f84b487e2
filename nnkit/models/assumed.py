"""Find out by running which axes of a module's example inputs may have other sizes, and which together.

The batch comes first: axis 0 of all tensors of the same length. Then each axis on its own, and axes of the
same size together:

    x [4, 16, 8], mask [4, 16]   ->   x [batch, time, 8], mask [batch, time]

An axis counts as free where the module runs with it smaller and larger than in the example, and with the
other free axes at the sizes that checks use.
"""

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from torch import Tensor, nn

from nnkit.contract.architecture import Dim
from nnkit.contract.signature import Signature
from nnkit.contract.sizes import Dims
from nnkit.models.copies import copy_of, whole_copy_of
from nnkit.models.examples import Example
from nnkit.models.members import named_modules, named_parameters
from nnkit.models.running import evaluate_tensors
from nnkit.models.sizes import checked_sizes, rechecked_sizes
from nnkit.models.weightless import parameter_bytes

Axis: TypeAlias = tuple[str, int]
"""The name of an input, and the index of one of its axes."""

Shapes: TypeAlias = list[tuple[int, ...]]

STEPS = (1, 2, 4, 8, 16, 32, 64, 128)
SMALLEST = (1, 2, 3, 4, 8, 16, 32)
SMALL_PICTURE = 64  # pictures are made this small where the module takes it, to find out the rest sooner
COPIED = 2**26  # bytes of parameters that are copied; larger ones are shared with the module
ROOM = 6  # what is added to a quarter of a size, to see whether there is a limit that checks would meet
LARGE = 64  # sizes that are halved to see whether they vary at all; others are doubled


@dataclass(frozen=True)
class FreeAxis:
    """Axes that have one size, which may vary.

    Attributes:
        axes: the axes.
        size: in the example.
        min: the smallest size that was tried and runs.
        multiple_of: what every size that runs is a multiple of.
        max: the size of the example, if none above it runs.
    """

    axes: frozenset[Axis]
    size: int
    min: int
    multiple_of: int = 1
    max: int | None = None

    @property
    def half(self) -> int:
        """About half the size in the example."""
        return self.size // 2 // self.multiple_of * self.multiple_of

    def larger(self, sizes: Mapping[Axis, int]) -> int:
        """Return the next size after the one in `sizes`, or that one if it is the largest."""
        size = sizes[min(self.axes)]
        return size if self.max == size else size + self.multiple_of

    @property
    def dim(self) -> Dim:
        return Dim(default=self.size, min=self.min, max=self.max, multiple_of=self.multiple_of)


@dataclass(frozen=True)
class Found:
    """What runs have shown.

    Attributes:
        batch: None where there is none. If it can't vary, its smallest size is its largest.
        others: in order of the inputs.
        coupled: the inputs of integers that depend on the size of an axis.
        examples: each with what the module takes in its place: a wider range of values, or only itself.
    """

    batch: FreeAxis | None = None
    others: tuple[FreeAxis, ...] = ()
    coupled: Mapping[str, "Coupling"] = field(default_factory=dict)
    examples: Mapping[str, Example] = field(default_factory=dict)


@dataclass(frozen=True)
class Coupling:
    """Integers that index an axis, and so are below its size, or that count it, and so go up to its size."""

    axis: Axis
    counts: bool


def find_free_axes(
    module: nn.Module, signature: Signature, examples: Mapping[str, Example], batch_axis: int = 0
) -> Found:
    """Return the axes that may vary; none if the module doesn't run on the example.

    batch_axis: the axis that the batch is looked for on.
    """
    try:
        runs = _Runs.on_copy(module, signature, examples)
    except Exception:  # what a module holds may be made so that it can't be copied
        runs = None
    if runs is None or not runs.take_example():
        return Found(examples={name: replace(example, varies=False) for name, example in examples.items()})
    search = _Search(runs, {name: tuple(example.tensor.shape) for name, example in examples.items()})
    search.shrink_pictures()
    batch = search.find_batch(batch_axis)
    others = search.keep_compatible(list(search.find_others()))
    others = search.keep_checkable(batch, others)
    if batch is None:
        batch = search.find_fixed_batch(batch_axis)
    return Found(batch, tuple(others), search.coupled, search.find_values())


@dataclass
class _Runs:
    """A copy of the module, to run at other sizes of some axes."""

    module: nn.Module
    signature: Signature
    examples: Mapping[str, Example]
    device: torch.device
    coupled: dict[str, Coupling] = field(default_factory=dict)
    may_be_nan: bool = True
    was_nan: bool = False

    @classmethod
    def on_copy(cls, module: nn.Module, signature: Signature, examples: Mapping[str, Example]) -> "_Runs":
        devices = {parameter.device.type for parameter in named_parameters(module).values()}
        on_cpu = devices <= {"cpu", "meta"}
        if on_cpu and parameter_bytes(module) > COPIED:
            copied = copy_of(module)
        else:  # an index that is out of range breaks the whole context of an accelerator
            copied = whole_copy_of(module) if on_cpu else whole_copy_of(module).cpu()
        for submodule in named_modules(copied).values():
            submodule.training = False  # not by eval(), in which a module may merge its weights
            _remove_own_hooks(submodule)
        first = next(iter(named_parameters(copied).values()), torch.empty(0))
        return cls(copied, signature, examples, first.device)

    def take_example(self) -> bool:
        """Run on the example itself, and return whether that works; NaN in its outputs is no failure then."""
        runs = self.outputs({}) is not None
        self.may_be_nan = self.was_nan
        return runs

    def outputs(self, sizes: Mapping[Axis, int], varied: Collection[str] = ()) -> Shapes | None:
        """Return the shapes of the outputs; None where it fails, or returns nothing of use.

        varied: the inputs that get other values than the example.
        """
        inputs = [
            self._draw(
                name, sizes, seed=int(name in varied or (bool(sizes) and self.examples[name].hides_nothing))
            )
            for name in self.signature.names
        ]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outputs = evaluate_tensors(self.module, self.signature, inputs)
            self.was_nan = any(bool(output.isnan().any()) for output in outputs if not output.is_meta)
        except Exception:
            return None
        if any(not output.is_meta and not output.numel() for output in outputs):
            return None
        return None if self.was_nan and not self.may_be_nan else [tuple(output.shape) for output in outputs]

    def _draw(self, name: str, sizes: Mapping[Axis, int], seed: int) -> Tensor:
        example = self.examples[name]
        own = example.tensor.shape
        shape = tuple(sizes.get((name, axis), size) for axis, size in enumerate(own))
        dims = {}
        if coupling := self.coupled.get(name):
            dims["size"] = sizes[coupling.axis]
            example = example.following("size", coupling.counts)
        generator = torch.Generator().manual_seed(seed)
        return example(shape, dims, example.tensor.dtype, generator).to(self.device)


def _remove_own_hooks(module: nn.Module) -> None:
    """Remove hooks other than torch's: their owner counts on their calls."""
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        for key, hook in list(hooks.items()):
            defined_in = getattr(hook, "__module__", None) or type(hook).__module__
            if not defined_in.startswith("torch."):
                del hooks[key]


def _differ_in_front(outputs: Shapes, others: Shapes) -> bool:
    """Whether an output has a different length on its first axis, and the same on the others."""
    pairs = zip(outputs, others, strict=False)
    return any(shape[:1] != other[:1] and shape[1:] == other[1:] for shape, other in pairs)


@dataclass
class _Search:
    """The sizes to run at, and the axes whose part is still unknown."""

    runs: _Runs
    shapes: Mapping[str, tuple[int, ...]]
    sizes: dict[Axis, int] = field(default_factory=dict)
    settled: set[Axis] = field(default_factory=set)
    fixed: set[Axis] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.sizes = {
            (name, axis): size for name, shape in self.shapes.items() for axis, size in enumerate(shape)
        }
        self.example = dict(self.sizes)

    def shrink_pictures(self) -> None:
        """Go on with small pictures where the module takes them."""
        pictures = [
            name for name, shape in self.shapes.items() if len(shape) >= 4 and min(shape[-2:]) > SMALL_PICTURE
        ]
        small = {
            (name, axis): SMALL_PICTURE
            for name in pictures
            for axis in (len(self.shapes[name]) - 2, len(self.shapes[name]) - 1)
        }
        if small and self._runs_with(small):
            self.sizes |= small

    def find_batch(self, axis: int) -> FreeAxis | None:
        """Return the batch: the axes of that index and the size of the first one, if they vary together."""
        lengths = {name: shape[axis] for name, shape in self.shapes.items() if len(shape) > axis}
        for size in dict.fromkeys(lengths.values()):
            if self._has_edges(size):
                continue
            axes = frozenset((name, axis) for name in lengths if lengths[name] == size)
            found = self._examine(axes, is_batch=True)
            if found is not None:
                found = replace(found, axes=self._without_sets(found.axes))
                self.settled |= found.axes
                small = found.multiple_of * max(2 // found.multiple_of, 1)
                self.sizes |= dict.fromkeys(found.axes, small)
                return found
        return None

    def _without_sets(self, axes: frozenset[Axis]) -> frozenset[Axis]:
        """Return the axes of samples, without those of sets that each sample is compared with.

        The size of a set varies alone, and shows on a later axis of the outputs or on none:

            queries [4, 8], prototypes [4, 8]  ->  scores [4, 4]
        """
        varied = [name for name, _ in axes]  # a mask of ones may be ignored, whatever its shape
        together = self.runs.outputs({**self.sizes, **dict.fromkeys(axes, 3)}, varied)
        first, *others = sorted(axes, key=list(self.sizes).index)
        kept = {first}
        for axis in others:
            alone = self.runs.outputs({**self.sizes, **dict.fromkeys(axes, 3), axis: 2}, varied)
            if together is None or alone is None or _differ_in_front(together, alone):
                kept.add(axis)
        return frozenset(kept)

    def _has_edges(self, nodes: int) -> bool:
        """Whether pairs of integers seem to be the edges between that many nodes, which are no batch."""
        return any(
            example.is_integer
            and example.tensor.ndim == 2
            and example.tensor.shape[0] == 2 < nodes
            and example.largest < nodes
            for example in self.runs.examples.values()
        )

    def find_fixed_batch(self, axis: int) -> FreeAxis | None:
        """Return the axes of that index if all inputs and outputs have one size on it, which can't vary."""
        lengths = {(name, axis): shape[axis] for name, shape in self.shapes.items() if len(shape) > axis}
        outputs = self.runs.outputs(self.example) or []
        sizes = {*lengths.values(), *(shape[axis] for shape in outputs if len(shape) > axis)}
        are_samples = all(len(shape) > axis + 1 for shape in self.shapes.values())
        if len(sizes) != 1 or not are_samples or sizes == {1} or self.settled & lengths.keys():
            return None
        size = sizes.pop()
        return FreeAxis(frozenset(lengths), size, size, max=size)

    def find_others(self) -> Iterator[FreeAxis]:
        """Yield the other axes that vary, each with those that must vary with it."""
        for axis in self.sizes:
            if axis in self.settled or self.sizes[axis] < 2:
                continue
            for axes in self._candidates(axis):
                found = self._examine(axes)
                if found is not None:
                    self.settled |= axes
                    yield found
                    break
            else:
                self.fixed.add(axis)

    def _candidates(self, axis: Axis) -> Iterator[frozenset[Axis]]:
        """Yield sets of axes that may have to vary together: alone, in pairs, more of them, all."""
        size = self.sizes[axis]
        known = {axis, *self.settled, *self.fixed}
        equal = [other for other in self.sizes if self.sizes[other] == size and other not in known]
        yield frozenset((axis,))
        yield from (frozenset((axis, other)) for other in equal)
        alike = [other for other in equal if other[1] == axis[1]]
        for others in (alike, equal):
            if len(others) > 1:
                yield self._shrink(axis, others)

    def _shrink(self, axis: Axis, others: Sequence[Axis]) -> frozenset[Axis]:
        """Return a set that varies together without those axes that need not vary with the first one."""
        axes = frozenset((axis, *others))
        if self._varies(axes):
            for other in others:
                if self._varies(axes - {other}):
                    axes -= {other}
        return axes

    def _varies(self, axes: frozenset[Axis]) -> bool:
        """Whether the module runs at a smaller size of these axes, or at one with a factor in common."""
        size = self.sizes[min(axes)]
        others = [size - 1, 2 * size]
        if size > LARGE:
            factor = next(factor for factor in range(2, size + 1) if size % factor == 0)
            others = [size - 1, size - size // factor]
        return any(self._runs_at(axes, other) for other in dict.fromkeys(others) if other > 0)

    def _examine(self, axes: frozenset[Axis], is_batch: bool = False) -> FreeAxis | None:
        """Return what sizes these axes may have together; None where they can't vary.

        Integers may have to follow the size: those that index the axis, or count it.
        """
        found = self._measure(axes, is_batch)
        if found is not None:
            return found
        axis = min(axes)
        size = self.example[axis]
        for name, example in self.runs.examples.items():
            if name in self.coupled or not example.is_integer or not 0 < example.largest <= size:
                continue
            self.coupled[name] = Coupling(axis, counts=example.largest == size)
            if (found := self._measure(axes, is_batch)) is not None:
                return found
            del self.coupled[name]
        return None

    @property
    def coupled(self) -> dict[str, Coupling]:
        return self.runs.coupled

    def _measure(self, axes: frozenset[Axis], is_batch: bool) -> FreeAxis | None:
        """Return the limits of the size of these axes; a batch has no largest size."""
        if not is_batch and not self._varies(axes):
            return None
        axis = min(axes)
        size, own = self.sizes[axis], self.example[axis]
        step = self._step(axes, size)
        if step is None or own % step:
            return self._only_smaller(axes, size, own)
        if own == 1:  # an example of one sample
            return FreeAxis(axes, own, 1) if self._runs_at(axes, 3) else None
        smallest = self._smallest(axes, size, step)
        if smallest is None and size == own:
            return None
        largest = self._largest(axes, size, step) if size == own and not is_batch else None
        return FreeAxis(axes, own, smallest or size, step, largest)

    def _step(self, axes: frozenset[Axis], size: int) -> int | None:
        """Return the smallest step by which the size may grow."""
        steps = dict.fromkeys(step for step in (*STEPS, size) if size % step == 0 and step <= size)
        return next((step for step in steps if self._runs_at(axes, size + step)), None)

    def _smallest(self, axes: frozenset[Axis], size: int, step: int) -> int | None:
        below = sorted({step * -(-small // step) for small in (*SMALLEST, size // 2, size - step)})
        return next((small for small in below if 0 < small < size and self._runs_at(axes, small)), None)

    def _largest(self, axes: frozenset[Axis], size: int, step: int) -> int | None:
        """Return the largest size that runs, if it is a little above that of the example."""
        low, high = size + step, size + step * -(-(size // 4 + ROOM) // step)
        if self._runs_at(axes, high):
            return None
        while high - low > step:
            middle = low + (high - low) // 2 // step * step
            low, high = (middle, high) if self._runs_at(axes, middle) else (low, middle)
        return low

    def keep_compatible(self, others: list[FreeAxis]) -> list[FreeAxis]:
        """Return the axes that may vary at once, as all are smaller or larger than in the example."""
        while len(others) > 1 and not self._run_together(others, lambda free: free.larger(self.sizes)):
            others = others[:-1]
        higher = [replace(free, min=max(free.min, free.half)) for free in others]
        for raised in (others, higher, [replace(free, min=free.size) for free in others]):
            if len(others) < 2 or self._run_together(raised, lambda free: free.min):
                return raised
        return others

    def keep_checkable(self, batch: FreeAxis | None, others: list[FreeAxis]) -> list[FreeAxis]:
        """Return the axes that may vary as the checks vary them: all at once, to quite different sizes.

        A limit may lie on several together, as on the places of a picture: height * width <= 100. Then none
        is made larger than in the example, or else those that fail keep its size.
        """
        smaller = [replace(free, max=free.size) for free in others if free.min < free.size]
        for candidates in (others, smaller):
            if not candidates or self._runs_as_checked(batch, candidates):
                return candidates
        if not self._runs_as_checked(batch, []):  # it is not these axes that fail
            return others
        kept: list[FreeAxis] = []
        for free in smaller:
            if self._runs_as_checked(batch, [*kept, free]):
                kept.append(free)
        return kept

    def _runs_as_checked(self, batch: FreeAxis | None, others: Iterable[FreeAxis]) -> bool:
        """Whether the module runs at the sizes that the checks choose."""
        axes = {str(number): free for number, free in enumerate(others)}
        if batch is not None:
            axes = {"batch": batch, **axes}
        dims = Dims({name: free.dim.resolve({}) for name, free in axes.items()})
        checked = checked_sizes(dims, {name: free.size for name, free in axes.items()})
        return all(
            self.runs.outputs(
                {**self.example, **{axis: sizes[name] for name, free in axes.items() for axis in free.axes}}
            )
            is not None
            for sizes in (checked, rechecked_sizes(dims, checked))
            if sizes is not None
        )

    def find_values(self) -> dict[str, Example]:
        """Return the examples, each with what the module takes in its place."""
        examples = self.runs.examples
        if not any(example.wider() for example in examples.values()) and self._takes_others(*examples):
            return dict(examples)
        return {name: self._widest(name, example) for name, example in examples.items()}

    def _widest(self, name: str, example: Example) -> Example:
        for candidate in (*example.wider(), example):
            self.runs.examples = {**self.runs.examples, name: candidate}
            if self._takes_others(name):
                return candidate
        return replace(example, varies=False)

    def _takes_others(self, *names: str) -> bool:
        return self.runs.outputs(self.sizes, varied=names) is not None

    def _run_together(self, others: Iterable[FreeAxis], size_of: Callable[[FreeAxis], int]) -> bool:
        return self._runs_with({axis: size_of(free) for free in others for axis in free.axes})

    def _only_smaller(self, axes: frozenset[Axis], size: int, own: int) -> FreeAxis | None:
        """Return what is known of axes that are as long in the example as they may be."""
        if (
            size != own
            or size < 4
            or not all(self._runs_at(axes, smaller) for smaller in (size - 1, size // 2))
        ):
            return None
        smallest = self._smallest(axes, size, 1)
        return None if smallest is None else FreeAxis(axes, own, smallest, max=own)

    def _runs_at(self, axes: Iterable[Axis], size: int) -> bool:
        return self._runs_with(dict.fromkeys(axes, size))

    def _runs_with(self, sizes: Mapping[Axis, int]) -> bool:
        return self.runs.outputs({**self.sizes, **sizes}) is not None
