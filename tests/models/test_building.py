"""building.py, sampling.py and devices.py: the same model and inputs from the same seed, anywhere."""

import random

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import nnkit
from nnkit import TensorSpec
from nnkit.contract.spec import make_spec
from nnkit.errors import NnkitError, UsageProblem
from nnkit.models.building import build_without_weights
from nnkit.models.devices import available_devices, find_device
from nnkit.models.sampling import sample_inputs
from nnkit.models.user_modules import architecture_of_code
from nnkit.verbs.core_handlers import plugin_manager


def test_the_same_seed_gives_the_same_weights_bit_for_bit():
    one, two, other = (nnkit.build("resnet18", seed=seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])


def test_the_weights_are_those_that_torch_draws_from_the_seed():
    torch.manual_seed(3)
    reference = nn.Conv2d(3, 32, 3, padding=1)
    assert torch.equal(nnkit.build("simple-cnn", seed=3).conv1.weight, reference.weight)


def test_building_leaves_the_random_state_of_the_process_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    before = random.getstate()
    nnkit.build("simple-cnn")
    sample_inputs(nnkit.resolve("simple-cnn"))
    assert torch.equal(torch.rand(3), expected)
    assert random.getstate() == before


def test_dtype_is_that_of_every_float_and_eval_is_the_mode():
    module = nnkit.build("resnet18", dtype="bfloat16")
    floats = [each for each in module.state_dict().values() if each.is_floating_point()]
    assert {each.dtype for each in floats} == {torch.bfloat16}
    assert not module.training


def test_meta_has_shapes_and_no_weights():
    module = nnkit.build("resnet152", device="meta", num_classes=1000)
    assert sum(each.numel() for each in module.parameters()) == 60_192_808
    assert all(each.is_meta for each in (*module.parameters(), *module.buffers()))


class Tied(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, width)
        self.head = nn.Linear(width, 1000, bias=False)
        self.head.weight = self.embedding.weight
        self.scale = nn.Parameter(torch.linspace(0, 1, 7)[: int(torch.tensor(3.0).sum())])

    def forward(self, x):
        return self.head(self.embedding(x)) * self.scale.sum()


@pytest.mark.parametrize("limit", [0, 2**30])
def test_without_weights_tied_ones_stay_tied_and_constructors_may_compute(limit):
    architecture = architecture_of_code(f"{__name__}:Tied", ["x: int64[batch, 4]"])
    module = build_without_weights(make_spec(architecture), plugin_manager(), limit)
    assert module.head.weight is module.embedding.weight
    assert module.head.weight.is_meta == (limit == 0)
    assert sum(each.numel() for each in module.parameters()) == 8 * 1000 + 3


class RejectsOutliers(nn.Module):
    """Draws until every value is within bounds, as trunc_normal_ does; before and after registration."""

    def __init__(self, width: int = 64):
        super().__init__()
        before = nn.Parameter(torch.full((width,), 9.0))
        nn.init.trunc_normal_(before, std=0.01, a=-0.02, b=0.02)
        self.before = before
        self.after = nn.Parameter(torch.full((width,), 9.0))
        nn.init.trunc_normal_(self.after, std=0.01, a=-0.02, b=0.02)

    def forward(self, x):
        return x + self.before + self.after


@pytest.mark.timeout(60)
@pytest.mark.parametrize("limit", [0, 2**30])
def test_an_initialiser_that_draws_again_until_it_is_satisfied_ends(limit):
    architecture = architecture_of_code(f"{__name__}:RejectsOutliers", ["x: float32[batch, 64]"])
    module = build_without_weights(make_spec(architecture), plugin_manager(), limit)
    assert module.after.is_meta == (limit == 0)


def test_recurrent_layers_without_weights_run():
    module = build_without_weights(nnkit.resolve("lstm"), plugin_manager(), 2**30)
    assert module(torch.zeros(2, 3, 28))[0].shape == (2, 10)


def test_inputs_are_as_declared_and_follow_the_seed():
    spec = nnkit.resolve("simple-cnn", batch=3, image_size=16)
    (one,), (two,) = (sample_inputs(spec, seed=seed) for seed in (1, 1))
    assert one.shape == (3, 3, 16, 16)
    assert torch.equal(one, two)
    assert not torch.equal(one, sample_inputs(spec, seed=2)[0])
    assert sample_inputs(spec, sizes={"batch": 7})[0].shape[0] == 7


def spec_of(*inputs: TensorSpec):
    from nnkit import Architecture, Dim
    from nnkit.models.user_modules import NoOptions

    dims = {"nodes": Dim(default=6), "edges": Dim(default=40, min=0), "time": Dim(default=9)}
    return make_spec(
        Architecture(
            name="a", summary="", build="x:y", config=NoOptions, inputs=inputs, outputs=(), dims=dims
        )
    )


def test_each_kind_of_sample_keeps_its_promise():
    spec = spec_of(
        TensorSpec("edge_index", (2, "edges"), "int64", "index", "nodes"),
        TensorSpec("lengths", (5,), "int64", "lengths", "time"),
        TensorSpec("adjacency", ("nodes", "nodes"), "float", "adjacency"),
        TensorSpec("share", (100,), "float", "uniform"),
        TensorSpec("drawn", ("nodes",), "float", f"{__name__}:drawn"),
    )
    edges, lengths, adjacency, share, own = sample_inputs(spec)
    assert set(edges.unique().tolist()) == set(range(6))
    assert lengths.max() == 9
    assert lengths.min() >= 1
    assert torch.equal(adjacency, adjacency.T)
    assert adjacency.diagonal().sum() == 0
    assert set(adjacency.unique().tolist()) == {0.0, 1.0}
    assert share.min() >= 0
    assert share.max() < 1
    assert own.tolist() == [6.0] * 6
    assert sample_inputs(spec, sizes={"edges": 0})[0].shape == (2, 0)


def drawn(shape, sizes, dtype, generator):
    return torch.full(shape, sizes["nodes"], dtype=dtype)


def test_an_unknown_kind_of_sample_gets_the_nearest():
    with pytest.raises(UsageProblem) as raised:
        sample_inputs(spec_of(TensorSpec("x", (2, "nodes"), "float", "norml")))
    assert raised.value.hint.startswith("did you mean normal")


def test_a_device_that_is_not_there_names_those_that_are():
    missing = next(kind for kind in ("cuda", "mps", "xpu") if f"{kind}:0" not in available_devices())
    with pytest.raises(UsageProblem) as raised:
        find_device(missing)
    assert raised.value.message == f"device '{missing}' is not available on this machine"
    assert raised.value.hint == f"this machine has: {', '.join(available_devices())}"
    with pytest.raises(UsageProblem, match="is not a device"):
        find_device("gpu")
    assert find_device("auto").type == available_devices()[0].partition(":")[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_seed_gives_the_same_weights_on_cuda():
    here, there = nnkit.build("resnet18"), nnkit.build("resnet18", device="cuda")
    assert torch.equal(here.fc.weight, there.fc.weight.cpu())


def test_weights_come_from_a_file_strictly(tmp_path):
    file = tmp_path / "w.safetensors"
    source = nnkit.build("simple-cnn", seed=9)
    save_file(source.state_dict(), file)
    assert torch.equal(nnkit.build("simple-cnn", weights=str(file)).fc1.weight, source.fc1.weight)
    with pytest.raises(UsageProblem, match="don't fit"):
        nnkit.build("simple-cnn", num_classes=3, weights=str(file))
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(NnkitError, match="is damaged"):
        nnkit.build("simple-cnn", weights=str(file))
    with pytest.raises(UsageProblem, match=r"weights file .* does not exist"):
        nnkit.build("simple-cnn", weights=str(tmp_path / "none.safetensors"))
