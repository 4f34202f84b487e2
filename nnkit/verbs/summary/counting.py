"""Multiply-adds of one operator call, by the convention of torchvision's published figures.

Counted: convolutions and matrix products (linear, attention, recurrent, sparse by their non-zeros,
scatter aggregation). Not counted: bias, normalisation, activation, pooling. The formulas of
`torch.utils.flop_counter` serve where it has one; those of formulas.py come first. Attention that is
computed again in backward, to save memory, counts once: the figure is the algorithm's, not the kernel's.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from nnkit.verbs.summary.formulas import AGGREGATIONS, FORMULAS, Formula
from nnkit.verbs.summary.packed import packed_formula

aten = torch.ops.aten

# Operators that only make, move or look at tensors: there is nothing in them to count.
MOVERS = frozenset(
    "_to_copy _unsafe_view alias arange clone contiguous copy_ detach empty empty_like empty_strided "
    "fill fill_ full full_like lift_fresh new_empty new_empty_strided new_full new_ones new_zeros ones "
    "ones_like reshape resize_ scalar_tensor set_ zero_ zeros zeros_like _reshape_alias "
    "_nnz _indices _values is_coalesced sym_size sym_stride sym_numel".split()
)


# The backward of a product with a vector: the gradient of the matrix is an outer product, made by `mul`.
OUTER_PRODUCTS = frozenset({"MvBackward0", "AddmvBackward0"})

# Whose operators multiply where their names say so, and nowhere else.
WELL_NAMED = frozenset("aten prims quantized torchvision".split())

# Words in the name of an operator that multiplies.
PRODUCT = re.compile(
    r"(?:^|_)((add|b|badd|addb|int|int4pack|int8pack|packed|qlinear)?mm|matmul|q?linear|q?conv\w*|attention|"
    r"lstm|gru|rnn|v?dot|mv|einsum|gemm|bilinear|flex)(?=_|$|\d)"
)
# Operators that have such a word in their names, and are none.
NO_PRODUCTS = re.compile(
    r"upsample|interpolate|grid_sampler|prepack|_pack|convert|_thnn_fused|choice|flatten_weight"
)


def has_formula(operator: Any, formulas: Mapping[str, Formula]) -> bool:
    """Whether `macs_of` has a formula for an operator."""
    packet = getattr(operator, "_overloadpacket", operator)
    return _own_formula(packet, formulas) is not None or packet in flop_registry


def macs_of(
    operator: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    result: Any,
    formulas: Mapping[str, Formula],
) -> int | None:
    """Return the multiply-adds of a call of an operator, None where there is no formula.

    formulas: those of plugins, by the operator's qualified name, `namespace::name`.
    """
    packet = getattr(operator, "_overloadpacket", operator)  # a higher-order operator has no overloads
    if formula := _own_formula(packet, formulas):
        differentiates = packet in AGGREGATIONS and torch._C._current_autograd_node() is not None
        return None if differentiates else formula(args, kwargs, result)
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=result)) // 2
    if packet is aten.mul and _name_of_node() in OUTER_PRODUCTS:
        return int(result.numel())
    return None


def _own_formula(packet: Any, formulas: Mapping[str, Formula]) -> Formula | None:
    name = getattr(packet, "_qualified_op_name", "")
    return formulas.get(name) or FORMULAS.get(packet) or packed_formula(name)


def _name_of_node() -> str | None:
    node = torch._C._current_autograd_node()
    return node.name() if node is not None else None


def may_multiply(name: str, known_only: bool) -> bool:
    """Whether an operator, `namespace.name`, that has no formula is a product by its name.

    known_only: don't suspect operators that are not torch's own.
    """
    namespace, _, operator = name.rpartition(".")
    if not known_only and namespace not in WELL_NAMED:
        return True
    return PRODUCT.search(operator) is not None and NO_PRODUCTS.search(operator) is None


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
        left, right = (1, 2) if packet in (aten.addmm, aten.baddbmm) else (0, 1)
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


def values_read(operator: Any, args: tuple[Any, ...], tensors: list[Tensor]) -> list[Tensor]:
    """Return those of the `tensors` whose values decide what an operator gives, or the shape of it."""
    if operator._overloadpacket == aten.index:  # tagged, and it does so for masks alone
        return [each for each in args[1] if each is not None and each.dtype in (torch.bool, torch.uint8)]
    if operator._overloadpacket == aten.masked_select:
        return [args[1]]
    return [] if VALUE_TAGS.isdisjoint(operator.tags) else tensors


@functools.cache
def is_mover(operator: Any) -> bool:
    """Whether an operator makes, moves or views data and computes nothing."""
    return bool(operator.is_view) or operator._overloadpacket.__name__ in MOVERS
