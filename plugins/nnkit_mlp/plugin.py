"""Declares multi-layer perceptrons. Torch-free."""

from nnkit import Architecture, Dim, Preset, TensorSpec, hookimpl

NNKIT_PLUGIN_API = "1.1"


MLP = Architecture(
    name="mlp",
    summary="Multi-layer perceptron: linear layers with a nonlinearity between them",
    family="MLP",
    build="nnkit_mlp.mlp:MLP",
    config="nnkit_mlp.configs:MLPConfig",
    inputs=[TensorSpec("x", ("batch", "in_features"), description="features of each sample")],
    outputs=[TensorSpec("logits", ("batch", "num_classes"), description="class scores")],
    dims={"batch": Dim(default=1, description="samples in a batch; batch norm needs at least 2 in training")},
    presets={
        "mnist": Preset(
            config={"in_features": 784, "hidden_sizes": (512, 512), "num_classes": 10},
            description="28×28 digits, two layers of 512: 669,706 parameters",
        ),
        "ciresan-2010": Preset(
            config={"in_features": 841, "hidden_sizes": (2500, 2000, 1500, 1000, 500), "activation": "tanh"},
            description="29×29 digits, arXiv 1003.0358: the paper's 12.11 million weights",
        ),
    },
    paper="Rumelhart, Hinton and Williams 1986, https://doi.org/10.1038/323533a0",
    equation="h_k = dropout(f(norm(W_k h_{k-1} + b_k))), h_0 = x;  y = W h_K + b",
    notes=[
        "The paper's units are logistic: --activation sigmoid. ReLU is today's default.",
        "In ciresan-2010 the paper's activation is 1.7159 tanh(0.6666 a); here it is tanh.",
        "Images are flattened by the caller, so that any table of features is an input, too.",
        "Keys are those of torch.nn.Sequential(Linear, ReLU, …, Linear). A norm or a dropout is a module of "
        "its own there and moves the numbers of later layers.",
    ],
)


@hookimpl
def nnkit_architectures() -> list[Architecture]:
    """Return the architectures of this plugin."""
    return [MLP]
