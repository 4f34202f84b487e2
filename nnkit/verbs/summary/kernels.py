"""How much memory the CPU's large kernels need within one call, and what fused ones return on fake tensors.

The large kernels are convolutions, attention and LSTM. The rules for all other operators are in scratch.py.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nnkit.verbs.summary.arguments import named_arguments

ONEDNN_BLOCK = 16  # elements, to a multiple of which oneDNN's kernels for AVX-512 pad

HALF = 2  # bytes of an element of bfloat16 and float16

aten = torch.ops.aten

# The bytes that kernels allocate and free within a call, at the worst moment, beyond their result:
# measured in the events of torch's allocator, with oneDNN 3 on AVX-512.


class _Convolution:
    """How the CPU does a convolution, and the bytes of its operands in oneDNN's blocked layout.

    onednn: whether oneDNN does it. columns: bytes of all patches laid out for a matrix product, if that is
    how it is done. read: bytes of the copy of x. copies: bytes of the contiguous copies of other operands.
    """

    def __init__(self, x: Tensor, weight: Tensor, result: Tensor, bias: Any, options: Any) -> None:
        backend = torch._C._select_conv_backend(x, weight, bias, *options)
        stride, _, _, self.transposed, _, groups = options
        patch = weight.nbytes // weight.shape[0]
        slow = backend.name.startswith("Slow")
        self.columns = 0
        if slow and self.transposed:
            self.columns = patch * math.prod(x.shape[2:])
        elif slow and (math.prod(weight.shape[2:]) > 1 or max(stride) > 1):
            self.columns = patch * math.prod(result.shape[2:]) * x.shape[0]
        # The transposed one of oneDNN has no name in Python.
        self.onednn = backend.name == "Mkldnn" or (self.transposed and not slow)
        layout = torch._C._conv_determine_backend_memory_format(x, weight, backend)
        self.channels_last = layout in (torch.channels_last, torch.channels_last_3d)
        unordered = [x, *([weight] if self.channels_last else [])]
        self.copies = sum(
            _bytes(operand) for operand in unordered if not operand.is_contiguous(memory_format=layout)
        )
        self.layout = layout
        self.depthwise = groups > 1 and weight.shape[1] == 1
        # Kernels that work on x as it is, in backward.
        self.by_channel = self.depthwise and (max(weight.shape[2:]) > 3 or x.ndim > 4)
        self.weight = _padded(weight, 0) if weight.shape[1] < ONEDNN_BLOCK else _padded(weight, 0, 1)
        # An image of few channels is read as it is.
        self.read = _padded(x, 1) if x.shape[1] >= ONEDNN_BLOCK or self.depthwise else 0


def _convolution(args: Any, result: Tensor) -> int:
    """`convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups)`."""
    x, weight, bias, *options = args
    how = _Convolution(x, weight, result, bias, options)
    if not how.onednn:
        return int(how.columns + how.copies)
    if how.channels_last:
        return int(how.copies + (weight.nbytes if how.depthwise else how.weight))
    # Blocked copies of all three; they go, but for the output, of which a plain copy is made.
    if how.transposed:  # and for an output of its own, in which that copy is made
        output, weight_copy = _blocked(result), how.weight if max(options[0]) == 1 else 0
        return int(how.copies + max(how.read + weight_copy + output, 2 * output))
    output = _padded(result, 1)
    return int(how.copies + max(how.read + how.weight + output - result.nbytes, output))


def _convolution_backward(args: Any, result: Any) -> int:
    """`convolution_backward(gradient, x, weight, bias_sizes, stride, …)`: for x first, then for weight."""
    gradient, x, weight, _, *options = args[:10]
    how = _Convolution(x, weight, gradient, None, options)
    if not gradient.is_contiguous(memory_format=how.layout):
        how.copies += _bytes(gradient)
    if not how.onednn:
        return int(how.columns + how.copies)
    if how.channels_last:
        many = ONEDNN_BLOCK**2 if how.depthwise and max(weight.shape[2:]) > 3 else 2
        return int(many * weight.nbytes + how.copies)
    first = 0 if result[0] is None else result[0].nbytes
    if how.by_channel:
        return int(how.copies + first)
    arrived = _blocked(gradient) if how.transposed else _padded(gradient, 1)
    for_x = _padded(x, 1) + max(arrived + how.weight, first) if first else 0
    for_weight = first + how.weight + max(how.read + arrived, weight.nbytes)
    return int(how.copies + max(for_x, for_weight) - first - weight.nbytes)


def _bytes(tensor: Tensor) -> int:
    """Return the bytes of a copy of the tensor, which may be a view."""
    return int(tensor.numel() * tensor.itemsize)


def _blocked(tensor: Tensor) -> int:
    """Return the bytes in a transposed convolution's layout: in blocks of eight channels, where they fit."""
    return _bytes(tensor) if tensor.shape[1] % (ONEDNN_BLOCK // 2) == 0 else _padded(tensor, 1)


def _padded(tensor: Tensor, *channels: int) -> int:
    """Return the bytes of a tensor in oneDNN's blocked layout; `channels` are axes that are padded."""
    shape = list(tensor.shape)
    for axis in channels:
        shape[axis] = math.ceil(shape[axis] / ONEDNN_BLOCK) * ONEDNN_BLOCK
    return math.prod(shape) * tensor.itemsize


def _fused_attention(args: Any, result: Any) -> int:
    """`_native_multi_head_attention(query, key, value, embed_dim, num_head, …, mask, need_weights, …)`."""
    given = named_arguments(aten._native_multi_head_attention, args)
    x, weights = given["query"], result[1]
    alive = _attention_at_once(x, given["num_head"], given["mask"])
    has_weights = weights is not None and weights.numel() > 0
    return int(alive if has_weights else alive - x.nbytes)


def _fused_encoder_layer(args: Any, result: Any) -> int:
    """`_transformer_encoder_layer_fwd(src, embed_dim, num_heads, …, norm_first, …, ffn_weight_1, …)`."""
    given = named_arguments(aten._transformer_encoder_layer_fwd, args)
    x = given["src"]
    hidden = x.nbytes // x.shape[-1] * given["ffn_weight_1"].shape[0]
    attention = _attention_at_once(x, given["num_heads"], given["mask"])
    if given["norm_first"]:
        attention += x.nbytes
    return int(max(attention, 2 * x.nbytes + hidden) - x.nbytes)


def _attention_at_once(x: Tensor, heads: int, mask: Tensor | None) -> int:
    """Return the bytes alive: queries, keys, values twice, or once with the scores; masked scores twice."""
    scores = x.shape[0] * heads * x.shape[1] ** 2 * x.itemsize
    return int(3 * x.nbytes + max(3 * x.nbytes, scores * (1 if mask is None else 2)))


def _flash_attention(args: Any, result: Any) -> int:
    """`_scaled_dot_product_flash_attention_for_cpu(query, key, …)`: scores of a block, for each thread.

    Beside them the largest score, the sum and the output of each row, all in single precision at least.
    """
    query, key = args[:2]
    rows, columns = _flash_blocks(query, key)
    block = rows * columns * _accumulated(query) + rows * (2 + query.shape[-1]) * _accumulated(query)
    reduced = rows * columns * query.itemsize if query.itemsize < 4 else 0
    return int(torch.get_num_threads() * (block + reduced))


def _flash_attention_backward(args: Any, result: Any) -> int:
    """`…_for_cpu_backward(gradient, query, key, value, …)`: the scores of a block and their gradients."""
    gradient, query, key = args[:3]
    rows, columns = _flash_blocks(query, key)
    block = (2 * rows * columns + rows) * _accumulated(query)
    reduced = 2 * rows * columns * query.itemsize if query.itemsize < 4 else 0
    copied = 0 if gradient.transpose(1, 2).is_contiguous() else _bytes(gradient)
    return int(torch.get_num_threads() * (block + reduced) + copied)


def _flash_blocks(query: Tensor, key: Tensor) -> tuple[int, int]:
    """Return the queries and the keys of a block, for queries (batch, heads, time, width)."""
    time = query.shape[2]
    rows = 256 if time >= 768 else 64 if time >= 192 else 32
    return min(rows, time), min(512, key.shape[2])


def _accumulated(tensor: Tensor) -> int:
    return max(tensor.itemsize, 4)


def _lstm_layer(args: Any, result: Any) -> int:
    """`mkldnn_rnn_layer(x, weight_ih, weight_hh, …)`."""
    x, hidden = args[0], args[2].shape[1]
    copied = x.shape[2] > hidden and not torch.is_grad_enabled()
    return int(_lstm_at_once(args) + copied * (x.shape[0] + 1) * math.prod(x.shape[1:]) * x.itemsize)


def _lstm_layer_backward(args: Any, result: Any) -> int:
    """`mkldnn_rnn_layer_backward(x, weight_ih, weight_hh, …)`: weights of a row that is no good, copied."""
    weights = [(weight, _row(weight.shape[1])) for weight in args[1:3]]
    copied = sum(weight.shape[0] * row * weight.itemsize for weight, row in weights if row != weight.shape[1])
    return _lstm_at_once(args) + int(copied)


def _lstm_at_once(args: Any) -> int:
    """Return what is alive in both directions: the weights or their gradients packed, all steps' gates."""
    x, weights = args[0], args[1:3]
    gates, _ = _lstm_rows(args)
    return int((sum(weight.shape[1] for weight in weights) + x.shape[0] * x.shape[1]) * gates * x.itemsize)


def _lstm_rows(args: Any) -> tuple[int, int]:
    """Return the elements of a sample's gates in one step, and those of its states and their gradients."""
    width, hidden = args[1].shape[1], args[2].shape[1]
    return _row(4 * hidden), 6 * _row(max(width, hidden)) + _row(hidden) + 4 * hidden


def _row(elements: int) -> int:
    """Return the length that oneDNN's recurrent kernels give a row: padded, and not a power of two."""
    padded = math.ceil(elements / ONEDNN_BLOCK) * ONEDNN_BLOCK
    return padded + ONEDNN_BLOCK * (padded % 256 == 0)


TEMPORARIES: dict[Any, Callable[[Any, Any], int]] = {
    aten.convolution: _convolution,
    aten.convolution_backward: _convolution_backward,
    aten._native_multi_head_attention: _fused_attention,
    aten._transformer_encoder_layer_fwd: _fused_encoder_layer,
    aten._scaled_dot_product_flash_attention_for_cpu: _flash_attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _flash_attention_backward,
    aten.mkldnn_rnn_layer: _lstm_layer,
    aten.mkldnn_rnn_layer_backward: _lstm_layer_backward,
}
"""Called with the arguments and the result of a call of an operator on the CPU."""


# By how many bytes those formulas may be off, given the arguments of a call.


def _gradient_of_few_channels(args: Any) -> int:
    """Return the bytes that oneDNN may take for the gradient of weights (O, I, …) with few channels I.

    By the sizes, and in ways that can't be asked for, each thread has a copy padded to a block of channels,
    and so has x.
    """
    _, x, weight = args[:3]
    if weight.shape[1] >= ONEDNN_BLOCK:
        return 0
    read = _padded(x, 1) if 4 <= x.shape[1] < ONEDNN_BLOCK else 0
    return int(weight.nbytes * ONEDNN_BLOCK // weight.shape[1] * torch.get_num_threads() + read)


def _gradient_of_threads(args: Any) -> int:
    """Threads that share a small weight add up their gradients of it, each in a copy of its own."""
    gradient, x, weight = args[:3]
    small = 4 * weight.nbytes < _bytes(gradient) + _bytes(x)
    threads = torch.get_num_threads()
    return _padded(weight, 0, 1) * threads if small and threads > 1 else 0


def _gradient_by_channel(args: Any) -> int:
    """A depthwise convolution of a large kernel, or of volumes, is done in one of several ways."""
    gradient, x, weight = args[:3]
    groups = named_arguments(aten.convolution_backward, args)["groups"]
    by_channel = groups > 1 and weight.shape[1] == 1
    return _bytes(gradient) + _bytes(x) if by_channel and (max(weight.shape[2:]) > 3 or x.ndim > 4) else 0


def _volumes_by_channel(args: Any) -> int:
    x, weight = args[:2]
    groups = named_arguments(aten.convolution, args)["groups"]
    return _bytes(x) if groups > 1 and weight.shape[1] == 1 and x.ndim > 4 else 0


def _gradient_of_strided_points(args: Any) -> int:
    """A kernel of one pixel and a stride: the pixels that count may be gathered."""
    gradient, _, weight = args[:3]
    stride = named_arguments(aten.convolution_backward, args)["stride"]
    return _bytes(gradient) if math.prod(weight.shape[2:]) == 1 and max(stride) > 1 else 0


def _strided_points(args: Any) -> int:
    x, weight, _, stride = args[:4]
    return _bytes(x) // math.prod(stride) if math.prod(weight.shape[2:]) == 1 and max(stride) > 1 else 0


def _gradient_of_half(args: Any) -> int:
    gradient, x = args[:2]
    return _bytes(gradient) + _bytes(x) if x.itemsize == HALF else 0


def _transposed_to_few(args: Any) -> int:
    """Return the bytes of a transposed convolution's output, where its channels don't fill a block."""
    x, weight, _, stride, _, _, transposed = args[:7]
    few = transposed and weight.shape[1] % (ONEDNN_BLOCK // 2)
    return 2 * ONEDNN_BLOCK * math.prod(stride) * _bytes(x) // x.shape[1] if few else 0


def _gradient_of_transposed_to_few(args: Any) -> int:
    gradient, _, weight = args[:3]
    transposed = named_arguments(aten.convolution_backward, args)["transposed"]
    return _padded(gradient, 1) if transposed and weight.shape[1] % (ONEDNN_BLOCK // 2) else 0


def _fused_in_half(args: Any) -> int:
    return 2 * _bytes(args[0]) if args[0].itemsize == HALF else 0


def _attention_in_half(args: Any) -> int:
    return 3 * _bytes(args[1]) if args[1].itemsize == HALF else 0


DOUBTS: dict[str, dict[str, Callable[[Any], int]]] = {
    "convolution": {
        "a depthwise convolution of volumes": _volumes_by_channel,
        "a strided convolution of single pixels": _strided_points,
        "a transposed convolution to few channels": _transposed_to_few,
    },
    "convolution_backward": {
        "backward through a convolution of few channels": _gradient_of_few_channels,
        "backward through a convolution by several threads": _gradient_of_threads,
        "backward through a depthwise convolution": _gradient_by_channel,
        "backward through a strided convolution of single pixels": _gradient_of_strided_points,
        "backward through a convolution in half precision": _gradient_of_half,
        "backward through a transposed convolution to few channels": _gradient_of_transposed_to_few,
    },
    "_transformer_encoder_layer_fwd": {"an encoder layer in half precision": _fused_in_half},
    "_native_multi_head_attention": {"attention in half precision": _fused_in_half},
    "_scaled_dot_product_flash_attention_for_cpu_backward": {
        "attention in half precision": _attention_in_half
    },
}
"""By operator, and by the name of what may be off."""


# What operators return on fake tensors, if torch gets that wrong or would run the kernel to find out.


def _fake_encoder_layer(args: Any) -> Tensor:
    return torch.empty_like(args[0])


def _fake_attention(args: Any) -> tuple[Tensor, Tensor]:
    given = named_arguments(aten._native_multi_head_attention, args)
    x = given["query"]
    return torch.empty_like(x), x.new_empty((*x.shape[:2], x.shape[1]) if given["need_weights"] else 0)


def _fake_lstm_layer(args: Any) -> tuple[Tensor, ...]:
    x, hidden, cell = args[0], args[5], args[6]
    gates, states = _lstm_rows(args)
    steps, batch = x.shape[:2]
    workspace = (steps * gates + (steps + 1) * states) * batch * x.itemsize * torch.is_grad_enabled()
    output = x.new_empty((steps, batch, hidden.shape[-1]))
    return output, torch.empty_like(hidden), torch.empty_like(cell), x.new_empty(workspace, dtype=torch.uint8)


def _fake_reduced_loss(args: Any) -> Tensor:
    """A mean or sum of losses keeps the memory of all of them, in which it was computed."""
    x, target, *reduction = args
    losses = torch.empty_like(x + target)
    return losses.as_strided((), ()) if not reduction or reduction[0] else losses


STAND_INS: dict[Any, Callable[[Any], Any]] = {
    aten._transformer_encoder_layer_fwd.default: _fake_encoder_layer,
    aten._native_multi_head_attention.default: _fake_attention,
    aten.mkldnn_rnn_layer.default: _fake_lstm_layer,
    aten.mse_loss.default: _fake_reduced_loss,
    aten.smooth_l1_loss.default: _fake_reduced_loss,
}
