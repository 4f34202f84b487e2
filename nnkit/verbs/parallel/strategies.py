"""How a model is spread over processes: replicated (ddp), sharded (fsdp), or each layer split (tp)."""

from collections import Counter
from collections.abc import Iterator
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

from nnkit.contract.signature import Signature
from nnkit.contract.text import plural
from nnkit.models.running import bind, without_gradients
from nnkit.models.sampling import Inputs


@dataclass(frozen=True)
class Spread:
    """A model over the ranks of a mesh.

    Attributes:
        module: the module to call.
        inner: the module with the parameters, under their original names.
        message: what was done to it.
    """

    module: nn.Module
    inner: nn.Module
    message: str


def spread(
    strategy: str, module: nn.Module, mesh: DeviceMesh, signature: Signature, inputs: Inputs
) -> Spread | None:
    """Spread `module` over the mesh, in place; None where the strategy finds nothing to split in it."""
    args, keywords = bind(module, signature, inputs)
    match strategy:
        case "ddp":
            return _replicate(module, mesh)
        case "fsdp":
            names = shard(module, mesh, find_called(module, *args, **keywords))
            parts = f"{plural(len(names), 'block')} and the rest" if names else "the whole model"
            return Spread(module, module, f"{parts} sharded by fully_shard")
        case _:
            return _split_layers(module, mesh, find_called(module, *args, **keywords))


def find_called(module: nn.Module, *args: Any, **kwargs: Any) -> set[str]:
    """Return the names of the submodules that a call runs, rather than only reading their weights."""
    called: set[str] = set()
    hooks = [
        submodule.register_forward_pre_hook(lambda *_, name=name: called.add(name))
        for name, submodule in module.named_modules()
    ]
    try:
        without_gradients(lambda: module(*args, **kwargs))
    finally:
        for hook in hooks:
            hook.remove()
    return called


def _replicate(module: nn.Module, mesh: DeviceMesh) -> Spread:
    device_ids = None if mesh.device_type == "cpu" else [torch.accelerator.current_device_index()]
    wrapped = DistributedDataParallel(
        module,
        process_group=mesh.get_group(),
        find_unused_parameters=True,  # a model may leave some unused: auxiliary heads in eval mode
        device_ids=device_ids,
    )
    return Spread(wrapped, module, "replicated by DistributedDataParallel")


def shard(module: nn.Module, mesh: DeviceMesh, called: set[str]) -> list[str]:
    """Shard the blocks of `module`, then the rest of it; return the names of the blocks.

    A block with a parameter that is shared with other modules stays with the rest.
    """
    shared = _find_shared_parameters(module)
    blocks = {
        name: block for name, block in _find_blocks(module) if name in called and not _has_any(block, shared)
    }
    for block in blocks.values():
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return list(blocks)


def _find_blocks(
    module: nn.Module, prefix: str = "", listed: bool = False
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the outermost modules with parameters that are elements of a ModuleList or a Sequential."""
    if type(module) in (nn.Sequential, nn.ModuleList):
        listed = True
    elif listed:
        if next(module.parameters(), None) is not None:
            yield prefix, module
        return
    for name, child in module.named_children():
        yield from _find_blocks(child, f"{prefix}.{name}".lstrip("."), listed)


def _find_shared_parameters(module: nn.Module) -> set[int]:
    """Return the ids of the parameters that are registered more than once."""
    named = module.named_parameters(remove_duplicate=False)
    registrations = Counter(id(parameter) for _, parameter in named)
    return {identity for identity, count in registrations.items() if count > 1}


def _has_any(module: nn.Module, parameters: set[int]) -> bool:
    return any(id(parameter) in parameters for parameter in module.parameters())


def _split_layers(module: nn.Module, mesh: DeviceMesh, called: set[str]) -> Spread | None:
    shared = _find_shared_parameters(module)
    layers = {
        name: layer for name, layer in module.named_modules() if isinstance(layer, (nn.Linear, nn.Embedding))
    }
    plan = {}
    for name, layer in layers.items():
        style = _choose_style(layer, mesh.size())
        if style is not None and name in called and not _has_any(layer, shared):
            plan[name] = style
    if not plan:
        return None
    parallelize_module(module, mesh, plan)
    for name in plan:  # its output is a view, which a model must not change in place
        layers[name].register_forward_hook(lambda layer, given, output: output.clone())
    return Spread(module, module, f"{len(plan)} of {len(layers)} Linear and Embedding layers split")


def _choose_style(layer: nn.Linear | nn.Embedding, parts: int) -> ParallelStyle | None:
    """Return how to split a layer so that inputs and outputs stay whole on every rank, or None."""
    if isinstance(layer, nn.Linear):
        outputs, inputs = layer.out_features, layer.in_features
    else:
        outputs, inputs = layer.embedding_dim, layer.num_embeddings
    if outputs % parts == 0:
        return ColwiseParallel(output_layouts=Replicate())
    if inputs % parts == 0:
        return RowwiseParallel(input_layouts=Replicate(), output_layouts=Replicate())
    return None
