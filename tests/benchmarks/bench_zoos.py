"""Zoos without and with their import: the names of all of them, and summaries beside the zoo's own import.

    python tests/benchmarks/bench_zoos.py [--rounds 5]

- `first` has an empty cache folder: the names are read from the source of each zoo, and kept.
- `later` finds them there.
- A summary imports torch and the zoo; the ratio is what nnkit adds to that, in whole commands.

Where the zoos can't be imported because torchvision's compiled operators don't fit torch: PYTHONPATH=tests/operators.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from pairs import compare, python, seconds

NNKIT = python("-m", "nnkit")
IMPORTS = {
    "timm": "import timm",
    "torchvision": "import torchvision",
    # `import transformers` alone imports little: each class is imported when it is asked for.
    "transformers": "from transformers import AutoModel, LlamaModel",
    "torch_geometric": "import torch_geometric.nn.models",
}
MODELS = {"timm/vit_base_patch16_224": "timm", "transformers/llama": "transformers"}


def main() -> None:
    """Print a line for each command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        everything = python("-c", "\n".join(IMPORTS.values()))
        cached = ["env", f"NNKIT_CACHE={folder / 'cache'}"]
        uncached = ["env", "NNKIT_CACHE=off"]
        seconds([*cached, *NNKIT, "list"], folder)
        compare(
            "list, first : import of the zoos", [*uncached, *NNKIT, "list"], everything, 0.2, rounds, folder
        )
        compare(
            "list, later : import of the zoos", [*cached, *NNKIT, "list"], everything, 0.1, rounds, folder
        )
        compare(
            "list, first : list, later",
            [*uncached, *NNKIT, "list"],
            [*cached, *NNKIT, "list"],
            1.5,
            rounds,
            folder,
        )
        for line in ("nnkit summary timm/conv", "nnkit summary transformers/"):
            _tab(line, rounds, folder)
        for model, zoo in MODELS.items():
            ours, rival = [*cached, *NNKIT, "summary", model], python("-c", IMPORTS[zoo])
            compare(f"summary {model} : import {zoo}", ours, rival, 1.5, rounds, folder)


def _tab(line: str, rounds: int, folder: Path) -> None:
    """Print how long a Tab takes at the end of a line of bash, when the names are kept."""
    typed = ["_NNKIT_COMPLETE=bash_complete", f"COMP_WORDS={line}", f"COMP_CWORD={line.count(' ')}"]
    command = ["env", f"NNKIT_CACHE={folder / 'cache'}", *typed, *NNKIT]
    times = sorted(seconds(command, folder) for _ in range(rounds + 1))
    print(
        f"{'Tab after ' + line:44} {statistics.median(times) * 1e3:8.0f} ms   "
        f"({times[0] * 1e3:.0f} to {times[-1] * 1e3:.0f} ms), budget 150 ms",
        flush=True,
    )


if __name__ == "__main__":
    main()
