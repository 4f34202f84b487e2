"""Declares networks that generate images. Torch-free."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nnkit import Architecture, Dim, Preset, TensorSpec, TrainingStep, hookimpl

if TYPE_CHECKING:
    from nnkit_generative.configs import DDPMUNetConfig

NNKIT_PLUGIN_API = "1.1"

BATCH = Dim(default=1, description="samples at once")


VAE = Architecture(
    name="vae",
    summary="Variational autoencoder: an image as a normal distribution of codes",
    family="generative",
    build="nnkit_generative.vae:VAE",
    config="nnkit_generative.configs:VAEConfig",
    inputs=[
        TensorSpec(
            "image",
            ("batch", "in_channels", "image_size", "image_size"),
            sample="uniform",
            description="pixels from 0 to 1",
        )
    ],
    outputs=[
        TensorSpec(
            "reconstruction",
            ("batch", "in_channels", "image_size", "image_size"),
            description="the probability that a pixel is 1",
        ),
        TensorSpec("mean", ("batch", "latent"), description="μ of the codes"),
        TensorSpec("log_variance", ("batch", "latent"), description="log σ² of the codes"),
    ],
    dims={"batch": BATCH},
    presets={
        "paper": Preset(
            config={"hidden_size": 500, "activation": "tanh"},
            description="the paper's network for MNIST: 500 hidden units with tanh",
        )
    },
    stochastic="training",
    paper="Kingma and Welling 2013, https://arxiv.org/abs/1312.6114",
    equation="μ, log σ² = encoder(x);  z = μ + σ ⊙ ε;  x̂ = sigmoid(decoder(z));  "
    "loss = -log p(x|z) + ½ Σ (μ² + σ² - 1 - log σ²)",
    notes=[
        "State dicts of the VAE in PyTorch's examples load as they are; it has 400 hidden units with ReLU.",
        "In eval mode nothing is drawn: z = μ.",
        "To generate images, decode codes from N(0, I): model.decode(z).",
    ],
)

VQ_VAE = Architecture(
    name="vq-vae",
    summary="Autoencoder whose codes are words of a learned codebook",
    family="generative",
    build="nnkit_generative.vq_vae:VQVAE",
    config="nnkit_generative.configs:VQVAEConfig",
    inputs=[TensorSpec("image", ("batch", "in_channels", "height", "width"))],
    outputs=[
        TensorSpec("reconstruction", ("batch", "in_channels", "height", "width")),
        TensorSpec("codes", ("batch", "height // 4", "width // 4"), "int64", description="words, by number"),
        TensorSpec("codebook_loss", (), description="moves words to what the encoder returns"),
        TensorSpec("commitment_loss", (), description="moves what the encoder returns to its words"),
    ],
    dims={
        "batch": BATCH,
        "height": Dim(default=32, min=4, multiple_of=4, description="rows of the image"),
        "width": Dim(default=32, min=4, multiple_of=4, description="columns of the image"),
    },
    presets={
        "imagenet": Preset(
            sizes={"height": 128, "width": 128},
            description="the paper's images of 128×128, as 32×32 codes of 512 words",
        ),
        "tiny": Preset(
            config={"hidden_channels": 16, "num_embeddings": 16, "embedding_size": 4},
            sizes={"height": 8, "width": 8},
            description="narrow, with a codebook of 16 words, trained in seconds",
        ),
    },
    straight_through=("quantizer",),
    paper="van den Oord, Vinyals and Kavukcuoglu 2017, https://arxiv.org/abs/1711.00937",
    equation="k = argmin_j ‖encoder(x) - e_j‖;  x̂ = decoder(e_k);  "
    "loss = ‖x - x̂‖² + ‖sg[z_e] - e_k‖² + β ‖z_e - sg[e_k]‖²",
    notes=[
        "The gradient at a word goes to the encoder as it is; that is declared as straight-through.",
        "The paper doesn't give the size of a word, nor the initialization of the codebook: here 64 numbers, "
        "uniform within 1/K.",
        "There is a ReLU between any two convolutions, and 1×1 convolutions lead from channels to words and "
        "back; the paper doesn't mention them.",
        "The losses are means, so that they don't depend on the size of the image. β (0.25 in the paper) is "
        "left to the training.",
    ],
)


RADFORD_2015 = "Radford, Metz and Chintala 2015, https://arxiv.org/abs/1511.06434"
SIZE = ("channels", "image_size", "image_size")
Z = TensorSpec("z", ("batch", "latent", 1, 1), description="what an image is drawn from")
AS_TUTORIAL = "Sizes are those of PyTorch's DCGAN tutorial, half as wide as the paper's. "
WIDTHS = {
    "paper": Preset(config={"features": 128}, description="as wide as the paper's, 1024 channels at 4×4"),
    "tiny": Preset(
        config={"image_size": 16, "features": 8, "channels": 1},
        description="gray images of 16×16, trained in seconds",
    ),
}

DCGAN_GENERATOR = Architecture(
    name="dcgan-generator",
    summary="The generator of DCGAN: an image from random numbers",
    family="generative",
    build="nnkit_generative.dcgan:Generator",
    config="nnkit_generative.configs:DCGANConfig",
    inputs=[Z],
    outputs=[TensorSpec("image", ("batch", *SIZE), description="pixels from -1 to 1")],
    dims={"batch": BATCH},
    presets=WIDTHS,
    paper=RADFORD_2015,
    equation="x = G(z) = tanh(convᵀ(…relu(bn(convᵀ(z)))))",
    notes=[AS_TUTORIAL + "Its state dict of the generator loads as it is."],
)

DCGAN_DISCRIMINATOR = Architecture(
    name="dcgan-discriminator",
    summary="The discriminator of DCGAN: whether an image is real",
    family="generative",
    build="nnkit_generative.dcgan:Discriminator",
    config="nnkit_generative.configs:DCGANDiscriminatorConfig",
    inputs=[TensorSpec("image", ("batch", *SIZE), description="pixels from -1 to 1")],
    outputs=[TensorSpec("score", ("batch",), description="the probability that the image is real")],
    dims={"batch": BATCH},
    presets=WIDTHS,
    paper=RADFORD_2015,
    equation="D(x) = sigmoid(conv(…leaky(bn(conv(leaky(conv(x)))))))",
    notes=[AS_TUTORIAL + "Its state dict of the discriminator loads as it is."],
)

DCGAN = Architecture(
    name="dcgan",
    summary="DCGAN: a generator and a discriminator of images, trained in turn",
    family="generative",
    build="nnkit_generative.dcgan:DCGAN",
    config="nnkit_generative.configs:DCGANConfig",
    inputs=[Z, TensorSpec("image", ("batch", *SIZE), description="real images, from -1 to 1")],
    outputs=[
        TensorSpec("fake", ("batch", *SIZE), description="images by the generator"),
        TensorSpec("fake_score", ("batch",), description="the probability that those are real"),
        TensorSpec("real_score", ("batch",), description="the probability that the real ones are"),
    ],
    dims={"batch": BATCH},
    presets=WIDTHS,
    steps={
        "generator": TrainingStep(outputs=("fake_score",), trains=("generator",)),
        "discriminator": TrainingStep(outputs=("fake_score", "real_score"), trains=("discriminator",)),
    },
    paper=RADFORD_2015,
    equation="min_G max_D  E_x[log D(x)] + E_z[log(1 - D(G(z)))]",
    notes=[
        AS_TUTORIAL
        + "Its two state dicts load into dcgan-generator and dcgan-discriminator, which are the two alone.",
        "Fake and real images go through the discriminator one after the other, each normalized by its own "
        "statistics in training.",
    ],
)


def ddpm_unet_inputs(config: "DDPMUNetConfig") -> Iterator[TensorSpec]:
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
    return Dim(
        default=32, min="2**(levels - 1)", multiple_of="2**(levels - 1)", description=f"{what} of the image"
    )


DDPM_UNET = Architecture(
    name="ddpm-unet",
    summary="The diffusion U-Net: the noise in an image at a timestep",
    family="generative",
    build="nnkit_generative.ddpm_unet:DDPMUNet",
    config="nnkit_generative.configs:DDPMUNetConfig",
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
        "The last layer of each block and of the network starts at 0. The paper's code draws it 10⁵ times "
        "smaller than the others.",
    ],
)


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Return the architectures of this plugin."""
    return [
        VAE,
        VQ_VAE,
        DCGAN,
        DCGAN_GENERATOR,
        DCGAN_DISCRIMINATOR,
        DDPM_UNET,
    ]
