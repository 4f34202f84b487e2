"""Multi-layer perceptron: linear layers with a nonlinearity between them.

Rumelhart, Hinton and Williams 1986, "Learning representations by back-propagating errors",
https://doi.org/10.1038/323533a0. ReLU: Glorot, Bordes and Bengio 2011,
https://proceedings.mlr.press/v15/glorot11a.html.

    h_0 = x
    h_k = dropout(f(norm(W_k h_{k-1} + b_k)))      for each hidden layer k
    y   = W h_K + b

f is the activation; norm and dropout are there only if they are asked for. The network is a plain
`torch.nn.Sequential`, so that the state dict of one with the same layers loads as it is: `0.weight`,
`2.weight`, … with activations in between, which have no parameters but count as layers.
"""

from collections.abc import Callable, Iterator
from itertools import chain, pairwise

from torch import Tensor, nn

from nnkit_mlp.configs import MLPConfig

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "leaky-relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class MLP(nn.Sequential):
    """Hidden layers, each a few modules long, and a linear layer: (B, in_features) → (B, num_classes)."""

    def __init__(self, config: MLPConfig) -> None:
        sizes = [config.in_features, *config.hidden_sizes]
        super().__init__(
            *chain.from_iterable(hidden_layer(before, after, config) for before, after in pairwise(sizes)),
            nn.Linear(sizes[-1], config.num_classes, config.bias),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the class scores (logits) of each sample."""
        for layer in self:
            x = layer(x)  # (B, units), unchanged by norm, activation and dropout
        return x  # (B, num_classes)


def hidden_layer(before: int, after: int, config: MLPConfig) -> Iterator[nn.Module]:
    """Yield the modules of one hidden layer: (B, before) → (B, after)."""
    yield nn.Linear(before, after, config.bias)
    if config.norm != "none":
        yield NORMS[config.norm](after)
    yield ACTIVATIONS[config.activation]()
    if config.dropout > 0:
        yield nn.Dropout(config.dropout)
