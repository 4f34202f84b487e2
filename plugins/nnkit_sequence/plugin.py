"""Declares networks of sequences, such as text, sound and time series. Torch-free."""

from nnkit import Architecture, Dim, Preset, TensorSpec, hookimpl
from nnkit_sequence.configs import Seq2SeqAttentionConfig, TCNConfig, WaveNetConfig

NNKIT_PLUGIN_API = "1.1"

# ---- transformer, bert


# ---- gpt2, llama


# ---- seq2seq-attention, tcn, wavenet

SEQ2SEQ_ATTENTION = Architecture(
    name="seq2seq-attention",
    summary="RNNsearch: a recurrent decoder that attends to the source before each word it writes",
    build="nnkit_sequence.seq2seq_attention:Seq2SeqAttention",
    config=Seq2SeqAttentionConfig,
    inputs=[
        TensorSpec(
            "source",
            ("batch", "source_time"),
            "int64",
            sample="index",
            index_of="source_vocabulary",
            description="words to translate",
        ),
        TensorSpec(
            "target",
            ("batch", "target_time"),
            "int64",
            sample="index",
            index_of="target_vocabulary",
            description="their translation so far: a start symbol, and the words after it",
        ),
        TensorSpec(
            "lengths",
            ("batch",),
            "int64",
            sample="lengths",
            index_of="source_time",
            description="real words in each source, at least 1; the rest is padding",
            optional=True,
        ),
    ],
    outputs=[
        TensorSpec(
            "scores",
            ("batch", "target_time", "target_vocabulary"),
            description="of the word after each word of the target, before the softmax",
        ),
        TensorSpec(
            "weights",
            ("batch", "target_time", "source_time"),
            description="the share of each source word in each context: the alignment",
        ),
    ],
    dims={
        "batch": Dim(default=1, description="sentences at once"),
        "source_time": Dim(default=12, description="words of the source"),
        "target_time": Dim(default=10, description="words of the target"),
    },
    causal="target_time",
    padding=("lengths",),
    presets={
        "paper": Preset(
            config={
                "source_vocabulary": 30_000,
                "target_vocabulary": 30_000,
                "embedding_size": 620,
                "hidden_size": 1000,
                "alignment_size": 1000,
                "maxout_size": 500,
            },
            sizes={"source_time": 30, "target_time": 30},
            description="RNNsearch, English to French: 80.4 million parameters (appendix A.2.3)",
        ),
    },
    family="recurrent",
    paper=(
        "Bahdanau, Cho, Bengio: Neural Machine Translation by Jointly Learning to Align and Translate, ICLR "
        "2015, https://arxiv.org/abs/1409.0473"
    ),
    equation=(
        "α_i = softmax_j(v_a^T tanh(W_a s_{i-1} + U_a h_j));  c_i = Σ_j α_ij h_j;  "
        "t_i = maxout(U_o s_{i-1} + V_o E y_{i-1} + C_o c_i);  p(y_i) = softmax(W_o t_i);  "
        "s_i = GRU([E y_{i-1}; c_i], s_{i-1})"
    ),
    notes=(
        "The GRUs reset the state before the product, as in the paper. Weights of torch.nn.GRU, which resets "
        "after it, have the names of the encoder's, but make another network.",
        "z keeps the old state, as in torch. In this paper z takes the new state: its weights work once the "
        "signs of those of z are flipped.",
        "The output uses the state before the word, s_{i-1}, as in the paper's appendix. The main text has "
        "s_i.",
        "The paper leaves the biases out of its equations. Here each sum has one, except that of v_a: a "
        "constant added to all scores doesn't change their softmax. The encoder has two, as in torch.",
        "Weights start as torch draws them. In the paper v_a starts at 0, so that all source words weigh the "
        "same, and the other matrices start orthogonal or with a standard deviation of at most 0.01.",
        "The words of the target are given, as in training. To translate, append the likeliest word and call "
        "the network again. There is no beam search.",
        "In eager mode both loops are Python's. In ONNX, the encoder is the operator GRU and the decoder a "
        "Scan, for any number of words.",
    ),
)


TCN = Architecture(
    name="tcn",
    summary="Temporal convolutional network: dilated causal convolutions with shortcuts",
    build="nnkit_sequence.tcn:TCN",
    config=TCNConfig,
    inputs=[TensorSpec("x", ("batch", "input_size", "time"), description="sequences")],
    outputs=[
        TensorSpec(
            "scores", ("batch", "time", "output_size"), description="after each step; the last has seen all"
        )
    ],
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
            description="ten symbols, to be repeated after 1000 steps: 12,530 parameters, the authors'",
        ),
        "adding": Preset(
            config={"input_size": 2, "output_size": 1, "channels": 30, "dropout": 0.0},
            sizes={"time": 400},
            description="the sum of two marked numbers of 400: 96,001 parameters, the authors'",
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
            description="the next keys of a piano: 882,538 parameters, the authors'",
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
        "There are scores after every step. The authors' classifiers of whole sequences have those of the "
        "last step.",
        "The sequence is padded on the left only. The authors' code pads both sides and cuts the right one "
        "off, which gives the same and computes more.",
        "State dicts of the authors' code load: weight_g and weight_v become torch's newer names, and the "
        "copies under `net` are left out.",
        "Convolutions start as torch draws them. The authors' code sets a standard deviation of 0.01, which "
        "weight normalization replaces before the first step, so that theirs start in the same way.",
    ),
)


def _wavenet_inputs(config: WaveNetConfig) -> tuple[TensorSpec, ...]:
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
    config=WaveNetConfig,
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
            description="the paper's dilations and the 109 speakers of its first experiment",
        ),
        "tensorflow-wavenet": Preset(
            config={"stacks": 5, "skip_channels": 512},
            description="as deep and wide as github.com/ibab/tensorflow-wavenet: 1,514,944 parameters",
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
        "Nothing follows the residual convolution of the last layer, so it is left out.",
        "A speaker is a one-hot h, so each column of V is an embedding. Features have one vector per sample: "
        "the paper's transposed convolution that stretches a slower series belongs before this network.",
        "Scores of all samples are computed at once, as in training. To generate, draw a sample and call the "
        "network again on the last ones within its reach. There is no cache of earlier layers.",
    ),
)


# ---- mamba, moe


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Return the architectures of this plugin."""
    return [
        # transformer, bert
        # gpt2, llama
        SEQ2SEQ_ATTENTION,
        TCN,
        WAVENET,
        # mamba, moe
    ]
