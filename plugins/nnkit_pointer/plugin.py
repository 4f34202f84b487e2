"""The pointer network of Vinyals, Fortunato and Jaitly."""

from typing import TYPE_CHECKING

from nnkit import Architecture, Dim, Preset, TensorSpec, hookimpl

if TYPE_CHECKING:
    from nnkit_pointer.configs import PointerNetworkConfig

NNKIT_PLUGIN_API = "1.1"

ELEMENTS = TensorSpec("x", ("batch", "length", "input_size"), description="the elements to point at")
NOISE = TensorSpec(
    "noise",
    ("batch", "length", "length"),
    sample="uniform",
    description="uniform on (0, 1), per step and element: each choice is the argmax of score + Gumbel noise",
)
TARGETS = TensorSpec(
    "targets",
    ("batch", "length"),
    dtype="int64",
    sample="nnkit_pointer.pointer_network:random_orders",
    index_of="length",
    description="the elements to continue from, step by step",
)
LENGTHS = TensorSpec(
    "lengths",
    ("batch",),
    dtype="int64",
    sample="lengths",
    index_of="length",
    description="real elements in each row, at least 1; the rest is padding",
)


def _inputs(config: "PointerNetworkConfig") -> tuple[TensorSpec, ...]:
    guide = {"greedy": (), "sampled": (NOISE,), "teacher-forced": (TARGETS,)}[config.decoding]
    return (ELEMENTS, *guide, *((LENGTHS,) if config.padded else ()))


POINTER_NETWORK = Architecture(
    name="pointer-network",
    summary="Pointer network: an LSTM whose outputs are positions in its input",
    build="nnkit_pointer.pointer_network:pointer_network",
    config="nnkit_pointer.configs:PointerNetworkConfig",
    inputs=_inputs,
    outputs=(
        TensorSpec(
            "log_probs",
            ("batch", "length", "length"),
            description="log-probability of each element in each step; -1000 where it can't be chosen",
        ),
        TensorSpec(
            "indices",
            ("batch", "length"),
            dtype="int64",
            index_of="length",
            description="the element pointed at in each step",
        ),
    ),
    dims={
        "batch": Dim(default=1, description="sequences in a batch"),
        "length": Dim(default=10, description="elements per sequence, and steps of the decoder"),
    },
    padding=("lengths",),
    presets={
        "paper": Preset(
            config={"input_size": 2, "hidden_size": 512},
            description="points in the plane, with LSTMs as wide as the paper's",
        ),
        "sort": Preset(
            config={"input_size": 1, "hidden_size": 64, "embedding_size": 32},
            sizes={"length": 8},
            description="sorting numbers: small, and learned in seconds",
        ),
    },
    family="pointer network",
    paper="Vinyals, Fortunato, Jaitly: Pointer Networks, NeurIPS 2015, https://arxiv.org/abs/1506.03134",
    equation=(
        "u_ij = v^T tanh(W_1 e_j + W_2 d_i); p(C_i | C_1 ... C_{i-1}, x) = softmax(u_i); "
        "d_{i+1} = LSTM(x_{C_i}, d_i)"
    ),
    notes=(
        "The tutorial's snippet fails on every input, because its decoder gets a state of the wrong shape. "
        "Even with that fixed it can't point: it scores only the decoder's output, never the encoder's, and "
        "takes a softmax over one number, which is always 1.",
        "The decoder's input is the element it pointed at, as in the paper. The tutorial feeds it a mixture "
        "of encoder outputs, which doesn't have the width of an element.",
        "The tutorial's softmax gives probabilities. A loss takes log_probs, which never overflow.",
        "There are as many steps as elements, and each element is chosen once (--no-mask-chosen lifts "
        "that). The paper's convex hulls end early, at an end symbol: append an element for it, and cut the "
        "answer there.",
        "There is no beam search, which the paper uses for the traveling salesman.",
        "The LSTMs are torch's, with two biases each, so that weights of torch.nn.LSTM load. The paper has "
        "one.",
        "--decoding sampled takes its randomness as the input `noise`. So a seed decides the result, and an "
        "exported file has no random operator and can be checked.",
        "Steps beyond the length of a padded row point at the padding, each at its own position, with "
        "probability 1.",
    ),
)


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Declare the pointer network."""
    return [POINTER_NETWORK]
