"""Small models around single operators, for the estimates of memory to be compared with the allocator's count.

Each operator works between trainable layers, so that it is in the backward pass too, on tensors that
are large beside the weights.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations


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


SMALL: dict[str, tuple[Callable[[], nn.Module], Callable[[], list[Tensor]]]] = {
    "nearest": on_image(resized("nearest")),
    "nearest, exact": on_image(resized("nearest-exact", 1.5)),
    "bilinear": on_image(resized("bilinear")),
    "bilinear, down": on_image(resized("bilinear", 0.5)),
    "bilinear, antialias": on_image(resized("bilinear", 1.5, antialias=True)),
    "bicubic": on_image(resized("bicubic")),
    "bicubic, antialias": on_image(resized("bicubic", 0.7, antialias=True)),
    "trilinear": on_volume(resized("trilinear")),
    "nearest, volume": on_volume(resized("nearest")),
    "linear, signal": (lambda: Then(nn.Conv1d(64, 64, 3), resized("linear")), lambda: [signal()]),
    "area": on_image(resized("area", 0.5)),
    "grid sample": on_image(sampled("bilinear"), lambda: torch.rand(2, 48, 48, 2)),
    "grid sample, bicubic": on_image(sampled("bicubic"), lambda: torch.rand(2, 64, 64, 2)),
    "grid sample, nearest": on_image(sampled("nearest"), lambda: torch.rand(2, 24, 24, 2)),
    "grid sample, volume": on_volume(sampled("bilinear"), lambda: torch.rand(2, 12, 12, 12, 3)),
    "affine grid": on_image(moved, lambda: torch.rand(2, 2, 3)),
    "affine grid, volume": on_volume(moved, lambda: torch.rand(2, 3, 4)),
    "grouped-query attention": grouped(),
    "grouped-query attention, causal": grouped(causal=True),
    "grouped-query attention, mask": grouped_masked(mask(256, 256)),
    "grouped-query attention, boolean mask": grouped_masked(mask(256, 256, dtype=torch.bool)),
    "multi-query attention": grouped(heads=1, causal=True),
    "attention": grouped(heads=8),
    "attention, causal": grouped(heads=8, causal=True),
    "attention, mask": grouped_masked(mask(256, 256), heads=8),
    "attention, boolean mask of samples": grouped_masked(mask(2, 1, 256, 256, dtype=torch.bool), heads=8),
    "multi-head attention": attention(need_weights=False),
    "multi-head attention, weights": attention(need_weights=True),
    "multi-head attention, dropout": attention(need_weights=False, dropout=0.1),
    "multi-head attention, weights and dropout": attention(need_weights=True, dropout=0.1),
    "multi-head attention, no bias": attention(need_weights=False, bias=False),
    "multi-head attention, extra keys": attention(need_weights=False, add_bias_kv=True, add_zero_attn=True),
    "multi-head attention, mask": (
        lambda: SelfAttention(need_weights=False),
        lambda: [sequence(), mask(128, 128)()],
    ),
    "encoder layer": layered(encoder_layer, sequence),
    "encoder layer, norm first": layered(partial(encoder_layer, norm_first=True), sequence),
    "encoder layer, gelu": layered(partial(encoder_layer, activation="gelu", dropout=0.0), sequence),
    "decoder layer": (
        lambda: nn.TransformerDecoderLayer(128, 8, 256, batch_first=True),
        lambda: [sequence(), sequence(96)],
    ),
    "weight norm": layered(lambda: parametrizations.weight_norm(nn.Conv1d(64, 64, 9, padding=4)), signal),
    "weight norm, linear": layered(lambda: parametrizations.weight_norm(nn.Linear(512, 512)), partial(torch.randn, 8, 512)),
    "weight norm, whole": layered(lambda: parametrizations.weight_norm(nn.Linear(512, 512), dim=None), partial(torch.randn, 8, 512)),
    "spectral norm": layered(lambda: parametrizations.spectral_norm(nn.Linear(512, 512)), partial(torch.randn, 8, 512)),
    "spectral norm, convolution": layered(lambda: parametrizations.spectral_norm(conv(32, 32)), partial(image, 32)),
    "orthogonal": layered(lambda: parametrizations.orthogonal(nn.Linear(128, 128)), partial(torch.randn, 8, 128)),
    "orthogonal, cayley": layered(
        lambda: parametrizations.orthogonal(nn.Linear(128, 128), orthogonal_map="cayley"),
        partial(torch.randn, 8, 128),
    ),
    "orthogonal, householder": layered(
        lambda: parametrizations.orthogonal(nn.Linear(128, 128), orthogonal_map="householder"),
        partial(torch.randn, 8, 128),
    ),
    "spectral layer": (lambda: Spectral(512, 64), lambda: [torch.randn(4, 8, 512)]),
    "fft": on_linear(lambda y: torch.fft.ifft(torch.fft.fft(y)).real),
    "fft, two axes": on_image(lambda y: torch.fft.irfft2(torch.fft.rfft2(y))),
    "fft, first axis": on_linear(lambda y: torch.fft.rfft(y, dim=1).abs()),
    "stft": on_linear(
        lambda y: torch.stft(
            y.flatten(1), 256, window=torch.hann_window(256, device=y.device), return_complex=True
        ).abs(),
        width=32,
    ),
    "complex linear": layered(partial(same_linear, True), lambda: torch.randn(2, 128, 128, dtype=torch.complex64)),
    "complex product": (
        lambda: Then(same_linear(True), lambda y: torch.einsum("bij,bkj->bik", y, y.conj()).abs()),
        lambda: [torch.randn(2, 128, 128, dtype=torch.complex64)],
    ),
    "complex of parts": on_linear(lambda y: torch.complex(*y.chunk(2, -1)).angle()),
    "rotary": on_linear(
        lambda y: torch.view_as_real(torch.view_as_complex(y.unflatten(-1, (-1, 2))) * torch.ones(128, dtype=torch.complex64, device=y.device)).flatten(2)
    ),
    "cdist": on_linear(lambda y: torch.cdist(y, y), width=32),
    "cdist, p 1": on_linear(lambda y: torch.cdist(y, y, p=1), width=32),
    "cdist, p 3": on_linear(lambda y: torch.cdist(y, y, p=3.0), width=32),
    "cdist, other size": on_linear(torch.cdist, partial(torch.randn, 2, 100, 32), width=32),
    "cdist, small": on_linear(lambda y: torch.cdist(y[:, :20], y[:, :24]), width=512),
    "cdist, no batch": (lambda: Then(nn.Linear(16, 64), lambda y: torch.cdist(y, y)), lambda: [torch.randn(512, 16)]),
    "pdist": (lambda: Then(nn.Linear(16, 64), F.pdist), lambda: [torch.randn(256, 16)]),
    "cosine similarity": on_linear(lambda y: F.cosine_similarity(y[:, :, None], y[:, None, :64], dim=-1), width=32),
    "norms": on_linear(lambda y: F.normalize(y, dim=-1) + torch.linalg.vector_norm(y, dim=-1, keepdim=True)),
    "conv1d": layered(lambda: nn.Conv1d(64, 64, 5, padding=2), signal),
    "conv1d, dilated": layered(lambda: nn.Conv1d(64, 64, 3, dilation=4, padding=4), signal),
    "conv1d, grouped": layered(lambda: nn.Conv1d(64, 64, 3, groups=4, padding=1), signal),
    "conv1d, depthwise": layered(lambda: nn.Conv1d(64, 64, 9, groups=64, padding=4), signal),
    "conv1d, transposed": layered(lambda: nn.ConvTranspose1d(64, 32, 4, stride=2, padding=1), signal),
    "conv2d, strided": layered(lambda: nn.Conv2d(16, 48, 3, stride=2), image),
    "conv2d, dilated": layered(lambda: nn.Conv2d(16, 32, 3, dilation=2, padding=2), image),
    "conv2d, grouped": layered(lambda: nn.Conv2d(32, 64, 3, groups=4, padding=1), partial(image, 32)),
    "conv2d, depthwise": layered(lambda: nn.Conv2d(32, 32, 7, groups=32, padding=3), partial(image, 32)),
    "conv2d, pointwise": layered(lambda: nn.Conv2d(32, 64, 1), partial(image, 32)),
    "conv2d, reflected": layered(lambda: nn.Conv2d(16, 32, 3, padding=1, padding_mode="reflect"), image),
    "conv2d, uneven": layered(lambda: nn.Conv2d(20, 40, 3), partial(image, 20)),
    "conv2d, transposed": layered(lambda: nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), partial(image, 32)),
    "conv2d, transposed and dilated": layered(lambda: nn.ConvTranspose2d(32, 16, 3, dilation=2), partial(image, 32)),
    "conv2d, transposed and grouped": layered(lambda: nn.ConvTranspose2d(32, 32, 4, stride=2, groups=2), partial(image, 32)),
    "conv2d, channels last": layered(
        lambda: conv(32, 32).to(memory_format=torch.channels_last),
        lambda: image(32).to(memory_format=torch.channels_last),
    ),
    "conv3d": layered(lambda: nn.Conv3d(8, 16, 3), partial(volume, 8)),
    "conv3d, wide": layered(lambda: nn.Conv3d(16, 32, 3, padding=1), partial(volume, 16)),
    "conv3d, grouped": layered(lambda: nn.Conv3d(16, 16, 3, groups=2), partial(volume, 16)),
    "conv3d, transposed": layered(lambda: nn.ConvTranspose3d(16, 8, 2, stride=2), partial(volume, 16)),
    "two convolutions": layered(lambda: nn.Sequential(conv(), nn.ReLU(), conv(32, 32)), image),
    "gru": layered(lambda: Recurrent(nn.GRU(128, 64, batch_first=True)), sequence),
    "gru, bidirectional": layered(lambda: Recurrent(nn.GRU(128, 64, 2, bidirectional=True)), sequence),
    "lstm": layered(lambda: Recurrent(nn.LSTM(128, 64, batch_first=True)), sequence),
    "lstm, bidirectional": layered(lambda: Recurrent(nn.LSTM(128, 64, 2, bidirectional=True)), sequence),
    "lstm, projected": layered(lambda: Recurrent(nn.LSTM(128, 64, proj_size=32)), sequence),
    "rnn": layered(lambda: Recurrent(nn.RNN(128, 64, batch_first=True)), sequence),
    "group norm": on_image(lambda y: F.group_norm(y, 4)),
    "instance norm": on_image(F.instance_norm),
    "batch norm": layered(lambda: nn.Sequential(conv(), nn.BatchNorm2d(32), nn.ReLU()), image),
    "layer norm": on_linear(lambda y: F.layer_norm(y, [256])),
    "rms norm": on_linear(lambda y: F.rms_norm(y, [256])),
    "local response norm": on_image(lambda y: F.local_response_norm(y, 5)),
    "embedding": (lambda: Classifier(F.cross_entropy), lambda: [indices(4, 64)(), indices(4, 64)()]),
    "cross entropy, smoothed": (lambda: Classifier(labels_loss(label_smoothing=0.1)), lambda: [indices(4, 64)(), indices(4, 64)()]),
    "embedding, padded": (
        lambda: nn.Sequential(nn.Embedding(300, 64, padding_idx=0), nn.Linear(64, 64)),
        lambda: [indices(4, 64)()],
    ),
    "embedding bag": (
        lambda: nn.Sequential(nn.EmbeddingBag(300, 64), nn.Linear(64, 64)),
        lambda: [indices(64, 16)()],
    ),
    "embedding bag, maximum": (
        lambda: nn.Sequential(nn.EmbeddingBag(300, 64, mode="max"), nn.Linear(64, 64)),
        lambda: [indices(64, 16)()],
    ),
    "pixel shuffle": on_image(lambda y: F.pixel_shuffle(y, 2)),
    "pixel unshuffle": on_image(lambda y: F.pixel_unshuffle(y, 2)),
    "channel shuffle": on_image(lambda y: F.channel_shuffle(y, 4)),
    "unfold and fold": on_image(folded),
    "unfold": on_image(lambda y: F.unfold(y, 3)),
    "windows": on_linear(lambda y: y.unfold(1, 16, 8).mean(-1)),
    "ctc loss": on_linear(connectionist, width=64),
    "index": on_linear(lambda y, i: y[:, i], indices(300)),
    "index of pairs": on_linear(lambda y, i: y[i % 2, i], indices(300)),
    "index put": on_linear(lambda y, i: torch.zeros_like(y).index_put((i % 2, i), y[0][i]), indices(100)),
    "index select": on_linear(lambda y, i: y.index_select(1, i), indices(300)),
    "index add": on_linear(lambda y, i: torch.zeros_like(y).index_add(1, i, y), indices(256)),
    "gather": on_linear(lambda y, i: y.gather(1, i), indices(2, 256, 256)),
    "scatter": on_linear(lambda y, i: torch.zeros_like(y).scatter(1, i, y), indices(2, 256, 256)),
    "scatter add": on_linear(lambda y, i: torch.zeros_like(y).scatter_add(1, i, y), indices(2, 256, 256)),
    "scatter reduce": on_linear(lambda y, i: torch.zeros_like(y).scatter_reduce(1, i, y, "amax"), indices(2, 256, 256)),
    "take along": on_linear(lambda y: y.take_along_dim(y.argsort(-1), -1)),
    "topk": on_linear(lambda y: y.topk(8).values),
    "sort": on_linear(lambda y: y.sort(-1).values),
    "sort, first axis": on_linear(lambda y: y.sort(1, descending=True).values),
    "argmax": on_linear(lambda y: y * F.one_hot(y.argmax(-1), 256)),
    "median": on_linear(lambda y: y.median(-1).values),
    "quantile": on_linear(lambda y: y.quantile(0.3, dim=-1)),
    "cumsum": on_linear(lambda y: y.cumsum(1)),
    "cumprod": on_linear(lambda y: y.sigmoid().cumprod(-1)),
    "cummax": on_linear(lambda y: y.cummax(-1).values),
    "logcumsumexp": on_linear(lambda y: y.logcumsumexp(-1)),
    "softmax": on_linear(lambda y: y.softmax(-1)),
    "softmax, first axis": on_linear(lambda y: y.softmax(1)),
    "log softmax": on_linear(lambda y: y.log_softmax(-1)),
    "logsumexp": on_linear(lambda y: y.logsumexp(-1)),
    "gumbel softmax": on_linear(lambda y: F.gumbel_softmax(y, hard=True)),
    "binary cross entropy": on_linear(F.binary_cross_entropy_with_logits, partial(torch.rand, 2, 256, 256)),
    "smooth l1": on_linear(F.smooth_l1_loss, partial(torch.rand, 2, 256, 256)),
    "mean squares": on_linear(F.mse_loss, partial(torch.rand, 2, 256, 256)),
    "divergence": on_linear(lambda y, z: F.kl_div(y.log_softmax(-1), z, reduction="batchmean"), partial(torch.rand, 2, 256, 256)),
    "triplets": on_linear(lambda y: F.triplet_margin_loss(y, y.roll(1, 1), y.roll(2, 1))),
    "adaptive average": on_image(lambda y: F.adaptive_avg_pool2d(y, 7)),
    "adaptive maximum": on_image(lambda y: F.adaptive_max_pool2d(y, 7)),
    "average pool": on_image(lambda y: F.avg_pool2d(y, 2)),
    "maximum pool": on_image(lambda y: F.max_pool2d(y, 3, 2)),
    "maximum unpool": on_image(lambda y: F.max_unpool2d(*F.max_pool2d(y, 2, return_indices=True), 2)),
    "maximum pool, signal": (lambda: Then(nn.Conv1d(64, 64, 3), lambda y: F.max_pool1d(y, 2)), lambda: [signal()]),
    "maximum pool, volume": on_volume(lambda y: F.max_pool3d(y, 2)),
    "average pool, volume": on_volume(lambda y: F.avg_pool3d(y, 2)),
    "power pool": on_image(lambda y: F.lp_pool2d(y, 2, 2)),
    "fractional pool": on_image(lambda y: F.fractional_max_pool2d(y, 2, output_ratio=(0.5, 0.5))),
    "dropout": on_linear(lambda y: F.dropout(y, training=y.requires_grad)),
    "channel dropout": on_image(lambda y: F.dropout2d(y, training=y.requires_grad)),
    "activations": on_linear(lambda y: F.gelu(F.silu(F.elu(F.softplus(F.mish(y)))))),
    "gated": on_linear(F.glu),
    "parametric relu": layered(lambda: nn.Sequential(conv(), nn.PReLU(32)), image),
    "mixed dtypes": on_linear(lambda y, z: y * z + z.double(), indices(2, 256, 256)),
    "mask of bool": on_linear(lambda y, z: y.masked_fill(z > 3, 0) * (z > 7), indices(2, 256, 256)),
    "where": on_linear(lambda y: torch.where(y > 0, y, 0.1)),
    "clamped": on_linear(lambda y: y.clamp(-1, 1).abs().sqrt()),
    "powers": on_linear(lambda y: y.pow(3) + y.exp().pow(y.sigmoid())),
    "moments": on_linear(lambda y: (y - y.mean(1, keepdim=True)) / y.std(1, keepdim=True)),
    "extremes": on_linear(lambda y: y.amax(1) + y.max(1).values + y.min(1).values),
    "einsum": on_linear(lambda y: torch.einsum("bij,bkj->bik", y, y)),
    "einsum of three": on_linear(lambda y: torch.einsum("nbi,nbj,nbk->nbijk", y[..., :16], y[..., 16:32], y[..., 32:48]), width=48),
    "bilinear form": (lambda: nn.Bilinear(32, 32, 16), lambda: [torch.randn(512, 32), torch.randn(512, 32)]),
    "batched product": on_linear(lambda y: y @ y.mT),
    "product with a vector": on_linear(lambda y: y @ y[0, 0]),
    "outer product": on_linear(lambda y: torch.outer(y[0, :, 0], y[0, :, 1])),
    "kronecker": on_linear(lambda y: torch.kron(y[0, :32, :32], y[0, :16, :16])),
    "inverse": on_linear(lambda y: torch.linalg.inv(y + 20 * torch.eye(256, device=y.device))),
    "solve": on_linear(lambda y: torch.linalg.solve(y + 20 * torch.eye(256, device=y.device), y)),
    "cholesky": on_linear(lambda y: torch.linalg.cholesky(y @ y.mT + 20 * torch.eye(256, device=y.device))),
    "eigenvalues": on_linear(lambda y: torch.linalg.eigh(y @ y.mT)[0]),
    "singular values": on_linear(torch.linalg.svdvals),
    "determinant": on_linear(lambda y: torch.linalg.slogdet(y)[1]),
    "matrix exponential": on_linear(lambda y: torch.linalg.matrix_exp(y / 20)),
    "concatenation": on_image(lambda y: torch.cat([y, y.relu(), y.flip(-1)], 1)),
    "stack": on_linear(lambda y: torch.stack([y, y.tanh()])),
    "padding": on_image(lambda y: F.pad(F.pad(y, (1, 1, 1, 1), mode="replicate"), (2, 2, 2, 2), mode="circular")),
    "roll": on_linear(lambda y: y.roll((3, 5), (1, 2))),
    "repeat": on_linear(lambda y: y.repeat(1, 2, 1).repeat_interleave(2, -1)),
    "triangle": on_linear(lambda y: y.tril()),
    "diagonal": on_linear(lambda y: torch.diag_embed(y[..., :64])),
    "histogram of kernels": on_linear(lambda y: torch.exp(-((y[..., None] - torch.linspace(-1, 1, 8, device=y.device)) ** 2)), width=64),
    "polynomials": on_linear(lambda y: torch.stack([y**k for k in range(4)], -1)),
    "bfloat16 linear": half(lambda: nn.Sequential(nn.Linear(128, 512), nn.GELU(), nn.Linear(512, 128)), sequence),
    "bfloat16 convolution": half(lambda: nn.Sequential(conv(16, 32), nn.ReLU(), conv(32, 32)), image),
    "bfloat16 encoder layer": half(encoder_layer, sequence),
    "bfloat16 layer norm": half(lambda: nn.Sequential(nn.Linear(128, 256), nn.LayerNorm(256)), sequence),
    "bfloat16 attention": half(Grouped, partial(sequence, 256, 256)),
    "float64": (lambda: nn.Sequential(conv(), nn.ReLU(), conv(32, 32)).double(), lambda: [image().double()]),
}  # fmt: skip
"""By name: what makes the model, and what makes its inputs."""
