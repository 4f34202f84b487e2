"""Which parameters could make a proof fail, and weights with which nearly all of them can.

A file is compared with its module by their outputs. A weight that no output depends on (behind a head or
a gate that starts at zero, in a network whose signal has died out) could then hold anything, and the
comparison would still pass. So the effect of each parameter is measured: by how much would an output change
if the parameter were redrawn at its own scale? A parameter whose effect is smaller than what the comparison
can see is not proven by it.

For those, the graph is also compared with perturbed weights: constant tensors get noise, and the statistics
of normalizations are measured, which brings the signal at every depth back to unit scale.
"""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from nnkit.contract.signature import Signature
from nnkit.models.copies import copy_of
from nnkit.models.gradients import looked_at
from nnkit.models.members import named_parameters
from nnkit.models.process import give_back_memory
from nnkit.models.running import call, evaluate
from nnkit.models.sampling import Inputs
from nnkit.models.tensors import core_of, in_reals, tensors_in
from nnkit.verbs.exporting.blocks import is_constant, norm_of
from nnkit.verbs.exporting.calls import run_module
from nnkit.verbs.exporting.tolerance import typical_tolerance

# The noise on a parameter that was 0 or 1 throughout: enough to be seen, and a scale keeps its sign.
NOISE = 0.2

# The noise is multiplied by these, one after the other, on parameters that still show in no output.
LOUDER = (1, 5, 25)

# In place of a tolerance of 0, for an output that is 0 throughout: any change of it shows.
TOLERANCE_OF_ZERO_OUTPUT = 1e-30

# A parameter is redrawn up to this often, until an integer output changes.
REDRAWS = 4

# Louder noise adds to an effect by a power of its factor. What shows this small a share of a visible effect,
# such as the bias of a key of attention, never shows, and no louder noise is tried on it.
HOPELESS = 1e-3

# A bias is as good as 0 if its elements are no larger: some are drawn that small, and show in no output.
FAINT = 1e-4

# A parameter is seen if its effect is this many times the tolerance on average. The comparison looks at
# the largest difference, which is larger than the average.
VISIBLE = 3


@dataclass(frozen=True)
class Effects:
    """The effect of each parameter on the outputs, in units of the tolerance of an output.

    A parameter that is the same number throughout has none: leaving out a zero bias changes nothing.
    unused: the parameters that forward doesn't read, or that get no gradient.
    """

    effects: Mapping[str, float]
    unused: tuple[str, ...]

    @property
    def seen(self) -> set[str]:
        """The parameters that a comparison could find wrong."""
        return {name for name, effect in self.effects.items() if effect >= VISIBLE}

    @property
    def unseen(self) -> set[str]:
        """The parameters that could be wrong without showing in a comparison."""
        return set(self.effects) - self.seen


@dataclass(frozen=True)
class Measured:
    """What a module returns and the effects of its parameters, from one run with gradients.

    outputs: None where it can't be run so. effects: None where no output has a gradient.
    """

    outputs: list[Tensor] | None
    effects: Effects | None


def measure(
    module: nn.Module,
    signature: Signature,
    inputs: Inputs,
    limits: Sequence[float | None] | None = None,
) -> Measured:
    """Run a module once, and measure the effect of every parameter by one backward pass.

    limits: the tolerance of each output, None for an output that has no gradient. By default they are those
    of what this run returns. Nothing is left of the memory that a backward pass takes.
    """
    measured = _measure(module, signature, inputs, limits)
    give_back_memory()
    return measured


def _measure(
    module: nn.Module, signature: Signature, inputs: Inputs, limits: Sequence[float | None] | None
) -> Measured:
    returned: list[Tensor] | None = None
    differentiated = _copy_in_float32(module)
    dtype = next(
        (parameter.dtype for parameter in differentiated.parameters() if parameter.is_floating_point()),
        torch.float32,
    )
    inputs = tuple(tensor.to(dtype) if tensor.is_floating_point() else tensor.clone() for tensor in inputs)
    parameters = {
        name: parameter
        for name, parameter in differentiated.named_parameters()
        if parameter.is_floating_point() or parameter.is_complex()
    }
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            outputs = [in_reals(output) for output in tensors_in(call(differentiated, signature, inputs))]
            returned = [output.detach() for output in outputs]
            if limits is None:
                limits = [typical_tolerance(output) for output in returned]
            projection = _project(outputs, limits)
            if projection is None:
                return Measured(returned, None)
            effects = _measure_by_gradients(projection, differentiated, parameters)
    except (RuntimeError, NotImplementedError):  # something in forward has no gradient
        return Measured(returned, None)
    without_gradient = [name for name in parameters if name not in effects]
    effects |= _measure_effects_on_integers(differentiated, signature, inputs, without_gradient)
    unused = tuple(name for name in without_gradient if name not in effects)
    return Measured(returned, Effects(effects, unused))


def _measure_by_gradients(
    total: Tensor, module: nn.Module, parameters: Mapping[str, nn.Parameter]
) -> dict[str, float]:
    """Return the effect of each of the module's parameters that gets a gradient."""
    effects: dict[str, float] = {}

    def measure(name: str, parameter: nn.Parameter) -> None:
        if parameter.grad is not None:
            effects[name] = _measure_effect(parameter, parameter.grad)

    with looked_at(module, measure):
        total.backward(inputs=list(parameters.values()))  # type: ignore[no-untyped-call]
    return {name: effects[name] for name in parameters if name in effects}


def _measure_effects_on_integers(
    module: nn.Module, signature: Signature, inputs: Inputs, names: Sequence[str]
) -> dict[str, float]:
    """Return the effect of those parameters that change an integer output, which has no gradient."""

    def integer_outputs(module: nn.Module) -> list[Tensor]:
        outputs = run_module(module, signature, inputs)
        return [output for output in outputs if not output.is_floating_point()]

    before = integer_outputs(module) if names else []
    if not before:
        return {}
    parameters, effects = dict(module.named_parameters()), {}
    for name, seed in product(names, range(REDRAWS)):
        if name not in effects:
            after = integer_outputs(redraw(module, [name], seed))
            if any(not torch.equal(*pair) for pair in zip(before, after, strict=True)):
                effects[name] = 0.0 if is_constant(parameters[name]) else math.inf
    return effects


def redraw(module: nn.Module, names: Sequence[str], seed: int = 0) -> nn.Module:
    """Return a copy in which some parameters are random at their own scale, at 1 where they are 0."""
    originals = dict(module.named_parameters())
    other = copy_of(module, own=[originals[name] for name in names])
    parameters, generator = dict(other.named_parameters()), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in names:
            parameter = parameters[name]
            scale = float(parameter.double().square().mean().sqrt()) or 1.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return other


def _copy_in_float32(module: nn.Module) -> nn.Module:
    """Return a copy in float32, or in float64 where the module has such parameters.

    Its parameters are others, which share their memory with the module's where nothing is converted.
    """
    parameters = named_parameters(module).values()
    is_double = any(parameter.dtype == torch.float64 for parameter in parameters)

    def convert(parameter: Tensor) -> nn.Parameter:
        values = parameter.detach()
        if values.is_floating_point() and not is_double:
            values = values.float()
        return nn.Parameter(values, parameter.requires_grad)

    replaced = {id(each): convert(each) for each in parameters if type(each) is nn.Parameter}
    own = [each for each in parameters if id(each) not in replaced]
    other = copy_of(module, own, replaced)
    return other if is_double else other.float()


def _project(outputs: Iterable[Tensor], limits: Sequence[float | None]) -> Tensor | None:
    """Return a random weighted sum of all outputs, which moves by 1 when an output moves by its limit."""
    generator = torch.Generator().manual_seed(0)
    total = None
    for output, limit in zip(outputs, limits, strict=True):
        if not output.requires_grad or limit is None:
            continue
        values = output[core_of(output)]
        weights = torch.randn(values.shape, generator=generator).to(values)
        scale = max(limit, TOLERANCE_OF_ZERO_OUTPUT) * max(values.numel(), 1) ** 0.5
        part = (values * weights).sum() / scale
        total = part if total is None else total + part
    return total


def _measure_effect(parameter: Tensor, gradient: Tensor) -> float:
    if is_constant(parameter):
        return 0.0
    return norm_of(gradient) * norm_of(parameter) / math.sqrt(max(parameter.numel(), 1))


@dataclass(frozen=True)
class Perturbed:
    """A copy of a module with other weights, and their effects where these were measured."""

    module: nn.Module
    effects: Effects | None = None

    @property
    def unseen(self) -> set[str]:
        return self.effects.unseen if self.effects else set()


def perturb(
    module: nn.Module,
    signature: Signature,
    samples: Sequence[Inputs],
    names: set[str] | None = None,
) -> nn.Module | None:
    """Return a copy of `module` whose outputs depend on its weights, or None where none is found."""
    perturbed = perturb_and_measure(module, signature, samples, names)
    return None if perturbed is None else perturbed.module


def perturb_and_measure(
    module: nn.Module,
    signature: Signature,
    samples: Sequence[Inputs],
    names: set[str] | None = None,
) -> Perturbed | None:
    """Return such a copy with the effects of its parameters on the first sample, as `measure` returns them.

    Constant parameters get noise; batch normalizations get the statistics that they see on `samples`;
    then parameters that a comparison still can't see get noise as well, and more of it.
    names: the parameters and buffers that may change, None for all.
    """
    if not any(True for _ in module.parameters()):
        return None
    parameters = module.named_parameters()
    constant = {name for name, each in parameters if is_constant(each) or _is_faint_bias(name, each)}
    best = _add_noise(module, constant, NOISE, signature, samples, names)
    if best is None:
        best = _add_noise(module, constant, NOISE / 10, signature, samples, names)
    if best is None:
        return None
    for factor in LOUDER:
        if not best.unseen:
            break
        louder = _add_noise(best.module, best.unseen, NOISE * factor, signature, samples, names)
        if louder is None:
            continue
        if len(louder.unseen) < len(best.unseen):
            best = louder
        if _is_hopeless(louder):
            break
    return best


def _is_faint_bias(name: str, parameter: Tensor) -> bool:
    if not name.endswith("bias") or not parameter.is_floating_point() or not parameter.numel():
        return False
    return bool(parameter.abs().max() <= FAINT)


def _is_hopeless(louder: Perturbed) -> bool:
    """Whether noise left every parameter that doesn't show far from it, but not without any effect."""
    effects = louder.effects.effects if louder.effects else {}
    return all(0 < effects[name] < HOPELESS * VISIBLE for name in louder.unseen)


def _is_in_half_precision(module: nn.Module) -> bool:
    return any(parameter.dtype in (torch.float16, torch.bfloat16) for parameter in module.parameters())


def _add_noise(
    module: nn.Module,
    noisy: set[str],
    noise: float,
    signature: Signature,
    samples: Sequence[Inputs],
    names: set[str] | None,
) -> Perturbed | None:
    """Return a copy with noise on some parameters and measured statistics; None where it gives NaN.

    Effects are not measured in half precision: what louder noise shows, coarse rounding hides.
    """
    changed = noisy if names is None else noisy & names
    own = [each for name, each in module.named_parameters() if name in changed and each.is_floating_point()]
    other = copy_of(module, own)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name in changed and parameter.is_floating_point():
                drawn = torch.randn(parameter.shape, generator=generator).to(parameter)
                fan_in = parameter.numel() // parameter.shape[0] if parameter.ndim > 1 else 1
                # A matrix gets noise that keeps the spread of what it multiplies.
                parameter.add_(drawn * (noise if fan_in == 1 else noise / NOISE * fan_in**-0.5))
    _calibrate(other, signature, samples, names)
    is_half = _is_in_half_precision(other)
    measured = Measured(None, None) if is_half else measure(other, signature, samples[0])
    outputs = measured.outputs
    if outputs is None:
        outputs = run_module(other, signature, samples[0])
    has_nan = any(output.isnan().any() for output in outputs if output.is_floating_point())
    return None if has_nan else Perturbed(other, measured.effects)


def recalibrate(
    module: nn.Module, signature: Signature, inputs: Inputs, names: set[str] | None = None
) -> nn.Module | None:
    """Return a copy whose batch normalizations have the statistics of one run; None without any of these.

    names: the parameters and buffers that may change, None for all.
    """
    if not _batch_norms(module, names):
        return None
    other = copy_of(module)
    _calibrate(other, signature, [inputs], names)
    return other


def _batch_norms(module: nn.Module, names: set[str] | None) -> list[_NormBase]:
    """Return the normalizations that keep statistics, of those that may change."""
    return [
        layer
        for name, layer in module.named_modules()
        if isinstance(layer, _NormBase)
        and layer.running_mean is not None
        and (names is None or f"{name}.running_mean" in names)
    ]


def _calibrate(
    module: nn.Module, signature: Signature, samples: Iterable[Inputs], names: set[str] | None
) -> None:
    """Set the statistics of each batch normalization to their mean over all samples."""
    norms = _batch_norms(module, names)
    if not norms:
        return
    before = [(norm.momentum, norm.training, copy.deepcopy(norm.state_dict())) for norm in norms]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
        norm.train()
    try:
        for sample in samples:
            evaluate(module, signature, sample)
    except (RuntimeError, ValueError):  # a single value per channel has no spread
        for norm, (_, _, state) in zip(norms, before, strict=True):
            norm.load_state_dict(state)
    for norm, (momentum, training, _) in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.train(training)
