"""The check of the gradient: against finite differences, in float64."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnkit.errors import first_line
from nnkit.verbs.smoke.subject import Failed, Skipped, Subject, projection

# A step that is too long meets kinks and curvature, one too short meets rounding: the best of them counts.
# The first does for most models: of 15 of the base zoo, it is off by 8e-5 at most.
STEPS = (1e-6, 1e-5, 1e-7, 1e-4, 1e-3, 1e-2)
CLOSE = 2e-2  # kinks of ReLU6 and hardswish reach 9e-3 on sound models
NEAR = 1e-3  # where no further step need be tried


def derivative(subject: Subject) -> str:
    """The gradient along a random direction is what finite differences say, in float64."""
    module = subject.stirred().double()
    inputs = tuple(each.double() if each.is_floating_point() else each for each in subject.inputs())
    parameters = [each for each in module.parameters() if each.requires_grad]
    if not parameters:
        raise Skipped("it has no parameters")
    try:
        differentiable, gradients = _gradients(subject, module, inputs, parameters)
    except (RuntimeError, TypeError) as error:
        raise Failed(f"fails in float64: {first_line(error)}") from error
    directions = _directions(parameters)
    slope = sum(
        float((gradient * direction).sum())
        for gradient, direction in zip(gradients, directions, strict=True)
        if gradient is not None
    )
    best = float("inf")
    for step in STEPS:
        measured = _slope(subject, module, inputs, differentiable, directions, step)
        apart = abs(measured - slope) / max(abs(measured), abs(slope), 1e-12)
        best = min(best, apart)
        if best < NEAR:
            break
    if not best <= CLOSE:
        raise Failed(f"the gradient is off by {best:.2g} of what finite differences give")
    return f"within {best:.1g} of finite differences"


def _gradients(
    subject: Subject, module: nn.Module, inputs: Sequence[Tensor], parameters: Sequence[nn.Parameter]
) -> tuple[list[int], tuple[Tensor | None, ...]]:
    """Return which outputs can be differentiated, and the gradients of a loss of them.

    Forces, say, depend on the parameters and have no gradient in eval mode: their model differentiates in its
    own forward, and frees the graph. In training mode it keeps it; torch's own layers stay in eval mode, so
    that nothing is dropped out.
    """
    outputs = subject.outputs(module, inputs)
    differentiable = [place for place, (_, tensor) in enumerate(outputs) if tensor.requires_grad]
    value = projection([outputs[place] for place in differentiable])
    try:
        return differentiable, torch.autograd.grad(value, parameters, allow_unused=True)
    except RuntimeError as error:
        if "a second time" not in str(error) or module.training:
            raise
    for part in module.modules():
        part.training = not type(part).__module__.startswith("torch.nn.")
    return _gradients(subject, module, inputs, parameters)


def _directions(parameters: list[nn.Parameter]) -> list[Tensor]:
    """Return a random direction, in each parameter by its own size."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(each.shape, generator=generator).to(each) * (each.detach().abs().mean() + 1e-3)
        for each in parameters
    ]


def _slope(
    subject: Subject,
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    differentiable: list[int],
    directions: list[Tensor],
    step: float,
) -> float:
    """Return the central difference of the loss of some of the outputs along the direction."""
    parameters = [each for each in module.parameters() if each.requires_grad]
    values = []
    before = [each.detach().clone() for each in parameters]
    for side in (step, -step):
        with torch.no_grad():
            for parameter, kept, direction in zip(parameters, before, directions, strict=True):
                parameter.copy_(kept + side * direction)
        outputs = subject.evaluate(module, inputs)
        judged = [outputs[place] for place in differentiable]
        values.append(float(projection(judged, needs_gradient=False)))
    with torch.no_grad():
        for parameter, kept in zip(parameters, before, strict=True):
            parameter.copy_(kept)
    return (values[0] - values[1]) / (2 * step)
