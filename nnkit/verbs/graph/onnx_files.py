"""ONNX file -> GraphReport: its nodes and edges, in the modules that they come from if it names them."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

import onnx
from onnx import GraphProto, NodeProto, ValueInfoProto

from nnkit.contract.spec import ModelSpec
from nnkit.models.onnx_scopes import NAMESPACE, scopes_of
from nnkit.verbs.graph.assembly import complete
from nnkit.verbs.graph.report import Axis, Edge, GraphReport, Node
from nnkit.verbs.summary.file_report import Port
from nnkit.verbs.summary.files import inspect_file
from nnkit.verbs.summary.onnx_files import operator_of, port_of
from nnkit.verbs.summary.report import Row, TensorInfo

DOUBLED = r"\(\((\([^()]*\)//\d+)\)\)"

Scope: TypeAlias = tuple[str, str]
"""The path and the class of a module."""


def graph_of_file(path: Path, spec: ModelSpec | None = None) -> GraphReport:
    """Return the graph in an ONNX file. spec: of the model, if nnkit wrote the file.

    Raises NnkitError for a damaged file.
    """
    inspect_file(path)  # which raises for what is wrong with it
    model = onnx.load(path, load_external_data=False)
    steps = _in_modules(model.graph)
    drawing = _Drawing(model.graph, steps)
    for value in model.graph.input:
        drawing.add_input(_port(value))
    root = steps[0].scopes[0][1] if steps and steps[0].scopes else model.graph.name or "Graph"
    drawing.add_steps(steps, [("", root)])
    for value in model.graph.output:
        drawing.add_output(_port(value))
    nodes, edges = complete(drawing.nodes, drawing.edges)
    return GraphReport(
        title=path.name, spec=spec, method="", reason="", nodes=nodes, edges=edges, source="onnx"
    )


@dataclass
class _Step:
    """A node of the file, with the modules around it from the outermost inward."""

    node: NodeProto
    scopes: list[Scope] = field(default_factory=list)

    @property
    def takes(self) -> list[str]:
        """The names of what it takes, also of what the graphs in its attributes take from outside."""
        return [*self.node.input, *_taken_within(self.node)]


def _taken_within(node: NodeProto) -> Iterator[str]:
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            own = {value.name for value in (*graph.input, *graph.initializer)}
            for each in graph.node:
                yield from (name for name in (*each.input, *_taken_within(each)) if name not in own)
                own.update(each.output)


def _in_modules(graph: GraphProto) -> list[_Step]:
    """Return the nodes in order; one without a module comes right before what takes it, in its module."""
    steps = [_Step(node, _scopes(node)) for node in graph.node]
    if not any(step.scopes for step in steps):
        return steps
    waiting = {name: step for step in steps if not step.scopes for name in step.node.output}
    ordered: list[_Step] = []

    def place(step: _Step, scopes: list[Scope]) -> None:
        """Place what a node takes that still waits, then the node."""
        unplaced = [step]
        while unplaced:
            last = unplaced[-1]
            before = [waiting.pop(name) for name in last.takes if name in waiting]
            fresh = [each for each in {id(each): each for each in before}.values() if each is not last]
            if fresh:
                unplaced += reversed(fresh)
                continue
            unplaced.pop()
            for name in last.node.output:
                waiting.pop(name, None)
            last.scopes = last.scopes or scopes
            ordered.append(last)

    for step in steps:
        if step.scopes:
            place(step, step.scopes)
    root = ordered[0].scopes[:1]
    for step in steps:
        if any(name in waiting for name in step.node.output):
            place(step, root)
    return ordered


def _scopes(node: NodeProto) -> list[Scope]:
    return next((scopes_of(entry.value) for entry in node.metadata_props if entry.key == NAMESPACE), [])


class _Drawing:
    """The nodes and edges so far."""

    def __init__(self, graph: GraphProto, steps: list[_Step]) -> None:
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        values = (*graph.input, *graph.output, *graph.value_info)
        self.ports: dict[str, Port] = {value.name: _port(value) for value in values}
        self.weights = {weight.name: math.prod(weight.dims) for weight in graph.initializer}
        self.counted: dict[str, None] = {}  # the weights of the nodes so far
        self.makers: dict[str, int] = {}
        self.takers: dict[str, set[int]] = {value.name: {-1} for value in graph.output}
        for step in steps:
            for name in step.takes:
                self.takers.setdefault(name, set()).add(id(step))
        self.numbers: dict[str, int] = {}

    def add_input(self, port: Port) -> None:
        """Add what the graph is given, unless it is a weight with a default."""
        if port.name not in self.weights:
            self.makers[port.name] = len(self.nodes)
            self.nodes.append(Node("", port.name, "input", "input", None, (port.shape,)))

    def add_output(self, port: Port) -> None:
        """Add what the graph returns."""
        self.nodes.append(Node("", port.name, "output", "output", None, (port.shape,)))
        self._connect(port.name, len(self.nodes) - 1)

    def add_steps(self, steps: list[_Step], scopes: list[Scope], parent: int | None = None) -> None:
        """Add the call of a module with the steps in it; a module of a single step is one node with it."""
        index, (path, name), depth = len(self.nodes), scopes[-1], len(scopes)
        if depth > 1 and len(steps) == 1 and len(steps[0].scopes) == depth:
            self._add_step(steps[0], path, name, parent, is_module=True)
            return
        self.nodes.append(Node("", path, "module", name, parent))
        before, made_before = len(self.counted), len(self.makers)
        rest = steps
        while rest:
            inner = rest[0].scopes[depth : depth + 1]
            length = next((i for i, x in enumerate(rest) if x.scopes[depth : depth + 1] != inner), len(rest))
            if inner:
                self.add_steps(rest[:length], [*scopes, *inner], index)
            else:
                for step in rest[:length]:
                    operator = operator_of(step.node)
                    self._add_step(step, f"{path}.{operator.lower()}".lstrip("."), operator, index)
            rest = rest[length:]
        parameters = sum(map(self.weights.__getitem__, list(self.counted)[before:]))
        outputs = self._returned(steps, list(self.makers)[made_before:])
        row = _row(path, "module", name, (), self._infos(outputs), parameters, leaf=False)
        axes = tuple(self.ports[output].shape for output in outputs)
        self.nodes[index] = replace(self.nodes[index], row=row, axes=axes)

    def _add_step(
        self, step: _Step, path: str, name: str, parent: int | None, is_module: bool = False
    ) -> None:
        takes = list(dict.fromkeys(step.takes))
        reads = [name for name in takes if name in self.weights]
        flowing = [name for name in takes if name in self.makers]
        outputs = [name for name in step.node.output if name in self.ports]
        new = [name for name in reads if name not in self.counted]
        self.counted.update(dict.fromkeys(new))
        kind: Literal["module", "function"] = "module" if is_module else "function"
        is_constant = not (flowing or reads or is_module)
        parameters = sum(self.weights[name] for name in new)
        row = _row(path, kind, name, self._infos(takes), self._infos(outputs), parameters)
        index = len(self.nodes)
        self.nodes.append(
            Node(
                key="",
                path=path,
                kind="constant" if is_constant else kind,
                type=name,
                parent=parent,
                axes=tuple(self.ports[output].shape for output in outputs),
                reads=() if is_module else tuple(reads),
                row=None if is_constant else row,
            )
        )
        for each in flowing:
            self._connect(each, index)
        self.makers.update(dict.fromkeys(filter(None, step.node.output), index))

    def _connect(self, name: str, target: int) -> None:
        """Add the edge from what made a value, if a node did."""
        if name not in self.makers:
            return
        number = self.numbers.setdefault(name, len(self.numbers) + 1)
        port = self.ports.get(name, Port(name, "?", ()))
        self.edges.append(Edge(self.makers[name], target, number, _sizes(port.shape), port.dtype, port.shape))

    def _returned(self, steps: list[_Step], made: list[str]) -> list[str]:
        """Return what a module made that something else takes."""
        within = {id(step) for step in steps}
        return [name for name in made if name in self.ports and not self.takers.get(name, set()) <= within]

    def _infos(self, names: list[str]) -> tuple[TensorInfo, ...]:
        ports = (self.ports[name] for name in names if name in self.ports)
        return tuple(TensorInfo(_sizes(port.shape), port.dtype, "") for port in ports)


def _port(value: ValueInfoProto) -> Port:
    """Return a value with the formulas of its axes as people write them: `(height - 1)//2 + 1`."""
    port = port_of(value)
    shape = (re.sub(DOUBLED, r"\1", axis) if isinstance(axis, str) else axis for axis in port.shape)
    return replace(port, shape=tuple(shape))


def _sizes(axes: tuple[Axis, ...]) -> tuple[int, ...]:
    """Return the sizes of axes, -1 for those that the file leaves open."""
    return tuple(axis if isinstance(axis, int) else -1 for axis in axes)


def _row(
    path: str,
    kind: Literal["module", "function"],
    name: str,
    inputs: tuple[TensorInfo, ...],
    outputs: tuple[TensorInfo, ...],
    parameters: int,
    leaf: bool = True,
) -> Row:
    """Return a row without multiply-adds, which a file doesn't have."""
    return Row(path, kind, name, 0, inputs, outputs, parameters, 0, leaf=leaf)
