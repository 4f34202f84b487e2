"""Declares networks that generate images. Torch-free."""

from collections.abc import Iterator

from nnkit import Architecture, Dim, Preset, TensorSpec, hookimpl
from nnkit_generative.configs import DDPMUNetConfig

NNKIT_PLUGIN_API = "1.1"

BATCH = Dim(default=1, description="samples at once")

# ---- vae, vq-vae


# ---- dcgan


# ---- ddpm-unet


def ddpm_unet_inputs(config: DDPMUNetConfig) -> Iterator[TensorSpec]:
    """Yield the inputs of `ddpm-unet`, which takes labels if it knows classes."""
    yield TensorSpec(
        "image", ("batch", "in_channels", "height", "width"), description="an image with noise: x_t"
    )
    yield TensorSpec(
        "timestep", ("batch",), "int64", sample="index", index_of=1000, description="how noisy it is: t"
    )
    if config.num_classes:
        yield TensorSpec(
            "label",
            ("batch",),
            "int64",
            sample="index",
            index_of="num_classes",
            description="the class of the image",
            optional=True,
        )


def halved(what: str) -> Dim:
    """Return the dim of an image that each level but the first halves."""
    return Dim(default=32, min="2**levels", multiple_of="2**(levels - 1)", description=f"{what} of the image")


DDPM_UNET = Architecture(
    name="ddpm-unet",
    summary="The diffusion U-Net: the noise in an image at a timestep",
    family="generative",
    build="nnkit_generative.ddpm_unet:DDPMUNet",
    config=DDPMUNetConfig,
    inputs=ddpm_unet_inputs,
    outputs=[TensorSpec("noise", ("batch", "in_channels", "height", "width"), description="ε in x_t")],
    dims={"batch": BATCH, "height": halved("rows"), "width": halved("columns")},
    presets={
        "cifar10": Preset(
            sizes={"height": 32, "width": 32},
            description="the default: 35,746,307 parameters, the paper's 35.7M for CIFAR-10 (Appendix B)",
        ),
        "lsun-256": Preset(
            config={"levels": 6, "multipliers": (1, 1, 2, 2, 4, 4), "attention": (4,), "dropout": 0.0},
            sizes={"height": 256, "width": 256},
            description="113,673,219 parameters, the paper's 114M for LSUN and CelebA-HQ (Appendix B)",
        ),
        "tiny": Preset(
            config={
                "channels": 16,
                "levels": 2,
                "multipliers": (1, 2),
                "blocks": 1,
                "groups": 4,
                "num_classes": 10,
            },
            sizes={"height": 8, "width": 8},
            description="two levels for images of ten classes, trained in seconds",
        ),
    },
    stochastic="training",
    paper="Ho, Jain and Abbeel 2020, https://arxiv.org/abs/2006.11239",
    equation="ε ≈ unet(√ᾱ_t x_0 + √(1 - ᾱ_t) ε, t)",
    notes=[
        "State dicts of diffusers' UNet2DModel for DDPM load as they are.",
        "The paper has no labels. Here the embedding of a label is added to that of the time; without a "
        "label nothing is added, where diffusers demands one.",
        "Heights and widths are such that two pixels are left at the lowest level: attention has something "
        "to look at.",
        "The last layer of each block and of the network starts at 0. The paper's code draws it 10⁵ times "
        "smaller than the others.",
    ],
)


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Return the architectures of this plugin."""
    return [
        # vae, vq-vae
        # dcgan
        DDPM_UNET,
    ]
