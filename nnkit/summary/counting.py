"""Multiply-adds of one operator call, by the convention of torchvision's published figures.

Counted: convolutions and matrix products (linear, attention, recurrent, sparse by their non-zeros,
scatter aggregation). Not counted: bias, normalisation, activation, pooling. The formulas of
`torch.utils.flop_counter` serve where it has one; those below are for the operators that it counts
as nothing, or as dense.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from nnkit.tensors import tensors_in

Formula: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any], Any], int | None]
"""Called with the arguments and the result of a call; returns its multiply-adds, None to leave it out."""

aten = torch.ops.aten


@dataclass(frozen=True)
class Cost:
    """Multiply-adds of a call, and of its part in a backward pass.

    A product costs as much again for each operand that needs a gradient. Attention that is computed
    again in backward, to save memory, counts once: the figure is the algorithm's, not the kernel's.
    """

    forward: int
    backward: int


def _sparse(left: int, right: int) -> Formula:
    """A matrix product of the arguments `left` and `right`; by non-zeros if one is sparse."""

    def macs(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
        a, b = args[left], args[right]
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


def _reduced(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int | None:
    """`_sparse_mm_reduce_impl(A, X, reduce)`: a multiply-add for each non-zero and column, if it sums."""
    matrix, x, reduce = args[:3]
    return int(matrix._nnz() * x.shape[-1]) if reduce in ("sum", "mean") else None


def _put(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int | None:
    """`index_put(x, indices, values, accumulate)`: an aggregation where it accumulates."""
    accumulates = args[3] if len(args) > 3 else kwargs.get("accumulate", False)
    return args[2].numel() if accumulates and args[2].dim() > 1 else None


def _product(left: int, right: int) -> Formula:
    """A dense product `(…, K) @ (…, K, N)`, of one row or column too."""

    def macs(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
        return int(args[left].numel() * (args[right].shape[-1] if args[right].dim() > 1 else 1))

    return macs


def _grouped(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """A product for each group of rows (T, K) @ (G, K, N), of columns (G, M, K) @ (K, T), or of both."""
    a, b = args[:2]
    rows = a.shape[-2] if b.dim() == 2 and a.dim() == 3 else a.numel() // a.shape[-1]
    return int(rows * a.shape[-1] * b.shape[-1])


def _trilinear(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """`x W y` of a bilinear layer: a multiply-add for each weight (O, I, J) and sample (B, …)."""
    x, weight = args[:2]
    return int(math.prod(x.shape[:-1]) * weight.numel())


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
    aten.bmm: _sparse(0, 1),
    aten._int_mm: _product(0, 1),
    aten.addbmm: _product(1, 2),
    aten.dot: _product(0, 1),
    aten.vdot: _product(0, 1),
    aten.mv: _sparse(0, 1),
    aten.addmv: _sparse(1, 2),
    aten._grouped_mm: _grouped,
    aten._scaled_grouped_mm: _grouped,
    aten._trilinear: _trilinear,
    aten.mkldnn_rnn_layer: _recurrent_layer,
    aten._cudnn_rnn: _recurrent_stack,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_fused_attention_overrideable: _attention,
    aten._scaled_dot_product_attention_math_for_mps: _attention,
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

# Which arguments the products of an operator multiply; where nothing is said, the first two.
OPERANDS = {
    aten.addmm: (1, 2), aten._addmm_activation: (1, 2), aten.baddbmm: (1, 2), aten.addbmm: (1, 2),
    aten.addmv: (1, 2), aten._sparse_addmm: (1, 2),
}  # fmt: skip
ATTENTION = frozenset(packet for packet in (*FORMULAS, *flop_registry) if "attention" in str(packet))

# Operators that only make, move or look at tensors: there is nothing in them to count.
MOVERS = frozenset(
    "_to_copy _unsafe_view alias arange clone contiguous copy_ detach empty empty_like empty_strided "
    "fill fill_ full full_like lift_fresh new_empty new_empty_strided new_full new_ones new_zeros ones "
    "ones_like reshape resize_ scalar_tensor set_ zero_ zeros zeros_like _reshape_alias "
    "_nnz _indices _values is_coalesced sym_size sym_stride sym_numel".split()
)


def cost_of(
    operator: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    result: Any,
    formulas: Mapping[str, Formula],
) -> Cost | None:
    """Return what a call of an operator costs, None where there is no formula.

    formulas: those of plugins, by the operator's qualified name, `namespace::name`.
    """
    packet = operator._overloadpacket
    own = formulas.get(packet._qualified_op_name) if formulas else None
    if formula := own or FORMULAS.get(packet):
        forward = formula(args, kwargs, result)
    elif packet in flop_registry:
        forward = int(flop_registry[packet](*args, **kwargs, out_val=result)) // 2
    else:
        return None
    return None if forward is None else Cost(forward, _backward(packet, args, forward))


def _backward(packet: Any, args: tuple[Any, ...], forward: int) -> int:
    """Return the multiply-adds that a backward pass through a call needs."""
    if FORMULAS.get(packet) in (_scattered, _put):
        return 0  # the gradient of an aggregation is gathered, not added
    if packet in ATTENTION:
        return _attention_backward(args, forward)
    if FORMULAS.get(packet) in (_recurrent_layer, _recurrent_stack, _encoder_layer):
        return forward * 2 if _any_grad(args) else 0
    needing = [args[place] for place in OPERANDS.get(packet, (0, 1)) if place < len(args)]
    return forward * sum(1 for each in needing if isinstance(each, Tensor) and each.requires_grad)


def _attention_backward(args: tuple[Any, ...], forward: int) -> int:
    """Return the products for the gradients of values, of scores, of queries and of keys."""
    query, key, value = args[:3]
    widths = query.shape[-1], value.shape[-1]
    scores, weighted = (forward * width // sum(widths) for width in widths)
    through = query.requires_grad or key.requires_grad
    return int(
        weighted * (value.requires_grad + through) + scores * (query.requires_grad + key.requires_grad)
    )


def _any_grad(args: tuple[Any, ...]) -> bool:
    return any(tensor.requires_grad for tensor in tensors_in(args))


def product_shape(operator: Any, args: tuple[Any, ...]) -> tuple[int, ...] | None:
    """Return the shape of the result of a convolution or dense product, None for any other call.

    It is what a run for counts alone needs of them, and they are nearly all of its work.
    """
    if not all(each.layout == torch.strided for each in args if isinstance(each, Tensor)):
        return None
    packet = operator._overloadpacket
    if packet == aten.convolution:
        x, weight, bias = args[:3]
        fits = x.shape[1] == weight.shape[1] * args[8] and (bias is None or bias.shape == weight.shape[:1])
        return _convolved(x, weight, *args[3:8]) if fits and _alike(x, weight, bias) else None
    if packet in (aten.mm, aten.bmm, aten.addmm, aten.baddbmm):
        left, right = OPERANDS.get(packet, (0, 1))
        a, b, *others = args[left], args[right], *args[:left]
        fits = a.shape[-1] == b.shape[-2] and a.shape[:-2] == b.shape[:-2]
        fits = fits and all(each.shape[-1] in (1, b.shape[-1]) for each in others)
        return (*a.shape[:-1], b.shape[-1]) if fits and _alike(a, b, *others) else None
    return None


def _alike(*operands: Tensor | None) -> bool:
    """Whether operands may be multiplied and added: what doesn't fit is left to torch, which says why."""
    return len({each.dtype for each in operands if each is not None}) == 1


def _convolved(
    x: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any, transposed: bool, output_padding: Any
) -> tuple[int, ...] | None:
    """Return the shape (B, C, *space) of a convolution; a plain one alone, not a transposed."""
    if transposed:
        return None

    def axis(values: Any, place: int) -> int:
        return int(values[place if len(values) > 1 else 0])

    space = []
    for place, (size, kernel) in enumerate(zip(x.shape[2:], weight.shape[2:], strict=True)):
        reach = axis(dilation, place) * (kernel - 1)
        space.append((size + 2 * axis(padding, place) - reach - 1) // axis(stride, place) + 1)
    return (x.shape[0], weight.shape[0], *space) if min(space, default=1) > 0 else None


VALUE_TAGS = frozenset({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape})


def reads_values(operator: Any, args: tuple[Any, ...]) -> bool:
    """Whether what an operator gives, or the shape of it, depends on the values that it is given."""
    if operator._overloadpacket == aten.index:  # tagged, and it does so for masks alone
        return any(each is not None and each.dtype in (torch.bool, torch.uint8) for each in args[1])
    return not VALUE_TAGS.isdisjoint(operator.tags)


def is_mover(operator: Any) -> bool:
    """Whether an operator makes, moves or views data and computes nothing."""
    return bool(operator.is_view) or operator._overloadpacket.__name__ in MOVERS
