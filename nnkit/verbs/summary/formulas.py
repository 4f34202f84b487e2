"""Multiply-adds of the operators that torch's own counter takes for free, or for dense."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from nnkit.verbs.summary.arguments import named_arguments

Formula: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any], Any], int | None]
"""Called with the arguments and the result of a call; returns its multiply-adds, None to leave it out."""

aten = torch.ops.aten


def _matmul(left: int, right: int) -> Formula:
    """A matrix product of the arguments at `left` and `right`, by non-zeros if one is sparse."""

    def macs(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
        a, b = args[left], args[right]
        if a.is_nested or b.is_nested:
            return _nested_matmul(a, b)
        columns = b.shape[-1] if b.dim() > 1 else 1
        if torch.strided not in (a.layout, b.layout):
            return _sparse_matmul(a, b)
        if a.layout != torch.strided:
            return int(a._nnz() * columns)
        if b.layout != torch.strided:
            return int(b._nnz() * a.shape[-2])
        return int(math.prod(a.shape) * columns)

    return macs


def _sparse_matmul(left: Tensor, right: Tensor) -> int:
    """Return the multiply-adds of `left @ right`, both sparse.

    Each non-zero in column k of the left one meets each non-zero in row k of the right one.
    """
    with torch._C.DisableTorchFunction():  # these are not the model's own steps
        inner = left.shape[1]
        left_columns = _nonzeros(left)[1].bincount(minlength=inner)
        right_rows = _nonzeros(right)[0].bincount(minlength=inner)
        return int((left_columns * right_rows).sum())


def _nonzeros(matrix: Tensor) -> Tensor:
    """Return the rows and columns (2, N) of the non-zeros of a sparse matrix."""
    return matrix.to_sparse(layout=torch.sparse_coo).coalesce().indices()


def _nested_matmul(left: Tensor, right: Tensor) -> int:
    """Return the multiply-adds of a product of nested tensors (B, …), or of one with a dense tensor."""
    with torch._C.DisableTorchFunction():
        if not right.is_nested:
            return int(left.numel() * right.shape[-1])
        pairs = zip(left.unbind(), right.unbind(), strict=True)
        return sum(a.numel() * b.shape[-1] for a, b in pairs)


def _sparse_reduce(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int | None:
    """`_sparse_mm_reduce_impl(A, X, reduce)`: a multiply-add for each non-zero and column, if it sums."""
    matrix, x, reduce = args[:3]
    return int(matrix._nnz() * x.shape[-1]) if reduce in ("sum", "mean") else None


def _sparse_reduce_backward(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int | None:
    """`_sparse_mm_reduce_impl_backward(A, gradient, X, reduce, arguments, mask)`: of A, and of X."""
    matrix, gradient, _, reduce, _, mask = args
    return int(matrix._nnz() * gradient.shape[-1]) * sum(mask) if reduce in ("sum", "mean") else None


def _index_put(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int | None:
    """`index_put(x, indices, values, accumulate)`: an aggregation where it accumulates."""
    _, _, values, *accumulate = args
    accumulates = accumulate[0] if accumulate else kwargs.get("accumulate", False)
    return values.numel() if accumulates and values.dim() > 1 else None


def _dense_matmul(left: int, right: int) -> Formula:
    """A dense product `(…, K) @ (…, K, N)`, of one row or column too."""

    def macs(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
        a, b = args[left], args[right]
        return int(a.numel() * (b.shape[-1] if b.dim() > 1 else 1))

    return macs


def _linear(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """`linear(x, weight, …)` that isn't split into a product: nested tensors, weights in oneDNN's layout."""
    x, weight = args[:2]
    return int(x.numel() * weight.shape[0])


def _linear_backward(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """`linear_backward(x, gradient, weight, mask)`: the gradient of x, and that of the weight."""
    x, _, weight, mask = args
    for_x, for_weight = mask[:2]
    return int(x.numel() * weight.shape[0] * (for_x + for_weight))


def _matmul_backward(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """`matmul_backward(gradient, a, b, mask)` of nested tensors."""
    _, a, b, mask = args
    return _nested_matmul(a, b) * int(sum(mask))


def _convolution(weight: int) -> Formula:
    """A convolution by the argument `weight` (O, I, …): a channel's weights for each result (B, O, …)."""

    def macs(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
        return int(result.numel() * math.prod(args[weight].shape[1:]))

    return macs


def _convolution_by_time(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """`conv_tbc(x, weight)`: the weight is (K, I, O) and the result (T, B, O)."""
    _, weight = args[:2]
    kernel, channels = weight.shape[:2]
    return int(result.numel() * kernel * channels)


def _sampled_matmul(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """`sparse_sampled_addmm(pattern, a, b)`: a row by a column for each non-zero of the pattern."""
    pattern, a = args[:2]
    return int(pattern._nnz() * a.shape[-1])


def _grouped_matmul(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
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
    return int(math.prod(x.shape[:-1]) * sum(weight.numel() for weight in weights if weight.dim() == 2))


def _attention(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """Scores (B, h, T, S) from queries and keys, then the values weighted by them."""
    query, key, value = args[:3]
    scores = math.prod(query.shape[:-1]) * key.shape[-2]
    return int(scores * (query.shape[-1] + value.shape[-1]))


def _twice(forward: Formula, first: int = 0) -> Formula:
    """The backward of an operator, which does two products for each one of forward.

    first: where the arguments of forward begin among those of backward.
    """

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
    given = named_arguments(aten._transformer_encoder_layer_fwd, args)
    lengths, width = _lengths(given["src"]), given["embed_dim"]
    matrices = ("qkv_weight", "proj_weight", "ffn_weight_1", "ffn_weight_2")
    weights = sum(given[name].numel() for name in matrices)
    return int(sum(lengths) * weights + sum(t * t for t in lengths) * 2 * width)


def _lengths(x: Tensor) -> list[int]:
    """Return how long each sequence of a batch (B, T, D) is; nested tensors have one length each."""
    if x.is_nested:
        return [int(length) for length in x._nested_tensor_size()[:, 0].tolist()]
    return [x.shape[1]] * x.shape[0]


def _scatter(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int | None:
    """`index_add(x, dim, index, source)`, `scatter_reduce(…, source, reduce)`: an addition for each element.

    A source without features is a degree or other count, which belongs to normalization; a maximum adds
    nothing.
    """
    _, _, _, source, *reduce = args
    if reduce and reduce[0] in ("amax", "amin"):
        return None
    return source.numel() if source.dim() > 1 else None


PRODUCTS: dict[Any, Formula] = {
    aten.mm: _matmul(0, 1),
    aten.addmm: _matmul(1, 2),
    aten._addmm_activation: _matmul(1, 2),
    aten._sparse_addmm: _matmul(1, 2),
    aten._sparse_mm: _matmul(0, 1),
    aten._sparse_sparse_matmul: _matmul(0, 1),
    aten._sparse_mm_reduce_impl: _sparse_reduce,
    aten._sparse_mm_reduce_impl_backward: _sparse_reduce_backward,
    aten.bmm: _matmul(0, 1),
    aten.matmul: _matmul(0, 1),
    aten.matmul_backward: _matmul_backward,
    aten.addmm_: _matmul(1, 2),
    aten.baddbmm_: _dense_matmul(1, 2),
    aten.sparse_sampled_addmm: _sampled_matmul,
    aten.linear: _linear,
    aten.linear_backward: _linear_backward,
    aten.mkldnn_linear: _linear,
    aten.mkldnn_convolution: _convolution(1),
    aten.slow_conv3d_forward: _convolution(1),
    aten.conv_tbc: _convolution_by_time,
    aten._int_mm: _dense_matmul(0, 1),
    aten.addbmm: _dense_matmul(1, 2),
    aten.addbmm_: _dense_matmul(1, 2),
    aten.dot: _dense_matmul(0, 1),
    aten.vdot: _dense_matmul(0, 1),
    aten.mv: _matmul(0, 1),
    aten.addmv: _matmul(1, 2),
    aten.addmv_: _matmul(1, 2),
    aten._grouped_mm: _grouped_matmul,
    aten._scaled_grouped_mm: _grouped_matmul,
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
}

AGGREGATIONS: dict[Any, Formula] = {
    aten.index_add: _scatter,
    aten.index_add_: _scatter,
    aten.index_reduce: _scatter,
    aten.index_reduce_: _scatter,
    aten.index_put: _index_put,
    aten.index_put_: _index_put,
    aten._index_put_impl_: _index_put,
    aten.scatter_add: _scatter,
    aten.scatter_add_: _scatter,
    aten.scatter_reduce: _scatter,
    aten.scatter_reduce_: _scatter,
}
"""Sums over what one row gets from many, counted in forward only.

In backward the same operators make the gradients of lookups, which count as little as a lookup itself.
"""

FORMULAS: dict[Any, Formula] = {**PRODUCTS, **AGGREGATIONS}
