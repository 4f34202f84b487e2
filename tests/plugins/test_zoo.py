"""What holds for every architecture of the base zoo, through core's own verbs."""

import onnx
import pytest
import torch
from zoo import EVERY, LARGE, OWN_CODE, sample, small, tiny

import nnkit
from nnkit.models.running import call
from nnkit.models.sampling import sample_inputs
from nnkit.models.tensors import tensors_in
from nnkit.verbs.core_handlers import plugin_manager

VARIANTS = [
    *((f"recurrent/{name}", {"implementation": "plain"}) for name in ("rnn", "gru", "lstm")),
    ("recurrent/lstm", {"implementation": "plain", "bidirectional": True, "num_layers": 2, "lengths": True}),
    ("vision/resnet50", {"variant": "v1"}),
    ("vision/resnet18", {"stem": "cifar"}),
    ("graph/gcn", {"edge_weight": True}),
    ("graph/gcn", {"adjacency": "dense"}),
    ("graph/gcn", {"normalization": "none", "aggregate": "first"}),
]


@pytest.mark.parametrize("name", EVERY)
def test_it_says_what_it_is(name):
    architecture = plugin_manager().architectures()[name]
    assert architecture.summary
    assert architecture.paper
    assert architecture.equation
    assert architecture.notes
    assert nnkit.resolve(name).outputs


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_device_and_dtype_follow_the_inputs(name, dtype):
    """Shapes and dtypes on meta and, where it is quick, on the CPU: no tensor of another kind is made."""
    kind = getattr(torch, dtype)
    for device in ("meta", "cpu") if name in OWN_CODE else ("meta",):
        chosen = small(name, dtype=dtype) if device == "cpu" else nnkit.resolve(name, dtype=dtype)
        module = nnkit.build(chosen, device=device)
        with torch.inference_mode():
            outputs = call(module, chosen.signature, sample_inputs(chosen, device=device))
        for declared, tensor in zip(chosen.outputs, tensors_in(outputs), strict=True):
            assert tuple(tensor.shape) == chosen.shape(declared)
            assert tensor.device.type == device
            assert tensor.dtype == kind or not tensor.is_floating_point()


def assert_no_failure(report, name):
    assert {check.name: check.message for check in report.checks if check.status == "failed"} == {}
    # The head of PointNet normalizes one global feature a sample, so a batch of one can't be trained.
    expected = {"batch-sizes"} if name.startswith("pointcloud/") else set()
    assert {check.name for check in report.checks if check.status == "warned"} == expected


@pytest.mark.parametrize("name", sample([name for name in OWN_CODE if name not in LARGE], 12, seed=1))
def test_it_passes_the_smoke_run(name):
    assert_no_failure(nnkit.smoke_run(tiny(name)), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sample([name for name in OWN_CODE if name not in LARGE], 8, seed=2))
def test_it_passes_the_full_smoke_run(name):
    assert_no_failure(nnkit.smoke_run(tiny(name), full=True), name)


def assert_without_effect(spec, names):
    """Whatever these parameters are, the outputs stay: softmax takes away what a bias adds to every key."""
    spec = nnkit.resolve(spec, dtype="float64")
    module, inputs = nnkit.build(spec), sample_inputs(spec)
    with torch.no_grad():
        before = tensors_in(call(module, spec.signature, inputs))
        for name in names:
            module.get_parameter(name).normal_()
        after = tensors_in(call(module, spec.signature, inputs))
    for one, other in zip(before, after, strict=True):
        assert torch.allclose(one, other, atol=1e-12), names


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"), sample([*((name, {}) for name in OWN_CODE), *VARIANTS], 16, seed=3)
)
def test_it_exports_with_every_dim_dynamic_twice_to_the_same_graph(name, options, tmp_path):
    spec = small(name, **options)
    proof = nnkit.export(spec, tmp_path / "1.onnx").proof
    assert len(proof.assignments) >= 5
    if proof.coverage.share <= 0.999:
        assert_without_effect(spec, proof.coverage.unproven)
    assert proof.equal[0] == proof.equal[1] > 0
    nnkit.export(spec, tmp_path / "2.onnx", verify=False)
    first, second = (onnx.load(tmp_path / name) for name in ("1.onnx", "2.onnx"))
    assert first.graph.SerializeToString() == second.graph.SerializeToString()  # only the stamps differ


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", EVERY)
def test_it_passes_the_smoke_run_on_cuda(name):
    report = nnkit.smoke_run(small(name), device="cuda")
    assert {check.name: check.message for check in report.checks if check.status == "failed"} == {}
