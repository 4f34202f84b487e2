"""How a model is spread over processes: replicated (ddp), sharded (fsdp), or each layer split (tp)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from nnkit.models.running import bind, without_gradients
from nnkit.models.sampling import Inputs


@dataclass(frozen=True)
class Spread:
    """A model over the ranks of a mesh.

    module: what is called. inner: what has the parameters, under the names that they always had.
    message: what was done.
    """

    module: nn.Module
    inner: nn.Module
    message: str


def spread(
    strategy: str, module: nn.Module, mesh: DeviceMesh, input_names: Sequence[str], inputs: Inputs
) -> Spread | None:
    """Spread `module` itself over the mesh; None where the strategy finds nothing in it to split."""
    args, keywords = bind(module, input_names, inputs)
    match strategy:
        case "ddp":
            return _replicated(module, mesh)
        case "fsdp":
            names = shard(module, mesh, called_with(module, *args, **keywords))
            blocks = f"{len(names)} blocks and the rest" if names else "all of it"
            return Spread(module, module, f"{blocks} sharded by fully_shard")
        case _:
            return _split(module, mesh, called_with(module, *args, **keywords))


def called_with(module: nn.Module, *args: Any, **kwargs: Any) -> set[str]:
    """Return the names of the modules that are called when `module` is; of others, weights are read."""
    called: set[str] = set()
    hooks = [
        each.register_forward_pre_hook(lambda *_, name=name: called.add(name))
        for name, each in module.named_modules()
    ]
    try:
        without_gradients(lambda: module(*args, **kwargs))
    finally:
        for hook in hooks:
            hook.remove()
    return called


def _replicated(module: nn.Module, mesh: DeviceMesh) -> Spread:
    # What a model leaves unused (its auxiliary heads, in eval mode) is no fault of it.
    wrapped = DistributedDataParallel(
        module, process_group=mesh.get_group(), find_unused_parameters=True,
        device_ids=None if mesh.device_type == "cpu" else [torch.accelerator.current_device_index()],
    )  # fmt: skip
    return Spread(wrapped, module, "replicated by DistributedDataParallel")


def shard(module: nn.Module, mesh: DeviceMesh, called: set[str]) -> list[str]:
    """Shard the blocks of `module`, then what is left of it; return the names of the blocks."""
    shared = _shared_parameters(module)
    blocks = {
        name: block
        for name, block in _blocks(module)
        if name in called and not any(id(each) in shared for each in block.parameters())
    }
    for block in blocks.values():
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return list(blocks)


def _blocks(module: nn.Module, prefix: str = "", listed: bool = False) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules with parameters that stand in a list or a sequence, the outermost of them."""
    if type(module) in (nn.Sequential, nn.ModuleList):
        listed = True
    elif listed:
        if next(module.parameters(), None) is not None:
            yield prefix, module
        return
    for name, child in module.named_children():
        yield from _blocks(child, f"{prefix}.{name}".lstrip("."), listed)


def _shared_parameters(module: nn.Module) -> set[int]:
    """Return the ids of the parameters that are registered more than once."""
    times = Counter(id(each) for _, each in module.named_parameters(remove_duplicate=False))
    return {key for key, count in times.items() if count > 1}


def _split(module: nn.Module, mesh: DeviceMesh, called: set[str]) -> Spread | None:
    shared = _shared_parameters(module)
    layers = {
        name: each for name, each in module.named_modules() if isinstance(each, (nn.Linear, nn.Embedding))
    }
    styles = {
        name: _style(each, mesh.size())
        for name, each in layers.items()
        if name in called and not any(id(parameter) in shared for parameter in each.parameters())
    }
    plan = {name: style for name, style in styles.items() if style is not None}
    if not plan:
        return None
    parallelize_module(module, mesh, plan)
    for name in plan:  # what it gives is a view, in which nothing may be changed in place
        layers[name].register_forward_hook(lambda layer, given, output: output.clone())
    return Spread(module, module, f"{len(plan)} of {len(layers)} Linear and Embedding layers split")


def _style(layer: nn.Linear | nn.Embedding, parts: int) -> ParallelStyle | None:
    """Return how a layer is split so that what it takes and gives is whole on every rank."""
    outputs, inputs = (
        (layer.out_features, layer.in_features)
        if isinstance(layer, nn.Linear)
        else (layer.embedding_dim, layer.num_embeddings)
    )
    if outputs % parts == 0:
        return ColwiseParallel(output_layouts=Replicate())
    if inputs % parts == 0:
        return RowwiseParallel(input_layouts=Replicate(), output_layouts=Replicate())
    return None
