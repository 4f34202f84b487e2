"""Networks on node features alone, and parts that join what other networks made. Torch-free."""

from collections.abc import Iterable
from dataclasses import replace

from nnkit import Architecture, Dim, TensorSpec
from nnkit_pyg import options
from nnkit_pyg.declaring import ANY_ORDER, DIMS, EDGE_INDEX, EDGE_WEIGHT, EDGES, NODES, X, builder

OUTPUT = TensorSpec("output", ("nodes", "out_channels"), description="features of each node")
KINDS = {"paper": "papers", "author": "authors"}
JUMPING = (
    "Xu, Li, Tian, Sonobe, Kawarabayashi, Jegelka: Representation Learning on Graphs with Jumping Knowledge "
    "Networks, ICML 2018, https://arxiv.org/abs/1806.03536"
)


def _of_layers(config: options.JumpingKnowledge, name: str, nodes: str) -> Iterable[TensorSpec]:
    for layer in range(config.num_layers):
        yield TensorSpec(
            f"{name}.{layer}", (nodes, "channels"), description=f"the output of layer {layer + 1}"
        )


MODELS = (
    Architecture(
        name="MLP",
        summary="Multi-layer perceptron with normalization, on each node",
        build=builder("MLP"),
        config=options.MLP,
        inputs=[X],
        outputs=[OUTPUT],
        dims={"nodes": NODES},
    ),
    Architecture(
        name="PMLP",
        summary="PMLP: an MLP in training, a graph network in eval mode",
        build=builder("PMLP"),
        config=options.PMLP,
        inputs=[X, EDGE_INDEX],
        outputs=[OUTPUT],
        dims={**DIMS, "nodes": replace(NODES, min=2)},  # whose mean and deviation it takes
        permutation=ANY_ORDER,
        paper="Yang, Wu, Wang, Yan: Graph Neural Networks are Inherently Good Generalizers: Insights by "
        "Bridging GNNs and MLPs, ICLR 2023, https://arxiv.org/abs/2212.09034",
    ),
    Architecture(
        name="LINKX",
        summary="LINKX: MLPs on the rows of the adjacency matrix and on node features, joined",
        build=builder("LINKX"),
        config=options.LINKX,
        inputs=[
            replace(X, shape=("num_nodes", "in_channels")),
            replace(EDGE_INDEX, index_of="num_nodes"),
            EDGE_WEIGHT,
        ],
        outputs=[replace(OUTPUT, shape=("num_nodes", "out_channels"))],
        dims={"edges": EDGES},
        permutation=("edges",),
        paper="Lim, Hohne, Li, Huang, Gupta, Bhalerao, Lim: Large Scale Learning on Non-Homophilous Graphs: "
        "New Benchmarks and Strong Simple Methods, NeurIPS 2021, https://arxiv.org/abs/2110.14446",
    ),
    Architecture(
        name="JumpingKnowledge",
        summary="Jumping knowledge: joins what all layers of a network made of a node",
        build=builder("JumpingKnowledge"),
        config=options.JumpingKnowledge,
        inputs=lambda config: list(_of_layers(config, "xs", "nodes")),
        outputs=lambda config: [TensorSpec("output", ("nodes", config.outputs))],
        dims={"nodes": NODES},
        pointwise=("nodes",),
        paper=JUMPING,
    ),
    Architecture(
        name="HeteroJumpingKnowledge",
        summary="Jumping knowledge on a graph with nodes of several types",
        build=builder("HeteroJumpingKnowledge"),
        config=options.JumpingKnowledge,
        inputs=lambda config: [
            spec for kind, nodes in KINDS.items() for spec in _of_layers(config, f"xs_dict.{kind}", nodes)
        ],
        outputs=lambda config: [TensorSpec(kind, (nodes, config.outputs)) for kind, nodes in KINDS.items()],
        dims={
            "papers": Dim(default=34, description="nodes of type paper"),
            "authors": Dim(default=20, description="nodes of type author"),
        },
        paper=JUMPING,
        notes=("The types of nodes are paper and author.",),
    ),
    Architecture(
        name="MaskLabel",
        summary="Label embeddings, added to or joined with the features of the nodes in a mask",
        build=builder("MaskLabel"),
        config=options.MaskLabel,
        inputs=[
            TensorSpec("x", ("nodes", "out_channels"), description="node features"),
            TensorSpec(
                "y", ("nodes",), "int64", sample="index", index_of="num_classes", description="labels"
            ),
            TensorSpec("mask", ("nodes",), "bool", sample="mask", description="nodes whose label is known"),
        ],
        outputs=lambda config: [
            TensorSpec("output", ("nodes", config.out_channels * (2 if config.method == "concat" else 1)))
        ],
        dims={"nodes": NODES},
        pointwise=("nodes",),
        paper="Shi, Huang, Feng, Zhong, Wang, Sun: Masked Label Prediction: Unified Message Passing Model "
        "for Semi-Supervised Classification, IJCAI 2021, https://arxiv.org/abs/2009.03509",
    ),
)
