"""Average pooling to a fixed output size, exported so that the input size stays free."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """Means over a grid of bins: (B, C, H, W) → (B, C, *output_size), for any H and W.

    Like torch.nn.AdaptiveAvgPool2d, except in an export. The ONNX exporter turns torch's into a pool whose
    window only fits the traced size. Written as two matrix products it fits every size:

        y = R x Cᵀ, where R averages rows and C columns
    """

    output_size: tuple[int, int]

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's own name)
        """Return the means."""
        if not torch.compiler.is_exporting():
            return super().forward(input)
        rows, columns = self.output_size
        height, width = input.shape[-2:]
        # Padded, because an export takes a size of 1 for a constant; averaging() gives the zeros no weight.
        padded = F.pad(input, (0, 1, 0, 1))  # (B, C, H+1, W+1)
        return averaging(rows, height, input) @ padded @ averaging(columns, width, input).mT


def averaging(bins: int, size: int, like: Tensor) -> Tensor:
    """Return the matrix (bins, size + 1) that averages, for each bin, the pixels it overlaps.

    On a line of length bins·size, pixel p spans [p·bins, (p+1)·bins) and bin b spans [b·size, (b+1)·size).
    The last pixel lies beyond the line, in no bin.
    """
    pixel = torch.arange(size + 1, device=like.device)  # (size+1,)
    bin_ = torch.arange(bins, device=like.device).unsqueeze(1)  # (bins, 1)
    overlaps = ((pixel + 1) * bins > bin_ * size) & (pixel * bins < (bin_ + 1) * size)  # (bins, size+1)
    weights = overlaps.to(like.dtype)
    return weights / weights.sum(dim=1, keepdim=True)
