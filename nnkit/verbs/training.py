"""What every training step starts from: the optimizers by name, and the reasons why a model has no step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

OPTIMIZER_CLASSES = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}

NO_TRAINABLE_PARAMETER = "no parameter is trainable"
NO_DIFFERENTIABLE_OUTPUT = "no output can be differentiated"


class Untrainable(Exception):
    """The model has no training step at this size; the message says why."""


@contextmanager
def explaining_batch_norm() -> Iterator[None]:
    """Raise Untrainable instead of the error by which batch norm refuses a single value per channel."""
    try:
        yield
    except ValueError as problem:
        if "more than 1 value per channel" not in str(problem):
            raise
        raise Untrainable("batch norm needs more than one value per channel") from problem
