"""A linear layer of the first features."""

from torch import Tensor, nn

from nnkit_names.plugin import PrunedConfig


class Pruned(nn.Module):
    """y = W x, of all features but the last `without`."""

    def __init__(self, config: PrunedConfig) -> None:
        super().__init__()
        self.kept = 8 - config.without
        self.layer = nn.Linear(self.kept, 4, bias=config.declare)

    def forward(self, x: Tensor) -> Tensor:
        """Return four numbers for each row."""
        y: Tensor = self.layer(x[..., : self.kept])
        return y
