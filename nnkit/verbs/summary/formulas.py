"""Multiply-adds of the operators that torch's own counter takes for nothing, or for dense."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

Formula: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any], Any], int | None]
"""Called with the arguments and the result of a call; returns its multiply-adds, None to leave it out."""

aten = torch.ops.aten


def _sparse(left: int, right: int) -> Formula:
    """A matrix product of the arguments `left` and `right`; by non-zeros if one is sparse."""

    def macs(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
        a, b = args[left], args[right]
        if a.is_nested or b.is_nested:
            return _nested(a, b)
        columns = b.shape[-1] if b.dim() > 1 else 1
        if torch.strided not in (a.layout, b.layout):
            return _pairs(a, b)
        if a.layout != torch.strided:
            return int(a._nnz() * columns)
        if b.layout != torch.strided:
            return int(b._nnz() * a.shape[-2])
        return int(math.prod(a.shape) * columns)

    return macs


def _pairs(left: Tensor, right: Tensor) -> int:
    """Return how many non-zeros of two sparse matrices meet: in a column of one and that row of the other."""
    with torch._C.DisableTorchFunction():  # these are not the model's own steps
        one, other = (each.to_sparse(layout=torch.sparse_coo).coalesce().indices() for each in (left, right))
        columns, rows = one[1].bincount(minlength=left.shape[1]), other[0].bincount(minlength=left.shape[1])
        return int((columns * rows).sum())


def _nested(left: Tensor, right: Tensor) -> int:
    """Return the multiply-adds of a product of nested tensors (B, …), or of one with a dense tensor."""
    with torch._C.DisableTorchFunction():
        pairs = zip(left.unbind(), right.unbind(), strict=True) if right.is_nested else None
        if pairs is None:
            return int(left.numel() * right.shape[-1])
        return sum(one.numel() * other.shape[-1] for one, other in pairs)


def _reduced(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int | None:
    """`_sparse_mm_reduce_impl(A, X, reduce)`: a multiply-add for each non-zero and column, if it sums."""
    matrix, x, reduce = args[:3]
    return int(matrix._nnz() * x.shape[-1]) if reduce in ("sum", "mean") else None


def _reduced_backward(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int | None:
    """`_sparse_mm_reduce_impl_backward(A, gradient, X, reduce, arguments, mask)`: of A, and of X."""
    matrix, gradient, _, reduce, _, mask = args
    return int(matrix._nnz() * gradient.shape[-1]) * sum(mask) if reduce in ("sum", "mean") else None


def _put(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int | None:
    """`index_put(x, indices, values, accumulate)`: an aggregation where it accumulates."""
    accumulates = args[3] if len(args) > 3 else kwargs.get("accumulate", False)
    return args[2].numel() if accumulates and args[2].dim() > 1 else None


def _product(left: int, right: int) -> Formula:
    """A dense product `(…, K) @ (…, K, N)`, of one row or column too."""

    def macs(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
        return int(args[left].numel() * (args[right].shape[-1] if args[right].dim() > 1 else 1))

    return macs


def _linear(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """`linear(x, weight, …)` that comes whole: of nested tensors and of weights in oneDNN's layout."""
    return int(args[0].numel() * args[1].shape[0])


def _linear_backward(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """`linear_backward(x, gradient, weight, mask)`: the gradient of x, and that of the weight."""
    return int(args[0].numel() * args[2].shape[0] * sum(args[3][:2]))


def _matmul_backward(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """`matmul_backward(gradient, a, b, mask)` of nested tensors."""
    return _nested(args[1], args[2]) * int(sum(args[3]))


def _convolution(weight: int) -> Formula:
    """A convolution by the argument `weight` (O, I, …): a channel's weights for each result (B, O, …)."""

    def macs(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
        return int(result.numel() * math.prod(args[weight].shape[1:]))

    return macs


def _convolution_by_time(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """`conv_tbc(x, weight)`: the weight is (K, I, O) and the result (T, B, O)."""
    return int(result.numel() * math.prod(args[1].shape[:2]))


def _sampled(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """`sparse_sampled_addmm(pattern, a, b)`: a row by a column for each non-zero of the pattern."""
    return int(args[0]._nnz() * args[1].shape[-1])


def _grouped(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """A product for each group of rows (T, K) @ (G, K, N), of columns (G, M, K) @ (K, T), or of both."""
    a, b = args[:2]
    rows = a.shape[-2] if b.dim() == 2 and a.dim() == 3 else a.numel() // a.shape[-1]
    return int(rows * a.shape[-1] * b.shape[-1])


def _trilinear(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """`_trilinear(a, b, c, expand_a, expand_b, expand_c, …)`: one for each point of the space they span.

    In a bilinear layer that is a multiply-add for each weight (O, I, J) and sample; so it is in backward.
    """
    axes: dict[int, int] = {}
    for tensor, missing in zip(args[:3], args[3:6], strict=True):
        present = [axis for axis in range(tensor.dim() + len(missing)) if axis not in missing]
        for axis, size in zip(present, tensor.shape, strict=True):
            axes[axis] = max(axes.get(axis, 1), size)
    return math.prod(axes.values())


def _recurrent_layer(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """One direction of one layer in oneDNN: `x` is (T, B, I), the weights (G·H, I) and (G·H, H)."""
    x, weight_ih, weight_hh = args[:3]
    return int(math.prod(x.shape[:-1]) * (weight_ih.numel() + weight_hh.numel()))


def _recurrent_stack(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """All layers and directions in cuDNN: `x` is (T, B, I) or packed (steps, I); weights are matrices."""
    x, weights = args[:2]
    return int(math.prod(x.shape[:-1]) * sum(each.numel() for each in weights if each.dim() == 2))


def _attention(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """Scores (B, h, T, S) from queries and keys, then the values weighted by them."""
    query, key, value = args[:3]
    scores = math.prod(query.shape[:-1]) * key.shape[-2]
    return int(scores * (query.shape[-1] + value.shape[-1]))


def _twice(forward: Formula, first: int = 0) -> Formula:
    """The backward of an operator, which takes that one's arguments from `first` on: two products for one."""

    def macs(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int | None:
        cost = forward(args[first:], kwargs, result)
        return None if cost is None else 2 * cost

    return macs


def _multi_head(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """`_native_multi_head_attention`: projections (D, D) of query (B, T, D), key, value (B, S, D), output."""
    query, key, value, width = args[:4]
    projected = sum(_lengths(query)) * 2 + sum(_lengths(key)) + sum(_lengths(value))
    scores = sum(t * s for t, s in zip(_lengths(query), _lengths(key), strict=True))
    return int(projected * width**2 + scores * 2 * width)


def _encoder_layer(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """`_transformer_encoder_layer_fwd`: self-attention of (B, T, D), then two linear layers."""
    lengths, width = _lengths(args[0]), args[1]
    weights = sum(args[place].numel() for place in (3, 5, 14, 16))
    return int(sum(lengths) * weights + sum(t * t for t in lengths) * 2 * width)


def _lengths(x: Tensor) -> list[int]:
    """Return how long each sequence of a batch (B, T, D) is; nested tensors have one length each."""
    if x.is_nested:
        return [int(length) for length in x._nested_tensor_size()[:, 0].tolist()]
    return [x.shape[1]] * x.shape[0]


def _scattered(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int | None:
    """`index_add(x, dim, index, source)` and its like: one addition for each element of the source.

    A source without features is a degree or another count, which belongs to normalisation; a maximum
    adds nothing.
    """
    if len(args) > 4 and args[4] in ("amax", "amin"):
        return None
    source = args[3] if isinstance(args[3], Tensor) else args[2]
    return source.numel() if source.dim() > 1 else None


FORMULAS: dict[Any, Formula] = {
    aten.mm: _sparse(0, 1),
    aten.addmm: _sparse(1, 2),
    aten._addmm_activation: _sparse(1, 2),
    aten._sparse_addmm: _sparse(1, 2),
    aten._sparse_mm: _sparse(0, 1),
    aten._sparse_sparse_matmul: _sparse(0, 1),
    aten._sparse_mm_reduce_impl: _reduced,
    aten._sparse_mm_reduce_impl_backward: _reduced_backward,
    aten.bmm: _sparse(0, 1),
    aten.matmul: _sparse(0, 1),
    aten.matmul_backward: _matmul_backward,
    aten.addmm_: _sparse(1, 2),
    aten.baddbmm_: _product(1, 2),
    aten.sparse_sampled_addmm: _sampled,
    aten.linear: _linear,
    aten.linear_backward: _linear_backward,
    aten.mkldnn_linear: _linear,
    aten.mkldnn_convolution: _convolution(1),
    aten.slow_conv3d_forward: _convolution(1),
    aten.conv_tbc: _convolution_by_time,
    aten._int_mm: _product(0, 1),
    aten.addbmm: _product(1, 2),
    aten.addbmm_: _product(1, 2),
    aten.dot: _product(0, 1),
    aten.vdot: _product(0, 1),
    aten.mv: _sparse(0, 1),
    aten.addmv: _sparse(1, 2),
    aten.addmv_: _sparse(1, 2),
    aten._grouped_mm: _grouped,
    aten._scaled_grouped_mm: _grouped,
    aten._trilinear: _trilinear,
    aten.mkldnn_rnn_layer: _recurrent_layer,
    aten.mkldnn_rnn_layer_backward: _twice(_recurrent_layer),
    aten._cudnn_rnn: _recurrent_stack,
    aten._cudnn_rnn_backward: _twice(_recurrent_stack),
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_fused_attention_overrideable: _attention,
    aten._scaled_dot_product_attention_math_for_mps: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _twice(_attention, first=1),
    aten._scaled_dot_product_fused_attention_overrideable_backward: _twice(_attention, first=1),
    aten._scaled_dot_product_flash_attention_backward: _twice(_attention, first=1),
    aten._scaled_dot_product_efficient_attention_backward: _twice(_attention, first=1),
    aten._scaled_dot_product_cudnn_attention_backward: _twice(_attention, first=1),
    aten._native_multi_head_attention: _multi_head,
    aten._transformer_encoder_layer_fwd: _encoder_layer,
    aten.index_add: _scattered,
    aten.index_add_: _scattered,
    aten.index_reduce: _scattered,
    aten.index_reduce_: _scattered,
    aten.index_put: _put,
    aten.index_put_: _put,
    aten._index_put_impl_: _put,
    aten.scatter_add: _scattered,
    aten.scatter_add_: _scattered,
    aten.scatter_reduce: _scattered,
    aten.scatter_reduce_: _scattered,
}

# Sums of what one place gets from many. As the gradients of lookups they are no part of the convention,
# as little as that of an embedding.
AGGREGATIONS = frozenset(packet for packet, formula in FORMULAS.items() if formula in (_scattered, _put))
