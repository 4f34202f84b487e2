"""What torch's own CPU allocator counts while a model trains a step and runs: the truth of the estimates."""

import torch

from nnkit.models.running import without_gradients
from nnkit.models.tensors import tensors_in
from nnkit.verbs.benchmarking.memory import peak_on_cpu

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def measure_memory(module, args, optimizer="adam"):
    """Return the peaks, in bytes, of a training step after the first, and of an inference."""
    module.train()
    stepper = OPTIMIZERS[optimizer](module.parameters(), foreach=False)
    step(module, args, stepper)
    state = list(tensors_in(list(stepper.state.values())))
    resident = _bytes([*module.parameters(), *module.buffers(), *tensors_in(args)])
    training = resident + _bytes(state) + peak_on_cpu(lambda: step(module, args, stepper))
    module.eval()

    def infer():
        without_gradients(lambda: module(*args))

    infer()
    return training, resident + peak_on_cpu(infer)


def step(module, args, stepper):
    outputs = module(*args)  # held, as a training loop does
    losses = [each.sum().real for each in tensors_in(outputs) if each.requires_grad]
    sum(losses[1:], losses[0]).backward()
    stepper.step()
    stepper.zero_grad(set_to_none=True)


def _bytes(tensors):
    return sum(
        {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}.values()
    )
