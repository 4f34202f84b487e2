"""Which parameters could make a proof fail, and weights with which nearly all of them can.

A file is compared with its module by outputs. A weight that the outputs don't feel (behind a head or a
gate that starts at zero, in a network whose signal has died out) may then be anything, and the
comparison still holds. So the effect of each parameter is measured: by how much would an output
change if the parameter were redrawn at its own scale? What has less effect than the comparison can see is
not proven by it.

Where that leaves something out, the graph is proven with other weights: constant tensors get noise, and
the statistics of normalisations are measured, which brings signals of every depth back to unit scale.
"""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from nnkit.models.running import call, evaluate
from nnkit.models.sampling import Inputs
from nnkit.models.tensors import core_of, in_reals, tensors_in
from nnkit.verbs.exporting.calls import run_module
from nnkit.verbs.exporting.copies import whole_copy_of
from nnkit.verbs.exporting.tolerance import typical

NOISE = 0.2  # of what was 0 or 1 throughout: enough to be seen, and a scale keeps its sign
LOUDER = (1, 5, 25)  # times the noise, for what is still not seen
TINY = 1e-30  # where an output is 0 throughout, whatever moves it shows
REDRAWS = 4  # of a parameter, until an integer output changes
VISIBLE = 3  # times what may be off, on average; a comparison looks at the largest difference


@dataclass(frozen=True)
class Effects:
    """The effect of each parameter on the outputs, in units of what may be off in an output.

    A parameter that is the same number throughout has none: to leave a zero bias out changes nothing.
    unused: those that forward doesn't read, or that no gradient comes back from.
    """

    effects: Mapping[str, float]
    unused: tuple[str, ...]

    @property
    def seen(self) -> set[str]:
        """The parameters that a comparison could find wrong."""
        return {name for name, effect in self.effects.items() if effect >= VISIBLE}

    @property
    def unseen(self) -> set[str]:
        """The others."""
        return set(self.effects) - self.seen


def effects_of(
    module: nn.Module, input_names: Sequence[str], inputs: Inputs, limits: Sequence[float | None]
) -> Effects | None:
    """Measure the effect of every parameter by one backward pass, or return None where none is possible.

    limits: what may be off in each output, None for one that has no gradient.
    """
    whole = _in_float32(module)
    parameters = dict(whole.named_parameters())
    kind = next((each.dtype for each in parameters.values() if each.is_floating_point()), torch.float32)
    inputs = tuple(each.to(kind) if each.is_floating_point() else each.clone() for each in inputs)
    parameters = {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.is_floating_point() or parameter.is_complex()
    }
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            projection = _projection(map(in_reals, tensors_in(call(whole, input_names, inputs))), limits)
            if projection is None:
                return None
            gradients = torch.autograd.grad(projection, list(parameters.values()), allow_unused=True)
    except (RuntimeError, NotImplementedError):  # something in forward has no gradient
        return None
    found = dict(zip(parameters, gradients, strict=True))
    silent = [name for name, gradient in found.items() if gradient is None]
    effects = {
        name: _effect(parameters[name], gradient) for name, gradient in found.items() if gradient is not None
    }
    effects |= _effects_on_integers(whole, input_names, inputs, silent)
    return Effects(effects, tuple(name for name in silent if name not in effects))


def _effects_on_integers(
    module: nn.Module, input_names: Sequence[str], inputs: Inputs, names: Sequence[str]
) -> dict[str, float]:
    """Return the effect of those parameters that change an integer output, which has no gradient."""

    def integers(other: nn.Module) -> list[Tensor]:
        return [each for each in run_module(other, input_names, inputs) if not each.is_floating_point()]

    before = integers(module) if names else []
    if not before:
        return {}
    parameters, effects = dict(module.named_parameters()), {}
    for name, seed in product(names, range(REDRAWS)):
        if name not in effects:
            after = integers(redrawn(module, [name], seed))
            if any(not torch.equal(*pair) for pair in zip(before, after, strict=True)):
                effects[name] = 0.0 if is_constant(parameters[name]) else math.inf
    return effects


def redrawn(module: nn.Module, names: Sequence[str], seed: int = 0) -> nn.Module:
    """Return a copy in which some parameters are random at their own scale, at 1 where they are 0."""
    other, generator = copy.deepcopy(module), torch.Generator().manual_seed(seed)
    parameters = dict(other.named_parameters())
    with torch.no_grad():
        for name in names:
            parameter = parameters[name]
            scale = float(parameter.double().square().mean().sqrt()) or 1.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return other


def _in_float32(module: nn.Module) -> nn.Module:
    whole = whole_copy_of(module)
    return whole if any(each.dtype == torch.float64 for each in whole.parameters()) else whole.float()


def _projection(outputs: Iterable[Tensor], limits: Sequence[float | None]) -> Tensor | None:
    """Return a sum over all outputs with random weights; it moves by 1 where an output moves by its limit."""
    generator = torch.Generator().manual_seed(0)
    total = None
    for output, limit in zip(outputs, limits, strict=True):
        if not output.requires_grad or limit is None:
            continue
        values = output[core_of(output)]
        weights = torch.randn(values.shape, generator=generator).to(values)
        part = (values * weights).sum() / (max(limit, TINY) * max(values.numel(), 1) ** 0.5)
        total = part if total is None else total + part
    return total


def _effect(parameter: Tensor, gradient: Tensor) -> float:
    if is_constant(parameter):
        return 0.0
    scale = in_reals(parameter.detach()).double().square().mean().sqrt()
    return float(in_reals(gradient).double().norm() * scale)


def is_constant(tensor: Tensor) -> bool:
    """Whether a tensor of several elements is one number throughout; a single one is where it is 0 or 1."""
    if tensor.numel() == 1:
        return tensor.item() in (0, 1)
    return tensor.numel() > 0 and bool((tensor == tensor.flatten()[0]).all())


def perturbed(
    module: nn.Module,
    input_names: Sequence[str],
    samples: Sequence[Inputs],
    names: set[str] | None = None,
) -> nn.Module | None:
    """Return a copy of `module` whose outputs feel its weights, or None where none is found.

    Constant parameters get noise; batch normalisations get the statistics that they meet on `samples`;
    then what a comparison still can't see gets noise as well, and more of it.
    names: of the parameters and buffers that may change, None for all.
    """
    if not any(True for _ in module.parameters()):
        return None
    constant = {name for name, each in module.named_parameters() if is_constant(each)}
    best = _stirred(module, constant, NOISE, input_names, samples, names)
    if best is None:
        best = _stirred(module, constant, NOISE / 10, input_names, samples, names)
    if best is None:
        return None
    unseen = _unseen(best, input_names, samples[0])
    half = any(each.dtype in (torch.float16, torch.bfloat16) for each in module.parameters())
    for louder in () if half else LOUDER:  # what louder noise shows, coarse rounding hides
        if not unseen:
            break
        other = _stirred(best, unseen, NOISE * louder, input_names, samples, names)
        if other is not None and len(left := _unseen(other, input_names, samples[0])) < len(unseen):
            best, unseen = other, left
    return best


def _unseen(module: nn.Module, input_names: Sequence[str], inputs: Inputs) -> set[str]:
    limits = [typical(each) for each in run_module(module, input_names, inputs)]
    effects = effects_of(module, input_names, inputs, limits)
    return effects.unseen if effects else set()


def _stirred(
    module: nn.Module,
    noisy: set[str],
    noise: float,
    input_names: Sequence[str],
    samples: Sequence[Inputs],
    names: set[str] | None,
) -> nn.Module | None:
    """Return a copy with noise on some parameters and measured statistics; None where it gives NaN."""
    other = whole_copy_of(module)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name in noisy and (names is None or name in names) and parameter.is_floating_point():
                drawn = torch.randn(parameter.shape, generator=generator).to(parameter)
                fan_in = parameter.numel() // parameter.shape[0] if parameter.ndim > 1 else 1
                # Of a matrix: as much as keeps the spread of what it multiplies.
                parameter.add_(drawn * (noise if fan_in == 1 else noise / NOISE * fan_in**-0.5))
    _calibrate(other, input_names, samples, names)
    outputs = run_module(other, input_names, samples[0])
    bad = any(each.isnan().any() for each in outputs if each.is_floating_point())
    return None if bad else other


def _calibrate(
    module: nn.Module, input_names: Sequence[str], samples: Iterable[Inputs], names: set[str] | None
) -> None:
    """Let each normalisation take the mean of the statistics of all samples."""
    norms = [
        (name, each)
        for name, each in module.named_modules()
        if isinstance(each, _NormBase) and each.running_mean is not None
    ]
    norms = [(name, each) for name, each in norms if names is None or f"{name}.running_mean" in names]
    if not norms:
        return
    before = [(each, each.momentum, each.training, copy.deepcopy(each.state_dict())) for _, each in norms]
    for each, *_ in before:
        each.momentum = None
        each.reset_running_stats()
        each.train()
    try:
        for sample in samples:
            evaluate(module, input_names, sample)
    except (RuntimeError, ValueError):  # one value per channel has no spread
        for each, _, _, state in before:
            each.load_state_dict(state)
    for each, momentum, training, _ in before:
        each.momentum = momentum
        each.train(training)
