"""What holds for every architecture of the base zoo, through core's own verbs."""

import onnx
import pytest
import torch

import nnkit
from nnkit.models.sampling import sample_inputs
from nnkit.models.tensors import tensors_in
from nnkit.verbs.core_handlers import plugin_manager

SMALL = 64  # sizes above it are cut, for the sake of time
EVERY = sorted(plugin_manager().architectures())

# Deeper members of a family run the code of the first; of each, what differs is exported.
SAME_CODE = {
    *(f"vision/vgg{depth}{bn}" for depth in (13, 16, 19) for bn in ("", "-bn")),
    *(f"vision/resnet{depth}" for depth in (34, 101, 152, 32, 44, 56, 110)),
}
VARIANTS = [
    *((f"recurrent/{name}", {"implementation": "plain"}) for name in ("rnn", "gru", "lstm")),
    ("recurrent/lstm", {"implementation": "plain", "bidirectional": True, "num_layers": 2, "lengths": True}),
    ("vision/resnet50", {"variant": "v1"}),
    ("vision/resnet18", {"stem": "cifar"}),
    ("graph/gcn", {"edge_weight": True}),
    ("graph/gcn", {"adjacency": "dense"}),
    ("graph/gcn", {"normalization": "none", "aggregate": "first"}),
]


def small(name, **options):
    """Return the spec at sizes that are quick to run."""
    spec = nnkit.resolve(name, **options)
    dims = spec.architecture.dims_for(spec.config)
    cut = {
        axis: max(dims[axis].min, SMALL - SMALL % dims[axis].multiple_of)
        for axis, size in spec.sizes.items()
        if size > SMALL
    }
    return spec.with_sizes(cut)


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
    spec = nnkit.resolve(name, dtype=dtype)
    kind = getattr(torch, dtype)
    for device in ("meta",) if name in SAME_CODE else ("meta", "cpu"):
        chosen = small(name, dtype=dtype) if device == "cpu" else spec
        module = nnkit.build(chosen, device=device)
        with torch.inference_mode():
            outputs = list(tensors_in(module(*sample_inputs(chosen, device=device))))
        for declared, tensor in zip(chosen.outputs, outputs, strict=True):
            assert tuple(tensor.shape) == chosen.shape(declared)
            assert tensor.device.type == device
            assert tensor.dtype == kind or not tensor.is_floating_point()


LARGE = ("vision/vgg11", "vision/vgg11-bn", "vision/alexnet", "vision/alexnet-2012", "vision/resnet50")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in LARGE else ())
        for name in EVERY
        if name not in SAME_CODE
    ],
)
def test_it_passes_the_smoke_run(name):
    report = nnkit.smoke_run(nnkit.resolve(name))
    assert {check.name: check.message for check in report.checks if check.status == "failed"} == {}
    # The head of PointNet normalizes one global feature a sample, so a batch of one can't be trained.
    expected = {"batch-sizes"} if name.startswith("pointcloud/") else set()
    assert {check.name for check in report.checks if check.status == "warned"} == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in EVERY if name not in SAME_CODE), *VARIANTS]
)
def test_it_exports_with_every_dim_dynamic_twice_to_the_same_graph(name, options, tmp_path):
    spec = small(name, **options)
    proof = nnkit.export(spec, tmp_path / "1.onnx").proof
    assert len(proof.assignments) >= 5
    assert proof.coverage.share > 0.999
    assert proof.equal[0] == proof.equal[1] > 0
    nnkit.export(spec, tmp_path / "2.onnx", verify=False)
    first, second = (onnx.load(tmp_path / name) for name in ("1.onnx", "2.onnx"))
    assert first.graph.SerializeToString() == second.graph.SerializeToString()  # only the stamps differ


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", EVERY)
def test_it_passes_the_smoke_run_on_cuda(name):
    report = nnkit.smoke_run(small(name), device="cuda")
    assert {check.name: check.message for check in report.checks if check.status == "failed"} == {}
