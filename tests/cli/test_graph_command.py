"""`nnkit graph` as a user types it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import nnkit
from nnkit import schemas

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width: int = 4):
        super().__init__()
        print("built")
        self.first = nn.Linear(8, width)
        self.second = nn.Linear(width, 2)

    def forward(self, x):
        return self.second(self.first(x).relu())
"""


def test_without_a_file_a_tree_is_printed(nnkit_command):
    result = nnkit_command("graph", "simple-cnn", "--batch", "2")
    assert result.code == 0
    assert result.out.startswith("simple-cnn · batch 2 · ")
    assert "conv1 Conv2d" in result.out
    assert result.err == ""


@pytest.mark.parametrize("suffix", ["html", "svg", "mmd", "dot", "json"])
def test_the_suffix_chooses_the_format(nnkit_command, tmp_path, suffix):
    path = tmp_path / f"net.{suffix}"
    result = nnkit_command("graph", "simple-cnn", "-o", path.name)
    assert result.code == 0, result.err
    size = path.stat().st_size
    assert result.out.startswith(f"net.{suffix}  ")
    assert size > 300
    begins = {
        "html": "<!doctype html>",
        "svg": "<svg ",
        "mmd": "flowchart TB",
        "dot": "digraph ",
        "json": "{",
    }
    assert path.read_text(encoding="utf-8").lower().startswith(begins[suffix].lower())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("args", [["--json"], ["--format", "json"], ["-o", "net.json"]])
def test_json_keeps_to_its_schema(nnkit_command, tmp_path, args):
    result = nnkit_command("graph", "lstm", "--optimizer", "adam", *args)
    text = (tmp_path / "net.json").read_text() if "-o" in args else result.out
    data = json.loads(text)
    jsonschema.validate(data, schemas.read("graph"), cls=jsonschema.Draft202012Validator)
    assert data["memory"]["optimizer"] == "adam"
    assert schemas.schema_of(data) == schemas.read("graph")
    assert len(data["nodes"]) == len(nnkit.graph("lstm").nodes)


def test_a_format_may_be_printed(nnkit_command, tmp_path):
    result = nnkit_command("graph", "simple-cnn", "--format", "mermaid", "--direction", "right")
    assert result.out.startswith("flowchart LR\n")
    assert not any(tmp_path.iterdir())


def test_a_module_of_the_user_s_own_and_its_options(nnkit_command, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    result = nnkit_command("graph", "net.py:Net", "--input", "x: float32[batch, 8]", "--width", "6", "--json")
    data = json.loads(result.out)  # what the module prints went to stderr
    first = next(node for node in data["nodes"] if node["path"] == "first")
    assert first["row"]["parameters"] == 8 * 6 + 6


@pytest.mark.parametrize(
    ("args", "code", "error", "hint"),
    [
        (["resnet18", "-o", "x.htm"], 2, ".htm is no format of pictures", "did you mean .html?"),
        (
            ["resnet18", "-o", "x"],
            2,
            "x has no suffix",
            "the formats are: .html, .svg, .png, .mmd, .dot, .json",
        ),
        (["resnet18", "-o", "none/x.svg"], 2, "folder none does not exist", "create it: mkdir -p none"),
        (["resnet18", "-o", "there.svg"], 2, "there.svg already exists", "replace it with --force"),
        (["resnet18", "-o", "folder.svg"], 2, "folder.svg is a folder", "name a file in it"),
        (["resnet18", "--format", "dott"], 2, "unknown format 'dott'", "did you mean dot?"),
        (["resnet18", "--heat", "flops"], 2, "'flops' is not one of", "see: nnkit graph --help"),
        (["resnet18", "--direction", "dow"], 2, "'dow' is not one of", "did you mean down?"),
        (["resnet18", "--depth", "0"], 2, "0 is not in the range", "see: nnkit graph --help"),
        (["resnet19"], 2, "unknown architecture 'resnet19'", "did you mean resnet1"),
        (
            ["resnet18", "gcn"],
            2,
            "two models can only be drawn to a file",
            "add -o FILE.html; as text: nnkit compare",
        ),
        (
            ["resnet18", "gcn", "-o", "x.svg"],
            2,
            "a picture in svg shows only one model",
            "draw two to FILE.html",
        ),
        (["resnet18", "gcn", "lstm", "-o", "x.html"], 2, "graph draws one model or two", "for example: "),
        (["resnet18", "--contents"], 2, "--contents is for ONNX files", "name one: model.onnx"),
        (["none.onnx"], 2, "file none.onnx does not exist", "check the path"),
        (["simple-cnn", "--height", "8", "--width", "8"], 2, "", ""),
        ([], 2, "missing argument 'ARCH'", "see: nnkit graph --help"),
    ],
)
def test_each_mistake_is_one_error_with_its_hint(nnkit_command, tmp_path, args, code, error, hint):
    (tmp_path / "there.svg").write_text("mine")
    (tmp_path / "folder.svg").mkdir()
    result = nnkit_command("graph", *args)
    assert result.code == code
    errors = [line for line in result.err.splitlines() if line.startswith("Error: ")]
    hints = [line for line in result.err.splitlines() if line.startswith("hint: ")]
    assert len(errors) == len(hints) == 1, result.err
    assert error.lower() in errors[0].lower()
    assert hints[0].startswith(f"hint: {hint}")
    assert result.out == ""
    assert (tmp_path / "there.svg").read_text() == "mine"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder.svg", "there.svg"]


def test_force_replaces_a_file(nnkit_command, tmp_path):
    (tmp_path / "net.dot").write_text("old")
    assert nnkit_command("graph", "simple-cnn", "-o", "net.dot", "--force").code == 0
    assert (tmp_path / "net.dot").read_text().startswith("digraph")


def test_what_a_picture_leaves_out_is_said_on_stderr(nnkit_command, tmp_path):
    result = nnkit_command("graph", "googlenet", "-o", "net.mmd")
    assert result.err.startswith("folded to ")
    assert result.err.strip() in (tmp_path / "net.mmd").read_text()
    assert nnkit_command("graph", "googlenet", "-o", "net.mmd", "--force", "-q").err == ""


def test_an_onnx_file_is_the_model_or_its_nodes(nnkit_command, tmp_path):
    nnkit.export("simple-cnn", tmp_path / "cnn.onnx", verify=False)
    model, nodes = (
        json.loads(nnkit_command("graph", "cnn.onnx", "--json", *flags).out)
        for flags in ((), ("--contents",))
    )
    assert (model["source"], nodes["source"]) == ("model", "onnx")
    assert "Relu" in {node["type"] for node in nodes["nodes"]}
    jsonschema.validate(nodes, schemas.read("graph"), cls=jsonschema.Draft202012Validator)
    tree = nnkit_command("graph", "cnn.onnx", "--contents").out
    assert re.search(r"^conv1 Conv2d? ", tree, re.MULTILINE)
    assert not re.search(
        r"-\d", tree.split("\n\n")[1].splitlines()[0]
    )  # sizes that are open count for nothing


def test_a_stranger_s_onnx_file_shows_its_nodes(nnkit_command, tmp_path):
    import onnx

    nnkit.export("simple-cnn", tmp_path / "cnn.onnx", verify=False)
    model = onnx.load(tmp_path / "cnn.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "cnn.onnx")
    assert nnkit_command("graph", "cnn.onnx").out.startswith("cnn.onnx")
    refused = nnkit_command("graph", "cnn.onnx", "--heat", "macs")
    assert (refused.code, refused.out) == (2, "")
    assert "Error: cnn.onnx has no macs" in refused.err
    assert nnkit_command("graph", "cnn.onnx", "--model").code == 2


def test_two_models_are_one_page(nnkit_command, tmp_path):
    names = ["simple-cnn", "simple-cnn", "--right.num-classes", "7", "--batch", "2", "--seed", "3"]
    result = nnkit_command("graph", *names, "-o", "two.html")
    assert result.code == 0, result.err
    page = (tmp_path / "two.html").read_text(encoding="utf-8")
    assert "batch×7" in page
    assert "batch×10" in page
    assert nnkit_command("graph", "resnet18", "gcn", "--nodes", "9", "--widht", "3", "-o", "x.html").code == 2


def test_completion_offers_the_formats(nnkit_command, monkeypatch):
    monkeypatch.setenv("COMP_WORDS", "nnkit graph resnet18 --format m")
    monkeypatch.setenv("COMP_CWORD", "4")
    monkeypatch.setenv("_NNKIT_COMPLETE", "bash_complete")
    assert nnkit_command().out.split() == ["plain,mermaid"]


def test_a_terminal_s_encoding_without_these_signs_gets_ascii(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "nnkit", "graph", "resnet18", "--depth", "2"],
        capture_output=True,
        env=environment,
        check=True,
    )
    text = done.stdout.decode("ascii")
    assert "|- layer2.0 BasicBlock" in text
    assert "##" in text
    assert "?" not in text


@pytest.mark.parametrize("file", [(), ("-o", "x.html"), ("-o", "x.svg"), ("--json",)])
def test_a_pattern_that_opens_nothing_was_misspelled(nnkit_command, file):
    done = nnkit_command("graph", "resnet18", "--open", "layer5", *file)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "Error: no group has a path or type like 'layer5'\nhint: did you mean layer4 or layer3 or layer2?\n"
    )
    assert not Path("x.html").exists()
    assert not Path("x.svg").exists()
    assert nnkit_command("graph", "resnet18", "--open", "layer1.1").code == 0  # drawn once, as the first


def test_a_model_that_fails_shows_the_rows_up_to_there_as_in_a_summary(nnkit_command, tmp_path):
    (tmp_path / "net.py").write_text(NET.replace("nn.Linear(width, 2)", "nn.Linear(9, 2)"))
    model = ["net.py:Net", "--input", "x: float32[batch, 8]"]
    tree, summary = nnkit_command("graph", *model), nnkit_command("summary", *model)
    assert tree.code == summary.code == 1
    assert re.search("second +Linear +4 → failed", tree.out)
    assert tree.out == summary.out.removeprefix("built\n")
    assert tree.err.removeprefix("built\n") == summary.err.removeprefix("built\n")
    picture = nnkit_command("graph", *model, "-o", "net.svg")
    assert (picture.code, picture.out) == (1, "")
    assert not (tmp_path / "net.svg").exists()
