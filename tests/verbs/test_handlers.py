"""core_handlers.py: the order of handlers and wrappers, and plugins' commands, with real plugins."""

import json

import pytest
from conftest import ROOT

SCRIPT = """
import json, nnkit
print(json.dumps({name: nnkit.build(name).made_by for name in ("self-served", "hooked", "plain")}))
"""


@pytest.fixture
def env(environment):
    env = environment(True)
    env.install(str(ROOT / "tests" / "distributions" / "nnkit-order"))
    return env


def test_the_architecture_comes_first_then_the_plugin_then_core_and_wrappers_around(env):
    done = env.run("-c", SCRIPT)
    assert json.loads(done.stdout) == {
        "self-served": ["architecture", "wrapper"],
        "hooked": ["hook", "wrapper"],
        "plain": ["core", "wrapper"],
    }, done.stderr

    # A wrapper surrounds what other plugins declare, too; nothing of that makes a command fail.
    built = env.run("-m", "nnkit", "build", "simple-cnn", "--json")
    assert json.loads(built.stdout)["parameters"] == 545_098
    info = env.run("-m", "nnkit", "info", "self-served").stdout
    assert "build      nnkit_order:by_architecture (wrapped by order-wrapper)" in info

    assert env.run("-m", "nnkit", "hello").stdout == "hello from a plugin\n"
    broken = env.run("-m", "nnkit", "broken-hello")
    assert broken.returncode == 3
    assert broken.stderr.startswith("Error: the command broken-hello of nnkit-order can't be loaded")
    assert "command hello, from nnkit-order" in env.run("-m", "nnkit", "plugins").stdout
