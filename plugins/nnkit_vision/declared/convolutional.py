"""The convolutional networks after ResNet, with their inputs, dims and presets. Torch-free."""

from nnkit import Architecture, Dim, Preset, TensorSpec
from nnkit_vision.declared.shared import AS_TORCHVISION, BATCH, IMAGENET, LOGITS, image, image_dims

HUANG_2016 = "Huang, Liu, van der Maaten and Weinberger 2016, https://arxiv.org/abs/1608.06993"
HOWARD_2019 = "Howard et al. 2019, https://arxiv.org/abs/1905.02244"
TAN_2019 = "Tan and Le 2019, https://arxiv.org/abs/1905.11946"
LIU_2022 = "Liu, Mao, Wu, Feichtenhofer, Darrell and Xie 2022, https://arxiv.org/abs/2201.03545"
RONNEBERGER_2015 = "Ronneberger, Fischer and Brox 2015, https://arxiv.org/abs/1505.04597"


def densenet(depth: int) -> Architecture:
    """Declare one DenseNet."""
    return Architecture(
        name=f"densenet{depth}",
        summary=f"{depth} layers; each reads the outputs of all earlier layers of its block",
        family="DenseNet",
        build=f"nnkit_vision.densenet:densenet{depth}",
        config="nnkit_vision.configs:DenseNetConfig",
        inputs=[image()],
        outputs=[LOGITS],
        dims=image_dims(224, smallest=29),
        presets={"imagenet": IMAGENET},
        paper=HUANG_2016,
        equation="x_l = H_l([x_0, …, x_{l-1}]), H = 3×3 · relu(bn(1×1 · relu(bn(x))))",
        notes=[
            AS_TORCHVISION,
            "torchvision's published files have older names, norm.1 for norm1. They load as well.",
            "Its four blocks are the paper's form DenseNet-BC, with a growth rate of "
            f"{48 if depth == 161 else 32}.",
        ],
    )


def mobilenet_v3(size: str) -> Architecture:
    """Declare one MobileNetV3."""
    table = {"large": 1, "small": 2}[size]
    return Architecture(
        name=f"mobilenet-v3-{size}",
        summary=f"Inverted residuals, arranged by a search for the latency of a phone; the {size} one",
        family="MobileNet",
        build=f"nnkit_vision.mobilenet_v3:mobilenet_v3_{size}",
        config="nnkit_vision.configs:MobileNetV3Config",
        inputs=[image()],
        outputs=[LOGITS],
        dims=image_dims(224),
        stochastic="training",
        presets={"imagenet": IMAGENET},
        paper=f"{HOWARD_2019}, Table {table}",
        equation="y = project(squeeze_excite(depthwise(expand(x)))) + x; hswish(x) = x · relu6(x + 3) / 6",
        notes=[
            AS_TORCHVISION,
            "The paper's dropout of 0.8 is the share that is kept. It is 0.2 here, as in torchvision.",
        ],
    )


# The image size of the authors' code; that of B2 is torchvision's, where the authors have 260.
EFFICIENTNET_SIZES = (224, 240, 288, 300, 380, 456, 528, 600)


def efficientnet(number: int) -> Architecture:
    """Declare one EfficientNet, B0 to B7."""
    size = EFFICIENTNET_SIZES[number]
    what = "B0 scaled in depth and width" if number else "Inverted residuals, found by a search"
    notes = [AS_TORCHVISION]
    if number > 0:
        notes.append(
            f"Images are 224×224 by default. Use --preset imagenet for {size}×{size}, for which it was made."
        )
    if number == 2:
        notes.append("The authors' code has 260×260 for this network, torchvision 288×288.")
    if number >= 5:
        notes.append(
            "As in torchvision, batch normalization has eps 0.001 and momentum 0.01 in B5 to B7, and torch's "
            "defaults in B0 to B4."
        )
    configs = ("EfficientNetConfig", "EfficientNetB2Config", "EfficientNetB4Config", "EfficientNetB6Config")
    return Architecture(
        name=f"efficientnet-b{number}",
        summary=f"{what}, for images of {size}×{size}",
        family="EfficientNet",
        build=f"nnkit_vision.efficientnet:efficientnet_b{number}",
        config=f"nnkit_vision.configs:{configs[number // 2]}",
        inputs=[image()],
        outputs=[LOGITS],
        dims=image_dims(224),
        stochastic="training",
        presets={
            "imagenet": Preset(
                config={"num_classes": 1000},
                sizes={"height": size, "width": size},
                description=f"ImageNet: 1000 classes, {size}×{size}",
            )
        },
        paper=TAN_2019,
        equation="y = project(squeeze_excite(depthwise(expand(x)))) + x; scaled by 1.2^φ, 1.1^φ, 1.15^φ",
        notes=notes,
    )


def convnext(size: str, config: str) -> Architecture:
    """Declare one ConvNeXt."""
    return Architecture(
        name=f"convnext-{size}",
        summary=f"A ResNet rebuilt after the Transformer, with convolutions only; the {size} one",
        family="ConvNeXt",
        build=f"nnkit_vision.convnext:convnext_{size}",
        config=f"nnkit_vision.configs:{config}",
        inputs=[image()],
        outputs=[LOGITS],
        dims=image_dims(224, smallest=64),
        stochastic="training",
        presets={"imagenet": IMAGENET},
        paper=LIU_2022,
        equation="y = x + γ ⊙ W₂ gelu(W₁ LayerNorm(depthwise 7×7 · x))",
        notes=[
            AS_TORCHVISION,
            "torchvision allows images from 32×32. Here they start at 64×64: with a single pixel in the last "
            "stage, an export would be a different program.",
        ],
    )


def pixels(what: str) -> Dim:
    """Return the height or the width of an image that is halved `levels` times, to two pixels or more."""
    return Dim(
        default=128,
        min="2**(levels + 1)",
        multiple_of="2**levels",
        description=f"{what} of the image in pixels",
    )


UNET = Architecture(
    name="unet",
    summary="U-Net: a class for each pixel, from features at several resolutions",
    family="segmentation",
    build="nnkit_vision.unet:UNet",
    config="nnkit_vision.configs:UNetConfig",
    inputs=[image()],
    outputs=[
        TensorSpec(
            "scores", ("batch", "num_classes", "height", "width"), description="class scores of each pixel"
        )
    ],
    dims={"batch": BATCH, "height": pixels("height"), "width": pixels("width")},
    presets={
        "paper": Preset(
            config={"num_classes": 2, "in_channels": 1, "dropout": 0.5},
            sizes={"height": 576, "width": 576},
            description="cells in gray: 31,030,658 parameters; the paper's 572×572 to a multiple of 16",
        ),
        "carvana": Preset(
            config={"num_classes": 2, "in_channels": 3, "batch_norm": True},
            sizes={"height": 640, "width": 960},
            description="cars in color: batch normalization, 31,037,698 parameters",
        ),
        "brain-mri": Preset(
            config={"num_classes": 1, "in_channels": 3, "channels": 32, "batch_norm": True},
            sizes={"height": 256, "width": 256},
            description="tumors in scans: batch normalization, half the channels, 7,763,041 parameters",
        ),
        "tiny": Preset(
            config={"channels": 8, "levels": 2},
            sizes={"height": 32, "width": 32},
            description="trains in seconds",
        ),
    },
    paper=RONNEBERGER_2015,
    equation="e_i = f(pool(e_{i-1})), d_{i-1} = f([e_{i-1}, up(d_i)]), y = W d_0",
    notes=[
        "The paper doesn't pad its convolutions, so its scores are 184 pixels smaller than the image, and "
        "what goes across is cropped. Here they are padded, and the scores are as large as the image.",
        "The paper has dropout at the end of its left side, but gives no rate. Here it follows the lowest "
        "level and is 0 by default.",
        "Weights are drawn as in the paper: normal, of deviation √(2/N) where N numbers go into a result.",
        "The lowest level has at least two pixels a side: with one, an export would be a different program.",
    ],
)


def convolutional_architectures() -> list[Architecture]:
    """Return the convolutional networks after ResNet, family by family."""
    return [
        *(densenet(depth) for depth in (121, 161, 169, 201)),
        UNET,
        *(mobilenet_v3(size) for size in ("small", "large")),
        *(efficientnet(number) for number in range(8)),
        convnext("tiny", "ConvNeXtConfig"),
        convnext("small", "ConvNeXtSmallConfig"),
        convnext("base", "ConvNeXtBaseConfig"),
        convnext("large", "ConvNeXtBaseConfig"),
    ]
