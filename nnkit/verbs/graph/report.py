"""The report of a graph: calls as nodes, tensors as edges. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from nnkit.contract.loading import load
from nnkit.contract.requests import DrawRequest, ignore_progress
from nnkit.contract.spec import ModelSpec
from nnkit.verbs.summary.report import Memory, Row, Shape, Totals

Axis: TypeAlias = int | str
"""One axis of a shape: its size, or what it is in named dims: `batch`, `time+1`, `height/2`."""


@dataclass(frozen=True)
class Node:
    """A call of a module or function, an end of the graph, or a value that comes from no input.

    A report's nodes are in call order, a caller before the calls in its forward; `inputs` come first and
    `outputs` last. The first node after the inputs is the model itself.

    key: unique and stable, the fragment of a deep link: the path, and `~2` for the second node that has it.
    path: the dotted name of the module, or of the module and the function that its forward calls.
    kind: `container` is a ModuleList or the like, which is never called itself, around children that ran one
        after another. `constant`: what its module made from no input: `arange`, a buffer, an attribute.
    type: the class (`Conv2d`), the function (`add`), the operator of a file (`Gemm`), `input`, `output`.
    parent: the index of the node in whose forward it ran; None for the model and for inputs and outputs.
    axes: for each tensor that it returned, its shape with named dims where they are known.
    from_no_input: whether nothing that it depends on is an input: it can be folded away.
    reads: names of parameters and buffers that a function in a forward reads itself.
    seconds: the time of its call, if it was asked for.
    row: parameters, MACs, shapes, training cost: the row of the summary. None for ends and constants.
    line: where in the user's code a function was called, `net.py:12`; "" if unknown.
    """

    key: str
    path: str
    kind: Literal["input", "output", "module", "function", "constant", "container"]
    type: str
    parent: int | None
    axes: tuple[tuple[Axis, ...], ...] = ()
    from_no_input: bool = False
    reads: tuple[str, ...] = ()
    seconds: float | None = None
    row: Row | None = None
    line: str = ""


@dataclass(frozen=True)
class Edge:
    """A tensor that one leaf node made and another took.

    source, target: indices of nodes that have no nodes beneath. tensor: equal for edges that carry the same
    tensor, so that a picture draws one trunk for all that read it.
    """

    source: int
    target: int
    tensor: int
    shape: Shape
    dtype: str
    axes: tuple[Axis, ...] = ()


@dataclass(frozen=True)
class GraphReport:
    """The calls of one run of a model, and which tensor went from which to which.

    nodes: the calls, with inputs and outputs. edges: what flows between those that have no nodes beneath.
    title: the name of the model or file. spec: None for a file that nnkit didn't write. method, reason,
    warnings, totals, memory: as in a summary; totals and memory are None for a file.
    sizes: of each dim. source: what was read: a model that ran, or the nodes of an ONNX file.

    Example:

        report = graph("simple-cnn")
        first = report.edges[0]
        assert report.nodes[first.source].kind == "input" and report.nodes[first.target].type == "Conv2d"
    """

    SCHEMA = "nnkit.graph/1"

    title: str
    spec: ModelSpec | None
    method: str
    reason: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    totals: Totals | None = None
    memory: Memory | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    source: Literal["model", "onnx"] = "model"
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, the form of `--json`."""
        from nnkit import __version__

        return {
            "schema": self.SCHEMA,
            "nnkit": __version__,
            "title": self.title,
            "spec": self.spec.to_dict() if self.spec else None,
            "source": self.source,
            "method": self.method,
            "reason": self.reason,
            "warnings": list(self.warnings),
            "sizes": dict(self.sizes),
            "totals": asdict(self.totals) if self.totals else None,
            "memory": asdict(self.memory) if self.memory else None,
            "nodes": [
                {**asdict(node), "row": node.row.to_dict() if node.row else None} for node in self.nodes
            ],
            "edges": [asdict(edge) for edge in self.edges],
        }

    def save(
        self,
        path: str | Path,
        *,
        other: "GraphReport | None" = None,
        opened: str | Sequence[str] = (),
        depth: int | None = None,
        heat: str | None = None,
        constants: bool = False,
        direction: str = "down",
        force: bool = False,
        progress: Callable[[str], None] = ignore_progress,
    ) -> None:
        """Draw the graph to a file; its suffix chooses the format: .html, .svg, .png, .mmd, .dot, .json.

        other, opened, depth, heat, constants, direction, progress: as in `nnkit.DrawRequest`; `opened` may be
        one pattern. force: replace an existing file.
        """
        request = DrawRequest(
            report=self,
            other=other,
            opened=(opened,) if isinstance(opened, str) else tuple(opened),
            depth=depth,
            heat=heat,
            constants=constants,
            direction=direction,
            progress=progress,
        )
        # Verbs don't import renderers, so this one is named.
        load("nnkit.render.graph.pictures:save")(request, Path(path), force)

    def _repr_html_(self) -> str:
        """Return the picture for a notebook: the whole page in a frame of its own."""
        # As in `save`: a notebook asks the report itself.
        return str(load("nnkit.render.graph.html:as_frame")(self))
