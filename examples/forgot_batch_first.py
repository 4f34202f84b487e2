"""A classifier of sequences with a common bug: its attention runs over the batch instead of over time.

    nnkit smoke-run examples/forgot_batch_first.py:Classifier --input "x: float32[batch, time=12, 32]"

finds it: a sample gives a different result in a batch than by itself. It runs and trains without an error.
"""

from torch import Tensor, nn


class Classifier(nn.Module):
    """One encoder layer, the mean over time, and a linear head."""

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0)  # the bug: no batch_first=True
        self.head = nn.Linear(32, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores (B, C) of sequences (B, T, 32)."""
        return self.head(self.encoder(x).mean(1))
