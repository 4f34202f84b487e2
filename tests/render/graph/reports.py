"""Graphs made by hand: a chain of modules of any names."""

from itertools import pairwise

from nnkit.verbs.graph.report import Edge, GraphReport, Node
from nnkit.verbs.summary.report import Row, TensorInfo, Totals

TENSOR = TensorInfo((1, 8), "float32", "cpu")


def chain(names: list[str], title: str = "net") -> GraphReport:
    """Return a model that calls modules of these names one after another."""
    nodes = [Node("x", "x", "input", "input", None, axes=((1, 8),))]
    nodes.append(Node("", "", "module", "Net", None, row=_row("", 2 * len(names), False)))
    nodes += [Node(name, name, "module", name, 1, row=_row(name, 2, True)) for name in names]
    nodes.append(Node("output", "output", "output", "output", None, axes=((1, 8),)))
    way = [0, *range(2, len(nodes))]
    edges = [Edge(a, b, i, (1, 8), "float32") for i, (a, b) in enumerate(pairwise(way))]
    totals = Totals(2 * len(names), 2 * len(names), 0, 0, 8, 0, 2 * len(names), 4 * len(names))
    return GraphReport(title, None, "meta", "", tuple(nodes), tuple(edges), totals, warnings=(title,))


def _row(path: str, amount: int, leaf: bool) -> Row:
    return Row(
        path, "module", "Linear", 1 if path else 0, (TENSOR,), (TENSOR,), amount, amount, amount, leaf=leaf
    )
