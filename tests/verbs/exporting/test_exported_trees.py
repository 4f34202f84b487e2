"""Files of networks that take and return trees: under dotted names, at every size that is declared."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.utils import _pytree as pytree
from tree_networks import (
    DECODER,
    SAMPLER,
    SIAMESE,
    STREAMING,
    UNET,
    VOCABULARY,
    Decoded,
    KeyValue,
    spec_of,
)

import nnkit
from nnkit.errors import UsageProblem, VerificationFailed
from nnkit.models import metadata

NAMES_OF_CACHE = ["cache.0.key", "cache.0.value", "cache.1.key", "cache.1.value"]


@pytest.fixture(autouse=True)
def a_short_way_to_larger_sizes(monkeypatch):
    monkeypatch.setattr("nnkit.verbs.exporting.reach.SECONDS", 0.5)


def ports(path):
    """Return the axes of all inputs and outputs by name."""
    graph = onnx.load(path).graph
    return {
        port.name: [axis.dim_param or axis.dim_value for axis in port.type.tensor_type.shape.dim]
        for port in (*graph.input, *graph.output)
    }


def run(path, feeds):
    """Return the outputs of ONNX Runtime by name."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    results = session.run(names, {name: tensor.numpy() for name, tensor in feeds.items()})
    return dict(zip(names, map(torch.from_numpy, results), strict=True))


def decoder_inputs(past, time):
    """Return tokens, a mask and a cache."""
    generator = torch.Generator().manual_seed(past + 100 * time)
    tokens = torch.randint(0, VOCABULARY, (3, time), generator=generator)
    mask = torch.rand(3, past + time, generator=generator) < 0.7
    parts = [torch.randn(3, 2, past, 4, generator=generator) for _ in range(4)]
    return tokens, mask, [KeyValue(*parts[:2]), KeyValue(*parts[2:])]


def decoded(result):
    return {
        "logits": result.logits,
        **{
            f"present.{index}.{name}": tensor
            for index, layer in enumerate(result.present)
            for name, tensor in layer._asdict().items()
        },
    }


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, msg=name, rtol=1e-4, atol=1e-5)


def test_a_decoder_with_its_cache_is_one_onnx_file(tmp_path):
    spec, file = spec_of(DECODER), tmp_path / "decoder.onnx"
    report = nnkit.export(spec, file)
    assert ports(file) == {
        "tokens": ["batch", "time"],
        "mask": ["batch", "past + time"],
        **{name: ["batch", 2, "past", 4] for name in NAMES_OF_CACHE},
        "logits": ["batch", "time", VOCABULARY],
        **{name.replace("cache", "present"): ["batch", 2, "past + time", 4] for name in NAMES_OF_CACHE},
    }
    proven = [*report.proof.assignments, *report.proof.reach.assignments]
    assert any(sizes["past"] == 0 for sizes in proven)
    assert all(sizes["past"] + sizes["time"] <= 12 for sizes in proven)
    assert report.proof.coverage.share == 1
    module = nnkit.build(spec)
    for past, time in ((0, 5), (3, 4), (11, 1)):
        tokens, mask, cache = decoder_inputs(past, time)
        feeds = dict(zip(NAMES_OF_CACHE, [part for layer in cache for part in layer], strict=True))
        with torch.no_grad():
            expected = decoded(module(tokens, mask, cache=cache))
        assert_same(run(file, {"tokens": tokens, "mask": mask, **feeds}), expected)
    assert nnkit.verify(file, spec).verified


@pytest.mark.slow
def test_a_decoder_as_a_program_is_called_as_its_module_is(tmp_path):
    spec, file = spec_of(DECODER), tmp_path / "decoder.pt2"
    assert nnkit.export(spec, file).proof.equal[0] > 0
    assert nnkit.verify(file, spec).verified
    assert Decoded not in pytree.SUPPORTED_NODES  # nothing is left registered
    module = nnkit.build(spec)
    torch.export.register_dataclass(Decoded, serialized_type_name=f"{Decoded.__module__}.Decoded")
    pytree._register_namedtuple(KeyValue, serialized_type_name=f"{KeyValue.__module__}.KeyValue")
    try:
        with torch.serialization.safe_globals([KeyValue]):
            program = torch.export.load(file).module()
        for past, time in ((0, 5), (11, 1), (0, 1)):
            tokens, mask, cache = decoder_inputs(past, time)
            with torch.no_grad():
                found = program(tokens, mask, cache=cache, use_cache=True)
                expected = module(tokens, mask, cache=cache)
            assert_same(decoded(found), decoded(expected))
        with pytest.raises(AssertionError, match="use_cache"):
            program(*decoder_inputs(2, 3)[:2], cache=cache, use_cache=False)
    finally:
        pytree._deregister_pytree_node(Decoded)
        pytree._deregister_pytree_node(KeyValue)


PLUGIN = """
from dataclasses import replace
from nnkit import hookimpl
from tree_networks import DECODER
NNKIT_PLUGIN_API = "1.0"
@hookimpl
def nnkit_architectures():
    return [replace(DECODER, build="tree_networks:Decoder")]
"""


@pytest.mark.parametrize(
    ("without", "inputs"),
    [
        pytest.param(("mask",), ["tokens", *NAMES_OF_CACHE], marks=pytest.mark.slow),
        (("mask", "cache"), ["tokens"]),
        pytest.param(("cache",), ["tokens", "mask"], marks=pytest.mark.slow),
    ],
)
def test_a_file_has_the_inputs_that_are_given_and_says_which_are_not(tmp_path, plugins_from, without, inputs):
    manager, file = plugins_from(trees=PLUGIN), tmp_path / "decoder.onnx"
    nnkit.export("decoder", file, without=without, manager=manager)
    found = ports(file)
    assert list(found)[: len(inputs)] == inputs
    assert metadata.read(file)["spec"]["without"] == list(without)
    if "cache" in without:  # past is 0 without a cache
        assert found["present.1.value"] == ["batch", 2, "time", 4]
        assert found.get("mask") in (None, ["batch", "time"])
    report = nnkit.verify(file, manager=manager)
    assert report.spec.without == without
    assert report.verified


@pytest.mark.slow
def test_one_choice_of_inputs_for_all_formats(tmp_path, plugins_from):
    manager = plugins_from(trees=PLUGIN)
    report = nnkit.export_all("decoder", tmp_path, without=("mask", "cache"), verify=False, manager=manager)
    assert not report.failures
    assert {metadata.read(Path(export.file))["spec"]["without"][0] for export in report.reports} == {"mask"}
    assert nnkit.verify(tmp_path / "decoder.safetensors", manager=manager).verified
    assert nnkit.verify(tmp_path / "decoder.pt2", manager=manager).spec.without == ("mask", "cache")


def test_fixed_sizes_are_numbers_in_the_arithmetic_of_axes(tmp_path):
    how = nnkit.ExportOptions(fixed=frozenset({"past"}))
    nnkit.export(spec_of(DECODER, past=5), tmp_path / "fixed.onnx", how=how)
    found = ports(tmp_path / "fixed.onnx")
    assert (found["mask"], found["cache.0.key"]) == (["batch", "5 + time"], ["batch", 2, 5, 4])
    nnkit.export(spec_of(DECODER, past=5), tmp_path / "static.onnx", how=nnkit.ExportOptions(static=True))
    assert ports(tmp_path / "static.onnx")["mask"] == [1, 9]


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_dicts_keywords_constants_and_a_scalar_output(tmp_path, format):
    spec, file = spec_of(SIAMESE), tmp_path / f"siamese.{format}"
    report = nnkit.export(spec, file)
    assert {check.output for check in report.checks} == {"loss", "embedding.left", "embedding.right"}
    assert nnkit.verify(file, spec).verified
    left, right, weight = torch.randn(3, 3, 8, 8), torch.randn(3, 3, 8, 8), torch.rand(3)
    batch = {"left": {"image": left, "weight": weight}, "right": {"image": right}}
    with torch.no_grad():
        expected = nnkit.build(spec)(batch, margin=0.5, metric="l1")
    if format == "pt2":
        found = torch.export.load(file).module()(batch, margin=0.5, metric="l1")
        torch.testing.assert_close(found, expected)
        with pytest.raises(AssertionError, match="margin"):
            torch.export.load(file).module()(batch, margin=0.7, metric="l1")
        return
    feeds = {"batch.left.image": left, "batch.right.image": right, "batch.left.weight": weight}
    assert list(ports(file))[:3] == list(feeds)
    sides = expected["embedding"]
    named = {"embedding.left": sides["left"], "embedding.right": sides["right"], "loss": expected["loss"]}
    assert_same(run(file, feeds), named)


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_the_parts_of_variable_arguments(tmp_path, format):
    spec, file = spec_of(STREAMING), tmp_path / f"streaming.{format}"
    nnkit.export(spec, file)
    assert nnkit.verify(file, spec).verified
    x, states = torch.randn(3, 5), [torch.randn(3, 6), torch.randn(3, 6)]
    with torch.no_grad():
        y, new, _ = nnkit.build(spec)(x, *states, flip=True)
    if format == "pt2":
        found = torch.export.load(file).module()(x, *states, flip=True, steps=None)
        torch.testing.assert_close(found, (y, new, None))
        return
    names = list(ports(file))
    assert names[:3] == ["x", "states.0", "states.1"]
    found = run(file, dict(zip(names, [x, *states], strict=False)))
    for name, expected in zip(names[3:], [y, *new], strict=True):
        torch.testing.assert_close(found[name], expected)


@pytest.mark.parametrize("levels", [1, 3])
def test_sizes_follow_an_option(tmp_path, levels):
    spec, file = spec_of(UNET, levels=levels), tmp_path / "unet.onnx"
    report = nnkit.export(spec, file)
    heights = {sizes["height"] for sizes in report.proof.assignments}
    assert min(heights) == 2**levels
    assert not any(height % 2**levels for height in heights)
    x = torch.randn(2, 1, 2 ** (levels + 2), 2**levels)
    with torch.no_grad():
        expected = nnkit.build(spec)(x)
    torch.testing.assert_close(run(file, {"x": x})["y"], expected, rtol=1e-4, atol=1e-5)


def test_ports_may_have_other_dotted_names(tmp_path):
    how = nnkit.ExportOptions(input_names=("x", "state.a", "state.b"), output_names=("y", "new.a", "new.b"))
    nnkit.export(spec_of(STREAMING), tmp_path / "named.onnx", how=how)
    assert list(ports(tmp_path / "named.onnx")) == ["x", "state.a", "state.b", "y", "new.a", "new.b"]
    for name in ("state..a", ".a", "0.a", "a b"):
        with pytest.raises(UsageProblem, match="can't name"):
            nnkit.export(
                spec_of(STREAMING),
                tmp_path / "bad.onnx",
                how=nnkit.ExportOptions(input_names=("x", "state.a", name)),
            )


def test_a_random_network_is_refused_with_the_reason_and_written_without_a_proof(tmp_path):
    spec, file = spec_of(SAMPLER), tmp_path / "sampler.onnx"
    with pytest.raises(VerificationFailed, match="stochastic: always") as refused:
        nnkit.export(spec, file)
    assert "--no-verify" in refused.value.hint
    assert not file.exists()
    assert not nnkit.export(spec, file, verify=False).verified
    with pytest.raises(VerificationFailed, match="stochastic: always"):
        nnkit.verify(file, spec)
    assert nnkit.export(spec, tmp_path / "sampler.safetensors").verified


def test_a_network_that_is_random_only_in_training_is_proven(tmp_path):
    from dataclasses import replace

    spec = spec_of(replace(UNET, stochastic="training"))
    assert nnkit.export(spec, tmp_path / "unet.pt2").verified


NET = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
    def forward(self, batch, *, scale):
        return {"out": {"y": self.layer(batch["image"]) * batch["weight"] - scale}}
"""


def test_ports_of_a_strangers_file_belong_to_dotted_names(tmp_path, nnkit_command):
    (tmp_path / "net.py").write_text(NET)
    inputs = [
        word
        for line in ("batch.weight: float32[n, 1]", "batch.image: float32[n, 4]", "scale: float32[n, 3]")
        for word in ("--input", line)
    ]
    command = ["export", "net.py:Net", *inputs, "--onnx", "-o", "ours.onnx"]
    assert nnkit_command(*command).code == 0
    model = onnx.load(tmp_path / "ours.onnx")
    del model.metadata_props[:]
    model.producer_name = "someone"
    for port in model.graph.input:
        for node in model.graph.node:
            node.input[:] = [name.replace(".", "_") if name == port.name else name for name in node.input]
        port.name = port.name.replace(".", "_")
    shuffled = list(reversed(model.graph.input))
    del model.graph.input[:]
    model.graph.input.extend(shuffled)
    onnx.save(model, tmp_path / "theirs.onnx")
    done = nnkit_command("verify", "theirs.onnx", "--against", "net.py:Net", *inputs, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["verified"]


WRITER = """
import torch
def write(request):
    assert not request.keywords and all(isinstance(value, torch.Tensor) for value in request.inputs)
    program = torch.export.export(request.module, request.inputs, strict=False, dynamic_shapes=tuple(
        axes and dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in request.dynamic
    ))
    torch.export.save(program, request.path)
def run(path):
    program = torch.export.load(path).module()
    return lambda inputs: list(program(*inputs))
"""
FORMAT = """
from nnkit import Exporter, hookimpl
NNKIT_PLUGIN_API = "1.0"
@hookimpl
def nnkit_exporters():
    return [Exporter(name="flat", suffix=".flat", summary="x", write="flat_format:write", run="flat_format:run")]
"""


def test_a_plugins_format_gets_a_module_that_takes_tensors_one_by_one(tmp_path, plugins_from, monkeypatch):
    (tmp_path / "flat_format.py").write_text(WRITER)
    manager = plugins_from(flat=FORMAT)
    monkeypatch.delitem(__import__("sys").modules, "flat_format", raising=False)
    report = nnkit.export(spec_of(SIAMESE), tmp_path / "siamese.flat", manager=manager)
    assert report.proof.runner == "flat"
    assert {check.output for check in report.checks} == {"loss", "embedding.left", "embedding.right"}


def test_a_wrong_file_of_trees_is_not_proven(tmp_path):
    spec, file = spec_of(SIAMESE), tmp_path / "siamese.onnx"
    nnkit.export(spec, file, verify=False)
    model = onnx.load(file)
    first, second, *rest = list(model.graph.input)
    first.name, second.name = second.name, first.name
    del model.graph.input[:]
    model.graph.input.extend([second, first, *rest])
    for node in model.graph.node:
        swap = {first.name: second.name, second.name: first.name}
        node.input[:] = [swap.get(name, name) for name in node.input]
    onnx.save(model, file)
    with pytest.raises(VerificationFailed, match="is not the model"):
        nnkit.verify(file, spec)
    assert np.isfinite(onnx.numpy_helper.to_array(model.graph.initializer[0])).all()
