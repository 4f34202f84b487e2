"""Puts the nodes and edges of a report together."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from nnkit.verbs.graph.calls import Item
from nnkit.verbs.graph.report import Edge, Node
from nnkit.verbs.graph.watching import Flow, Take
from nnkit.verbs.summary.report import Row, tensors_of
from nnkit.verbs.summary.tracing import Call


def is_constant(call: Call, flow: Flow) -> bool:
    """Whether a call is a function that makes a tensor from none."""
    return call.kind == "function" and not flow.takes.get(call) and not flow.reads.get(call)


class Assembly:
    """The nodes and edges so far, in call order.

    owners: the module that stands for a call without a node. rows: the row of each call that has one.
    reads: the parameters and buffers that each call reads itself.
    """

    def __init__(
        self,
        flow: Flow,
        owners: Mapping[Call, Call],
        rows: Mapping[Call, Row],
        reads: Mapping[Call, tuple[str, ...]],
    ) -> None:
        self.flow, self.owners, self.rows, self.reads = flow, owners, rows, reads
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        self._indices: dict[Call, int] = {}
        self._keys: Counter[str] = Counter()

    def add_input(self, call: Call, name: str) -> None:
        """Add a tensor that forward was given."""
        self._indices[call] = len(self.nodes)
        self.nodes.append(
            Node(self._key(name), name, "input", "input", None, (next(tensors_of(call.outputs)).shape,))
        )

    def add(self, item: Item, parent: int | None) -> None:
        """Add a call or a container with everything beneath it."""
        index, call = len(self.nodes), item.call
        if call is None:
            self.nodes.append(Node(self._key(item.path), item.path, "container", item.type, parent))
        else:
            self._indices[call] = index
            kind = "constant" if is_constant(call, self.flow) else call.kind
            reads = self.reads.get(call, ())
            row = self.rows.get(call)
            axes = tuple(tensor.shape for tensor in tensors_of(call.outputs))
            key = self._key(item.path)
            self.nodes.append(Node(key, item.path, kind, item.type, parent, axes, reads=reads, row=row))
            for take in self.flow.takes.get(call, ()):
                self._connect(take, index)
        for child in item.children:
            self.add(child, index)

    def finish(self) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
        """Return the nodes and edges, and of each node whether it depends on an input."""
        depends = [node.kind in ("input", "output") for node in self.nodes]
        for edge in self.edges:  # in call order: what an edge comes from is known by then
            depends[edge.target] = depends[edge.target] or depends[edge.source]
        for index in reversed(range(len(self.nodes))):
            parent = self.nodes[index].parent
            if parent is not None and depends[index]:
                depends[parent] = True
        nodes = [replace(node, from_no_input=not on) for node, on in zip(self.nodes, depends, strict=True)]
        return tuple(nodes), tuple(self.edges)

    def add_output(self, name: str, take: Take) -> None:
        """Add a tensor that forward returned."""
        self.nodes.append(Node(self._key(name), name, "output", "output", None, (take.info.shape,)))
        if take.number:
            self._connect(take, len(self.nodes) - 1)

    def _connect(self, take: Take, target: int) -> None:
        maker = self.flow.makers[take.number]
        source = self._indices.get(self.owners.get(maker, maker))
        if source is None or source == target:
            return
        edge = Edge(source, target, take.number, take.info.shape, take.info.dtype)
        if edge not in self.edges[-8:]:
            self.edges.append(edge)

    def _key(self, path: str) -> str:
        self._keys[path] += 1
        times = self._keys[path]
        return path if times == 1 else f"{path}~{times}"
