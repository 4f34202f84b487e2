"""Multiply-adds of one operator call, by the convention of torchvision's published figures.

Counted: convolutions and matrix products (linear, attention, recurrent, sparse by their non-zeros,
scatter aggregation). Not counted: bias, normalisation, activation, pooling. The formulas of
`torch.utils.flop_counter` serve where it has one; those below are for the operators that it counts
as nothing, or as dense.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

Formula: TypeAlias = Callable[[tuple[Any, ...], Any], int | None]
"""Called with the arguments and the result of a call; returns its multiply-adds, None to leave it out."""

aten = torch.ops.aten


def _sparse(product: Callable[[tuple[Any, ...]], tuple[Tensor, Tensor]]) -> Formula:
    """A matrix product whose operands are where `product` says; by non-zeros if one is sparse."""

    def macs(args: tuple[Any, ...], result: Any) -> int:
        left, right = product(args)
        if left.layout != torch.strided:
            return left._nnz() * right.shape[-1]
        if right.layout != torch.strided:
            return right._nnz() * left.shape[0]
        return math.prod(left.shape) * right.shape[-1]

    return macs


def _recurrent_layer(args: tuple[Any, ...], result: Any) -> int:
    """One direction of one layer in oneDNN: `x` is (T, B, I), the weights (G·H, I) and (G·H, H)."""
    x, weight_ih, weight_hh = args[:3]
    return int(math.prod(x.shape[:-1]) * (weight_ih.numel() + weight_hh.numel()))


def _attention(args: tuple[Any, ...], result: Any) -> int:
    """Scores (B, h, T, S) from queries and keys, then the values weighted by them."""
    query, key, value = args[:3]
    scores = math.prod(query.shape[:-1]) * key.shape[-2]
    return int(scores * (query.shape[-1] + value.shape[-1]))


def _scattered(args: tuple[Any, ...], result: Any) -> int | None:
    """`index_add(x, dim, index, source)` and its like: one addition for each element of the source.

    A source without features is a degree or another count, which belongs to normalisation; a maximum
    adds nothing.
    """
    if len(args) > 4 and args[4] in ("amax", "amin"):
        return None
    source = args[3] if isinstance(args[3], Tensor) else args[2]
    return source.numel() if source.dim() > 1 else None


FORMULAS: dict[Any, Formula] = {
    aten.mm: _sparse(lambda args: (args[0], args[1])),
    aten.addmm: _sparse(lambda args: (args[1], args[2])),
    aten._sparse_addmm: _sparse(lambda args: (args[1], args[2])),
    aten._sparse_mm: _sparse(lambda args: (args[0], args[1])),
    aten.mkldnn_rnn_layer: _recurrent_layer,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_fused_attention_overrideable: _attention,
    aten.index_add: _scattered,
    aten.index_add_: _scattered,
    aten.scatter_add: _scattered,
    aten.scatter_add_: _scattered,
    aten.scatter_reduce: _scattered,
    aten.scatter_reduce_: _scattered,
}

# Operators that only make, move or look at tensors: there is nothing in them to count.
MOVERS = frozenset(
    "_to_copy _unsafe_view alias arange clone contiguous copy_ detach empty empty_like empty_strided "
    "fill fill_ full full_like lift_fresh new_empty new_empty_strided new_full new_ones new_zeros ones "
    "ones_like reshape resize_ scalar_tensor set_ zero_ zeros zeros_like _reshape_alias "
    "_nnz _indices _values is_coalesced sym_size sym_stride sym_numel".split()
)


def macs_of(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int | None:
    """Return the multiply-adds of a call of an aten operator, None where there is no formula."""
    packet = operator._overloadpacket
    if packet in FORMULAS:
        return FORMULAS[packet](args, result)
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=result)) // 2
    return None


def product_shape(operator: Any, args: tuple[Any, ...]) -> tuple[int, ...] | None:
    """Return the shape of the result of a convolution or dense product, None for any other call.

    It is what a run for counts alone needs of them, and they are nearly all of its work.
    """
    if not all(each.layout == torch.strided for each in args if isinstance(each, Tensor)):
        return None
    packet = operator._overloadpacket
    if packet == aten.convolution:
        return _convolved(*args[:2], *args[3:8])
    if packet in (aten.mm, aten.bmm):
        return (*args[0].shape[:-1], args[1].shape[-1])
    if packet in (aten.addmm, aten.baddbmm):
        return (*args[1].shape[:-1], args[2].shape[-1])
    return None


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


def is_mover(operator: Any) -> bool:
    """Whether an operator makes, moves or views data and computes nothing."""
    return bool(operator.is_view) or operator._overloadpacket.__name__ in MOVERS
