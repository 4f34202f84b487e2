"""hubconf.py: `folder:entrypoint` is what torch.hub.load gives for the same folder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import nnkit
from nnkit.contract.text import without_drive
from nnkit.models.references import is_path_of_folder, names_code

HUBCONF = """
dependencies = ["torch", "numpy"]

from torch import nn
from torch.hub import load_state_dict_from_url

from layers.net import Net, tiny as tiniest


def small(width: int = 8, pretrained=True, **options):
    "A small net."
    from layers.late import FACTOR  # only now, as large repositories do

    net = Net(width * FACTOR)
    if pretrained:
        nn.init.ones_(net.fc.weight)  # stands for a download
    return net


def words(text: str = "a"):
    return text.split()


def _helper():
    return None
"""
NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.fc = nn.Linear(3, width)

    def forward(self, x):
        return self.fc(x)


def tiny():
    "The tiniest."
    return Net(1)
"""
INPUT = ("--input", "x: float32[batch, 3]")


def write(folder, factor=2):
    (folder / "layers").mkdir(parents=True)
    (folder / "hubconf.py").write_text(HUBCONF)
    (folder / "layers" / "net.py").write_text(NET)
    (folder / "layers" / "late.py").write_text(f"FACTOR = {factor}")


@pytest.fixture
def run(nnkit_command):
    """The command line, in a folder that has `repo` with a hubconf.py."""
    write(Path("repo"))
    return nnkit_command


THEIRS = """
import torch
for name, options in {"small": {"width": 5, "pretrained": False}, "tiniest": {}}.items():
    torch.manual_seed(3)
    torch.save(torch.hub.load("repo", name, source="local", **options).state_dict(), f"{name}.pt")
"""


@pytest.mark.usefixtures("run")
def test_an_entrypoint_gives_what_torch_hub_gives():
    # In a process of its own: torch.hub takes any module that has the name of the folder's own.
    subprocess.run([sys.executable, "-c", THEIRS], check=True)
    ours = {
        "small": nnkit.build("repo:small", seed=3, width=5, pretrained=False),
        "tiniest": nnkit.build("repo:tiniest", seed=3),
    }
    for name, module in ours.items():
        theirs = torch.load(f"{name}.pt")
        assert module.state_dict().keys() == theirs.keys()
        assert all(torch.equal(value, theirs[key]) for key, value in module.state_dict().items())


def test_options_come_from_the_signature_and_nothing_is_downloaded_unasked(run):
    done = run("summary", "repo:small", *INPUT, "--width", "5", "--json")
    assert json.loads(done.out)["totals"]["parameters"] == 4 * 10, done.err
    assert json.loads(done.out)["spec"]["config"] == {"width": 5, "pretrained": False}
    done = run("summary", "repo:small", "--help")
    assert "--pretrained / --no-pretrained  [default: no]" in done.out
    module = nnkit.build("repo:small", pretrained=True)
    assert torch.equal(module.fc.weight, torch.ones(16, 3))


@pytest.mark.parametrize("verb", ["info", "build", "summary", "smoke-run", "export"])
def test_every_verb_takes_an_entrypoint(run, verb):
    more = {"smoke-run": ["--check", "shapes"], "export": ["--safetensors"]}.get(verb, [])
    done = run(verb, "./repo:small", *more, *INPUT)
    assert done.code == 0, done.err


def test_two_folders_with_modules_of_one_name_are_kept_apart(run):
    write(Path("other"), factor=3)
    done = run("compare", "repo:small", "other:small", *INPUT, "--json")
    assert done.code == 0, done.err
    left, right = (nnkit.summarize(f"{name}:small", inputs=INPUT[1]) for name in ("repo", "other"))
    assert (left.totals.parameters, right.totals.parameters) == (4 * 16, 4 * 24)


@pytest.mark.parametrize("folder", ["repo", "./repo", "repo/"])
def test_without_an_entrypoint_they_are_listed(run, folder):
    done = run("summary", folder)
    shown = folder.rstrip("/")
    assert done.code == 2
    assert done.err == (
        f"Error: {shown} has 4 entrypoints\n"
        f"  {shown}:Net\n"
        f"  {shown}:tiniest  The tiniest.\n"
        f"  {shown}:small    A small net.\n"
        f"  {shown}:words\n"
        f"hint: name one: {shown}:Net\n"
    )


def test_mistakes_are_one_error(run):
    cases = {
        "repo:smal": (2, "repo has no entrypoint 'smal'", "did you mean small?"),
        "repo:_helper": (2, "repo has no entrypoint '_helper'", "it has Net, tiniest, small, words"),
        "repo:words": (1, "building repo:words returned list, not a torch.nn.Module", "return a module"),
    }
    for reference, (code, message, hint) in cases.items():
        done = run("summary", reference, *INPUT)
        assert (done.code, done.err) == (code, f"Error: {message}\nhint: {hint}\n")


def test_missing_dependencies_are_named_before_any_code_runs(run):
    text = HUBCONF.replace('"numpy"', '"no_such_thing", "layers", "nor_this"')
    Path("repo/hubconf.py").write_text(f"import no_such_thing\nprint('ran')\n{text}")
    done = run("summary", "repo:small")
    assert done.code == 2
    assert done.err.splitlines()[0] == (
        "Error: repo/hubconf.py depends on packages that are not installed: no_such_thing, nor_this"
    )
    assert "pip install no_such_thing nor_this" in done.err


def test_a_config_comes_first_and_the_entrypoints_stay(run):
    Path("repo/config.json").write_text('{"model_type": "nothing-known"}')
    done = run("summary", "./repo")
    assert done.code != 0
    assert "or name an entrypoint of its hubconf.py: ./repo:NAME" in done.err
    assert run("summary", "./repo:small", *INPUT).code == 0


def test_an_architecture_keeps_its_name_beside_a_folder(run):
    write(Path("lstm"))
    Path("lstm/hubconf.py").write_text("raise SystemExit('ran')")
    assert run("summary", "lstm").code == 0


def test_the_drive_of_windows_is_no_entrypoint():
    assert names_code(r"C:\repo:small")
    assert names_code(r"C:\net.py")
    assert not names_code(r"C:\repo")
    assert is_path_of_folder(r"C:\repo")
    assert without_drive(r"C:\net.py:Net") == r"\net.py:Net"
    assert without_drive("net.py:Net") == "net.py:Net"
