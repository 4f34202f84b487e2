"""Start-up and the verbs as whole commands, each beside its rival in one run: the design's budgets.

python tests/benchmarks/bench_startup.py [--rounds 15]
"""

import argparse
import statistics
import subprocess
import tempfile
from pathlib import Path

from pairs import compare, processor_seconds, python, seconds

NNKIT = python("-m", "nnkit")

EMPTY_CLICK_APP = """
import click

@click.group()
def cli():
    pass

@cli.command()
def nothing():
    pass

cli()
"""

TORCHINFO = """
import torch
library = torch.library.Library("torchvision", "DEF")
for operator in ("nms", "qnms"):
    library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import torchinfo, torchvision
torchinfo.summary(torchvision.models.resnet18(num_classes=10), (1, 3, 224, 224))
"""

BARE_EXPORT = """
import torch, nnkit
module = nnkit.build("resnet18")
x = torch.randn(2, 3, 224, 225)
with torch.inference_mode():
    program = torch.onnx.export(
        module, (x,), dynamo=True, dynamic_shapes=({0: "batch", 2: "height", 3: "width"},), opset_version=20,
        verbose=False,
    )
program.save("bare.onnx")
"""


def main() -> None:
    """Print a line for each budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty.py").write_text(EMPTY_CLICK_APP)
        (folder / "info.py").write_text(TORCHINFO)
        (folder / "bare.py").write_text(BARE_EXPORT)
        bare_app = python("empty.py", "--help")
        summary = [*NNKIT, "summary", "resnet18"]
        export = [*NNKIT, "export", "resnet18", "--onnx", "--force", "--no-verify"]
        compare("--help : an empty click app", [*NNKIT, "--help"], bare_app, 1.2, rounds, folder)
        compare("--version : an empty click app", [*NNKIT, "--version"], bare_app, 1.2, rounds, folder)
        for line in ("nnkit su", "nnkit summary resn", "nnkit export gcn --format o", "nnkit summary gcn --"):
            _tab(line, rounds, folder)
        _compare_whole_commands(rounds, folder)
        compare("summary resnet18 : torchinfo", summary, python("info.py"), 1.0, max(rounds // 3, 1), folder)
        compare(
            "export --no-verify : bare script", export, python("bare.py"), 1.15, max(rounds // 3, 1), folder
        )
        _count_modules(folder)


def _compare_whole_commands(rounds: int, folder: Path) -> None:
    """Print commands beside the least that each needs, one thread each, in seconds of processors."""
    alone = {"OMP_NUM_THREADS": "1"}
    tab = {"_NNKIT_COMPLETE": "bash_complete", "COMP_WORDS": "nnkit summary resn", "COMP_CWORD": "2"}
    nothing, click, torch = (python("-c", code) for code in ("pass", "import click", "import torch"))
    for name, args, rival, budget, variables in (
        ("list : python -c pass", ["list"], nothing, 7.0, {}),
        ("info gcn : python -c pass", ["info", "gcn"], nothing, 7.0, {}),
        ("Tab after nnkit summary resn : python -c pass", [], nothing, 7.0, tab),
        ("--help : import click", ["--help"], click, 1.15, {}),
        ("summary resnet18 : import torch", ["summary", "resnet18"], torch, 0.9, alone),
        ("smoke-run simple-cnn : import torch", ["smoke-run", "simple-cnn"], torch, 1.05, alone),
    ):
        few = rounds if rival is not torch else max(rounds // 2, 1)
        compare(name, [*NNKIT, *args], rival, budget, few, folder, processor_seconds, **variables)


def _tab(line: str, rounds: int, folder: Path) -> None:
    """Print how long a Tab takes at the end of a line of bash."""
    typed = ["_NNKIT_COMPLETE=bash_complete", f"COMP_WORDS={line}", f"COMP_CWORD={line.count(' ')}"]
    times = sorted(seconds(["env", *typed, *NNKIT], folder) for _ in range(rounds + 1))
    print(
        f"{'Tab after ' + line:44} {statistics.median(times) * 1e3:8.0f} ms   "
        f"({times[0] * 1e3:.0f} to {times[-1] * 1e3:.0f} ms), budget 150 ms",
        flush=True,
    )


def _count_modules(folder: Path) -> None:
    def modules(code: str) -> int:
        done = subprocess.run(python("-c", code), cwd=folder, capture_output=True, text=True, check=True)
        return int(done.stderr.splitlines()[-1])

    count = "import sys; print(len(sys.modules), file=sys.stderr)"
    bare = modules(f"import click, pluggy; {count}")
    listed = modules(
        f"import sys\nfrom nnkit.cli.main import main\ntry: main(['list'])\nexcept SystemExit: pass\n{count}"
    )
    print(
        f"{'list : bare click + pluggy':44} {listed} modules, {bare} bare: {listed - bare} more, budget 150"
    )


if __name__ == "__main__":
    main()
