"""`nnkit plugins new`: what it writes is complete, right and clean; what can't be is refused."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Annotated, Literal

import pytest
from conftest import ROOT
from msgspec import Meta

import nnkit
from nnkit.authoring.scaffold.annotations import type_source, value_source
from nnkit.authoring.scaffold.from_code import neighbors
from nnkit.verbs.core_handlers import make_manager

FILES = """
.gitignore CHANGELOG.md README.md pyproject.toml src/nnkit_mine/__init__.py src/nnkit_mine/model.py
src/nnkit_mine/plugin.py src/nnkit_mine/py.typed tests/test_my_net.py
""".split()

CNN = '''
import torch
from torch import nn


class SmallCNN(nn.Module):
    """Two convolutions and a linear layer.

    channels: of the first convolution
    """

    def __init__(self, channels: int = 4, classes: int = 10, depth=1, scale: float = 1.0, norm=nn.BatchNorm2d):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1), norm(channels), nn.ReLU(),
            *(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(depth)), nn.AdaptiveAvgPool2d(1),
        )
        self.head = nn.Linear(channels, classes)

    def forward(self, x):
        return self.head(torch.flatten(self.features(x), 1))


class NoDefault(nn.Module):
    def __init__(self, width):
        super().__init__()


class Pyramid(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.patches = nn.Conv2d(width, width, 4, stride=4)

    def forward(self, x):
        y = self.stem(x)
        return {"fine": y, "tokens": self.patches(y).flatten(2).mT}


class Pools(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.MaxPool2d(2))

    def forward(self, x):
        return self.features(x).mean((2, 3))


class Skipping(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 3, 4, stride=4)

    def forward(self, x):
        return x + nn.functional.interpolate(self.down(x), scale_factor=4)


class Positions(nn.Module):
    def __init__(self, context=16):
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(context, 4))

    def forward(self, x):
        return x + self.positions[: x.shape[1]]


class Learned(nn.Module):
    def __init__(self, context=18):
        super().__init__()
        self.positions = nn.Embedding(context, 4)

    def forward(self, x):
        return x + self.positions(torch.arange(x.shape[1], device=x.device))


class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(x.flatten(1))


class Pairs(nn.Module):
    def forward(self, x):
        return (x[:, :, None] * x[:, None, :]).flatten(1)


class Fickle(nn.Module):
    def forward(self, x):
        return x if x.shape[1] < 9 else (x, x)


class TwoThings(nn.Module):
    def forward(self, x, y):
        return {"sum": x.sum(1), "most": (x @ y).argmax(-1)}
'''
IMAGES = "x: float32[batch, 3, height=16 min=4, width=16 min=4]"


def tool(*args, cwd):
    return subprocess.run([sys.executable, "-m", *args], cwd=cwd, capture_output=True, text=True, check=False)


OURS = ["check", "--config", str(ROOT / "pyproject.toml")]


def assert_clean(project, *more):
    """Hold a project against ruff: with its own settings and without any, and in other ways if asked."""
    for args in (["check"], ["check", "--isolated"], ["format", "--check"], *more):
        done = tool("ruff", *args, "--no-cache", ".", cwd=project)
        assert done.returncode == 0, (args, done.stdout)


@pytest.fixture
def manager_of(monkeypatch):
    """Make a manager of a plugin that was written, without installing it."""
    packages = []

    def make(project, plugin):
        monkeypatch.syspath_prepend(str(project / "src"))
        packages.append(f"nnkit_{plugin}")
        return make_manager([EntryPoint(plugin, f"nnkit_{plugin}.plugin", "nnkit")], {})

    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["mine", "nnkit-mine", "nnkit_mine"])
def test_a_plugin_is_written_whole(nnkit_command, tmp_path, manager_of, name):
    done = nnkit_command("plugins", "new", name, "--architecture", "my-net")
    assert (done.code, done.out.split()) == (0, [f"nnkit-mine/{file}" for file in FILES])
    assert done.err == "next: nnkit plugins install -e ./nnkit-mine && nnkit summary my-net\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nnkit-mine"]

    manager = manager_of(tmp_path / "nnkit-mine", "mine")
    assert manager.failures == []
    assert list(manager.architectures()) == ["mine/my-net"]
    # x W_in + b, two blocks of norm, up and down, the last norm, and h W_out + b
    block = 2 * 64 + 64 * 256 + 256 + 256 * 64 + 64
    totals = nnkit.summarize("my-net", manager=manager).totals
    assert totals.parameters == 16 * 64 + 64 + 2 * block + 2 * 64 + 64 * 10 + 10


def test_what_is_written_is_clean(nnkit_command, tmp_path):
    nnkit_command("plugins", "new", "mine", "--architecture", "my-net")
    assert_clean(tmp_path / "nnkit-mine", OURS)


@pytest.mark.parametrize(
    ("architecture", "network"), [("tensor", "TensorNet"), ("none", "NoneNet"), ("block", "BlockNet")]
)
def test_a_network_takes_the_name_of_no_other_class(
    nnkit_command, tmp_path, manager_of, architecture, network
):
    assert nnkit_command("plugins", "new", "named", "--architecture", architecture).code == 0
    manager = manager_of(tmp_path / "nnkit-named", "named")
    assert type(nnkit.build(architecture, manager=manager)).__name__ == network


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["my plugin", "--architecture", "my-net"], "'my plugin' is not a valid name for a plugin"),
        (["../mine", "--architecture", "my-net"], "'../mine' is not a valid name for a plugin"),
        (["nnkit", "--architecture", "my-net"], "'nnkit' is not a valid name for a plugin"),
        (["3d", "--architecture", "my-net"], "'3d' is not a valid name for a plugin"),
        (["class", "--architecture", "my-net"], "'class' is a Python keyword, so it can't name a plugin"),
        (["mine", "--architecture", "My_Net"], "'My_Net' is not a valid name for an architecture"),
        (["mine", "--architecture", "lambda"], "'lambda' is a Python keyword, so it can't name an architecture"),
        (["mine", "--architecture", "resnet18"], "architecture 'resnet18' already exists: vision/resnet18"),
        (["vision", "--architecture", "my-net"], "nnkit-vision is already installed"),
        (["mine"], "the plugin's architecture needs a name"),
        (["mine", "--architecture", "my-net", "--input", IMAGES], "--input needs --from FILE.py:CLASS"),
        (["mine", "--from", "net.py:TwoThings"], "net.py:TwoThings needs its inputs declared: x, y"),
        (["mine", "--architecture", "my-net", "--set", "a=1"], "--set needs --from FILE.py:CLASS"),
        (["mine", "--from", "net.py:SmallCNN", "--input", IMAGES, "--set", "channels"], "--set takes NAME=VALUE, got 'channels'"),
        (["mine", "--from", "net.py:SmallCNN", "--input", IMAGES, "--set", "chanels=3"], "unknown option 'chanels'"),
        (["mine", "--from", "net.py:Nothing", "--input", IMAGES], "net.py has no class or function 'Nothing'"),
        (["mine", "--from", "net.py:Pairs", "--input", "x: float32[batch, depth]"], "the axis 'depth' would hide nnkit's own --depth"),
        (["mine", "--from", "net.py:NoDefault", "--input", IMAGES], "parameter 'width' of NoDefault has no default"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_nothing_written(nnkit_command, tmp_path, args, message):
    (tmp_path / "net.py").write_text(CNN)
    done = nnkit_command("plugins", "new", *args)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[0] == f"Error: {message}"
    assert done.err.splitlines()[1].startswith("hint: ")
    assert [path.name for path in tmp_path.iterdir()] == ["net.py"]


def test_the_name_of_an_installed_distribution_is_taken(nnkit_command, tmp_path, monkeypatch):
    info = tmp_path / "nnkit_mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nnkit-mine\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    done = nnkit_command("plugins", "new", "mine", "--architecture", "my-net")
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: nnkit-mine is already installed")


def test_a_folder_with_files_is_left_as_it_is_and_an_empty_one_is_filled(nnkit_command, tmp_path):
    folder = tmp_path / "nnkit-mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("all of it")
    done = nnkit_command("plugins", "new", "mine", "--architecture", "my-net")
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: nnkit-mine already exists")
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
    (folder / "thesis.tex").unlink()
    assert nnkit_command("plugins", "new", "mine", "--architecture", "my-net").code == 0


def test_a_plugin_around_a_module_of_ones_own(nnkit_command, tmp_path, manager_of):
    (tmp_path / "net.py").write_text(CNN)
    done = nnkit_command("plugins", "new", "cnn", "--from", "net.py:SmallCNN", "--input", IMAGES)
    assert done.code == 0, done.err
    assert done.err.splitlines()[:2] == [
        "note: norm can't be an option and keeps its default: BatchNorm2d",
        "note: depth becomes model_depth: --depth is an option of nnkit",
    ]
    project = tmp_path / "nnkit-cnn"
    assert (project / "src" / "nnkit_cnn" / "model.py").read_text() == CNN
    assert_clean(project)

    manager = manager_of(project, "cnn")
    assert manager.failures == []
    declared = manager.find("small-cnn")[1]
    assert declared.summary == "Two convolutions and a linear layer"
    assert [(each.name, each.shape, each.dtype) for each in declared.inputs] == [
        ("x", ("batch", 3, "height", "width"), "float")
    ]
    assert [each.shape for each in declared.outputs] == [("batch", "classes")]
    assert (declared.dims["height"].default, declared.dims["height"].min) == (16, 4)
    options = {"channels": 8, "classes": 3, "model_depth": 2, "manager": manager}
    parameters = (3 * 9 * 8 + 8) + 2 * 8 + 2 * (8 * 9 * 8 + 8) + (8 * 3 + 3)
    assert nnkit.summarize("small-cnn", **options).totals.parameters == parameters
    from nnkit.contract.config import options_of

    assert options_of(declared.config)[0].description == "of the first convolution"


def test_outputs_have_the_names_and_dtypes_that_forward_gives_them(nnkit_command, tmp_path, manager_of):
    (tmp_path / "net.py").write_text(CNN)
    inputs = ["--input", "x: float32[batch, rows, 4]", "--input", "y: float32[4, wide]"]
    assert nnkit_command("plugins", "new", "two", "--from", "net.py:TwoThings", *inputs).code == 0
    assert_clean(tmp_path / "nnkit-two")
    declared = manager_of(tmp_path / "nnkit-two", "two").find("two-things")[1]
    assert [(each.name, each.shape, each.dtype) for each in declared.outputs] == [
        ("sum", ("batch", 4), "float"),
        ("most", ("batch", "rows"), "int64"),
    ]


def test_outputs_that_follow_a_dim_are_declared_by_arithmetic(nnkit_command, tmp_path, manager_of):
    (tmp_path / "net.py").write_text(CNN)
    text = "x: float32[batch, 3, height=32 min=8, wide=32 min=8]"
    assert nnkit_command("plugins", "new", "pyramid", "--from", "net.py:Pyramid", "--input", text).code == 0
    assert_clean(tmp_path / "nnkit-pyramid")
    manager = manager_of(tmp_path / "nnkit-pyramid", "pyramid")
    assert [(each.name, each.shape) for each in manager.find("pyramid")[1].outputs] == [
        ("fine", ("batch", "width", "(height + 1) // 2", "(wide + 1) // 2")),
        ("tokens", ("batch", "((height + 1) // 8) * ((wide + 1) // 8)", "width")),
    ]
    report = nnkit.smoke_run("pyramid", checks=["shapes"], manager=manager)
    assert [check.status for check in report.checks] == ["passed"]


@pytest.mark.parametrize(
    ("code", "text", "limits", "told"),
    [
        ("Pools", "x: float32[batch, 3, rows=32, 32]", (10, None, 1), "at least 10"),
        ("Skipping", "x: float32[batch, 3, rows=32, 32]", (4, None, 4), "at least 4 and a multiple of 4"),
        ("Skipping", "x: float32[batch, 3, rows=32 multiple_of=8, 32]", (8, None, 8), ""),
        ("Positions", "x: float32[batch, rows=16, 4]", (1, 16, 1), "at most context"),
        ("Positions", "x: float32[batch, rows=8, 4]", (1, 16, 1), "at most context"),
        ("Learned", "x: float32[batch, rows=16, 4]", (1, 18, 1), "at most context"),
    ],
)
def test_the_sizes_that_a_module_can_take_are_found(
    nnkit_command, tmp_path, manager_of, code, text, limits, told
):
    (tmp_path / "net.py").write_text(CNN)
    done = nnkit_command("plugins", "new", "mine", "--from", f"net.py:{code}", "--input", text)
    assert done.code == 0
    assert_clean(tmp_path / "nnkit-mine")
    (declared,) = manager_of(tmp_path / "nnkit-mine", "mine").architectures().values()
    rows = declared.dims_for(declared.config())["rows"]
    assert (rows.least, rows.max, rows.multiple_of) == limits
    notes = [line for line in done.err.splitlines() if line.startswith("note: ")]
    assert notes == ([f"note: size rows must be {told}, as trial runs show"] if told else [])


def test_a_dim_that_cannot_grow_is_moved_down(nnkit_command, tmp_path, manager_of):
    (tmp_path / "net.py").write_text(CNN)
    text = "x: float32[batch, 3, height=32 max=32, wide=32 min=8 multiple_of=8]"
    assert nnkit_command("plugins", "new", "pyramid", "--from", "net.py:Pyramid", "--input", text).code == 0
    declared = manager_of(tmp_path / "nnkit-pyramid", "pyramid").find("pyramid")[1]
    assert declared.outputs[0].shape == ("batch", "width", "(height + 1) // 2", "wide // 2")


@pytest.mark.parametrize(
    ("code", "text", "message"),
    [
        ("Pairs", "x: float32[batch, time]", "axis 1 of 'output' depends on the sizes in a way that can't be expressed: 1 at time=1, 64 at time=8, 81 at time=9, 5184 at time=72"),
        ("Fixed", "x: float32[batch, side=4, 4]", "forward fails at batch=1, side=5: RuntimeError: "),
        ("Fickle", "x: float32[batch, time]", "the number of outputs or axes depends on the sizes of the inputs"),
        ("SmallCNN", "x: float32[batch, 5, 16, 16]", "forward fails at batch=1: RuntimeError: "),
    ],
)  # fmt: skip
def test_a_module_that_cannot_be_declared_is_told_why(nnkit_command, tmp_path, code, text, message):
    (tmp_path / "net.py").write_text(CNN)
    done = nnkit_command("plugins", "new", "mine", "--from", f"net.py:{code}", "--input", text)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"Error: {message}")
    assert [path.name for path in tmp_path.iterdir()] == ["net.py"]


def test_a_tagger_of_eight_billion_parameters(nnkit_command, tmp_path, manager_of):
    """They are never given memory: in float32 they would take 30 GiB."""
    source = (ROOT / "examples" / "tagger.py").read_text()
    (tmp_path / "giant.py").write_text(
        source.replace(
            "width: int = 256, layers: int = 4, hidden: int = 704, tags: int = 17",
            "width: int = 9216, layers: int = 32, hidden: int = 9216, tags: int = 7",
        )
    )
    text = "words: int64[batch, time=32] < vocabulary"
    done = nnkit_command("plugins", "new", "tagger", "--from", "giant.py:Tagger", "--input", text)
    assert (done.code, len(done.err.splitlines())) == (0, 1)
    assert_clean(tmp_path / "nnkit-tagger", OURS)
    manager = manager_of(tmp_path / "nnkit-tagger", "tagger")
    declared = manager.find("tagger")[1]
    assert [each.shape for each in declared.outputs] == [("batch", "time", "tags")]
    assert declared.inputs[0].index_of == "vocabulary"
    parameters = (30_000 + 7 + 1) * 9216 + 32 * (3 * 9216 * 9216 + 6 * 9216)
    assert nnkit.summarize("tagger", manager=manager).totals.parameters == parameters == 8_432_050_176
    assert f"{parameters:_}" in (tmp_path / "nnkit-tagger" / "tests" / "test_tagger.py").read_text()


def test_a_class_in_an_installed_package_brings_the_module_that_defines_it(nnkit_command, tmp_path):
    done = nnkit_command(
        "plugins",
        "new",
        "fire",
        "--from",
        "torchvision.models.squeezenet:SqueezeNet",
        "--input",
        "x: float32[batch, 3, 64, 64]",
    )
    assert done.code == 0
    copied = (tmp_path / "nnkit-fire" / "src" / "nnkit_fire" / "model.py").read_text()
    assert "class SqueezeNet(nn.Module):" in copied
    assert "note: squeezenet.py imports ..transforms._presets from its folder, which isn't copied" in done.err
    assert (
        'TensorSpec("output", ("batch", "num_classes"))'
        in (tmp_path / "nnkit-fire" / "src" / "nnkit_fire" / "plugin.py").read_text()
    )


def test_a_neighbor_that_is_not_copied_is_told(nnkit_command, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "layers_beside.py").write_text("from torch.nn import Identity\n")
    (tmp_path / "net.py").write_text(
        "from layers_beside import Identity\n\n\nclass Net(Identity):\n    pass\n"
    )
    done = nnkit_command("plugins", "new", "mine", "--from", "net.py:Net", "--input", "x: float32[batch, 3]")
    assert done.code == 0
    assert done.err.startswith("note: net.py imports layers_beside from its folder, which isn't copied")
    assert neighbors("import os\nfrom . import a\nfrom .b import c\nimport torch.nn", tmp_path) == [
        ".a",
        ".b",
    ]


@pytest.mark.parametrize(
    "kind",
    [
        int, str, bool | None, int | str, tuple[int, ...], tuple[float, str], Literal["a", 'b"'],
        Annotated[int, Meta(ge=1, description="a “b”")], Annotated[tuple[int, ...], Meta(description="c")],
    ],
)  # fmt: skip
def test_the_source_of_a_type_is_that_type(kind):
    assert eval(type_source(kind)) == kind


@pytest.mark.parametrize("kind", [list[int], dict[str, int], object, nnkit.Dim])
def test_a_type_that_is_no_option_has_no_source(kind):
    assert type_source(kind) == ""


@pytest.mark.parametrize(
    "value", [1, 1e-5, float("inf"), 'it\'s "so"', None, True, (), (1,), (1, ("a", 2.5))]
)
def test_the_source_of_a_value_is_that_value(value):
    assert eval(value_source(value)) == value


@pytest.fixture
def hold_untouched(environment, tmp_path, tmp_path_factory, monkeypatch):
    """Write a plugin, install, check, test, summarize, export with proof and smoke-run it: not a line changed."""

    def hold(source, args, architecture):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "net.py").write_text(source)
        env = environment(True)
        assert env.run("-m", "nnkit", "plugins", "new", *args).returncode == 0
        project = tmp_path / "nnkit-mine"
        assert_clean(project)
        for name in ("NO_DEPS", "NO_INDEX"):
            monkeypatch.setenv(f"PIP_{name}", "1")
        monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # pip's way to say that there is none

        done = env.run("-m", "nnkit", "plugins", "install", "-e", "./nnkit-mine")
        assert (done.returncode, done.stdout) == (0, "mine: 1 architecture\n"), done.stderr
        cache = tmp_path_factory.getbasetemp() / "mypy"  # one for all: most of what mypy reads is torch
        types = tool("mypy", "--strict", f"--cache-dir={cache}", cwd=project)
        assert types.returncode == 0, types.stdout
        tests = env.run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project)
        assert tests.returncode == 0, tests.stdout + tests.stderr

        assert env.run("-m", "nnkit", "summary", architecture).returncode == 0
        done = env.run("-m", "nnkit", "export", architecture, "--onnx")
        assert done.returncode == 0, done.stderr
        assert "verified against the module in ONNX Runtime" in done.stdout
        assert (tmp_path / f"{architecture}.onnx").is_file()
        done = env.run("-m", "nnkit", "smoke-run", architecture)
        assert done.returncode == 0, done.stdout
        assert "failed" not in done.stdout

    return hold


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "architecture"),
    [
        (["mine", "--architecture", "my-net"], "my-net"),
        (["mine", "--from", "net.py:SmallCNN", "--input", IMAGES], "small-cnn"),
    ],
    ids=["fresh", "from-code"],
)
def test_in_ten_minutes_everything_holds_untouched(hold_untouched, args, architecture):
    hold_untouched(CNN, args, architecture)
