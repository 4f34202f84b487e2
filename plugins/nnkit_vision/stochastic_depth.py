"""Stochastic depth: in training, whole residual branches are left out at random.

Huang, Sun, Liu, Sedra and Weinberger 2016, "Deep Networks with Stochastic Depth",
https://arxiv.org/abs/1603.09382:

    y = x + b/(1-p) · F(x),   b = 1 with probability 1-p, else 0

for each image separately. The division, which the paper makes in evaluation instead, keeps the expected
output. The random numbers are torchvision's, so training is repeated exactly from the same seed.
"""

from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """Leaves a branch out with probability `p`: (B, …) → (B, …), some rows of it 0 in training."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, branch: Tensor) -> Tensor:
        """Return the branch, left out for some of the images."""
        if not self.training or self.p == 0:
            return branch
        kept = branch.new_empty((len(branch), *[1] * (branch.ndim - 1))).bernoulli_(1 - self.p)  # (B, 1, …)
        if self.p < 1:
            kept.div_(1 - self.p)
        return branch * kept

    def extra_repr(self) -> str:
        """Return the probability, for print(model)."""
        return f"p={self.p}"
