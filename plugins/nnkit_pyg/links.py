"""Networks that predict links, and embeddings of nodes. Torch-free."""

from dataclasses import replace

from nnkit import Architecture, Dim, TensorSpec
from nnkit_pyg import options
from nnkit_pyg.declaring import ANY_ORDER, DIMS, EDGE_INDEX, EDGE_WEIGHT, EDGES, X, builder, idle

AMONG_ALL = replace(EDGE_INDEX, index_of="num_nodes")


def _history(of: str) -> list[TensorSpec]:
    """Return what is known of earlier events of the subjects or objects."""
    events = (f"{of}_events",)
    return [
        TensorSpec(f"h_{of}", events, "int64", sample="index", index_of="num_nodes",
                   description="the other entity of each earlier event"),
        TensorSpec(f"h_{of}_t", events, "int64", sample="index", index_of="seq_len",
                   description="the time step of each earlier event"),
        TensorSpec(f"h_{of}_batch", events, "int64", sample="sorted", index_of="batch",
                   description="the event that each earlier one belongs to"),
    ]  # fmt: skip


MODELS = (
    Architecture(
        name="LightGCN",
        summary="LightGCN: embeddings of users and items, averaged over their neighborhoods",
        build=builder("LightGCN"),
        config=options.LightGCN,
        inputs=[
            AMONG_ALL,
            replace(
                AMONG_ALL,
                name="edge_label_index",
                shape=(2, "links"),
                description="source and target of each link to rank",
            ),
            EDGE_WEIGHT,
        ],
        outputs=[TensorSpec("rank", ("links",), description="how likely each link is")],
        dims={"edges": replace(EDGES, default=1000), "links": Dim(default=32, description="links to rank")},
        permutation=("edges", "links"),
        paper="He, Deng, Wang, Li, Zhang, Wang: LightGCN: Simplifying and Powering Graph Convolution Network "
        "for Recommendation, SIGIR 2020, https://arxiv.org/abs/2002.02126",
    ),
    Architecture(
        name="ARLinkPredictor",
        summary="Attract-repel link predictor: features of two nodes that attract, less those that repel",
        build=builder("ARLinkPredictor"),
        config=options.ARLinkPredictor,
        inputs=[X, EDGE_INDEX],
        outputs=[TensorSpec("score", ("edges",), description="probability of each link")],
        dims=DIMS,
        permutation=ANY_ORDER,
        paper="Peysakhovich, Klimovskaia Susmelj, Bottou: Pseudo-Euclidean Attract-Repel Embeddings for "
        "Undirected Graphs, 2021, https://arxiv.org/abs/2106.09671",
    ),
    Architecture(
        name="RENet",
        summary="RE-Net: who will act on whom, from the events of the last time steps",
        build=builder("RENet"),
        config=options.RENet,
        inputs=[
            TensorSpec(
                "sub", ("batch",), "int64", sample="index", index_of="num_nodes", description="who acts"
            ),
            TensorSpec(
                "rel", ("batch",), "int64", sample="index", index_of="num_rels", description="and how"
            ),
            TensorSpec(
                "obj", ("batch",), "int64", sample="index", index_of="num_nodes", description="on whom"
            ),
            *_history("sub"),
            *_history("obj"),
        ],
        outputs=[
            TensorSpec(
                "objects", ("batch", "num_nodes"), description="log-probability of each entity as object"
            ),
            TensorSpec("subjects", ("batch", "num_nodes"), description="the same as subject"),
        ],
        dims={
            "batch": Dim(default=4, description="events at once"),
            "sub_events": Dim(default=40, description="earlier events of the subjects"),
            "obj_events": Dim(default=40, description="earlier events of the objects"),
        },
        permutation=("sub_events", "obj_events"),
        paper="Jin, Qu, Jin, Ren: Recurrent Event Network: Autoregressive Structure Inference over Temporal "
        "Knowledge Graphs, EMNLP 2020, https://arxiv.org/abs/1904.05530",
        unsupported={"batch-independence": "earlier events are numbered across the batch"},
        notes=("PyTorch Geometric's takes a Data object; here it takes its tensors.",),
    ),
    Architecture(
        name="Node2Vec",
        summary="Node2vec: an embedding of each node, trained on random walks",
        build=builder("Node2Vec"),
        config=options.Node2Vec,
        inputs=[TensorSpec("batch", ("nodes",), "int64", sample="index", index_of="num_nodes")],
        outputs=[TensorSpec("embedding", ("nodes", "embedding_dim"))],
        dims={"nodes": Dim(default=34, description="nodes at once")},
        pointwise=("nodes",),
        requires={"pyg_lib": "pip install pyg-lib -f https://data.pyg.org/whl/torch-VERSION.html"},
        paper="Grover, Leskovec: node2vec: Scalable Feature Learning for Networks, KDD 2016, "
        "https://arxiv.org/abs/1607.00653",
        notes=("Its walks need the compiled operators of pyg-lib. Here it is built on a ring of nodes.",),
    ),
    Architecture(
        name="DeepGraphInfomax",
        summary="Deep Graph Infomax: embeddings that tell a graph from a shuffled one",
        build=builder("DeepGraphInfomax"),
        config=options.DeepGraphInfomax,
        inputs=[X, EDGE_INDEX],
        outputs=[
            TensorSpec("encoded", ("nodes", "hidden_channels"), description="embedding of each node"),
            TensorSpec(
                "corrupted", ("nodes", "hidden_channels"), description="the same with shuffled features"
            ),
            TensorSpec("summary", ("hidden_channels",), description="the graph as a whole"),
        ],
        dims=DIMS,
        stochastic="always",
        unsupported=idle("weight serves the loss alone"),
        paper="Veličković, Fedus, Hamilton, Liò, Bengio, Hjelm: Deep Graph Infomax, ICLR 2019, "
        "https://arxiv.org/abs/1809.10341",
        notes=(
            "PyTorch Geometric's wraps any encoder; here it is a layer of GCN with PReLU, as in the paper.",
        ),
    ),
)
