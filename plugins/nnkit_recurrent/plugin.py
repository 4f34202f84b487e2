"""Elman RNN, GRU and LSTM: classifiers of sequences."""

from typing import TYPE_CHECKING

from nnkit import Architecture, Dim, Preset, TensorSpec, hookimpl

if TYPE_CHECKING:
    from nnkit_recurrent.configs import RecurrentConfig

NNKIT_PLUGIN_API = "1.1"

FAMILY = "recurrent"
DIMS = {
    "batch": Dim(default=1, description="sequences in a batch"),
    "time": Dim(default=28, description="steps per sequence"),
}
STATES = {"h": "hidden state", "c": "cell state"}

PRESETS = {
    "rows": Preset(
        config={"input_size": 28, "hidden_size": 128, "num_classes": 10},
        sizes={"time": 28},
        description="MNIST digits, read row by row",
    ),
    "names": Preset(
        config={"input_size": 57, "hidden_size": 128, "num_classes": 18},
        sizes={"time": 10},
        description="surnames from 18 languages, read letter by letter",
    ),
}

IMPLEMENTATIONS = (
    "--implementation plain runs the cell step by step, after projecting the input, and computes the same "
    "as fused. In ONNX, fused becomes the recurrent operator, or a Scan in float64, for which ONNX Runtime "
    "has no kernel. plain becomes a Scan. Both work for any number of steps."
)
STATE = (
    "The tutorial creates the initial state on the CPU in float32. Here it has the device and dtype of the "
    "input, can itself be an input (--initial-state), affects the result, and is never modified."
)
WEIGHTS = (
    "The parameters of the recurrent part have the names and shapes of torch.nn.{name}, including its two "
    "biases, so its state dict loads unchanged. {difference}"
)
LAST = (
    "With --predict last, a bidirectional network joins the final states of both directions, each of which "
    "has read the whole sequence. With --lengths, the final state is that of the last real step."
)


def _states(config: "RecurrentConfig", parts: str, when: str) -> tuple[TensorSpec, ...]:
    rows = config.num_layers * (2 if config.bidirectional else 1)
    moment = {"0": "before the first step", "n": "after the last step"}[when]
    return tuple(
        TensorSpec(
            f"{part}_{when}",
            (rows, "batch", "hidden_size"),
            description=f"{STATES[part]} of each layer and direction {moment}",
        )
        for part in parts
    )


def _inputs(config: "RecurrentConfig", parts: str) -> tuple[TensorSpec, ...]:
    x = TensorSpec("x", ("batch", "time", "input_size"), description="sequences")
    lengths = TensorSpec(
        "lengths",
        ("batch",),
        "int64",
        "lengths",
        "time",
        "real steps in each sequence; the rest is padding",
    )
    return (
        x,
        *((lengths,) if config.lengths else ()),
        *(_states(config, parts, "0") if config.initial_state else ()),
    )


def _outputs(config: "RecurrentConfig", parts: str) -> tuple[TensorSpec, ...]:
    steps = ("time",) if config.predict == "every" else ()
    scores = TensorSpec(
        "log_probs", ("batch", *steps, "num_classes"), description="log-probabilities of the classes"
    )
    return (scores, *_states(config, parts, "n"))


def _hidden_inputs(config: "RecurrentConfig") -> tuple[TensorSpec, ...]:
    return _inputs(config, "h")


def _hidden_outputs(config: "RecurrentConfig") -> tuple[TensorSpec, ...]:
    return _outputs(config, "h")


def _lstm_inputs(config: "RecurrentConfig") -> tuple[TensorSpec, ...]:
    return _inputs(config, "hc")


def _lstm_outputs(config: "RecurrentConfig") -> tuple[TensorSpec, ...]:
    return _outputs(config, "hc")


RNN = Architecture(
    name="rnn",
    summary="Elman's recurrent network",
    build="nnkit_recurrent.rnn:rnn",
    config="nnkit_recurrent.configs:RNNConfig",
    inputs=_hidden_inputs,
    outputs=_hidden_outputs,
    dims=DIMS,
    padding=("lengths",),
    presets=PRESETS,
    family=FAMILY,
    paper=(
        "Elman: Finding structure in time, Cognitive Science 14, 1990, "
        "https://doi.org/10.1207/s15516709cog1402_1"
    ),
    equation="h_t = φ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh);  y_t = log softmax(W_o h_t + b_o)",
    notes=(
        "The tutorial's state has no nonlinearity (--nonlinearity identity). It is affine in the sequence, "
        "can't learn XOR over time, and grows without bound once the spectral radius of W_hh exceeds 1.",
        "The tutorial computes scores from the input and the state before it. Elman and this network compute "
        "them from the state after it. The tutorial takes one step per call; this network reads a sequence.",
        WEIGHTS.format(
            name="RNN",
            difference="--nonlinearity identity, which torch.nn.RNN lacks, always runs step by step.",
        ),
        STATE,
        IMPLEMENTATIONS,
        LAST,
    ),
)

GRU = Architecture(
    name="gru",
    summary="Gated recurrent unit, with the reset before the product (Cho) or after it (cuDNN, torch.nn)",
    build="nnkit_recurrent.gru:gru",
    config="nnkit_recurrent.configs:GRUConfig",
    inputs=_hidden_inputs,
    outputs=_hidden_outputs,
    dims=DIMS,
    padding=("lengths",),
    presets=PRESETS,
    family=FAMILY,
    paper=(
        "Cho et al.: Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine "
        "Translation, EMNLP 2014, https://arxiv.org/abs/1406.1078"
    ),
    equation=(
        "r, z = σ(W_i x_t + W_h h_{t-1} + b);  n = tanh(W_in x_t + b_in + W_hn (r ⊙ h_{t-1}) + b_hn), "
        "after: tanh(W_in x_t + b_in + r ⊙ (W_hn h_{t-1} + b_hn));  h_t = (1 - z) ⊙ n + z ⊙ h_{t-1}"
    ),
    notes=(
        "--reset before is the equation of Cho and the tutorial, and linear_before_reset=0 in ONNX. --reset "
        "after is the equation of cuDNN and torch.nn.GRU. Weights for one don't work for the other.",
        "z keeps the old state, as in Cho and torch.nn. The tutorial's z takes the new state, as in Chung "
        "et al. 2014: its weights work once the signs of W_z and b_z are flipped.",
        "The tutorial writes each new state into the tensor it was given. So backward fails, and the "
        "caller's state and earlier outputs change. Its call is a single time step that loops only over "
        "layers.",
        WEIGHTS.format(
            name="GRU",
            difference="--reset before, for which torch has no kernel, always runs step by step.",
        ),
        STATE,
        IMPLEMENTATIONS,
        LAST,
    ),
)

LSTM = Architecture(
    name="lstm",
    summary="Long short-term memory",
    build="nnkit_recurrent.lstm:lstm",
    config="nnkit_recurrent.configs:LSTMConfig",
    inputs=_lstm_inputs,
    outputs=_lstm_outputs,
    dims=DIMS,
    padding=("lengths",),
    presets=PRESETS,
    family=FAMILY,
    paper=(
        "Hochreiter and Schmidhuber: Long Short-Term Memory, Neural Computation 9, 1997, "
        "https://doi.org/10.1162/neco.1997.9.8.1735; forget gate: Gers, Schmidhuber, Cummins 2000, "
        "https://doi.org/10.1162/089976600300015015"
    ),
    equation=(
        "i, f, o = σ(W_i x_t + b_i + W_h h_{t-1} + b_h), g = tanh(likewise);  "
        "c_t = f ⊙ c_{t-1} + i ⊙ g;  h_t = o ⊙ tanh(c_t)"
    ),
    notes=(
        "The tutorial's network takes a state and ignores it, and never uses its own cell. Here the state "
        "is used.",
        "The tutorial's cell has one bias, transposed weights, and gates in the order i, f, o, g. The order "
        "here is i, f, g, o.",
        WEIGHTS.format(name="LSTM", difference="").rstrip(),
        STATE,
        IMPLEMENTATIONS,
        LAST,
    ),
)


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    return [RNN, GRU, LSTM]
