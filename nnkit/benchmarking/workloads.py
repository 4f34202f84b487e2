"""What is timed: a forward of a model, and a training step."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnkit.sampling import Inputs
from nnkit.tensors import tensors_in

KINDS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class Untrainable(Exception):
    """There is no training step of this model at this size; the message says why."""


@dataclass(frozen=True)
class Workload:
    """Something to run over and over.

    run: does so once, without waiting for the device. resident: returns the tensors there between runs.
    """

    run: Callable[[], object]
    resident: Callable[[], list[Tensor]]


def forward(module: nn.Module, inputs: Inputs, compiled: bool) -> Workload:
    """Return a forward in eval mode under inference mode."""
    module.eval()
    call = torch.compile(module) if compiled else module

    def run() -> None:
        with torch.inference_mode():
            call(*inputs)

    return Workload(run, lambda: [*module.parameters(), *module.buffers(), *inputs])


def training_step(module: nn.Module, inputs: Inputs, compiled: bool, optimizer: str) -> Workload:
    """Return a forward, a backward of a random projection of the outputs, and a step of the optimiser.

    The learning rate is 0: all the arithmetic is done, and the last step trains the model of the first.
    Raises Untrainable.
    """
    trainable = [each for each in module.parameters() if each.requires_grad]
    if not trainable:
        raise Untrainable("none of its parameters is trainable")
    module.train()
    call = torch.compile(module) if compiled else module
    stepper = KINDS[optimizer](trainable, lr=0.0)
    projection = _projection(module, inputs)

    def run() -> None:
        outputs = [each for each in tensors_in(call(*inputs)) if each.requires_grad]
        torch.autograd.backward(outputs, projection)
        stepper.step()
        stepper.zero_grad(set_to_none=True)

    def resident() -> list[Tensor]:
        state = tensors_in(list(stepper.state.values()))
        return [*module.parameters(), *module.buffers(), *inputs, *state]

    return Workload(run, resident)


def _projection(module: nn.Module, inputs: Inputs) -> list[Tensor]:
    """Return the gradient of a random weighted mean of each output that can be differentiated."""
    try:
        outputs = [each for each in tensors_in(module(*inputs)) if each.requires_grad]
    except ValueError as problem:
        if "more than 1 value per channel" not in str(problem):
            raise
        raise Untrainable("batch norm needs more than one value per channel") from problem
    if not outputs:
        raise Untrainable("nothing that it returns can be differentiated")
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(each.shape, generator=generator).to(each) / each.numel() for each in outputs]
