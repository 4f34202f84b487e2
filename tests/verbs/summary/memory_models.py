"""What small models around single operators are made of, for the estimates of memory."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Then(nn.Module):
    """A layer, and a function of what it returns and of the other inputs."""

    def __init__(self, layer: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.layer, self.function = layer, function

    def forward(self, x: Tensor, *others: Tensor) -> Any:
        return self.function(self.layer(x), *others)


class SelfAttention(nn.Module):
    def __init__(self, need_weights: bool, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(128, 8, batch_first=True, **options)
        self.need_weights = need_weights

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        output = self.attention(x, x, x, need_weights=self.need_weights, attn_mask=mask)[0]
        assert isinstance(output, Tensor)
        return output


class Grouped(nn.Module):
    """Attention of eight heads of queries, two of keys and values."""

    def __init__(self, heads: int = 2, causal: bool = False) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(256, 256), nn.Linear(256, 32 * heads), nn.Linear(256, 32 * heads)
        self.causal = causal

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (layer(x).view(*x.shape[:2], -1, 32).transpose(1, 2) for layer in (self.q, self.k, self.v))
        grouped = k.shape[1] < q.shape[1]
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=self.causal, enable_gqa=grouped
        )


class Spectral(nn.Module):
    """A Fourier layer: a product with complex weights of the lowest frequencies."""

    def __init__(self, size: int, modes: int) -> None:
        super().__init__()
        self.lift = nn.Linear(size, size)
        self.weight = nn.Parameter(torch.randn(8, 8, modes, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        frequencies = torch.fft.rfft(self.lift(x))
        kept = frequencies[..., : self.weight.shape[-1]]
        mixed = torch.einsum("bim,iom->bom", kept, self.weight)
        return torch.fft.irfft(F.pad(mixed, (0, frequencies.shape[-1] - mixed.shape[-1])), n=x.shape[-1])


class Recurrent(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        output = self.layer(x)[0]
        assert isinstance(output, Tensor)
        return output


class OnItself(nn.Module):
    """Attention to what is given, of which only the output is returned."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        output = self.layer(x, x, x)[0]
        assert isinstance(output, Tensor)
        return output


class Steps(nn.Module):
    """A recurrent cell in a loop."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        state, outputs = None, []
        for step in x.unbind(1):
            state = self.cell(step, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, 1)


class Tied(nn.Module):
    """An embedding whose weights are those of the output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(300, 64), nn.Linear(64, 300, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        output = self.head(self.embedding(tokens))
        assert isinstance(output, Tensor)
        return output


class Experts(nn.Module):
    """A mixture of four linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.weight = nn.Linear(64, 4), nn.Parameter(torch.randn(4, 64, 128) / 10)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("be,bd,edh->bh", self.gate(x).softmax(-1), x, self.weight)


class Classifier(nn.Module):
    """Embedding and a loss."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], sparse: bool = False) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(500, 64, sparse=sparse), nn.Linear(64, 500)
        self.loss = loss

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        return self.loss(self.head(self.embedding(tokens)).flatten(0, 1), labels.flatten())


def conv(channels: int = 16, out: int = 32) -> nn.Module:
    return nn.Conv2d(channels, out, 3, padding=1)


def image(channels: int = 16, size: int = 48, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, size, size)


def volume(channels: int = 4, size: int = 12) -> Tensor:
    return torch.randn(2, channels, size, size, size)


def signal(channels: int = 64, length: int = 256) -> Tensor:
    return torch.randn(4, channels, length)


def sequence(time: int = 128, width: int = 128, batch: int = 2) -> Tensor:
    return torch.randn(batch, time, width)


def on_linear(function: Callable[..., Any], *others: Callable[[], Tensor], width: int = 256) -> Any:
    """Return a case: a linear layer of 64 features, then `function`."""
    return lambda: Then(nn.Linear(64, width), function), lambda: [
        torch.randn(2, 256, 64),
        *(o() for o in others),
    ]


def on_image(function: Callable[..., Any], *others: Callable[[], Tensor]) -> Any:
    """Return a case: a convolution of 16 channels to 32, then `function`."""
    return lambda: Then(conv(), function), lambda: [image(), *(other() for other in others)]


def on_volume(function: Callable[..., Any], *others: Callable[[], Tensor]) -> Any:
    return lambda: Then(nn.Conv3d(4, 8, 3, padding=1), function), lambda: [volume(), *(o() for o in others)]


def layered(make: Callable[[], nn.Module], sample: Callable[[], Tensor]) -> Any:
    """Return a case of a layer by itself."""
    return make, lambda: [sample()]


def resized(mode: str, factor: float = 2, **options: Any) -> Callable[[Tensor], Tensor]:
    return lambda y: F.interpolate(y, scale_factor=factor, mode=mode, **options)


def sampled(mode: str) -> Callable[..., Tensor]:
    return lambda y, grid: F.grid_sample(y, grid, mode=mode, align_corners=False)


def moved(y: Tensor, theta: Tensor) -> Tensor:
    return F.grid_sample(y, F.affine_grid(theta, list(y.shape), align_corners=False), align_corners=False)


def folded(y: Tensor) -> Tensor:
    return F.fold(F.unfold(y, 3, padding=1).relu(), y.shape[2:], 3, padding=1)


def connectionist(y: Tensor) -> Tensor:
    scores = y.log_softmax(-1).transpose(0, 1)
    times, lengths = torch.full((len(y),), len(scores)), torch.full((len(y),), 20)
    return F.ctc_loss(scores, torch.ones(len(y), 20, dtype=torch.long), times, lengths)


def same_linear(complex_: bool = False) -> nn.Module:
    return nn.Linear(128, 128, dtype=torch.complex64 if complex_ else None)


def half(make: Callable[[], nn.Module], sample: Callable[[], Tensor]) -> Any:
    return lambda: make().bfloat16(), lambda: [sample().bfloat16()]


def indices(*shape: int, below: int = 256) -> Callable[[], Tensor]:
    return lambda: torch.randint(below, shape)


def mask(*shape: int, dtype: torch.dtype = torch.float32) -> Callable[[], Tensor]:
    return lambda: torch.ones(shape, dtype=dtype).tril()


def encoder_layer(**options: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(128, 8, 256, batch_first=True, **options)


def attention(**options: Any) -> Any:
    return lambda: SelfAttention(**options), lambda: [sequence()]


def grouped(**options: Any) -> Any:
    return lambda: Grouped(**options), lambda: [sequence(256, 256)]


def grouped_masked(make_mask: Callable[[], Tensor], **options: Any) -> Any:
    return lambda: Grouped(**options), lambda: [sequence(256, 256), make_mask()]


def labels_loss(**options: Any) -> Callable[[Tensor, Tensor], Tensor]:
    return partial(F.cross_entropy, **options)
