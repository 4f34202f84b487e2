"""Zoos: names under a prefix, declared one by one."""

import pytest
import torch

from nnkit.contract.settings import settings_of, settings_text
from nnkit.contract.spec import make_spec
from nnkit.errors import PluginProblem, UsageProblem
from nnkit.models.building import build_module

ZOO = """
from nnkit import Architecture, DeclareRequest, Dim, Namespace, OpenField, TensorSpec, ZooName
from nnkit import hookimpl, open_config, settings_of

NNKIT_PLUGIN_API = "1.1"

@hookimpl
def nnkit_namespaces():
    return [Namespace(prefix="zoo", summary="linear layers", package="{package}", distribution="x",
                      install="pip install x", names=__name__ + ":names", declare=__name__ + ":declare")]

def names(folder):
    assert (folder / "__init__.py").is_file()
    return [ZooName(f"Net_{{width}}", "linear") for width in (4, 8)]

def declare(request):
    width = int(request.name.partition("_")[2])
    return Architecture(
        name=request.name, summary="a layer", build=__name__ + ":build",
        config=open_config("Options", {{"width": OpenField(int, width)}}),
        inputs=[TensorSpec("input", ("batch", 8))], outputs=[TensorSpec("output", ("batch", "width"))],
        dims={{"batch": Dim(default=1)}})

def build(config):
    from torch import nn
    return nn.Linear(8, config.width, **settings_of(config))
"""


@pytest.mark.usefixtures("fresh_plugins")
def test_a_member_is_built_with_its_typed_options_and_with_settings(plugins_from):
    manager = plugins_from(zoo_plugin=ZOO.format(package="json"))
    plugin, architecture = manager.find("zoo/Net_4")
    assert (plugin, architecture.family) == ("zoo_plugin", "linear")
    spec = make_spec(architecture, plugin, options={"width": 3, "set": {"bias": False}})
    assert spec.name == "zoo/Net_4"
    assert spec.typed == ("zoo/Net_4", "--width", "3", "--set", "bias=false")
    module = build_module(spec, manager)
    assert [tuple(each.shape) for each in module.parameters()] == [(3, 8)]
    assert torch.equal(module(torch.zeros(2, 8)), torch.zeros(2, 3))
    again = make_spec(architecture, plugin, base=spec.to_dict())
    assert again == spec
    assert hash(again.config) == hash(spec.config)


@pytest.mark.usefixtures("fresh_plugins")
def test_an_unknown_member_is_told_with_the_nearest_one(plugins_from):
    manager = plugins_from(zoo=ZOO.format(package="json"))
    with pytest.raises(UsageProblem, match="unknown architecture 'zoo/Net_5'") as caught:
        manager.find("zoo/Net_5")
    assert "zoo/Net_4" in caught.value.hint


@pytest.mark.usefixtures("fresh_plugins")
def test_a_zoo_whose_package_is_missing_says_how_to_install_it(plugins_from):
    manager = plugins_from(zoo=ZOO.format(package="no_such_package"))
    with pytest.raises(PluginProblem, match="zoo/Net_4 needs the package no_such_package") as caught:
        manager.find("zoo/Net_4")
    assert "pip install x" in caught.value.hint


def test_settings_read_back_as_they_were():
    settings = {
        "a": 1,
        "b": "text",
        "c": "1",
        "d": None,
        "e": [1, "2"],
        "f": True,
        "g.h": {"k": 0.5},
        "i": "no",
    }

    class Config:
        set = settings_text(settings)

    assert settings_of(Config()) == settings
    Config.set = ("a=1", "a=2")
    with pytest.raises(UsageProblem, match="--set a is given twice"):
        settings_of(Config())
