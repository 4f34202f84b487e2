"""What of a model is exported: its inputs and outputs by name, which dims stay free, and on what it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from nnkit.contract.architecture import Dim, TensorSpec
from nnkit.contract.axes import names_in
from nnkit.contract.requests import ExportOptions
from nnkit.contract.spec import ModelSpec
from nnkit.errors import NnkitError, UsageProblem, did_you_mean
from nnkit.models.outputs import declarations_of
from nnkit.models.precision import main_dtype
from nnkit.models.running import bind
from nnkit.models.sampling import Inputs, sample_inputs
from nnkit.models.tensors import tensors_in
from nnkit.verbs.exporting.calls import run_forward, run_module
from nnkit.verbs.exporting.probing import varied, with_found_limits
from nnkit.verbs.exporting.sizes import completed, other_sizes, traced_sizes

Names: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Run:
    """Inputs, and the size that each dim has in them. why: the guard that these sizes break, if any."""

    sizes: Mapping[str, int]
    inputs: Inputs
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """What is exported, and the runs that prove it.

    dtype: that most of the weights have. dims: those that stay free. runs: the first has the inputs to trace
    with; the second has the same sizes and other values, if there are any; then come other sizes. given:
    whether the inputs came with the request, so that none can be drawn at further sizes. assumed: what was
    found of the inputs by running the module, a sentence each.
    """

    spec: ModelSpec
    dtype: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dims: Mapping[str, Dim]
    runs: tuple[Run, ...]
    device: str | torch.device = "cpu"
    given: bool = False
    assumed: tuple[str, ...] = ()

    def draw(self, sizes: Mapping[str, int], why: str = "", seed: int = 0) -> Run:
        """Return a run at other sizes of some dims, the others small; another `seed` gives other values."""
        every = self.spec.architecture.dims_for(self.spec.config)
        fixed = {name: self.spec.sizes[name] for name in every if name not in self.dims}
        sizes = {**fixed, **completed(self.dims, sizes)}
        inputs = sample_inputs(self.spec, sizes=sizes, seed=self.spec.seed + seed)
        return Run({name: sizes[name] for name in every}, tuple(each.to(self.device) for each in inputs), why)

    @property
    def traced(self) -> Inputs:
        """The inputs to trace with."""
        return self.runs[0].inputs

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(tensor.name for tensor in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(tensor.name for tensor in self.outputs)

    def bind(
        self, module: nn.Module, tensors: Sequence[Tensor]
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Return what forward of `module` takes by position and by name, for inputs in declared order."""
        return bind(module, self.spec.input_names, tensors)

    def run(self, module: nn.Module, tensors: Inputs) -> list[Tensor]:
        """Return the tensors that `module` gives for inputs in declared order."""
        return run_module(module, self.spec.input_names, tensors)

    @property
    def names(self) -> Names:
        """The names of the inputs and those of the outputs, in order."""
        return self.input_names, self.output_names

    def initializer_name(self, name: str) -> str:
        """Return what a tensor of the module is called in a file: inputs and outputs keep their names."""
        taken = {*self.input_names, *self.output_names}
        while name in taken:
            name += "_"
        return name

    def is_free(self, axis: int | str) -> bool:
        """Whether a declared axis follows dims that stay free, and nothing else."""
        names = names_in(axis)
        return bool(names) and names <= set(self.dims)

    @property
    def dynamic(self) -> tuple[dict[int, str] | None, ...]:
        """For each input, axis -> the name of the dim that stays free on it."""
        return tuple(
            {
                axis: name
                for axis, name in enumerate(tensor.shape)
                if isinstance(name, str) and name in self.dims
            }
            or None
            for tensor in self.inputs
        )


def make_plan(
    spec: ModelSpec,
    module: nn.Module,
    options: ExportOptions,
    given: Inputs | None = None,
    device: str | torch.device = "cpu",
) -> Plan:
    """Return the plan for `module`, which is run once to see what it returns.

    given: example inputs, in the place of random ones. Raises UsageProblem for names that can't be.
    """
    every = spec.architecture.dims_for(spec.config)
    _check_fixed(spec, options, every)
    free = {} if options.static else {name: dim for name, dim in every.items() if name not in options.fixed}
    assumed: tuple[str, ...] = ()
    if given is None:
        spec, assumed = with_found_limits(spec, module, free)
    runs = _given_runs(spec, module, given) if given is not None else _drawn_runs(spec, every, free)
    runs = tuple(replace(run, inputs=tuple(each.to(device) for each in run.inputs)) for run in runs)
    inputs = _renamed(spec.inputs, options.input_names, "input")
    value = run_declared(spec, module, runs[0].inputs)
    outputs = _outputs(spec, value, [each.name for each in inputs])
    outputs = _renamed(outputs, options.output_names, "output")
    _check_names([each.name for each in (*inputs, *outputs)])
    return Plan(spec, main_dtype(module), inputs, outputs, free, runs, device, given is not None, assumed)


def with_output_names(plan: Plan, names: Sequence[str]) -> Plan:
    """Return the plan for a file whose outputs have these names, in any order where they are the model's own.

    Raises UsageProblem where their number is another.
    """
    if set(names) == set(plan.output_names):
        return plan
    return replace(plan, outputs=_renamed(plan.outputs, names, "output"))


def run_declared(spec: ModelSpec, module: nn.Module, inputs: Inputs) -> Any:
    """Run `module` for the first time, on inputs as `spec` declares them, and return what it returns.

    Raises PluginProblem where it is the plugin's declaration that is at fault, NnkitError as run_module does.
    """
    try:
        return run_forward(module, spec.input_names, inputs)
    except NnkitError as error:
        raise spec.forward_problem(error.message, error.hint) from error


def _drawn_runs(spec: ModelSpec, every: Mapping[str, Dim], free: Mapping[str, Dim]) -> tuple[Run, ...]:
    fixed = {name: spec.sizes[name] for name in every if name not in free}
    traced = traced_sizes(free, {name: spec.sizes[name] for name in free})
    chosen = [{**fixed, **sizes} for sizes in (traced, traced, *other_sizes(free, traced))]
    return tuple(
        Run({name: sizes[name] for name in every}, sample_inputs(spec, sizes=sizes, seed=spec.seed + number))
        for number, sizes in enumerate(chosen)
    )


def _given_runs(spec: ModelSpec, module: nn.Module, given: Inputs) -> tuple[Run, ...]:
    """Return the given inputs, and others like them: of other values nothing is known."""
    return Run({}, given), Run({}, varied(module, spec.input_names, given))


def _check_fixed(spec: ModelSpec, options: ExportOptions, dims: Mapping[str, Dim]) -> None:
    for name in sorted(options.fixed):
        if name not in dims:
            raise UsageProblem(
                f"there is no dim {name!r} to fix",
                did_you_mean(name, dims) or f"the dims of {spec.name}: {', '.join(dims) or 'none'}",
            )


def _outputs(spec: ModelSpec, value: Any, taken: Sequence[str]) -> tuple[TensorSpec, ...]:
    """Return the outputs in forward's order; what is declared says nothing where their number is another."""
    count = sum(1 for _ in tensors_in(value))
    declared = spec.outputs if len(spec.outputs) == count else ()
    places = declarations_of(value, declared, taken)
    return tuple(TensorSpec(each, ()) if isinstance(each, str) else each for each in places)


def _renamed(
    declared: Sequence[TensorSpec], names: Sequence[str] | None, kind: str
) -> tuple[TensorSpec, ...]:
    if names is None:
        return tuple(declared)
    if len(names) != len(declared):
        there = ", ".join(each.name for each in declared)
        raise UsageProblem(
            f"{len(names)} {kind} names for {len(declared)} {kind}s", f"one for each, in order: {there}"
        )
    return tuple(replace(each, name=name) for each, name in zip(declared, names, strict=True))


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageProblem(
                f"{name!r} would name two of the inputs and outputs", "give each its own: --output-names"
            )
