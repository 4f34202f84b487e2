"""Multiply-adds of one operator call, by the convention of torchvision's published figures.

Counted: convolutions and matrix products (linear, attention, recurrent, sparse by their non-zeros,
scatter aggregation). Not counted: bias, normalization, activation, pooling. The formulas of formulas.py
come first, then those of `torch.utils.flop_counter`. Attention that is computed again in backward, to
save memory, counts once: the figure is the algorithm's, not the kernel's.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from nnkit.models.tensors import elements_of, tensors_in
from nnkit.verbs.summary.formulas import AGGREGATIONS, FORMULAS, Formula
from nnkit.verbs.summary.packed import packed_formula

aten = torch.ops.aten

# Operators that only create, move or inspect tensors: nothing in them to count.
DATA_MOVEMENT = frozenset(
    """
    _to_copy _unsafe_view alias arange clone contiguous copy_ detach empty empty_like empty_strided
    fill fill_ full full_like lift_fresh new_empty new_empty_strided new_full new_ones new_zeros ones
    ones_like reshape resize_ scalar_tensor set_ zero_ zeros zeros_like _reshape_alias
    _nnz _indices _values is_coalesced sym_size sym_stride sym_numel
    can_cast promote_types result_type
    """.split()
)

# The backward of a product with a vector: the gradient of the matrix is an outer product, made by `mul`.
OUTER_PRODUCTS = frozenset({"MvBackward0", "AddmvBackward0"})

# The namespaces whose operators multiply if, and only if, their names say so.
WELL_NAMED = frozenset({"aten", "prims", "quantized", "torchvision"})

# Words in the name of an operator that multiplies.
PRODUCT = re.compile(
    r"(?:^|_)((add|b|badd|addb|int|int4pack|int8pack|packed|qlinear)?mm|matmul|q?linear|q?conv\w*|attention|"
    r"lstm|gru|rnn|v?dot|mv|einsum|gemm|bilinear|flex)(?=_|$|\d)"
)
# Operators with such a word in their names that don't multiply.
NO_PRODUCTS = re.compile(
    r"upsample|interpolate|grid_sampler|prepack|_pack|convert|_thnn_fused|choice|flatten_weight"
)


def has_formula(operator: Any, formulas: Mapping[str, Formula]) -> bool:
    """Whether `count_macs` has a formula for an operator."""
    traits = traits_of(operator)
    return _own_formula(traits, formulas) is not None or traits.packet in flop_registry


def count_macs(
    operator: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    result: Any,
    formulas: Mapping[str, Formula],
) -> int | None:
    """Return the multiply-adds of a call of an operator, None if no formula exists.

    formulas: those of plugins, by the operator's qualified name, `namespace::name`.
    """
    traits = traits_of(operator)
    packet = traits.packet
    if formula := _own_formula(traits, formulas):
        if packet in AGGREGATIONS and torch._C._current_autograd_node() is not None:
            return None  # the gradient of a lookup
        return formula(args, kwargs, result)
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=result)) // 2
    if packet is aten.mul and _name_of_node() in OUTER_PRODUCTS:
        return int(result.numel())
    return None


def count_activations(operator: Any, args: tuple[Any, ...], result: Any) -> int:
    """Return the elements that the products of a counted call give, whichever kernel computes them.

    Kernels for attention and recurrent layers do several products at once and keep what is between them.
    """
    name = getattr(operator, "_overloadpacket", operator).__name__
    results = sum(elements_of(tensor) for tensor in tensors_in(result)[:1])
    if "scaled_dot_product" in name:
        query, key = args[:2]
        return int(results + query.numel() // query.shape[-1] * key.shape[-2])
    if name == "mkldnn_rnn_layer":  # the gates from the input, and those from the state before
        x, weight_ih = args[:2]
        return int(2 * (x.numel() // x.shape[-1]) * weight_ih.shape[0])
    return results


def _own_formula(traits: "Traits", formulas: Mapping[str, Formula]) -> Formula | None:
    """Return the formula of a plugin or of ours."""
    return (formulas.get(traits.qualified_name) if formulas else None) or traits.formula


def _name_of_node() -> str | None:
    node = torch._C._current_autograd_node()
    return node.name() if node is not None else None


def may_multiply(name: str, known_only: bool) -> bool:
    """Whether an operator without a formula, `namespace.name`, is a product by its name.

    known_only: don't suspect operators that are not torch's own.
    """
    namespace, _, operator = name.rpartition(".")
    if not known_only and namespace not in WELL_NAMED:
        return True
    return PRODUCT.search(operator) is not None and NO_PRODUCTS.search(operator) is None


def product_shape(operator: Any, args: tuple[Any, ...]) -> tuple[int, ...] | None:
    """Return the shape of the result of one of the products WITH_KNOWN_SHAPE, None for an unusual call.

    A run that only counts needs no more of these calls than their shapes, and they are nearly all its work.
    Operands that don't fit are left to torch, which reports why.
    """
    packet = operator._overloadpacket
    if not all(operand.layout == torch.strided for operand in args if isinstance(operand, Tensor)):
        return None
    if packet == aten.convolution:
        return _convolution_shape(*args)
    if packet in (aten.mm, aten.bmm):
        return _matmul_shape(*args[:2])
    if packet in (aten.addmm, aten.baddbmm):
        bias, a, b = args[:3]
        return _matmul_shape(a, b, bias)
    return _grouped_shape(*args[:2])


def _grouped_shape(a: Tensor, b: Tensor) -> tuple[int, ...] | None:
    """Return the shape (M, N) of rows (M, K), in groups, each times its own matrix of (G, K, N)."""
    if a.ndim != 2 or b.ndim != 3 or a.dtype != b.dtype or a.shape[1] != b.shape[1]:
        return None
    strides = [stride for operand in (a, b) for stride in operand.stride() if stride != 1]
    if any(stride * a.itemsize % 16 for stride in strides):  # torch's kernels refuse these
        return None
    return (a.shape[0], b.shape[2])


def _matmul_shape(a: Tensor, b: Tensor, bias: Tensor | None = None) -> tuple[int, ...] | None:
    """Return the shape (…, M, N) of `(…, M, K) @ (…, K, N) + bias`."""
    if not _same_dtype(a, b, bias) or a.shape[-1] != b.shape[-2] or a.shape[:-2] != b.shape[:-2]:
        return None
    columns = b.shape[-1]
    if bias is not None and bias.shape[-1] not in (1, columns):
        return None
    return (*a.shape[:-1], columns)


def _same_dtype(*operands: Tensor | None) -> bool:
    return len({operand.dtype for operand in operands if operand is not None}) == 1


def _convolution_shape(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> tuple[int, ...] | None:
    """Return the shape (B, C, *space) of a convolution that isn't transposed."""
    channels, outputs = weight.shape[1] * groups, weight.shape[:1]
    if transposed or not _same_dtype(x, weight, bias) or x.shape[1] != channels:
        return None
    if bias is not None and bias.shape != outputs:
        return None
    space = []
    for axis, (size, kernel) in enumerate(zip(x.shape[2:], weight.shape[2:], strict=True)):
        reach = _at(dilation, axis) * (kernel - 1)
        space.append((size + 2 * _at(padding, axis) - reach - 1) // _at(stride, axis) + 1)
    return (x.shape[0], *outputs, *space) if min(space, default=1) > 0 else None


def _at(values: Sequence[int], axis: int) -> int:
    """Return the value of an axis, of a list with a value for each axis or one for all."""
    return int(values[axis if len(values) > 1 else 0])


MASK_DTYPES = (torch.bool, torch.uint8)
VALUE_TAGS = frozenset({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape})


def values_read(operator: Any, args: tuple[Any, ...], tensors: list[Tensor]) -> list[Tensor]:
    """Return those of the `tensors` whose values decide the result of an operator that reads values."""
    if operator._overloadpacket == aten.index:  # tagged, but only masks decide the shape
        _, indices = args
        return [index for index in indices if index is not None and index.dtype in MASK_DTYPES]
    if operator._overloadpacket == aten.masked_select:
        _, mask = args
        return [mask]
    return tensors


WITH_KNOWN_SHAPE = frozenset(
    {aten.convolution, aten.mm, aten.bmm, aten.addmm, aten.baddbmm, aten._grouped_mm}
)


@dataclass(frozen=True, slots=True)
class Traits:
    """What is true of every call of an operator.

    packet: the operator without its overload. name, label, qualified_name: `add`, `aten.add`, `aten::add`.
    formula: one of ours for its multiply-adds, if there is one. is_composite: whether torch composes
    it of others. reads_values: whether the values of operands may decide its result, or the shape of that.
    has_known_shape: whether `product_shape` knows it. moves_data: whether it only creates, moves or views
    data.
    """

    packet: Any
    name: str
    label: str
    qualified_name: str
    formula: Formula | None
    is_view: bool = False
    is_mutable: bool = False
    is_composite: bool = False
    reads_values: bool = False
    has_known_shape: bool = False
    moves_data: bool = False


_TRAITS: dict[int, tuple[Any, Traits]] = {}
"""By id, beside the operator, which so keeps its id: the hash of an operator is a function in Python."""


def traits_of(operator: Any) -> Traits:
    """Return the traits of an operator."""
    if (known := _TRAITS.get(id(operator))) is None:
        known = _TRAITS[id(operator)] = operator, _find_traits(operator)
    return known[1]


def _find_traits(operator: Any) -> Traits:
    packet = getattr(operator, "_overloadpacket", operator)  # a higher-order operator has no overloads
    qualified_name = getattr(packet, "_qualified_op_name", "")
    formula = FORMULAS.get(packet) or packed_formula(qualified_name)
    names = packet.__name__, str(packet), qualified_name
    if packet is operator:
        return Traits(packet, *names, formula)
    is_view = bool(operator.is_view)
    return Traits(
        packet,
        *names,
        formula,
        is_view=is_view,
        is_mutable=bool(operator._schema.is_mutable),
        is_composite=bool(operator._can_decompose()),
        reads_values=not VALUE_TAGS.isdisjoint(operator.tags),
        has_known_shape=packet in WITH_KNOWN_SHAPE,
        moves_data=is_view or packet.__name__ in DATA_MOVEMENT,
    )
