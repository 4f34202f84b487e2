"""What to export: the inputs and outputs by name, the dims that stay free, and the runs that prove it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from nnkit.contract.architecture import TensorSpec
from nnkit.contract.axes import names_in, substitute
from nnkit.contract.requests import ExportOptions
from nnkit.contract.sizes import Dims
from nnkit.contract.spec import ModelSpec
from nnkit.contract.text import plural
from nnkit.errors import NnkitError, UsageProblem, did_you_mean
from nnkit.models.outputs import declarations_of
from nnkit.models.precision import main_dtype
from nnkit.models.running import bind
from nnkit.models.sampling import Inputs, sample_inputs
from nnkit.models.sizes import complete, other_sizes, traced_sizes
from nnkit.models.tensors import tensors_in
from nnkit.verbs.exporting.calls import run_forward, run_module
from nnkit.verbs.exporting.probing import find_limits, vary

FURTHER_DRAWS = 16  # for inputs that are the same in the first two

Names: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Run:
    """Inputs, and the size that each dim has in them.

    why: the condition of torch's that these sizes break, if any.
    """

    sizes: Mapping[str, int]
    inputs: Inputs
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """What is exported, and the runs that prove it.

    dtype: the dtype of most weights. dims: the dims that stay free. runs: the first has the inputs to trace
    with; the second has other values at the same sizes, where possible; the rest have other sizes. assumed:
    what was found out about the inputs by running the module, one sentence each.
    """

    spec: ModelSpec
    dtype: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dims: Dims
    runs: tuple[Run, ...]
    device: str | torch.device = "cpu"
    assumed: tuple[str, ...] = ()

    def draw(self, sizes: Mapping[str, int], why: str = "", seed: int = 0) -> Run:
        """Return a run at given sizes of some dims, with small sizes for the others.

        seed: added to the seed of the spec, so that a different one gives different values.
        """
        all_dims = self.spec.dims
        fixed = {name: self.spec.sizes[name] for name in all_dims if name not in self.dims}
        sizes = {**fixed, **complete(self.dims, sizes)}
        inputs = sample_inputs(self.spec, sizes=sizes, seed=self.spec.seed + seed)
        return Run({name: sizes[name] for name in all_dims}, _move_to(inputs, self.device), why)

    def including(self, broken: Mapping[str, Mapping[str, int]]) -> "Plan":
        """Return the plan with a run at the sizes that break each condition of torch's, where it has none."""
        runs = list(self.runs)
        for condition, sizes in broken.items():
            drawn = self.draw(sizes, condition)
            places = [place for place, run in enumerate(runs) if run.sizes == drawn.sizes]
            if not places:
                runs.append(drawn)
            elif not runs[places[0]].why:
                runs[places[0]] = replace(runs[places[0]], why=condition)
        return replace(self, runs=tuple(runs))

    @property
    def traced_run(self) -> Run:
        """The run to trace with."""
        first, *_ = self.runs
        return first

    @property
    def traced(self) -> Inputs:
        """The inputs to trace with."""
        return self.traced_run.inputs

    @property
    def samples(self) -> list[Inputs]:
        """The inputs of both runs at the traced sizes, on which normalizations measure statistics."""
        first, second, *_ = self.runs
        return [first.inputs, second.inputs]

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(tensor.name for tensor in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(tensor.name for tensor in self.outputs)

    def bind(self, module: nn.Module, tensors: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and the keyword arguments of forward, for inputs in declared order."""
        return bind(module, self.spec.signature, tensors)

    def call_order(self, module: nn.Module) -> list[int]:
        """Return the indices of the inputs in the order in which they occur in the arguments of forward."""
        tensors = [tensor.clone() for tensor in self.traced]
        args, keywords = self.bind(module, tensors)
        indices = {id(tensor): index for index, tensor in enumerate(tensors)}
        return [indices[id(tensor)] for tensor in tensors_in([args, keywords])]

    def run(self, module: nn.Module, tensors: Inputs) -> list[Tensor]:
        """Return the tensors that `module` returns for inputs in declared order."""
        return run_module(module, self.spec.signature, tensors)

    @property
    def names(self) -> Names:
        """The names of the inputs and those of the outputs, in order."""
        return self.input_names, self.output_names

    def initializer_name(self, name: str) -> str:
        """Return a tensor's name in a file; `_` is added where an input or output has the name."""
        taken = {*self.input_names, *self.output_names}
        while name in taken:
            name += "_"
        return name

    def axis_in_file(self, axis: int | str) -> int | str:
        """Return a declared axis with numbers for all but the free dims: `past + time` -> `3 + time`."""
        known = {name: size for name, size in self.dims.known.items() if type(size) is int}
        return substitute(axis, known)

    def is_free(self, axis: int | str) -> bool:
        """Whether the size of a declared axis follows dims that stay free."""
        names = names_in(self.axis_in_file(axis))
        return bool(names) and names <= set(self.dims)

    @property
    def dynamic(self) -> tuple[dict[int, str] | None, ...]:
        """For each input, axis -> the dim that stays free on it, or arithmetic of such dims."""
        return tuple(self._free_axes(tensor) or None for tensor in self.inputs)

    def _free_axes(self, tensor: TensorSpec) -> dict[int, str]:
        return {
            number: str(self.axis_in_file(axis))
            for number, axis in enumerate(tensor.shape)
            if self.is_free(axis)
        }


def make_plan(
    spec: ModelSpec,
    module: nn.Module,
    options: ExportOptions,
    device: str | torch.device = "cpu",
) -> Plan:
    """Return the plan for `module`, which is run once to see what it returns.

    Raises UsageProblem for names that can't be used.
    """
    all_dims = spec.dims
    _check_fixed(spec, options, all_dims)
    fixed = set(all_dims) if options.static else options.fixed
    movable = [name for name, dim in all_dims.items() if name not in fixed and dim.min != dim.max]
    free = all_dims.free(movable, spec.sizes)
    spec, limits = find_limits(spec, module, free)
    runs = _draw_runs(spec, module, all_dims, free)
    runs = tuple(replace(run, inputs=_move_to(run.inputs, device)) for run in runs)
    inputs = _rename(spec.inputs, options.input_names, "input")
    returned = run_declared(spec, module, runs[0].inputs)
    outputs = _declare_outputs(spec, returned, [tensor.name for tensor in inputs])
    outputs = _rename(outputs, options.output_names, "output")
    _check_unique([tensor.name for tensor in (*inputs, *outputs)])
    assumed = (*spec.architecture.assumed, *limits)
    return Plan(spec, main_dtype(module), inputs, outputs, free, runs, device, assumed)


def assumed_dims(spec: ModelSpec) -> set[str]:
    """Return the dims that were found by running the module, and that no input that was declared has."""
    found = {line.partition(":")[0] for line in spec.architecture.assumed if ":" in line}
    declared = {axis for tensor in spec.inputs if tensor.name not in found for axis in tensor.shape}
    return {name for name in spec.dims if found and name not in declared}


def _move_to(inputs: Inputs, device: str | torch.device) -> Inputs:
    return tuple(tensor.to(device) for tensor in inputs)


def with_output_names(plan: Plan, names: Sequence[str]) -> Plan:
    """Return the plan for a file whose outputs have these names; the model's own may be in any order.

    Raises UsageProblem where their number differs.
    """
    if set(names) == set(plan.output_names):
        return plan
    return replace(plan, outputs=_rename(plan.outputs, names, "output"))


def run_declared(spec: ModelSpec, module: nn.Module, inputs: Inputs) -> Any:
    """Run `module` for the first time, on inputs as `spec` declares them, and return what it returns.

    Raises PluginProblem where the plugin's declaration is at fault, otherwise NnkitError as run_module does.
    """
    try:
        return run_forward(module, spec.signature, inputs)
    except NnkitError as error:
        raise spec.forward_problem(error.message, error.hint) from error


def _draw_runs(spec: ModelSpec, module: nn.Module, all_dims: Dims, free: Dims) -> tuple[Run, ...]:
    """Return two runs at the traced sizes and some at other sizes, all with different values."""
    fixed = {name: spec.sizes[name] for name in all_dims if name not in free}
    traced = traced_sizes(free, {name: spec.sizes[name] for name in free})
    assignments = [traced, traced, *other_sizes(free, traced)]
    runs = []
    for number, assignment in enumerate(assignments):
        sizes = {**fixed, **assignment}
        inputs = sample_inputs(spec, sizes=sizes, seed=spec.seed + number)
        runs.append(Run({name: sizes[name] for name in all_dims}, inputs))
    first, second, *others = runs
    second = replace(second, inputs=_draw_unlike(first.inputs, second, spec))
    if spec.architecture.assumed:
        second = replace(second, inputs=vary(module, spec.signature, first.inputs, second.inputs))
    return (first, second, *others)


def _draw_unlike(inputs: Inputs, run: Run, spec: ModelSpec) -> Inputs:
    """Return inputs of the sizes of `run` of which as many as possible differ from those given.

    A mask of two samples has only a few values, so two draws may well be equal.
    """

    def count_equal(drawn: Inputs) -> int:
        pairs = zip(inputs, drawn, strict=True)
        return sum(first.numel() > 0 and torch.equal(first, second) for first, second in pairs)

    best = run.inputs
    for seed in range(spec.seed + FURTHER_DRAWS, spec.seed + 2 * FURTHER_DRAWS):
        if not count_equal(best):
            break
        drawn = sample_inputs(spec, sizes=run.sizes, seed=seed)
        best = min(best, drawn, key=count_equal)
    return best


def _check_fixed(spec: ModelSpec, options: ExportOptions, dims: Dims) -> None:
    for name in sorted(options.fixed):
        if name not in dims:
            raise UsageProblem(
                f"{spec.reference} has no dim {name!r} to fix",
                did_you_mean(name, dims) or f"its dims: {', '.join(dims) or 'none'}",
            )


def _declare_outputs(spec: ModelSpec, returned: Any, taken: Sequence[str]) -> tuple[TensorSpec, ...]:
    """Return the outputs in forward's order; declared ones are ignored if their number is wrong.

    taken: the names that no output may have.
    """
    count = sum(1 for _ in tensors_in(returned))
    declared = spec.outputs if len(spec.outputs) == count else ()
    outputs = declarations_of(returned, declared, taken)
    return tuple(TensorSpec(output, ()) if isinstance(output, str) else output for output in outputs)


def _rename(declared: Sequence[TensorSpec], names: Sequence[str] | None, port: str) -> tuple[TensorSpec, ...]:
    """Return the tensors under new names. port: `input` or `output`, for the message."""
    if names is None:
        return tuple(declared)
    if len(names) != len(declared):
        current = ", ".join(tensor.name for tensor in declared)
        raise UsageProblem(
            f"{plural(len(names), f'{port} name')} for {plural(len(declared), port)}",
            f"give one name for each, in this order: {current}",
        )
    return tuple(replace(tensor, name=name) for tensor, name in zip(declared, names, strict=True))


def _check_unique(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageProblem(
                f"two of the inputs and outputs would be named {name!r}",
                "give each its own name: --output-names",
            )
