"""`nnkit summary` as a whole command beside `import torch` and beside torchinfo on the same model, in one run.

    python tests/benchmarks/bench_summary.py [--rounds 9] [--quick]

Prints medians and the ratio, pair by pair; then, for the decoders of any size, time and peak memory.
"""

import argparse
import re
import subprocess
import tempfile
from pathlib import Path

from pairs import compare, python

ROOT = Path(__file__).parents[2]
NNKIT = python("-m", "nnkit", "summary")

# torchvision's compiled operators don't load beside a CPU build of torch; nothing here calls them.
TORCHVISION = """
import torch
library = torch.library.Library("torchvision", "DEF")
for operator in ("nms", "qnms"):
    library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from torchvision.models import resnet18, resnet152, vit_b_16
"""

TORCHINFO = """
import sys
from models import *
import torchinfo
torchinfo.summary(globals()[sys.argv[1]](), (1, 3, 224, 224), depth=10)
"""

TORCHINFO_LLAMA = """
import sys, torch, torchinfo, nnkit
model = nnkit.build("llama", preset=sys.argv[1], device="meta")
tokens = torch.zeros(1, 2048, dtype=torch.long, device="meta")
torchinfo.summary(model, input_data=[tokens], depth=10, device="meta")
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models.py").write_text(TORCHVISION)
        (folder / "info.py").write_text(TORCHINFO)
        (folder / "info_llama.py").write_text(TORCHINFO_LLAMA)
        image = ["--input", "x: float32[batch, 3, 224, 224]"]
        torch = python("-c", "import torch")
        compare("summary resnet18 : import torch", [*NNKIT, "resnet18"], torch, 1.25, rounds, folder)
        for model in ("resnet18",) if options.quick else ("resnet18", "vit_b_16", "resnet152"):
            ours = [*NNKIT, f"models.py:{model}", *image]
            rival = python("info.py", model)
            compare(f"torchvision's {model} : torchinfo", ours, rival, 1.0, max(rounds // 3, 1), folder)
        for size in ("8b",) if options.quick else ("8b", "70b", "405b"):
            ours = [*NNKIT, "llama", "--preset", size, "--time", "2048"]
            rival = python("info_llama.py", size)
            compare(f"llama {size} : torchinfo on meta", ours, rival, 1.0, max(rounds // 3, 1), folder)
            print(f"llama {size}: {peak(ours, folder):,} MiB at most in the process that summarizes it")


def peak(command: list[str], folder: Path) -> int:
    """Return the most memory that a command had resident, in MiB."""
    code = f"import subprocess, resource; subprocess.run({command!r}, stdout=subprocess.DEVNULL); "
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    done = subprocess.run(python("-c", code), cwd=folder, capture_output=True, text=True, check=True)
    return int(re.findall(r"\d+", done.stdout)[-1])


if __name__ == "__main__":
    main()
