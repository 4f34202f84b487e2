"""The multilayer perceptron: hₖ = relu(Wₖ hₖ₋₁ + bₖ), and a linear layer on top."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_perceptron.plugin import PerceptronConfig


class Perceptron(nn.Module):
    """Linear layers with ReLU between them.

    Shapes: x (B, in_features) -> logits (B, num_classes).
    """

    def __init__(self, config: PerceptronConfig) -> None:
        super().__init__()
        sizes = [config.in_features, *config.hidden_sizes]
        self.hidden = nn.ModuleList(nn.Linear(size, following) for size, following in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = F.relu(layer(x))  # (B, hidden)
        logits: Tensor = self.head(x)  # (B, num_classes)
        return logits
