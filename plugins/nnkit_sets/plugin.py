"""Declares networks of sets. Torch-free."""

from typing import TYPE_CHECKING

from nnkit import Architecture, Dim, Preset, TensorSpec, hookimpl

if TYPE_CHECKING:
    from nnkit_sets.configs import DeepSetsConfig, GraphTransformerConfig

NNKIT_PLUGIN_API = "1.1"

FAMILY = "sets"


SET = TensorSpec("x", ("batch", "elements", "in_features"), description="elements of each set, in any order")
MASK = TensorSpec(
    "mask",
    ("batch", "elements"),
    "bool",
    sample="keep",
    optional=True,
    description="True at elements, False where sets are padded to one size",
)
DIMS = {
    "batch": Dim(default=1, description="sets in a batch"),
    "elements": Dim(default=16, description="elements of a set"),
}


def _deepsets_outputs(config: "DeepSetsConfig") -> tuple[TensorSpec, ...]:
    if config.pooling == "none":
        return (TensorSpec("y", ("batch", "elements", "num_outputs"), description="of each element"),)
    return (TensorSpec("y", ("batch", "num_outputs"), description="of each set"),)


DEEPSETS = Architecture(
    name="deepsets",
    summary="Deep Sets: a sum over the elements between two networks, or layers that follow their order",
    family=FAMILY,
    build="nnkit_sets.deepsets:DeepSets",
    config="nnkit_sets.configs:DeepSetsConfig",
    inputs=[SET, MASK],
    outputs=_deepsets_outputs,
    dims=DIMS,
    permutation=("elements",),
    padding=("mask",),
    presets={
        "modelnet40": Preset(
            config={
                "phi_sizes": (256, 256, 256),
                "rho_sizes": (256,),
                "num_outputs": 40,
                "pooling": "max",
                "mixing": "max1",
                "activation": "tanh",
                "dropout": 0.5,
            },
            sizes={"elements": 1000},
            description="the paper's classifier of clouds of 1000 points: 208,680 parameters",
        ),
        "equivariant": Preset(
            config={"pooling": "none", "mixing": "max", "num_outputs": 1},
            description="a score for each element, which knows of the others",
        ),
    },
    paper="Zaheer, Kottur, Ravanbakhsh, Poczos, Salakhutdinov and Smola 2017, https://arxiv.org/abs/1703.06114",
    equation="f(X) = ρ(pool_i φ(x_i));  with mixing, each layer of φ is h_i ← σ(Γ h_i - Λ pool_j h_j)",
    notes=(
        "The mixing layers subtract what is pooled, as in the authors' code; the paper's equation 4 adds it.",
        "In modelnet40 the pooling of the layers and of the set is the maximum, as in the authors' run.",
        "As there, a dropout is a module of its own in the state dict and moves the numbers of later layers.",
        "An empty set, with a mask that is False everywhere, is pooled to zeros.",
    ),
)

SET_TRANSFORMER = Architecture(
    name="set-transformer",
    summary="Set Transformer: elements attend to each other, and learned seeds pool them",
    family=FAMILY,
    build="nnkit_sets.set_transformer:SetTransformer",
    config="nnkit_sets.configs:SetTransformerConfig",
    inputs=[SET, MASK],
    outputs=[
        TensorSpec(
            "y",
            ("batch", "num_outputs", "out_features"),
            description="a vector for each seed",
        )
    ],
    dims=DIMS,
    permutation=("elements",),
    padding=("mask",),
    presets={
        "mixture": Preset(
            config={"in_features": 2, "num_outputs": 4, "out_features": 4},
            sizes={"batch": 10, "elements": 450},
            description="means and deviations of 4 Gaussians, from 300 to 600 points",
        ),
        "max-regression": Preset(
            config={
                "in_features": 1,
                "num_outputs": 1,
                "out_features": 1,
                "hidden_features": 64,
                "encoder": "sab",
                "decoder_blocks": 0,
            },
            sizes={"elements": 10},
            description="the largest of up to 10 numbers: the paper's first experiment",
        ),
    },
    paper="Lee, Lee, Kim, Kosiorek, Choi and Teh 2019, https://arxiv.org/abs/1810.00825",
    equation="MAB(X, Y) = O + relu(W O), O = Q + attention(Q, K, V);  "
    "y = W SAB(SAB(PMA(ISAB(ISAB(X))))), ISAB(X) = MAB(X, MAB(I, X)), PMA(X) = MAB(S, X)",
    notes=(
        "The residual is the projected query, as in the authors' code; the paper's equation 6 adds X itself.",
        "Scores are divided by the root of the whole width, not of a head's, as in the paper and its code.",
        "The biases of the keys have no effect: softmax takes away what is added to all keys alike.",
        "As in the authors' code, PMA has no layer before its attention, and there is no layer norm unless "
        "asked for; the paper writes both.",
    ),
)


NODES = TensorSpec("x", ("nodes", "in_channels"), description="node features")
EDGES = TensorSpec(
    "edge_index",
    (2, "edges"),
    "int64",
    sample="nnkit_graph.sampling:distinct_edges",
    index_of="nodes",
    description="source and target of each directed edge",
)
EDGE_ATTR = TensorSpec("edge_attr", ("edges", "edge_dim"), description="edge features")


def _graph_inputs(config: "GraphTransformerConfig") -> tuple[TensorSpec, ...]:
    return (NODES, EDGES, EDGE_ATTR) if config.edge_dim else (NODES, EDGES)


GRAPH_TRANSFORMER = Architecture(
    name="graph-transformer",
    summary="Graph Transformer: attention to the neighbors, and a gated residual connection",
    family=FAMILY,
    build="nnkit_sets.graph_transformer:GraphTransformer",
    config="nnkit_sets.configs:GraphTransformerConfig",
    inputs=_graph_inputs,
    outputs=[
        TensorSpec("scores", ("nodes", "num_classes"), description="class scores, not normalized"),
    ],
    dims={
        "nodes": Dim(default=34, description="nodes in the graph"),
        "edges": Dim(default=156, min=0, description="directed edges; an undirected edge counts twice"),
    },
    permutation=("nodes", "edges"),
    presets={
        "karate": Preset(
            config={"in_channels": 34, "hidden_channels": 16, "num_layers": 2},
            sizes={"nodes": 34, "edges": 156},
            description="Zachary's karate club, with one-hot features",
        ),
        "cora": Preset(
            config={"in_channels": 1433, "num_classes": 7, "num_layers": 2},
            sizes={"nodes": 2708, "edges": 10_556},
            description="the Cora citation graph",
        ),
        "arxiv": Preset(
            config={"in_channels": 128, "hidden_channels": 256, "num_classes": 40, "heads": 2},
            sizes={"nodes": 169_343, "edges": 2_315_598},
            description="ogbn-arxiv, as wide as in the paper: 3 layers, 2 heads of 128",
        ),
    },
    paper="Shi, Huang, Feng, Zhong, Wang and Sun 2020, https://arxiv.org/abs/2009.03509",
    equation="m_t = Σ_s α_st (v_s + e_st), α_st = softmax_s(q_t · (k_s + e_st) / √D);  "
    "h'_t = relu(layer_norm(β_t r_t + (1 - β_t) m_t))",
    notes=(
        "The paper also adds an embedding of the known labels to the features; that is left to the caller.",
        "A node attends only to its neighbors; its own features come back through r_t.",
        "The biases of the keys have no effect: softmax takes away what is added to all keys alike.",
        "Positional encodings, such as eigenvectors of the Laplacian, are features: join them to x.",
    ),
)


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Return the architectures of this plugin."""
    return [
        DEEPSETS,
        SET_TRANSFORMER,
        GRAPH_TRANSFORMER,
    ]
