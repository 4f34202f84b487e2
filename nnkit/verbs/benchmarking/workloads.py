"""What is timed: a forward of a model, and a training step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from nnkit.models.running import needs_gradients
from nnkit.models.tensors import tensors_in
from nnkit.verbs.training import (
    NO_DIFFERENTIABLE_OUTPUT,
    NO_TRAINABLE_PARAMETER,
    OPTIMIZER_CLASSES,
    Untrainable,
    explaining_batch_norm,
)

Arguments: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Workload:
    """Something to run over and over.

    run: runs it once, without waiting for the device. resident: returns the tensors alive between runs.
    """

    run: Callable[[], object]
    resident: Callable[[], list[Tensor]]


def forward(module: nn.Module, args: Arguments, keywords: Mapping[str, Any], compiled: bool) -> Workload:
    """Return a forward in eval mode without gradients; with them for a model that differentiates in it."""
    module.eval()
    call = torch.compile(module) if compiled else module
    gradients = needs_gradients(lambda: call(*args, **keywords))

    def run() -> None:
        with torch.set_grad_enabled(gradients):
            call(*args, **keywords)

    return Workload(run, lambda: [*module.parameters(), *module.buffers(), *tensors_in((args, keywords))])


def training_step(
    module: nn.Module, args: Arguments, keywords: Mapping[str, Any], compiled: bool, optimizer: str
) -> Workload:
    """Return a forward, a backward of a random projection of the outputs, and a step of the optimizer.

    The learning rate is 0: all the arithmetic is done, and the last step trains the same model as the first.
    Raises Untrainable.
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trainable:
        raise Untrainable(NO_TRAINABLE_PARAMETER)
    module.train()
    call = torch.compile(module) if compiled else module
    stepper = OPTIMIZER_CLASSES[optimizer](trainable, lr=0.0)
    projection = _projection(module, args, keywords)

    def run() -> None:
        outputs = _differentiable(call(*args, **keywords))
        torch.autograd.backward(outputs, projection)
        stepper.step()
        stepper.zero_grad(set_to_none=True)

    def resident() -> list[Tensor]:
        return [
            *module.parameters(),
            *module.buffers(),
            *tensors_in((args, keywords, list(stepper.state.values()))),
        ]

    return Workload(run, resident)


def _projection(module: nn.Module, args: Arguments, keywords: Mapping[str, Any]) -> list[Tensor]:
    """Return the gradient of a random weighted mean of each output that can be differentiated."""
    with explaining_batch_norm():
        outputs = _differentiable(module(*args, **keywords))
    if not outputs:
        raise Untrainable(NO_DIFFERENTIABLE_OUTPUT)
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(output.shape, generator=generator).to(output) / output.numel() for output in outputs]


def _differentiable(outputs: object) -> list[Tensor]:
    return [output for output in tensors_in(outputs) if output.requires_grad]
