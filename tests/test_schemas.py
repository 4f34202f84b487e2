"""What `--json` prints is what nnkit/schemas says, key by key."""

import json

import jsonschema
import pytest
import torch
from torch import nn

import nnkit
from nnkit import schemas
from nnkit.verbs.summary.report import ForwardFailed

SCHEMAS = {name: schemas.read(name) for name in schemas.names()}


def check(report):
    """Hold the JSON form of a report against the schema that it names; return it."""
    data = json.loads(json.dumps(report.to_dict()))
    jsonschema.validate(data, schemas.schema_of(data), cls=jsonschema.Draft202012Validator)
    return data


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_explains_itself(name):
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["title"].startswith("nnkit ")
    assert not SCHEMAS[name]["additionalProperties"]


@pytest.mark.parametrize("name", ["simple-cnn", "gru", "gcn", "pointer-network"])
def test_summaries_of_the_zoo(name):
    data = check(nnkit.summarize(name))
    assert data["memory"] is None
    assert data["rows"]


def test_a_summary_with_the_memory_of_training():
    data = check(nnkit.summarize("simple-cnn", optimizer="adam"))
    assert data["memory"]["optimizer"] == "adam"
    assert data["rows"][0]["training"]["saved"] == data["memory"]["saved"] > 0


def test_a_summary_of_what_each_of_many_ranks_needs():
    data = check(nnkit.summarize("gcn", fsdp=4))
    assert data["sharded"]["ranks"] == 4
    assert data["sharded"]["memory"]["optimizer"] == data["memory"]["optimizer"] == "adamw"


def test_a_summary_that_found_the_largest_batch():
    assert check(nnkit.fit("simple-cnn", "64MB"))["fit"]["dim"] == "batch"


class Anything(nn.Module):
    def forward(self, x, mode, options=None):
        return {"x": x, "rest": (None, [x, mode])}


def test_a_summary_of_values_of_every_kind():
    data = check(nnkit.summarize(Anything(), [torch.zeros(2), "m", {"a": torch.ones(1), "b": 3}]))
    assert data["rows"][0]["outputs"][0]["rest"][0] == "None"


def test_a_summary_that_ends_in_a_failure():
    with pytest.raises(ForwardFailed) as raised:
        nnkit.summarize(nn.Linear(3, 4), [torch.zeros(2, 2)])
    assert check(raised.value.report)["failure"]["type"] == "Linear"


@pytest.mark.parametrize("stats", [False, True])
def test_files(tmp_path, stats):
    nnkit.export("simple-cnn", tmp_path / "m.onnx", verify=False)
    nnkit.export("simple-cnn", tmp_path / "m.safetensors")
    for name in ("m.onnx", "m.safetensors"):
        check(nnkit.inspect_file(tmp_path / name, stats=stats))


def test_comparisons():
    check(nnkit.compare("simple-cnn", "gcn"))
    check(nnkit.compare("simple-cnn", "gcn", "gru"))
    check(nnkit.compare("simple-cnn", nnkit.resolve("simple-cnn", num_classes=3), optimizer="sgd"))


def test_a_key_that_the_schema_lacks_is_found():
    data = nnkit.summarize("simple-cnn").to_dict()
    data["totals"]["more"] = 1
    with pytest.raises(jsonschema.ValidationError, match="more"):
        jsonschema.validate(data, SCHEMAS["summary"])


@pytest.mark.parametrize("suffix", ["onnx", "safetensors"])
def test_exports_and_verifications(tmp_path, suffix):
    file = tmp_path / f"m.{suffix}"
    data = check(nnkit.export("gcn", file))
    assert data["proof"]["equal"] == [4, 4]
    assert check(nnkit.verify(file))["verified"]


def test_an_export_without_a_proof_and_several_formats(tmp_path):
    assert check(nnkit.export("simple-cnn", tmp_path / "m.onnx", verify=False))["proof"] is None
    data = check(nnkit.export_all("simple-cnn", tmp_path, how=nnkit.ExportOptions(opset=3)))
    assert list(data["failures"]) == ["onnx"]
    assert {each["format"] for each in data["exports"]} >= {"safetensors", "pt2"}


def test_smoke_runs():
    data = check(nnkit.smoke_run("gcn", checks=["shapes", "causality"]))
    assert [each["status"] for each in data["checks"]] == ["passed", "skipped"]


def test_benchmarks():
    data = check(nnkit.bench("gcn", "gcn", rounds=20, threads=1, training=False))
    assert [each["mode"] for each in data["ratios"]] == ["forward"]
    assert len(data["models"][0]["measurements"][0]["samples"]["nanoseconds"]) == 40
