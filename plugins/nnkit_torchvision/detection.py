"""Detectors take and return lists, one entry for each image. Here they take a batch.

They also run where torchvision's compiled operators don't fit torch. Of the operators that detectors need,
torchvision has all but one in torch's own as well, and that one is here.
"""

import inspect
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from nnkit_torchvision.replacing import replaced


def is_detector(module: nn.Module) -> bool:
    """Whether a module takes a list of images, and what to find in them when it is trained."""
    return list(inspect.signature(module.forward).parameters) == ["images", "targets"]


def with_batches(module: nn.Module) -> nn.Module:
    """Let forward take the images as one tensor. The type keeps its name, and the weights keep theirs."""
    from torchvision import extension
    from torchvision.ops import boxes

    original = type(module)

    def forward(self: Any, images: Tensor) -> Any:
        has_operators = extension._has_ops()
        with nullcontext() if has_operators else replaced(boxes, "nms", suppress_overlapping):
            return original.forward(self, list(torch.unbind(images)))

    module.__class__ = type(original.__name__, (original,), {"forward": forward, "__doc__": original.__doc__})
    return module


def suppress_overlapping(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices of the boxes that no better one overlaps by more than a threshold, the best first.

    A box counts only if it is kept itself.
    """
    from torchvision.ops import box_iou

    best_first = scores.argsort(descending=True, stable=True)
    overlaps = box_iou(boxes[best_first], boxes[best_first]) > iou_threshold
    kept = _keep(overlaps.cpu().numpy())
    return best_first[torch.from_numpy(kept).to(best_first.device)]


def _keep(overlaps: Any) -> Any:
    """Return which rows to keep: those that no kept one above overlaps. Numpy takes steps fast."""
    import numpy as np

    kept = np.ones(len(overlaps), dtype=bool)
    for index in range(len(overlaps)):
        if kept[index]:
            kept[index + 1 :] &= ~overlaps[index, index + 1 :]
    return kept
