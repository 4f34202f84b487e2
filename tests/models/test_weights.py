"""--weights: safetensors, shards and `.pt`, strict by default, for every verb."""

import json

import pytest
import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

import nnkit
from nnkit.errors import NnkitError, UsageProblem
from nnkit.models.weights import digest, load_weights, read_weights


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The weights of one model, in every form."""
    folder = tmp_path_factory.mktemp("weights")
    state = nnkit.build("simple-cnn", seed=8).state_dict()
    torch.save(state, folder / "w.pt")
    torch.save({"state_dict": state, "epoch": 3}, folder / "checkpoint.ckpt")
    save_file(state, folder / "plain.safetensors")
    nnkit.export("simple-cnn", folder / "ours.safetensors", seed=8)
    how = nnkit.ExportOptions(max_shard_size="1MB")
    nnkit.export("simple-cnn", folder / "shards.safetensors", seed=8, how=how)
    return folder


NAMES = ["w.pt", "checkpoint.ckpt", "plain.safetensors", "ours.safetensors", "shards.safetensors.index.json"]


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_every_form_are_the_model_s(files, name):
    expected = nnkit.build("simple-cnn", seed=8).state_dict()
    found = nnkit.build("simple-cnn", weights=str(files / name)).state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("verb", ["build", "summary", "export", "smoke-run"])
def test_every_verb_takes_weights(files, nnkit_command, verb):
    more = {"export": ["--safetensors"], "smoke-run": ["--check", "determinism"]}.get(verb, [])
    done = nnkit_command(verb, "simple-cnn", *more, "--weights", str(files / "w.pt"), "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["spec"]["weights"] == str(files / "w.pt")
    more += ["--force"] if verb == "export" else []
    done = nnkit_command(verb, "simple-cnn", *more, "--weights", "none.pt")
    assert done.code == 2
    assert "weights file none.pt does not exist" in done.err


def test_what_does_not_fit_is_listed(files, tmp_path, nnkit_command):
    state = torch.load(files / "w.pt")
    del state["fc1.bias"]
    state["more.weight"] = torch.zeros(2)
    torch.save(state, tmp_path / "other.pt")
    done = nnkit_command("build", "simple-cnn", "--weights", str(tmp_path / "other.pt"))
    assert done.code == 2
    assert "missing: fc1.bias; left over: more.weight" in done.err
    assert "--no-strict" in done.err
    done = nnkit_command("build", "simple-cnn", "--num-classes", "4", "--weights", str(files / "w.pt"))
    assert "fc2.weight is 10×128 in the file, 4×128 in the model" in done.err
    assert "fc2.bias is 10 in the file, 4 in the model" in done.err


@pytest.mark.parametrize("name", NAMES)
def test_without_values_the_same_fits_and_the_same_does_not(files, name):
    """A summary and a build on meta read names and shapes only, from the header where there is one."""
    weights = str(files / name)
    assert nnkit.summarize("simple-cnn", weights=weights).totals.parameters == 545_098
    assert next(nnkit.build("simple-cnn", weights=weights, device="meta").parameters()).is_meta
    for call in (nnkit.summarize, nnkit.build):
        device = {"device": "meta"} if call is nnkit.build else {}
        with pytest.raises(UsageProblem, match=r"fc2\.bias is 10 in the file, 4 in the model"):
            call("simple-cnn", num_classes=4, weights=weights, **device)


def test_weights_that_need_not_be_all(files, tmp_path):
    state = torch.load(files / "w.pt")
    del state["fc1.bias"]
    torch.save(state, tmp_path / "part.pt")
    module = nnkit.build("simple-cnn", weights=str(tmp_path / "part.pt"), strict=False, seed=3)
    assert torch.equal(module.fc1.bias, nnkit.build("simple-cnn", seed=3).fc1.bias)
    assert torch.equal(module.fc2.weight, state["fc2.weight"])
    torch.save({"a": torch.zeros(1)}, tmp_path / "none.pt")
    with pytest.raises(UsageProblem, match="missing: all of them"):
        nnkit.build("simple-cnn", weights=str(tmp_path / "none.pt"), strict=False)


class Evil:
    def __reduce__(self):
        return (print, ("code of the file has run",))


def test_no_code_in_a_file_runs(tmp_path, capsys):
    torch.save({"w": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(NnkitError, match="holds more than tensors and plain data"):
        nnkit.build("simple-cnn", weights=str(tmp_path / "evil.pt"))
    assert "has run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.pt", b"PK", "was not run"),
        ("a.safetensors", b"12", "damaged"),
        ("a.safetensors.index.json", b"{}", "it has no weight_map"),
        ("a.safetensors.index.json", b'{"weight_map": {"w": "../b.safetensors"}}', "in another folder"),
        ("a.safetensors.index.json", b'{"weight_map": {"w": "b.safetensors"}}', "which does not exist"),
        ("a.h5", b"", "doesn't end like that of a weights file"),
    ],
)
def test_files_that_can_not_be_read(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NnkitError, match=told):
        read_weights(tmp_path / name)


def test_a_bit_that_flipped_in_a_file_of_ours_is_found(files, tmp_path):
    content = bytearray((files / "ours.safetensors").read_bytes())
    content[-3] ^= 4
    (tmp_path / "flipped.safetensors").write_bytes(content)
    assert load_file(tmp_path / "flipped.safetensors")  # the format itself doesn't see it
    with pytest.raises(NnkitError, match="have changed since it was written \\(sha256\\)"):
        nnkit.build("simple-cnn", weights=str(tmp_path / "flipped.safetensors"))


def test_the_digest_is_of_names_shapes_and_bits():
    one = {"a": torch.zeros(2), "b": torch.ones(1)}
    assert digest(one) == digest(dict(reversed(one.items())))
    others = [{"a": torch.zeros(2, 1), "b": torch.ones(1)}, {"a": torch.zeros(2), "c": torch.ones(1)},
              {"a": -torch.zeros(2), "b": torch.ones(1)}, {"a": torch.zeros(2).int(), "b": torch.ones(1)}]  # fmt: skip
    assert len({digest(each) for each in [one, *others]}) == 5


class Tied(nn.Module):
    """Two names for one tensor, a view, and a tensor that isn't contiguous."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight
        whole = torch.randn(4, 6)
        self.register_buffer("left", whole[:, :3])
        self.register_buffer("right", whole[:, 3:])
        self.turned = nn.Parameter(torch.randn(3, 5).t())

    def forward(self, x):
        return self.head(x @ self.embedding.weight.t() @ self.embedding.weight) + self.turned.sum()


def test_tied_tensors_views_and_turned_ones_are_written_and_read(tmp_path):
    module = Tied()
    report = nnkit.export(module, tmp_path / "a.safetensors", [torch.randn(2, 4)])
    assert report.verified
    stored = load_file(tmp_path / "a.safetensors")
    assert set(stored) == {"embedding.weight", "left", "right", "turned"}
    fresh = Tied()
    load_weights(fresh, tmp_path / "a.safetensors")
    assert fresh.head.weight is fresh.embedding.weight
    assert all(torch.equal(fresh.state_dict()[name], each) for name, each in module.state_dict().items())


class OnlyTied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


def test_tied_weights_are_exchanged_with_safetensors_own_functions(tmp_path):
    module, fresh = OnlyTied(), OnlyTied()
    save_model(module, str(tmp_path / "theirs.safetensors"))
    load_weights(fresh, tmp_path / "theirs.safetensors")
    assert torch.equal(fresh.head.weight, module.head.weight)
    nnkit.export(module, tmp_path / "ours.safetensors", [torch.tensor([1, 2])])
    fresh = OnlyTied()
    load_model(fresh, tmp_path / "ours.safetensors")
    assert torch.equal(fresh.head.weight, module.head.weight)


def test_the_same_bytes_each_time(tmp_path):
    contents = set()
    for number in range(6):
        file = tmp_path / f"{number}.safetensors"
        nnkit.export("resnet20", file, seed=1, verify=False)
        contents.add(file.read_bytes())
    assert len(contents) == 1


class Odd(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.register_buffer("odd", value)

    def forward(self, x):
        return x


def test_tensors_that_the_format_lacks_are_named(tmp_path):
    with pytest.raises(UsageProblem, match="can't store odd"):
        nnkit.export(Odd(torch.eye(3).to_sparse()), tmp_path / "a.safetensors", [torch.ones(1)])
    assert list(tmp_path.iterdir()) == []


def test_shards_and_their_index_are_as_huggingface_hub_lays_them_out(tmp_path):
    from huggingface_hub import split_torch_state_dict_into_shards

    state = nnkit.build("simple-cnn", seed=8).state_dict()
    split = split_torch_state_dict_into_shards(state, max_shard_size="1MB")
    how = nnkit.ExportOptions(max_shard_size="1MB")
    report = nnkit.export("simple-cnn", tmp_path / "model.safetensors", seed=8, how=how)
    assert report.file.endswith("model.safetensors.index.json")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == split.tensor_to_filename
    assert index["metadata"]["total_size"] == split.metadata["total_size"]
    assert set(report.files) == {*split.filename_to_tensors, "model.safetensors.index.json"}
    for shard, names in split.filename_to_tensors.items():
        stored = load_file(tmp_path / shard)
        assert set(stored) == set(names)
        assert all(torch.equal(stored[name], state[name]) for name in names)
    assert nnkit.summarize(report.file).totals.parameters == 545_098
    assert nnkit.verify(report.file).verified


@pytest.mark.parametrize("size", ["1 potato", "MB", "12"])
def test_a_shard_size_that_is_none(tmp_path, size):
    with pytest.raises(UsageProblem, match="is not a size"):
        nnkit.export("simple-cnn", tmp_path / "a.safetensors", how=nnkit.ExportOptions(max_shard_size=size))


def test_weights_from_a_file_are_not_drawn_first(files, monkeypatch):
    def drawn(*args, **kwargs):
        raise AssertionError("a weight was initialised that the file replaces")

    monkeypatch.setattr(torch.Tensor, "uniform_", drawn)
    monkeypatch.setattr(torch.Tensor, "normal_", drawn)
    module = nnkit.build("simple-cnn", weights=str(files / "w.pt"))
    assert torch.equal(module.fc2.bias, torch.load(files / "w.pt")["fc2.bias"])


class TiedHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids):
        return self.head(self.table(ids))


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_halves_of_a_tied_weight_that_differ_are_an_error_that_names_both(tmp_path, name):
    def save(state):
        (save_file if name.endswith("safetensors") else torch.save)(state, tmp_path / name)

    state = {key: each.clone() for key, each in TiedHead().state_dict().items()}
    save(state)
    module = TiedHead()
    load_weights(module, tmp_path / name)
    assert torch.equal(module.head.weight, state["table.weight"])
    state["head.weight"][2, 3] += 1
    save(state)
    for strict in (True, False):
        with pytest.raises(UsageProblem, match=r"table\.weight and head\.weight are one tensor"):
            load_weights(module, tmp_path / name, strict)
    assert torch.equal(module.head.weight, state["table.weight"])  # nothing was loaded
