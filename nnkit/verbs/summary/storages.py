"""The storages alive while a model runs, and the memory that operators need besides.

Who holds a storage? It matters where autograd adds up two gradients of one tensor:

    y = x * a + x * b        # backward makes g1 for the first use of x, g2 for the second, and adds them

Without a dispatch mode the sum is written over g1, if nobody else holds g1. Under a mode autograd never works
in place: it makes a third tensor while g1 is still alive. Counted as it happens, the peak would be one that a
user's run never has. So `LiveStorages` takes g1 off the count where plain torch would have written over it.

The test is the number of references to g1's storage. Two always exist: the tensor that the mode is given, and
the storage's Python object, which torch keeps for as long as the storage lives. A third means that somebody
else holds it (the model's author, a hook, a saved tensor), and then torch wouldn't write over it either.
"""

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
from nnkit.verbs.summary.modes import device_of_fake
from nnkit.verbs.summary.scratch import doubts_of, scratch, short_name

EXACTNESS = 0.02  # of a peak: what may be off by more is reported
OWN_REFERENCES = 2  # to a storage: the tensor that a mode is given, and the storage's Python object

aten = torch.ops.aten


class LiveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages made while it is entered, and of those that it is shown.

    live: the bytes alive now. peak: the most bytes since the start, or since `reset_peak`; with `temporaries`
    it includes what operators need within a call. unknown: operators for which that isn't known.
    block: storages count as multiples of this many bytes.
    """

    supports_higher_order_operators = True

    def __init__(self, block: int = 1, temporaries: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self.unknown: set[str] = set()
        self._worst_peaks: dict[str, int] = {}  # by kernel: the peak if its rule is off by the most it can be
        self.block, self.temporaries = block, temporaries
        self._sizes: dict[int, int] = {}
        self._watches: dict[int, weakref.ref[UntypedStorage]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import torch._dynamo for a compiler that never runs here

    def reset_peak(self) -> None:
        """Restart the peak from what is alive now."""
        self.peak = self.live
        self._worst_peaks = {}

    def add(self, tensor: Tensor) -> None:
        """Count the storage of `tensor` from now on, at its present size."""
        for part in _dense_parts(tensor):
            storage = part.untyped_storage()
            key = id(storage)  # torch keeps the Python object of a storage as long as the storage lives
            if key not in self._sizes:
                self._watches[key] = weakref.ref(storage, partial(self._forget, key))
            self._resize(key, self._rounded(storage))

    def hold(self, size: int) -> None:
        """Count this many bytes more from now on, of storages that nobody made."""
        self.live += size
        self.note_peak()

    def size_of(self, tensor: Tensor) -> int:
        """Return the bytes that the storage of `tensor` counts for."""
        return sum(self._sizes.get(id(part.untyped_storage()), 0) for part in _dense_parts(tensor))

    def resized(self, storage: UntypedStorage) -> None:
        """Count a storage at its present size, if it is counted at all."""
        if id(storage) in self._sizes:
            self._resize(id(storage), self._rounded(storage))
            self.note_peak()

    def note_peak(self, temporary: int = 0) -> None:
        """Update the peak, with `temporary` bytes in use beside the storages for the moment."""
        self.peak = max(self.peak, self.live + temporary)

    def inexact(self) -> dict[str, int]:
        """Return by how many bytes the peak may be off, by kernel, if that is more than EXACTNESS."""
        limit = (1 + EXACTNESS) * self.peak
        return {kernel: worst - self.peak for kernel, worst in self._worst_peaks.items() if worst > limit}

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
        if func is torch.ops.prim.device.default:
            return device_of_fake(func, args)
        stand_in = STAND_INS.get(func) if args and isinstance(args[0], FakeTensor) else None
        result = stand_in(args) if stand_in else func(*args, **kwargs)
        if _would_reuse_first(func, args):
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
        temporary = scratch(func, args, result)
        if temporary is None:
            self.unknown.add(short_name(func))
            temporary = 0
        self.note_peak(temporary)
        for doubt in doubts_of(func):
            if size := doubt.size(args):
                worst = self.live + temporary + size
                self._worst_peaks[doubt.kernel] = max(self._worst_peaks.get(doubt.kernel, 0), worst)


def _dense_parts(tensor: Tensor) -> tuple[Tensor, ...]:
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


def _would_reuse_first(func: Any, args: Any) -> bool:
    """Whether plain torch would write the result over the first operand; see the top of this file.

    Autograd does so when it adds up gradients, and when it writes a gradient into zeros that it just made.
    """
    in_backward = torch._C._current_autograd_node() is not None and not torch.is_grad_enabled()
    if not in_backward or not _accumulates(func, args):
        return False
    first: Tensor = args[0]
    if first.layout != torch.strided:
        return False
    return bool(torch._C._storage_Use_Count(first.untyped_storage()._cdata) == OWN_REFERENCES)


def _accumulates(func: Any, args: Any) -> bool:
    if func is not aten.add.Tensor:
        return func in ACCUMULATING
    first, second = args[:2]
    return isinstance(second, Tensor) and first.shape == second.shape


def parts_of(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the dense tensors that hold the memory of `tensors`."""
    return (part for tensor in tensors for part in _dense_parts(tensor))


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of the storages of `tensors`, each counted once."""
    storages = (part.untyped_storage() for part in parts_of(tensors))
    return sum({id(storage): storage.nbytes() for storage in storages}.values())
