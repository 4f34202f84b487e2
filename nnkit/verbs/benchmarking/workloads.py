"""What is timed: a forward of a model, and a training step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnkit.models.running import needs_gradients
from nnkit.models.sampling import Inputs
from nnkit.models.tensors import tensors_in

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


def forward(module: nn.Module, args: Inputs, keywords: Mapping[str, Tensor], compiled: bool) -> Workload:
    """Return a forward in eval mode without gradients; with them for a model that differentiates in it."""
    module.eval()
    call = torch.compile(module) if compiled else module
    gradients = needs_gradients(lambda: call(*args, **keywords))

    def run() -> None:
        with torch.set_grad_enabled(gradients):
            call(*args, **keywords)

    return Workload(run, lambda: [*module.parameters(), *module.buffers(), *args, *keywords.values()])


def training_step(
    module: nn.Module, args: Inputs, keywords: Mapping[str, Tensor], compiled: bool, optimizer: str
) -> Workload:
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
    projection = _projection(module, args, keywords)

    def run() -> None:
        outputs = [each for each in tensors_in(call(*args, **keywords)) if each.requires_grad]
        torch.autograd.backward(outputs, projection)
        stepper.step()
        stepper.zero_grad(set_to_none=True)

    def resident() -> list[Tensor]:
        state = tensors_in(list(stepper.state.values()))
        return [*module.parameters(), *module.buffers(), *args, *keywords.values(), *state]

    return Workload(run, resident)


def _projection(module: nn.Module, args: Inputs, keywords: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the gradient of a random weighted mean of each output that can be differentiated."""
    try:
        outputs = [each for each in tensors_in(module(*args, **keywords)) if each.requires_grad]
    except ValueError as problem:
        if "more than 1 value per channel" not in str(problem):
            raise
        raise Untrainable("batch norm needs more than one value per channel") from problem
    if not outputs:
        raise Untrainable("nothing that it returns can be differentiated")
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(each.shape, generator=generator).to(each) / each.numel() for each in outputs]
