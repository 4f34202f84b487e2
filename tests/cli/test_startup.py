"""What each command imports: the gate on start-up, stable where seconds are not."""

import json

import pytest
import timm
from conftest import python

HEAVY = {"torch", "numpy", "onnx", "onnxscript", "onnxruntime", "rich", "yaml"}
ZOOS = {"timm", "torchvision", "transformers", "torch_geometric"}
SCRIPT = """
import io, json, sys
from contextlib import redirect_stdout, redirect_stderr
from nnkit.cli.main import main
try:
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        main({args!r})
except SystemExit as ending:
    code = ending.code
print(json.dumps([code, sorted(sys.modules)]))
"""


def modules_of(*args, script=SCRIPT):
    done = python("-c", script.format(args=list(args)))
    code, modules = json.loads(done.stdout)
    assert code == 0, done.stderr
    return set(modules)


@pytest.mark.parametrize("args", [["--help"], ["--version"]])
def test_help_and_version_import_no_plugin_and_nothing_heavy(args):
    modules = modules_of(*args)
    tops = {name.partition(".")[0] for name in modules}
    assert not tops & (HEAVY | {"pluggy", "msgspec", "importlib_metadata", "nnkit_vision", "nnkit_graph"})
    assert "importlib.metadata" not in modules


@pytest.mark.parametrize(
    "args",
    [
        ["list"],
        ["list", "--json"],
        ["list", "timm/"],
        ["list", "torchvision/", "--json"],
        ["list", "transformers/bert"],
        ["list", "resnet", "--no-cache"],
        ["plugins"],
        ["plugins", "freeze"],
        ["plugins", "new", "--help"],
        ["info", "resnet18"],
        ["summary", "gcn", "--help"],
    ],
)
def test_looking_around_imports_nothing_heavy(args):
    tops = {name.partition(".")[0] for name in modules_of(*args)}
    assert not tops & (HEAVY | ZOOS)


def test_list_has_a_budget_of_modules():
    bare = python("-c", "import sys, click, pluggy; print(len(sys.modules))")
    assert len(modules_of("list")) <= int(bare.stdout) + 150


def test_import_nnkit_is_free_of_torch():
    done = python("-c", "import nnkit, sys; print('torch' in sys.modules, 'click' in sys.modules)")
    assert done.stdout.split() == ["False", "False"]


def test_a_small_summary_imports_no_compiler():
    """sympy and torch._dynamo cost more than the whole summary; the run on the CPU needs neither."""
    tops = modules_of("summary", "resnet18")
    assert "torch._dynamo" not in tops
    assert "sympy" not in tops
    assert "onnx" not in tops
    assert "rich" not in tops


def test_a_smoke_run_imports_no_compiler():
    """torch's optimisers import it at their first use: half of the time of all checks of a small model."""
    tops = modules_of("smoke-run", "gcn")
    assert "torch.optim" in tops
    assert not {"torch._dynamo", "sympy", "onnx"} & set(tops)


COMPLETION = """
import json, os, sys, io
from contextlib import redirect_stdout
os.environ.update(_NNKIT_COMPLETE="bash_complete", COMP_WORDS={line!r}, COMP_CWORD={word!r})
from nnkit.cli.main import main
out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
try:
    with redirect_stdout(out):
        main([])
except SystemExit as ending:
    out.flush()
print(json.dumps([out.buffer.getvalue().decode().split(), sorted(sys.modules)]))
"""


TIMM = [f"timm/{name}" for name in timm.list_models()]


def complete(line):
    words = line.split(" ")
    script = COMPLETION.format(line=line, word=str(len(words) - 1))
    found, modules = json.loads(python("-c", script).stdout)
    assert not {name.partition(".")[0] for name in modules} & (HEAVY | ZOOS)
    return [each.partition(",")[2] for each in found], modules


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nnkit su", ["summary"]),
        ("nnkit summary simple", ["simple-cnn"]),
        ("nnkit summary vision/simple", ["vision/simple-cnn"]),
        ("nnkit summary resnet18 --num-c", ["--num-classes"]),
        ("nnkit summary resnet18 --bat", ["--batch"]),
        ("nnkit summary resnet18 --stem ci", ["cifar"]),
        ("nnkit summary resnet18 --preset im", ["imagenet"]),
        ("nnkit smoke-run gcn --dtype bfl", ["bfloat16"]),
        ("nnkit smoke-run gcn --device m", ["mps"]),
        ("nnkit smoke-run gcn --check input-", ["input-effect"]),
        ("nnkit smoke-run --all --executor lo", ["local"]),
        ("nnkit export gcn --format pt", ["pt2"]),
        ("nnkit summary gcn --columns type,par", ["type,params", "type,params%"]),
        ("nnkit compare gcn graphs", ["graphsage"]),
        ("nnkit verify gcn.onnx --against graphs", ["graphsage"]),
        ("nnkit list pointer-", ["pointer-network"]),
        ("nnkit list tim", TIMM),
        ("nnkit list timm/", TIMM),
        ("nnkit list t", ["tcn", "timm/", "torchvision/", "transformer", "transformers/"]),
        ("nnkit summary timm/convnext_sm", ["timm/convnext_small"]),
        ("nnkit summary transformers/distilb", ["transformers/distilbert"]),
        ("nnkit smoke-run timm/resnet18 --che", ["--check"]),  # without what timm would have to be asked for
        ("nnkit completion f", ["fish"]),
        ("nnkit verify gcn", ["gcn"]),  # which the shell completes, as a file
    ],
)
def test_completion_knows_architectures_options_and_presets_without_torch(line, expected):
    assert sorted(complete(line)[0]) == sorted(expected)


def test_completion_of_a_command_imports_none():
    found, modules = complete("nnkit s")
    assert found == ["smoke-run", "summary"]
    assert not {"nnkit.cli.summary", "nnkit.verbs.core_handlers", "pluggy", "importlib.metadata"} & set(
        modules
    )


def test_completion_knows_every_check():
    from nnkit.contract.contributions import CORE_CHECKS
    from nnkit.verbs.smoke.checklist import CHECKS

    assert tuple(check.name for check in CHECKS) == CORE_CHECKS
