"""Models on the hub: headers by range requests, values only when they are needed, errors in one line."""

# ruff: noqa: F401, F811 - fixtures are imported by name

import json
import re
import struct

import pytest
import torch
from conftest import ROOT, python
from hub_fixtures import (
    assert_same_tensors,
    config,
    files_of,
    hub,
    network,
    offline,
    tiny_zoo,
    write_folder,
)
from hub_server import COMMIT

import nnkit
from nnkit.errors import NnkitError, PluginProblem, UsageProblem
from nnkit.models import hub_errors
from nnkit.models.hub_names import HubName, parse
from nnkit.verbs.exporting.stamp import stamp

pytestmark = pytest.mark.usefixtures("tiny_zoo")
WEIGHTS = f"hub:org/mlp/model.safetensors@{COMMIT}"


@pytest.fixture
def published(hub, tmp_path):
    """The network that `hub:org/mlp` has."""
    model = write_folder(tmp_path / "published")
    hub.models["org/mlp"] = files_of(tmp_path / "published")
    return model


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hub:org/mlp", HubName("org/mlp")),
        ("hub:gpt2", HubName("gpt2")),
        ("hub:gpt2/model.safetensors", HubName("gpt2", "model.safetensors")),
        ("hub:org/mlp@refs/pr/1", HubName("org/mlp", revision="refs/pr/1")),
        ("hub:timm/resnet50.a1_in1k@v1", HubName("timm/resnet50.a1_in1k", revision="v1")),
        ("hub:org/mlp/folder/a.bin@v1", HubName("org/mlp", "folder/a.bin", "v1")),
    ],
)
def test_names_are_read_and_written(text, name):
    assert parse(text) == name
    assert name.text == text


@pytest.mark.parametrize(
    "text", ["hub:", "hub:/mlp", "hub:org/", "hub:../mlp", "hub:org/mlp/../../x", "hub:a\\b/c", "hub:@v1"]
)
def test_what_is_no_name_is_refused(text):
    with pytest.raises(UsageProblem, match="is not the name of a model on the hub"):
        parse(text)


def test_a_summary_asks_for_headers_alone(hub, published):
    report = nnkit.summarize("hub:org/mlp")
    assert report.spec.weights == WEIGHTS
    assert report.spec.name == "tiny/mlp"
    from huggingface_hub import HfApi

    counted = (
        HfApi(hub.url).get_safetensors_metadata("org/mlp").parameter_count
    )  # the hub's own reading of the headers
    assert {report.totals.parameters} == {*counted.values()}


def large_model(hub, shards=30, width=34_000):
    """Publish 139 GB, of which the hub keeps the headers."""
    files = {"config.json": config(width=width, layers=shards).encode()}
    shard_of = {}
    for number in range(shards):
        entries, at = {}, 0
        for name, shape in ((f"{number}.weight", [width, width]), (f"{number}.bias", [width])):
            size = torch.Size(shape).numel() * 4
            entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
            shard_of[name] = file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
            at += size
        header = json.dumps(entries).encode()
        files[file] = struct.pack("<Q", len(header)) + header
        hub.sizes[file] = len(files[file]) + at
    files["model.safetensors.index.json"] = json.dumps({"metadata": {}, "weight_map": shard_of}).encode()
    hub.models["org/large"] = files
    return sum(hub.sizes.values()), shards * (width * width + width)


@pytest.mark.parametrize("ignores_range", [False, True])
def test_140_gb_are_summarized_by_their_headers(hub, tmp_path, ignores_range):
    hub.ignores_range = ignores_range
    size, parameters = large_model(hub, shards=4 if ignores_range else 30)
    assert ignores_range or size > 138e9
    report = nnkit.summarize("hub:org/large")
    assert report.totals.parameters == parameters
    assert hub.sent(".safetensors") < 100e6
    assert sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file()) < 100_000


def test_a_header_longer_than_the_first_request_is_read_whole(hub, published, monkeypatch):
    from nnkit.models import hub_headers

    for hub.ignores_range in (False, True):
        monkeypatch.setattr(hub_headers, "BEGINNING", 50)
        assert nnkit.summarize("hub:org/mlp").totals.parameters == sum(
            each.numel() for each in published.parameters()
        )


def test_weights_of_other_shapes_are_found_without_their_values(hub, published):
    hub.models["org/mlp"]["config.json"] = config(width=9).encode()
    with pytest.raises(UsageProblem, match=r"other shapes: 0\.weight is 8×8 in the file, 9×9 in the model"):
        nnkit.summarize("hub:org/mlp")


def test_a_lying_header_is_damaged(hub, published):
    hub.models["org/mlp"]["model.safetensors"] = struct.pack("<Q", 2**40) + b"{}"
    with pytest.raises(NnkitError, match="is damaged: its header claims 1,099,511,627,776 bytes"):
        nnkit.summarize("hub:org/mlp")


def test_an_index_that_names_another_folder_is_damaged(hub, published):
    files = hub.models["org/mlp"]
    del files["model.safetensors"]
    files["model.safetensors.index.json"] = b'{"weight_map": {"0.weight": "../other/x.safetensors"}}'
    with pytest.raises(NnkitError, match="which is in another folder"):
        nnkit.summarize("hub:org/mlp")


@pytest.mark.parametrize("form", ["whole", "shards", "pickled", "pickled shards"])
def test_building_downloads_and_says_so_once(hub, tmp_path, nnkit_command, form):
    expected = write_folder(tmp_path / "published", form)
    hub.models["org/mlp"] = files_of(tmp_path / "published")
    done = nnkit_command("export", "hub:org/mlp", "--safetensors", "-o", "out.safetensors")
    assert done.code == 0
    assert re.fullmatch(r"downloading .*hub:org/mlp.*@01234567 \(.*B\)\n", done.err)
    assert_same_tensors(nnkit.build("out.safetensors"), expected)
    asked = len(hub.requests)
    assert_same_tensors(
        nnkit.build("tiny/mlp", width=8, weights=nnkit.resolve("hub:org/mlp").weights), expected
    )
    assert not any(path.endswith((".bin", ".safetensors")) for _, path, *_ in hub.requests[asked:])


def test_a_pickle_is_not_compared_and_that_is_said(hub, tmp_path, nnkit_command):
    write_folder(tmp_path / "published", "pickled")
    hub.models["org/mlp"] = files_of(tmp_path / "published")
    done = nnkit_command("summary", "hub:org/mlp")
    assert done.code == 0
    assert "pytorch_model.bin" in done.err
    assert "not compared" in done.err
    assert hub.sent(".bin") == 0


def test_weights_of_the_hub_load_into_an_architecture(hub, published, tmp_path):
    for weights in ("hub:org/mlp", "hub:org/mlp@main", "hub:org/mlp/model.safetensors"):
        spec = nnkit.resolve("tiny/mlp", width=8, weights=weights)
        assert spec.weights == WEIGHTS
        assert_same_tensors(nnkit.build(spec), published)
    assert nnkit.resolve(nnkit.resolve("tiny/mlp"), width=8, weights="hub:org/mlp") == spec


def test_a_spec_with_a_commit_is_built_again_without_the_hub(hub, published, tmp_path, offline):
    spec = nnkit.resolve("hub:org/mlp")
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    nnkit.build(spec)
    offline()
    assert nnkit.resolve(str(tmp_path / "spec.yaml")) == spec
    assert_same_tensors(nnkit.build(str(tmp_path / "spec.yaml")), published)


def test_the_stamp_of_an_export_names_the_commit(hub, published, tmp_path):
    stamped = stamp(nnkit.resolve("hub:org/mlp"))["spec"]
    assert stamped["weights"] == WEIGHTS
    (tmp_path / "stamped.yaml").write_text(json.dumps(stamped))
    assert_same_tensors(nnkit.build(str(tmp_path / "stamped.yaml")), published)


def test_without_the_hub_the_cache_is_read_and_that_is_said(hub, published, nnkit_command, offline):
    nnkit.build("hub:org/mlp")
    offline()
    done = nnkit_command("summary", "hub:org/mlp")
    assert done.code == 0
    assert done.err == "HF_HUB_OFFLINE is set; hub:org/mlp@01234567 is read from this machine's cache\n"
    assert_same_tensors(nnkit.build("tiny/mlp", width=8, weights="hub:org/mlp"), published)


def test_a_cache_without_weights_is_not_taken_for_a_model_without(hub, published, nnkit_command, offline):
    nnkit.summarize("hub:org/mlp")
    offline()
    done = nnkit_command("summary", "hub:org/mlp")
    assert done.code == 1
    assert "no cache of this machine has the weights of hub:org/mlp@01234567" in done.err
    assert nnkit_command("summary", "hub:org/mlp", "--weights", "random").code == 0


def test_no_network_is_one_error(monkeypatch, nnkit_command, hub):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for args in (["summary", "hub:org/mlp"], ["build", "tiny/mlp", "--weights", "hub:org/mlp"]):
        done = nnkit_command(*args)
        assert done.code == 1
        error, hint = done.err.splitlines()
        assert error.startswith("Error: hub:org/mlp can't be read: http://127.0.0.1:9 can't be reached (")
        assert hint.startswith("hint: ")


WRONG = [
    (["summary", "hub:org/none"], 2, "hub:org/none does not exist, or is private", "HF_TOKEN"),
    (["summary", "hub:org/mlp@v9"], 2, "hub:org/mlp has no revision 'v9'", "a branch, a tag or a commit"),
    (["summary", "hub:org/mlp/config.json"], 2, "names a file, not a model", "hub:org/mlp"),
    (["summary", "hub:org/a b"], 2, "is not the name of a model on the hub", "hub:org/name"),
    (["summary", "hub:org/empty"], 2, "hub:org/empty has no config.json; it has README.md", "save_pretrained"),
    (["summary", "hub:org/code"], 2, "needs code of its own (config.json has auto_map: x.Net)", "file.py:Class"),
    (["summary", "hub:org/gated"], 1, "hub:org/gated is gated", "HF_TOKEN"),
    (["build", "hub:org/gated"], 1, "hub:org/gated is gated", "/org/gated"),
    (["build", "tiny/mlp", "--weights", "hub:org/empty"], 2, "has no weights that nnkit reads", "safetensors"),
    (["build", "tiny/mlp", "--weights", "hub:org/mlp/x.bin"], 2, "has no file 'x.bin'", "hub:org/mlp"),
    (["build", "tiny/mlp", "--weights", "hub:org/none"], 2, "does not exist, or is private", "HF_TOKEN"),
    (["build", "tiny/mlp", "--weights", "hub:org/mlp"], 2, "don't fit: other shapes", "--weights random"),
    (["build", "tiny/mlp", "--weights", "cached"], 1, "no cache of this machine has weights of tiny/mlp", "hub:org/name"),
    (["build", "hub:org/mlp", "--weights", "cached"], 1, "no cache of this machine has hub:org/mlp", "--weights random"),
    (["build", "simple-cnn", "--weights", "cached"], 2, "is for architectures of a zoo", "--weights FILE"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "code", "message", "hint"), WRONG)
def test_what_is_wrong_is_one_error_with_a_way_out(hub, published, nnkit_command, args, code, message, hint):
    hub.models["org/gated"] = hub.models["org/mlp"]
    hub.gated.add("org/gated")
    hub.models["org/empty"] = {"README.md": b""}
    hub.models["org/code"] = {"config.json": config(auto_map={"AutoModel": "x.Net"}).encode()}
    done = nnkit_command(*args)
    assert (done.code, done.out) == (code, "")
    *_, error, hinted = done.err.splitlines()
    assert error.startswith("Error: ")
    assert message in error
    assert hint in hinted


def test_a_token_opens_what_is_gated(hub, published, nnkit_command, monkeypatch):
    hub.models["org/gated"] = hub.models["org/mlp"]
    hub.gated.add("org/gated")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert nnkit_command("summary", "hub:org/gated").code == 0
    assert hub.tokens == {"hf_secret"}


def test_cached_weights_are_found_and_nothing_is_asked(hub, published, tmp_path, nnkit_command):
    nnkit.build("hub:org/mlp")
    asked = len(hub.requests)
    assert nnkit.resolve("tiny/mlp", width=8, weights="cached").weights == WEIGHTS
    assert_same_tensors(nnkit.build("tiny/mlp", width=8, weights="cached"), published)
    assert len(hub.requests) == asked
    torch.save(published.state_dict(), tmp_path / "tied-0123abcd.pth")
    assert nnkit_command(
        "build", "tiny/mlp", "--width", "8", "--tied", "--weights", "cached", "--spec"
    ).out.endswith("weights: tied-0123abcd.pth\nstrict: true\n")


def test_the_settings_of_huggingface_hub_are_those_of_the_environment(hub, published, tmp_path, monkeypatch):
    for name, value in {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_secret",
        "PYTHONPATH": str(ROOT / "tests" / "mlp_zoo"),
    }.items():
        monkeypatch.setenv(name, value)
    done = python("-m", "nnkit", "build", "hub:org/mlp", "--json", cwd=tmp_path)
    assert done.stderr == "downloading hub:org/mlp/model.safetensors@01234567 (840 B)\n"
    assert json.loads(done.stdout)["spec"]["weights"] == WEIGHTS
    assert hub.tokens == {"hf_secret"}
    assert (tmp_path / "home" / "hub" / "models--org--mlp").is_dir()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(hub.requests)
    again = python("-m", "nnkit", "build", "hub:org/mlp", "--json", cwd=tmp_path)
    assert again.stdout == done.stdout
    assert again.stderr.startswith("HF_HUB_OFFLINE is set; hub:org/mlp@01234567 is read")
    assert len(hub.requests) == asked


def test_completion_asks_nobody(hub, published, nnkit_command, monkeypatch):
    monkeypatch.setenv("_NNKIT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "nnkit summary hub:org/mlp --de")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert "--depth" in nnkit_command().out
    assert hub.requests == []


def test_without_huggingface_hub_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(hub_errors, "missing", lambda names: names[0])
    with pytest.raises(PluginProblem, match="hub:org/mlp needs the package huggingface_hub") as caught:
        nnkit.summarize("hub:org/mlp")
    assert "nnkit[hub]" in caught.value.hint
