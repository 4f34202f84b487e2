"""Bad input gets one error, one hint, the design's exit code, no traceback, and leaves nothing behind."""

import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from nnkit.cli.main import main
from nnkit.models.devices import available_devices

MISSING_DEVICE = next(kind for kind in ("cuda", "mps", "xpu") if f"{kind}:0" not in available_devices())

CASES = {
    "unknown command": (["sumary"], 2, "no such command 'sumary'", "did you mean summary?"),
    "unknown architecture": (["summary", "resnet81"], 2, "unknown architecture 'resnet81'", "did you mean resnet18"),
    "unknown option": (
        ["summary", "resnet18", "--num-clases", "3"], 2, "no such option --num-clases", "did you mean --num-classes",
    ),
    "unknown size": (["summary", "resnet18", "--bach", "3"], 2, "no such option --bach", "did you mean --batch?"),
    "option of the wrong type": (
        ["summary", "resnet18", "--num-classes", "many"], 2, "option --num-classes takes integer >= 1, got 'many'", "",
    ),
    "option out of range": (
        ["summary", "resnet18", "--num-classes", "0"], 2, "option --num-classes takes integer >= 1, got '0'", "",
    ),
    "option without its value": (["summary", "resnet18", "--batch"], 2, "'--batch' requires an argument", "see: "),
    "size below its minimum": (
        ["summary", "resnet18", "--batch", "0"], 2, "size --batch of resnet18 must be at least 1, got 0", "--batch 1",
    ),
    "unknown preset": (["summary", "resnet18", "--preset", "imagnet"], 2, "has no preset 'imagnet'", "imagenet"),
    "no architecture": (["summary"], 2, "Missing argument 'ARCH'", "see: nnkit summary --help"),
    "no format": (["export", "simple-cnn"], 2, "no format was given", "--onnx"),
    "no folder": (
        ["export", "simple-cnn", "--onnx", "-o", "not/there.onnx"], 2, "folder not does not exist", "mkdir -p not",
    ),
    "no device": (
        ["smoke-run", "simple-cnn", "--device", MISSING_DEVICE], 2, f"device '{MISSING_DEVICE}' is not available", "cpu",
    ),
    "no such device": (["build", "gcn", "--device", "cdua"], 2, "'cdua' is not a device", "did you mean cuda?"),
    "none of the choices": (
        ["summary", "gcn", "--dtype", "bflot16"], 2, "'bflot16' is not one of", "did you mean bfloat16",
    ),
    "none of an architecture's choices": (
        ["summary", "resnet18", "--stem", "cifr"], 2, "'cifr' is not one of", "did you mean cifar?",
    ),
    "no column": (["summary", "gcn", "--columns", "type,parms"], 2, "no column 'parms'", "did you mean params"),
    "unknown format": (["export", "gcn", "--format", "onx"], 2, "unknown format 'onx'", "did you mean onnx?"),
    "no dim to fix": (["export", "gcn", "--onnx", "--fix", "noodes=3"], 2, "noodes", "did you mean nodes?"),
    "no executor": (
        ["smoke-run", "gcn", "gin", "--executor", "locl"], 2, "unknown executor 'locl'", "did you mean local?",
    ),
    "unknown plugin": (["summary", "visoin/resnet18"], 2, "unknown architecture", "vision/resnet18"),
    "no family": (["list", "resnets"], 2, "no architecture matches 'resnets'", "did you mean resnet"),
    "no check": (["smoke-run", "simple-cnn", "--check", "finit"], 2, "unknown check 'finit'", "finite"),
    "no YAML file": (["summary", "net.yaml"], 2, "file net.yaml does not exist", "nnkit list"),
    "pattern without a match": (["list", "resnot"], 2, "no architecture matches 'resnot'", "did you mean resnet"),
    "a zoo, not a model": (["summary", "timm/"], 2, "timm/ is a zoo, not a model", "nnkit list timm/"),
    "a zoo without its slash": (["build", "torchvision"], 2, "torchvision/ is a zoo", "nnkit list torchvision/"),
    "a plugin, not a model": (["info", "vision/"], 2, "vision/ is a plugin, not a model", "nnkit list vision/"),
    "no such task": (
        ["list", "timm/", "--task", "clasification"], 2, "a task like 'clasification'", "image classification?",
    ),
    "no such family": (["list", "--family", "resnot"], 2, "no architecture has a family like 'resnot'", "did you mean resnet"),
    "code without inputs": (["summary", "torch.nn:ReLU"], 2, "torch.nn:ReLU needs its inputs declared", "--input"),
    "code that is not there": (
        ["summary", "no.such:Net", "--input", "x: float32[3]"], 2, "can't import no.such", "PYTHONPATH",
    ),
    "input of a plugin's architecture": (
        ["summary", "resnet18", "--input", "x: float32[batch, 3, 8, 8]"], 2,
        "--input is for modules of your own, and resnet18 is none", "nnkit info resnet18",
    ),
    "input that can't be read": (
        ["summary", "torch.nn:ReLU", "--input", "x 3"], 2, "can't read the input 'x 3'", "--input",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_error_and_one_hint(nnkit_command, case):
    args, code, message, hint = CASES[case]
    done = nnkit_command(*args)
    error, advice, *more = done.err.splitlines()
    assert more == []
    assert error.startswith("Error: ")
    assert message in error
    assert advice.startswith("hint: ")
    assert hint in advice
    assert (done.code, done.out) == (code, "")
    assert os.listdir() == []


YAMLS = {
    "broken": ("architecture: [resnet18", 2, "is not readable YAML at line", "--spec"),
    "not a mapping": ("- resnet18", 2, "it names no architecture", "--spec"),
    "unknown key": (
        "architecture: resnet18\nconfigg: {}",
        2,
        "unknown key 'configg'",
        "did you mean config?",
    ),
    "wrong type": ("architecture: resnet18\nsizes: [1]", 2, "sizes can't be [1]", "--spec"),
    "code": ("architecture: os:system", 2, "names code (os:system)", "on the command line"),
    "a file of code": ("architecture: net.py", 2, "names code (net.py)", "on the command line"),
    "a tag that calls": (
        "architecture: !!python/object/apply:os.getcwd []",
        2,
        "is not readable YAML",
        "--spec",
    ),
    "unknown architecture": ("architecture: resnet81", 2, "unknown architecture 'resnet81'", "resnet18"),
    "unknown option": ("architecture: resnet18\nconfig: {num_clases: 3}", 2, "'num_clases'", "num_classes"),
    "out of range": ("architecture: resnet18\nconfig: {num_classes: 0}", 2, "takes integer >= 1, got 0", ""),
    "of the future": ("nnkit: 9\narchitecture: resnet18", 2, "written in format 9", "upgrade"),
}


@pytest.mark.parametrize("case", YAMLS)
def test_a_spec_file_that_can_not_be(nnkit_command, case):
    text, code, message, hint = YAMLS[case]
    Path("net.yaml").write_text(text)
    done = nnkit_command("summary", "net.yaml")
    error, advice, *more = done.err.splitlines()
    assert more == []
    assert message in error
    assert hint in advice
    assert done.code == code


def test_a_damaged_file_says_so(nnkit_command):
    nnkit_command("export", "simple-cnn", "--safetensors")
    whole = Path("simple-cnn.safetensors").read_bytes()
    for content in (whole[:-100], b"\xff" * 64, whole[:4]):
        Path("bad.safetensors").write_bytes(content)
        done = nnkit_command("summary", "bad.safetensors")
        assert done.err.startswith("Error: bad.safetensors is damaged: ")
        assert done.err.splitlines()[1] == "hint: export or download it again"
        assert (done.code, done.out) == (1, "")
    Path("bad.onnx").write_bytes(b"\xff" * 64)
    assert nnkit_command("summary", "bad.onnx").err.startswith("Error: bad.onnx is damaged: ")


def test_a_file_that_is_not_of_nnkit_says_so(nnkit_command):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(3)}, "other.safetensors")
    done = nnkit_command("build", "other.safetensors")
    assert done.err.startswith("Error: other.safetensors was not written by nnkit")
    assert done.code == 2


def test_an_output_that_is_there_is_kept_without_force(nnkit_command):
    Path("simple-cnn.safetensors").write_text("mine")
    done = nnkit_command("export", "simple-cnn", "--safetensors")
    assert done.code == 2
    assert done.err.splitlines()[1].startswith("hint: replace it with --force")
    assert Path("simple-cnn.safetensors").read_text() == "mine"
    assert nnkit_command("export", "simple-cnn", "--safetensors", "--force").code == 0
    assert Path("simple-cnn.safetensors").stat().st_size > 2_000_000


@pytest.mark.parametrize("kind", ["--onnx", "--safetensors"])
def test_a_full_disk_leaves_what_was_there(nnkit_command, kind):
    """A limit on the size of files stands for the disk; resnet18 has 44 MB."""
    target = Path(f"resnet18.{kind[2:]}")
    target.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, hard))
    try:
        done = nnkit_command("export", "resnet18", kind, "--force", "--height", "32", "--width", "32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert done.code == 1
    error, hint = done.err.splitlines()
    assert error.startswith("Error: can't write resnet18.")
    assert "File too large" in error
    assert hint == "hint: what was there before is unchanged"
    assert os.listdir() == [target.name]
    assert target.read_text() == "old"


@pytest.mark.parametrize("delay", [0.0, 0.5])
def test_ctrl_c_in_the_middle_of_an_export_leaves_what_was_there(tmp_path, delay):
    target = tmp_path / "resnet50.onnx"
    target.write_text("old")
    command = [sys.executable, "-m", "nnkit", "export", "resnet50", "--onnx", "--force"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob(".nnkit-*")):
        time.sleep(0.02)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert err.splitlines() == ["Error: interrupted", "hint: what was there before is unchanged"]
    assert process.returncode == 1
    assert os.listdir(tmp_path) == [target.name]
    assert target.read_text() == "old"


def test_a_failed_verification_exits_with_4_and_says_how_to_repeat_it(nnkit_command):
    Path("net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, width: int = 3):\n"
        "        super().__init__()\n"
        "        self.linear = nn.Linear(4, width)\n"
        "    def forward(self, x):\n"
        "        return self.linear(x).softmax(0)\n"
    )
    declaration = ("--input", "x: float32[batch, 4]")
    done = nnkit_command("smoke-run", "net.py:Net", *declaration, "--width", "5")
    assert done.code == 4
    assert "failed   batch-independence  sample 0" in done.out
    error, hint = done.err.splitlines()
    assert error == "Error: 1 of 23 checks failed: batch-independence"
    command = shlex.split(hint.removeprefix("hint: rerun one: "))
    assert command == [
        "nnkit",
        "smoke-run",
        "net.py:Net",
        *declaration,
        "--width",
        "5",
        "--check",
        "batch-independence",
    ]
    assert f"again: {shlex.join(command)}" in done.out
    again = nnkit_command(*command[1:])
    assert (again.code, again.err.splitlines()[0]) == (4, "Error: 1 of 1 checks failed: batch-independence")


def test_a_missing_extra_exits_with_3_and_the_command_that_installs_it(
    nnkit_command, tmp_path, monkeypatch, fresh_plugins
):
    from plugin_source import plugin

    folder = tmp_path / "site"
    info = folder / "needy-1.0.dist-info"
    info.mkdir(parents=True)
    source = plugin(name="needy").replace('summary=""', 'summary="", requires={"not_there": "pip install x"}')
    (folder / "needy_plugin.py").write_text(source)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: needy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nnkit]\nneedy = needy_plugin\n")
    monkeypatch.syspath_prepend(str(folder))
    done = nnkit_command("build", "needy")
    assert done.code == 3
    assert done.err.splitlines() == [
        "Error: needy needs the package not_there",
        "hint: install it: pip install x",
    ]


def test_commands_of_plugins_that_can_not_be(nnkit_command, tmp_path, monkeypatch):
    points = {
        "one": "both = one_command:command\nodd = one_command:number\nlist = one_command:command",
        "two": "both = one_command:command\nlost = not_there:command",
    }
    folder = tmp_path / "site"
    for name, text in points.items():
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[nnkit.commands]\n{text}\n")
    source = "import click\nnumber = 7\n@click.command()\ndef command(): click.echo('hijacked')\n"
    (folder / "one_command.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    faults = {
        "both": "several distributions add the command both: ",
        "odd": "the command odd of one is of type int, not a click.Command",
        "lost": "the command lost of two can't be loaded: ModuleNotFoundError",
    }
    for name, message in faults.items():
        done = nnkit_command(name)
        error, hint = done.err.splitlines()
        assert error.startswith(f"Error: {message}")
        assert hint.startswith("hint: ")
        assert done.code == 3
    assert "hijacked" not in nnkit_command("list").out
    assert "command list, from one: hidden by nnkit's own" in nnkit_command("plugins").out


def test_a_traceback_comes_with_v_alone(nnkit_command):
    assert "Traceback" not in nnkit_command("summary", "resnet81").err
    assert "Traceback" in nnkit_command("summary", "resnet81", "-v").err


def test_a_reader_that_goes_away_is_no_fault(tmp_path):
    command = f"{sys.executable} -m nnkit summary resnet152 --format csv | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("path,kind,type")
    assert done.stderr == ""


SENDS_A_SIGNAL = """
import os, sys, time
from nnkit.cli.main import main

class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            for _ in range({times}):
                os.kill(os.getpid(), {number})
                time.sleep(0.003)

sys.meta_path.insert(0, Sender())
main(["summary", "simple-cnn"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill would end the process")
@pytest.mark.parametrize("module", ["torch.nn", "numpy.linalg", "nnkit.verbs.summary.rows"])
@pytest.mark.parametrize(
    ("number", "times", "code", "error"),
    [
        (signal.SIGINT, 1, 1, "Error: interrupted\nhint: what was there before is unchanged\n"),
        (signal.SIGINT, 4, 1, "Error: interrupted\nhint: what was there before is unchanged\n"),
        (signal.SIGTERM, 1, -signal.SIGTERM, ""),
    ],
    ids=["Ctrl-C", "Ctrl-C four times", "SIGTERM"],
)
def test_a_signal_while_torch_is_imported_is_not_lost(module, number, times, code, error):
    """torch imports NumPy from C++, which clears what a signal raises: the command went on, or failed."""
    program = SENDS_A_SIGNAL.format(module=module, number=int(number), times=times)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", error)


def test_a_program_that_runs_a_command_keeps_its_own_signal_handlers(capsys):
    def handlers():
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    before = handlers()
    for args, code in ((["--version"], 0), (["summary", "resnet19"], 2)):
        with pytest.raises(SystemExit, match=str(code)):
            main(args)
        assert handlers() == before
