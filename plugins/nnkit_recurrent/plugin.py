"""Elman RNN, GRU and LSTM: classifiers of sequences."""

from nnkit import Architecture, Dim, Preset, TensorSpec, hookimpl
from nnkit_recurrent.configs import GRUConfig, LSTMConfig, RecurrentConfig, RNNConfig

NNKIT_PLUGIN_API = "1.0"

FAMILY = "recurrent"
DIMS = {
    "batch": Dim(default=1, description="sequences"),
    "time": Dim(default=28, description="steps of a sequence"),
}
STATES = {"h": "hidden state", "c": "cell state"}

PRESETS = {
    "rows": Preset(
        config={"input_size": 28, "hidden_size": 128, "num_classes": 10},
        sizes={"time": 28},
        description="MNIST digits read row by row",
    ),
    "names": Preset(
        config={"input_size": 57, "hidden_size": 128, "num_classes": 18},
        sizes={"time": 10},
        description="surnames read letter by letter, 18 languages",
    ),
}

IMPLEMENTATIONS = (
    "--implementation plain runs the cell step by step, with the input projected for the whole sequence "
    "beforehand; it computes what fused computes. In ONNX, fused is the operator of that name (a Scan in "
    "float64, for which ONNX Runtime has no kernel) and plain a Scan, both for any number of steps."
)
STATE = (
    "The tutorial makes the initial state itself, on the CPU and in float32; here it follows the input's "
    "device and dtype, can be an input (--initial-state), counts, and is never written to."
)
WEIGHTS = (
    "The parameters of the recurrent part are those of torch.nn.{name}, two biases and all, under the same "
    "names, so that its state dict loads as is. {difference}"
)
LAST = (
    "With --predict last a bidirectional network joins the final states of both directions, each of which "
    "has read the whole sequence; with --lengths the final state is that of the last step that counts."
)


def _states(config: RecurrentConfig, parts: str, when: str) -> tuple[TensorSpec, ...]:
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


def _inputs(config: RecurrentConfig, parts: str) -> tuple[TensorSpec, ...]:
    x = TensorSpec("x", ("batch", "time", "input_size"), description="sequences")
    lengths = TensorSpec(
        "lengths",
        ("batch",),
        "int64",
        "lengths",
        "time",
        "steps of each sequence that count; the rest is padding",
    )
    return (
        x,
        *((lengths,) if config.lengths else ()),
        *(_states(config, parts, "0") if config.initial_state else ()),
    )


def _outputs(config: RecurrentConfig, parts: str) -> tuple[TensorSpec, ...]:
    steps = ("time",) if config.predict == "every" else ()
    scores = TensorSpec(
        "log_probs", ("batch", *steps, "num_classes"), description="log-probabilities of the classes"
    )
    return (scores, *_states(config, parts, "n"))


def _hidden_inputs(config: RecurrentConfig) -> tuple[TensorSpec, ...]:
    return _inputs(config, "h")


def _hidden_outputs(config: RecurrentConfig) -> tuple[TensorSpec, ...]:
    return _outputs(config, "h")


def _lstm_inputs(config: RecurrentConfig) -> tuple[TensorSpec, ...]:
    return _inputs(config, "hc")


def _lstm_outputs(config: RecurrentConfig) -> tuple[TensorSpec, ...]:
    return _outputs(config, "hc")


RNN = Architecture(
    name="rnn",
    summary="Elman's recurrent network",
    build="nnkit_recurrent.rnn:rnn",
    config=RNNConfig,
    inputs=_hidden_inputs,
    outputs=_hidden_outputs,
    dims=DIMS,
    presets=PRESETS,
    family=FAMILY,
    paper=(
        "Elman: Finding structure in time, Cognitive Science 14, 1990, https://doi.org/10.1207/s15516709cog1402_1"
    ),
    equation="h_t = φ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh);  y_t = log softmax(W_o h_t + b_o)",
    notes=(
        "The tutorial's state has no nonlinearity (--nonlinearity identity): it is affine in the sequence, "
        "can't learn XOR over time, and grows without bound once the spectral radius of W_hh exceeds 1.",
        "The tutorial's scores come from the input and the state before it; Elman's, and these, from the "
        "state after it. The tutorial takes one step a call; this reads a sequence.",
        WEIGHTS.format(
            name="RNN",
            difference="--nonlinearity identity, which torch.nn.RNN hasn't, always runs step by step.",
        ),
        STATE,
        IMPLEMENTATIONS,
        LAST,
    ),
)

GRU = Architecture(
    name="gru",
    summary="gated recurrent unit, reset gate before the product (Cho) or after it (cuDNN, torch.nn)",
    build="nnkit_recurrent.gru:gru",
    config=GRUConfig,
    inputs=_hidden_inputs,
    outputs=_hidden_outputs,
    dims=DIMS,
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
        "--reset before is Cho's and the tutorial's equation, ONNX's linear_before_reset=0; --reset after is "
        "that of cuDNN and torch.nn.GRU. The weights of one don't fit the other.",
        "z keeps the old state, as in Cho and torch.nn; the tutorial's z, as in Chung et al. 2014, takes the "
        "new one: its weights fit with the sign of W_z and b_z turned.",
        "The tutorial writes each new state into the tensor it was given: backward fails, the caller's state "
        "changes, and so do outputs returned before. Its call is one time step, looping over layers alone.",
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
    summary="long short-term memory",
    build="nnkit_recurrent.lstm:lstm",
    config=LSTMConfig,
    inputs=_lstm_inputs,
    outputs=_lstm_outputs,
    dims=DIMS,
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
        "The tutorial's network asks for a state and ignores it; here it counts. Its own cell is never used.",
        "The tutorial's cell has its gates in the order i, f, o, g, its weights transposed and one bias; the "
        "order here is i, f, g, o.",
        WEIGHTS.format(name="LSTM", difference="").rstrip(),
        STATE,
        IMPLEMENTATIONS,
        LAST,
    ),
)


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    return [RNN, GRU, LSTM]
