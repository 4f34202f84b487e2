"""A tensor spec -> the text that a user would type for it after `--input`. Torch-free."""

from nnkit.contract.architecture import TensorSpec
from nnkit.contract.input_declarations import MARKS, usual_sample

MARK_OF = {sample: mark for mark, sample in MARKS.items()}


def as_typed(tensor: TensorSpec) -> str:
    """Return a declaration that reads as this tensor: `mask: bool[batch, time] prefix mask of time ?`."""
    optional = "" if not tensor.optional else "?" if tensor.given else "= none"
    return " ".join(filter(None, (shape_text(tensor), values_text(tensor), optional)))


def shape_text(tensor: TensorSpec) -> str:
    """Return `x: float32[batch, 3]`."""
    return f"{tensor.name}: {tensor.dtype}[{', '.join(map(str, tensor.shape))}]"


def values_text(tensor: TensorSpec) -> str:
    """Return which values it has, where that isn't usual for its dtype: `< 1000 padding 0`."""
    padding = "" if tensor.padding is None else f"padding {tensor.padding}"
    return " ".join(filter(None, (_drawn(tensor), padding)))


def _drawn(tensor: TensorSpec) -> str:
    sample, bound = tensor.sample, tensor.index_of
    if not isinstance(sample, str):
        return f"by {getattr(sample, '__qualname__', sample)}"
    if ":" in sample:
        return f"by {sample}"
    if sample in ("index", "sorted"):
        limit = "" if bound is None else f"< {_operand(bound)}"
        return " ".join(filter(None, (limit, "sorted" if sample == "sorted" else "")))
    if sample == "lengths" and tensor.least != 1:
        return f"in {tensor.least}..{_operand(bound)}"
    if sample in MARK_OF:
        return f"{MARK_OF[sample]} of {bound}"
    return "" if sample == usual_sample(tensor.dtype) else sample


def _operand(bound: str | int | None) -> str:
    text = str(bound)
    return text if text.isidentifier() or text.isdecimal() else f"({text})"
