"""Declares the networks of causal convolutions over time. Torch-free."""

from typing import TYPE_CHECKING

from nnkit import Architecture, Dim, Preset, TensorSpec

if TYPE_CHECKING:
    from nnkit_sequence.configs import WaveNetConfig

TCN = Architecture(
    name="tcn",
    summary="Temporal convolutional network: dilated causal convolutions with shortcuts",
    build="nnkit_sequence.tcn:TCN",
    config="nnkit_sequence.configs:TCNConfig",
    inputs=[TensorSpec("x", ("batch", "input_size", "time"), description="sequences")],
    outputs=[TensorSpec("scores", ("batch", "time", "output_size"), description="after each step")],
    dims={
        "batch": Dim(default=1, description="sequences at once"),
        "time": Dim(default=784, description="steps per sequence"),
    },
    causal="time",
    stochastic="training",
    presets={
        "copy": Preset(
            config={"channels": 10, "kernel_size": 8, "dropout": 0.0},
            sizes={"time": 1020},
            description="the authors' network that repeats ten symbols after 1000 steps: 12,530 parameters",
        ),
        "adding": Preset(
            config={"input_size": 2, "output_size": 1, "channels": 30, "dropout": 0.0},
            sizes={"time": 400},
            description="the authors' network that adds two marked numbers of 400: 96,001 parameters",
        ),
        "music": Preset(
            config={
                "input_size": 88,
                "output_size": 88,
                "channels": 150,
                "levels": 4,
                "kernel_size": 5,
                "dropout": 0.25,
            },
            sizes={"time": 200},
            description="the authors' network for the next keys of a piano: 882,538 parameters",
        ),
    },
    family="temporal convolution",
    paper=(
        "Bai, Kolter, Koltun: An Empirical Evaluation of Generic Convolutional and Recurrent Networks for "
        "Sequence Modeling, 2018, https://arxiv.org/abs/1803.01271"
    ),
    equation=(
        "y = relu(F(x) + x),  F(x) = drop(relu(w_2 * drop(relu(w_1 * x)))),  w = g v / ‖v‖,  "
        "(w * x)_t = Σ_i w_i x_{t - 2^l i} in block l"
    ),
    notes=(
        "An output depends on the last 1 + 2 (kernel_size - 1) (2^levels - 1) steps: 3,061 by default.",
        "There are scores after every step. The authors' classifiers of whole sequences use only those of "
        "the last step.",
        "The sequence is padded on the left only. The authors' code pads both sides and cuts the right one "
        "off, which gives the same and computes more.",
        "State dicts of the authors' code load: weight_g and weight_v become torch's newer names, and the "
        "copies under `net` are left out.",
        "Convolutions start as torch draws them. The authors' code sets a standard deviation of 0.01, which "
        "weight normalization replaces before the first step, so that theirs start in the same way.",
    ),
)


def _wavenet_inputs(config: "WaveNetConfig") -> tuple[TensorSpec, ...]:
    samples = TensorSpec(
        "samples",
        ("batch", "time"),
        "int64",
        sample="index",
        index_of="levels",
        description="a sound, quantized by the μ-law",
    )
    speaker = TensorSpec(
        "speaker",
        ("batch",),
        "int64",
        sample="index",
        index_of="speakers",
        description="who speaks",
        optional=True,
    )
    features = TensorSpec(
        "features",
        ("batch", "features", "time"),
        description="what is said, for each sample",
        optional=True,
    )
    return (samples, *((speaker,) if config.speakers else ()), *((features,) if config.features else ()))


WAVENET = Architecture(
    name="wavenet",
    summary="WaveNet: the next sample of a sound, by gated dilated causal convolutions",
    build="nnkit_sequence.wavenet:WaveNet",
    config="nnkit_sequence.configs:WaveNetConfig",
    inputs=_wavenet_inputs,
    outputs=[
        TensorSpec(
            "scores",
            ("batch", "levels", "time"),
            description="of the sample after each sample, before the softmax",
        )
    ],
    dims={
        "batch": Dim(default=1, description="sounds at once"),
        "time": Dim(default=1024, description="samples of a sound"),
    },
    causal="time",
    presets={
        "tiny": Preset(
            config={
                "layers": 4,
                "stacks": 2,
                "levels": 16,
                "residual_channels": 8,
                "dilation_channels": 8,
                "skip_channels": 16,
                "speakers": 4,
                "features": 3,
            },
            sizes={"time": 48},
            description="small, with both inputs that condition it",
        ),
        "vctk": Preset(
            config={"speakers": 109},
            description="the 109 speakers of the paper's first experiment, with its dilations",
        ),
        "tensorflow-wavenet": Preset(
            config={"stacks": 5, "skip_channels": 512},
            description="the options of github.com/ibab/tensorflow-wavenet: 1,514,944 parameters",
        ),
    },
    family="temporal convolution",
    paper="van den Oord et al.: WaveNet: A Generative Model for Raw Audio, 2016, https://arxiv.org/abs/1609.03499",
    equation=(
        "z = tanh(W_f * x + V_f h) ⊙ σ(W_g * x + V_g h),  x ← x + W_r z,  "
        "p(x_{t+1} | x_1 ... x_t, h) = softmax(W_2 relu(W_1 relu(Σ W_s z)))"
    ),
    notes=(
        "An output depends on the last 1 + (kernel_size - 1) (1 + stacks (2^layers - 1)) samples: 3,071 by "
        "default, 0.19 s at 16 kHz.",
        "The paper states dilations, 1 to 512 three times, but no numbers of channels. Those between and "
        "inside the layers are the ones of github.com/ibab/tensorflow-wavenet.",
        "Weights start by Xavier's rule and biases at 0, as in that code. The paper doesn't state it.",
        "Nothing follows the residual convolution of the last layer, so it is left out.",
        "A speaker is a one-hot h, so each column of V is an embedding. Features have one vector per sample: "
        "the paper's transposed convolution that stretches a slower series belongs before this network.",
        "Scores of all samples are computed at once, as in training. To generate, draw a sample and call the "
        "network again on the last ones within its reach. There is no cache of earlier layers.",
    ),
)
