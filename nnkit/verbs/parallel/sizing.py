"""What each rank of a world needs for a training step with fully_shard, estimated without the world.

The collectives of a fake process group move nothing, and fake tensors have no memory: what is left are
the storages that one rank makes and frees, which are watched as those of one process are.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, UntypedStorage, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from nnkit.errors import UsageProblem
from nnkit.verbs.parallel.strategies import called_with, shard
from nnkit.verbs.summary.memory import CUDA_BLOCK, MEASURED, copy_to_cpu, find_doubts, try_fakes_first
from nnkit.verbs.summary.report import Sharded
from nnkit.verbs.summary.storages import LiveStorages
from nnkit.verbs.summary.twin import Twin


class ShardedStorages(LiveStorages):  # type: ignore[no-untyped-call]
    """Counts the storages of one rank: of DTensors their shards, of whole parameters what is gathered now.

    gathered: the most bytes of whole parameters that there were at once.
    """

    def __init__(self, block: int = 1, temporaries: bool = True) -> None:
        super().__init__(block, temporaries)
        self.gathered = 0
        self._wholes: dict[int, UntypedStorage] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(each, DTensor) for each in types):
            return NotImplemented  # what it does with the shards comes here next
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if func is torch.ops.c10d._reduce_scatter_base_.default and self.temporaries:
            self.note_peak(args[1].nbytes)  # gloo reduces a copy of what it then scatters
        return result

    def size_of(self, tensor: Tensor) -> int:
        """Return the bytes that a storage counts for; that of a whole parameter isn't kept for backward."""
        return 0 if id(tensor.untyped_storage()) in self._wholes else super().size_of(tensor)

    @contextmanager
    def watching_resizes(self) -> Iterator[None]:
        """See fully_shard give whole parameters memory and take it back, which no operator does."""
        resize = UntypedStorage.resize_

        def resize_(storage: UntypedStorage, size: int) -> Any:
            result = resize(storage, size)
            self._wholes[id(storage)] = storage
            self.resized(storage)
            self.gathered = max(self.gathered, sum(each.nbytes() for each in self._wholes.values()))
            return result

        UntypedStorage.resize_ = resize_  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            UntypedStorage.resize_ = resize  # type: ignore[method-assign]


def estimate_sharded(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    ranks: int,
    optimizer: str = "adamw",
    device: str = "cpu",
) -> Sharded:
    """Return what rank 0 of `ranks` needs to train and run `module` on inputs like these of its own.

    Parameters, buffers and inputs may have values or not; `module` itself isn't run and stays as it is.
    A model that can't run without values is run for real on the CPU, on a copy, as by `estimate_memory`.
    Raises NnkitError where neither can be.

    On "cpu" the peak was within 1 % of what torch's allocator counted on a rank of two over gloo, for the
    models in tests/verbs/parallel/measured.py, when gloo's threads freed their copies in time; otherwise
    up to two blocks more were held.
    """
    if ranks < 1:
        raise UsageProblem(f"a world has one rank or more, got {ranks}", "for example: --fsdp 8")
    on_cuda = torch.device(device).type == "cuda"

    def on_fakes() -> Sharded:
        live = ShardedStorages(CUDA_BLOCK, temporaries=False) if on_cuda else ShardedStorages()
        with FakeTensorMode(allow_non_fake_inputs=True), live:
            twin = Twin(module, args, dict(kwargs), _fake, optimizer, foreach=on_cuda)
            return _of_rank(twin, mesh, live, device, "; ".join(find_doubts(module, simulated=on_cuda)))

    def for_real(reason: str) -> Sharded:
        with ShardedStorages() as live:
            twin = Twin(module, args, dict(kwargs), copy_to_cpu, optimizer, foreach=False)
            return _of_rank(twin, mesh, live, "cpu", MEASURED + reason)

    with _world_of(ranks) as mesh:
        return try_fakes_first(module, args, kwargs, optimizer, on_fakes, for_real)


def _of_rank(twin: Twin, mesh: DeviceMesh, live: ShardedStorages, device: str, note: str) -> Sharded:
    """Shard a twin, train it, and return what that needed of this rank."""
    blocks = shard(twin.module, mesh, called_with(twin.module, *twin.args, **twin.kwargs))
    with live.watching_resizes():
        twin.measure(live, None, device, note)  # the first step makes what all others use again
        twin.module.reshard()  # type: ignore[operator]
        live.gathered = 0
        memory = twin.measure(live, None, device, note)
    return Sharded(mesh.size(), tuple(blocks), live.gathered, memory)


def _fake(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")


@contextmanager
def _world_of(ranks: int) -> Iterator[DeviceMesh]:
    """Make this process rank 0 of a world without other processes."""
    if dist.is_initialized():
        raise UsageProblem(
            "a process group is already initialized", "run it in a separate process: nnkit summary"
        )
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
    try:
        yield init_device_mesh("cpu", (ranks,))
    finally:
        dist.destroy_process_group()
