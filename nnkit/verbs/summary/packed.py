"""Multiply-adds of operators whose weights are packed: quantized layers."""

import functools
import math
import re
from typing import Any

from torch import Tensor

from nnkit.verbs.summary.formulas import Formula


def _linear(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """`linear(x, packed, …)` from (…, I) to (…, O)."""
    x = next(argument for argument in args if isinstance(argument, Tensor))
    return int(x.numel() * result.shape[-1])


def _convolution(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """`conv(x, packed, …)`: a multiply-add for each weight (O, I, …) of a result (B, O, …)."""
    return int(result.numel() * math.prod(_weight(args).shape[1:]))


def _transposed(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """`conv_transpose(x, packed, …)`: a multiply-add for each weight (I, O, …) of an input (B, I, …)."""
    return int(args[0].numel() * math.prod(_weight(args).shape[1:]))


def _weight(args: tuple[Any, ...]) -> Tensor:
    packed = next(argument for argument in args if hasattr(argument, "unpack"))
    weight: Tensor = packed.unpack()[0]
    return weight


def _by_columns(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """A product `(…, K) @ weight` to (…, N), with a weight in a special layout."""
    return int(args[0].numel() * result.shape[-1])


def _cell(gates: int) -> Formula:
    """A step of a cell: `x` is (B, I), the state (B, H), of which there may be two."""

    def macs(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
        x, states = args[:2]
        hidden = (states if isinstance(states, Tensor) else states[0]).shape[-1]
        return int(math.prod(x.shape[:-1]) * gates * hidden * (x.shape[-1] + hidden))

    return macs


def _recurrent(gates: int) -> Formula:
    """`quantized_lstm(x, states, parameters, has_biases, layers, dropout, train, bidirectional, …)`."""

    def macs(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int | None:
        x, states, _, _, layers, _, _, bidirectional = args[:8]
        if not isinstance(layers, int) or isinstance(layers, bool):
            return None  # packed sequences have a different order
        directions = 1 + bidirectional
        hidden = (states if isinstance(states, Tensor) else states[0]).shape[-1]
        inputs = x.shape[-1] + (layers - 1) * directions * hidden
        rows = math.prod(x.shape[:-1])
        return int(rows * directions * gates * hidden * (inputs + layers * hidden))

    return macs


# By qualified name, because not every build of torch has these operators.
PACKED: dict[str, Formula] = {
    "quantized::matmul": _by_columns,
    "quantized::quantized_lstm_cell_dynamic": _cell(4),
    "quantized::quantized_gru_cell_dynamic": _cell(3),
    "quantized::quantized_rnn_relu_cell_dynamic": _cell(1),
    "quantized::quantized_rnn_tanh_cell_dynamic": _cell(1),
    "aten::quantized_lstm": _recurrent(4),
    "aten::quantized_gru": _recurrent(3),
    "aten::_weight_int4pack_mm": _by_columns,
    "aten::_weight_int4pack_mm_for_cpu": _by_columns,
    "aten::_weight_int8pack_mm": _by_columns,
    "aten::_dyn_quant_matmul_4bit": _by_columns,
    "aten::_sparse_semi_structured_linear": _by_columns,
    "mkldnn::_linear_pointwise": _by_columns,
    "mkl::_mkl_linear": _by_columns,
    "onednn::linear_dynamic_fp16": _linear,
    "onednn::linear_relu_dynamic_fp16": _linear,
    "onednn::qlinear_pointwise": _by_columns,
}
LAYER = re.compile(r"quantized::(?P<layer>linear|conv_transpose|conv)\w*")


@functools.cache
def packed_formula(name: str) -> Formula | None:
    """Return the formula of an operator with packed weights by its qualified name, None for all others."""
    match = LAYER.fullmatch(name)
    if match is None or "pack" in name:
        return PACKED.get(name)
    return {"linear": _linear, "conv_transpose": _transposed, "conv": _convolution}[match["layer"]]
