"""What a whole `nnkit smoke-run` costs: processor seconds and peak of memory, model by model.

Beside it, in turn, `import torch` and a bare script that builds the model, runs it forward and backward at the same
sizes and takes a step of Adam. The peaks are those above what the imports take, as a multiple of the weights.
"""

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

NAMES = ("simple-cnn", "resnet18", "resnet50", "vgg16", "vit-b-16", "convnext-tiny", "gpt2")
IMPORTS = ("-c", "import torch, nnkit.verbs.smoke.checklist")
BARE = """
import sys, warnings, torch, nnkit
from nnkit.models.running import call
from nnkit.models.sampling import sample_inputs
from nnkit.models.sizes import checked_sizes
from nnkit.models.tensors import tensors_in
warnings.simplefilter("ignore")
spec = nnkit.resolve(sys.argv[1])
module = nnkit.build(sys.argv[1]).train()
inputs = sample_inputs(spec, sizes=checked_sizes(spec.dims, spec.sizes))
optimizer = torch.optim.Adam(module.parameters())
outputs = tensors_in(call(module, spec.signature, inputs))
sum(tensor.mean() for tensor in outputs if tensor.requires_grad).backward()
optimizer.step()
print(sum(parameter.nbytes for parameter in module.parameters()) / 2**20)
"""


class Cost(NamedTuple):
    """What a process took: processor seconds and MiB; and what it printed."""

    seconds: float
    peak: float
    printed: str


def cost_of(*words: str) -> Cost:
    """Run this Python with `words` on one thread, and return what the process took."""
    changed = {"OMP_NUM_THREADS": "1"}
    # Without it Python would compile our source at each start, and torch's, which pip has compiled, at none.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    reader, writer = os.pipe()
    to_null = [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0o600)]
    process = os.posix_spawn(
        sys.executable,
        [sys.executable, *words],
        {**kept, **changed},
        file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1), *to_null],
    )
    os.close(writer)
    with os.fdopen(reader) as stream:
        printed = stream.read()
    _, status, used = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} failed")
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, printed)


def measure(name: str, rounds: int) -> None:
    """Print one line for an architecture."""
    rows = [
        (
            cost_of("-m", "nnkit", "smoke-run", name),
            cost_of("-c", "import torch"),
            cost_of("-c", BARE, name),
            cost_of(*IMPORTS),
        )
        for _ in range(rounds)
    ]
    ours, torchs, bares, imports = zip(*rows, strict=True)
    weights = float(bares[0].printed)
    seconds = statistics.median(one.seconds for one in ours)
    peak, theirs = (max(one.peak for one in column) - imports[0].peak for column in (ours, bares))
    print(
        f"{name:14} {seconds:6.2f} s, {_ratios(ours, torchs)} × import torch, {_ratios(ours, bares)} × the bare script; "
        f"peak {peak:5.0f} MiB, {peak / weights:.2f} × the weights, the bare script's {theirs / weights:.2f} ×",
        flush=True,
    )


def _ratios(ours: tuple[Cost, ...], theirs: tuple[Cost, ...]) -> str:
    ratios = sorted(one.seconds / other.seconds for one, other in zip(ours, theirs, strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, help="architectures")
    parser.add_argument("--quick", action="store_true", help="one round, of the smallest")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.chdir(Path(__file__).parents[2])
    for name in NAMES[:1] if arguments.quick else arguments.names:
        measure(name, 1 if arguments.quick else arguments.rounds)


if __name__ == "__main__":
    main()
