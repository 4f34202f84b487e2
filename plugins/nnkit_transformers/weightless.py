"""Forward of a model on tensors that have no values: on meta, or while a graph is captured."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from torch import Tensor
from transformers import PreTrainedModel, masking_utils, modeling_utils

EXPERTS = "batched_mm"
"""The way through a mixture of experts that works on any tensor. The default one sorts tokens by their
expert, for a kernel that wants memory of a certain kind; both give the same sums."""


@contextmanager
def without_values(model: PreTrainedModel, inputs: Mapping[str, Any]) -> Iterator[None]:
    """Where the inputs have no values, have the model run without looking at any."""
    given = next((value for value in inputs.values() if isinstance(value, Tensor)), None)
    if given is None or (type(given) is Tensor and not given.is_meta):
        yield
        return
    with _experts(model):
        if not given.is_meta:
            yield
            return
        with masks_unseen():
            yield


@contextmanager
def masks_unseen() -> Iterator[None]:
    """Make masks as while a graph is captured: nobody asks whether all of a mask is true."""
    with (
        patch.object(masking_utils, "is_tracing", lambda *_: True),
        patch.object(modeling_utils, "is_tracing", lambda *_: True),
    ):
        yield


@contextmanager
def _experts(model: PreTrainedModel) -> Iterator[None]:
    before = getattr(model.config, "_experts_implementation", None)
    if before in (None, EXPERTS):
        yield
        return
    model.set_experts_implementation(EXPERTS)
    try:
        yield
    finally:
        model.set_experts_implementation(before)
