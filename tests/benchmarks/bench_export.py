"""What `nnkit export --onnx` costs beside the bare script that calls torch.onnx.export and saves.

Before its proof it may take 1.15 times as long. The proof is timed apart, from the report; so are the
bytes of the file beside those of the weights, and the peak of memory of either process.

    python tests/benchmarks/bench_export.py [--quick | --memory [LAYERS ...] | --proof [NAMES ...]]

Of `--proof`, the whole command with its proof beside that script, and the proof beside the writing of the
file, both in CPU time.

Then the memory that a decoder takes above what the imports take, for each byte of its weights, the module
itself included. It may be 1.5 where a file is written and 2.5 where it is proven too. Resident memory counts
pages of mapped files, which the system can take back; anonymous memory doesn't.
"""

import argparse
import contextlib
import json
import os
import re
import resource
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
EXPORT = """
import json, sys
import torch, onnx, onnx_ir, onnxruntime, onnxscript.optimizer, torch._dynamo, torch._decomp
import torch.onnx._internal.exporter._core
import nnkit
path, verify, options = json.loads(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
nnkit.export("llama", path, verify=verify, force=True, **options)
"""
STAGES = """
import sys, tempfile, time, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import nnkit
from nnkit.models.copies import copy_of
from nnkit.verbs.exporting.onnx import write_onnx
from nnkit.verbs.exporting.onnx_file import OnnxFile
from nnkit.verbs.exporting.plan import make_plan
from nnkit.verbs.exporting.proof import Prover
options, spec = nnkit.ExportOptions(), nnkit.resolve(sys.argv[1])
module = nnkit.build(spec)
plan = make_plan(spec, module, options)
path = Path(tempfile.mkdtemp(dir="."), "net.onnx")
start = time.process_time()
write_onnx(copy_of(module), plan, options, path)
written = time.process_time()
Prover(module, plan).prove(OnnxFile(path, module, plan))
print(written - start, time.process_time() - written)
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


def cpu_seconds(command: list[str], folder: Path) -> tuple[float, str]:
    """Run a command; return the CPU time of its processes on one thread of torch, and its output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["OMP_NUM_THREADS"] = "1"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, check=True, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def describe_ratios(ratios: list[float]) -> str:
    """Return the median of some ratios with the smallest and the largest."""
    return f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def measure_proof(name: str, rounds: int, folder: Path) -> None:
    """Print the whole command beside the bare script, and the proof beside the writing."""
    ours = [sys.executable, "-m", "nnkit", "export", name, "--onnx", "--force"]
    rival = [sys.executable, "-c", RIVAL, name]
    whole = [cpu_seconds(ours, folder)[0] / cpu_seconds(rival, folder)[0] for _ in range(rounds)]
    shares = []
    for _ in range(rounds):
        _, told = cpu_seconds([sys.executable, "-c", STAGES, name], folder)
        writing, proving = map(float, told.split()[-2:])
        shares.append(proving / writing)
    print(f"{name:28} export with its proof : bare script, {describe_ratios(whole)}", flush=True)
    print(f"{name:28} proof : writing the file, {describe_ratios(shares)}", flush=True)


def run_size(name: str, folder: Path) -> int:
    """Return the bytes of the weights of an architecture."""
    command = [sys.executable, "-m", "nnkit", "build", name, "--json"]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    found: int = json.loads(done.stdout)["parameter_bytes"]
    return found


def memory_of(process: int) -> tuple[int, int]:
    """Return the resident and the anonymous memory of a process in KiB."""
    text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return tuple(int(re.search(rf"{name}:\s+(\d+)", text)[1]) for name in ("VmRSS", "RssAnon"))


def peaks(path: Path, verify: bool, options: dict[str, int]) -> tuple[int, int]:
    """Return the peaks of resident and of anonymous memory above imports, in bytes; looked at every 5 ms."""
    arguments = json.dumps([str(path), verify, options])
    with subprocess.Popen(
        [sys.executable, "-c", EXPORT, arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        child.stdout.readline()
        before = memory_of(child.pid)
        child.stdin.write("\n")
        child.stdin.flush()
        highest = before
        while child.poll() is None:
            with contextlib.suppress(OSError, TypeError):  # it has just ended
                highest = tuple(map(max, highest, memory_of(child.pid)))
            time.sleep(0.005)
    if child.returncode:
        raise SystemExit(f"the export failed with {child.returncode}")
    return tuple(1024 * (high - low) for high, low in zip(highest, before, strict=True))


def measure_memory(layers: int, width: int, suffix: str, folder: Path) -> None:
    """Print one line for a decoder of so many layers."""
    options = {"layers": layers, "width": width, "heads": 16, "kv_heads": 8, "hidden": 11 * width // 4}
    command = [sys.executable, "-m", "nnkit", "build", "llama", "--json"]
    command += [
        part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    weights = json.loads(done.stdout)["parameter_bytes"]
    parts = []
    for what, verify, budget in (("written", False, 1.5), ("with proof", True, 2.5)):
        resident, anonymous = peaks(folder / f"net{suffix}", verify, options)
        parts.append(
            f"{what} {resident / weights:.2f} × (anonymous {anonymous / weights:.2f} ×), budget {budget}"
        )
    name = f"llama, {layers} layers of width {width}, {weights / 2**30:.2f} GiB, {suffix}"
    print(f"{name:52} peak of memory above imports / weights: {'; '.join(parts)}", flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round, of the smallest")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", nargs="*", type=int, metavar="LAYERS", help="only the memory of decoders")
    parser.add_argument("--proof", nargs="*", metavar="NAMES", help="only the time of proofs")
    arguments = parser.parse_args()
    if arguments.proof is not None:
        with tempfile.TemporaryDirectory() as folder:
            for name in arguments.proof or ["gcn", "torchvision/vit_b_16", "torchvision/convnext_tiny"]:
                measure_proof(name, arguments.rounds, Path(folder))
        return
    names = ["simple-cnn"] if arguments.quick else ["simple-cnn", "resnet18", "gcn", "lstm", "vgg11"]
    with tempfile.TemporaryDirectory() as folder:
        for name in names if arguments.memory is None else ():
            measure(name, 1 if arguments.quick else arguments.rounds, Path(folder))
        if arguments.quick:
            measure_proof("simple-cnn", 1, Path(folder))
            measure_memory(2, 256, ".onnx", Path(folder))
            return
        for layers in arguments.memory or (8, 16):
            for suffix in (".onnx", ".pt2", ".safetensors"):
                measure_memory(layers, 1024, suffix, Path(folder))


if __name__ == "__main__":
    main()
