"""A copy of a model that is trained one step and run once, to see what memory that takes."""

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from nnkit.models.members import named_buffers, named_modules, named_parameters, set_mode
from nnkit.models.running import without_gradients
from nnkit.models.tensors import tensors_in
from nnkit.verbs.summary.report import Memory
from nnkit.verbs.summary.storages import LiveStorages, parts_of, storage_bytes
from nnkit.verbs.summary.updates import Updates
from nnkit.verbs.training import (
    NO_DIFFERENTIABLE_OUTPUT,
    NO_TRAINABLE_PARAMETER,
    OPTIMIZER_CLASSES,
    Untrainable,
    explaining_batch_norm,
)


class Observer(Protocol):
    """Watches a training step."""

    def forward(self, live: LiveStorages) -> AbstractContextManager[object]:
        """Return the context for its forward."""

    def backward(self) -> AbstractContextManager[object]:
        """Return the context for its backward pass."""

    def save(self, size: int) -> None:
        """Record that a storage of `size` bytes is kept for backward."""


@dataclass(frozen=True)
class _TrainingBytes:
    """The bytes of a training step; all 0 for a model that can't be trained."""

    gradients: int = 0
    optimizer_state: int = 0
    saved: int = 0
    training_peak: int = 0


class Twin:
    """A copy of a model and its inputs, with each of their tensors replaced by `make(tensor)`."""

    def __init__(
        self,
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        make: Callable[[Tensor], Tensor],
        optimizer: str,
        foreach: bool,
    ) -> None:
        replacements: dict[int, Any] = {}
        # Plain tensors in attributes are shared: nothing writes to them.
        for submodule in named_modules(module).values():
            replacements |= {id(tensor): tensor for tensor in tensors_in(vars(submodule))}
        replacements |= {id(buffer): make(buffer) for buffer in named_buffers(module).values()}
        for parameter in named_parameters(module).values():
            replacement = nn.Parameter(make(parameter), requires_grad=parameter.requires_grad)
            replacements[id(parameter)] = replacement
        self.module = copy.deepcopy(module, replacements)
        self.args, self.kwargs = tree_map_only(Tensor, make, (args, kwargs))
        self.optimizer, self.foreach = optimizer, foreach

    def measure(self, live: LiveStorages, observer: Observer | None, device: str, note: str) -> Memory:
        """Train it one step, run it once, and return what that needed by the storages in `live`."""
        residents = list(self._residents())
        for tensor in residents:
            live.add(tensor)
        resident = live.live
        notes, training, inexact = [note], _TrainingBytes(), {}
        try:
            training = self._train(live, observer, residents)
            inexact = live.inexact()
        except Untrainable as reason:
            notes.append(f"not trained: {reason}")
        # Before the last run, after which fully_shard would leave whole parameters.
        parameters = storage_bytes(named_parameters(self.module).values())
        inference = self._run_in_eval_mode(live)
        for kernel, size in live.inexact().items():
            inexact[kernel] = max(size, inexact.get(kernel, 0))
        return Memory(
            device=device,
            optimizer=self.optimizer,
            parameters=parameters,
            buffers=storage_bytes(named_buffers(self.module).values()),
            inputs=storage_bytes(tensors_in((self.args, self.kwargs))),
            gradients=training.gradients,
            optimizer_state=training.optimizer_state,
            saved=training.saved,
            training_peak=training.training_peak,
            inference_peak=resident + inference,
            note="; ".join(filter(None, (*notes, *_cautions(inexact, live.unknown)))),
        )

    def measure_with_allocator(self, trains: bool) -> tuple[int, int]:
        """Return the peaks by the CPU's allocator: of training, 0 unless it `trains`, and of inference."""
        from nnkit.verbs.benchmarking.memory import peak_on_cpu  # it imports the profiler

        resident, training = storage_bytes(self._residents()), 0
        if trains:
            optimizer = self._make_optimizer()
            self._step(optimizer)  # from the second step on, all are alike
            state = storage_bytes(tensors_in(list(optimizer.state.values())))
            training = resident + state + peak_on_cpu(lambda: self._step(optimizer))
        return training, resident + peak_on_cpu(self._run)

    def _residents(self) -> Iterator[Tensor]:
        """Yield the tensors that exist before a step and after it."""
        yield from named_parameters(self.module).values()
        yield from named_buffers(self.module).values()
        yield from tensors_in((self.args, self.kwargs))

    def _trainable(self) -> list[Tensor]:
        return [parameter for parameter in named_parameters(self.module).values() if parameter.requires_grad]

    def _make_optimizer(self) -> torch.optim.Optimizer:
        """Return an optimizer of its parameters, and put it into training mode."""
        set_mode(self.module, training=True)
        trainable = self._trainable()
        if not trainable:
            raise Untrainable(NO_TRAINABLE_PARAMETER)
        optimizer: torch.optim.Optimizer = OPTIMIZER_CLASSES[self.optimizer](trainable, foreach=self.foreach)
        return optimizer

    def _step(self, optimizer: torch.optim.Optimizer) -> None:
        outputs = self.module(*self.args, **self.kwargs)  # held to the end, as a training loop does
        _differentiate(outputs)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _train(
        self, live: LiveStorages, observer: Observer | None, residents: Collection[Tensor]
    ) -> _TrainingBytes:
        """Return the bytes of a step after the first, so that the optimizer has its state already."""
        resident_storages = {id(part.untyped_storage()) for part in parts_of(residents)}
        updates = Updates(self._make_optimizer(), live)
        updates.make_states()
        live.reset_peak()
        outputs, saved = self._forward(live, observer, resident_storages)
        with observer.backward() if observer else nullcontext():
            _differentiate(outputs)
        gradients = [each.grad for each in self._trainable() if each.grad is not None]
        # Every parameter was given a state; one without a gradient never gets any.
        idle_bytes = updates.bytes_of_states(idle=True)
        training = _TrainingBytes(
            gradients=storage_bytes(gradients),
            optimizer_state=updates.bytes_of_states(idle=False),
            saved=saved,
        )
        updates.update()
        return replace(training, training_peak=live.peak - idle_bytes)

    def _forward(
        self, live: LiveStorages, observer: Observer | None, residents: Collection[int]
    ) -> tuple[Any, int]:
        """Return the outputs, and the bytes of the storages that are saved for backward and not resident."""
        saved: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = id(tensor.untyped_storage())
            if storage not in residents and storage not in saved:
                saved[storage] = live.size_of(tensor)
                if observer:
                    observer.save(saved[storage])
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        observing = observer.forward(live) if observer else nullcontext()
        with explaining_batch_norm(), observing, hooks:
            outputs = self.module(*self.args, **self.kwargs)
        return outputs, sum(saved.values())

    def _run_in_eval_mode(self, live: LiveStorages) -> int:
        """Return the bytes that a forward in eval mode needs beyond those alive before it."""
        live.reset_peak()
        before = live.live
        self._run()
        return live.peak - before

    def _run(self) -> None:
        """Run it in eval mode, with gradients only if it differentiates in its own forward."""
        set_mode(self.module, training=False)
        # Under inference_mode a dispatch mode would see composite operators in one piece.
        without_gradients(lambda: self.module(*self.args, **self.kwargs))


def _differentiate(outputs: Any) -> None:
    """Call backward on the sum of all outputs that can be differentiated; complex ones by their real part."""
    losses = [output.sum().real for output in tensors_in(outputs) if output.requires_grad]
    if not losses:
        raise Untrainable(NO_DIFFERENTIABLE_OUTPUT)
    try:
        sum(losses[1:], losses[0]).backward()  # type: ignore[no-untyped-call]
    except RuntimeError as problem:
        if "backward through the graph a second time" not in str(problem):
            raise
        raise Untrainable("forward itself differentiates, and frees what backward needs") from None


def _cautions(inexact: Mapping[str, int], unknown: Collection[str]) -> Iterator[str]:
    """Yield what makes the peaks inexact: kernels that may need more or less, and those never measured."""
    for kernel, size in inexact.items():
        yield f"{kernel} may need up to {size / 2**20:.2f} MiB more or less"
    if unknown:
        yield f"the working memory of these operators is unknown and left out: {', '.join(sorted(unknown))}"
