"""How much memory a training step and an inference need, found without weights, data or arithmetic.

The model runs on fake tensors, which have a shape, a dtype and a storage of a size, and no memory; a
dispatch mode watches the storages come and go. What a kernel takes and gives back inside one call can't
be watched: scratch.py has a rule for each operator. An operator without one is named in the note.
"""

import copy
import logging
import textwrap
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_map_only

from nnkit.contract.requests import OPTIMIZERS
from nnkit.errors import NoEstimate, UsageProblem, did_you_mean, first_line
from nnkit.models.members import named_buffers, named_modules, named_parameters, set_mode
from nnkit.models.process import random_states_kept
from nnkit.models.running import without_gradients
from nnkit.models.tensors import bytes_of, tensors_in
from nnkit.verbs.summary.report import Memory
from nnkit.verbs.summary.storages import LiveStorages, parts_of, storage_bytes
from nnkit.verbs.summary.tracing import uncompiled

MEASURABLE = 2 * 2**30  # bytes of parameters, up to which a model that needs values is run for real
MEASURED = "measured in a run on the CPU: "  # the note on what fake tensors can't tell, before the reason
LONGEST_REASON = 200  # characters of an error in a note
CUDA_BLOCK = 512  # bytes, to a multiple of which CUDA's caching allocator rounds every request

T = TypeVar("T")


class Observer(Protocol):
    """Watches a training step."""

    def forward(self, live: "LiveStorages") -> AbstractContextManager[object]:
        """Return what is entered around its forward."""

    def backward(self) -> AbstractContextManager[object]:
        """Return what is entered around the backward pass."""

    def save(self, size: int) -> None:
        """Take note that a storage of so many bytes is kept for backward."""


def estimate_memory(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    optimizer: str = "adam",
    device: str = "cpu",
    observer: Observer | None = None,
) -> Memory:
    """Return what training and running `module` on these inputs needs, by a run on fake tensors.

    Parameters, buffers and inputs may have values or not; `module` itself isn't run and stays as it is.

    A model that can't run without values (`nonzero`, `item`) is run for real on the CPU, on a copy, if it
    has less than 2 GiB of parameters and its inputs have values; its peaks are what torch's allocator counts.
    Raises NoEstimate, whose message is one sentence, where that can't be either or a training step fails.

    On "cpu" the peaks were within 2 % of what torch's allocator counted, or the note names what may be off,
    for the models of tests/benchmarks/bench_memory.py and the layers of its --sweep. On "cuda" no figure has
    been compared to a GPU's: left out are CUDA's context, the workspaces of cuDNN and cuBLAS and the
    allocator's fragmentation.
    """
    return without_values(
        module, args, kwargs, optimizer,
        on_fakes=lambda: _on_fakes(module, args, kwargs, optimizer, device, observer),
        for_real=lambda reason: _for_real(module, args, kwargs, optimizer, observer, reason),
    )  # fmt: skip


def without_values(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    optimizer: str,
    on_fakes: Callable[[], T],
    for_real: Callable[[str], T],
) -> T:
    """Return what a run on fake tensors tells; where there can't be one, a real run that is given the reason.

    Raises NoEstimate where neither can be, and UsageProblem for an unknown optimizer.
    """
    if optimizer not in OPTIMIZERS:
        hint = did_you_mean(optimizer, OPTIMIZERS) or f"choose one of {', '.join(OPTIMIZERS)}"
        raise UsageProblem(f"there is no optimiser {optimizer}", hint)
    weights = [*named_parameters(module).values(), *named_buffers(module).values()]
    if any(is_lazy(each) for each in weights):
        raise NoEstimate("the parameters have no shape yet", "run the module once, then ask again")
    with _undisturbed():
        try:
            return on_fakes()
        except Exception as problem:
            reason = _in_words(problem)
            lacking = any(each.is_meta for each in tensors_in((args, kwargs)))
            if lacking or sum(bytes_of(each) for each in weights) > MEASURABLE:
                raise NoEstimate(
                    f"its memory can't be estimated without a run: {reason}",
                    "give inputs with values, of a model of less than 2 GiB",
                ) from problem
        try:
            return for_real(reason)
        except Exception as problem:
            raise NoEstimate(
                f"a training step failed: {_in_words(problem)}",
                "look at the sizes and the dtype of the inputs",
            ) from problem


def _in_words(problem: Exception) -> str:
    if isinstance(problem, (DataDependentOutputException, DynamicOutputShapeException)):
        return f"{problem.func} needs values"
    return (
        f"{type(problem).__name__}: {textwrap.shorten(first_line(problem), LONGEST_REASON, placeholder='…')}"
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Leave the random state as it is; repeat none of the model's warnings, for it has run before."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    disabled, logger.disabled = logger.disabled, True
    try:
        with ExitStack() as stack:
            stack.enter_context(random_states_kept())
            stack.enter_context(warnings.catch_warnings())
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(uncompiled())
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled


def _on_fakes(
    module: nn.Module, args: Any, kwargs: Any, optimizer: str, device: str, observer: Observer | None
) -> Memory:
    on_cuda = torch.device(device).type == "cuda"
    simulated = on_cuda and not torch.backends.cuda.is_built()  # type: ignore[no-untyped-call]
    place = "cpu" if simulated else device

    def fake(tensor: Tensor) -> Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=place)

    live = LiveStorages(CUDA_BLOCK, temporaries=False) if on_cuda else LiveStorages()
    with FakeTensorMode(allow_non_fake_inputs=True), live:
        twin = Twin(module, args, kwargs, fake, optimizer, on_cuda)
        return twin.needs(live, observer, device, "; ".join(doubts_of(module, simulated)))


def doubts_of(module: nn.Module, simulated: bool) -> Iterator[str]:
    """Yield why figures that come from a run on fake tensors may not be exact."""
    if simulated:
        yield "computed with the CPU's kernels, for this torch has none for CUDA"
    if any(isinstance(each, nn.RNNBase) for each in named_modules(module).values()):
        yield "what recurrent kernels work with is estimated, to a few percent"


def _for_real(
    module: nn.Module, args: Any, kwargs: Any, optimizer: str, observer: Observer | None, reason: str
) -> Memory:
    with LiveStorages(temporaries=False) as live:
        twin = Twin(module, args, kwargs, real, optimizer, foreach=False)
        memory = twin.needs(live, observer, "cpu", MEASURED + reason)
    peaks = Twin(module, args, kwargs, real, optimizer, foreach=False).measured(memory)
    return replace(memory, training_peak=peaks[0], inference_peak=peaks[1])


def real(tensor: Tensor) -> Tensor:
    """Return a tensor on the CPU like this one, with its values where it has any."""
    return torch.zeros_like(tensor, device="cpu") if tensor.is_meta else tensor.detach().cpu().clone()


class _Untrainable(Exception):
    """There is no training step of this model at this size, for the reason given."""


class Twin:
    """A copy of a model and its inputs, of tensors that `make` makes from theirs."""

    def __init__(
        self,
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        make: Callable[[Tensor], Tensor],
        optimizer: str,
        foreach: bool,
    ) -> None:
        memo: dict[int, Any] = {}
        # Plain tensors in attributes are shared: nothing writes to them.
        for each in named_modules(module).values():
            memo |= {id(tensor): tensor for tensor in tensors_in(vars(each))}
        memo |= {id(buffer): make(buffer) for buffer in named_buffers(module).values()}
        for parameter in named_parameters(module).values():
            memo[id(parameter)] = nn.Parameter(make(parameter), requires_grad=parameter.requires_grad)
        self.module = copy.deepcopy(module, memo)
        self.args, self.kwargs = tree_map_only(Tensor, make, (args, kwargs))
        kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        self.optimizer, self.kind, self.foreach = optimizer, kinds[optimizer], foreach

    def needs(self, live: LiveStorages, observer: Observer | None, device: str, note: str) -> Memory:
        """Train it a step, run it once, and return what that needed."""
        residents = list(self._residents())
        for tensor in residents:
            live.add(tensor)
        resident = live.live
        notes = [note]
        try:
            training = self._train(
                live, observer, {id(part.untyped_storage()) for part in parts_of(residents)}
            )
        except _Untrainable as reason:
            training = dict.fromkeys(("gradients", "optimizer_state", "saved", "training_peak"), 0)
            notes.append(str(reason))
        off_by = live.off_by() if training["training_peak"] else {}
        # Before the last run, after which fully_shard would leave whole parameters.
        weights = storage_bytes(named_parameters(self.module).values())
        inference = self._inference(live)
        for words, size in live.off_by().items():
            off_by[words] = max(size, off_by.get(words, 0))
        return Memory(
            device=device,
            optimizer=self.optimizer,
            parameters=weights,
            buffers=storage_bytes(named_buffers(self.module).values()),
            inputs=storage_bytes(tensors_in((self.args, self.kwargs))),
            **training,
            inference_peak=resident + inference,
            note="; ".join(filter(None, (*notes, *_cautions(off_by, live.unknown)))),
        )

    def measured(self, estimate: Memory) -> tuple[int, int]:
        """Train it and run it, and return the peaks that the CPU's allocator counts."""
        from nnkit.verbs.benchmarking.memory import peak_on_cpu  # it imports the profiler

        resident, training = storage_bytes(self._residents()), 0
        if estimate.training_peak:
            stepper = self._stepper()
            self._step(stepper)  # from the second step on, all are alike
            state = storage_bytes(tensors_in(list(stepper.state.values())))
            training = resident + state + peak_on_cpu(lambda: self._step(stepper))
        return training, resident + peak_on_cpu(self._run)

    def _residents(self) -> Iterator[Tensor]:
        yield from named_parameters(self.module).values()
        yield from named_buffers(self.module).values()
        yield from tensors_in((self.args, self.kwargs))

    def _trainable(self) -> list[Tensor]:
        return [each for each in named_parameters(self.module).values() if each.requires_grad]

    def _stepper(self) -> torch.optim.Optimizer:
        """Return the optimizer of its parameters, in training mode."""
        set_mode(self.module, training=True)
        trainable = self._trainable()
        if not trainable:
            raise _Untrainable("not trained: none of its parameters is trainable")
        stepper: torch.optim.Optimizer = self.kind(trainable, foreach=self.foreach)
        return stepper

    def _step(self, stepper: torch.optim.Optimizer) -> None:
        outputs = self.module(*self.args, **self.kwargs)
        _differentiate(outputs)
        stepper.step()
        stepper.zero_grad(set_to_none=True)

    def _train(self, live: LiveStorages, observer: Observer | None, residents: set[int]) -> dict[str, int]:
        stepper = self._stepper()
        trainable = self._trainable()
        for parameter in trainable:
            parameter.grad = torch.zeros_like(parameter)
        stepper.step()
        stepper.zero_grad(set_to_none=True)
        live.reset_peak()
        saved: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            key = id(tensor.untyped_storage())
            if key not in residents and key not in saved:
                saved[key] = live.size_of(tensor)
                if observer:
                    observer.save(saved[key])
            return tensor

        try:
            watching = observer.forward(live) if observer else nullcontext()
            with watching, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                outputs = self.module(*self.args, **self.kwargs)
        except ValueError as problem:
            if "more than 1 value per channel" not in str(problem):
                raise
            raise _Untrainable("not trained: batch norm needs more than one value per channel") from None
        with observer.backward() if observer else nullcontext():
            _differentiate(outputs)
        gradients = [each.grad for each in trainable if each.grad is not None]
        # A parameter without a gradient never gets a state either.
        idle = [stepper.state[each] for each in trainable if each.grad is None]
        idle_bytes = storage_bytes(tensors_in(idle))
        state = storage_bytes(tensors_in(list(stepper.state.values()))) - idle_bytes
        figures = {
            "gradients": storage_bytes(gradients),
            "optimizer_state": state,
            "saved": sum(saved.values()),
        }
        stepper.step()
        stepper.zero_grad(set_to_none=True)
        return {**figures, "training_peak": live.peak - idle_bytes}

    def _inference(self, live: LiveStorages) -> int:
        """Return the bytes that a forward in eval mode needs beyond what there is before."""
        live.reset_peak()
        before = live.live
        self._run()
        return live.peak - before

    def _run(self) -> None:
        """Run it in eval mode, with gradients only if it differentiates in its own forward."""
        set_mode(self.module, training=False)
        # Under inference_mode a dispatch mode would see composite operators whole.
        without_gradients(lambda: self.module(*self.args, **self.kwargs))


def _differentiate(outputs: Any) -> None:
    """Call backward on the sum of all that can be differentiated, of complex numbers the real part."""
    losses = [each.sum().real for each in tensors_in(outputs) if each.requires_grad]
    if not losses:
        raise _Untrainable("not trained: nothing that it returns can be differentiated")
    try:
        sum(losses[1:], losses[0]).backward()  # type: ignore[no-untyped-call]
    except RuntimeError as problem:
        if "backward through the graph a second time" not in str(problem):
            raise
        raise _Untrainable("not trained: its forward differentiates, and frees what backward needs") from None


def _cautions(off_by: Mapping[str, int], unknown: Collection[str]) -> Iterator[str]:
    """Yield what makes the peaks inexact: kernels that may need more or less, and those never measured."""
    for words, size in off_by.items():
        yield f"{words} may need up to {size / 2**20:.2f} MiB more or less"
    if unknown:
        yield f"left out is what these operators work with: {', '.join(sorted(unknown))}"
