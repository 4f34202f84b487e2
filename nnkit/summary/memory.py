"""How much memory a training step and an inference need, found without weights, data or arithmetic.

The model runs on fake tensors, which have a shape, a dtype and a storage of a size, and no memory; a
dispatch mode watches the storages come and go. What a kernel takes and gives back inside one call can't
be watched: for the kernels in which that is much, kernels.py has formulas.
"""

import copy
import logging
import math
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, UntypedStorage, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from nnkit.errors import NnkitError, UsageProblem, did_you_mean
from nnkit.hookspecs import OPTIMIZERS
from nnkit.process import random_states_kept
from nnkit.summary.kernels import DOUBTS, STAND_INS, TEMPORARIES
from nnkit.summary.report import Memory
from nnkit.tensors import tensors_in

MEASURABLE = 2 * 2**30  # bytes of parameters, up to which a model that needs values is run for real
EXACTNESS = 0.02  # of a peak: what might be off by more is told
MEASURED = "measured in a run on the CPU: "  # the note on what fake tensors can't tell, before the reason
CUDA_BLOCK = 512  # bytes, to a multiple of which CUDA's caching allocator rounds every request

aten = torch.ops.aten
T = TypeVar("T")


class Observer(Protocol):
    """Watches a training step."""

    def forward(self, live: "LiveStorages") -> AbstractContextManager[object]:
        """Return what is entered around its forward."""

    def backward(self) -> AbstractContextManager[object]:
        """Return what is entered around the backward pass."""

    def save(self, size: int) -> None:
        """Take note that a storage of so many bytes is kept for backward."""


class LiveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages made while it is entered, and of those that it is shown.

    live: the bytes alive now. peak: the most there were since the start, or since `reset_peak`, with the
    temporaries of kernels that have a formula. at_most: the same, if kernels of which that isn't certain
    take all that they may. block: storages count as multiples of that many bytes.
    """

    def __init__(self, block: int = 1, temporaries: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = self.at_most = 0
        self.block, self.temporaries = block, temporaries
        self._sizes: dict[int, int] = {}
        self._watches: dict[int, weakref.ref[UntypedStorage]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import torch._dynamo for a compiler that never runs here

    def reset_peak(self) -> None:
        """Begin the peak anew, at what is alive."""
        self.peak = self.at_most = self.live

    def add(self, tensor: Tensor) -> None:
        """Count the storage of `tensor` from now on, at the size that it has now."""
        for part in _strided_parts(tensor):
            storage = part.untyped_storage()
            key = id(storage)  # torch keeps the Python object of a storage as long as the storage lives
            if key not in self._sizes:
                self._watches[key] = weakref.ref(storage, partial(self._forget, key))
            self._resize(key, self._rounded(storage))

    def size_of(self, tensor: Tensor) -> int:
        """Return the bytes that the storage of `tensor` counts for."""
        return sum(self._sizes.get(id(part.untyped_storage()), 0) for part in _strided_parts(tensor))

    def resized(self, storage: UntypedStorage) -> None:
        """Count a storage at the size that it has now, where it is counted."""
        if id(storage) in self._sizes:
            self._resize(id(storage), self._rounded(storage))
            self.note_peak()

    def note_peak(self, more: int = 0) -> None:
        """Take note that there are so many bytes more than the storages take, for the moment."""
        self.peak = max(self.peak, self.live + more)
        self.at_most = max(self.at_most, self.live + more)

    def _rounded(self, storage: UntypedStorage) -> int:
        return math.ceil(storage.nbytes() / self.block) * self.block

    def _resize(self, key: int, size: int) -> None:
        self.live += size - self._sizes.get(key, 0)
        self._sizes[key] = size

    def _forget(self, key: int, _: object) -> None:
        del self._watches[key]
        self.live -= self._sizes.pop(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        stand_in = STAND_INS.get(func) if args and isinstance(args[0], FakeTensor) else None
        result = stand_in(args) if stand_in else func(*args, **kwargs)
        if _accumulates(func, args):
            self._resize(id(args[0].untyped_storage()), 0)
        for tensor in tensors_in(result):
            self.add(tensor)
        formula = TEMPORARIES.get(func._overloadpacket) if self.temporaries else None
        now = self.live + (formula(args, result) if formula else 0)
        self.peak = max(self.peak, now)
        doubt = DOUBTS.get(func._overloadpacket) if self.temporaries else None
        self.at_most = max(self.at_most, now + (doubt(args) if doubt else 0))
        return result


def _strided_parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors that hold the memory of `tensor`: itself, unless it is sparse."""
    tensor = getattr(tensor, "_local_tensor", tensor)  # a DTensor has this rank's shard and nothing else
    match tensor.layout:
        case torch.strided:
            return (tensor,)
        case torch.sparse_coo:
            return tensor._indices(), tensor._values()
        case torch.sparse_csr | torch.sparse_bsr:
            return tensor.crow_indices(), tensor.col_indices(), tensor.values()
        case torch.sparse_csc | torch.sparse_bsc:
            return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
        case _:
            return ()


def _accumulates(func: Any, args: Any) -> bool:
    """Whether autograd adds up two gradients of one tensor here, the first of which it alone holds.

    It does that in place, but not while a dispatch mode is on: then the first of them outlives the sum.
    """
    return bool(
        func is aten.add.Tensor
        and torch._C._current_autograd_node() is not None
        and not torch.is_grad_enabled()
        and isinstance(args[1], Tensor)
        and args[0].shape == args[1].shape
        and args[0].layout == torch.strided
        # the tensor, and the Python object of the storage
        and torch._C._storage_Use_Count(args[0].untyped_storage()._cdata) == 2
    )


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
    has less than 2 GiB of parameters and its inputs have values; otherwise NnkitError is raised.

    On "cpu" the peaks were within 2 % of what torch's allocator counted, for the models in
    tests/benchmarks/bench_memory.py. On "cuda" no figure has been compared to a GPU's: left out are
    CUDA's context, the workspaces of cuDNN and cuBLAS and the allocator's fragmentation.
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

    Raises NnkitError where neither can be, and UsageProblem for an unknown optimizer.
    """
    if optimizer not in OPTIMIZERS:
        hint = did_you_mean(optimizer, OPTIMIZERS) or f"choose one of {', '.join(OPTIMIZERS)}"
        raise UsageProblem(f"there is no optimiser {optimizer}", hint)
    weights = [*module.parameters(), *module.buffers()]
    if any(is_lazy(each) for each in weights):
        raise NnkitError("the parameters have no shape yet", "run the module once, then ask again")
    with _undisturbed():
        try:
            return on_fakes()
        except Exception as problem:
            reason = _in_words(problem)
            lacking = any(each.is_meta for each in tensors_in((args, kwargs)))
            if lacking or sum(each.nbytes for each in weights) > MEASURABLE:
                raise NnkitError(
                    f"its memory can't be told without a run: {reason}",
                    "give inputs with values, of a model of less than 2 GiB",
                ) from problem
        try:
            return for_real(reason)
        except Exception as problem:
            raise NnkitError(
                f"a training step failed: {_in_words(problem)}",
                "look at the sizes and the dtype of the inputs",
            ) from problem


def _in_words(problem: Exception) -> str:
    if isinstance(problem, (DataDependentOutputException, DynamicOutputShapeException)):
        return f"{problem.func} needs values"
    return f"{type(problem).__name__}: {' '.join(str(problem).split())}"


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
    if any(isinstance(each, nn.RNNBase) for each in module.modules()):
        yield "what recurrent kernels work with is estimated, to a few percent"


def _for_real(
    module: nn.Module, args: Any, kwargs: Any, optimizer: str, observer: Observer | None, reason: str
) -> Memory:
    with LiveStorages() as live:
        twin = Twin(module, args, kwargs, real, optimizer, foreach=False)
        return twin.needs(live, observer, "cpu", MEASURED + reason)


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
        for each in module.modules():  # plain tensors in attributes are shared: nothing writes to them
            memo |= {id(tensor): tensor for tensor in tensors_in(vars(each))}
        memo |= {id(buffer): make(buffer) for buffer in module.buffers()}
        for parameter in module.parameters():
            memo[id(parameter)] = nn.Parameter(make(parameter), requires_grad=parameter.requires_grad)
        self.module = copy.deepcopy(module, memo)
        self.args, self.kwargs = tree_map_only(Tensor, make, (args, kwargs))
        kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        self.optimizer, self.kind, self.foreach = optimizer, kinds[optimizer], foreach

    def needs(self, live: LiveStorages, observer: Observer | None, device: str, note: str) -> Memory:
        """Train it a step, run it once, and return what that needed."""
        inputs = list(tensors_in((self.args, self.kwargs)))
        residents = [*self.module.parameters(), *self.module.buffers(), *inputs]
        for each in residents:
            live.add(each)
        resident = live.live
        try:
            training = self._train(live, observer, {id(part.untyped_storage()) for part in _parts(residents)})
        except _Untrainable as reason:
            training = dict.fromkeys(("gradients", "optimizer_state", "saved", "training_peak"), 0)
            note = "; ".join(filter(None, (note, str(reason))))
        else:
            if live.at_most > (1 + EXACTNESS) * live.peak:
                more = (live.at_most - live.peak) / 2**20
                caution = f"backward through a convolution of few channels may need up to {more:.1f} MiB more"
                note = "; ".join(filter(None, (note, caution)))
        return Memory(
            device=device,
            optimizer=self.optimizer,
            parameters=storage_bytes(self.module.parameters()),
            buffers=storage_bytes(self.module.buffers()),
            inputs=storage_bytes(inputs),
            **training,
            inference_peak=resident + self._inference(live),
            note=note,
        )

    def _train(self, live: LiveStorages, observer: Observer | None, residents: set[int]) -> dict[str, int]:
        trainable = [each for each in self.module.parameters() if each.requires_grad]
        if not trainable:
            raise _Untrainable("not trained: none of its parameters is trainable")
        self.module.train()
        stepper = self.kind(trainable, foreach=self.foreach)
        for each in trainable:
            each.grad = torch.zeros_like(each)
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
        losses = [each.sum() for each in tensors_in(outputs) if each.requires_grad]
        if not losses:
            raise _Untrainable("not trained: nothing that it returns can be differentiated")
        with observer.backward() if observer else nullcontext():
            sum(losses[1:], losses[0]).backward()  # type: ignore[no-untyped-call]
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
        """Return the bytes that a forward in eval mode needs beyond what is there before."""
        self.module.eval()
        live.reset_peak()
        before = live.live
        with torch.no_grad():  # under inference_mode a dispatch mode sees composite operators whole
            self.module(*self.args, **self.kwargs)
        return live.peak - before


def _parts(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    return (part for each in tensors for part in _strided_parts(each))


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of the storages of `tensors`, each counted once."""
    storages = (part.untyped_storage() for part in _parts(tensors))
    return sum({id(storage): storage.nbytes() for storage in storages}.values())
