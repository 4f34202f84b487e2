"""The image networks after ResNet, with their inputs, dims and presets. Torch-free."""

from collections.abc import Sequence

from nnkit import Architecture, Dim, Preset, TensorSpec
from nnkit_vision.configs import (
    CLIPConfig,
    ConvNeXtBaseConfig,
    ConvNeXtConfig,
    ConvNeXtSmallConfig,
    DenseNetConfig,
    EfficientNetB2Config,
    EfficientNetB4Config,
    EfficientNetB6Config,
    EfficientNetConfig,
    MixerConfig,
    MobileNetV3Config,
    Patches8Config,
    Patches16Config,
    Patches32Config,
    ResMLPConfig,
    UNetConfig,
    ViT14Config,
    ViT16Config,
    ViT32Config,
    ViTConfig,
)
from nnkit_vision.declarations import AS_TORCHVISION, BATCH, IMAGENET, LOGITS, image, image_dims

# ---- convolutional: densenet, mobilenet-v3, efficientnet, convnext, unet

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
        config=DenseNetConfig,
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
        config=MobileNetV3Config,
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
    configs = (EfficientNetConfig, EfficientNetB2Config, EfficientNetB4Config, EfficientNetB6Config)
    return Architecture(
        name=f"efficientnet-b{number}",
        summary=f"{what}, for images of {size}×{size}",
        family="EfficientNet",
        build=f"nnkit_vision.efficientnet:efficientnet_b{number}",
        config=configs[number // 2],
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


def convnext(size: str, config: type[ConvNeXtConfig]) -> Architecture:
    """Declare one ConvNeXt."""
    return Architecture(
        name=f"convnext-{size}",
        summary=f"A ResNet rebuilt after the Transformer, with convolutions only; the {size} one",
        family="ConvNeXt",
        build=f"nnkit_vision.convnext:convnext_{size}",
        config=config,
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
    config=UNetConfig,
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


# ---- without convolutions: vit, mixer, resmlp, clip

DOSOVITSKIY_2020 = "Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929"
TOLSTIKHIN_2021 = "Tolstikhin et al. 2021, https://arxiv.org/abs/2105.01601"
TOUVRON_2021 = "Touvron et al. 2021, https://arxiv.org/abs/2105.03404"

HEAD_OF_ZEROS = "The head starts at zero, as in the reference: an untrained network scores every class 0."


def patch_classifier(
    name: str,
    summary: str,
    config: type,
    *,
    family: str,
    module: str,
    paper: str,
    equation: str,
    notes: Sequence[str],
    drops: bool = False,
) -> Architecture:
    """Declare a classifier of images that are cut into patches. drops: whether it has dropout."""
    return Architecture(
        name=name,
        summary=summary,
        family=family,
        build=f"nnkit_vision.{module}:{name.replace('-', '_')}",
        config=config,
        inputs=[image(height="image_size", width="image_size")],
        outputs=[LOGITS],
        dims={"batch": BATCH},
        paper=paper,
        equation=equation,
        notes=notes,
        stochastic="training" if drops else "",
    )


def vit(name: str, summary: str, config: type) -> Architecture:
    """Declare one Vision Transformer."""
    return patch_classifier(
        name,
        summary,
        config,
        family="ViT",
        module="vit",
        drops=True,
        paper=DOSOVITSKIY_2020,
        equation="z' = attention(norm(z)) + z;  z = mlp(norm(z')) + z';  y = W norm(z)[class token]",
        notes=[
            AS_TORCHVISION,
            "Each patch has its own position, so the size of the image is an option of the network. Weights "
            "of another image_size have to be interpolated before they load.",
            "The head is one linear layer. The paper trains it with a hidden layer first (torchvision's "
            "representation_size).",
            HEAD_OF_ZEROS,
        ],
    )


VITS = [
    vit("vit", "Vision Transformer of any size, by default a small one for 32×32 images", ViTConfig),
    vit("vit-b-16", "Vision Transformer, base: 12 blocks, patches of 16×16", ViT16Config),
    vit("vit-b-32", "Vision Transformer, base: 12 blocks, patches of 32×32", ViT32Config),
    vit("vit-l-16", "Vision Transformer, large: 24 blocks, patches of 16×16", ViT16Config),
    vit("vit-l-32", "Vision Transformer, large: 24 blocks, patches of 32×32", ViT32Config),
    vit("vit-h-14", "Vision Transformer, huge: 32 blocks, patches of 14×14", ViT14Config),
]


def as_timm(name: str) -> str:
    """Return the note on what an architecture is called in timm."""
    return f"Names, initialization and arithmetic match timm's {name}, so its state dicts load unchanged."


def mixer(name: str, summary: str, config: type, timm_name: str) -> Architecture:
    """Declare one MLP-Mixer."""
    return patch_classifier(
        name,
        summary,
        config,
        family="MLP",
        module="mixer",
        paper=TOLSTIKHIN_2021,
        equation="U = X + mlp(norm(X)ᵀ)ᵀ across the patches;  Y = U + mlp(norm(U)) across their features",
        notes=[
            as_timm(timm_name),
            "The MLPs across the patches have weights for each, so the image size is an option.",
            "The last bias of each MLP across the patches changes nothing: it adds the same number to all "
            "features of a patch, which each later normalization subtracts.",
            "The paper trains with stochastic depth and dropout, which aren't here. Evaluation has neither.",
            HEAD_OF_ZEROS,
        ],
    )


MIXERS = [
    mixer("mixer", "MLP-Mixer of any size, by default a small one for 32×32 images", MixerConfig, "MlpMixer"),
    mixer("mixer-s-32", "MLP-Mixer, small: 8 blocks, patches of 32×32", Patches32Config, "mixer_s32_224"),
    mixer("mixer-s-16", "MLP-Mixer, small: 8 blocks, patches of 16×16", Patches16Config, "mixer_s16_224"),
    mixer("mixer-b-32", "MLP-Mixer, base: 12 blocks, patches of 32×32", Patches32Config, "mixer_b32_224"),
    mixer("mixer-b-16", "MLP-Mixer, base: 12 blocks, patches of 16×16", Patches16Config, "mixer_b16_224"),
    mixer("mixer-l-32", "MLP-Mixer, large: 24 blocks, patches of 32×32", Patches32Config, "mixer_l32_224"),
    mixer("mixer-l-16", "MLP-Mixer, large: 24 blocks, patches of 16×16", Patches16Config, "mixer_l16_224"),
]


def resmlp(name: str, summary: str, config: type, timm_name: str) -> Architecture:
    """Declare one ResMLP."""
    return patch_classifier(
        name,
        summary,
        config,
        family="MLP",
        module="resmlp",
        paper=TOUVRON_2021,
        equation="Z = X + s₁ ⊙ (A aff(X));  Y = Z + s₂ ⊙ mlp(aff(Z));  aff(X) = α ⊙ X + β",
        notes=[
            as_timm(timm_name),
            "Files of the authors (facebookresearch/deit) load too.",
            "The layers across the patches have a weight for each pair, so the image size is an option.",
            "The paper trains deep ones with stochastic depth, which isn't here. Evaluation has none.",
            HEAD_OF_ZEROS,
        ],
    )


RESMLPS = [
    resmlp(
        "resmlp",
        "ResMLP of any size, by default a small one for 32×32 images",
        ResMLPConfig,
        "MlpMixer of ResBlocks",
    ),
    resmlp("resmlp-12", "ResMLP: 12 blocks, patches of 16×16", Patches16Config, "resmlp_12_224"),
    resmlp("resmlp-24", "ResMLP: 24 blocks, patches of 16×16", Patches16Config, "resmlp_24_224"),
    resmlp("resmlp-36", "ResMLP: 36 blocks, patches of 16×16", Patches16Config, "resmlp_36_224"),
    resmlp("resmlp-big-24", "ResMLP: 24 wide blocks, patches of 8×8", Patches8Config, "resmlp_big_24_224"),
]


RADFORD_2021 = "Radford et al. 2021, https://arxiv.org/abs/2103.00020"


def clip_outputs(config: CLIPConfig) -> Sequence[TensorSpec]:
    """Return the outputs of `clip`, whose similarities are an option."""
    similarities = [
        TensorSpec("logits_per_image", ("batch", "texts"), description="similarity, scaled"),
        TensorSpec("logits_per_text", ("texts", "batch"), description="the same, transposed"),
    ]
    embeddings = [
        TensorSpec("text_embeds", ("texts", "embedding"), description="of length 1"),
        TensorSpec("image_embeds", ("batch", "embedding"), description="of length 1"),
    ]
    return [*(similarities if config.similarity else []), *embeddings]


def clip_preset(parameters: int, name: str, **config: int) -> Preset:
    """Return a published size of CLIP."""
    return Preset(config=config, description=f"{name}, {parameters:,} parameters")


LARGE_CLIP = {
    "patch_size": 14,
    "vision_width": 1024,
    "vision_blocks": 24,
    "vision_heads": 16,
    "text_width": 768,
    "text_heads": 12,
    "embedding": 768,
}

CLIP = Architecture(
    name="clip",
    summary="Embeddings of images and texts that point the same way if they belong together",
    family="contrastive",
    build="nnkit_vision.clip:CLIP",
    config=CLIPConfig,
    inputs=[
        TensorSpec(
            "input_ids",
            ("texts", "time"),
            "int64",
            sample="index",
            index_of="vocabulary",
            description="tokens of each text, which ends at its highest one",
        ),
        TensorSpec(
            "pixel_values",
            ("batch", "in_channels", "image_size", "image_size"),
            description="images, channels first",
        ),
        TensorSpec(
            "attention_mask",
            ("texts", "time"),
            "bool",
            sample="prefix",
            index_of="time",
            description="true at the tokens of a text, false behind its end",
            optional=True,
            given=False,
        ),
    ],
    outputs=clip_outputs,
    dims={
        "batch": BATCH,
        "texts": Dim(default=1, description="texts in a batch"),
        "time": Dim(default=77, max="context", description="tokens of a text"),
    },
    padding=("attention_mask",),
    presets={
        "vit-b-32": clip_preset(151_277_313, "openai/clip-vit-base-patch32"),
        "vit-b-16": clip_preset(149_620_737, "openai/clip-vit-base-patch16", patch_size=16),
        "vit-l-14": clip_preset(427_616_513, "openai/clip-vit-large-patch14", **LARGE_CLIP),
        "vit-l-14-336": clip_preset(
            427_944_193, "openai/clip-vit-large-patch14-336", image_size=336, **LARGE_CLIP
        ),
        "tiny": Preset(
            config={
                "image_size": 32,
                "patch_size": 8,
                "vision_width": 64,
                "vision_blocks": 2,
                "vision_heads": 4,
                "vocabulary": 2000,
                "context": 16,
                "text_width": 48,
                "text_blocks": 2,
                "text_heads": 4,
                "embedding": 32,
            },
            sizes={"batch": 2, "texts": 3, "time": 16},
            description="small enough to train in seconds",
        ),
    },
    paper=RADFORD_2021,
    equation="e = u / ‖u‖ for images, f = v / ‖v‖ for texts;  sᵢⱼ = exp(t) eᵢ · fⱼ",
    notes=[
        "Names and arithmetic match transformers' CLIPModel, so its state dicts load unchanged. Inputs have "
        "its names too, so what its processor returns can be passed as it is.",
        "The end of a text is its highest token, as in the authors' code, and in transformers for OpenAI's "
        "weights. For others, transformers looks for eos_token_id: the same where that is the last token.",
        "With an attention mask, the end is looked for among the real tokens. A text that ends with its end "
        "token needs no mask, since no token sees later ones.",
        "The biases of the keys change nothing: they add the same number to all scores of a softmax.",
        "Without similarity, logit_scale is a buffer: nothing trains it, and files have it.",
        "The paper keeps exp(t) at 100 or below while it trains; here that is up to the training loop.",
        "The networks of the paper whose images go through a ResNet aren't here.",
    ],
)


def modern_architectures() -> list[Architecture]:
    """Return the image networks after ResNet, oldest family first."""
    return [
        *(densenet(depth) for depth in (121, 161, 169, 201)),
        UNET,
        *(mobilenet_v3(size) for size in ("small", "large")),
        *(efficientnet(number) for number in range(8)),
        convnext("tiny", ConvNeXtConfig),
        convnext("small", ConvNeXtSmallConfig),
        convnext("base", ConvNeXtBaseConfig),
        convnext("large", ConvNeXtBaseConfig),
        # without convolutions
        *VITS,
        *MIXERS,
        *RESMLPS,
        CLIP,
    ]
