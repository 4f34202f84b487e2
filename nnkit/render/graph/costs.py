"""What each call of a graph costs, one number for each kind of heat: every form of picture shows these."""

import math
import re
from collections.abc import Iterable
from typing import TypeAlias

from nnkit.contract.requests import HEATS
from nnkit.verbs.graph.report import GraphReport, Node
from nnkit.verbs.summary.report import TensorInfo, tensors_of

Costs: TypeAlias = tuple[float, ...]
"""Numbers in the order of HEATS."""

OUTPUT = HEATS.index("output")
NONE: Costs = (0,) * len(HEATS)


def node_costs(report: GraphReport) -> list[Costs]:
    """Return what each node costs. The output of one with calls beneath is what those return.

    What comes from no input, such as a part of a parameter, is no activation and counts for nothing.
    """
    beneath: list[Costs | None] = [None] * len(report.nodes)
    costs = [NONE] * len(report.nodes)
    for index in reversed(range(len(report.nodes))):  # callers come before their calls
        node, inside = report.nodes[index], beneath[index]
        if node.row is None and inside is not None:  # a container, which isn't called itself
            costs[index] = inside
        else:
            costs[index] = _own(node, None if inside is None else inside[OUTPUT])
        if node.parent is not None:
            beneath[node.parent] = sum_costs(filter(None, (beneath[node.parent], costs[index])))
    return costs


def sum_costs(costs: Iterable[Costs]) -> Costs:
    """Return the sums of costs, by kind."""
    return tuple(map(sum, zip(*costs, strict=True))) or NONE


def _own(node: Node, output: float | None) -> Costs:
    """Return what a node costs. output: what the calls beneath it return; None if there are none."""
    row, seconds = node.row, node.seconds or 0.0
    if row is None:
        return (0, 0, 0, 0, seconds)
    if output is None:
        output = 0 if node.from_no_input else sum(map(_bytes, tensors_of(row.outputs)))
    return (row.macs, row.parameters, output, row.training.saved if row.training else 0, seconds)


def _bytes(tensor: TensorInfo) -> int:
    bits = re.search(r"\d+", tensor.dtype)  # float32, float8_e4m3fn; a bool has none and takes a byte
    known = math.prod(size for size in tensor.shape if size >= 0)  # a file may leave sizes open, as -1
    return known * (int(bits[0]) if bits else 8) // 8
