"""The half of nnkit that needs no torch, on the oldest and the newest other Python of this machine."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Environment

sys.path.insert(0, str(ROOT / "tests" / "plugins_that_hurt"))
from table import BAD, write_wheel

OLDEST = 10
LIGHT = ["click", "pluggy", "msgspec", "pyyaml", "tomli"]


def interpreters():
    """Return the other supported Pythons on PATH and of pyenv, by minor version."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = {}
    for minor in range(OLDEST, 20):
        # A shim of pyenv's is there for every version, and works for those alone that are chosen.
        on_path = [each for each in [shutil.which(f"python3.{minor}")] if each and pyenv.name not in each]
        candidates = [*on_path, *sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python"))]
        if candidates and minor != sys.version_info.minor:
            found[minor] = str(candidates[0])
    return found


FOUND = interpreters()
NONE = f"no python3.{OLDEST} or later but this one, on PATH or in ~/.pyenv/versions"
ENDS = sorted({min(FOUND), max(FOUND)}) if FOUND else [pytest.param(0, marks=pytest.mark.skip(reason=NONE))]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True, capture_output=True)
    return next(folder.glob("nnkit-*.whl"))


@pytest.mark.slow
@pytest.mark.parametrize("minor", ENDS)
def test_looking_around_works_there(minor, wheel, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    folder = tmp_path / "environment"
    subprocess.run([FOUND[minor], "-m", "venv", "--without-pip", str(folder)], check=True)
    env = Environment(folder / "bin" / "python")
    try:
        env.install(*LIGHT)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no package index: {error.stderr.strip().splitlines()[-1]}")
    # On Python 3.10 pip reads entry points by pkg_resources, which refuses two of one name.
    bad = {name: each for name, each in BAD.items() if name != "twice" or minor > 10}
    env.install("--no-index", str(wheel), *(str(write_wheel(tmp_path, *each)) for each in bad.items()))

    def nnkit(*args):
        done = env.run("-W", "error", "-m", "nnkit", *args, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done

    assert f"3.{minor}." in env.run("--version").stdout
    listed = nnkit("list", "--json")
    names = {each["name"] for each in json.loads(listed.stdout)["architectures"]}
    working = {f"{name}-net" for name, each in bad.items() if each.works and name != "heavy"}
    assert names >= {"resnet18", "gcn", *working}
    told = {name for name, each in bad.items() if each.told} | {"heavy"}  # there is no numpy
    assert {name for name in bad if f"(nnkit-{name})" in listed.stderr} == told

    (tmp_path / "nnkit.toml").write_text('plugins = ["graph"]')
    assert "Kipf" in nnkit("info", "gcn").stdout
    assert "switched off" in nnkit("plugins").stdout
    assert nnkit("plugins", "--time").stdout.splitlines()[1].startswith("graph ")
    assert json.loads(nnkit("config", "--json").stdout)["settings"][0]["value"] == ["graph"]
    assert "Options of gcn" in nnkit("summary", "gcn", "--help").stdout
    assert nnkit("--help").stdout.startswith("Usage: nnkit")
