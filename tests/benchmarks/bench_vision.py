"""Forward time of ResNet and VGG beside torchvision's, on the same weights, taken in turn in one process.

    python tests/benchmarks/bench_vision.py [--quick]

Prints the median of each and the median over rounds of their ratio: below 1 ours is faster. It measures and
judges nothing, for times differ from run to run by more than the two do.
"""

import argparse
import importlib
import sys
import time
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import conftest  # noqa: F401 (makes torchvision importable where its compiled operators can't be loaded)
from torchvision import models

from nnkit_vision.configs import BottleneckResNetConfig, ResNetConfig, VGGConfig

CASES = {
    "resnet18": ("nnkit_vision.resnet", ResNetConfig(num_classes=1000)),
    "resnet50": ("nnkit_vision.resnet", BottleneckResNetConfig(num_classes=1000)),
    "vgg16": ("nnkit_vision.vgg", VGGConfig()),
}


def seconds(model, images):
    """Return how long one forward takes."""
    begin = time.perf_counter()
    model(images)
    return time.perf_counter() - begin


def compare(name, batch, size, rounds):
    """Return the seconds of each round: [(ours, theirs)], who goes first changing from round to round."""
    module, config = CASES[name]
    theirs = getattr(models, name)().eval()
    ours = getattr(importlib.import_module(module), name)(config).eval()
    ours.load_state_dict(theirs.state_dict(), assign=True)  # the same memory, not a copy
    images = torch.randn(batch, 3, size, size)
    assert torch.equal(ours(images), theirs(images))
    pairs = []
    for number in range(rounds):
        first, second = (ours, theirs) if number % 2 else (theirs, ours)
        times = {first: seconds(first, images), second: seconds(second, images)}
        pairs.append((times[ours], times[theirs]))
    return pairs


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    batch, size, rounds = (1, 64, 3) if options.quick else (2, 224, options.rounds)
    print(f"forward of {batch} × 3×{size}×{size}, {options.threads} threads, {rounds} rounds")
    print(f"{'':10}{'nnkit ms':>12}{'torchvision ms':>16}{'ratio':>8}")
    with torch.inference_mode():
        for name in CASES:
            pairs = compare(name, batch, size, rounds)
            ours, theirs = (1000 * median(times) for times in zip(*pairs, strict=True))
            ratio = median(a / b for a, b in pairs)
            print(f"{name:10}{ours:12.1f}{theirs:16.1f}{ratio:8.3f}")


if __name__ == "__main__":
    main()
