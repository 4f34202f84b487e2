"""What the first layer of a network takes: Conv2d(3, …) -> float32[batch, 3, height, width]."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy

from nnkit.models.precision import name_of

SPACE = {1: ("length",), 2: ("height", "width"), 3: ("frames", "height", "width")}
"""The axes behind the channels, by their number."""

SIZES = {
    ("time",): (8, 64),
    ("length",): (64, 256, 1024, 16000),
    ("height", "width"): (224, 64, 32, 28),
    ("frames", "height", "width"): (32, 64, 16),
}
"""The axes that no layer fixes beside the batch, and the sizes to try for each of them."""


@dataclass(frozen=True)
class Shape:
    """A shape that a layer takes.

    Attributes:
        dtype: A torch dtype by name.
        axes: A number for an axis that the layer fixes, else a name.
        space: The axes that no layer fixes, beside the batch.
        limit: What integers are below.
        layer: The dotted name of the layer.
    """

    dtype: str
    axes: tuple[int | str, ...]
    space: tuple[str, ...] = ()
    limit: int | None = None
    layer: str = ""

    def declare(self, name: str, size: int | None = None) -> str:
        """Return it as typed, with a size for the axes of `space`: `x: float32[batch, 3, height=32, …]`."""
        axes = [f"{axis}={size}" if axis in self.space and size else str(axis) for axis in self.axes]
        return f"{name}: {self.dtype}[{', '.join(axes)}]" + (f" < {self.limit}" if self.limit else "")

    def with_axes(self, written: Sequence[int | str]) -> "Shape":
        """Return the shape with the numbers and names that an annotation has for its axes."""
        axes = tuple(
            axis if axis == "batch" or (isinstance(axis, int) and isinstance(other, str)) else other
            for axis, other in zip(self.axes, written, strict=True)
        )
        space = tuple(str(other) for axis, other in zip(self.axes, axes, strict=True) if axis in self.space)
        return replace(self, axes=axes, space=space)


def shapes_taken(module: nn.Module) -> Iterator[Shape]:
    """Yield the shapes that the layers of a module take, in order of registration, each once.

    Of several shapes that a layer takes, the one that is likely in this module comes first.
    """
    sequences = (nn.RNNBase, nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
    has_sequences = any(isinstance(layer, sequences) for layer in module.modules())
    seen = set()
    for path, layer in module.named_modules():
        for dtype, axes, limit in _rules(layer, has_sequences):
            if (dtype, axes, limit) not in seen:
                seen.add((dtype, axes, limit))
                space = tuple(axis for axis in axes if isinstance(axis, str) and axis != "batch")
                yield Shape(dtype, axes, space, limit, path)


def _rules(layer: nn.Module, has_sequences: bool) -> Iterator[tuple[str, tuple[int | str, ...], int | None]]:
    """Yield (dtype, axes, limit of integers) for each shape that a layer takes."""
    dtype = _dtype_of(layer)
    match layer:
        case nn.Embedding() | nn.EmbeddingBag():
            yield "int64", ("batch", "time"), layer.num_embeddings
            yield "int64", ("batch",), layer.num_embeddings
        case nn.Linear() if layer.in_features:
            flat, series = ("batch", layer.in_features), ("batch", "time", layer.in_features)
            for axes in (series, flat) if has_sequences else (flat, series):
                yield dtype, axes, None
        case _ConvNd() if layer.in_channels:
            yield dtype, ("batch", layer.in_channels, *SPACE[len(layer.kernel_size)]), None
        case nn.RNNBase():
            yield dtype, _series(layer.batch_first, layer.input_size), None
        case nn.MultiheadAttention():
            yield dtype, _series(layer.batch_first, layer.embed_dim), None
        case nn.TransformerEncoderLayer() | nn.TransformerDecoderLayer():
            yield dtype, _series(layer.self_attn.batch_first, layer.self_attn.embed_dim), None
        case nn.LSTMCell() | nn.GRUCell() | nn.RNNCell():
            yield dtype, ("batch", layer.input_size), None
        case _NormBase() if layer.num_features:
            for space in _spaces_of_norm(layer):
                yield dtype, ("batch", layer.num_features, *space), None
        case nn.GroupNorm():
            yield dtype, ("batch", layer.num_channels, *SPACE[2]), None
        case nn.LayerNorm():
            yield dtype, ("batch", *layer.normalized_shape), None
            yield dtype, ("batch", "time", *layer.normalized_shape), None


def _series(batch_first: bool, features: int) -> tuple[int | str, ...]:
    return ("batch", "time", features) if batch_first else ("time", "batch", features)


def _spaces_of_norm(layer: nn.Module) -> tuple[tuple[str, ...], ...]:
    kind = type(layer).__name__
    return ((), SPACE[1]) if "1d" in kind else (SPACE[3] if "3d" in kind else SPACE[2],)


def _dtype_of(layer: nn.Module) -> str:
    """Return the dtype of the floating-point weights of a layer."""
    weights = (weight for weight in layer.parameters() if isinstance(weight, Tensor) and not is_lazy(weight))
    dtypes = (weight.dtype for weight in weights if weight.is_floating_point() or weight.is_complex())
    dtype = next(dtypes, None)
    return name_of(dtype) if dtype is not None else "float32"
