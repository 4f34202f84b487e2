"""A config that is named by a string: imported when its architecture is asked for, and checked then."""

import copy
import json
from dataclasses import replace

import pytest
from conftest import python

from nnkit.contract.architecture import Architecture
from nnkit.errors import PluginProblem

PLUGIN = """
from nnkit import Architecture, Dim, TensorSpec, hookimpl

NNKIT_PLUGIN_API = "1.1"

def net(name, config):
    return Architecture(
        name=name, summary="A net", build="builtins:dict", config=config,
        inputs=[TensorSpec("x", ("batch", "width"))], outputs=[TensorSpec("y", ("batch", "width"))],
        dims={{"batch": Dim(default=1)}},
    )

@hookimpl
def nnkit_architectures():
    return [net({name!r}, {config!r}), net("other", "named_config_good:Config")]
"""
CONFIG = """
from dataclasses import dataclass
from typing import Annotated
from nnkit import Meta

@dataclass(frozen=True, kw_only=True)
class Config:
    width: Annotated[int, Meta(ge=1, description="units")] = 8
"""
CONFIGS = {
    "good": CONFIG,
    "hiding": CONFIG + "    seed: int = 0\n",
    "shapeless": CONFIG.replace("width", "units"),
    "raising": "raise RuntimeError('no luck')",
    "exiting": "raise SystemExit(3)",
    "printing": "print('hello')\n" + CONFIG,
    "replacing": "import json\njson.dumps = None\n" + CONFIG,
    "plain": "class Config: pass",
}
WRONG = {
    "hiding": "option 'seed' would hide the core option --seed",
    "shapeless": "a shape names 'width', which is neither a dim nor a config field",
    "raising": "can't load named_config_raising:Config: RuntimeError: no luck",
    "exiting": "can't load named_config_exiting:Config: SystemExit: 3",
    "plain": "config Config is not a dataclass",
    "absent": "can't load named_config_absent:Config: No module named 'named_config_absent'",
}


@pytest.fixture
def manager(plugins_from, tmp_path):
    """Make a manager of a plugin whose first architecture has the config of that name."""
    for name, source in CONFIGS.items():
        (tmp_path / f"named_config_{name}.py").write_text(source)
    return lambda name: plugins_from(net=PLUGIN.format(name="net", config=f"named_config_{name}:Config"))


def test_it_is_imported_when_it_is_read(manager):
    architecture = manager("good").architectures()["net/net"]
    copies = [copy.copy(architecture), architecture]
    assert all(each.awaits_config for each in copies)
    assert [each.config.__name__ for each in copies] == ["Config", "Config"]
    assert not architecture.awaits_config
    assert replace(architecture, name="second").config is architecture.config
    assert architecture.dims_for(architecture.config()).keys() == {"batch"}


def test_an_architecture_needs_a_config():
    with pytest.raises(TypeError, match="config"):
        Architecture(name="net", summary="", build="a:b", inputs=(), outputs=())


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found_when_somebody_asks_for_it(name, manager):
    plugins = manager(name)
    assert not plugins.failures
    for _ in range(2):
        with pytest.raises(PluginProblem) as caught:
            plugins.find("net")
        assert caught.value.message.startswith(f"net/net is declared wrongly: {WRONG[name]}")
    assert plugins.find("other")[1].name == "other"


@pytest.mark.parametrize("name", WRONG)
def test_who_asks_for_all_gets_the_others(name, manager):
    plugins = manager(name)
    plugins.check_all()
    assert list(plugins.architectures()) == ["net/other"]
    (failure,) = plugins.failures
    assert (failure.stage, failure.harmless) == ("registration", False)
    assert failure.message.startswith(f"architecture 'net': {WRONG[name]}")


@pytest.mark.parametrize(
    ("name", "fault"),
    [("printing", "it prints to stdout, which is for results: 'hello'"), ("replacing", "it replaces json.dumps, which was put back")],
)  # fmt: skip
def test_its_module_is_guarded_as_that_of_the_plugin(name, fault, manager, capsys):
    plugins = manager(name)
    plugins.find("net")
    assert [failure.message for failure in plugins.failures] == [fault]
    assert capsys.readouterr().out == ""
    assert json.dumps(1) == "1"


def test_the_wrong_name_of_an_architecture_is_found_at_once(plugins_from):
    plugins = plugins_from(net=PLUGIN.format(name="Net_1", config="named_config_absent:Config"))
    assert [failure.stage for failure in plugins.failures] == ["registration"]


def test_list_imports_no_config_and_info_only_its_own():
    code = "import sys\nfrom nnkit.cli.main import main\ntry: main({!r})\nexcept SystemExit: pass\nprint(*sys.modules, file=sys.stderr)"
    for command, expected in ((["list"], set()), (["info", "gcn"], {"nnkit_graph.configs"})):
        modules = set(python("-c", code.format(command)).stderr.split())
        assert {name for name in modules if name.endswith(".configs")} == expected
        assert ("msgspec" in modules) == bool(expected)
