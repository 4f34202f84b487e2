"""The choice of optional inputs, written to a file by `build --spec`, holds in every command."""

import json
import sys

import pytest
from conftest import ROOT

STUDIO = ROOT / "tests" / "distributions" / "nnkit-studio"


@pytest.fixture
def studio(tmp_path_factory, monkeypatch, fresh_plugins):
    """Install the plugin of ten networks for this test."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / "nnkit_studio-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nnkit-studio\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nnkit]\nstudio = nnkit_studio.plugin\n")
    for path in (folder, STUDIO):
        monkeypatch.syspath_prepend(str(path))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "nnkit_studio"]:
        del sys.modules[name]


@pytest.mark.usefixtures("studio")
def test_a_file_keeps_the_choice_in_every_command(nnkit_command, tmp_path):
    def run(*words):
        done = nnkit_command(*words)
        assert done.code == 0, done.err
        return done.out

    text = run("build", "studio/gpt", "--without", "cache", "--time", "4", "--spec")
    assert "without:\n- cache\n- mask\n" in text
    (tmp_path / "gpt.yaml").write_text(text)
    assert run("build", "gpt.yaml", "--spec") == text

    report = json.loads(run("summary", "gpt.yaml", "--json"))
    assert report["spec"]["without"] == ["cache", "mask"]
    assert [part["name"] for part in report["inputs"]] == ["tokens"]
    assert [(each["input"], each["given"]) for each in report["variants"]] == [
        ("cache", True),
        ("mask", True),
    ]
    report = json.loads(run("summary", "gpt.yaml", "--with", "cache", "--json"))
    assert (report["spec"]["without"], report["spec"]["sizes"]["past"]) == (["mask"], 10)

    assert json.loads(run("compare", "gpt.yaml", "gpt.yaml", "--json"))["equal"]
    changed = nnkit_command(
        "compare", "gpt.yaml", "studio/gpt", "--left.with", "mask", "--exit-code", "--json"
    )
    assert changed.code == 1
    assert json.loads(changed.out)["models"][0]["spec"]["without"] == ["cache"]
    bench = json.loads(run("bench", "gpt.yaml", "--rounds", "1", "--no-training", "--threads", "1", "--json"))
    assert bench["models"][0]["spec"]["without"] == ["cache", "mask"]

    run("export", "gpt.yaml", "--safetensors", "-o", "gpt.safetensors")
    report = json.loads(run("summary", "gpt.safetensors", "--json"))
    assert report["spec"]["without"] == ["cache", "mask"]
    report = json.loads(run("smoke-run", "gpt.yaml", "--check", "shapes", "--json"))
    assert (report["passed"], report["spec"]["without"]) == (True, ["cache", "mask"])


@pytest.mark.usefixtures("studio")
@pytest.mark.parametrize("command", ["compare", "bench"])
def test_an_input_that_no_model_has_is_refused(nnkit_command, command):
    done = nnkit_command(command, "studio/gpt", "studio/wavenet", "--without", "maks")
    assert (done.code, done.err.splitlines()) == (
        2,
        ["Error: gpt has no optional input 'maks'", "hint: did you mean mask?"],
    )


@pytest.mark.usefixtures("studio")
def test_a_choice_applies_to_the_models_that_have_the_input(nnkit_command):
    words = ("compare", "studio/gpt", "studio/wavenet", "--without", "speaker", "--json")
    models = json.loads(nnkit_command(*words).out)["models"]
    assert [model["spec"]["without"] for model in models] == [["mask"], ["speaker"]]
