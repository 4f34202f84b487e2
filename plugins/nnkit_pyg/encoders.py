"""Networks that encode graphs. Torch-free."""

from nnkit import Architecture, TensorSpec
from nnkit_pyg import options
from nnkit_pyg.declaring import (
    A_NODE_EACH,
    BATCH,
    DIMS_OF_BATCH,
    EDGE_INDEX,
    NODES,
    X,
    builder,
    edge_features,
    idle,
    not_captured,
)

OF_GRAPH = TensorSpec("output", ("graphs", "out_channels"), description="features of each graph")


def _encodings(config: options.GPSE) -> list[TensorSpec]:
    kept = "nodes" if config.virtual_node else "nodes + graphs"
    width = config.num_node_targets + config.num_graph_targets
    return [TensorSpec("targets", (kept, width), description="of each node, then of each graph")]


MODELS = (
    Architecture(
        name="GPSE",
        summary="GPSE: a deep graph network that predicts positional and structural encodings",
        build=builder("GPSE"),
        config=options.GPSE,
        inputs=[TensorSpec("x", ("nodes", "dim_in"), description="random node features"), EDGE_INDEX, BATCH],
        outputs=_encodings,
        dims=DIMS_OF_BATCH,
        constraints=A_NODE_EACH,
        permutation=("edges",),
        unsupported=not_captured(
            "it takes a step for each graph, and how many there are depends on the values"
        ),
        stochastic="training",
        paper="Cantürk, Liu, Lapointe-Gagné, Létourneau, Wolf, Beaini, Rampášek: Graph Positional and "
        "Structural Encoder, ICML 2024, https://arxiv.org/abs/2307.07107",
        notes=(
            "PyTorch Geometric's takes and returns a Data object; here it takes its tensors, and returns the "
            "predictions alone.",
        ),
    ),
    Architecture(
        name="GPSENodeEncoder",
        summary="Joins node features with the encodings of GPSE",
        build=builder("GPSENodeEncoder"),
        config=options.GPSENodeEncoder,
        inputs=[
            TensorSpec("x", ("nodes", "dim_in"), description="node features"),
            TensorSpec("pos_enc", ("nodes", "dim_pe_in"), description="the encodings of GPSE"),
        ],
        outputs=lambda config: [
            TensorSpec(
                "output",
                ("nodes", config.dim_emb if config.expand_x else config.dim_in + config.dim_pe_out),
            )
        ],
        dims={"nodes": NODES},
        pointwise=("nodes",),
        stochastic="training",
        paper="Cantürk, Liu, Lapointe-Gagné, Létourneau, Wolf, Beaini, Rampášek: Graph Positional and "
        "Structural Encoder, ICML 2024, https://arxiv.org/abs/2307.07107",
    ),
    Architecture(
        name="AttentiveFP",
        summary="Attentive FP: attention over atoms, then over a molecule, with recurrent updates",
        build=builder("AttentiveFP"),
        config=options.AttentiveFP,
        inputs=[X, EDGE_INDEX, edge_features("edge_dim"), BATCH],
        outputs=[OF_GRAPH],
        dims=DIMS_OF_BATCH,
        constraints=A_NODE_EACH,
        permutation=("edges",),
        paper="Xiong, Wang, Liu, Zhong, Wan, Li, Li, Luo, Chen, Jiang, Zheng: Pushing the Boundaries of "
        "Molecular Representation for Drug Discovery with the Graph Attention Mechanism, J. Med. Chem. 2020, "
        "https://doi.org/10.1021/acs.jmedchem.9b00959",
    ),
    Architecture(
        name="NeuralFingerprint",
        summary="Neural fingerprint: a graph network whose layers all vote on a fingerprint",
        build=builder("NeuralFingerprint"),
        config=options.NeuralFingerprint,
        inputs=[X, EDGE_INDEX, BATCH],
        outputs=[OF_GRAPH],
        dims=DIMS_OF_BATCH,
        constraints=A_NODE_EACH,
        permutation=("edges",),
        paper="Duvenaud, Maclaurin, Aguilera-Iparraguirre, Gómez-Bombarelli, Hirzel, Aspuru-Guzik, Adams: "
        "Convolutional Networks on Graphs for Learning Molecular Fingerprints, NeurIPS 2015, "
        "https://arxiv.org/abs/1509.09292",
        unsupported=idle("it has weights for each number of neighbors, and no graph has them all"),
    ),
)
