"""The pointer network of Vinyals, Fortunato and Jaitly."""

from nnkit import Architecture, Dim, Preset, TensorSpec, hookimpl
from nnkit_pointer.configs import PointerNetworkConfig

NNKIT_PLUGIN_API = "1.0"

ELEMENTS = TensorSpec("x", ("batch", "length", "input_size"), description="the elements to point at")
NOISE = TensorSpec(
    "noise",
    ("batch", "length", "length"),
    sample="uniform",
    description="per step and element, uniform on (0, 1): a choice is the argmax of score + Gumbel noise",
)
TARGETS = TensorSpec(
    "targets",
    ("batch", "length"),
    dtype="int64",
    sample="nnkit_pointer.pointer_network:random_orders",
    index_of="length",
    description="the elements to go on from, step by step",
)
LENGTHS = TensorSpec(
    "lengths",
    ("batch",),
    dtype="int64",
    sample="lengths",
    index_of="length",
    description="true elements of each row, at least 1; the rest is padding",
)


def _inputs(config: PointerNetworkConfig) -> tuple[TensorSpec, ...]:
    guide = {"greedy": (), "sampled": (NOISE,), "teacher-forced": (TARGETS,)}[config.decoding]
    return (ELEMENTS, *guide, *((LENGTHS,) if config.padded else ()))


POINTER_NETWORK = Architecture(
    name="pointer-network",
    summary="pointer network: an LSTM that answers with positions of its input",
    build="nnkit_pointer.pointer_network:pointer_network",
    config=PointerNetworkConfig,
    inputs=_inputs,
    outputs=(
        TensorSpec(
            "log_probs",
            ("batch", "length", "length"),
            description="per step, the log-probability of each element; -1000 where it can't be chosen",
        ),
        TensorSpec(
            "indices",
            ("batch", "length"),
            dtype="int64",
            index_of="length",
            description="per step, the element pointed at",
        ),
    ),
    dims={
        "batch": Dim(default=1, description="rows"),
        "length": Dim(default=10, description="elements of a row, and steps of the decoder"),
    },
    presets={
        "paper": Preset(
            config={"input_size": 2, "hidden_size": 512},
            description="points in the plane and the width of the paper's LSTMs",
        ),
        "sort": Preset(
            config={"input_size": 1, "hidden_size": 64, "embedding_size": 32},
            sizes={"length": 8},
            description="numbers to sort: small, and learned in seconds",
        ),
    },
    family="pointer network",
    paper="Vinyals, Fortunato, Jaitly: Pointer Networks, NeurIPS 2015, https://arxiv.org/abs/1506.03134",
    equation=(
        "u_ij = v^T tanh(W_1 e_j + W_2 d_i); p(C_i | C_1 ... C_{i-1}, x) = softmax(u_i); "
        "d_{i+1} = LSTM(x_{C_i}, d_i)"
    ),
    notes=(
        "The tutorial's snippet fails on every input: its decoder gets a state of the wrong shape. With that "
        "mended it still can't point: it scores the decoder's output alone, never the encoder's, and takes "
        "a softmax over one number, which is always 1.",
        "The decoder is fed the element it pointed at, as in the paper; the tutorial feeds it a mixture of "
        "encoder outputs, which doesn't have the width of an element.",
        "The tutorial's softmax gives probabilities; log_probs are what a loss takes, and never overflow.",
        "As many steps as elements, each element once (--no-mask-chosen lifts that). The paper's convex "
        "hulls end early, at an end symbol: append an element that stands for it, and cut the answer there.",
        "No beam search: the paper's answers for the traveling salesman use one.",
        "LSTMs are torch's, with two biases each, so that their weights load; the paper has one.",
        "--decoding sampled takes its randomness as the input `noise`, so that a seed decides, and an "
        "exported file can be checked: there is no random operator in it.",
        "Steps beyond the length of a padded row point at the padding, each at its own position, with "
        "probability 1.",
    ),
)


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Declare the pointer network."""
    return [POINTER_NETWORK]
