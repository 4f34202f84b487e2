"""A folder with a config.json is a model of the zoo that knows it."""

# ruff: noqa: F401 - fixtures are imported by name

import json

import pytest
import torch
from hub_fixtures import assert_same_tensors, config, tiny_zoo, write_folder

import nnkit
from nnkit.models import folders
from nnkit.verbs.core_handlers import plugin_manager

pytestmark = pytest.mark.usefixtures("tiny_zoo")


@pytest.mark.parametrize("form", ["whole", "shards", "pickled", "pickled shards"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folder_is_built_with_its_weights_and_in_its_dtype(tmp_path, form, dtype):
    expected = write_folder(tmp_path / "model", form, dtype)
    folder = str(tmp_path / "model")
    assert_same_tensors(nnkit.build(folder), expected)
    report = nnkit.summarize(folder)
    assert report.totals.parameters == sum(each.numel() for each in expected.parameters())
    assert nnkit.resolve(folder).name == "tiny/mlp"


def test_its_spec_is_complete_without_the_config(tmp_path):
    expected = write_folder(tmp_path / "model")
    spec = nnkit.resolve(str(tmp_path / "model"))
    (tmp_path / "model" / "config.json").unlink()
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    assert nnkit.resolve(str(tmp_path / "spec.yaml")) == spec
    assert_same_tensors(nnkit.build(str(tmp_path / "spec.yaml")), expected)


def test_options_overrule_the_config_and_random_the_weights(tmp_path, nnkit_command):
    write_folder(tmp_path / "model")
    refused = nnkit_command("summary", "./model", "--layers", "3")
    assert refused.code == 2
    assert "missing: 2.bias, 2.weight" in refused.err
    assert "--weights random" in refused.err
    shown = nnkit_command("summary", "./model", "--layers", "3", "--weights", "random", "--json")
    assert json.loads(shown.out)["totals"]["parameters"] == 3 * (8 * 8 + 8)


def test_the_name_of_an_architecture_wins_over_a_folder_of_that_name(tmp_path, nnkit_command):
    write_folder(tmp_path / "lstm")
    write_folder(tmp_path / "mine")
    assert '"architecture": "recurrent/lstm"' in nnkit_command("summary", "lstm", "--json").out
    for text in ("./lstm", "lstm/", "mine"):
        assert '"architecture": "tiny/mlp"' in nnkit_command("summary", text, "--json").out


def test_several_models_are_named_by_architecture(tmp_path, nnkit_command):
    write_folder(tmp_path / "model")
    done = nnkit_command("smoke-run", "./model", "lstm")
    assert done.code == 2
    assert "run it on its own: nnkit smoke-run ./model" in done.err


def test_a_config_without_weights_is_random_and_said(tmp_path, nnkit_command):
    write_folder(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    done = nnkit_command("summary", "./model")
    assert done.code == 0
    assert done.err == "./model has no file of weights; they are random\n"
    assert nnkit_command("summary", "./model", "-q").err == ""


DEEP = '{"model_type": ' + "[" * 100_000 + "]" * 100_000 + "}"
WRONG = {
    "no config": ({"config.json": None}, 2, "has no config.json; it has model.safetensors", "nnkit summary"),
    "nothing": ({"config.json": None, "model.safetensors": None}, 2, "it has nothing", "save_pretrained"),
    "a pipeline": ({"config.json": None, "model_index.json": "{}"}, 2, "no config.json", "one of them"),
    "broken JSON": ({"config.json": '{"model_type": '}, 2, "is not JSON", "save the model again"),
    "not text": ({"config.json": b"\xff\xfe\x00"}, 2, "is not JSON", "save"),
    "a list": ({"config.json": "[1]"}, 2, "is not a mapping", "save"),
    "deep JSON": ({"config.json": DEEP}, 2, "nested too deeply", "save"),
    "remote code": (
        {"config.json": config(auto_map={"AutoModel": "modeling_evil.Net"})}, 2,
        "needs code of its own (config.json has auto_map: modeling_evil.Net)", "file.py:Class",
    ),
    "unknown": (
        {"config.json": '{"model_type": "frob", "architectures": ["FrobModel"]}'}, 2,
        "no installed zoo knows the model of ./model (model_type 'frob', architectures ['FrobModel'])", "nnkit list",
    ),
    "no model_type": ({"config.json": '{"width": 8}'}, 2, "(neither model_type nor architecture", "nnkit list"),
    "a zoo that fails": ({"config.json": config(broken=1)}, 3, "tiny can't read ./model: KeyError", "tiny-zoo"),
    "options": ({"config.json": config(width="wide")}, 2, "--width takes integer, got 'wide'", "--width"),
    "other sizes": ({"config.json": config(width=9)}, 2, "don't fit: other shapes", "--weights random"),
    "a missing shard": (
        {"model.safetensors": None, "model.safetensors.index.json": '{"weight_map": {"0.weight": "a.safetensors"}}'},
        1, "names a.safetensors, which does not exist", "download it",
    ),
    "a shard elsewhere": (
        {"model.safetensors": None, "model.safetensors.index.json": '{"weight_map": {"0.weight": "../../x.safetensors"}}'},
        1, "it names '../../x.safetensors', which is in another folder", "again",
    ),
    "a broken index": ({"model.safetensors": None, "model.safetensors.index.json": "[]"}, 1, "not an index", "again"),
    "shards without index": (
        {"model.safetensors": None, "a.safetensors": "", "b.safetensors": ""}, 2,
        "more than one file of weights: a.safetensors, b.safetensors", "index",
    ),
    "a damaged header": ({"model.safetensors": b"\xff" * 64}, 1, "model/model.safetensors is damaged", "again"),
    "a pickle that runs code": (
        {"model.safetensors": None, "pytorch_model.bin": b"cos\nsystem\n(S'touch ran'\ntR."}, 1, "", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_folder_is_one_error_with_a_way_out(case, tmp_path, nnkit_command):
    files, code, message, hint = WRONG[case]
    write_folder(tmp_path / "model")
    for name, content in files.items():
        if content is None:
            (tmp_path / "model" / name).unlink()
        else:
            (tmp_path / "model" / name).write_bytes(
                content if isinstance(content, bytes) else content.encode()
            )
    done = nnkit_command("export", "./model", "--safetensors", "-o", "out.safetensors")
    assert (done.code, done.out) == (code, "")
    error, hinted = done.err.splitlines()
    assert error.startswith("Error: ")
    assert message in error
    assert hinted.startswith("hint: ")
    assert hint in hinted
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_a_config_that_is_too_large_is_not_read(tmp_path, nnkit_command, monkeypatch):
    monkeypatch.setattr(folders, "LARGEST_CONFIG", 10)
    write_folder(tmp_path / "model")
    done = nnkit_command("summary", "./model")
    assert done.code == 2
    assert "config.json of ./model has more than 10 bytes" in done.err


def test_a_zoo_that_is_not_installed_is_named_with_its_command(tmp_path, monkeypatch, nnkit_command):
    from dataclasses import replace

    plugin = plugin_manager().plugins["tiny"]
    absent = replace(plugin.namespaces["tiny"], package="no_such_package")
    monkeypatch.setattr(plugin, "namespaces", {"tiny": absent})
    write_folder(tmp_path / "model")
    done = nnkit_command("summary", "./model")
    assert done.code == 3
    assert "no installed zoo knows the model of ./model (model_type 'tiny-mlp')" in done.err
    assert "pip install tiny-zoo" in done.err
