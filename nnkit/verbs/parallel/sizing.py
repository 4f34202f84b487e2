"""How much memory each rank needs for a training step with fully_shard, estimated without starting ranks.

The collectives of a fake process group move nothing, and fake tensors have no memory. What is left are the
storages that one rank makes and frees, which are tracked as for a single process.
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
from nnkit.verbs.parallel.strategies import find_called, shard
from nnkit.verbs.summary.memory import CUDA_BLOCK, MEASURED, copy_to_cpu, find_doubts, try_fakes_first
from nnkit.verbs.summary.report import Sharded
from nnkit.verbs.summary.storages import LiveStorages
from nnkit.verbs.summary.twin import Twin


class ShardedStorages(LiveStorages):  # type: ignore[no-untyped-call]
    """Counts the storages of one rank: the shards of DTensors, and the parameters that are gathered now.

    gathered: the most bytes of gathered parameters at any one time.
    """

    def __init__(self, block: int = 1, temporaries: bool = True) -> None:
        super().__init__(block, temporaries)
        self.gathered = 0
        self._gathered_storages: dict[int, UntypedStorage] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(tensor_type, DTensor) for tensor_type in types):
            return NotImplemented  # DTensor then calls the operator on the shards, which comes here
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if func is torch.ops.c10d._reduce_scatter_base_.default and self.temporaries:
            self.note_peak(args[1].nbytes)  # gloo reduces a copy of what it then scatters
        return result

    def size_of(self, tensor: Tensor) -> int:
        """Return the bytes that a tensor keeps for backward: none for a gathered parameter."""
        return 0 if id(tensor.untyped_storage()) in self._gathered_storages else super().size_of(tensor)

    @contextmanager
    def watching_resizes(self) -> Iterator[None]:
        """Track the memory of gathered parameters, which fully_shard resizes without an operator."""
        resize = UntypedStorage.resize_

        def resize_(storage: UntypedStorage, size: int) -> Any:
            result = resize(storage, size)
            self._gathered_storages[id(storage)] = storage
            self.resized(storage)
            self.gathered = max(
                self.gathered, sum(stored.nbytes() for stored in self._gathered_storages.values())
            )
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
    """Return the memory that rank 0 of `ranks` needs to train and run `module` on its own inputs like these.

    Parameters, buffers and inputs may have values or not. `module` itself isn't run or changed. A model that
    needs values is run on the CPU, on a copy, as in `estimate_memory`. Raises NnkitError where both fail.

    On one of two real gloo ranks, the measured peaks of the models in tests/verbs/parallel/measured.py were
    within 1 % of this when gloo's threads freed their copies in time, and up to two blocks higher otherwise.
    """
    if ranks < 1:
        raise UsageProblem(f"--fsdp needs one rank or more, got {ranks}", "for example: --fsdp 8")
    on_cuda = torch.device(device).type == "cuda"

    def on_fakes() -> Sharded:
        live = ShardedStorages(CUDA_BLOCK, temporaries=False) if on_cuda else ShardedStorages()
        with FakeTensorMode(allow_non_fake_inputs=True), live:
            twin = Twin(module, args, dict(kwargs), _make_fake, optimizer, foreach=on_cuda)
            return _measure_rank(twin, mesh, live, device, "; ".join(find_doubts(module, simulated=on_cuda)))

    def for_real(reason: str) -> Sharded:
        with ShardedStorages() as live:
            twin = Twin(module, args, dict(kwargs), copy_to_cpu, optimizer, foreach=False)
            return _measure_rank(twin, mesh, live, "cpu", MEASURED + reason)

    with _fake_world(ranks) as mesh:
        return try_fakes_first(module, args, kwargs, optimizer, on_fakes, for_real)


def _measure_rank(twin: Twin, mesh: DeviceMesh, live: ShardedStorages, device: str, note: str) -> Sharded:
    """Shard a twin, train it, and return how much memory this rank needed."""
    blocks = shard(twin.module, mesh, find_called(twin.module, *twin.args, **twin.kwargs))
    with live.watching_resizes():
        twin.measure(live, None, device, note)  # the first step allocates what later ones reuse
        twin.module.reshard()  # type: ignore[operator]
        live.gathered = 0
        memory = twin.measure(live, None, device, note)
    return Sharded(mesh.size(), tuple(blocks), live.gathered, memory)


def _make_fake(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")


@contextmanager
def _fake_world(ranks: int) -> Iterator[DeviceMesh]:
    """Make this process rank 0 of a world without any other process."""
    if dist.is_initialized():
        raise UsageProblem(
            "a process group is already initialized", "use a separate process: nnkit summary … --fsdp N"
        )
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
    try:
        yield init_device_mesh("cpu", (ranks,))
    finally:
        dist.destroy_process_group()
