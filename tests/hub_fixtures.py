"""A zoo, folders of its models, and a hub on this machine."""

import json
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from hub_server import Hub, serve
from safetensors.torch import save_file
from torch import nn

from nnkit.verbs.core_handlers import plugin_manager


@pytest.fixture
def tiny_zoo(monkeypatch):
    """Install the zoo of `tests/mlp_zoo`."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "mlp_zoo"))
    monkeypatch.setenv("NNKIT_PLUGINS", "tiny, recurrent, vision")  # the large zoos take seconds to import
    plugin_manager.cache_clear()
    yield
    plugin_manager.cache_clear()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that huggingface_hub asks in this process, with a cache of its own."""
    from huggingface_hub import constants

    with serve(Hub()) as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield running


@pytest.fixture
def offline(monkeypatch):
    """Returns a function after which huggingface_hub asks no one."""
    from huggingface_hub import constants

    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def network(width=8, layers=2, dtype=torch.float32):
    """Return what the zoo builds, built here."""
    torch.manual_seed(7)
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(layers))).to(dtype)


def config(**more):
    return json.dumps({"model_type": "tiny-mlp", "width": 8, "layers": 2, **more})


def write_folder(folder: Path, form="whole", dtype=torch.float32, **more) -> nn.Module:
    """Write a model as its zoo would; returns the network."""
    folder.mkdir(parents=True)
    model = network(dtype=dtype)
    state = model.state_dict()
    (folder / "config.json").write_text(config(dtype=str(dtype).removeprefix("torch."), **more))
    if form == "whole":
        save_file(state, folder / "model.safetensors")
    elif form == "pickled":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        ending, save = (".safetensors", save_file) if form == "shards" else (".bin", torch.save)
        stem = "model" if form == "shards" else "pytorch_model"
        shard_of = {name: f"{stem}-0000{1 + name.startswith('1')}-of-00002{ending}" for name in state}
        for shard in set(shard_of.values()):
            save({name: state[name] for name in state if shard_of[name] == shard}, folder / shard)
        (folder / f"{stem}{ending}.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": shard_of})
        )
    return model


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_same_tensors(module: nn.Module, expected: nn.Module) -> None:
    state, other = module.state_dict(), expected.state_dict()
    assert state.keys() == other.keys()
    assert all(
        torch.equal(state[name], other[name]) and state[name].dtype == other[name].dtype for name in other
    )
