"""The multiply-adds that nnkit and other counters find, beside the published or hand-computed figure.

    python tests/benchmarks/bench_counts.py [--quick]

The first table has single models; each cell is the count divided by that figure, or `exact`. Below it stands how
many of torchvision's classifiers come out within 1 % of their published figure (`_ops` in the metadata of the
weights). fvcore is left out where it is not installed.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))
import conftest  # noqa: F401 (makes torchvision importable where its compiled operators can't be loaded)
import torchinfo
from torchvision import models

import nnkit

TESTS = Path(__file__).parents[1]
FIGURES = json.loads((TESTS / "verbs" / "summary" / "torchvision_figures.json").read_text())["models"]
Counter = Callable[[nn.Module, Tensor], float]


def attention_macs(samples: int, tokens: int, width: int) -> int:
    """Count four projections, the scores and the weighted values of multi-head attention."""
    return samples * (4 * tokens * width * width + 2 * tokens * tokens * width)


def recurrent_macs(gates: int, steps: int, inputs: int, hidden: int) -> int:
    """Count the two products of each step of one direction of a recurrent layer."""
    return steps * gates * hidden * (inputs + hidden)


class SelfAttention(nn.MultiheadAttention):
    """Attention of a sequence to itself."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended values."""
        return super().forward(x, x, x, need_weights=False)[0]


def image(size: int = 224) -> Tensor:
    """Return one picture."""
    return torch.randn(1, 3, size, size)


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], int]] = {
    "ResNet-18": (models.resnet18, image, 1_814_073_344),
    "ViT-B/16": (models.vit_b_16, image, 17_563_828_224),
    "Swin-T": (models.swin_t, image, 4_490_566_656),
    "multi-head attention, 256 wide": (
        lambda: SelfAttention(256, 8, batch_first=True),
        lambda: torch.randn(2, 100, 256),
        attention_macs(2, 100, 256),
    ),
    "Transformer encoder layer, 256 wide": (
        lambda: nn.TransformerEncoderLayer(256, 8, 1024, batch_first=True),
        lambda: torch.randn(2, 100, 256),
        attention_macs(2, 100, 256) + 2 * 2 * 100 * 256 * 1024,
    ),
    "GRU 32 → 48, 25 steps": (
        lambda: nn.GRU(32, 48),
        lambda: torch.randn(25, 3, 32),
        3 * recurrent_macs(3, 25, 32, 48),
    ),
    "LSTM 64 → 128, 50 steps": (
        lambda: nn.LSTM(64, 128, batch_first=True),
        lambda: torch.randn(4, 50, 64),
        4 * recurrent_macs(4, 50, 64, 128),
    ),
}


def count_by_nnkit(model: nn.Module, x: Tensor) -> float:
    """Count by `nnkit.summarize`."""
    return nnkit.summarize(model, [x]).totals.macs or 0


def count_by_torchinfo(model: nn.Module, x: Tensor) -> float:
    """Count by torchinfo."""
    return torchinfo.summary(model, input_data=[x], verbose=0, device=x.device).total_mult_adds


def count_by_torch(model: nn.Module, x: Tensor) -> float:
    """Count by torch's own counter, in which a multiply-add is two operations."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(x)
    return counter.get_total_flops() / 2


def count_by_fvcore(model: nn.Module, x: Tensor) -> float:
    """Count by fvcore, whose operations are multiply-adds."""
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(model, x)
    return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()


COUNTERS: dict[str, Counter] = {
    "nnkit": count_by_nnkit,
    f"torchinfo {importlib.metadata.version('torchinfo')}": count_by_torchinfo,
    f"FlopCounterMode, torch {torch.__version__.partition('+')[0]}": count_by_torch,
}
if importlib.util.find_spec("fvcore") is not None:
    COUNTERS[f"fvcore {importlib.metadata.version('fvcore')}"] = count_by_fvcore


def print_cases() -> None:
    """Count each case on the CPU in eval mode, as a user would."""
    print("| model | multiply-adds | " + " | ".join(COUNTERS) + " |")
    print("|---|---:|" + "---:|" * len(COUNTERS))
    for name, (build, make_input, truth) in CASES.items():
        model, x = build().eval(), make_input()
        counts = [count(model, x) for count in COUNTERS.values()]
        cells = ["exact" if count == truth else f"{count / truth:.3f}×" for count in counts]
        print(f"| {name} | {truth:,} | " + " | ".join(cells) + " |", flush=True)


def print_torchvision(names: list[str]) -> None:
    """Count classifiers on meta, where the largest take no memory; fvcore can't trace all of them there."""
    counters = {name: count for name, count in COUNTERS.items() if not name.startswith("fvcore")}
    right = dict.fromkeys(counters, 0)
    ratios: dict[str, list[float]] = {name: [] for name in counters}
    for name in names:
        figures = next(iter(FIGURES[name].values()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision's, of its own initialization
            model = models.get_model(name, **figures["build_kwargs"]).to("meta").eval()
        x = torch.randn(figures["input"], device="meta")
        for counter, count in counters.items():
            ratio = count(model, x) / figures["macs"]
            ratios[counter].append(ratio)
            right[counter] += abs(ratio - 1) <= 0.01
    for counter in counters:
        print(
            f"{counter:32} {right[counter]} of {len(names)} within 1 % of the published figure; "
            f"{min(ratios[counter]):.4f}× to {max(ratios[counter]):.4f}×"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    options = parser.parse_args()
    print_cases()
    print()
    print_torchvision(["resnet18", "vit_b_16"] if options.quick else list(FIGURES))


if __name__ == "__main__":
    main()
