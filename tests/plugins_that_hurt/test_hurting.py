"""Bad plugins, really installed, one by one and all at once: nobody else is hurt, and the fault is told."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from conftest import ROOT, Environment, make_environment
from table import BAD, Bad, write_wheel

TOLD = {name: bad for name, bad in BAD.items() if bad.told}

ALONE = """
import json, os, sys, tempfile
import nnkit.cli.list
from nnkit.cli.main import main
done = {}
for name in sys.argv[1:]:
    files = [tempfile.TemporaryFile() for _ in range(2)]
    child = os.fork()
    if not child:
        os.environ["NNKIT_PLUGINS"] = f"sound,nnkit-{name}"
        for stream, file in enumerate(files, start=1):
            os.dup2(file.fileno(), stream)
        main(["list", "--json"])
    _, status = os.waitpid(child, 0)
    [file.seek(0) for file in files]
    done[name] = [os.waitstatus_to_exitcode(status), *(file.read().decode() for file in files)]
print(json.dumps(done))
"""
"""Runs `nnkit list --json` for each bad plugin with the sound one, each in a process of its own."""


class Installed:
    """An environment with a sound plugin and all the bad ones; a command sees those that it is to see."""

    def __init__(self, env: Environment) -> None:
        self.env = env

    def run(self, *args, only=None, **variables):
        """Run nnkit; `only` are the plugins besides the sound one, all where it is None."""
        allowed = {} if only is None else {"NNKIT_PLUGINS": ",".join(["sound", *only])}
        return subprocess.run(
            [str(self.env.python), "-m", "nnkit", *args],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **allowed, **variables},
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hurting")
    env = make_environment(folder / "environment")
    wheels = [write_wheel(folder, name, bad) for name, bad in {**BAD, "sound": Bad()}.items()]
    # One name of a plugin and of an architecture in two distributions.
    twin = "twin = hurt_NAME"
    wheels += [write_wheel(folder, name, Bad(points=(twin,))) for name in ("left", "right")]
    env.install("--no-index", *map(str, wheels))
    return Installed(env)


@pytest.fixture(scope="module")
def alone(installed):
    done = installed.env.run("-c", ALONE, *BAD)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", BAD)
def test_one_line_tells_the_fault_its_distribution_and_stage_and_the_way_out(alone, name):
    code, out, err = alone[name]
    names = {each["name"] for each in json.loads(out)["architectures"]}
    assert "sound-net" in names
    assert (f"{name}-net" in names) == BAD[name].works
    assert code == 0
    if name not in TOLD:  # what shows in use alone is listed without a word
        assert err == ""
        return
    stage, message = BAD[name].told
    (line,) = err.splitlines()
    plugin = {"spacedpoint": "my plugin", "slashedpoint": "my/plugin"}.get(name, name)
    assert re.match(f"warning: plugin {plugin} \\(nnkit-{name}\\) (failed|misbehaves) at {stage}: ", line)
    assert message in line
    upgraded = "nnkit" if name == "newer" else f"nnkit-{name}"
    assert f"; pip install --upgrade {upgraded}, or leave the plugin out: NNKIT_DISABLE_PLUGINS=" in line


def test_all_at_once_every_sound_plugin_works_and_every_fault_is_told(installed):
    done = installed.run("list", "--json")
    found = {(each["plugin"], each["name"]) for each in json.loads(done.stdout)["architectures"]}
    assert found >= {("sound", "sound-net"), ("vision", "resnet18"), ("graph", "gcn")}
    working = {name for name, bad in BAD.items() if bad.works}
    assert {f"{name}-net" for name in working} <= {name for _, name in found}
    assert {("nnkit-left:twin", "left-net"), ("nnkit-right:twin", "right-net")} <= found
    told = [re.search(r"\((nnkit-\w+)\)", line)[1] for line in done.stderr.splitlines()]
    assert sorted(told) == sorted(f"nnkit-{name}" for name in TOLD)


def test_all_at_once_plugins_shows_each_and_its_traceback_with_v(installed):
    done = installed.run("plugins")
    assert (done.returncode, done.stderr) == (0, "")
    for name, bad in TOLD.items():
        said = f"plugin .* \\(nnkit-{name}\\) .* at {bad.told[0]}: .*{re.escape(bad.told[1])}"
        assert re.search(said, done.stdout), name
    assert re.search("^heavy .* imports numpy", done.stdout, re.MULTILINE)
    assert re.search("^sleeping .* slow to import", done.stdout, re.MULTILINE)
    assert "Traceback" not in done.stdout
    assert "hurt_importing.py" in installed.run("plugins", "-v", only=["importing"]).stdout

    data = json.loads(installed.run("plugins", "--json").stdout)
    schema = json.loads((ROOT / "nnkit" / "schemas" / "plugins.json").read_text())
    jsonschema.validate(data, schema, cls=jsonschema.Draft202012Validator)
    failed = {each["distribution"] for each in data["plugins"] if each["failures"]}
    assert failed == {f"nnkit-{name}" for name in TOLD}


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["config"], ["summary", "--help"]])
def test_all_at_once_what_needs_no_plugin_says_nothing_of_them(installed, args):
    done = installed.run(*args)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_time_names_what_is_slow_and_heavy_and_waits_for_nobody_else(installed):
    chosen = ["heavy", "sleeping", "importing"]
    data = json.loads(installed.run("plugins", "--time", "--json", only=chosen).stdout)
    schema = json.loads((ROOT / "nnkit" / "schemas" / "plugins-time.json").read_text())
    jsonschema.validate(data, schema, cls=jsonschema.Draft202012Validator)
    starts = {each["plugin"]: each for each in data["plugins"]}
    assert set(starts) == {*chosen, "sound"}
    assert starts["sleeping"]["seconds"] >= 0.6
    assert starts["heavy"]["heavy"] == ["numpy"]
    assert starts["heavy"]["modules"] > starts["sound"]["modules"] >= 1
    assert starts["importing"]["error"] == "ImportError"
    text = installed.run("plugins", "--time", NNKIT_PLUGINS="heavy,sleeping").stdout
    assert re.search(r"^sleeping +nnkit-sleeping +\d+ +\d+  slow$", text, re.MULTILINE)
    assert re.search(r"^heavy .*  imports numpy", text, re.MULTILINE)


def test_a_broken_plugin_that_is_asked_for_ends_with_3(installed):
    done = installed.run("info", "importing/any", only=["importing"])
    error, hint = done.stderr.splitlines()[-2:]
    assert error.startswith("Error: plugin importing (nnkit-importing) failed at import: ImportError")
    assert hint.startswith("hint: pip install --upgrade nnkit-importing, or leave the plugin out")
    assert done.returncode == 3


def test_a_plugin_that_only_misbehaves_lacks_a_name_as_any_other(installed):
    done = installed.run("info", "printing/printing-nett", only=["printing"])
    assert done.returncode == 2
    assert "Error: unknown architecture 'printing/printing-nett'" in done.stderr
    assert "did you mean printing/printing-net" in done.stderr


def test_the_way_out_leads_out(installed):
    done = installed.run("list", "--json", only=["importing"], NNKIT_DISABLE_PLUGINS="importing")
    assert (done.returncode, done.stderr) == (0, "")


IN_USE = {
    "unbuildable": ["building unbuildable/unbuildable-net failed: ValueError: no", "plugin unbuildable (nnkit-unbuildable)"],
    "quitting": ["building quitting/quitting-net failed: SystemExit: 5", "plugin quitting (nnkit-quitting)"],
    "moduleless": ["returned int, not a torch.nn.Module", "plugin moduleless (nnkit-moduleless)"],
    "mismatched": ["shapes cannot be multiplied", "plugin mismatched declares x: float[batch, 7], on which its own forward fails"],
    "incomplete": ["can't load hurt_incomplete_model:Net: No module named 'not_there'", "pip install not-there"],
    "brokenmodel": ["can't load hurt_brokenmodel_model:Net: SyntaxError", "see the full error with -v"],
    "requiring": ["requiring-net needs the package not_there", "install it: pip install not-there"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_USE)
def test_a_model_that_does_wrong_is_one_error_of_its_plugin(installed, name):
    verbs = [["summary"], ["build"], ["export", "--onnx", "-o", "never.onnx"], ["smoke-run"]]
    for verb in verbs if name == "mismatched" else verbs[:1]:
        if verb == ["build"]:
            continue  # it runs no forward
        done = installed.run(verb[0], f"{name}-net", *verb[1:], only=[name])
        error, hint, *more = done.stderr.splitlines()
        assert error.startswith("Error: ")
        assert IN_USE[name][0] in error
        assert IN_USE[name][1] in hint
        assert (done.returncode, more) == (3, [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [("intruding", "failed at nnkit_build: RuntimeError: not mine"), ("wrapping", "failed at nnkit_build: RuntimeError: too late")],
)  # fmt: skip
def test_a_hook_that_fails_on_another_s_architecture_is_told_and_harms_it_not(installed, name, message):
    done = installed.run("summary", "sound-net", "--json", only=[name])
    assert json.loads(done.stdout)["totals"]["parameters"] == 4 * 2 + 2
    assert message in done.stderr.splitlines()[0]
    assert done.returncode == 0


@pytest.mark.slow
def test_a_model_that_prints_leaves_stdout_to_the_report(installed):
    done = installed.run("summary", "chatting-net", "--json", only=["chatting"])
    assert json.loads(done.stdout)["totals"]["parameters"] == 4 * 2 + 2
    assert set(done.stderr.splitlines()) == {"forward"}


@pytest.mark.slow
def test_all_at_once_a_sound_model_is_summarised_and_the_doctor_is_well(installed):
    done = installed.run("summary", "sound-net", "--json")
    assert json.loads(done.stdout)["totals"]["parameters"] == 4 * 2 + 2
    doctor = installed.run("doctor", "--json")
    assert doctor.returncode == 0
    failures = json.loads(doctor.stdout)["failures"]
    assert all(any(f"(nnkit-{name})" in line for line in failures) for name in TOLD)


SHOUTING = """
import atexit, os, subprocess
os.write(1, b"from C\\n")
subprocess.run(["echo", "from a child"])
atexit.register(print, "bye")
NNKIT_PLUGIN_API = "1.0"
"""


def test_what_a_plugin_writes_below_python_or_at_exit_leaves_stdout_to_the_json(tmp_path):
    write_plugin(tmp_path, SHOUTING)
    done = run_with(tmp_path, "list", "--json")
    assert {each["plugin"] for each in json.loads(done.stdout)["architectures"]} >= {"vision", "graph"}
    assert {"from C", "from a child", "bye"} <= set(done.stderr.splitlines())


DAMAGED = {
    "no METADATA": (None, b"[nnkit]\nhurt = os\n", "plugin hurt", "it has no Name"),
    "no name": (b"Metadata-Version: 2.1\n", b"[nnkit]\nhurt = os\n", "plugin hurt", "it has no Name"),
    "metadata of bytes": (b"\xff\xfe\0", b"[nnkit]\nhurt = os\n", "plugin hurt", "can't decode byte 0xff"),
    "points of bytes": (b"Metadata-Version: 2.1\nName: hurt\n", b"\xff[nnkit]", "hurt-1.0.dist-info", "entry_points.txt"),
    "a point without a value": (b"Metadata-Version: 2.1\nName: hurt\n", b"[nnkit]\nhurt\n", "hurt-1.0.dist-info", "entry_points.txt"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_a_distribution_with_damaged_metadata_is_one_warning_and_harms_no_command(tmp_path, case):
    metadata, points, name, reason = DAMAGED[case]
    info = write_plugin(tmp_path, "")
    (info / "entry_points.txt").write_bytes(points)
    (info / "METADATA").unlink()
    if metadata is not None:
        (info / "METADATA").write_bytes(metadata)
    for command in (["list", "--json"], ["plugins", "--json"], ["plugins", "freeze"], ["info", "gcn"]):
        done = run_with(tmp_path, *command)
        assert (done.returncode, bool(done.stdout)) == (0, command[-1] != "freeze"), done.stderr
        warnings = done.stderr.splitlines()
        if command[0] != "plugins":
            (warning,) = warnings
            assert name in warning
            assert reason in warning
            assert warning.endswith(f"reinstall it, or delete {info}")
    shown = run_with(tmp_path, "plugins").stdout
    assert reason in shown
    assert str(info) in shown


def test_text_of_a_plugin_that_no_encoding_takes_is_shown_escaped(installed):
    assert r"half a pair: \ud800" in installed.run("list", only=["halved"]).stdout
    rows = json.loads(installed.run("list", "--json", only=["halved"]).stdout)["architectures"]
    assert "half a pair: \ud800" in [row["summary"] for row in rows]


def write_plugin(folder: Path, source: str) -> Path:
    """Write a plugin `hurt` as if it were installed in `folder`, and return the folder of its metadata."""
    info = folder / "hurt-1.0.dist-info"
    info.mkdir()
    (folder / "hurt.py").write_text(source)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hurt\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nnkit]\nhurt = hurt\n")
    return info


def run_with(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run nnkit with what is installed in `folder` beside the rest."""
    command = [sys.executable, "-m", "nnkit", *args]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
