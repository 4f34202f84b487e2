"""Networks of message passing, and transformers on graphs. Torch-free."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nnkit import Architecture, TensorSpec
from nnkit_pyg import options
from nnkit_pyg.declaring import (
    A_NODE_EACH,
    ANY_ORDER,
    BATCH,
    DIMS,
    DIMS_OF_BATCH,
    EDGE_INDEX,
    EDGE_WEIGHT,
    EDGES,
    X,
    builder,
    edge_features,
    idle,
    not_captured,
)


def _outputs(config: options.GNN) -> list[TensorSpec]:
    return [TensorSpec("output", ("nodes", config.outputs), description="features of each node")]


OUTPUT = TensorSpec("output", ("nodes", "out_channels"), description="features of each node")
LOG_SCORES = TensorSpec("scores", ("nodes", "out_channels"), description="log-probability of each class")

OF_LARGEST = "it pads all graphs to the size of the largest, which depends on the values"


def _basic(name: str, config: type, summary: str, paper: str, equation: str, **more: Any) -> Architecture:
    return Architecture(
        **{
            "name": name,
            "summary": summary,
            "build": builder(name),
            "config": config,
            "inputs": [X, EDGE_INDEX],
            "outputs": _outputs,
            "dims": DIMS,
            "permutation": ANY_ORDER,
            "stochastic": "training",
            "paper": paper,
            "equation": equation,
            **more,
        }
    )


def _attention_inputs(config: Any) -> Sequence[TensorSpec]:
    if config.edge_dim is None:
        return (X, EDGE_INDEX)
    return (X, EDGE_INDEX, edge_features("edge_dim"))


MODELS = (
    _basic(
        "GCN",
        options.GCN,
        "Graph convolutional network: degree-weighted mean over neighbors, then a linear layer",
        "Kipf, Welling: Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017, "
        "https://arxiv.org/abs/1609.02907",
        "H_k = σ(D^-½ (A + I) D^-½ H_{k-1} W_k)",
        inputs=[X, EDGE_INDEX, EDGE_WEIGHT],
    ),
    _basic(
        "GraphSAGE",
        options.GraphSAGE,
        "GraphSAGE: a linear layer for own features and one for an aggregate of neighbors",
        "Hamilton, Ying, Leskovec: Inductive Representation Learning on Large Graphs, NeurIPS 2017, "
        "https://arxiv.org/abs/1706.02216",
        "h'_t = σ(W_l mean(h_s over s -> t) + W_r h_t)",
    ),
    _basic(
        "GIN",
        options.GIN,
        "Graph isomorphism network: sum over neighbors, then a small MLP",
        "Xu, Hu, Leskovec, Jegelka: How Powerful are Graph Neural Networks?, ICLR 2019, "
        "https://arxiv.org/abs/1810.00826",
        "h'_t = MLP((1 + ε) h_t + Σ h_s over s -> t)",
    ),
    _basic(
        "GAT",
        options.GAT,
        "Graph attention network: neighbors weighted by how well they match",
        "Veličković, Cucurull, Casanova, Romero, Liò, Bengio: Graph Attention Networks, ICLR 2018, "
        "https://arxiv.org/abs/1710.10903",
        "α_ts = softmax_s(leaky_relu(a_dst·W h_t + a_src·W h_s)),  h'_t = σ(Σ_s α_ts W h_s)",
        inputs=_attention_inputs,
        notes=(
            "torch can't export it with the self-loops that it adds; it can with --set add_self_loops=false.",
        ),
    ),
    _basic(
        "PNA",
        options.PNA,
        "Principal neighborhood aggregation: several aggregates, scaled by degree, side by side",
        "Corso, Cavalleri, Beaini, Liò, Veličković, NeurIPS 2020, https://arxiv.org/abs/2004.05718",
        "h'_t = U(h_t ; scalers ⊗ aggregators of M(h_t, h_s) over s -> t)",
        inputs=_attention_inputs,
    ),
    _basic(
        "EdgeCNN",
        options.EdgeCNN,
        "EdgeCNN: the maximum over neighbors of an MLP on a node and the way to its neighbor",
        "Wang, Sun, Liu, Sarma, Bronstein, Solomon: Dynamic Graph CNN for Learning on Point Clouds, "
        "ACM TOG 2019, https://arxiv.org/abs/1801.07829",
        "h'_t = max over s -> t of MLP(h_t ; h_s - h_t)",
    ),
    Architecture(
        name="DeepGCNLayer",
        summary="A layer of DeepGCN: normalization, activation, dropout, GENConv and a skip connection",
        build=builder("DeepGCNLayer"),
        config=options.DeepGCNLayer,
        inputs=[replace(X, shape=("nodes", "channels")), EDGE_INDEX],
        outputs=lambda config: [
            TensorSpec("output", ("nodes", config.channels * (2 if config.block == "dense" else 1)))
        ],
        dims=DIMS,
        permutation=ANY_ORDER,
        stochastic="training",
        paper="Li, Xiong, Thabet, Ghanem: DeeperGCN: All You Need to Train Deeper GCNs, 2020, "
        "https://arxiv.org/abs/2006.07739",
        equation="h' = h + GENConv(dropout(relu(norm(h))))",
        notes=("PyTorch Geometric's layer wraps any convolution; here it is GENConv, as in the paper.",),
    ),
    Architecture(
        name="GraphUNet",
        summary="Graph U-Net: message passing on ever fewer nodes and back, with skip connections",
        build=builder("GraphUNet"),
        config=options.GraphUNet,
        inputs=[X, EDGE_INDEX],
        outputs=[OUTPUT],
        dims=DIMS,
        paper="Gao, Ji: Graph U-Nets, ICML 2019, https://arxiv.org/abs/1905.05178",
        permutation=("edges",),
        unsupported=not_captured(
            "which nodes a pooling keeps, and so the sizes behind it, depend on the values"
        ),
    ),
    Architecture(
        name="RECT_L",
        summary="RECT-L: GCN, then a linear layer back to the features of a class",
        build=builder("RECT_L"),
        config=options.RectL,
        inputs=[X, EDGE_INDEX, EDGE_WEIGHT],
        outputs=[TensorSpec("output", ("nodes", "in_channels"), description="features of the class")],
        dims=DIMS,
        permutation=ANY_ORDER,
        paper="Wang, Ye, Wang, Cui, Yu: Network Embedding with Completely-imbalanced Labels, TKDE 2020, "
        "https://arxiv.org/abs/2007.03545",
    ),
    Architecture(
        name="SignedGCN",
        summary="Signed GCN: two halves of features, along balanced and unbalanced paths",
        build=builder("SignedGCN"),
        config=options.SignedGCN,
        inputs=[
            X,
            replace(EDGE_INDEX, name="pos_edge_index", description="source and target of each positive edge"),
            replace(
                EDGE_INDEX,
                name="neg_edge_index",
                shape=(2, "negative_edges"),
                description="source and target of each negative edge",
            ),
        ],
        outputs=[TensorSpec("embedding", ("nodes", "hidden_channels"))],
        dims={**DIMS, "negative_edges": replace(EDGES, default=60, description="negative directed edges")},
        permutation=(*ANY_ORDER, "negative_edges"),
        unsupported=idle("lin serves the loss alone"),
        paper="Derr, Ma, Tang: Signed Graph Convolutional Network, ICDM 2018, "
        "https://arxiv.org/abs/1808.06354",
    ),
    Architecture(
        name="SGFormer",
        summary="SGFormer: linear attention between all nodes beside message passing",
        build=builder("SGFormer"),
        config=options.SGFormer,
        inputs=[X, EDGE_INDEX, BATCH],
        outputs=[LOG_SCORES],
        dims=DIMS_OF_BATCH,
        constraints=A_NODE_EACH,
        permutation=("edges",),
        stochastic="training",
        paper="Wu, Zhao, Yang, Zhang, Nie, Jiang, Bian, Yan: SGFormer: Simplifying and Empowering "
        "Transformers for Large-Graph Representations, NeurIPS 2023, https://arxiv.org/abs/2306.10759",
        unsupported={
            "cast": "its attention makes tensors of float32",
            "derivative": "its attention makes tensors of float32",
            **not_captured(OF_LARGEST),
        },
    ),
    Architecture(
        name="Polynormer",
        summary="Polynormer: message passing, then linear attention, as polynomials of the features",
        build=builder("Polynormer"),
        config=options.Polynormer,
        inputs=[X, EDGE_INDEX, BATCH],
        outputs=[LOG_SCORES],
        dims=DIMS_OF_BATCH,
        constraints=A_NODE_EACH,
        permutation=("edges",),
        stochastic="training",
        paper="Deng, Yue, Zhang: Polynormer: Polynomial-Expressive Graph Transformer in Linear Time, "
        "ICLR 2024, https://arxiv.org/abs/2403.01232",
        unsupported={**idle("each stage of its training has layers of its own"), **not_captured(OF_LARGEST)},
    ),
)
