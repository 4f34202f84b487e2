"""GoogLeNet as published: biases and no batch normalization, real 5×5 convolutions, local response norm.

Szegedy et al. 2014, "Going Deeper with Convolutions", https://arxiv.org/abs/1409.4842, Table 1 and
Figure 3.

    inception(x) = cat(1×1 · x,  3×3 · 1×1 · x,  5×5 · 1×1 · x,  1×1 · pool(x)), ReLU after each convolution

The paper gives neither its initialization nor the constants of its normalization; both are those of the
replication that the Caffe project published as bvlc_googlenet.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from nnkit_vision.configs import GoogLeNet2014Config
from nnkit_vision.googlenet import AuxiliaryHead, Inceptions
from nnkit_vision.normalization import LocalResponseNorm


class ConvReLU(nn.Conv2d):
    """A convolution with bias, and a ReLU."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's own name)
        """Return relu(conv(input))."""
        return F.relu(super().forward(input), inplace=True)


class GoogLeNet2014(Inceptions):
    """The GoogLeNet of 2014: (B, in_channels, H, W) → (B, num_classes).

    With `aux_logits`, training returns (logits, aux2, aux1); the paper's heads, which pool 5×5 by 3, take
    images of 224×224 alone.
    """

    def __init__(self, config: GoogLeNet2014Config) -> None:
        def head(in_channels: int) -> AuxiliaryHead:
            pool = nn.AvgPool2d(kernel_size=5, stride=3)
            return AuxiliaryHead(in_channels, config.num_classes, config.dropout_aux, ConvReLU, pool)

        super().__init__(config, ConvReLU, wide=5, last_pool=3, head=head)
        self.norm1 = LocalResponseNorm(size=5)
        self.norm2 = LocalResponseNorm(size=5)
        self.apply(init_weights)
        nn.init.zeros_(self.fc.bias)

    def stem(self, image: Tensor) -> Tensor:
        """Return the image at an eighth of its size: (B, C, H, W) → (B, 192, H/8, W/8)."""
        x = self.norm1(self.maxpool1(self.conv1(image)))  # (B, 64, H/4, W/4)
        x = self.norm2(self.conv3(self.conv2(x)))  # (B, 192, H/4, W/4)
        pooled: Tensor = self.maxpool2(x)
        return pooled


def init_weights(module: nn.Module) -> None:
    """Draw weights uniformly with variance 1/fan-in and set biases to 0.2."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_uniform_(module.weight, nonlinearity="linear")
        if module.bias is not None:
            nn.init.constant_(module.bias, 0.2)
