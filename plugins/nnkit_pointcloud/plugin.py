"""PointNet for classification, without transform nets, and for part segmentation."""

from typing import TYPE_CHECKING

from nnkit import Architecture, Dim, TensorSpec, hookimpl

if TYPE_CHECKING:
    from nnkit_pointcloud.configs import PointNetConfig, PointNetSegmentationConfig

NNKIT_PLUGIN_API = "1.1"

FAMILY = "point cloud"
PAPER = (
    "Qi, Su, Mo, Guibas: PointNet: Deep Learning on Point Sets for 3D Classification and Segmentation, "
    "CVPR 2017, https://arxiv.org/abs/1612.00593"
)
CLOUD = TensorSpec(
    "x", ("batch", "in_channels", "points"), description="coordinates of the points, in any order"
)
DIMS = {
    "batch": Dim(default=1, description="clouds in a batch; batch norm needs at least 2 in training"),
    "points": Dim(default=1024, description="points per cloud"),
}
TUTORIAL = 'What the tutorial calls "PointNet" is a pointer network: see pointer-network.'
ORIGINAL = (
    "Layers, initial values (Glorot, and T-Nets that predict the identity) and the batch norm epsilon of "
    "1e-3 follow the authors' code. PyTorch ports use 1e-5 and other initial values."
)
MULTIPLY_ADDS = (
    "The paper's 440 million operations per cloud are rounded multiply-adds: 448.0 million at 1024 points "
    "and 40 classes."
)
REGULARIZER = (
    "The paper adds 0.001 · ‖I − A Aᵀ‖² to the loss, where A is the feature transform. --return-transform "
    "returns A, and nnkit_pointcloud.pointnet.orthogonality_loss computes the term."
)


def _outputs(
    logits: TensorSpec, config: "PointNetConfig | PointNetSegmentationConfig"
) -> tuple[TensorSpec, ...]:
    if not config.return_transform:
        return (logits,)
    return (logits, TensorSpec("transform", ("batch", 64, 64), description="feature transform of each cloud"))


def _classification_outputs(config: "PointNetConfig") -> tuple[TensorSpec, ...]:
    return _outputs(TensorSpec("logits", ("batch", "num_classes"), description="class scores"), config)


def _segmentation_outputs(config: "PointNetSegmentationConfig") -> tuple[TensorSpec, ...]:
    logits = TensorSpec(
        "logits", ("batch", "num_classes", "points"), description="class scores for each point"
    )
    return _outputs(logits, config)


POINTNET = Architecture(
    name="pointnet",
    summary="PointNet classifier for point clouds, with input and feature transform nets",
    build="nnkit_pointcloud.pointnet:PointNet",
    config="nnkit_pointcloud.configs:PointNetConfig",
    inputs=(CLOUD,),
    outputs=_classification_outputs,
    dims=DIMS,
    permutation=("points",),
    stochastic="training",
    family=FAMILY,
    paper=PAPER,
    equation="f({x_1, ..., x_n}) = g(max_i h(x_i)), with x_i <- x_i T_3(X) and h_i <- h_i T_64(H)",
    notes=(TUTORIAL, ORIGINAL, REGULARIZER, MULTIPLY_ADDS),
)

POINTNET_VANILLA = Architecture(
    name="pointnet-vanilla",
    summary="PointNet classifier without transform nets: the paper's baseline",
    build="nnkit_pointcloud.pointnet:PointNetVanilla",
    config="nnkit_pointcloud.configs:PointNetVanillaConfig",
    inputs=(CLOUD,),
    outputs=(TensorSpec("logits", ("batch", "num_classes"), description="class scores"),),
    dims=DIMS,
    permutation=("points",),
    stochastic="training",
    family=FAMILY,
    paper=PAPER,
    equation="f({x_1, ..., x_n}) = g(max_i h(x_i))",
    notes=(
        TUTORIAL,
        ORIGINAL,
        "In the authors' code this network has dropout only before the last layer. Here it has dropout after "
        "both hidden layers of the head, like their full network.",
    ),
)

POINTNET_SEGMENTATION = Architecture(
    name="pointnet-segmentation",
    summary="PointNet that labels each point of a cloud, with input and feature transform nets",
    build="nnkit_pointcloud.pointnet:PointNetSegmentation",
    config="nnkit_pointcloud.configs:PointNetSegmentationConfig",
    inputs=(CLOUD,),
    outputs=_segmentation_outputs,
    dims=DIMS,
    permutation=("points",),
    family=FAMILY,
    paper=PAPER,
    equation="s_i = g([h_i; max_j k(h_j)]), h_i = h(x_i T_3(X)) T_64(H)",
    notes=(
        TUTORIAL,
        ORIGINAL,
        REGULARIZER,
        "This is the segmentation network of the paper's Figure 2. The supplement's variant for ShapeNet "
        "parts is a different network: it also takes the class of the object, and joins five layers.",
    ),
)


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Declare the PointNet family."""
    return [POINTNET, POINTNET_VANILLA, POINTNET_SEGMENTATION]
