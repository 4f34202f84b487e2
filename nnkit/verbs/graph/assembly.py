"""Puts the nodes and edges of a report together."""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from nnkit.models.user_lines import short
from nnkit.verbs.graph.calls import Item, foreign_reads, is_constant
from nnkit.verbs.graph.flow import Flow, Take
from nnkit.verbs.graph.report import Edge, Node
from nnkit.verbs.summary.report import Row, Shape, Training, Value, tensors_of
from nnkit.verbs.summary.tracing import Call

Parts: TypeAlias = tuple[tuple[Node, ...], tuple[Edge, ...]]
"""The nodes and edges of a report."""


class Assembly:
    """The nodes and edges so far, in call order.

    owners: for a call without a node, the module that has it. rows: the row of each call that has one.
    times: the seconds of each call that were measured.
    """

    def __init__(
        self,
        flow: Flow,
        owners: Mapping[Call, Call],
        rows: Mapping[Call, Row],
        times: Mapping[Call, float],
    ) -> None:
        self.flow, self.owners, self.rows, self.times = flow, owners, rows, times
        self.nodes: list[Node] = []
        self.edges: dict[tuple[int, int, int], Edge] = {}
        self._indices: dict[Call, int] = {}
        self._short = functools.cache(short)

    def add_input(self, call: Call, name: str) -> None:
        """Add a tensor that forward was given."""
        self._indices[call] = len(self.nodes)
        self.nodes.append(Node("", name, "input", "input", None, _axes(call.outputs)))

    def add(self, item: Item, parent: int | None) -> None:
        """Add a call or a container with everything beneath it."""
        index, call = len(self.nodes), item.call
        if call is None:
            self.nodes.append(Node("", item.path, "container", item.type, parent))
        else:
            self._indices[call] = index
            self.nodes.append(self._node(call, parent))
            for take in self.flow.takes.get(call, ()):
                self._connect(take, index)
        for child in item.children:
            self.add(child, index)
        if call is None:
            self.nodes[index] = self._sum(index)

    def add_output(self, name: str, takes: Sequence[Take]) -> None:
        """Add a tensor that forward returned."""
        self.nodes.append(Node("", name, "output", "output", None, (takes[0].shape,)))
        for take in takes:
            self._connect(take, len(self.nodes) - 1)

    def finish(self) -> Parts:
        """Return the nodes and edges, complete."""
        return complete(self.nodes, list(self.edges.values()))

    def _node(self, call: Call, parent: int | None) -> Node:
        line = self.flow.lines.get(call)
        return Node(
            key="",
            path=call.path,
            kind="constant" if is_constant(call, self.flow) else call.kind,
            type=call.type,
            parent=parent,
            axes=_axes(call.outputs),
            reads=foreign_reads(call, self.flow),
            row=self.rows.get(call),
            seconds=self.times.get(call),
            line=f"{self._short(line[0])}:{line[1]}" if line else "",
        )

    def _sum(self, index: int) -> Node:
        """Return a container with the row of all that is in it."""
        children = [node for node in self.nodes[index + 1 :] if node.parent == index]
        times = [child.seconds for child in children if child.seconds is not None]
        node = replace(self.nodes[index], axes=children[-1].axes, seconds=sum(times) if times else None)
        rows = [child.row for child in children if child.row is not None]
        if not rows:
            return node
        row = Row(
            node.path,
            "module",
            node.type,
            rows[0].depth,
            rows[0].inputs,
            rows[-1].outputs,
            parameters=sum(row.parameters for row in rows),
            macs=sum(row.macs for row in rows),
            trainable=sum(row.trainable for row in rows),
            leaf=False,
            training=_sum_training([row.training for row in rows]),
        )
        return replace(node, row=row)

    def _connect(self, take: Take, target: int) -> None:
        maker = self.flow.makers[take.number]
        source = self._indices.get(self.owners.get(maker, maker))
        if source is not None and source != target:
            edge = Edge(source, target, take.number, take.shape, str(take.dtype).removeprefix("torch."))
            self.edges.setdefault((source, target, take.number), edge)


def complete(nodes: Sequence[Node], edges: Sequence[Edge]) -> Parts:
    """Return nodes with keys and with what depends on no input; sources come before targets."""
    depends = [node.kind in ("input", "output") for node in nodes]
    for edge in sorted(edges, key=lambda edge: edge.target):
        depends[edge.target] = depends[edge.target] or depends[edge.source]
    for index, node in reversed([*enumerate(nodes)]):
        if node.parent is not None and depends[index]:
            depends[node.parent] = True
    keys = _keys(nodes)
    finished = (
        replace(node, key=keys[index], from_no_input=not depends[index]) for index, node in enumerate(nodes)
    )
    return tuple(finished), tuple(edges)


def _axes(values: tuple[Value, ...]) -> tuple[Shape, ...]:
    return tuple(tensor.shape for tensor in tensors_of(values))


def _sum_training(costs: list[Training | None]) -> Training | None:
    known = [cost for cost in costs if cost is not None]
    if not known:
        return None
    return Training(
        flops=sum(cost.flops for cost in known),
        saved=sum(cost.saved for cost in known),
        peak=max(cost.peak for cost in known),
    )


def _keys(nodes: Sequence[Node]) -> list[str]:
    """Return a key for each node: calls first, so that an input of the same name doesn't take theirs."""
    times: Counter[str] = Counter()
    keys = [""] * len(nodes)
    for index in sorted(range(len(nodes)), key=lambda index: nodes[index].kind in ("input", "output")):
        path = nodes[index].path
        times[path] += 1
        keys[index] = path if times[path] == 1 else f"{path}~{times[path]}"
    return keys
