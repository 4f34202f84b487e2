"""Installed for real: a stranger's plugin, and the wheel of nnkit itself."""

import ast
import json
import subprocess
import sys

import pytest
from conftest import ROOT

PERCEPTRON = ROOT / "examples" / "nnkit-perceptron"


@pytest.mark.slow
def test_a_third_party_plugin_is_found_and_serves_every_verb(environment, tmp_path):
    env = environment(True)
    assert "  perceptron " not in env.run("-m", "nnkit", "list").stdout
    env.install(str(PERCEPTRON))

    assert "  perceptron " in env.run("-m", "nnkit", "list").stdout
    summary = env.run("-m", "nnkit", "summary", "perceptron", "--hidden-sizes", "512,512", "--json")
    assert json.loads(summary.stdout)["totals"]["parameters"] == 669_706  # 784-512-512-10

    tests = env.run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(PERCEPTRON / "tests"), cwd=tmp_path)
    assert tests.returncode == 0, tests.stdout + tests.stderr


def test_the_wheel_holds_the_plugins_and_runs(environment, tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(ROOT)], check=True, capture_output=True)
    env = environment(False)
    env.install(str(next(tmp_path.glob("nnkit-*.whl"))))

    where = env.run("-c", "import nnkit; print(nnkit.__file__)", cwd=tmp_path).stdout
    assert str(tmp_path) in where
    new = env.run("-m", "nnkit", "plugins", "new", "mine", "--architecture", "my-net", cwd=tmp_path)
    assert (new.returncode, len(new.stdout.splitlines())) == (0, 9), new.stderr
    summary = env.run("-m", "nnkit", "summary", "resnet18", "--json", cwd=tmp_path)
    assert json.loads(summary.stdout)["totals"]["parameters"] == 11_181_642
    assert summary.stderr == ""
    listed = env.run("-m", "nnkit", "list", "mlp/", "--max-params", "1M", "--json", cwd=tmp_path).stdout
    assert [each["parameters"] for each in json.loads(listed)["architectures"]] == [669_706]
    schemas = env.run("-c", "import nnkit.schemas; print(nnkit.schemas.names())", cwd=tmp_path).stdout
    assert {"summary", "export", "smoke-run", "plugins-check"} <= set(ast.literal_eval(schemas))
