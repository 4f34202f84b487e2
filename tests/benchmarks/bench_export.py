"""What `nnkit export --onnx` costs beside the bare script that calls torch.onnx.export and saves.

Before its proof it may take 1.15 times as long. The proof is timed apart, from the report; so are the
bytes of the file beside those of the weights, and the peak of memory of either process.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RIVAL = """
import sys, warnings, torch, nnkit
warnings.simplefilter("ignore")
module = nnkit.build(sys.argv[1])
spec = nnkit.resolve(sys.argv[1])
from nnkit.verbs.exporting.plan import make_plan
plan = make_plan(spec, module, nnkit.ExportOptions())
program = torch.onnx.export(module, plan.traced, dynamo=True, verbose=False, dynamic_shapes=plan.dynamic)
program.save("theirs.onnx")
"""
OURS = """
import sys, nnkit
nnkit.export(sys.argv[1], "ours.onnx", verify=False, force=True)
"""
PEAK = """
import re, pathlib
print(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
"""


def run(code: str, name: str, folder: Path) -> tuple[float, float]:
    """Run code in a process of its own; return its seconds and its peak of memory in MiB."""
    start = time.perf_counter()
    command = [sys.executable, "-c", code + PEAK, name]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return time.perf_counter() - start, int(re.findall(r"\d+", done.stdout)[-1]) / 1024


def measure(name: str, rounds: int, folder: Path) -> None:
    """Print one line for an architecture."""
    run(OURS, name, folder)
    pairs = [(run(OURS, name, folder), run(RIVAL, name, folder)) for _ in range(rounds)]
    ratios = sorted(ours[0] / theirs[0] for ours, theirs in pairs)
    ours, theirs = (statistics.median(side[0] for side in column) for column in zip(*pairs, strict=True))
    peaks = [max(side[1] for side in column) for column in zip(*pairs, strict=True)]
    command = [sys.executable, "-m", "nnkit", "export", name, "--onnx", "--json", "--force"]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    report = json.loads(done.stdout)
    weights = run_size(name, folder)
    print(
        f"{name:16} ours {ours:5.1f} s, torch.onnx.export {theirs:5.1f} s, "
        f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}), budget 1.15; "
        f"proof {report['proof']['seconds']:.1f} s; file / weights {report['bytes'] / weights:.4f}, "
        f"theirs {(folder / 'theirs.onnx').stat().st_size / weights:.4f}; "
        f"peak {peaks[0]:.0f} MiB, theirs {peaks[1]:.0f} MiB",
        flush=True,
    )


def run_size(name: str, folder: Path) -> int:
    """Return the bytes of the weights of an architecture."""
    command = [sys.executable, "-m", "nnkit", "build", name, "--json"]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    found: int = json.loads(done.stdout)["parameter_bytes"]
    return found


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, of the smallest")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    names = ["simple-cnn"] if arguments.quick else ["simple-cnn", "resnet18", "gcn", "lstm", "vgg11"]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            measure(name, 1 if arguments.quick else arguments.rounds, Path(folder))


if __name__ == "__main__":
    main()
