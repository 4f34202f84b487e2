"""The storages alive while a model runs: how many bytes they are, and what operators take beside them."""

import math
import weakref
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch._ops import HigherOrderOperator
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from nnkit.models.tensors import tensors_in
from nnkit.verbs.summary.kernels import STAND_INS
from nnkit.verbs.summary.scratch import doubts_of, scratch, short_name

EXACTNESS = 0.02  # of a peak: what may be off by more is reported

aten = torch.ops.aten


class LiveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages made while it is entered, and of those that it is shown.

    live: the bytes alive now. peak: the most there were since the start, or since `reset_peak`, with what
    operators take within a call where `temporaries` count. unknown: operators of which nobody knows that.
    block: storages count as multiples of that many bytes.
    """

    supports_higher_order_operators = True

    def __init__(self, block: int = 1, temporaries: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self.unknown: set[str] = set()
        self._doubtful: dict[str, int] = {}  # the peak if a kernel is off by all that it may be, by its words
        self.block, self.temporaries = block, temporaries
        self._sizes: dict[int, int] = {}
        self._watches: dict[int, weakref.ref[UntypedStorage]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import torch._dynamo for a compiler that never runs here

    def reset_peak(self) -> None:
        """Begin the peak anew, at what is alive."""
        self.peak = self.live
        self._doubtful = {}

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

    def off_by(self) -> dict[str, int]:
        """Return by how many bytes the peak may be off, by what kernels that is, where it matters."""
        limit = (1 + EXACTNESS) * self.peak
        return {words: most - self.peak for words, most in self._doubtful.items() if most > limit}

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
        if _is_in_place(func, args):
            self._resize(id(args[0].untyped_storage()), 0)
        for tensor in tensors_in(result):
            self.add(tensor)
        if isinstance(func, HigherOrderOperator):
            self.unknown.add(str(func))
            self.note_peak()
        elif self.temporaries:
            self._note_scratch(func, args, result)
        else:
            self.note_peak()
        return result

    def _note_scratch(self, func: Any, args: Any, result: Any) -> None:
        taken = scratch(func, args, result)
        if taken is None:
            self.unknown.add(short_name(func))
        self.note_peak(taken or 0)
        for doubt in doubts_of(func):
            if size := doubt.size(args):
                most = self.live + (taken or 0) + size
                self._doubtful[doubt.words] = max(self._doubtful.get(doubt.words, 0), most)


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


ACCUMULATING = (
    aten.index_put.default,
    aten.index_add.default,
    aten.put.default,
    aten.scatter.src,
    aten.scatter.value,
    aten.scatter_add.default,
)


def _is_in_place(func: Any, args: Any) -> bool:
    """Whether autograd does this in place, but not while a dispatch mode is on.

    So it adds up two gradients of one tensor, and writes a gradient into zeros that it has just made. Under
    a mode the first operand, which nobody else holds, outlives the result.
    """
    if torch._C._current_autograd_node() is None or torch.is_grad_enabled():
        return False
    if func is aten.add.Tensor:
        added = isinstance(args[1], Tensor) and args[0].shape == args[1].shape
    else:
        added = func in ACCUMULATING
    return (
        added
        and args[0].layout == torch.strided
        # the tensor, and the Python object of the storage
        and torch._C._storage_Use_Count(args[0].untyped_storage()._cdata) == 2
    )


def parts_of(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    return (part for each in tensors for part in _strided_parts(each))


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of the storages of `tensors`, each counted once."""
    storages = (part.untyped_storage() for part in parts_of(tensors))
    return sum({id(storage): storage.nbytes() for storage in storages}.values())
