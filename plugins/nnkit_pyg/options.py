"""The options of the models, by the names and defaults of PyTorch Geometric's constructors. Torch-free.

Where a constructor demands a value, the default here is a small one. What it takes beyond these goes by
`--set`.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from msgspec import Meta

Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, lt=1)]
In = Annotated[int, Meta(ge=1, description="features of a node")]
Hidden = Annotated[int, Meta(ge=1, description="features of a node between layers")]
Out = Annotated[int, Meta(ge=1, description="features of each output")]
Layers = Annotated[int, Meta(ge=1, description="number of layers")]
Dropout = Annotated[float, Meta(ge=0, lt=1, description="share of features dropped in training")]
Bias = Annotated[bool, Meta(description="add a bias in each layer")]
Act = Annotated[
    Literal[
        "relu", "elu", "gelu", "leaky_relu", "prelu", "selu", "sigmoid", "silu", "softplus", "tanh", "none"
    ],
    Meta(description="activation between layers"),
]
Norm = Annotated[
    Literal["none", "batch_norm", "layer_norm", "graph_norm", "graph_size_norm", "instance_norm",
            "mean_subtraction_norm", "pair_norm"],
    Meta(description="normalization between layers"),
]  # fmt: skip


Settings = Annotated[
    tuple[str, ...], Meta(description="any other option of the constructor, as KEY=VALUE (repeatable)")
]
T = TypeVar("T", bound=type)


def options(model: T) -> T:
    """Make a config of a class; `set` is its last option, behind those that it inherits."""
    model.__annotations__["set"], model.set = Settings, ()
    return dataclass(frozen=True, kw_only=True)(model)


# Message passing


@dataclass(frozen=True, kw_only=True)
class GNN:
    """Options that the seven basic networks share."""

    in_channels: In = 16
    hidden_channels: Hidden = 64
    num_layers: Layers = 2
    out_channels: Annotated[
        Count | None, Meta(description="features of each output; none: those between layers")
    ] = 4
    dropout: Dropout = 0.0
    act: Act = "relu"
    act_first: Annotated[bool, Meta(description="activation before the normalization")] = False
    norm: Norm = "none"
    jk: Annotated[
        Literal["none", "last", "cat", "max", "lstm"],
        Meta(description="how the outputs of all layers are joined; none: the last alone"),
    ] = "none"

    @property
    def outputs(self) -> int:
        """Features of each output."""
        return self.out_channels or self.hidden_channels


@options
class EdgeCNN(GNN):
    """Options of EdgeCNN."""


@options
class GCN(GNN):
    """Options of GCN."""

    improved: Annotated[bool, Meta(description="self-loops of weight 2")] = False
    normalize: Annotated[bool, Meta(description="weigh each edge by degrees")] = True
    bias: Bias = True


@options
class GraphSAGE(GNN):
    """Options of GraphSAGE."""

    aggr: Annotated[Literal["mean", "max", "add"], Meta(description="how neighbors are aggregated")] = "mean"
    project: Annotated[bool, Meta(description="a linear layer with relu before the aggregation")] = False
    normalize: Annotated[bool, Meta(description="outputs of length 1")] = False
    bias: Bias = True


@options
class GIN(GNN):
    """Options of GIN."""

    eps: Annotated[float, Meta(description="weight of a node's own features, less 1")] = 0.0
    train_eps: Annotated[bool, Meta(description="train eps")] = False


@options
class GAT(GNN):
    """Options of GAT."""

    heads: Annotated[int, Meta(ge=1, description="attention heads; they divide hidden_channels")] = 1
    v2: Annotated[bool, Meta(description="GATv2, whose attention depends on both nodes")] = False
    edge_dim: Annotated[Count | None, Meta(description="features of an edge; none: edges have none")] = None
    bias: Bias = True


@options
class PNA(GNN):
    """Options of PNA."""

    aggregators: Annotated[
        tuple[Literal["mean", "min", "max", "sum", "std", "var"], ...],
        Meta(description="how neighbors are aggregated, all at once"),
    ] = ("mean", "min", "max", "std")
    scalers: Annotated[
        tuple[Literal["identity", "amplification", "attenuation", "linear", "inverse_linear"], ...],
        Meta(description="how the degree scales an aggregate"),
    ] = ("identity", "amplification", "attenuation")
    deg: Annotated[
        tuple[Annotated[int, Meta(ge=0)], ...],
        Meta(description="nodes of degree 0, 1, 2, … in the training data"),
    ] = (0, 1, 9, 6, 6, 3, 4)
    edge_dim: Annotated[Count | None, Meta(description="features of an edge; none: edges have none")] = None
    towers: Annotated[int, Meta(ge=1, description="parts that features are split into")] = 1


@options
class DeepGCNLayer:
    """Options of a layer of DeepGCN around GENConv."""

    channels: Annotated[int, Meta(ge=1, description="features of a node")] = 64
    block: Annotated[
        Literal["res+", "res", "dense", "plain"], Meta(description="how the layer is connected")
    ] = "res+"
    dropout: Dropout = 0.1


@options
class GraphUNet:
    """Options of GraphUNet."""

    in_channels: In = 16
    hidden_channels: Hidden = 32
    out_channels: Out = 4
    levels: Annotated[int, Meta(ge=1, description="number of poolings")] = 3
    pool_ratios: Annotated[float, Meta(gt=0, le=1, description="share of nodes that a pooling keeps")] = 0.5
    sum_res: Annotated[bool, Meta(description="add skip connections; no: concatenate them")] = True
    act: Act = "relu"


@options
class RectL:
    """Options of RECT-L."""

    in_channels: In = 16
    hidden_channels: Hidden = 200
    normalize: Annotated[bool, Meta(description="weigh each edge by degrees")] = True
    dropout: Dropout = 0.0


@options
class SignedGCN:
    """Options of SignedGCN."""

    in_channels: In = 64
    hidden_channels: Annotated[
        int, Meta(ge=2, multiple_of=2, description="features of a node, half of them along each sign")
    ] = 64
    num_layers: Layers = 2
    lamb: Annotated[float, Meta(description="weight of the embedding loss")] = 5
    bias: Bias = True


# Graph transformers


@options
class SGFormer:
    """Options of SGFormer."""

    in_channels: In = 16
    hidden_channels: Hidden = 64
    out_channels: Out = 4
    trans_num_layers: Annotated[int, Meta(ge=1, description="layers of attention")] = 2
    trans_num_heads: Annotated[int, Meta(ge=1, description="attention heads")] = 1
    trans_dropout: Dropout = 0.5
    gnn_num_layers: Annotated[int, Meta(ge=1, description="layers of message passing")] = 3
    gnn_dropout: Dropout = 0.5
    graph_weight: Annotated[float, Meta(ge=0, le=1, description="share of message passing in the sum")] = 0.5
    aggregate: Annotated[Literal["add", "cat"], Meta(description="how the two branches are joined")] = "add"


@options
class Polynormer:
    """Options of Polynormer."""

    in_channels: In = 16
    hidden_channels: Hidden = 64
    out_channels: Out = 4
    local_layers: Annotated[int, Meta(ge=1, description="layers of message passing")] = 7
    global_layers: Annotated[int, Meta(ge=1, description="layers of attention")] = 2
    attention: Annotated[
        bool, Meta(description="attention after message passing; its users first train without it")
    ] = True
    in_dropout: Dropout = 0.15
    dropout: Dropout = 0.5
    global_dropout: Dropout = 0.5
    heads: Annotated[int, Meta(ge=1, description="attention heads")] = 1
    beta: Annotated[float, Meta(description="start of the gates; below 0: learned apart")] = 0.9
    qk_shared: Annotated[bool, Meta(description="queries are keys")] = False
    pre_ln: Annotated[bool, Meta(description="layer normalization before each layer")] = False
    post_bn: Annotated[bool, Meta(description="batch normalization after each layer")] = True
    local_attn: Annotated[bool, Meta(description="GAT, not GCN, for message passing")] = False


# Graph encoders


@options
class GPSE:
    """Options of GPSE."""

    dim_in: In = 20
    dim_out: Annotated[
        int, Meta(ge=1, description="node-level and graph-level targets that are predicted")
    ] = 51
    dim_inner: Hidden = 512
    layers_pre_mp: Annotated[int, Meta(ge=0, description="linear layers before message passing")] = 1
    layers_mp: Annotated[int, Meta(ge=1, description="layers of message passing")] = 20
    layers_post_mp: Annotated[int, Meta(ge=1, description="linear layers of each head")] = 2
    num_node_targets: Annotated[int, Meta(ge=1, description="targets of a node, each with a head")] = 51
    num_graph_targets: Annotated[int, Meta(ge=1, description="targets of a graph")] = 11
    stage_type: Annotated[
        Literal["skipsum", "skipconcat", "stack"], Meta(description="how layers are connected")
    ] = "skipsum"
    multi_head_dim_inner: Annotated[int, Meta(ge=1, description="features in each head")] = 32
    dropout: Dropout = 0.2
    virtual_node: Annotated[bool, Meta(description="the last node of a graph is a virtual one")] = True


@options
class GPSENodeEncoder:
    """Options of the encoder of GPSE's encodings."""

    dim_emb: Annotated[int, Meta(ge=1, description="features of each output")] = 128
    dim_pe_in: Annotated[int, Meta(ge=1, description="features of an encoding")] = 32
    dim_pe_out: Annotated[int, Meta(ge=1, description="features made of an encoding")] = 64
    dim_in: In = 64
    expand_x: Annotated[bool, Meta(description="a linear layer for the node features")] = False
    norm_type: Annotated[Literal["batchnorm", "none"], Meta(description="normalization of encodings")] = (
        "batchnorm"
    )
    model_type: Annotated[Literal["mlp", "linear"], Meta(description="what encodes an encoding")] = "mlp"
    n_layers: Layers = 2
    dropout_be: Dropout = 0.5
    dropout_ae: Dropout = 0.2


@options
class AttentiveFP:
    """Options of AttentiveFP."""

    in_channels: In = 39
    hidden_channels: Hidden = 200
    out_channels: Out = 1
    edge_dim: Annotated[int, Meta(ge=1, description="features of an edge")] = 10
    num_layers: Layers = 2
    num_timesteps: Annotated[int, Meta(ge=1, description="refinements of a graph's features")] = 2
    dropout: Dropout = 0.0


@options
class NeuralFingerprint:
    """Options of NeuralFingerprint."""

    in_channels: In = 16
    hidden_channels: Hidden = 32
    out_channels: Out = 64
    num_layers: Layers = 3


# Molecules


@dataclass(frozen=True, kw_only=True)
class Molecule:
    """Options that the networks on atoms share."""

    cutoff: Annotated[float, Meta(gt=0, description="how far apart neighbors are at most, in Å")] = 5.0
    max_num_neighbors: Annotated[int, Meta(ge=1, description="the most neighbors of an atom")] = 32


@options
class SchNet(Molecule):
    """Options of SchNet."""

    cutoff: Annotated[float, Meta(gt=0, description="how far apart neighbors are at most, in Å")] = 10.0
    hidden_channels: Hidden = 128
    num_filters: Annotated[int, Meta(ge=1, description="filters of a convolution")] = 128
    num_interactions: Annotated[int, Meta(ge=1, description="number of interaction blocks")] = 6
    num_gaussians: Annotated[int, Meta(ge=1, description="Gaussians that a distance is expanded in")] = 50
    readout: Annotated[Literal["add", "mean"], Meta(description="how atoms make a molecule")] = "add"
    dipole: Annotated[bool, Meta(description="predict the dipole moment")] = False


@dataclass(frozen=True, kw_only=True)
class Directional(Molecule):
    """Options that the two DimeNets share."""

    hidden_channels: Hidden = 128
    out_channels: Out = 1
    num_spherical: Annotated[int, Meta(ge=1, description="spherical harmonics")] = 7
    num_radial: Annotated[int, Meta(ge=1, description="radial basis functions")] = 6
    envelope_exponent: Annotated[int, Meta(ge=1, description="smoothness at the cutoff")] = 5
    num_before_skip: Annotated[int, Meta(ge=0, description="residual layers before the skip connection")] = 1
    num_after_skip: Annotated[int, Meta(ge=0, description="residual layers after it")] = 2
    num_output_layers: Annotated[int, Meta(ge=0, description="linear layers of each output")] = 3
    act: Annotated[Literal["swish", "relu", "elu", "silu", "tanh"], Meta(description="activation")] = "swish"


@options
class DimeNet(Directional):
    """Options of DimeNet."""

    num_blocks: Annotated[int, Meta(ge=1, description="number of interaction blocks")] = 6
    num_bilinear: Annotated[int, Meta(ge=1, description="size of the bilinear layer")] = 8


@options
class DimeNetPlusPlus(Directional):
    """Options of DimeNet++."""

    num_blocks: Annotated[int, Meta(ge=1, description="number of interaction blocks")] = 4
    int_emb_size: Annotated[int, Meta(ge=1, description="features within an interaction block")] = 64
    basis_emb_size: Annotated[int, Meta(ge=1, description="features of the basis")] = 8
    out_emb_channels: Annotated[int, Meta(ge=1, description="features within an output block")] = 256


@options
class GNNFF(Molecule):
    """Options of GNNFF."""

    hidden_node_channels: Hidden = 128
    hidden_edge_channels: Annotated[int, Meta(ge=1, description="features of an edge")] = 128
    num_layers: Layers = 4


@options
class ViSNet(Molecule):
    """Options of ViSNet."""

    lmax: Annotated[int, Meta(ge=1, le=2, description="degree of the spherical harmonics")] = 1
    num_heads: Annotated[int, Meta(ge=1, description="attention heads")] = 8
    num_layers: Layers = 6
    hidden_channels: Hidden = 128
    num_rbf: Annotated[int, Meta(ge=1, description="radial basis functions")] = 32
    trainable_rbf: Annotated[bool, Meta(description="train these")] = False
    max_z: Annotated[int, Meta(ge=2, description="number of chemical elements")] = 100
    vertex: Annotated[bool, Meta(description="vertex geometric features")] = False
    reduce_op: Annotated[Literal["sum", "mean"], Meta(description="how atoms make a molecule")] = "sum"


# Links and knowledge


@options
class LightGCN:
    """Options of LightGCN."""

    num_nodes: Annotated[int, Meta(ge=1, description="users and items")] = 100
    embedding_dim: Annotated[int, Meta(ge=1, description="features of a node")] = 64
    num_layers: Layers = 3


@options
class ARLinkPredictor:
    """Options of the attract-repel link predictor."""

    in_channels: In = 16
    hidden_channels: Hidden = 64
    out_channels: Annotated[int, Meta(ge=2, description="features of a node that are compared")] = 32
    num_layers: Layers = 2
    dropout: Dropout = 0.0
    attract_ratio: Annotated[float, Meta(ge=0, le=1, description="share of them that attract")] = 0.5


@options
class RENet:
    """Options of RE-Net."""

    num_nodes: Annotated[int, Meta(ge=1, description="entities")] = 1000
    num_rels: Annotated[int, Meta(ge=1, description="relations between them")] = 20
    hidden_channels: Hidden = 200
    seq_len: Annotated[int, Meta(ge=1, description="time steps of history")] = 10
    num_layers: Layers = 1
    dropout: Dropout = 0.0
    bias: Bias = True


@options
class Node2Vec:
    """Options of Node2Vec."""

    num_nodes: Annotated[int, Meta(ge=2, description="nodes of the graph")] = 1000
    embedding_dim: Annotated[int, Meta(ge=1, description="features of a node")] = 128
    walk_length: Annotated[int, Meta(ge=1, description="steps of a walk")] = 20
    context_size: Annotated[int, Meta(ge=1, description="steps in a context")] = 10


@options
class DeepGraphInfomax:
    """Options of Deep Graph Infomax around a layer of GCN, as in its paper."""

    in_channels: In = 16
    hidden_channels: Hidden = 512


# Parts


@options
class MLP:
    """Options of MLP."""

    in_channels: In = 16
    hidden_channels: Hidden = 64
    out_channels: Out = 4
    num_layers: Layers = 3
    dropout: Dropout = 0.0
    act: Act = "relu"
    act_first: Annotated[bool, Meta(description="activation before the normalization")] = False
    norm: Norm = "batch_norm"
    plain_last: Annotated[bool, Meta(description="only a linear layer at the end")] = True
    bias: Bias = True


@options
class PMLP:
    """Options of PMLP."""

    in_channels: In = 16
    hidden_channels: Hidden = 64
    out_channels: Out = 4
    num_layers: Annotated[int, Meta(ge=2, description="number of layers")] = 2
    dropout: Dropout = 0.0
    norm: Annotated[bool, Meta(description="batch normalization between layers")] = True
    bias: Bias = True


@options
class LINKX:
    """Options of LINKX."""

    num_nodes: Annotated[int, Meta(ge=1, description="nodes of the graph")] = 1000
    in_channels: In = 16
    hidden_channels: Hidden = 64
    out_channels: Out = 4
    num_layers: Layers = 2
    num_edge_layers: Annotated[int, Meta(ge=1, description="layers on the edges")] = 1
    num_node_layers: Annotated[int, Meta(ge=1, description="layers on the node features")] = 1
    dropout: Dropout = 0.0


@options
class JumpingKnowledge:
    """Options of JumpingKnowledge."""

    mode: Annotated[
        Literal["cat", "max", "lstm"], Meta(description="how the outputs of all layers are joined")
    ] = "lstm"
    channels: Annotated[int, Meta(ge=1, description="features of a node after each layer")] = 64
    num_layers: Annotated[int, Meta(ge=1, description="layers whose outputs are joined")] = 3

    @property
    def outputs(self) -> int:
        """Features of each output."""
        return self.channels * self.num_layers if self.mode == "cat" else self.channels


@options
class MaskLabel:
    """Options of MaskLabel."""

    num_classes: Annotated[int, Meta(ge=1, description="number of classes")] = 4
    out_channels: Out = 64
    method: Annotated[Literal["add", "concat"], Meta(description="how labels join the features")] = "add"
