"""Detectors take and return lists, one entry for each image. Here they take a batch."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn


def is_detector(module: nn.Module) -> bool:
    """Whether a module takes a list of images, and what to find in them when it is trained."""
    return list(inspect.signature(module.forward).parameters) == ["images", "targets"]


def with_batches(module: nn.Module) -> nn.Module:
    """Let forward take the images as one tensor. The type keeps its name, and the weights keep theirs."""
    original = type(module)

    def forward(self: Any, images: Tensor) -> Any:
        return original.forward(self, list(torch.unbind(images)))

    module.__class__ = type(original.__name__, (original,), {"forward": forward, "__doc__": original.__doc__})
    return module
