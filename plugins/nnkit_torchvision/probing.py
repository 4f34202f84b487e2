"""What of an architecture is found by trying: the sizes that its images may have. For the catalog."""

from collections.abc import Callable
from typing import Any

import torch

import nnkit
from nnkit_torchvision.declare import task_of

LARGEST_STEP = 64


def probe(name: str) -> dict[str, Any]:
    """Return the task of an architecture, and the sizes that it takes: `fixed`, or a step and the least."""
    task = task_of(name)
    if "height" not in task.dims:
        sizes = "fixed"
    elif task.name == "object detection":  # it resizes every image
        sizes = "1"
    else:
        step, least = find_sizes(_forward(name), int(task.dims["height"].default))
        sizes = f"{step} from {least}" if least > step else f"{step}"
    return {"task": task.name, "sizes": sizes, "pretrained": True}


def find_sizes(accepts: Callable[[int], bool], known: int) -> tuple[int, int]:
    """Return the step and the least of the sizes that are accepted, from one that is known to be.

    All multiples of the step from the least on are taken to be accepted; tried are few.
    """
    step = 1
    while step < LARGEST_STEP and not all(accepts(-(-known // step) * step + step * more) for more in (1, 2)):
        step *= 2
    too_small, least = 0, -(-known // step)  # in steps
    while least - too_small > 1:
        middle = (least + too_small) // 2
        too_small, least = (too_small, middle) if accepts(middle * step) else (middle, least)
    return step, least * step


def _forward(name: str) -> Callable[[int], bool]:
    """Return whether forward runs on images of a height and width. No tensor has memory."""
    spec = nnkit.resolve(f"torchvision/{name}")
    module = nnkit.build(spec, device="meta")

    def accepts(side: int) -> bool:
        sizes = {**spec.sizes, "height": side, "width": side}
        inputs = [torch.empty(spec.shape(tensor, sizes), device="meta") for tensor in spec.inputs]
        try:
            with torch.no_grad():
                module(*inputs)
        except Exception:  # whatever it raises, it doesn't take this size
            return False
        return True

    return accepts
