"""The estimates of `nnkit summary --optimizer` beside what torch's CPU allocator counts, in one run.

    python tests/benchmarks/bench_memory.py [--quick | --sweep [NAME ...]]

Prints, for training and for inference, the estimate, the measured peak and their ratio, and the time that
the estimate took. --sweep takes the small models around single operators of tests/verbs/summary/memory_cases.py,
all or those whose name has one of the words, and fails where a row is off by more than 2 % and has no note.
"""

import argparse
import copy
import sys
import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "verbs" / "summary"))
sys.path.insert(0, str(Path(__file__).parents[1]))
import conftest  # noqa: F401 (makes torchvision importable where its compiled operators can't be loaded)
from allocator import measure_memory
from memory_cases import SMALL
from torchvision import models

import nnkit
from nnkit.verbs.summary.memory import estimate_memory
from nnkit.verbs.summary.storages import EXACTNESS


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
    "llama, small": (partial(nnkit.build, "llama"), tokens),
    "lstm": (partial(nn.LSTM, 256, 256, 2, batch_first=True), sequence),
}


def compare(name: str, module: nn.Module, args: tuple[Tensor, ...], optimizer: str) -> tuple[float, str]:
    """Print a row, and return its largest error and the note of the estimate."""
    start = time.perf_counter()
    estimate = estimate_memory(
        copy.deepcopy(module).to("meta"), tuple(each.to("meta") for each in args), {}, optimizer
    )
    taken = time.perf_counter() - start
    measured = measure_memory(module, args, optimizer)
    line, errors = f"{name:42}{optimizer:>7}", []
    for ours, truth in zip((estimate.training_peak, estimate.inference_peak), measured, strict=True):
        line += f" {ours / 2**20:11.2f} {truth / 2**20:12.2f} {ours / truth:7.4f}"
        errors.append(abs(ours / truth - 1))
    print(f"{line}{taken:7.2f}  {estimate.note}".rstrip(), flush=True)
    return max(errors), estimate.note


def sweep(words: list[str]) -> int:
    """Compare the small models whose names have one of `words`; return how many are off without a note."""
    silent = []
    for name in SMALL:
        if not words or any(word in name for word in words):
            for optimizer in ("adamw", "sgd"):
                make, sample = SMALL[name]
                error, note = compare(name, make(), tuple(sample()), optimizer)
                if error > EXACTNESS and not note:
                    silent.append(f"{name}, {optimizer}: {error:.1%}")
    print(f"off by more than {EXACTNESS:.0%} without a note: {'; '.join(silent) or 'none'}")
    return len(silent)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    parser.add_argument("--sweep", nargs="*", metavar="NAME", help="small models around single operators")
    options = parser.parse_args()
    torch.manual_seed(0)
    print(f"{'':49} {'training MiB':>24} {'ratio':>7} {'inference MiB':>24} {'ratio':>7}{'s':>7}")
    if options.sweep is not None:
        sys.exit(sweep(options.sweep) > 0)
    names, batches = (["resnet18", "transformer encoder"], [1]) if options.quick else (list(CASES), [2, 8])
    worst = 0.0
    for name in names:
        make, sample = CASES[name]
        for batch, optimizer in zip(batches, ("adam", "sgd"), strict=False):
            error, _ = compare(f"{name}, batch {batch}", make(), (sample(batch),), optimizer)
            worst = max(worst, error)
    print(f"worst error: {worst:.2%}")


if __name__ == "__main__":
    main()
