"""What the declarations share: the tensors of a graph, its dims, and the way to the builder. Torch-free."""

from collections.abc import Callable
from functools import partial
from typing import Any

from nnkit import Dim, TensorSpec

NODES = Dim(default=34, description="nodes of the graph")
EDGES = Dim(default=156, min=0, description="directed edges; an undirected edge counts twice")
GRAPHS = Dim(default=2, description="graphs in the batch")
DIMS = {"nodes": NODES, "edges": EDGES}
DIMS_OF_BATCH = {**DIMS, "graphs": GRAPHS}
A_NODE_EACH = ("graphs <= nodes",)
ANY_ORDER = ("nodes", "edges")

X = TensorSpec("x", ("nodes", "in_channels"), description="node features")
EDGE_INDEX = TensorSpec(
    "edge_index",
    (2, "edges"),
    "int64",
    sample="nnkit_pyg.sampling:edges",
    index_of="nodes",
    description="source and target of each directed edge",
)
EDGE_WEIGHT = TensorSpec(
    "edge_weight", ("edges",), sample="uniform", optional=True, given=False, description="weight of each edge"
)
BATCH = TensorSpec(
    "batch",
    ("nodes",),
    "int64",
    sample="nnkit_pyg.sampling:graph_of_node",
    index_of="graphs",
    description="the graph that each node is in, ascending",
)


def edge_features(width: int | str) -> TensorSpec:
    """Return the input of edge features."""
    return TensorSpec("edge_attr", ("edges", width), description="edge features")


def builder(name: str) -> Callable[[Any], Any]:
    """Return what builds the model of a name from its config."""
    return partial(_build, name)


def _build(name: str, config: Any) -> Any:
    from nnkit_pyg.build import build

    return build(name, config)


def not_captured(reason: str) -> dict[str, str]:
    """Return why torch can't export a model whose sizes or steps depend on the values."""
    return {"onnx": reason, "pt2": reason}


def idle(reason: str) -> dict[str, str]:
    """Return what a model doesn't support that has parameters which its forward doesn't use."""
    return {"gradients": reason, "updates": reason}
