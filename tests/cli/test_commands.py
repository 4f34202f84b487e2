"""What each command prints."""

import csv
import json
import re
from pathlib import Path

import pytest
import yaml

import nnkit


def test_a_reader_sees_every_step_of_the_simple_cnn(nnkit_command):
    done = nnkit_command("summary", "simple-cnn")
    assert (done.code, done.err) == (0, "")
    steps = [
        "image +input +3×32×32",
        "conv1 +Conv2d +3×32×32 → 32×32×32 +896 +884,736",
        "relu +relu +32×32×32",
        "pool +MaxPool2d +32×32×32 → 32×16×16",
        "conv2 +Conv2d +32×16×16 → 64×16×16 +18,496 +4,718,592",
        "relu +relu +64×16×16",
        "pool +MaxPool2d +64×16×16 → 64×8×8",
        "flatten +flatten +64×8×8 → 4096",
        "fc1 +Linear +4096 → 128 +524,416 +524,288",
        "relu +relu +128",
        "fc2 +Linear +128 → 10 +1,290 +1,280",
    ]
    assert re.search(".*\n".join(steps), done.out), done.out
    assert re.search(r"parameters +545,098 \(2.1 MiB\)", done.out)
    assert re.search(r"MACs +6,128,896 \(12,257,792 FLOPs\)", done.out)


@pytest.mark.parametrize(
    "args",
    [
        ["resnet18", "--num-classes", "1000", "--batch", "2"],
        ["--num-classes", "1000", "resnet18", "--batch", "2"],
        ["--batch", "2", "--num-classes", "1000", "resnet18"],
        ["--batch=2", "--num-classes=1000", "vision/resnet18"],
    ],
)
def test_options_stand_in_any_order_around_the_name(nnkit_command, args):
    data = json.loads(nnkit_command("summary", *args, "--json").out)
    assert data["totals"]["parameters"] == 11_689_512
    assert data["totals"]["macs"] == 2 * 1_814_073_344


def test_every_format_has_the_same_numbers(nnkit_command):
    data = json.loads(nnkit_command("summary", "resnet18", "--json").out)
    rows = list(csv.DictReader(nnkit_command("summary", "resnet18", "--format", "csv").out.splitlines()))
    assert [(row["path"], int(row["parameters"]), int(row["macs"])) for row in rows] == [
        (row["path"], row["parameters"], row["macs"]) for row in data["rows"]
    ]
    assert rows[1]["output_shapes"] == "1×64×112×112"
    markdown = nnkit_command("summary", "resnet18", "--format", "markdown").out
    assert "| conv1 | Conv2d | 3×224×224 → 64×112×112 | 9,408 | 118,013,952 |" in markdown


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_table_fits_the_terminal_and_cuts_words_but_no_number(nnkit_command, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    out = nnkit_command("summary", "resnet18", "--color", "always", "--unfold").out
    plain = re.sub("\x1b.*?m", "", out)
    assert max(map(len, plain.splitlines())) <= width
    table = plain.partition("parameters   11")[0].splitlines()[2:]
    rows = nnkit.summarize("resnet18").rows
    # Beside the rows there are the image, the logits, two lines of heading, and what has no room.
    assert len([line for line in table if line.strip()]) == len(rows) - 1 + 4 + (width == 60)
    assert ("no room for: type" in out) == (width == 60)
    assert all(f"{row.macs:,}" in out for row in rows if row.leaf and row.macs)
    assert ("layer4.1.conv2" in out) == (width == 120)


def test_help_of_an_architecture_has_its_options_sizes_and_presets(nnkit_command):
    for args in (["summary", "resnet18", "--help"], ["export", "--help", "resnet18"]):
        done = nnkit_command(*args)
        assert done.code == 0
        assert re.search(r"Options of resnet18:\n +--num-classes integer >= 1 +number of classes", done.out)
        assert "[default: 10]" in done.out
        assert re.search(r"Sizes of resnet18:\n +--batch integer >= 1", done.out)
        assert re.search(r"Presets of resnet18:\n +--preset imagenet", done.out)
        assert re.search(r"\nOptions:\n", done.out)
    assert "nnkit summary ARCH --help" in nnkit_command("summary", "--help").out


def test_an_unrolled_loop_is_told_once_and_in_full_as_csv(nnkit_command):
    text = nnkit_command("summary", "gru", "--time", "20").out
    assert re.search(r"⋮ +the \d+ steps above, 20 times in all", text)
    assert text.count("recurrent.tanh ") == 1
    assert (
        nnkit_command("summary", "gru", "--time", "20", "--format", "csv").out.count("recurrent.tanh,") == 20
    )


def test_without_a_command_there_is_help(nnkit_command):
    done = nnkit_command()
    assert (done.code, done.err) == (0, "")
    assert done.out == nnkit_command("--help").out
    assert "Commands:" in done.out


def test_build_prints_the_tree_and_totals(nnkit_command):
    out = nnkit_command("build", "simple-cnn", "--dtype", "float64").out
    assert out.startswith("SimpleCNN(\n  (conv1): Conv2d(3, 32")
    assert "parameters   545,098 (4.2 MiB), 545,098 trainable" in out
    assert "device       cpu, float64" in out
    on_meta = json.loads(nnkit_command("build", "resnet152", "--device", "meta", "--json").out)
    assert on_meta["device"] == "meta"
    assert on_meta["schema"] == "nnkit.build/1"


def test_a_spec_written_by_build_is_the_same_model(nnkit_command):
    spec = nnkit_command("build", "resnet18", "--num-classes", "100", "--seed", "3", "--spec").out
    assert yaml.safe_load(spec)["config"]["num_classes"] == 100
    Path("r.yaml").write_text(spec)
    assert nnkit_command("build", "r.yaml", "--spec").out == spec
    data = json.loads(nnkit_command("summary", "r.yaml", "--json").out)
    assert data["totals"]["parameters"] == 11_689_512 - 900 * 513
    assert data["spec"]["seed"] == 3
    assert nnkit.build("r.yaml").fc.weight.equal(nnkit.build("resnet18", num_classes=100, seed=3).fc.weight)


def test_export_writes_the_file_named_after_the_architecture(nnkit_command):
    done = nnkit_command("export", "gcn", "--onnx")
    assert Path("gcn.onnx").is_file()
    assert "verified against the module in ONNX Runtime" in done.out
    assert "edges=0" in done.out
    assert done.err == ""
    assert nnkit_command("summary", "gcn.onnx").code == 0
    other = nnkit_command("export", "gcn", "--safetensors", "-o", "w.safetensors", "--json")
    assert json.loads(other.out)["file"] == "w.safetensors"
    assert json.loads(other.out)["verified"] is True
    unproven = nnkit_command("export", "gcn", "-o", "b.onnx", "--no-verify")
    assert "not verified: nothing was proven" in unproven.out


def test_smoke_run_prints_a_checklist(nnkit_command):
    done = nnkit_command("smoke-run", "simple-cnn", "--device", "auto")
    assert done.code == 0
    for name in ("shapes", "finite", "gradients", "updates", "batch-independence", "determinism"):
        assert re.search(f"^passed +{name} +\\w", done.out, re.MULTILINE), name
    one = json.loads(nnkit_command("smoke-run", "simple-cnn", "--check", "finite", "--json").out)
    assert [check["name"] for check in one["checks"]] == ["finite"]
    assert one["schema"] == "nnkit.smoke-run/1"


def test_list_shows_families_and_keeps_what_matches(nnkit_command):
    done = nnkit_command("list")
    assert re.search(r"^ResNet\n  resnet18 +vision  ", done.out, re.MULTILINE)
    found = json.loads(nnkit_command("list", "resnet1", "--json").out)["architectures"]
    assert {each["name"] for each in found} >= {"resnet18", "resnet101", "resnet152"}
    assert all("resnet1" in each["name"] for each in found)


def test_info_tells_what_a_student_and_an_engineer_ask(nnkit_command):
    out = nnkit_command("info", "gcn").out
    for heading in (
        "paper",
        "equation",
        "inputs",
        "outputs",
        "options",
        "sizes",
        "presets",
        "notes",
        "handlers",
    ):
        assert re.search(f"^{heading}$", out, re.MULTILINE), heading
    assert "1609.02907" in out
    assert "edge_index: int64[2, edges]" in out
    assert re.search(r"summary +core", out)
    dense = nnkit_command("info", "gcn", "--adjacency", "dense").out
    assert "[nodes, nodes]" in dense
    data = json.loads(nnkit_command("info", "gcn", "--json").out)
    assert data["presets"]["cora"]["sizes"] == {"nodes": 2708, "edges": 10_556}
    assert data["handlers"]["export"] == "core"


def test_plugins_shows_where_each_comes_from(nnkit_command):
    out = nnkit_command("plugins").out
    assert re.search(r"^vision +nnkit \S+ +nnkit_vision.plugin +\d+ architectures$", out, re.MULTILINE)
    data = json.loads(nnkit_command("plugins", "--json").out)
    assert {each["name"] for each in data["plugins"]} >= {"vision", "graph"}
    assert all(each["failures"] == [] for each in data["plugins"])


def test_a_plugin_that_fails_is_told_and_the_rest_goes_on(
    nnkit_command, tmp_path, monkeypatch, fresh_plugins
):
    info = tmp_path / "bad-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nnkit]\nbad = not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    done = nnkit_command("summary", "simple-cnn")
    assert done.code == 0
    assert (
        done.err
        == "warning: plugin bad (bad) failed at import: ModuleNotFoundError: No module named 'not_there'; "
        "pip install --upgrade bad, or leave the plugin out: NNKIT_DISABLE_PLUGINS=bad\n"
    )
    assert nnkit_command("summary", "simple-cnn", "-q").err == ""
    assert nnkit_command("build", "bad/net").code == 3
    shown = nnkit_command("plugins", "-v").out
    assert "failed: import" in shown
    assert "Traceback" in shown
    assert "Traceback" not in nnkit_command("plugins").out


def test_doctor_prints_versions_and_devices(nnkit_command, monkeypatch):
    monkeypatch.setattr("nnkit.verbs.diagnosis.OPTIONAL", {})  # tests/verbs/test_diagnosis.py has them
    out = nnkit_command("doctor").out
    assert re.search(rf"^nnkit +{nnkit.__version__}$", out, re.MULTILINE)
    assert re.search(r"^cpu +.* GiB, .* free$", out, re.MULTILINE)
    assert re.search(r"^threads +\d+ in an operator, \d+ between them$", out, re.MULTILINE)


def test_code_of_one_s_own_needs_no_plugin(nnkit_command):
    Path("mine.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    '''A line of mine.'''\n"
        "    def __init__(self, width: int = 8, bias: bool = True, activation: type[nn.Module] = nn.ReLU):\n"
        "        super().__init__()\n"
        "        self.body = nn.Sequential(nn.Linear(4, width, bias), activation())\n"
        "    def forward(self, x):\n"
        "        return self.body(x)\n"
    )
    declared = ("mine.py:Net", "--input", "x: float32[batch, time=3, 4]")
    data = json.loads(nnkit_command("summary", *declared, "--width", "16", "--batch", "5", "--json").out)
    assert data["totals"]["macs"] == 5 * 3 * 4 * 16
    assert nnkit_command("summary", *declared, "--no-bias", "--json").out.count('"parameters": 32') >= 1
    assert nnkit_command("export", *declared, "--onnx").code == 0
    assert Path("net.onnx").is_file()
    assert nnkit_command("smoke-run", *declared).code == 0


@pytest.mark.parametrize(
    ("environment", "colored"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)]
)
def test_no_color_is_respected(environment, colored, monkeypatch):
    from nnkit.cli.settings import Settings

    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Settings().use_color is colored
    assert Settings(color="always").use_color
    assert not Settings(color="never").use_color


def test_info_shows_an_equation_a_line(nnkit_command):
    shown = nnkit_command("info", "transformer").out.splitlines()
    first = shown.index("equation") + 1
    assert shown[first : first + 2] == [
        "  attention(Q, K, V) = softmax(Q Kᵀ / √d) V",
        "  x = norm(x + attention(x, x, x)), norm(x + W₂ relu(W₁ x))",
    ]
