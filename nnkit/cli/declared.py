"""What an architecture declares beside its options, as lines of `nnkit info`: (what, what it means)."""

from collections.abc import Iterator, Mapping
from typing import Any

from nnkit.contract.architecture import Architecture, TensorSpec
from nnkit.contract.signature import Container, is_within
from nnkit.contract.spec import ModelSpec
from nnkit.contract.tensor_text import shape_text, values_text
from nnkit.contract.text import fold_names

Line = tuple[str, str]


def input_lines(spec: ModelSpec) -> list[Line]:
    """Return a line for each input, or for several alike: shape, values, meaning, and how to leave it out."""
    return _fold({tensor.name: input_line(tensor, spec) for tensor in spec.declared_inputs})


def input_line(tensor: TensorSpec, spec: ModelSpec) -> Line:
    """Return an input as (`ids: int64[batch, time] < 1000`, what it means)."""
    unit = next((unit for unit in spec.optional_inputs if is_within(tensor.name, unit)), None)
    way = ""
    if unit is not None:
        way = f"[left out: --with {unit}]" if unit in spec.without else f"[optional: --without {unit}]"
    left = " ".join(filter(None, (shape_text(tensor), values_text(tensor))))
    return left, "  ".join(filter(None, (tensor.description, way)))


def output_lines(spec: ModelSpec) -> list[Line]:
    """Return a line for each output, or for several alike."""
    return _fold({tensor.name: (shape_text(tensor), tensor.description) for tensor in spec.outputs})


def _fold(lines: Mapping[str, Line]) -> list[Line]:
    """Return the lines of tensors; those alike but for an index are one: `cache.0.key … ×12: float[…]`."""
    ends = {name: (left.removeprefix(name), right) for name, (left, right) in lines.items()}
    return [(f"{name}{left}", right) for name, (left, right) in fold_names(ends).items()]


def constant_lines(spec: ModelSpec) -> list[str]:
    """Return a line for each argument that is no tensor: `train = false`."""
    return [f"{name} = {_constant_text(value)}" for name, value in spec.signature.constants.items()]


def _constant_text(value: Any) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else repr(value)


def container_lines(architecture: Architecture) -> list[Line]:
    """Return a line for each declared container: what holds it."""
    return [(path, container_name(container)) for path, container in architecture.containers.items()]


def container_name(container: Container) -> str:
    """Return a container as it is declared in text."""
    return container if isinstance(container, str) else f"{container.__module__}:{container.__qualname__}"


def behavior_lines(architecture: Architecture) -> list[Line]:
    """Return a line for each invariance and each other property that smoke-run checks."""
    return list(_behavior(architecture))


def _behavior(architecture: Architecture) -> Iterator[Line]:
    if architecture.causal:
        yield "causal", f"along {architecture.causal}: no output depends on later inputs"
    if architecture.padding:
        yield "padding", f"marked by {', '.join(architecture.padding)}: what lies in it changes nothing else"
    for name in architecture.permutation:
        yield "permutation", f"along {name}: outputs are permuted with the inputs, or stay"
    for name in architecture.pointwise:
        yield "pointwise", f"along {name}: each position depends only on its own"
    for group in architecture.tied:
        yield "tied", f"{' and '.join(group)} are one tensor"
    if architecture.stochastic:
        when = "in training" if architecture.stochastic == "training" else "in training and in eval mode"
        yield "stochastic", f"draws random numbers {when}"
    if architecture.straight_through:
        names = ", ".join(architecture.straight_through)
        yield "straight-through", f"the gradient of {names} is meant to differ from the derivative"
    for name, step in architecture.steps.items():
        yield f"step {name}", f"trains {', '.join(step.trains)} by {', '.join(step.outputs)}"


def behavior_data(architecture: Architecture) -> dict[str, Any]:
    """Return the same as data."""
    return {
        "causal": architecture.causal or None,
        "padding": list(architecture.padding),
        "permutation": list(architecture.permutation),
        "pointwise": list(architecture.pointwise),
        "tied": [list(group) for group in architecture.tied],
        "stochastic": architecture.stochastic or None,
        "straight_through": list(architecture.straight_through),
        "steps": {
            name: {"outputs": list(step.outputs), "trains": list(step.trains)}
            for name, step in architecture.steps.items()
        },
    }


def input_data(tensor: TensorSpec, spec: ModelSpec) -> dict[str, Any]:
    """Return an input as data."""
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "description": tensor.description,
        "values": values_text(tensor),
        "optional": tensor.optional,
        "given": not any(is_within(tensor.name, unit) for unit in spec.without),
    }
