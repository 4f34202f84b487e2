"""The updates of a training step, simulated on a few parameters of each kind.

An operator on fake tensors takes some hundred times as long as a small one's arithmetic, and AdamW needs a
dozen for each parameter. But torch updates one parameter after the other, and parameters of one kind (shape,
strides, dtype) take the same memory. So one of each kind gets a state; for the others its bytes are counted.

The working memory also depends on what came before, for torch's loop keeps what it made for one parameter
until it has made the same for the next:

    for parameter in parameters:
        denominator = squares.sqrt() / correction  # made while that of the parameter before is alive

So an update runs only where two kinds stand side by side for the first time. Of the weights and biases
w, b, w, b, w, b, … these are the first three.

Real tensors, and those that know how to do an operator themselves, are each of their own kind.
"""

from collections.abc import Hashable, Iterator, Sequence

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from nnkit.models.tensors import tensors_in
from nnkit.verbs.summary.storages import LiveStorages, storage_bytes


class Updates:
    """The updates of an optimizer; what they need counts in `live`."""

    def __init__(self, optimizer: torch.optim.Optimizer, live: LiveStorages) -> None:
        self.optimizer, self.live = optimizer, live
        (self.group,) = optimizer.param_groups
        self.parameters: list[Tensor] = list(self.group["params"])
        self.firsts: dict[Tensor, Tensor] = {}
        """For each parameter the first one of its kind, which has a state for it."""
        self.held = 0  # bytes of the states that are only counted

    def make_states(self) -> None:
        """Have the optimizer make its states, by an update with gradients of zero."""
        firsts: dict[Hashable, Tensor] = {}
        for parameter in self.parameters:
            kind = id(parameter) if self.group["foreach"] else kind_of(parameter)
            self.firsts[parameter] = firsts.setdefault(kind, parameter)
        for parameter in firsts.values():
            parameter.grad = torch.zeros_like(parameter)
        self._step([*firsts.values()])
        self.optimizer.zero_grad(set_to_none=True)
        for parameter, first in self.firsts.items():
            if parameter is not first:
                self.optimizer.state[parameter] = self.optimizer.state[first]
                self._hold(self._size_of_state(first))

    def bytes_of_states(self, idle: bool) -> int:
        """Return the bytes of the states of all parameters with a gradient, or of the idle ones without."""
        sizes = {first: self._size_of_state(first) for first in {*self.firsts.values()}}
        return sum(sizes[first] for each, first in self.firsts.items() if (each.grad is None) == idle)

    def update(self) -> None:
        """Need as much memory as an update of all parameters does; then gradients and states are gone."""
        updated = [parameter for parameter in self.parameters if parameter.grad is not None]
        kinds = [(kind_of(parameter), kind_of(parameter.grad)) for parameter in updated]
        for start, end in [(0, len(updated))] if self.group["foreach"] else stretches(kinds):
            self._step(updated[start:end])
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        self._hold(-self.held)

    def _hold(self, size: int) -> None:
        self.held += size
        self.live.hold(size)

    def _step(self, parameters: list[Tensor]) -> None:
        self.group["params"] = parameters
        self.optimizer.step()
        self.group["params"] = self.parameters

    def _size_of_state(self, parameter: Tensor) -> int:
        return storage_bytes(tensors_in(self.optimizer.state[parameter]))


def kind_of(tensor: Tensor | None) -> Hashable:
    """Return what the memory of an update depends on, equal for tensors for which that is the same."""
    if type(tensor) is not FakeTensor or tensor.layout != torch.strided:
        return id(tensor)
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.is_conj()


def stretches(kinds: Sequence[Hashable]) -> Iterator[tuple[int, int]]:
    """Yield where stretches begin and end in which each two kinds that stand side by side do so once more.

    a a a b a a b   ->   a a, and a b a: from 0 to 2, and from 2 to 5
    """
    seen: set[tuple[Hashable, Hashable]] = set()
    start = end = 0
    for index, pair in enumerate(zip([None, *kinds], kinds, strict=False)):
        if pair in seen:
            continue
        seen.add(pair)
        if end < index:
            yield start, end
            start = index - 1
        end = index + 1
    if end:
        yield start, end
