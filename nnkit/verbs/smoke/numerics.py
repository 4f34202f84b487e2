"""The check of the gradient: against finite differences, in float64."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nnkit.errors import first_line
from nnkit.models.gradients import looked_at
from nnkit.models.sampling import Inputs
from nnkit.verbs.smoke.elements import laid_like, some_of
from nnkit.verbs.smoke.judging import projection, raise_without_kernel
from nnkit.verbs.smoke.replay import held_constant
from nnkit.verbs.smoke.subject import Failed, Skipped, Subject

# A long step meets kinks and curvature, a short one meets rounding, so the best of several counts.
# The first is enough for most models: over 15 of the base zoo it is off by at most 8e-5.
STEPS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
TOLERANCE = 2e-2  # kinks of ReLU6 and hardswish reach 9e-3 on sound models
GOOD_ENOUGH = 1e-3  # no further step is tried
MOST_VARIED = 2**14  # elements of a parameter
LARGE = 2**25  # elements of a parameter whose gradient is not computed in float64
Slopes = dict[int, float]


def derivative(subject: Subject) -> str:
    """In float64, the gradient along a random direction agrees with finite differences."""
    constant = subject.spec.architecture.straight_through
    if "" in constant:
        raise Skipped("its gradient is declared to differ from the derivative")
    if fewer := _with_two_samples(subject):
        try:
            return _differentiate(fewer, constant)
        except Skipped:
            raise
        except Exception:  # it counts if it fails with the whole batch, too
            pass
    return _differentiate(subject, constant)


def _differentiate(subject: Subject, constant: Sequence[str]) -> str:
    module, inputs = subject.take_with_noise(), subject.inputs()
    large = _slopes_of_large(subject, module, inputs) if not constant else {}
    module = module.double()
    inputs = tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)
    if not _trainable_parameters(module):
        raise Skipped("it has no trainable parameters")
    with held_constant(module, constant) as recording:
        if constant:
            subject.evaluate(module, inputs)
            recording.replays = True
        error_share = _compare_slopes(subject, module, inputs, large)
        if large and not error_share <= TOLERANCE:
            error_share = _compare_slopes(subject, module, inputs, {})
    if not error_share <= TOLERANCE:
        raise Failed(
            f"the gradient differs from finite differences by {error_share:.2g} of its size; "
            "if that is meant, declare straight_through"
        )
    around = f", with {' and '.join(constant)} held constant" if constant else ""
    return f"within {error_share:.1g} of finite differences{around}"


def _with_two_samples(subject: Subject) -> Subject | None:
    """Return the subject with a batch of two, which is enough for one sample to see another.

    None where the batch is no larger, or where none of two is allowed.
    """
    sizes = {**subject.sizes, "batch": 2}
    fewer = subject.sizes.get("batch", 0) > 2 and not subject.is_guessed and subject.allows(sizes)
    return subject.at(sizes) if fewer else None


def _slopes_of_large(subject: Subject, module: nn.Module, inputs: Inputs) -> Slopes:
    """Return the slopes along very large parameters, by their index, from a gradient in float32.

    One matrix may be most of a model. In float64 its gradient would take twice the memory of its weights, on
    top of theirs. Float32 is good enough to agree; a disagreement is looked at in float64.
    """
    parameters = _trainable_parameters(module)
    large = {
        index
        for index, parameter in enumerate(parameters)
        if parameter.numel() > LARGE and parameter.dtype == torch.float32
    }
    if not large:
        return {}
    try:
        return _compute_slopes(subject, module, inputs, large)[1]
    except Exception:  # the run in float64 reports it
        return {}


def _compare_slopes(subject: Subject, module: nn.Module, inputs: Inputs, known: Slopes) -> float:
    """Return by what share of its size the slope along a random direction differs from the measured one.

    known: slopes of parameters whose gradient need not be computed.
    """
    parameters = _trainable_parameters(module)
    try:
        differentiable, slopes = _compute_slopes(
            subject, module, inputs, set(range(len(parameters))).difference(known)
        )
    except (RuntimeError, TypeError) as error:
        raise_without_kernel(error, subject.device)
        raise Failed(f"fails in float64: {first_line(error)}") from error
    slope = sum({**slopes, **known}.values())
    ways = [_choose_way(module, index, parameter) for index, parameter in enumerate(parameters)]
    error_share = float("inf")
    for step in STEPS:
        measured = _measure_slope(subject, module, inputs, differentiable, ways, step)
        apart = abs(measured - slope) / max(abs(measured), abs(slope), 1e-12)
        error_share = min(error_share, apart)
        if error_share < GOOD_ENOUGH:
            break
    return error_share


def _trainable_parameters(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _compute_slopes(
    subject: Subject, module: nn.Module, inputs: Inputs, chosen: set[int]
) -> tuple[list[int], Slopes]:
    """Return which outputs can be differentiated, by index, and the slope along each chosen parameter.

    A model of forces differentiates inside its own forward. In eval mode it frees the graph there, so that
    a second gradient fails; in training mode it keeps the graph. It is then switched to training mode, but
    torch's own layers stay in eval mode, so that nothing is dropped out.
    """
    outputs = subject.outputs(module, inputs)
    differentiable = [index for index, (_, tensor) in enumerate(outputs) if tensor.requires_grad]
    if subject.spec.architecture.straight_through and not differentiable:
        raise Skipped("nothing is trained around what is declared straight-through")
    loss = projection([outputs[index] for index in differentiable])
    indices = {id(parameter): index for index, parameter in enumerate(_trainable_parameters(module))}
    slopes: Slopes = {}

    def add_slope(name: str, parameter: nn.Parameter) -> None:
        index, gradient = indices[id(parameter)], parameter.grad
        if gradient is not None:
            gradient = gradient.to_dense() if gradient.layout == torch.sparse_coo else gradient
            way = _choose_way(module, index, parameter)
            slope = (some_of(laid_like(gradient, parameter), MOST_VARIED) * way.direction).sum()
            slopes[index] = slopes.get(index, 0.0) + float(slope)

    parameters = [
        parameter for parameter in _trainable_parameters(module) if indices[id(parameter)] in chosen
    ]
    try:
        with looked_at(module, add_slope):
            torch.autograd.backward(loss, inputs=parameters)
        return differentiable, slopes
    except RuntimeError as error:
        if "a second time" not in str(error) or module.training:
            raise
    for submodule in module.modules():
        submodule.training = not type(submodule).__module__.startswith("torch.nn.")
    return _compute_slopes(subject, module, inputs, chosen)


class Way(NamedTuple):
    """Where a parameter is varied: some of its elements, and the direction in which they go."""

    elements: Tensor
    direction: Tensor


def _choose_way(module: nn.Module, index: int, parameter: nn.Parameter) -> Way:
    """Return a random direction for a parameter, scaled to the parameter's own size.

    Of a large parameter some elements are varied, and further, so that it has the weight that all would have.
    The row of padding in an embedding stays where it is: torch gives it no gradient, whatever depends on it.
    """
    elements = some_of(parameter.data, MOST_VARIED)
    generator = torch.Generator().manual_seed(index)
    scale = elements.abs().mean() + 1e-3
    direction = torch.randn(elements.shape, generator=generator).to(elements)
    direction *= scale * math.sqrt(parameter.numel() / max(elements.numel(), 1))
    for row in _rows_of_padding(module, parameter):
        varied = torch.ones_like(parameter, dtype=torch.bool)
        varied[row] = False
        direction *= some_of(varied, MOST_VARIED)
    return Way(elements, direction)


def _rows_of_padding(module: nn.Module, parameter: nn.Parameter) -> Iterator[int]:
    for embedding in module.modules():
        if not isinstance(embedding, (nn.Embedding, nn.EmbeddingBag)) or embedding.padding_idx is None:
            continue
        # Under a parametrization, the parameters are those that the weight is made of.
        mine = any(parameter is other for other in embedding.parameters())
        if mine and parameter.shape[:1] == (embedding.num_embeddings,):
            yield embedding.padding_idx


def _measure_slope(
    subject: Subject,
    module: nn.Module,
    inputs: Inputs,
    differentiable: list[int],
    ways: Sequence[Way],
    step: float,
) -> float:
    """Return the central difference of the loss of the differentiable outputs along the directions."""
    originals = [way.elements.clone() for way in ways]
    losses = []
    for signed_step in (step, -step):
        for way, original in zip(ways, originals, strict=True):
            way.elements.copy_(original).add_(way.direction, alpha=signed_step)
        outputs = subject.evaluate(module, inputs)
        compared = [outputs[index] for index in differentiable]
        losses.append(float(projection(compared, needs_gradient=False)))
    for way, original in zip(ways, originals, strict=True):
        way.elements.copy_(original)
    return (losses[0] - losses[1]) / (2 * step)
