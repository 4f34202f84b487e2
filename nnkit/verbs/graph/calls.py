"""From the calls of a run to those that a graph shows, each with the tensors that it took."""

from collections.abc import Container, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from nnkit.models.members import named_buffers, named_parameters
from nnkit.models.tensors import storages_of
from nnkit.verbs.graph.flow import Flow
from nnkit.verbs.summary.tracing import Call


@dataclass(eq=False)
class Item:
    """What a graph shows as one node: a call, or a container around calls that ran one after another."""

    call: Call | None
    path: str
    type: str
    children: list["Item"] = field(default_factory=list)


def fold(root: Call, flow: Flow) -> dict[Call, Call]:
    """Take the functions out of torch's own modules that call no module, and give the module what they took.

    Return, for each call that is taken out, the module that took it in.
    """
    owners: dict[Call, Call] = {}
    _fold(root, flow, owners)
    takes = (take for each in (*flow.takes.values(), *flow.outputs) for take in each)
    _drop_unused(root, flow, {flow.makers[take.number] for take in takes})
    return owners


def is_constant(call: Call, flow: Flow) -> bool:
    """Whether a call is a function that makes a tensor from none."""
    return call.kind == "function" and not flow.takes.get(call) and not flow.reads.get(call)


def _fold(call: Call, flow: Flow, owners: dict[Call, Call]) -> None:
    for child in call.children:
        _fold(child, flow, owners)
    if not (call.children and _hides_all(call)):
        return
    for child in call.children:
        owners[child] = call
        call.macs += child.macs
        call.saved += child.saved
        flow.takes.setdefault(call, []).extend(flow.takes.get(child, ()))
        flow.reads.setdefault(call, []).extend(flow.reads.get(child, ()))
    call.children = []


def _drop_unused(call: Call, flow: Flow, used: Container[Call]) -> None:
    """Leave out values that were made from no tensor and that nothing takes."""
    call.children = [child for child in call.children if child in used or not is_constant(child, flow)]
    for child in call.children:
        _drop_unused(child, flow, used)


def _hides_all(call: Call) -> bool:
    if isinstance(call.module, torch.jit.ScriptModule):
        return True
    return call.hides_functions and all(
        child.kind == "function" and not child.children for child in call.children
    )


def foreign_reads(call: Call, flow: Flow) -> tuple[str, ...]:
    """Return the names of the parameters and buffers that a call reads itself, but for a module's own."""
    names = dict.fromkeys(flow.reads.get(call, ()))
    prefix = f"{call.path}." if call.path else ""
    if call.module is not None and not all(name.startswith(prefix) for name in names):
        tensors = (*named_parameters(call.module).values(), *named_buffers(call.module).values())
        own = {flow.registered.get(storage) for tensor in tensors for storage in storages_of(tensor)}
        return tuple(name for name in names if name not in own)
    return () if call.module is not None else tuple(names)


def items_of(call: Call, modules: dict[str, nn.Module]) -> Item:
    """Return a call with what it called, containers included."""
    children = [items_of(child, modules) for child in call.children]
    return Item(call, call.path, call.type, list(_contained(children, call.path, modules)))


def _contained(items: list[Item], path: str, modules: dict[str, nn.Module]) -> Iterator[Item]:
    """Put calls that ran one after another into the container that they are registered in."""
    start = 0
    while start < len(items):
        container = _container(items[start], path, modules)
        end = start + 1
        while container and end < len(items) and _container(items[end], path, modules) == container:
            end += 1
        if container and end - start > 1:
            inside = list(_contained(items[start:end], container, modules))
            yield Item(None, container, type(modules[container]).__name__, inside)
        else:
            yield from items[start:end]
        start = end


def _container(item: Item, path: str, modules: dict[str, nn.Module]) -> str:
    """Return the path of the module that is one level below `path` and has the called module in it."""
    prefix = f"{path}." if path else ""
    if item.call is None or item.call.kind == "function" or not item.path.startswith(prefix):
        return ""
    first, dot, _ = item.path.removeprefix(prefix).partition(".")
    return prefix + first if dot and prefix + first in modules else ""
