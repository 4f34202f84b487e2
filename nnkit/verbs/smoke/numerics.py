"""The check of the gradient: against finite differences, in float64."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnkit.errors import first_line
from nnkit.verbs.smoke.replay import held_constant
from nnkit.verbs.smoke.subject import Failed, Skipped, Subject, projection, raise_without_kernel

# A long step meets kinks and curvature, a short one meets rounding, so the best of several counts.
# The first is enough for most models: over 15 of the base zoo it is off by at most 8e-5.
STEPS = (1e-6, 1e-5, 1e-7, 1e-4, 1e-3, 1e-2)
TOLERANCE = 2e-2  # kinks of ReLU6 and hardswish reach 9e-3 on sound models
GOOD_ENOUGH = 1e-3  # no further step is tried


def derivative(subject: Subject) -> str:
    """In float64, the gradient along a random direction agrees with finite differences."""
    constant = subject.spec.architecture.straight_through
    if "" in constant:
        raise Skipped("its gradient is declared to differ from the derivative")
    module = subject.with_noise().double()
    inputs = tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in subject.inputs())
    parameters = _trainable_parameters(module)
    if not parameters:
        raise Skipped("it has no trainable parameters")
    with held_constant(module, constant) as recording:
        if constant:
            subject.evaluate(module, inputs)
            recording.replays = True
        error_share = _compare_slopes(subject, module, inputs, parameters)
    if not error_share <= TOLERANCE:
        raise Failed(
            f"the gradient differs from finite differences by {error_share:.2g} of its size; "
            "if that is meant, declare straight_through"
        )
    around = f", with {' and '.join(constant)} held constant" if constant else ""
    return f"within {error_share:.1g} of finite differences{around}"


def _compare_slopes(
    subject: Subject, module: nn.Module, inputs: tuple[Tensor, ...], parameters: list[nn.Parameter]
) -> float:
    """Return by what share of its size the slope along a random direction differs from the measured one."""
    try:
        differentiable, gradients = _compute_gradients(subject, module, inputs, parameters)
    except (RuntimeError, TypeError) as error:
        raise_without_kernel(error, subject.device)
        raise Failed(f"fails in float64: {first_line(error)}") from error
    directions = _draw_directions(module, parameters)
    slope = sum(
        float((gradient * direction).sum())
        for gradient, direction in zip(gradients, directions, strict=True)
        if gradient is not None
    )
    error_share = float("inf")
    for step in STEPS:
        measured = _measure_slope(subject, module, inputs, differentiable, directions, step)
        apart = abs(measured - slope) / max(abs(measured), abs(slope), 1e-12)
        error_share = min(error_share, apart)
        if error_share < GOOD_ENOUGH:
            break
    return error_share


def _trainable_parameters(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _compute_gradients(
    subject: Subject, module: nn.Module, inputs: Sequence[Tensor], parameters: Sequence[nn.Parameter]
) -> tuple[list[int], tuple[Tensor | None, ...]]:
    """Return which outputs can be differentiated, by index, and the gradients of a loss made from them.

    A model of forces differentiates inside its own forward. In eval mode it frees the graph there, so that
    a second gradient fails; in training mode it keeps the graph. It is then switched to training mode, but
    torch's own layers stay in eval mode, so that nothing is dropped out.
    """
    outputs = subject.outputs(module, inputs)
    differentiable = [index for index, (_, tensor) in enumerate(outputs) if tensor.requires_grad]
    if subject.spec.architecture.straight_through and not differentiable:
        raise Skipped("nothing is trained around what is declared straight-through")
    loss = projection([outputs[index] for index in differentiable])
    try:
        return differentiable, torch.autograd.grad(loss, parameters, allow_unused=True)
    except RuntimeError as error:
        if "a second time" not in str(error) or module.training:
            raise
    for submodule in module.modules():
        submodule.training = not type(submodule).__module__.startswith("torch.nn.")
    return _compute_gradients(subject, module, inputs, parameters)


def _draw_directions(module: nn.Module, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Return a random direction for each parameter, scaled to the parameter's own size.

    The row of padding in an embedding stays where it is: torch gives it no gradient, whatever depends on it.
    """
    generator = torch.Generator().manual_seed(0)
    paddings = {
        id(parameter): embedding.padding_idx
        for embedding in module.modules()
        if isinstance(embedding, (nn.Embedding, nn.EmbeddingBag)) and embedding.padding_idx is not None
        for parameter in embedding.parameters()  # under a parametrization, those that the weight is made of
        if parameter.shape[:1] == (embedding.num_embeddings,)
    }
    directions = []
    for parameter in parameters:
        scale = parameter.detach().abs().mean() + 1e-3
        direction = torch.randn(parameter.shape, generator=generator).to(parameter)
        if id(parameter) in paddings:
            direction[paddings[id(parameter)]] = 0
        directions.append(direction.mul_(scale))
    return directions


def _measure_slope(
    subject: Subject,
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    differentiable: list[int],
    directions: list[Tensor],
    step: float,
) -> float:
    """Return the central difference of the loss of the differentiable outputs along the directions."""
    parameters = _trainable_parameters(module)
    originals = [parameter.detach().clone() for parameter in parameters]
    losses = []
    for signed_step in (step, -step):
        with torch.no_grad():
            for parameter, original, direction in zip(parameters, originals, directions, strict=True):
                parameter.copy_(original).add_(direction, alpha=signed_step)
        outputs = subject.evaluate(module, inputs)
        compared = [outputs[index] for index in differentiable]
        losses.append(float(projection(compared, needs_gradient=False)))
    with torch.no_grad():
        for parameter, original in zip(parameters, originals, strict=True):
            parameter.copy_(original)
    return (losses[0] - losses[1]) / (2 * step)
