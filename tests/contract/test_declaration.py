"""architecture.py, config.py and spec.py: what is declared, what is typed, and what comes of both."""

import json
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import click
import pytest
import yaml

import nnkit
from nnkit import Architecture, Dim, Meta, Preset, TensorSpec
from nnkit.cli import main as cli_main
from nnkit.contract.config import RESERVED, config_values, make_config, options_of
from nnkit.contract.spec import make_spec
from nnkit.errors import UsageProblem
from nnkit.models.references import look_up
from nnkit.verbs.core_handlers import plugin_manager


@dataclass(frozen=True, kw_only=True)
class Config:
    width: Annotated[int, Meta(ge=1, description="units")] = 16
    rate: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    mode: Literal["tanh", "relu"] = "tanh"
    bias: bool = True
    sizes: tuple[int, ...] = (1, 2)
    limit: int | None = None
    norm: Literal["none", "layer"] = "layer"


def test_text_is_converted_as_its_field_says():
    typed = {
        "width": "8",
        "rate": "0.25",
        "mode": "relu",
        "bias": "false",
        "sizes": "3,4",
        "limit": "none",
        "norm": "none",
    }
    config = make_config(Config, typed)
    assert config == Config(
        width=8, rate=0.25, mode="relu", bias=False, sizes=(3, 4), limit=None, norm="none"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": "0"}, "--width takes integer >= 1, got '0'"),
        ({"width": "many"}, "--width takes integer >= 1, got 'many'"),
        ({"width": 1.5}, "--width takes integer >= 1, got 1.5"),
        ({"width": True}, "--width takes integer >= 1, got True"),
        ({"rate": "1"}, "--rate takes number >= 0 and < 1, got '1'"),
        ({"mode": "tan"}, "--mode takes one of tanh, relu, got 'tan'"),
        ({"sizes": "3,x"}, "--sizes takes integer,…, got '3,x'"),
    ],
)
def test_a_value_of_the_wrong_type_or_out_of_range_is_refused(values, message):
    # Literal's values come in the order that msgspec sorts them.
    with pytest.raises(UsageProblem) as raised:
        make_config(Config, values)
    said = raised.value.message.removeprefix("option ")
    assert said in (message, message.replace("tanh, relu", "relu, tanh"))


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UsageProblem) as raised:
        make_config(Config, {"widht": 3})
    assert raised.value.hint == "did you mean width?"


def test_the_values_of_a_config_are_equal_when_read_from_json():
    """A file is held against its spec so: a tuple in it would make every such export fail."""
    values = config_values(Config())
    assert json.loads(json.dumps(values)) == values
    assert make_config(Config, values) == Config()


def test_a_field_without_a_default_is_refused():
    @dataclass(frozen=True, kw_only=True)
    class Bad:
        width: int

    with pytest.raises(TypeError, match="width of Bad has no default"):
        options_of(Bad)


def test_every_core_option_is_reserved():
    group = cli_main.cli
    ctx = click.Context(group)
    for name in {*group.list_commands(ctx)} - {
        "config",
        "doctor",
        "list",
        "plugins",
    }:  # they take none of a model
        command = group.get_command(ctx, name)
        flags = [flag for each in command.params for flag in (*each.opts, *each.secondary_opts)]
        long = {flag[2:].removeprefix("no-").replace("-", "_") for flag in flags if flag.startswith("--")}
        assert long <= RESERVED, name


@pytest.mark.parametrize(
    ("size", "problem"),
    [(0, "at least 2"), (3, "multiple of 2"), (10, "at most 8"), (4, "")],
)
def test_a_dim_says_what_is_wrong_with_a_size(size, problem):
    said = Dim(default=4, min=2, max=8, multiple_of=2).problem_with(size)
    assert problem in said
    assert bool(said) == bool(problem)


def test_a_dim_refuses_a_default_that_it_does_not_allow():
    with pytest.raises(ValueError, match="at least 1"):
        Dim(default=0)


def graph(config):
    if config.mode == "relu":
        return [TensorSpec("matrix", ("nodes", "nodes"))]
    return [TensorSpec("x", ("nodes", "width")), TensorSpec("edges", (2, "edges"), "int64", "index", "nodes")]


GRAPH = Architecture(
    name="graph",
    summary="",
    build="somewhere:Graph",
    config=Config,
    inputs=graph,
    outputs=[TensorSpec("y", ("nodes", "width"))],
    dims={"nodes": Dim(default=5), "edges": Dim(default=9, min=0), "unused": Dim(default=1)},
    presets={"big": Preset(config={"width": 64}, sizes={"nodes": 100, "edges": 500})},
)


def test_only_the_dims_that_the_inputs_use_have_sizes():
    assert make_spec(GRAPH).sizes == {"nodes": 5, "edges": 9}
    assert make_spec(GRAPH, options={"mode": "relu"}).sizes == {"nodes": 5}


def test_options_stand_above_the_preset_and_the_preset_above_the_file():
    base = {"config": {"width": 3, "rate": 0.1}, "sizes": {"nodes": 7}, "seed": 4}
    spec = make_spec(GRAPH, base=base, preset="big", options={"edges": "20", "seed": 5})
    assert (spec.config.width, spec.config.rate) == (64, 0.1)
    assert spec.sizes == {"nodes": 100, "edges": 20}
    assert spec.seed == 5


def test_shapes_name_dims_and_config_fields():
    spec = make_spec(GRAPH, preset="big")
    assert [spec.shape(tensor) for tensor in spec.inputs] == [(100, 64), (2, 500)]
    assert spec.shape(spec.outputs[0], {"nodes": 3}) == (3, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edges": -1}, "size --edges of graph must be at least 0, got -1"),
        ({"edges": "two"}, "size --edges takes an integer, got 'two'"),
        ({"mode": "relu", "edges": 3}, "graph has no dim 'edges' under these options"),
        ({"unused": 3}, "graph has no dim 'unused' under these options"),
        ({"nodez": 3}, "graph has no option 'nodez'"),
        ({"dtype": "float8"}, "unknown dtype 'float8'"),
    ],
)
def test_what_can_not_be_is_refused(options, message):
    with pytest.raises(UsageProblem) as raised:
        make_spec(GRAPH, options=options)
    assert raised.value.message == message
    assert raised.value.hint


def test_an_unknown_preset_gets_the_nearest():
    with pytest.raises(UsageProblem) as raised:
        make_spec(GRAPH, preset="bigg")
    assert raised.value.hint == "did you mean big?"


@pytest.mark.parametrize("name", sorted(plugin_manager().architectures()))
def test_every_spec_survives_yaml_exactly(name, tmp_path):
    reference = look_up(name, plugin_manager())
    for preset in (None, *reference.architecture.presets):
        spec = reference.resolve(preset, {"seed": 3, "dtype": "float64"})
        file = tmp_path / "spec.yaml"
        file.write_text(spec.to_yaml())
        assert look_up(str(file), plugin_manager()).resolve() == spec
        assert yaml.safe_load(spec.to_yaml())["architecture"] == name


@pytest.mark.parametrize(
    ("reference", "options"),
    [
        ("resnet18", {}),
        ("vision/resnet18", {"num_classes": 7, "batch": 3, "seed": 5, "dtype": "bfloat16"}),
        ("lstm", {"bidirectional": True, "weights": "a file.pt", "strict": False}),
    ],
)
def test_a_spec_is_found_again_by_the_words_that_stand_for_it(reference, options, monkeypatch):
    spec = nnkit.resolve(reference, **options)
    found = []
    monkeypatch.setattr("nnkit.api.smoke_run", lambda spec, **_: found.append(spec) or sys.exit(0))
    with pytest.raises(SystemExit):
        cli_main.main(["smoke-run", *spec.typed])
    assert found == [spec]


def test_code_of_the_users_own_is_found_again_by_its_words(tmp_path):
    file = tmp_path / "net.py"
    file.write_text("import torch\n\ndef net(width: int = 3):\n    return torch.nn.Linear(width, 2)\n")
    architecture = look_up(f"{file}:net", plugin_manager(), ["x: float32[batch, 3]"])
    spec = architecture.resolve(None, {"width": "4", "batch": 2})
    words = (f"{file}:net", "--input", "x: float32[batch, 3]", "--width", "4", "--batch", "2")
    assert spec.typed == words
