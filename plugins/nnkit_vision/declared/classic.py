"""The image classifiers up to 2015, LeNet to ResNet, with their inputs, dims and presets. Torch-free."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnkit import Architecture, Preset, TensorSpec
from nnkit_vision.declared.shared import AS_TORCHVISION, BATCH, IMAGENET, LOGITS, image, image_dims

if TYPE_CHECKING:
    from nnkit_vision.configs import GoogLeNetConfig

LECUN_1998 = "LeCun, Bottou, Bengio and Haffner 1998, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf"
KRIZHEVSKY_2012 = "Krizhevsky, Sutskever and Hinton 2012, https://papers.nips.cc/paper/4824"
SIMONYAN_2014 = "Simonyan and Zisserman 2014, https://arxiv.org/abs/1409.1556"
SZEGEDY_2014 = "Szegedy et al. 2014, https://arxiv.org/abs/1409.4842"
HE_2015 = "He, Zhang, Ren and Sun 2015, https://arxiv.org/abs/1512.03385"


SIMPLE_CNN = Architecture(
    name="simple-cnn",
    summary="Two convolutions with pooling, and two linear layers",
    family="CNN",
    build="nnkit_vision.simple_cnn:SimpleCNN",
    config="nnkit_vision.configs:SimpleCNNConfig",
    inputs=[image(height="image_size", width="image_size")],
    outputs=[LOGITS],
    dims={"batch": BATCH},
    paper=f"after {LECUN_1998}",
    equation="y = fc2(relu(fc1(flatten(pool(relu(conv2(pool(relu(conv1(x)))))))))",
    notes=[
        "The tutorial reshapes with view(-1, 4096). At any other image size that moves pixels from one "
        "image to the next and changes the batch. Here each image is flattened separately, and the first "
        "linear layer is sized for image_size.",
    ],
)

LENET = Architecture(
    name="lenet",
    summary="LeNet-5 as taught today: ReLU and max pooling",
    family="LeNet",
    build="nnkit_vision.lenet:LeNet",
    config="nnkit_vision.configs:LeNetConfig",
    inputs=[image(height="image_size", width="image_size")],
    outputs=[LOGITS],
    dims={"batch": BATCH},
    presets={
        "mnist": Preset(description="28×28 grayscale, padded to the paper's 32×32"),
        "cifar10": Preset(
            config={"in_channels": 3, "image_size": 32, "padding": 0}, description="32×32 in color"
        ),
    },
    paper=f"after {LECUN_1998}",
    equation="y = fc3(relu(fc2(relu(fc1(flatten(pool(relu(conv2(pool(relu(conv1(x)))))))))))",
    notes=["This is not the network of the paper; that one is lenet-1998."],
)

LENET_1998 = Architecture(
    name="lenet-1998",
    summary="LeNet-5 as published: sparse maps, trainable subsampling, distances to digit bitmaps",
    family="LeNet",
    build="nnkit_vision.lenet_1998:LeNet1998",
    config="nnkit_vision.configs:LeNet1998Config",
    inputs=[image(1, 32, 32)],
    outputs=[TensorSpec("penalties", ("batch", 10), description="squared distance to each digit")],
    dims={"batch": BATCH},
    paper=LECUN_1998,
    equation="y_i = Σ_j (F6_j - bitmap_ij)²; f(a) = 1.7159 tanh(2a/3) after each layer up to F6",
    notes=[
        "The outputs are penalties, as in the paper: the smallest one wins. Use -y as scores for a loss.",
        "The bitmaps are drawn in the style of the paper's Figure 3, whose own pixels aren't published.",
    ],
)

ALEXNET = Architecture(
    name="alexnet",
    summary="Five convolutions and three linear layers, in one column",
    family="AlexNet",
    build="nnkit_vision.alexnet:AlexNet",
    config="nnkit_vision.configs:AlexNetConfig",
    inputs=[image()],
    outputs=[LOGITS],
    dims=image_dims(224, smallest=63),
    stochastic="training",
    presets={"imagenet": IMAGENET},
    paper=f"{KRIZHEVSKY_2012}; in the form of Krizhevsky 2014, https://arxiv.org/abs/1404.5997",
    equation="y = classifier(flatten(avgpool(features(x))))",
    notes=[
        AS_TORCHVISION,
        "This is not the network of 2012, which is alexnet-2012. It has one column instead of two groups, "
        "fewer channels, and no local response normalization.",
    ],
)

ALEXNET_2012 = Architecture(
    name="alexnet-2012",
    summary="AlexNet as published: two groups, local response normalization",
    family="AlexNet",
    build="nnkit_vision.alexnet_2012:AlexNet2012",
    config="nnkit_vision.configs:AlexNet2012Config",
    inputs=[image(height=227, width=227)],
    outputs=[LOGITS],
    dims={"batch": BATCH},
    stochastic="training",
    presets={"imagenet": IMAGENET},
    paper=KRIZHEVSKY_2012,
    equation="y = classifier(flatten(features(x))); b_i = a_i / (2 + 10⁻⁴ Σ_j a_j²)^0.75 over 5 channels",
    notes=[
        "The paper says 224×224, but the 55×55 outputs of its first layer need 227×227.",
        "torch and Caffe divide α by the window of five, the paper doesn't: so alpha is 5·10⁻⁴ here.",
    ],
)


def vgg(depth: int, batch_norm: bool) -> Architecture:
    """Declare one VGG."""
    name = f"vgg{depth}-bn" if batch_norm else f"vgg{depth}"
    return Architecture(
        name=name,
        summary=f"{depth} layers of small filters{', with batch normalization' if batch_norm else ''}",
        family="VGG",
        build=f"nnkit_vision.vgg:{name.replace('-', '_')}",
        config="nnkit_vision.configs:VGGConfig",
        inputs=[image()],
        outputs=[LOGITS],
        dims=image_dims(224, smallest=32),
        stochastic="training",
        presets={"imagenet": IMAGENET},
        paper=SIMONYAN_2014,
        equation="y = classifier(flatten(avgpool(features(x)))), with 3×3 convolutions only",
        notes=[AS_TORCHVISION, *(["The paper has no batch normalization."] if batch_norm else [])],
    )


def googlenet_inputs(config: "GoogLeNetConfig") -> Sequence[TensorSpec]:
    """Return the inputs of `googlenet-2014`, whose auxiliary heads need images of the paper's size."""
    return [image(height=224, width=224) if config.aux_logits else image()]


AUX_NOTE = (
    "With aux_logits, training returns (logits, aux2, aux1), and evaluation only the logits. The paper adds "
    "the auxiliary losses with weight 0.3."
)

GOOGLENET = Architecture(
    name="googlenet",
    summary="Inception blocks: four parallel branches, concatenated along the channels",
    family="GoogLeNet",
    build="nnkit_vision.googlenet:GoogLeNet",
    config="nnkit_vision.configs:GoogLeNetConfig",
    inputs=[image()],
    outputs=[LOGITS],
    dims=image_dims(224, smallest=15),
    stochastic="training",
    presets={"imagenet": IMAGENET},
    paper=SZEGEDY_2014,
    equation="inception(x) = cat(1×1·x, 3×3·1×1·x, 3×3·1×1·x, 1×1·pool(x))",
    notes=[
        AS_TORCHVISION,
        "It follows torchvision where that differs from the paper (googlenet-2014): batch normalization with "
        "eps 0.001, 3×3 instead of 5×5, a last pool of 2×2, and auxiliary heads over 4×4 means.",
        "torchvision's constructor adds the auxiliary heads by default. Here they come with aux_logits.",
        AUX_NOTE,
    ],
)

GOOGLENET_2014 = Architecture(
    name="googlenet-2014",
    summary="GoogLeNet as published: 5×5 convolutions, biases, local response normalization",
    family="GoogLeNet",
    build="nnkit_vision.googlenet_2014:GoogLeNet2014",
    config="nnkit_vision.configs:GoogLeNet2014Config",
    inputs=googlenet_inputs,
    outputs=[LOGITS],
    dims=image_dims(224, smallest=31),
    stochastic="training",
    presets={"imagenet": IMAGENET},
    paper=SZEGEDY_2014,
    equation="inception(x) = cat(1×1·x, 3×3·1×1·x, 5×5·1×1·x, 1×1·pool(x))",
    notes=[
        "The paper doesn't give its initialization or the constants of its normalization. They are those of "
        "Caffe's bvlc_googlenet.",
        "The paper's auxiliary heads pool 5×5 with stride 3, which fits only 224×224: aux_logits fixes the "
        "size.",
        AUX_NOTE,
    ],
)

RESNET_PRESETS = {
    "imagenet": Preset(
        config={"num_classes": 1000, "stem": "imagenet"},
        sizes={"height": 224, "width": 224},
        description="ImageNet: 1000 classes, 224×224",
    ),
    "cifar10": Preset(
        config={"num_classes": 10, "stem": "cifar"},
        sizes={"height": 32, "width": 32},
        description="CIFAR-10: 10 classes, 32×32, a stem that keeps the size",
    ),
}


def resnet(depth: int) -> Architecture:
    """Declare one ResNet for ImageNet."""
    bottleneck = depth >= 50
    notes = [
        AS_TORCHVISION,
        "The tutorial keeps torch's default initialization. A network that has learned a batch by heart then "
        "misclassifies about a quarter of it in evaluation. Here convolutions are drawn by He's rule.",
        "The tutorial uses the ImageNet stem for images of any size. At 32×32 it leaves the last stage a "
        "single pixel, and training with a batch of one raises an error. Use --stem cifar there.",
    ]
    if bottleneck:
        notes.append(
            "v1.5 (torchvision) has its stride in the 3×3 convolution, v1 (the paper) in the first 1×1. "
            "Their state dicts are alike, so weights of one load into the other silently and give wrong "
            "results."
        )
    return Architecture(
        name=f"resnet{depth}",
        summary=f"Residual network of {depth} layers, with {'bottlenecks' if bottleneck else 'basic blocks'}",
        family="ResNet",
        build=f"nnkit_vision.resnet:resnet{depth}",
        config=f"nnkit_vision.configs:{'Bottleneck' * bottleneck}ResNetConfig",
        inputs=[image()],
        outputs=[LOGITS],
        dims=image_dims(224),
        presets=RESNET_PRESETS,
        paper=HE_2015,
        equation="y = relu(F(x) + x), and relu(F(x) + W x) where a stage begins",
        notes=notes,
    )


def cifar_resnet(depth: int) -> Architecture:
    """Declare one ResNet for CIFAR."""
    return Architecture(
        name=f"resnet{depth}",
        summary=f"Residual network of {depth} layers for CIFAR, with parameter-free shortcuts",
        family="ResNet",
        build=f"nnkit_vision.resnet_cifar:resnet{depth}",
        config="nnkit_vision.configs:CIFARResNetConfig",
        inputs=[image()],
        outputs=[LOGITS],
        dims=image_dims(32),
        presets={
            f"cifar{classes}": Preset(config={"num_classes": classes}, description=f"{classes} classes")
            for classes in (10, 100)
        },
        paper=f"{HE_2015}, section 4.2",
        equation="y = relu(F(x) + x), and relu(F(x) + pad(x)) where a stage begins (option A)",
        notes=["Many published ports use projections (option B) instead; their state dicts don't fit."],
    )


def classic_architectures() -> list[Architecture]:
    """Return the image classifiers up to 2015, oldest family first."""
    return [
        SIMPLE_CNN,
        LENET,
        LENET_1998,
        ALEXNET,
        ALEXNET_2012,
        *(vgg(depth, batch_norm) for depth in (11, 13, 16, 19) for batch_norm in (False, True)),
        GOOGLENET,
        GOOGLENET_2014,
        *(resnet(depth) for depth in (18, 34, 50, 101, 152)),
        *(cifar_resnet(depth) for depth in (20, 32, 44, 56, 110)),
    ]
