"""Checks that take longer: `nnkit smoke-run --full`."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.utils.checkpoint
from torch import nn

from nnkit.errors import first_line
from nnkit.models.precision import convert
from nnkit.models.running import bind, call, evaluate_tensors, without_gradients
from nnkit.models.tensors import tensors_in
from nnkit.verbs.exporting.capture import looped_recurrences, quiet
from nnkit.verbs.exporting.coverage import perturbed
from nnkit.verbs.smoke.subject import (
    Failed,
    Outputs,
    Skipped,
    Subject,
    Warned,
    difference,
    largest_difference,
    projection,
    tolerance_of,
)

LESSONS = 40  # steps of Adam; the loss must fall to this part of what it was
LEARNED = 0.5
RATES = (1e-2, 1e-3, 1e-4)  # the first that it learns with counts
ALIKE, FAR = 0.99, 0.9  # cosines of outputs in half precision and in full


def overfit(subject: Subject) -> str:
    """It learns one batch by heart: some steps of Adam bring the loss down."""
    first, least = _learn(subject, RATES[0])
    for rate in RATES[1:]:
        if least <= LEARNED * first:
            break
        first, least = min((first, least), _learn(subject, rate), key=lambda pair: pair[1] / pair[0])
    if not least < first:
        raise Failed(f"the loss on one batch never fell below its first value, {first:.3g}")
    if least > LEARNED * first:
        raise Warned(f"the loss on one batch fell from {first:.3g} to {least:.3g} in {LESSONS} steps")
    return f"loss from {first:.3g} to {least:.3g} in {LESSONS} steps"


def _learn(subject: Subject, rate: float) -> tuple[float, float]:
    """Return the first and the least loss of some steps on one batch; nothing is dropped out in them."""
    module = subject.stirred().train()
    for each in module.modules():
        if isinstance(each, nn.modules.dropout._DropoutNd):
            each.p = 0
    inputs = subject.inputs()
    parameters = [each for each in module.parameters() if each.requires_grad]
    if not parameters:
        raise Skipped("it has no parameters")
    optimizer = torch.optim.Adam(parameters, lr=rate)

    def outputs() -> Outputs:
        # A number (a loss beside the outputs) is no result of one sample: it has no target.
        return [(declared, each) for declared, each in subject.outputs(module, inputs) if each.ndim]

    targets = [tensor.detach().roll(1, 0) for _, tensor in outputs()]
    if not targets:
        raise Skipped("it returns numbers only, which follow from no single sample")
    losses = []
    for _ in range(LESSONS):
        optimizer.zero_grad()
        loss = _distance(outputs(), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses[0], min(filter(math.isfinite, losses[1:]), default=math.inf)


def _distance(outputs: Outputs, targets: list[torch.Tensor]) -> torch.Tensor:
    """Return how far the outputs are from the targets: what they were at first, by one sample on."""
    total = None
    for (_, tensor), target in zip(outputs, targets, strict=True):
        if tensor.requires_grad and tensor.is_floating_point():
            finite = tensor.isfinite() & target.isfinite()
            part = nn.functional.mse_loss(tensor[finite], target[finite])
            total = part if total is None else total + part
    if total is None:
        raise Failed("no output depends on a parameter: there is nothing to train")
    return total


def compile(subject: Subject) -> str:  # noqa: A001 - the name that torch has for it
    """torch.compile captures it and gives the same outputs; breaks in the graph are told."""
    module, inputs = replace(subject, compiled=False).stirred(), subject.inputs()
    args, keywords = bind(module, subject.spec.input_names, inputs)
    expected = evaluate_tensors(module, subject.spec.input_names, inputs)
    torch._dynamo.reset()
    breaks = torch._dynamo.utils.counters["graph_break"]
    breaks.clear()
    try:
        compiled = torch.compile(module, backend="aot_eager")
        with quiet():
            found = without_gradients(lambda: list(tensors_in(compiled(*args, **keywords))))
    except Exception as error:
        raise Failed(f"torch.compile fails: {type(error).__name__}: {first_line(error)}") from error
    _same(expected, found, "compiled")
    if breaks:
        raise Warned(f"the graph breaks {sum(breaks.values())} times: {first_line(next(iter(breaks)))}")
    return "one graph, the same outputs"


def export(subject: Subject) -> str:
    """torch.export captures it and the program gives the same outputs."""
    module, inputs = replace(subject, compiled=False).stirred(), subject.inputs()
    args, keywords = bind(module, subject.spec.input_names, inputs)
    expected = evaluate_tensors(module, subject.spec.input_names, inputs)
    try:
        with quiet(), looped_recurrences():
            program = without_gradients(lambda: torch.export.export(module, args, keywords, strict=False))
            found = without_gradients(lambda: list(tensors_in(program.module()(*args, **keywords))))
    except Exception as error:
        raise Failed(f"torch.export fails: {type(error).__name__}: {first_line(error)}") from error
    _same(expected, found, "exported")
    return "the same outputs"


def _same(expected: list[torch.Tensor], found: list[torch.Tensor], how: str) -> None:
    for place, (one, two) in enumerate(zip(expected, found, strict=True)):
        apart = difference(one, two)
        if apart > 10 * tolerance_of(one):
            raise Failed(f"output {place} differs by {apart:.2g} of its spread when {how}")


def autocast(subject: Subject) -> str:
    """Under autocast to bfloat16 the outputs point where they did."""
    return _alike(subject, subject.stirred(), torch.bfloat16, casting=True)


def half(subject: Subject) -> str:
    """In float16 the outputs point where they did."""
    try:
        return _alike(subject, subject.stirred(), torch.float16, casting=False)
    except Failed:
        # Before it has measured statistics, a deep network may grow its signals beyond what float16 holds.
        measured = perturbed(subject.fresh(), subject.spec.input_names, [subject.inputs()])
        if measured is None:
            raise
        return _alike(subject, measured, torch.float16, casting=False)


def _alike(subject: Subject, module: nn.Module, kind: torch.dtype, casting: bool) -> str:
    inputs = subject.inputs()
    expected = subject.evaluate(module, inputs)
    try:
        if casting:
            with torch.autocast(subject.device.type, kind):
                found = subject.evaluate(module, inputs)
        else:
            halves = tuple(each.to(kind) if each.is_floating_point() else each for each in inputs)
            found = subject.evaluate(convert(module, kind), halves)
    except (RuntimeError, TypeError, ValueError) as error:
        raise Failed(f"fails in {str(kind)[6:]}: {first_line(error)}") from error
    worst = 1.0
    for (declared, one), (_, two) in zip(expected, found, strict=True):
        if not one.is_floating_point() or one.numel() < 2:
            continue
        if not two.isfinite().all() and one.isfinite().all():
            raise Failed(f"output {declared.name} is not finite in {str(kind)[6:]}")
        worst = min(worst, _cosine(one, two))
    if worst < FAR:
        raise Failed(f"the cosine with float32 is {worst:.3f}")
    if worst < ALIKE:
        raise Warned(f"the cosine with float32 is {worst:.3f}")
    return f"cosine with float32 {worst:.4f}"


def _cosine(one: torch.Tensor, two: torch.Tensor) -> float:
    left, right = one.double().flatten(), two.double().flatten()
    if not left.any() and not right.any():
        return 1.0
    return float(nn.functional.cosine_similarity(left, right, dim=0))


def train_determinism(subject: Subject) -> str:
    """Two training steps from one seed give the same gradients."""
    gradients = []
    for _ in range(2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = subject.fresh().train()
            projection(subject.outputs(module, subject.inputs())).backward()  # type: ignore[no-untyped-call]
        gradients.append({name: each.grad for name, each in module.named_parameters()})
    for name, first in gradients[0].items():
        second = gradients[1][name]
        if first is not None and second is not None and difference(first, second) > tolerance_of(first):
            raise Failed(f"the gradient of {name} differs from one run to the next under the same seed")
    return f"{len(gradients[0])} gradients"


def gradient_checkpointing(subject: Subject) -> str:
    """With its activations computed again in backward, outputs and gradients are the same."""
    outputs, gradients = _seeded_step(subject, subject.stirred())
    ways = [_Recomputed(subject.stirred(), subject.spec.input_names), *_switched_on(subject.stirred())]
    for module in ways:
        try:
            found, others = _seeded_step(subject, module)
        except torch.utils.checkpoint.CheckpointError as error:
            raise Failed("its forward does other things when it runs again in backward") from error
        apart, name, rounding = largest_difference(outputs, found)
        if not rounding:
            raise Failed(f"output {name} differs by {apart:.2g} of its spread")
        for name, gradient in gradients.items():
            if difference(gradient, others[name]) > 10 * tolerance_of(gradient):
                raise Failed(f"the gradient of {name} is another when forward runs again in backward")
    own = " and by its own switch" if len(ways) > 1 else ""
    return f"{len(gradients)} gradients, recomputed as a whole{own}"


def _seeded_step(subject: Subject, module: nn.Module) -> tuple[Outputs, dict[str, torch.Tensor]]:
    """Return the outputs and the gradients of one run in training mode, under one seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        outputs = subject.outputs(module.train(), subject.inputs())
        projection(outputs).backward()  # type: ignore[no-untyped-call]
    named = {name.removeprefix("module."): each.grad for name, each in module.named_parameters()}
    return outputs, {name: gradient for name, gradient in named.items() if gradient is not None}


class _Recomputed(nn.Module):
    """A module that keeps no activation for backward."""

    def __init__(self, module: nn.Module, input_names: Sequence[str]) -> None:
        super().__init__()
        self.module, self.input_names = module, input_names

    def forward(self, *inputs: torch.Tensor) -> Any:
        def run(*inputs: torch.Tensor) -> Any:
            return call(self.module, self.input_names, inputs)

        return torch.utils.checkpoint.checkpoint(run, *inputs, use_reentrant=False)


def _switched_on(module: nn.Module) -> list[nn.Module]:
    """Return the module with its own checkpointing switched on, where it has a switch that we know."""
    for name in ("set_grad_checkpointing", "gradient_checkpointing_enable"):  # timm's, transformers'
        if switch := getattr(module, name, None):
            try:
                switch()
            except (AssertionError, NotImplementedError, ValueError):  # it is there and says no
                return []
            return [module]
    return []


def channels_last(subject: Subject) -> str:
    """In the memory format channels_last the outputs are the same."""
    inputs = subject.inputs()
    if not any(each.ndim == 4 for each in inputs):
        raise Skipped("no input has four axes")
    module = subject.stirred()
    names = subject.spec.input_names
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = evaluate_tensors(module, names, inputs)
        turned = [each.to(memory_format=torch.channels_last) if each.ndim == 4 else each for each in inputs]
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = evaluate_tensors(module, names, turned)
    _same(expected, found, "in channels_last")
    return "the same outputs"
