"""What can only be found out about a model by trying: sizes of its image, and shapes of its outputs."""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import timm
import torch
from timm.models import is_model_pretrained

from nnkit_timm import construction
from nnkit_timm.outputs import of_network, write
from nnkit_timm.published import configuration
from nnkit_timm.sizes import Sizes, is_fixed

SMALLEST = 32
"""The smallest size that is tried: most models make one pixel of so many."""

Accepts = Callable[[int, int], bool]


def probe(name: str) -> dict[str, Any]:
    """Return what a catalog holds about a model: `sizes`, `detail` (its outputs), `task`, `pretrained`."""
    weights, found = configuration(name), construction.find(name)
    channels, height, width = weights.input_size
    channels, classes = found.arguments.get("in_chans", channels), found.arguments.get("num_classes", 0)
    with torch.device("meta"):
        network = timm.create_model(name).eval()

    def accepts(rows: int, columns: int) -> bool:
        try:
            with torch.no_grad():
                network(torch.empty(1, channels, rows, columns, device="meta"))
        except Exception:  # whatever it raises, this size is none of its sizes
            return False
        return True

    sizes = Sizes(step=0)
    if not is_fixed(found, weights.fixed_input_size):
        sizes = find_sizes(accepts, height, width)
    detail = ""
    with suppress(Exception), torch.no_grad():
        detail = write(of_network(network, channels, (height, width), sizes, classes))
    return {
        "sizes": str(sizes),
        "detail": detail,
        "task": task(name, classes),
        "pretrained": is_model_pretrained(name),
    }


def task(name: str, classes: int) -> str:
    """Return what a model is for. The image towers of CLIP and its kind have the width of an embedding."""
    embeds = any(word in name for word in ("clip", "siglip", "_mci", "vitamin", "_pe_core"))
    if classes == 0:
        return "image features"
    return "image embedding" if embeds and classes != 1000 else "image classification"


def find_sizes(accepts: Accepts, height: int, width: int) -> Sizes:
    """Return the sizes of images that a model takes; the default size is one of them."""
    whole = math.gcd(height, width)
    steps = [step for step in range(1, whole + 1) if whole % step == 0]
    for square in (False, True) if height == width else (False,):
        for step in steps:
            if _takes_step(accepts, height, width, step, square):
                least = _least(accepts, min(height, width), step, square)
                return Sizes(step=step, least=least, square=square)
    return Sizes(step=0)


def _takes_step(accepts: Accepts, height: int, width: int, step: int, square: bool) -> bool:
    """Whether a model takes a few sizes that are larger than the default by multiples of a step."""
    more = ((1, 1), (3, 3), (5, 5)) if square else ((1, 2), (3, 1), (5, 7))
    return all(accepts(height + rows * step, width + columns * step) for rows, columns in more)


def _least(accepts: Accepts, largest: int, step: int, square: bool) -> int:
    """Return the smallest size from which on a model takes multiples of a step, up to one that it takes."""

    def works(multiple: int) -> bool:
        size = multiple * step
        return accepts(size, size) and (square or accepts(size, size + step))

    low, high = max(1, -(-SMALLEST // step)), largest // step
    if works(low):
        return low * step
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if works(middle) else (middle, high)
    return high * step
