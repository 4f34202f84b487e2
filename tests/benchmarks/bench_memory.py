"""The estimates of `nnkit summary --optimizer` beside what torch's CPU allocator counts, in one run.

    python tests/benchmarks/bench_memory.py [--quick]

Prints, for training and for inference, the estimate, the measured peak and their ratio, and the time of the
estimate beside that of the step itself.
"""

import argparse
import copy
import sys
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
sys.path.insert(0, str(Path(__file__).parents[1] / "summary"))
sys.path.insert(0, str(Path(__file__).parents[1]))
import conftest  # noqa: F401 (makes torchvision importable where its compiled operators can't be loaded)
from allocator import measure_memory
from llama import Llama
from torchvision import models

from nnkit.summary.memory import estimate_memory


def image(batch):
    return torch.randn(batch, 3, 224, 224)


def sequence(batch):
    return torch.randn(batch, 128, 256)


def tokens(batch):
    return torch.randint(1000, (batch, 128))


def encoder():
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(256, 8, 1024, batch_first=True), 4)


CASES = {
    **{
        name: (getattr(models, name), image)
        for name in (
            "resnet18",
            "resnet50",
            "vgg11",
            "mobilenet_v2",
            "densenet121",
            "convnext_tiny",
            "vit_b_16",
        )
    },
    "transformer encoder": (encoder, sequence),
    "llama, small": (partial(Llama, 1000, 256, 4, 8, 4, 688), tokens),
    "lstm": (partial(nn.LSTM, 256, 256, 2, batch_first=True), sequence),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    options = parser.parse_args()
    names, batches = (["resnet18", "transformer encoder"], [1]) if options.quick else (list(CASES), [2, 8])
    torch.manual_seed(0)
    print(
        f"{'':22}{'batch':>6}{'':>7} {'training MiB':>24} {'ratio':>7} {'inference MiB':>24} {'ratio':>7}{'s':>7}"
    )
    worst = 0.0
    for name in names:
        make, sample = CASES[name]
        for batch, optimizer in zip(batches, ("adam", "sgd"), strict=False):
            module, args = make(), (sample(batch),)
            start = time.perf_counter()
            told = estimate_memory(
                copy.deepcopy(module).to("meta"), tuple(each.to("meta") for each in args), {}, optimizer
            )
            taken = time.perf_counter() - start
            measured = measure_memory(module, args, optimizer)
            line = f"{name:22}{batch:6}{optimizer:>7}"
            for ours, truth in zip((told.training_peak, told.inference_peak), measured, strict=True):
                line += f" {ours / 2**20:11.1f} {truth / 2**20:12.1f} {ours / truth:7.4f}"
                worst = max(worst, abs(ours / truth - 1))
            print(f"{line}{taken:7.2f}", flush=True)
    print(f"worst error: {worst:.2%}")


if __name__ == "__main__":
    main()
