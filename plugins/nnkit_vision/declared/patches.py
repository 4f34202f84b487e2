"""The networks that take an image in patches, with their inputs, dims and presets. Torch-free."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnkit import Architecture, Dim, Preset, TensorSpec
from nnkit_vision.declared.shared import AS_TORCHVISION, BATCH, LOGITS, image

if TYPE_CHECKING:
    from nnkit_vision.configs import CLIPConfig

DOSOVITSKIY_2020 = "Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929"
TOLSTIKHIN_2021 = "Tolstikhin et al. 2021, https://arxiv.org/abs/2105.01601"
TOUVRON_2021 = "Touvron et al. 2021, https://arxiv.org/abs/2105.03404"

HEAD_OF_ZEROS = "The head starts at zero, as in the reference: an untrained network scores every class 0."


def patch_classifier(
    name: str,
    summary: str,
    config: str,
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
        config=f"nnkit_vision.configs:{config}",
        inputs=[image(height="image_size", width="image_size")],
        outputs=[LOGITS],
        dims={"batch": BATCH},
        paper=paper,
        equation=equation,
        notes=notes,
        stochastic="training" if drops else "",
    )


def vit(name: str, summary: str, config: str) -> Architecture:
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
    vit("vit", "Vision Transformer of any size, by default a small one for 32×32 images", "ViTConfig"),
    vit("vit-b-16", "Vision Transformer, base: 12 blocks, patches of 16×16", "ViT16Config"),
    vit("vit-b-32", "Vision Transformer, base: 12 blocks, patches of 32×32", "ViT32Config"),
    vit("vit-l-16", "Vision Transformer, large: 24 blocks, patches of 16×16", "ViT16Config"),
    vit("vit-l-32", "Vision Transformer, large: 24 blocks, patches of 32×32", "ViT32Config"),
    vit("vit-h-14", "Vision Transformer, huge: 32 blocks, patches of 14×14", "ViT14Config"),
]


def as_timm(name: str) -> str:
    """Return the note on what an architecture is called in timm."""
    return f"Names, initialization and arithmetic match timm's {name}, so its state dicts load unchanged."


def mixer(name: str, summary: str, config: str, timm_name: str) -> Architecture:
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
    mixer(
        "mixer", "MLP-Mixer of any size, by default a small one for 32×32 images", "MixerConfig", "MlpMixer"
    ),
    mixer("mixer-s-32", "MLP-Mixer, small: 8 blocks, patches of 32×32", "Patches32Config", "mixer_s32_224"),
    mixer("mixer-s-16", "MLP-Mixer, small: 8 blocks, patches of 16×16", "Patches16Config", "mixer_s16_224"),
    mixer("mixer-b-32", "MLP-Mixer, base: 12 blocks, patches of 32×32", "Patches32Config", "mixer_b32_224"),
    mixer("mixer-b-16", "MLP-Mixer, base: 12 blocks, patches of 16×16", "Patches16Config", "mixer_b16_224"),
    mixer("mixer-l-32", "MLP-Mixer, large: 24 blocks, patches of 32×32", "Patches32Config", "mixer_l32_224"),
    mixer("mixer-l-16", "MLP-Mixer, large: 24 blocks, patches of 16×16", "Patches16Config", "mixer_l16_224"),
]


def resmlp(name: str, summary: str, config: str, timm_name: str) -> Architecture:
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
        "ResMLPConfig",
        "MlpMixer of ResBlocks",
    ),
    resmlp("resmlp-12", "ResMLP: 12 blocks, patches of 16×16", "Patches16Config", "resmlp_12_224"),
    resmlp("resmlp-24", "ResMLP: 24 blocks, patches of 16×16", "Patches16Config", "resmlp_24_224"),
    resmlp("resmlp-36", "ResMLP: 36 blocks, patches of 16×16", "Patches16Config", "resmlp_36_224"),
    resmlp("resmlp-big-24", "ResMLP: 24 wide blocks, patches of 8×8", "Patches8Config", "resmlp_big_24_224"),
]


RADFORD_2021 = "Radford et al. 2021, https://arxiv.org/abs/2103.00020"


def clip_outputs(config: "CLIPConfig") -> Sequence[TensorSpec]:
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
    config="nnkit_vision.configs:CLIPConfig",
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


def patch_architectures() -> list[Architecture]:
    """Return the networks that take an image in patches, family by family."""
    return [*VITS, *MIXERS, *RESMLPS, CLIP]
