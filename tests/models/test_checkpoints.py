"""checkpoints.py: the key and the prefix of the weights in a checkpoint, found or chosen, and always said.

The files are written by torch's own tools as the training scripts of torchvision, timm, Lightning and BasicSR
lay them out. The weights that are loaded are compared with those of the model that was saved.
"""

import argparse
import json

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

import nnkit
from nnkit.errors import UsageProblem

OWN = '''
import torch
from torch import nn


class Holder(nn.Module):
    """Has a module called `model`, so that its own names begin as those of a wrapper do."""

    def __init__(self):
        super().__init__()
        self.model = nn.Linear(3, 2)

    def forward(self, x: "float32[batch, 3]"):
        return self.model(x)
'''


def prefixed(prefix, state):
    return {prefix + name: value for name, value in state.items()}


@pytest.fixture(scope="module")
def states():
    """The state dicts of two models, which stand for the weights and their average."""
    return [nnkit.build("simple-cnn", seed=seed).state_dict() for seed in (1, 2)]


@pytest.fixture(scope="module")
def files(tmp_path_factory, states):
    folder, (state, other) = tmp_path_factory.mktemp("checkpoints"), states
    module = nnkit.build("simple-cnn", seed=1)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.zeros(1, 3, 32, 32)).sum().backward()
    optimizer.step()
    training = {"optimizer": optimizer.state_dict(), "epoch": 3, "args": argparse.Namespace(lr=0.1)}
    wrapped = nn.DataParallel(nnkit.build("simple-cnn", seed=1)).state_dict()
    average = torch.optim.swa_utils.AveragedModel(nnkit.build("simple-cnn", seed=2)).state_dict()
    assert "n_averaged" in average
    content = {
        "wrapped.pth": wrapped,
        "compiled.pt": prefixed("_orig_mod.", state),
        "deepspeed.pt": {"module": state, "lr_scheduler": {"last": [1]}, **training},
        "both.pt": {"model": prefixed("_orig_mod.module.", state), **training},
        "lightning.ckpt": {"state_dict": prefixed("model._orig_mod.", state), "callbacks": {}, **training},
        "loss.ckpt": {"state_dict": {**prefixed("net.", state), "loss.weight": torch.ones(3)}},
        "torchvision.pth": {"model": state, "model_ema": average, **training},
        "timm.pth.tar.pt": {"state_dict": state, "state_dict_ema": other, **training},
        "basicsr.pth": {"params": state, "params_ema": other},
        "nested.pt": {"ema": {"module": other, "decay": 0.9}, "model": state},
        "gan.pt": {"generator": state, "discriminator": {"weight": torch.ones(2)}},
        "plain.pt": state,
    }
    for name, value in content.items():
        torch.save(value, folder / name)
    save_file(prefixed("module.", state), folder / "wrapped.safetensors")
    return folder


def is_equal(module, state):
    found = module.state_dict()
    return found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)


FOUND = {
    "wrapped.pth": "found --strip-prefix module.",
    "compiled.pt": "found --strip-prefix _orig_mod.",
    "deepspeed.pt": "found --key module",
    "both.pt": "found --key model --strip-prefix _orig_mod.module.",
    "lightning.ckpt": "found --key state_dict --strip-prefix model._orig_mod.",
    "wrapped.safetensors": "found --strip-prefix module.",
    "plain.pt": "",
}


@pytest.mark.parametrize("name", FOUND)
def test_what_has_one_meaning_is_found_and_said(files, states, name, nnkit_command):
    assert is_equal(nnkit.build("simple-cnn", weights=str(files / name)), states[0])
    done = nnkit_command("summary", "simple-cnn", "--weights", str(files / name))
    assert done.code == 0, done.err
    assert done.err == (f"{files / name}: {FOUND[name]}\n" if FOUND[name] else "")
    words = FOUND[name].split()[1:]  # what is said chooses the same, of which nothing is said again
    done = nnkit_command("summary", "simple-cnn", "--weights", str(files / name), *words)
    assert (done.code, done.err) == (0, "")


AVERAGES = {
    "torchvision.pth": ("model", "model_ema"),
    "timm.pth.tar.pt": ("state_dict", "state_dict_ema"),
    "basicsr.pth": ("params", "params_ema"),
    "nested.pt": ("model", "ema"),
}


@pytest.mark.parametrize("name", AVERAGES)
def test_weights_and_their_average_are_never_mixed_up(files, states, name, nnkit_command):
    weights = str(files / name)
    done = nnkit_command("build", "simple-cnn", "--weights", weights)
    assert done.code == 2
    assert "has 2 state dicts that may be the model's\n" in done.err
    assert all(f"  --key {key}" in done.err for key in AVERAGES[name])
    assert f"hint: choose one: --key {AVERAGES[name][1]}" in done.err
    for key, state in zip(AVERAGES[name], states, strict=True):
        assert is_equal(nnkit.build("simple-cnn", weights=weights, key=key), state)


def test_the_counter_of_an_average_is_left_out_and_that_is_said(files, nnkit_command):
    weights = str(files / "torchvision.pth")
    for more in ([], ["--strip-prefix", "module"]):
        done = nnkit_command("build", "simple-cnn", "--weights", weights, "--key", "model_ema", *more)
        assert done.code == 0
        assert "left out n_averaged" in done.err


def test_what_is_beside_the_model_is_left_out_only_if_asked(files, states, nnkit_command):
    weights = str(files / "loss.ckpt")
    done = nnkit_command("build", "simple-cnn", "--weights", weights)
    assert done.code == 2
    assert "8 tensors" in done.err
    assert "hint: --strip-prefix net. takes those and leaves out loss.weight" in done.err
    done = nnkit_command("build", "simple-cnn", "--weights", weights, "--strip-prefix", "net.")
    assert done.err == f"{weights}: found --key state_dict; left out loss.weight\n"
    assert is_equal(nnkit.build("simple-cnn", weights=weights, strip_prefix="net."), states[0])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["gan.pt"], "--key generator      8 tensors, 545,098 elements"),
        (["basicsr.pth", "--key", "param"], "did you mean params or params_ema?"),
        (["plain.pt", "--key", "model"], "it is one; leave out --key"),
        (["wrapped.safetensors", "--key", "model"], "has no keys: safetensors holds only tensors"),
        (["wrapped.pth", "--strip-prefix", "modules."], "hint: did you mean module.?"),
        (["wrapped.pth", "--strip-prefix", ""], "left over: module.conv1.bias"),
        (["plain.pt", "--strip-prefix", "module."], "no tensor"),
    ],
)
def test_a_mistake_is_one_error_that_lists_what_is_there(files, words, told, nnkit_command):
    name, *more = words
    done = nnkit_command("build", "simple-cnn", "--weights", str(files / name), *more)
    assert done.code == 2
    assert told in done.err
    assert done.err.count("Error:") == done.err.count("hint:") == 1


def test_a_model_whose_own_names_begin_so_keeps_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    state = nnkit.build("own.py:Holder").state_dict()
    torch.save(state, "plain.pt")
    torch.save({"model": prefixed("module.", state)}, "wrapped.pt")
    for weights in ("plain.pt", "wrapped.pt"):
        assert is_equal(nnkit.build("own.py:Holder", seed=4, weights=weights), state)


def test_a_spec_and_a_stamp_keep_the_choice(files, states, tmp_path, nnkit_command):
    weights = str(files / "torchvision.pth")
    choice = ["--weights", weights, "--key", "model_ema", "--strip-prefix", "module."]
    done = nnkit_command("build", "simple-cnn", *choice, "--spec")
    spec = yaml.safe_load(done.out)
    assert (spec["key"], spec["strip_prefix"]) == ("model_ema", "module.")
    (tmp_path / "net.yaml").write_text(done.out)
    assert is_equal(nnkit.build("net.yaml"), states[1])
    again = nnkit.resolve("net.yaml")
    assert again.typed == ("vision/simple-cnn", *choice)
    assert nnkit.resolve("net.yaml", weights=str(files / "plain.pt")).key is None  # another file
    assert nnkit.resolve("net.yaml", weights="elsewhere/torchvision.pth").key == "model_ema"
    nnkit.export("net.yaml", tmp_path / "net.safetensors")
    assert is_equal(nnkit.build("net.safetensors"), states[1])  # which has no key any more
    done = nnkit_command("export", "net.yaml", "--safetensors", "--force", "--json")
    assert json.loads(done.out)["spec"]["key"] == "model_ema", done.err
    with pytest.raises(UsageProblem, match="--key is about a file of weights"):
        nnkit.resolve("simple-cnn", key="model")


def test_compare_and_bench_take_a_key(files, nnkit_command):
    weights = str(files / "basicsr.pth")
    both = ["--weights", weights, "--left.key", "params", "--right.key", "params_ema"]
    done = nnkit_command("compare", "simple-cnn", "simple-cnn", *both)
    assert done.code == 0, done.err


def test_a_summary_of_a_checkpoint_shows_its_parts(files, nnkit_command):
    done = nnkit_command("summary", str(files / "torchvision.pth"))
    assert "part         model: 8 tensors, 545,098 elements (--key model)\n" in done.out
    assert "part         model_ema: 9 tensors" in done.out
    assert "(--key model_ema --strip-prefix module.)" in done.out
    assert "part         optimizer: 24 tensors" in done.out
    parts = json.loads(nnkit_command("summary", str(files / "plain.pt"), "--json").out)["parts"]
    assert [(part["key"], part["tensors"], part["state_dict"]) for part in parts] == [("", 8, True)]


EARLIER = """
from dataclasses import dataclass

from nnkit import Architecture, Dim, TensorSpec, hookimpl

NNKIT_PLUGIN_API = "1.0"


@dataclass(frozen=True, kw_only=True)
class Config:
    key: int = 4


@hookimpl
def nnkit_architectures():
    return [
        Architecture(
            name="keyed",
            summary="Has an option of a name that nnkit took later",
            config=Config,
            build="plugin_under_test_earlier:build",
            dims={"batch": Dim(default=1)},
            inputs=[TensorSpec("x", ("batch", "key"))],
            outputs=[TensorSpec("y", ("batch", 2))],
        )
    ]


def build(config):
    from torch import nn

    return nn.Linear(config.key, 2)
"""


def test_an_earlier_plugin_keeps_an_option_called_key(plugins_from, tmp_path):
    manager = plugins_from(earlier=EARLIER)
    state = nn.Linear(3, 2).state_dict()
    torch.save({"model": state, "model_ema": nn.Linear(3, 2).state_dict()}, tmp_path / "w.pt")
    options = {"key": 3, "core_key": "model", "weights": str(tmp_path / "w.pt")}
    spec = nnkit.resolve("keyed", manager=manager, **options)
    assert (spec.config.key, spec.key) == (3, "model")
    assert spec.typed[1:3] == ("--key", "3")
    assert spec.typed[-2:] == ("--core-key", "model")
    assert is_equal(nnkit.build(spec, manager=manager), state)


def test_wrappers_are_taken_off_for_a_model_that_knows_other_names_itself(tmp_path):
    theirs = nnkit.build("gpt2", preset="tiny", seed=1)
    torch.save(
        torch.optim.swa_utils.AveragedModel(nn.DataParallel(theirs)).state_dict(), tmp_path / "average.pt"
    )
    ours = nnkit.build("gpt2", preset="tiny", weights=str(tmp_path / "average.pt"))
    expected = theirs.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in ours.state_dict().items())
