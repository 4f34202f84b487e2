"""Types -> color families: what a step does, as far as its name shows."""

import re
from functools import cache

_CONTAINS = (
    ("attention", "attention attn sdpa"),
    ("embedding", "embed"),
    ("conv", "conv"),
    ("norm", "norm"),
    ("recurrent", "lstm gru rnn"),
    ("pool", "pool upsample interpolate resize"),
    (
        "activation",
        "relu gelu silu swish mish sigmoid tanh softmax softplus softsign softmin shrink",
    ),
    ("linear", "linear matmul einsum gemm addmm baddbmm"),
)
_IS = (
    ("activation", "elu selu celu glu erf threshold"),
    ("pool", "mean amax amin logsumexp"),
    ("linear", "mm bmm dot mv outer inner dense tensordot"),
    (
        "shape",
        """view view_as reshape transpose permute flatten unflatten squeeze unsqueeze expand expand_as
        repeat contiguous chunk split unbind cat concat concatenate stack hstack vstack getitem select
        slice index index_select gather narrow pad roll flip movedim swapaxes swapdims t rearrange
        unfold fold pixel_shuffle pixel_unshuffle pixelshuffle pixelunshuffle channel_shuffle
        channelshuffle tensor_split clone to type_as float half detach repeat_interleave tile meshgrid
        setitem copy identity dropout dropout1d dropout2d dropout3d zeropad1d zeropad2d reflectionpad1d
        reflectionpad2d replicationpad2d constantpad1d constantpad2d shape constant cast""",
    ),
    (
        "math",
        """add radd iadd sub rsub isub mul rmul imul div rdiv idiv truediv rtruediv floordiv neg pow rpow
        sqrt rsqrt exp log log1p sin cos abs sum prod square reciprocal minimum maximum min max clamp
        where masked_fill cumsum floor round sign addcmul addcdiv lerp tril triu eq ne lt gt le ge
        scatter scatter_add scatter_reduce index_add std var dist logical_and logical_or logical_not
        bitwise_and bitwise_or argmax argmin topk sort softcap""",
    ),
)
_PARTS = [(family, re.compile("|".join(parts.split()))) for family, parts in _CONTAINS]
_NAMES = {name: family for family, names in _IS for name in names.split()}


@cache
def family_of(kind: str) -> str:
    """Return the color family of a class, function or operator: `conv`, `norm`, `math` …, else `other`."""
    if kind == "Conv1D":  # of transformers: a linear layer with its weight transposed
        return "linear"
    name = kind.lower().strip("_")
    if name in _NAMES:
        return _NAMES[name]
    return next((family for family, pattern in _PARTS if pattern.search(name)), "other")
