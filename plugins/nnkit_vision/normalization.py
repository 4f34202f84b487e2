"""Local response normalization: each activation divided by those of its neighboring channels.

Krizhevsky, Sutskever and Hinton 2012, section 3.3:

    b_c = a_c / (k + α/n · Σ a_j²)^β    over the n channels j around c

torch divides α by n as here; the paper doesn't, so its α is n times this one.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class LocalResponseNorm(nn.LocalResponseNorm):
    """torch.nn's, for images (B, C, H, W) in any dtype: its own way for images has no bfloat16 on the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalized, (B, C, H, W)."""
        rows = x.flatten(2)  # (B, C, H * W)
        return F.local_response_norm(rows, self.size, self.alpha, self.beta, self.k).view_as(x)
