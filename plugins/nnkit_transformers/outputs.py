"""What forward of a model is annotated to return."""

import typing
from dataclasses import fields
from typing import Any

from transformers.utils import ModelOutput

CONTRASTIVE = "logits_per_"
"""How the outputs of a model that compares each sample of a batch with each other begin."""


def output_names(model_class: Any) -> tuple[str, ...]:
    """Return the names of what forward may return; none where it is not annotated."""
    try:
        annotated = typing.get_type_hints(model_class.forward).get("return")
    except (NameError, TypeError):
        return ()
    kinds = typing.get_args(annotated) or (annotated,)
    outputs = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, ModelOutput)]
    return tuple(field.name for kind in outputs for field in fields(kind))


def unsupported(model_class: Any) -> dict[str, str]:
    """Return the checks that a model can't satisfy, with the reason."""
    if any(name.startswith(CONTRASTIVE) for name in output_names(model_class)):
        reason = "its logits compare each sample of a batch with every other"
        return {"batch-independence": reason}
    return {}
