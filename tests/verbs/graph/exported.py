"""The edges between the leaf modules of a model: from a report, and from torch.export.

A leaf is a call of a module that calls no other, named `path` and the number of its call. Whatever lies
between leaves, as functions in a forward do, is left out: what flows through it is an edge. The ends are the
inputs by name, and the outputs by number.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import torch
from torch import nn

from nnkit import GraphReport

End: TypeAlias = tuple[str, int]
Edges: TypeAlias = set[tuple[End, End]]

INPUT, OUTPUT = -1, 1_000_000  # numbers that no call has
OUTPUTS = "(outputs)"

# Operators that take a tensor for its shape alone; its values don't flow.
OF_SHAPE = ("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "new_")


def contract(edges: Iterable[tuple[Any, Any]], ends: Mapping[Any, End]) -> Edges:
    """Return the edges between `ends`, where anything else passes on what it takes.

    The edges are in the order of their targets, and each source comes before.
    """
    passed: dict[Any, set[End]] = {}
    found: Edges = set()
    for source, target in edges:
        flowing = {ends[source]} if source in ends else passed.get(source, set())
        if target in ends:
            found |= {(end, ends[target]) for end in flowing if end != ends[target]}
        else:
            passed.setdefault(target, set()).update(flowing)
    return found


def reported(report: GraphReport, leaves: set[End]) -> Edges:
    """Return the edges of a report between those of its leaves that are in `leaves`, and its ends."""
    called: Counter[str] = Counter()
    ends: dict[int, End] = {}
    for index, node in enumerate(report.nodes):
        if node.kind in ("input", "output"):
            ends[index] = (node.path, INPUT) if node.kind == "input" else ("", OUTPUT + called[OUTPUTS])
            called[OUTPUTS] += node.kind == "output"
            continue
        if node.kind == "module":
            call = node.path, called[node.path]
            called[node.path] += 1
            if call in leaves:
                ends[index] = call
        if index not in ends and node.parent in ends:  # what a leaf calls is part of it
            ends[index] = ends[node.parent]
    pairs = sorted(((edge.source, edge.target) for edge in report.edges), key=lambda pair: pair[1])
    return contract(pairs, ends)


def exported(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None, functional: bool = True
) -> tuple[Edges, set[End]]:
    """Return the edges that torch.export finds, and the leaves that have operators."""
    program = torch.export.export(module, args, dict(kwargs or {}), strict=False)
    if functional:
        program = program.run_decompositions({})
    names: dict[nn.Module, str] = {}
    for name, submodule in module.named_modules():
        names.setdefault(submodule, name)
    aliased = Counter(submodule for _, submodule in module.named_modules(remove_duplicate=False))
    numbers: dict[nn.Module, dict[str, int]] = {}
    innermost: dict[Any, str] = {}
    has_module: set[str] = set()
    leaves_by_key: dict[str, End] = {}
    for node in program.graph.nodes:
        stack = node.meta.get("nn_module_stack")
        if node.op != "call_function" or not stack:
            continue
        keys = list(stack)
        has_module.update(keys[:-1])
        innermost[node] = keys[-1]
        for key in keys:
            submodule = module.get_submodule(stack[key][0])
            known = numbers.setdefault(submodule, {})
            known.setdefault(key, len(known))
            suffix = key.rpartition("@")[2]
            by_suffix = int(suffix) if "@" in key and suffix.isdecimal() else 0
            number = known[key] if aliased[submodule] > 1 else by_suffix
            leaves_by_key[key] = names[submodule], number
    ends: dict[Any, End] = {
        node: leaves_by_key[key] for node, key in innermost.items() if key not in has_module
    }
    leaves = set(ends.values())
    given = set(program.graph_signature.user_inputs)
    edges: list[tuple[Any, Any]] = []
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in given:
            ends[node] = node.name, INPUT
        if node.op == "output":
            returned = [
                spec.arg.name
                for spec in program.graph_signature.output_specs
                if spec.kind.name == "USER_OUTPUT"
            ]
            by_name = {each.name: each for each in program.graph.nodes}
            for number, name in enumerate(name for name in returned if name in by_name):
                ends[number] = "", OUTPUT + number
                edges.append((by_name[name], number))
        elif not (node.op == "call_function" and any(word in node.name for word in OF_SHAPE)):
            edges += [(source, node) for source in node.all_input_nodes]
    return contract(edges, ends), leaves
