"""A classifier of padded sequences: the mean of their vectors, of real tokens alone.

    nnkit smoke-run examples/pooling.py:Pooling \\
        --input "ids: int64[batch, time] < 100 padding 0" \\
        --input "mask: bool[batch, time] prefix mask of time ?" \\
        --declare padding=mask
"""

from torch import Tensor, nn


class Pooling(nn.Module):
    """scores = W mean(E[ids]), the mean over the tokens that the mask marks."""

    def __init__(self, width: int = 16, num_classes: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, ids: Tensor, mask: Tensor | None = None, *, scale: float = 1.0) -> Tensor:
        """Return scores of each sequence. mask: True at real tokens; without it, those other than 0."""
        mask = ids != 0 if mask is None else mask
        weights = mask.unsqueeze(-1).to(self.head.weight.dtype)
        total = (self.embedding(ids) * weights).sum(1)
        scores: Tensor = self.head(total / weights.sum(1).clamp(min=1)) * scale
        return scores
