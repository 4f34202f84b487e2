"""Networks on graphs."""

from nnkit import Architecture, Dim, Preset, TensorSpec, hookimpl
from nnkit_graph.configs import GCNConfig

NNKIT_PLUGIN_API = "1.0"

FAMILY = "graph"
DIMS = {
    "nodes": Dim(default=34, description="nodes of the graph"),
    "edges": Dim(default=156, min=0, description="directed edges; an undirected one counts twice"),
}
PRESETS = {
    "cora": Preset(
        config={"in_channels": 1433, "hidden_channels": 16, "num_classes": 7},
        sizes={"nodes": 2708, "edges": 10_556},
        description="citations of papers, with the paper's 16 hidden units",
    ),
    "karate": Preset(
        config={"in_channels": 34, "hidden_channels": 16, "num_classes": 4},
        sizes={"nodes": 34, "edges": 156},
        description="Zachary's club, each node described by itself",
    ),
}

X = TensorSpec("x", ("nodes", "in_channels"), description="features of the nodes")
EDGE_INDEX = TensorSpec(
    "edge_index",
    (2, "edges"),
    "int64",
    sample="nnkit_graph.sampling:distinct_edges",
    index_of="nodes",
    description="source and target of each directed edge",
)
EDGE_WEIGHT = TensorSpec("edge_weight", ("edges",), sample="uniform", description="weight of each edge")
MATRIX = TensorSpec(
    "adjacency", ("nodes", "nodes"), sample="adjacency", description="row t, column s: the edge s to t"
)
SCORES = TensorSpec("scores", ("nodes", "num_classes"), description="scores of the classes, not normalised")


def _gcn_inputs(config: GCNConfig) -> tuple[TensorSpec, ...]:
    if config.adjacency == "dense":
        return (X, MATRIX)
    return (X, EDGE_INDEX, EDGE_WEIGHT) if config.edge_weight else (X, EDGE_INDEX)


GCN = Architecture(
    name="gcn",
    family=FAMILY,
    summary="Graph convolutional network: neighbours averaged by degree, then a linear layer",
    build="nnkit_graph.gcn:GCN",
    config=GCNConfig,
    inputs=_gcn_inputs,
    outputs=[SCORES],
    dims=DIMS,
    presets=PRESETS,
    paper="Kipf, Welling: Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017, "
    "https://arxiv.org/abs/1609.02907",
    equation="H_k = relu(Â H_{k-1} W_k + b_k),  Â = D^-½ (A + I) D^-½;  no relu after the last layer",
    notes=(
        "Scores are not cut off by a relu nor passed through a softmax, unlike the tutorial's: losses do it.",
        "The tutorial's network that aggregates once is --aggregate first --normalization none; its "
        "unnormalised one is --normalization none. Both leave out a node's own features.",
        "A self-loop that is there keeps its weight, as in PyG; the textbook's A + I would count it twice.",
        "The bias is PyG's; the authors' code has none: --no-bias (23,040 parameters on Cora, else 23,063).",
    ),
)


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Declare the graph networks."""
    return [GCN]
