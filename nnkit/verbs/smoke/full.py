"""Checks that take longer: `nnkit smoke-run --full`."""

import functools
import math
import warnings
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from nnkit.contract.signature import Signature
from nnkit.contract.text import name_output, plural
from nnkit.errors import first_line
from nnkit.models.precision import convert, name_of
from nnkit.models.running import bind, call, evaluate_tensors, without_gradients
from nnkit.models.tensors import in_reals, tensors_in
from nnkit.verbs.exporting.capture import looped_recurrences, quiet
from nnkit.verbs.exporting.coverage import perturb
from nnkit.verbs.smoke.judging import (
    difference,
    largest_difference,
    projection,
    raise_without_kernel,
    tolerance_of,
)
from nnkit.verbs.smoke.steps import Step, steps_of
from nnkit.verbs.smoke.subject import (
    Failed,
    Outputs,
    Skipped,
    Subject,
    Warned,
)

OVERFIT_STEPS = 40  # of Adam
OVERFIT_SHARE = 0.5  # of its first value that the loss must fall to
LEARNING_RATES = (1e-2, 1e-3, 1e-4)  # tried in turn until one is good enough
ROUNDING = 10  # times the tolerance of outputs: another order of operations adds its own rounding
# Cosine similarity of outputs in half precision and in float32.
SIMILAR, DIFFERENT = 0.99, 0.9


def overfit(subject: Subject) -> str:
    """It learns one batch by heart: some steps of Adam bring the loss down."""
    return "; ".join(_overfit(subject, step) for step in steps_of(subject))


def _overfit(subject: Subject, step: Step) -> str:
    first, least = _train_on_one_batch(subject, step, LEARNING_RATES[0])
    for rate in LEARNING_RATES[1:]:
        if least <= OVERFIT_SHARE * first:
            break
        runs = ((first, least), _train_on_one_batch(subject, step, rate))
        first, least = min(runs, key=lambda losses: losses[1] / losses[0])
    if not least < first:
        raise Failed(f"{step}the loss on one batch never fell below its first value, {first:.3g}")
    if least > OVERFIT_SHARE * first:
        raise Warned(
            f"{step}the loss on one batch fell only from {first:.3g} to {least:.3g} in {OVERFIT_STEPS} steps"
        )
    return f"{step}loss from {first:.3g} to {least:.3g} in {OVERFIT_STEPS} steps"


def _train_on_one_batch(subject: Subject, step: Step, rate: float) -> tuple[float, float]:
    """Return the first and the lowest loss of some steps on one batch, without dropout."""
    module = subject.with_noise().train()
    for submodule in module.modules():
        if isinstance(submodule, nn.modules.dropout._DropoutNd):
            submodule.p = 0
    inputs = subject.inputs()
    parameters = list(step.parameters_of(module).values())
    if not parameters:
        raise Skipped("it has no trainable parameters")
    optimizer = torch.optim.Adam(parameters, lr=rate)

    def run_forward() -> Outputs:
        # A scalar (a loss beside the outputs) belongs to no single sample: it has no target.
        outputs = step.choose(subject.outputs(module, inputs))
        return [(declared, tensor) for declared, tensor in outputs if tensor.ndim and tensor.numel()]

    # Each sample is to learn what the one before it gave at first.
    targets = [tensor.detach().roll(1, 0) for _, tensor in run_forward()]
    if not targets:
        raise Skipped("it returns only scalars, which belong to no single sample")
    targets = _without_copies(targets, subject, step)
    losses = []
    for _ in range(OVERFIT_STEPS):
        optimizer.zero_grad()
        loss = _compute_loss(run_forward(), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses[0], min(filter(math.isfinite, losses[1:]), default=math.inf)


def _without_copies(targets: list[Tensor], subject: Subject, step: Step) -> list[Tensor]:
    """Return the targets with NaN for elements that no weight changes, such as a cache that is passed on."""
    modules = (subject.fresh(), subject.with_noise())
    first, second = (step.choose(subject.evaluate(module, subject.inputs())) for module in modules)
    pairs = [
        (tensor, other)
        for (_, tensor), (_, other) in zip(first, second, strict=True)
        if tensor.ndim and tensor.numel()
    ]
    if len(pairs) != len(targets):  # training returns more than eval mode
        return targets
    return [
        target.masked_fill(tensor == other, math.nan)
        if target.is_floating_point() and not torch.equal(tensor, other)
        else target
        for target, (tensor, other) in zip(targets, pairs, strict=True)
    ]


def _compute_loss(outputs: Outputs, targets: list[Tensor]) -> Tensor:
    """Return the squared distance between outputs and targets, over the elements that are finite in both."""
    total = None
    for (_, tensor), target in zip(outputs, targets, strict=True):
        if tensor.requires_grad and tensor.is_floating_point():
            finite = tensor.isfinite() & target.isfinite()
            term = nn.functional.mse_loss(tensor[finite], target[finite])
            total = term if total is None else total + term
    if total is None:
        raise Failed("no output depends on a parameter: there is nothing to train")
    return total


def compile(subject: Subject) -> str:  # noqa: A001 - torch's own name
    """torch.compile captures it and gives the same outputs; graph breaks are a warning."""
    module, inputs = subject.uncompiled().with_noise(), subject.inputs()
    args, keywords = bind(module, subject.spec.signature, inputs)
    with subject.fixed_randomness():
        expected = evaluate_tensors(module, subject.spec.signature, inputs)
    torch._dynamo.reset()
    breaks = torch._dynamo.utils.counters["graph_break"]
    breaks.clear()
    try:
        compiled = torch.compile(module, backend="aot_eager")
        with quiet(), subject.fixed_randomness():
            actual = without_gradients(lambda: list(tensors_in(compiled(*args, **keywords))))
    except Exception as error:
        raise Failed(f"torch.compile fails: {type(error).__name__}: {first_line(error)}") from error
    _compare(expected, actual, "compiled")
    if breaks:
        reason = first_line(next(iter(breaks)))
        raise Warned(f"{plural(sum(breaks.values()), 'graph break')}, the first: {reason}")
    return "one graph, same outputs"


def export(subject: Subject) -> str:
    """torch.export captures it and the program gives the same outputs."""
    module, inputs = subject.uncompiled().with_noise(), subject.inputs()
    with subject.fixed_randomness():
        expected = evaluate_tensors(module, subject.spec.signature, inputs)
    flat = _Flat(module, subject.spec.signature)
    try:
        with quiet(), looped_recurrences():
            program = without_gradients(lambda: torch.export.export(flat, inputs, strict=False))
            with subject.fixed_randomness():
                actual = without_gradients(lambda: list(tensors_in(program.module()(*inputs))))
    except Exception as error:
        raise Failed(f"torch.export fails: {type(error).__name__}: {first_line(error)}") from error
    _compare(expected, actual, "exported")
    return "same outputs"


class _Flat(nn.Module):
    """A module that takes and returns tensors only: torch.export knows no class of the user's own."""

    def __init__(self, module: nn.Module, signature: Signature) -> None:
        super().__init__()
        self.module, self.signature = module, signature

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        return list(tensors_in(call(self.module, self.signature, inputs)))


def _compare(expected: list[Tensor], actual: list[Tensor], how: str) -> None:
    """Raise Failed for the first output that differs by more than rounding."""
    for index, (wanted, got) in enumerate(zip(expected, actual, strict=True)):
        apart = difference(wanted, got)
        if apart > ROUNDING * tolerance_of(wanted):
            raise Failed(f"output {index} differs by {apart:.2g}× its spread when {how}")


def autocast(subject: Subject) -> str:
    """Under autocast to bfloat16 the outputs point in the same direction."""
    return _compare_precision(subject, subject.with_noise(), torch.bfloat16, casting=True)


def half(subject: Subject) -> str:
    """In float16 the outputs point in the same direction."""
    try:
        return _compare_precision(subject, subject.with_noise(), torch.float16, casting=False)
    except Failed:
        # Before it has measured statistics, a deep network may grow its signals beyond float16's range.
        measured = perturb(subject.fresh(), subject.spec.signature, [subject.inputs()])
        if measured is None:
            raise
        return _compare_precision(subject, measured, torch.float16, casting=False)


def _compare_precision(subject: Subject, module: nn.Module, dtype: torch.dtype, casting: bool) -> str:
    """Compare outputs in `dtype`, by autocast (`casting`) or by conversion, with those in float32."""
    inputs = subject.inputs()
    expected = subject.evaluate(module, inputs)
    try:
        if casting:
            with torch.autocast(subject.device.type, dtype):
                actual = subject.evaluate(module, inputs)
        else:
            converted = [tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in inputs]
            actual = subject.evaluate(convert(module, dtype), converted)
    except (RuntimeError, TypeError, ValueError) as error:
        raise_without_kernel(error, subject.device)
        raise Failed(f"fails in {name_of(dtype)}: {first_line(error)}") from error
    similarity = _lowest_similarity(expected, actual, dtype)
    if similarity < DIFFERENT:
        raise Failed(f"cosine similarity with float32 is only {similarity:.3f}")
    if similarity < SIMILAR:
        raise Warned(f"cosine similarity with float32 is only {similarity:.3f}")
    return f"cosine similarity with float32 {similarity:.4f}"


def _lowest_similarity(expected: Outputs, actual: Outputs, dtype: torch.dtype) -> float:
    lowest = 1.0
    for (declared, wanted), (_, got) in zip(expected, actual, strict=True):
        if not wanted.is_floating_point() or wanted.numel() < 2:
            continue
        if not got.isfinite().all() and wanted.isfinite().all():
            raise Failed(f"{name_output(declared.name)} is not finite in {name_of(dtype)}")
        lowest = min(lowest, cosine_similarity(wanted, got))
    return lowest


def cosine_similarity(left: Tensor, right: Tensor) -> float:
    """Return the cosine of the angle between two outputs; 1 where both are zero."""
    left, right = in_reals(left).double().flatten(), in_reals(right).double().flatten()
    if not left.any() and not right.any():
        return 1.0
    return float(nn.functional.cosine_similarity(left, right, dim=0))


def train_determinism(subject: Subject) -> str:
    """Two training steps with one seed give the same gradients."""
    gradients = []
    for _ in range(2):
        with subject.seeded():
            module = subject.fresh().train()
            projection(subject.outputs(module, subject.inputs())).backward()  # type: ignore[no-untyped-call]
        gradients.append({name: parameter.grad for name, parameter in module.named_parameters()})
    for name, first in gradients[0].items():
        second = gradients[1][name]
        if first is not None and second is not None and difference(first, second) > tolerance_of(first):
            raise Failed(f"the gradient of {name} differs between two runs with the same seed")
    return plural(len(gradients[0]), "gradient")


def gradient_checkpointing(subject: Subject) -> str:
    """Recomputing activations in backward changes no output and no gradient."""
    outputs, gradients = _run_seeded_step(subject, subject.with_noise())
    recomputing = _recompute(subject.with_noise())
    own_switch = _switch_on(subject.with_noise())
    for module in (recomputing, *own_switch):
        try:
            other_outputs, other_gradients = _run_seeded_step(subject, module)
        except torch.utils.checkpoint.CheckpointError as error:
            raise Failed("forward behaves differently when recomputed") from error
        apart, name, rounding = largest_difference(outputs, other_outputs)
        if not rounding:
            raise Failed(f"{name_output(name)} differs by {apart:.2g}× its spread")
        for name, gradient in gradients.items():
            if difference(gradient, other_gradients[name]) > ROUNDING * tolerance_of(gradient):
                raise Failed(f"the gradient of {name} changes when forward is recomputed in backward")
    own = " and by the model's own switch" if own_switch else ""
    return f"{plural(len(gradients), 'gradient')}, recomputed as a whole{own}"


def _run_seeded_step(subject: Subject, module: nn.Module) -> tuple[Outputs, dict[str, Tensor]]:
    """Return the outputs and the gradients of one run in training mode, with a fixed seed."""
    with subject.seeded():
        outputs = subject.outputs(module.train(), subject.inputs())
        projection(outputs).backward()  # type: ignore[no-untyped-call]
    gradients = {}
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            gradients[name] = parameter.grad
    return outputs, gradients


def _recompute(module: nn.Module) -> nn.Module:
    """Return the module so that it keeps no activation for backward."""
    forward = module.forward

    @functools.wraps(forward)  # the arguments are bound by its signature
    def recomputing(*args: Any, **keywords: Any) -> Any:
        return torch.utils.checkpoint.checkpoint(forward, *args, use_reentrant=False, **keywords)

    module.forward = recomputing
    return module


def _switch_on(module: nn.Module) -> list[nn.Module]:
    """Return the module with its own checkpointing switched on, or nothing where it has no known switch."""
    for name in ("set_grad_checkpointing", "gradient_checkpointing_enable"):  # timm's, transformers'
        if switch := getattr(module, name, None):
            try:
                switch()
            except (AssertionError, NotImplementedError, ValueError):  # it has one, but doesn't support it
                return []
            return [module]
    return []


def channels_last(subject: Subject) -> str:
    """In the memory format channels_last the outputs are the same."""
    inputs = subject.inputs()
    if not any(tensor.ndim == 4 for tensor in inputs):
        raise Skipped("no input has four axes")
    module = subject.with_noise()
    names = subject.spec.signature
    memory_format = torch.channels_last
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with subject.fixed_randomness():
            expected = evaluate_tensors(module, names, inputs)
        converted = [
            tensor.to(memory_format=memory_format) if tensor.ndim == 4 else tensor for tensor in inputs
        ]
        module = module.to(memory_format=memory_format)  # type: ignore[call-overload]
        with subject.fixed_randomness():
            actual = evaluate_tensors(module, names, converted)
    _compare(expected, actual, "in channels_last")
    return "same outputs"
