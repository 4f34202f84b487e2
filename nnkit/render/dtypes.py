"""The dtype of a model, for titles."""

from collections.abc import Mapping

from nnkit.contract.spec import AS_BUILT, ModelSpec


def describe_dtypes(spec: ModelSpec, elements: Mapping[str, int]) -> str:
    """Return `float32`, or for a mixed model `bfloat16 4,160 · float32 64`.

    elements: those of the parameters, by dtype. A model without parameters has the dtype of its spec, and
    an empty one where the spec asks for none.
    """
    if not elements:
        return "" if spec.dtype == AS_BUILT else spec.dtype
    if len(elements) == 1:
        return next(iter(elements))
    return " · ".join(f"{dtype} {number:,}" for dtype, number in elements.items())
