"""Checks of the shapes that forward returns: at other sizes, without optional inputs, under other options."""

from collections.abc import Iterator, Mapping, Sequence

import torch

from nnkit.authoring.conformance.candidate import ArchitectureCandidate, small_spec
from nnkit.authoring.conformance.suite import Unmet
from nnkit.contract.axes import names_in_constraint
from nnkit.contract.config import config_values
from nnkit.contract.requests import Host
from nnkit.contract.spec import ModelSpec, make_spec
from nnkit.contract.text import format_shape, format_sizes, name_output, plural
from nnkit.errors import NnkitError, UsageProblem, first_line
from nnkit.models.sizes import other_sizes
from nnkit.verbs.smoke.subject import Failed, Subject

META, CPU = torch.device("meta"), torch.device("cpu")


class ForwardFails(Unmet):
    """Forward raises."""


def shapes(candidate: ArchitectureCandidate) -> str:
    """Outputs have the declared shapes at two sizes of every dim, without weights where that works.

    So they have without each optional input, and without all.
    """
    spec = candidate.small
    if not spec.outputs:
        raise Unmet("it declares no outputs", "declare what forward returns: outputs=[TensorSpec(…)]")
    where = {_check_shapes(variant, candidate.host) for variant in candidate.variants}
    assignments = _assignments_of(spec)
    counts = [
        f"{name} at {plural(len({sizes[name] for sizes in assignments}), 'size')}" for name in spec.dims
    ]
    units = f", with and without {', '.join(spec.optional_inputs)}" if spec.optional_inputs else ""
    return f"{', '.join(counts) or 'one shape, no dims'}{units}, {' and '.join(sorted(where))}"


def bounds(candidate: ArchitectureCandidate) -> str:
    """Constraints hold for defaults and presets, and bounds that follow options at other values of these."""
    architecture, spec = candidate.architecture, candidate.spec
    defaults = {name: dim.default for name, dim in spec.dims.items()}
    if problem := spec.dims.problem_with(defaults):
        raise Unmet(f"the default sizes don't go together: {problem}", "choose other defaults")
    for preset in architecture.presets:
        make_spec(architecture, candidate.plugin.name, preset=preset)
    tried = ", ".join(f"{name}={value}" for name, value in _try_other_options(candidate))
    presets = plural(len(architecture.presets), "preset")
    constraints = plural(len(architecture.constraints), "constraint")
    return f"{plural(len(defaults), 'dim')}, {constraints}, {presets}{tried and f'; shapes hold at {tried}'}"


def _try_other_options(candidate: ArchitectureCandidate) -> Iterator[tuple[str, int]]:
    """Check the shapes at other values of each option that a bound follows, and yield these."""
    values = config_values(candidate.spec.config)
    for name in _options_followed(candidate.spec):
        value = values[name]
        for other in dict.fromkeys((value // 2, value - 1, value + 1, 2 * value)):
            options = {name: other}
            try:
                spec = make_spec(candidate.architecture, candidate.plugin.name, options=options)
            except UsageProblem:
                continue  # the option can't have this value
            try:
                _check_shapes(small_spec(spec, candidate.host), candidate.host)
            except Unmet as fault:
                raise type(fault)(f"with {name}={other}: {fault.message}", fault.hint) from fault
            yield name, other


def _options_followed(spec: ModelSpec) -> list[str]:
    """Return the integer options that a constraint or a bound of a dim depends on."""
    architecture = spec.architecture
    names: set[str] = set()
    for dim in architecture.dims.values():
        names |= dim.depends_on
    for constraint in architecture.constraints:
        names |= names_in_constraint(constraint)
    return [
        name for name, value in config_values(spec.config).items() if name in names and type(value) is int
    ]


def _assignments_of(spec: ModelSpec) -> list[dict[str, int]]:
    return [dict(spec.sizes), *other_sizes(spec.dims, spec.sizes)]


def _check_shapes(spec: ModelSpec, host: Host) -> str:
    """Compare the shapes of the outputs with those declared, and return where it was run."""
    try:
        _compare_shapes(Subject(spec, host, META))
    except (ForwardFails, NnkitError):
        # It may depend on values; and with values, an error says more.
        _compare_shapes(Subject(spec, host, CPU))
        return "on the CPU"
    return "without weights"


def _compare_shapes(subject: Subject) -> None:
    module = subject.fresh()
    for sizes in _assignments_of(subject.spec):
        at = _describe(subject.spec, sizes)
        try:
            outputs = subject.evaluate(module, subject.inputs(sizes=sizes))
        except Failed as fault:
            raise Unmet(f"{fault}, at {at}") from fault
        except Exception as error:
            raise ForwardFails(
                f"forward fails at {at}: {type(error).__name__}: {first_line(error)}"
            ) from error
        for declared, tensor in outputs:
            wanted = subject.spec.shape(declared, sizes)
            if tuple(tensor.shape) != wanted:
                found = f"{format_shape(tensor.shape)}, but {format_shape(wanted)} is declared"
                raise Unmet(f"{name_output(declared.name)} has shape {found} ({at})")


def _describe(spec: ModelSpec, sizes: Mapping[str, int]) -> str:
    """Return the sizes, and the optional inputs that are left out: `batch=1 time=7, without mask`."""
    absent: Sequence[str] = spec.without
    return f"{format_sizes(sizes)}{', without ' if absent else ''}{', '.join(absent)}"
