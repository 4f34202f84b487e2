"""Networks on graphs."""

from typing import TYPE_CHECKING

from nnkit import Architecture, Dim, Preset, TensorSpec, hookimpl

if TYPE_CHECKING:
    from nnkit_graph.configs import GCNConfig, GNNConfig

NNKIT_PLUGIN_API = "1.1"

FAMILY = "graph"
DIMS = {
    "nodes": Dim(default=34, description="nodes in the graph"),
    "edges": Dim(default=156, min=0, description="directed edges; an undirected edge counts twice"),
}
ANY_ORDER = ("nodes", "edges")
PRESETS = {
    "cora": Preset(
        config={"in_channels": 1433, "hidden_channels": 16, "num_classes": 7},
        sizes={"nodes": 2708, "edges": 10_556},
        description="the Cora citation graph, with the paper's 16 hidden units",
    ),
    "karate": Preset(
        config={"in_channels": 34, "hidden_channels": 16, "num_classes": 4},
        sizes={"nodes": 34, "edges": 156},
        description="Zachary's karate club, with one-hot features",
    ),
}

X = TensorSpec("x", ("nodes", "in_channels"), description="node features")
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
    "adjacency", ("nodes", "nodes"), sample="adjacency", description="row t, column s: the edge from s to t"
)
SCORES = TensorSpec("scores", ("nodes", "num_classes"), description="class scores, not normalized")


def _gcn_inputs(config: "GCNConfig") -> tuple[TensorSpec, ...]:
    if config.adjacency == "dense":
        return (X, MATRIX)
    return (X, EDGE_INDEX, EDGE_WEIGHT) if config.edge_weight else (X, EDGE_INDEX)


GCN = Architecture(
    name="gcn",
    family=FAMILY,
    summary="Graph convolutional network: degree-weighted mean over neighbors, then a linear layer",
    build="nnkit_graph.gcn:gcn",
    config="nnkit_graph.configs:GCNConfig",
    inputs=_gcn_inputs,
    outputs=[SCORES],
    dims=DIMS,
    permutation=ANY_ORDER,
    presets=PRESETS,
    paper="Kipf, Welling: Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017, "
    "https://arxiv.org/abs/1609.02907",
    equation="H_k = relu(Â H_{k-1} W_k + b_k),  Â = D^-½ (A + I) D^-½;  no relu after the last layer",
    notes=(
        "Unlike the tutorial's, the scores go through no relu and no softmax; a loss applies what it needs.",
        "For the tutorial's network that aggregates once, use --aggregate first --normalization none; for "
        "its unnormalized network, --normalization none. Both leave out a node's own features.",
        "An existing self-loop keeps its weight, as in PyG. The textbook's A + I would count it twice.",
        "The bias follows PyG. The authors' code has none: use --no-bias (23,040 parameters on Cora, not "
        "23,063).",
    ),
)


def _gnn_inputs(config: "GNNConfig") -> tuple[TensorSpec, ...]:
    weighted = config.aggregation == "weighted-mean"
    return (X, EDGE_INDEX, EDGE_WEIGHT) if weighted else (X, EDGE_INDEX)


GNN = Architecture(
    name="gnn",
    family=FAMILY,
    summary="Message passing: a node combines its own features with an aggregate of its neighbors",
    build="nnkit_graph.gnn:GNN",
    config="nnkit_graph.configs:GNNConfig",
    inputs=_gnn_inputs,
    outputs=[SCORES],
    dims=DIMS,
    permutation=ANY_ORDER,
    presets=PRESETS,
    paper="Gilmer, Schoenholz, Riley, Vinyals, Dahl: Neural Message Passing for Quantum Chemistry, "
    "ICML 2017, https://arxiv.org/abs/1704.01212",
    equation="h'_t = relu(W [h_t ; aggregate of h_s over s -> t] + b);  no relu after the last layer",
    notes=(
        "The tutorial's text describes this network. Its code only adds up the neighbors, without the node's "
        "own features, and applies a relu to the scores, which leaves whole rows without a gradient.",
        "A node without neighbors gets an aggregate of zeros, whatever the aggregation.",
    ),
)

GRAPHSAGE = Architecture(
    name="graphsage",
    family=FAMILY,
    summary="GraphSAGE: a linear layer for own features and one for the mean over neighbors",
    build="nnkit_graph.graphsage:GraphSAGE",
    config="nnkit_graph.configs:GraphSAGEConfig",
    inputs=[X, EDGE_INDEX],
    outputs=[SCORES],
    dims=DIMS,
    permutation=ANY_ORDER,
    presets=PRESETS,
    paper="Hamilton, Ying, Leskovec: Inductive Representation Learning on Large Graphs, NeurIPS 2017, "
    "https://arxiv.org/abs/1706.02216",
    equation="h'_t = relu(W_l mean(h_s over s -> t) + b + W_r h_t);  no relu after the last layer",
    notes=(
        "This is the mean aggregator over all neighbors. The paper also samples neighbors and normalizes "
        "features to unit length; like PyG, this leaves both to the caller.",
    ),
)

GAT = Architecture(
    name="gat",
    family=FAMILY,
    summary="Graph attention: neighbors weighted by how well they match",
    build="nnkit_graph.gat:GAT",
    config="nnkit_graph.configs:GATConfig",
    inputs=[X, EDGE_INDEX],
    outputs=[SCORES],
    dims=DIMS,
    permutation=ANY_ORDER,
    presets={
        "cora": Preset(
            config={"in_channels": 1433, "hidden_channels": 8, "heads": 8, "num_classes": 7},
            sizes={"nodes": 2708, "edges": 10_556},
            description="the Cora citation graph, with the paper's 8 heads of 8 features",
        ),
        "karate": PRESETS["karate"],
    },
    paper="Veličković, Cucurull, Casanova, Romero, Liò, Bengio: Graph Attention Networks, ICLR 2018, "
    "https://arxiv.org/abs/1710.10903",
    equation="α_ts = softmax_s(leaky_relu(a_dst·W h_t + a_src·W h_s)),  h'_t = elu(Σ_s α_ts W h_s + b)",
    notes=(
        "The last layer has one head, as in the paper on Cora (92,373 parameters).",
        "Each node attends to itself once. As in PyG, that replaces any self-loop of the graph.",
    ),
)

GIN = Architecture(
    name="gin",
    family=FAMILY,
    summary="Graph isomorphism network: sum over neighbors, then a small MLP",
    build="nnkit_graph.gin:GIN",
    config="nnkit_graph.configs:GINConfig",
    inputs=[X, EDGE_INDEX],
    outputs=[SCORES],
    dims=DIMS,
    permutation=ANY_ORDER,
    presets=PRESETS,
    paper="Xu, Hu, Leskovec, Jegelka: How Powerful are Graph Neural Networks?, ICLR 2019, "
    "https://arxiv.org/abs/1810.00826",
    equation="h'_t = MLP((1 + ε) h_t + Σ h_s over s -> t)",
    notes=(
        "As in PyG by default, there is no batch norm, unlike in the paper, and ε is 0 unless --train-eps.",
    ),
)


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Declare the graph networks."""
    return [GNN, GCN, GRAPHSAGE, GAT, GIN]
