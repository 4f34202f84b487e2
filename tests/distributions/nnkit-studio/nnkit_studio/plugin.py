"""Declares the ten networks to nnkit, each in the signature that its author gave it. Doesn't import torch."""

from collections.abc import Iterator

from nnkit import Architecture, Dim, Preset, TensorSpec, TrainingStep, hookimpl
from nnkit_studio.configs import (
    DetectorConfig,
    DiffusionConfig,
    GANConfig,
    GPTConfig,
    MixtureConfig,
    SiameseConfig,
    TransformerConfig,
    UNetConfig,
    VAEConfig,
    WaveNetConfig,
)

NNKIT_PLUGIN_API = "1.1"

BATCH = Dim(default=1, description="samples at once")


def pixels(what: str) -> Dim:
    """Return the dim of a picture that is halved `levels` times."""
    return Dim(default=32, min="2**levels", multiple_of="2**levels", description=f"{what} of the picture")


UNET = Architecture(
    name="unet",
    summary="U-Net: a class for each pixel, from features at several resolutions",
    family="segmentation",
    build="nnkit_studio.unet:UNet",
    config=UNetConfig,
    inputs=[TensorSpec("image", ("batch", "in_channels", "height", "width"))],
    outputs=[TensorSpec("scores", ("batch", "classes", "height", "width"))],
    dims={"batch": BATCH, "height": pixels("rows"), "width": pixels("columns")},
    presets={
        "paper": Preset(
            config={"features": 64, "levels": 4},
            sizes={"height": 512, "width": 512},
            description="as deep and wide as the paper's",
        )
    },
    paper="Ronneberger, Fischer, Brox: U-Net, MICCAI 2015, https://arxiv.org/abs/1505.04597",
    equation="e_i = f(pool(e_{i-1})),  d_{i-1} = f(e_{i-1} ‖ up(d_i)),  y = W d_0",
    notes=("Convolutions are padded, so that the scores are as large as the picture.",),
)

TRANSFORMER = Architecture(
    name="transformer",
    summary="Transformer: an encoder of the source and a causal decoder of the target",
    family="translation",
    build="nnkit_studio.transformer:Transformer",
    config=TransformerConfig,
    inputs=[
        TensorSpec("source", ("batch", "source_time"), "int64", sample="index", index_of="vocabulary"),
        TensorSpec("target", ("batch", "target_time"), "int64", sample="index", index_of="vocabulary"),
        TensorSpec(
            "source_mask",
            ("batch", "source_time"),
            "bool",
            sample="prefix",
            index_of="source_time",
            description="True at real tokens",
            optional=True,
        ),
        TensorSpec(
            "target_mask",
            ("batch", "target_time"),
            "bool",
            sample="prefix",
            index_of="target_time",
            description="True at real tokens",
            optional=True,
        ),
    ],
    outputs=[TensorSpec("scores", ("batch", "target_time", "vocabulary"), description="of each next token")],
    dims={
        "batch": BATCH,
        "source_time": Dim(default=12, description="tokens of the source"),
        "target_time": Dim(default=10, description="tokens of the target"),
    },
    causal="target_time",
    padding=("source_mask", "target_mask"),
    tied=[("embedding.weight", "head.weight")],
    stochastic="training",
    paper="Vaswani et al.: Attention Is All You Need, NeurIPS 2017, https://arxiv.org/abs/1706.03762",
    equation="attention(Q, K, V) = softmax(Q Kᵀ / √d) V,  scores = E decoder(target, encoder(source))",
)

VAE = Architecture(
    name="vae",
    summary="Variational autoencoder of pictures",
    family="generation",
    build="nnkit_studio.vae:VAE",
    config=VAEConfig,
    inputs=[TensorSpec("image", ("batch", "channels", "size", "size"), sample="uniform")],
    outputs=[
        TensorSpec("reconstruction", ("batch", "channels", "size", "size")),
        TensorSpec("mean", ("batch", "latent")),
        TensorSpec("log_variance", ("batch", "latent")),
    ],
    dims={"batch": BATCH},
    stochastic="training",
    paper="Kingma, Welling: Auto-Encoding Variational Bayes, ICLR 2014, https://arxiv.org/abs/1312.6114",
    equation="μ, log σ² = encoder(x),  z = μ + σ ⊙ ε,  x̂ = sigmoid(decoder(z))",
    notes=("In eval mode z = μ.",),
)

DIFFUSION = Architecture(
    name="diffusion-unet",
    summary="Diffusion U-Net: the noise in a picture, given its timestep and perhaps its class",
    family="generation",
    build="nnkit_studio.diffusion:DiffusionUNet",
    config=DiffusionConfig,
    inputs=[
        TensorSpec("image", ("batch", "channels", "height", "width")),
        TensorSpec("timestep", ("batch",), "int64", sample="index", index_of="timesteps"),
        TensorSpec("label", ("batch",), "int64", sample="index", index_of="classes", optional=True),
    ],
    outputs=[TensorSpec("noise", ("batch", "channels", "height", "width"))],
    dims={"batch": BATCH, "height": pixels("rows"), "width": pixels("columns")},
    paper="Ho, Jain, Abbeel: Denoising Diffusion Probabilistic Models, NeurIPS 2020, "
    "https://arxiv.org/abs/2006.11239",
    equation="ε̂ = unet(√ᾱ_t x_0 + √(1 - ᾱ_t) ε, t, class)",
    notes=("Without a label it is the network of the class 'none', as guidance needs it.",),
)


def _levels() -> Iterator[TensorSpec]:
    for level in (3, 4, 5):
        places = (f"height // {2**level}", f"width // {2**level}")
        yield TensorSpec(f"p{level}.scores", ("batch", "classes", *places))
        yield TensorSpec(f"p{level}.boxes", ("batch", 4, *places), description="left, top, right, bottom")
        yield TensorSpec(f"p{level}.centerness", ("batch", 1, *places))


DETECTOR = Architecture(
    name="detector",
    summary="FCOS: scores, boxes and centerness at each place of a pyramid",
    family="detection",
    build="nnkit_studio.detector:Detector",
    config=DetectorConfig,
    inputs=[TensorSpec("image", ("batch", "channels", "height", "width"))],
    outputs=list(_levels()),
    dims={
        "batch": BATCH,
        "height": Dim(default=96, min=64, multiple_of=32, description="rows of the picture"),
        "width": Dim(default=64, min=64, multiple_of=32, description="columns of the picture"),
    },
    paper="Tian, Shen, Chen, He: FCOS, ICCV 2019, https://arxiv.org/abs/1904.01355",
    equation="pᵢ = W cᵢ + up(pᵢ₊₁),  scores = head(pᵢ),  box = exp(sᵢ head(pᵢ))",
)


def _gpt_inputs(config: GPTConfig) -> Iterator[TensorSpec]:
    yield TensorSpec("tokens", ("batch", "time"), "int64", sample="index", index_of="vocabulary")
    for layer in range(config.layers):
        for part in ("key", "value"):
            yield TensorSpec(
                f"cache.{layer}.{part}", ("batch", "heads", "past", "width // heads"), optional=True
            )
    yield TensorSpec(
        "mask",
        ("batch", "past + time"),
        "bool",
        sample="keep",
        description="False at tokens that nobody may look at",
        optional=True,
        given=False,
    )


def _gpt_outputs(config: GPTConfig) -> Iterator[TensorSpec]:
    yield TensorSpec("scores", ("batch", "time", "vocabulary"), description="of each next token")
    for layer in range(config.layers):
        for part in ("key", "value"):
            yield TensorSpec(f"present.{layer}.{part}", ("batch", "heads", "past + time", "width // heads"))


GPT = Architecture(
    name="gpt",
    summary="GPT-2 with the keys and values of earlier tokens as input and output",
    family="language",
    build="nnkit_studio.gpt:GPT",
    config=GPTConfig,
    inputs=_gpt_inputs,
    outputs=_gpt_outputs,
    dims={
        "batch": BATCH,
        "time": Dim(default=6, max="context", description="new tokens"),
        "past": Dim(default=10, min=0, max="context - 1", description="tokens in the cache"),
    },
    constraints=("past + time <= context",),
    presets={
        "small": Preset(
            config={"vocabulary": 50257, "context": 1024, "width": 768, "heads": 12, "layers": 12},
            description="GPT-2, the smallest of four",
        )
    },
    causal="time",
    padding=("mask",),
    tied=[("embedding.weight", "head.weight")],
    stochastic="training",
    paper="Radford et al.: Language Models are Unsupervised Multitask Learners, 2019",
    equation="x = x + attention(norm(x)),  x = x + W₂ gelu(W₁ norm(x)),  scores = E norm(x)",
)

SIAMESE = Architecture(
    name="siamese",
    summary="Siamese network: whether two pictures show the same",
    family="comparison",
    build="nnkit_studio.siamese:Siamese",
    config=SiameseConfig,
    inputs=[
        TensorSpec(f"pair.{side}", ("batch", "channels", "height", "width")) for side in ("left", "right")
    ],
    outputs=[
        TensorSpec("left", ("batch", "embedding")),
        TensorSpec("right", ("batch", "embedding")),
        TensorSpec("same", ("batch",), description="probability that both show the same"),
    ],
    dims={
        "batch": BATCH,
        "height": Dim(default=28, min=2, description="rows of a picture"),
        "width": Dim(default=28, min=2, description="columns of a picture"),
    },
    paper="Koch, Zemel, Salakhutdinov: Siamese Neural Networks for One-shot Image Recognition, 2015",
    equation="p(same) = sigmoid(Σⱼ αⱼ |h_left,j - h_right,j|)",
    notes=("The last feature map is averaged, where the paper flattens one of fixed size.",),
)

MIXTURE = Architecture(
    name="mixture-of-experts",
    summary="Layers of experts: each token is sent to a few feed-forward networks",
    family="language",
    build="nnkit_studio.mixture:MixtureOfExperts",
    config=MixtureConfig,
    inputs=[
        TensorSpec("x", ("batch", "time", "width")),
        TensorSpec(
            "mask",
            ("batch", "time"),
            "bool",
            sample="keep",
            description="True at real tokens; the others don't count in the loss",
            optional=True,
        ),
    ],
    outputs=[
        TensorSpec("y", ("batch", "time", "width")),
        TensorSpec("loss", (), description="how unequally the experts were used"),
    ],
    dims={"batch": BATCH, "time": Dim(default=10, description="tokens of a sample")},
    padding=("mask",),
    permutation=("time",),
    pointwise=("time",),
    stochastic="training",
    paper="Shazeer et al.: Outrageously Large Neural Networks, ICLR 2017, https://arxiv.org/abs/1701.06538",
    equation="y = x + Σᵢ Gᵢ W₂ᵢ relu(W₁ᵢ norm(x)),  G = softmax(the k largest of x W_g + noise)",
)

WAVENET = Architecture(
    name="wavenet",
    summary="WaveNet: the next sample of a sound, by dilated causal convolutions",
    family="audio",
    build="nnkit_studio.wavenet:WaveNet",
    config=WaveNetConfig,
    inputs=[
        TensorSpec("samples", ("batch", "time"), "int64", sample="index", index_of="levels"),
        TensorSpec("speaker", ("batch",), "int64", sample="index", index_of="speakers", optional=True),
    ],
    outputs=[TensorSpec("scores", ("batch", "levels", "time"), description="of each next sample")],
    dims={"batch": BATCH, "time": Dim(default=48, description="samples of the sound")},
    causal="time",
    paper="van den Oord et al.: WaveNet, 2016, https://arxiv.org/abs/1609.03499",
    equation="z = tanh(W_f * x + V_f s) ⊙ σ(W_g * x + V_g s),  x = x + W_x z",
)

GAN = Architecture(
    name="gan",
    summary="GAN of pictures with spectral normalization: two players, trained in turn",
    family="generation",
    build="nnkit_studio.gan:GAN",
    config=GANConfig,
    inputs=[
        TensorSpec("z", ("batch", "latent"), description="what a picture is drawn from"),
        TensorSpec("image", ("batch", "channels", "size", "size"), description="real pictures"),
    ],
    outputs=[
        TensorSpec("fake", ("batch", "channels", "size", "size")),
        TensorSpec("fake_score", ("batch",)),
        TensorSpec("real_score", ("batch",)),
    ],
    dims={"batch": BATCH},
    steps={
        "generator": TrainingStep(outputs=("fake_score",), trains=("generator",)),
        "discriminator": TrainingStep(outputs=("fake_score", "real_score"), trains=("discriminator",)),
    },
    unsupported={
        "gradient-checkpointing": "in training, each forward improves the estimate of the largest singular "
        "values, so a forward that is repeated divides by other ones",
    },
    paper="Miyato et al.: Spectral Normalization for GANs, ICLR 2018, https://arxiv.org/abs/1802.05957",
    equation="min_G max_D  E_x[log σ(D(x))] + E_z[log σ(-D(G(z)))]",
)


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Declare the ten networks."""
    return [UNET, TRANSFORMER, VAE, DIFFUSION, DETECTOR, GPT, SIAMESE, MIXTURE, WAVENET, GAN]
