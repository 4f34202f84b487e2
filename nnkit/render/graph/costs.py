"""What each call of a graph costs, by kind of heat: macs, params, output, saved, time."""

import math
import re

from nnkit.verbs.graph.report import GraphReport, Node
from nnkit.verbs.summary.report import TensorInfo, tensors_of


def output_bytes(report: GraphReport) -> list[int]:
    """Return for each node the bytes of what it returns; for one with calls beneath, of what those return.

    What comes from no input, such as a part of a parameter, is no activation and counts for nothing.
    """
    sums = [0] * len(report.nodes)
    parents = {node.parent for node in report.nodes}
    for index in reversed(range(len(report.nodes))):  # callers come before their calls
        node = report.nodes[index]
        if index not in parents:
            sums[index] = _own_output(node)
        if node.parent is not None:
            sums[node.parent] += sums[index]
    return sums


def _own_output(node: Node) -> int:
    if node.row is None or node.from_no_input:
        return 0
    return sum(map(_bytes, tensors_of(node.row.outputs)))


def _bytes(tensor: TensorInfo) -> int:
    bits = re.search(r"\d+", tensor.dtype)  # float32, float8_e4m3fn; a bool has none and takes a byte
    known = math.prod(size for size in tensor.shape if size >= 0)  # a file may leave sizes open, as -1
    return known * (int(bits[0]) if bits else 8) // 8
