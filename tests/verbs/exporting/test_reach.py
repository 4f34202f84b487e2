"""What a proof reaches: sizes beyond the traced ones, every input, and a module that has not run before."""

import numpy as np
import onnxruntime
import pytest
import sympy
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._sympy.functions import FloorDiv, Max, Mod

import nnkit
from nnkit import Dim, ExportOptions
from nnkit.contract.sizes import Dims
from nnkit.errors import VerificationFailed
from nnkit.models.copies import copy_of
from nnkit.models.references import Reference
from nnkit.models.sampling import sample_inputs
from nnkit.models.sizes import ladders
from nnkit.models.user_modules import architecture_of_code
from nnkit.verbs.exporting.bounds import is_assumed
from nnkit.verbs.exporting.plan import make_plan

SERIES = "x: float32[batch, time, 8]"


def spec_of(name, *inputs, **options):
    return Reference(architecture_of_code(f"{__name__}:{name}", inputs), "").resolve(None, options)


def refusal(tmp_path, name, *inputs, format="onnx"):
    with pytest.raises(VerificationFailed) as raised:
        nnkit.export(spec_of(name, *inputs), tmp_path / f"net.{format}", format=format)
    assert list(tmp_path.iterdir()) == []
    return raised.value


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)


class FromThirtyThree(Two):
    def forward(self, x):
        return self.second(x) if x.shape[1] > 32 else self.first(x)


class BeyondSixteenRows(Two):
    def forward(self, x):
        return self.first(x) if x.shape[0] <= 16 else torch.cat([self.first(x[:16]), self.second(x[16:])])


class HalfOfTheSteps(Two):
    def forward(self, x):
        return self.second(x) if x.shape[1] // 2 > 10 else self.first(x)


class Sliding(Two):
    def forward(self, x):
        return torch.cat([self.first(part) for part in x.split(512, 1)], 1)


@pytest.mark.parametrize("format", ["onnx", "pt2"])
@pytest.mark.parametrize(
    ("name", "dim", "bound"),
    [
        ("FromThirtyThree", "time", 32),
        ("BeyondSixteenRows", "batch", 16),
        ("HalfOfTheSteps", "time", 21),
        ("Sliding", "time", 512),
    ],
)
def test_a_bound_that_torch_found_and_nobody_declared_is_refused(tmp_path, name, dim, bound, format):
    error = refusal(tmp_path, name, SERIES, format=format)
    assert f"only for {dim} up to {bound}" in error.message
    assert f'"{dim} max={bound}"' in error.hint


def test_a_bound_that_is_declared_is_no_problem_and_reached(tmp_path):
    report = nnkit.export(
        spec_of("FromThirtyThree", "x: float32[batch, time max=32, 8]"), tmp_path / "net.pt2", format="pt2"
    )
    assert report.proof.reach.largest["time"] == 32
    assert report.proof.reach.largest["batch"] >= 16


class ManyElements(Two):
    def forward(self, x):
        return self.second(x) if x.shape[0] * x.shape[1] > 64 else self.first(x)


class AtSixtyFour(Two):
    def forward(self, x):
        return self.second(x) if x.shape[1] == 64 else self.first(x)


class SameLength(Two):
    def forward(self, x, y):
        total = y.sum(1, keepdim=True)
        return self.second(x) + total if x.shape[1] == y.shape[1] else self.first(x) + total


@pytest.mark.parametrize(
    ("name", "inputs", "guard"),
    [
        ("ManyElements", [SERIES], "batch*time <= 64"),
        ("AtSixtyFour", [SERIES], "time != 64"),
        ("SameLength", [SERIES, "y: float32[batch, steps, 8]"], "time != steps"),
    ],
)
def test_a_guard_on_sizes_is_broken_on_purpose(tmp_path, name, inputs, guard):
    error = refusal(tmp_path, name, *inputs)
    assert "is not the model: at batch" in error.message
    assert guard in error.hint


class HalfIsOne(Two):
    def forward(self, x):
        return self.second(x) if x.shape[1] // 2 == 1 else self.first(x)


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_a_branch_on_a_size_of_one_inside_is_found(tmp_path, format):
    """torch assumes that no size is 1, so it keeps no more than `time // 2 != 1`, as for a network without it."""
    error = refusal(tmp_path, "HalfIsOne", "x: float32[batch, time min=2, 8]", format=format)
    assert "is not the model: at batch 1, time 3" in error.message  # 3 // 2 is 1


H, W, B = sympy.symbols("h w b", integer=True, positive=True)


@pytest.mark.parametrize(
    ("guard", "assumed"),
    [
        (sympy.Ne(FloorDiv(H, 4), 1), True),
        (Max(1, FloorDiv(H, 2)) < Max(1, FloorDiv(H, 2)) * Max(1, FloorDiv(W, 2)), True),
        (sympy.Ne(B * FloorDiv(H, 32) * FloorDiv(W, 32), B), True),
        (sympy.Ne(Mod(FloorDiv(H, 4), FloorDiv(H, 4) * FloorDiv(W, 4)), 0), True),
        (H >= 4, False),
        (H <= 100, False),
        (H * W <= 5000, False),
        (sympy.Ne(H, 777), False),
        (sympy.Ne(H * W, 6006), False),
        (sympy.Ne(H + W, 777), False),
        (sympy.Ne(FloorDiv(H + W, 10), 77), False),
        (sympy.Ne(Mod(H + W, 777), 0), False),
        (H < W, False),
        (sympy.Eq(H, 2 * FloorDiv(H, 2)), False),
    ],
)
def test_guards_that_hold_where_no_size_is_one_are_assumed(guard, assumed):
    assert is_assumed(guard) is assumed


class Shrunk(nn.Module):
    def forward(self, x):
        return F.interpolate(x, scale_factor=0.6, mode="nearest")


def test_pixels_that_differ_at_larger_pictures_are_found(tmp_path):
    """No guard tells of it: ONNX and torch round the source of a pixel differently from width 17 up."""
    error = refusal(tmp_path, "Shrunk", "x: float32[batch, 3, height min=2, width min=2]")
    assert "output 'output' differs" in error.message


def test_proofs_go_eight_times_as_far_where_the_budget_allows(tmp_path):
    report = nnkit.export(spec_of("Plain", SERIES), tmp_path / "net.pt2", format="pt2")
    reach = report.proof.reach
    assert reach.largest["batch"] >= 8 * 2
    assert reach.largest["time"] >= 8 * 8
    assert (reach.seconds, reach.bytes) == (5.0, 2**30)
    assert all(check.passed for check in reach.checks)
    assert {"sizes", "largest", "seconds", "bytes"} == set(report.to_dict()["proof"]["reach"])


class Plain(Two):
    def forward(self, x):
        return self.first(x)


def test_the_file_holds_nothing_that_depends_on_the_budget(tmp_path):
    """How far a proof goes depends on the machine; the bytes of the file must not."""
    for name in ("a.onnx", "b.onnx"):
        nnkit.export(spec_of("Plain", SERIES), tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_the_ways_up_hold_to_the_declaration():
    declared = {"batch": Dim(default=1), "side": Dim(default=64, min=32, max=512, multiple_of=32)}
    dims = Dims({name: dim.resolve({}) for name, dim in declared.items()})
    coarse, fine = ladders(dims, {"batch": 2, "side": 64}, [("batch", "side")])
    every = [sizes for ladder in (*coarse, *fine) for sizes in ladder]
    assert not any(dims[name].problem_with(size) for sizes in every for name, size in sizes.items())
    assert {"batch": 16, "side": 512} in every  # eight times both
    assert {15, 16, 17, 255, 256, 257} <= {sizes["batch"] for sizes in every}
    assert {32, 64, 96, 128, 224, 256, 512} <= {sizes["side"] for sizes in every}


# Inputs that never vary


class Masked(Two):
    def forward(self, x, mask):
        return self.first(x).masked_fill(mask.unsqueeze(-1), -3.0)


class Embedded(Two):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(20, 8)

    def forward(self, x, tokens):
        return self.first(x) + self.table(tokens)


def legacy(module, other, path):
    names = {name: {0: "batch", 1: "time"} for name in ("x", *other, "y")}
    torch.onnx.export(
        module, (torch.randn(2, 5, 8), *other.values()), path, input_names=["x", *other],
        output_names=["y"], dynamic_axes=names, dynamo=False,
    )  # fmt: skip


class MaskIgnored(Masked):
    def forward(self, x, mask):
        return self.first(x) + 0 * mask.unsqueeze(-1).float()


class AnotherIndex(Embedded):
    def forward(self, x, tokens):
        return self.first(x) + self.table(tokens * 2 % 20)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("wrong", "right", "declared", "example"),
    [
        ("MaskIgnored", "Masked", "mask: bool[batch, time]", torch.zeros(2, 5, dtype=torch.bool)),
        ("AnotherIndex", "Embedded", "tokens: int64[batch, time]", torch.zeros(2, 5, dtype=torch.int64)),
    ],
)
def test_what_a_file_makes_of_a_mask_or_of_integers_is_compared(tmp_path, wrong, right, declared, example):
    spec = spec_of(right, SERIES, declared)
    module = nnkit.build(spec)
    other = globals()[wrong]()
    other.load_state_dict(module.state_dict())
    file = tmp_path / "net.onnx"
    legacy(other.eval(), {declared.partition(":")[0]: example}, file)
    with pytest.raises(VerificationFailed, match="differs by"):
        nnkit.verify(file, against=spec)
    legacy(module, {declared.partition(":")[0]: example}, file)
    assert nnkit.verify(file, against=spec).verified


def test_masks_hide_no_whole_row_and_vary():
    spec = spec_of("Masked", "x: float32[batch=50, time=3, 8]", "mask: bool[batch, time]")
    mask = sample_inputs(spec)[1]
    assert mask.any(-1).all()
    assert not mask.all(-1).any()
    assert not torch.equal(mask, sample_inputs(spec, seed=1)[1])
    assert not sample_inputs(spec, sizes={"time": 1})[1].any()


class Gathered(Two):
    def forward(self, x, places):
        return self.first(x).gather(1, places.unsqueeze(-1).expand(-1, -1, 8))


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(
            self.linear(x), lengths, batch_first=True, enforce_sorted=False
        )
        return nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)[0]


class Counted(Two):
    def forward(self, x, counts):
        return self.first(x) * counts.unsqueeze(-1)


@pytest.mark.parametrize(
    ("name", "declared", "sample", "index_of"),
    [
        ("Embedded", "tokens: int64[batch, time]", "index", 20),
        ("Gathered", "places: int64[batch, picked]", "index", "time"),
        ("Packed", "lengths: int64[batch]", "lengths", "time"),
        ("Counted", "counts: int32[batch, time]", "index", 8),
    ],
)
def test_the_limit_of_undeclared_integers_is_found_by_running(name, declared, sample, index_of):
    spec = spec_of(name, SERIES, declared)
    plan = make_plan(spec, nnkit.build(spec), ExportOptions())
    assert (plan.spec.inputs[1].sample, plan.spec.inputs[1].index_of) == (sample, index_of)
    (sentence,) = plan.assumed
    assert sentence.startswith(declared.partition(":")[0])
    first, second = (run.inputs[1] for run in plan.runs[:2])
    assert not torch.equal(first, second)


class Unread(Two):
    def forward(self, x, unused):
        return self.first(x)


class Unfelt(Two):
    def forward(self, x, y):
        return self.first(x) + y * 0


def test_an_input_that_no_output_feels_is_refused_and_one_that_is_never_read_is_named(tmp_path):
    report = nnkit.export(
        spec_of("Unread", SERIES, "unused: float32[batch, 3]"), tmp_path / "net.pt2", format="pt2"
    )
    assert report.proof.unread == ("unused",)
    (tmp_path / "net.pt2").unlink()
    error = refusal(tmp_path, "Unfelt", SERIES, "y: float32[batch, time, 8]", format="pt2")
    assert error.message == "input 'y' changes no output, so how the file uses it can't be proven"


def test_given_inputs_whose_values_are_all_equal_are_varied(tmp_path):
    module = Masked().eval()
    inputs = [torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)]
    assert nnkit.export(module, tmp_path / "net.pt2", inputs, format="pt2").verified
    module, inputs = Embedded().eval(), [torch.randn(2, 5, 8), torch.full((2, 5), 19)]
    assert nnkit.export(module, tmp_path / "other.pt2", inputs, format="pt2").verified


# State


class Warm(Two):
    """Five times as much on the first call."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        result = self.first(x) * torch.where(self.steps > 0, 1.0, 5.0)
        self.steps += 1
        return result


class LateChange(Warm):
    def forward(self, x):
        result = self.first(x) * torch.where(self.steps > 4, 1.0, 5.0)
        self.steps += 1
        return result


class Remembers(Two):
    """Its last input, as a plain attribute."""

    before = None

    def forward(self, x):
        result = self.first(x) if self.before is None else self.first(x) + self.before
        self.before = x
        return result


@pytest.mark.parametrize(
    ("name", "changed"),
    [("Warm", "buffer 'steps'"), ("LateChange", "buffer 'steps'"), ("Remembers", "attribute 'before'")],
)
def test_a_module_whose_result_changes_from_call_to_call_is_stateful(tmp_path, name, changed):
    error = refusal(tmp_path, name, SERIES, format="pt2")
    assert f"is stateful: forward changes {changed}" in error.message
    assert "random" not in error.message


class CountsCalls(Warm):
    def forward(self, x):
        self.steps += 1
        return self.first(x)


def test_a_counter_that_no_result_follows_is_no_state(tmp_path):
    assert nnkit.export(spec_of("CountsCalls", SERIES), tmp_path / "net.onnx").verified


def test_what_is_written_is_a_module_that_has_not_run(tmp_path):
    """Its first result, which a module that has run no longer gives."""
    spec = spec_of("Warm", "x: float32[batch, 8]")
    nnkit.export(spec, tmp_path / "net.onnx", verify=False)
    x = torch.randn(3, 8)
    with torch.no_grad():
        expected = nnkit.build(spec)(x)
    (result,) = onnxruntime.InferenceSession(tmp_path / "net.onnx").run(None, {"x": x.numpy()})
    assert np.abs(result - expected.numpy()).max() < 1e-5


def test_a_copy_shares_parameters_and_has_its_own_state():
    module = Warm()
    copy = copy_of(module)
    copy(torch.randn(2, 8))
    assert (int(module.steps), int(copy.steps)) == (0, 1)
    assert copy.first.weight is module.first.weight


# Derivatives in forward


class Forces(nn.Module):
    """The energy of a set of points, and the forces on them."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 16), nn.Linear(16, 1)

    def forward(self, places):
        with torch.enable_grad():
            places = places.detach().requires_grad_()
            energy = self.outer(torch.tanh(self.inner(places))).sum((1, 2))
            forces = -torch.autograd.grad(energy.sum(), places, create_graph=True)[0]
        return energy, forces


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_a_model_that_differentiates_in_its_own_forward_is_exported(tmp_path, format):
    spec = spec_of("Forces", "places: float32[batch, atoms, 3]")
    report = nnkit.export(spec, tmp_path / f"net.{format}", format=format)
    assert report.proof.coverage.share == 1
    if format == "onnx":
        module, places = nnkit.build(spec), torch.randn(3, 7, 3)
        session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
        energy, forces = session.run(None, {"places": places.numpy()})
        slope = 1 - torch.tanh(places @ module.inner.weight.t() + module.inner.bias) ** 2
        by_hand = -(slope * module.outer.weight) @ module.inner.weight
        assert np.abs(forces - by_hand.detach().numpy()).max() < 1e-5
        assert energy.shape == (3,)


class Kept(nn.Module):
    """Attention in which a mask says which keys are kept."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x, keep):
        heads = self.linear(x).unflatten(-1, (2, 4)).transpose(1, 2)
        return F.scaled_dot_product_attention(heads, heads, heads, attn_mask=keep)


@pytest.mark.parametrize(
    ("name", "declared", "sample"),
    [("Kept", "keep: bool[batch, 1, time, time]", "keep"), ("Masked", "mask: bool[batch, time]", "mask")],
)
def test_a_row_of_one_is_not_hidden(name, declared, sample):
    spec = spec_of(name, SERIES, declared)
    plan = make_plan(spec, nnkit.build(spec), ExportOptions())
    assert plan.spec.inputs[1].sample == sample
    rows_of_one = next(run.inputs[1] for run in plan.runs if run.sizes["time"] == 1)
    assert rows_of_one.all() == (sample == "keep")
    assert rows_of_one.any() == (sample == "keep")


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.utils.weight_norm(nn.Linear(8, 4))

    def forward(self, x):
        return self.linear(x)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_a_weight_that_is_computed_before_each_call_is_copied(tmp_path):
    report = nnkit.export(spec_of("Normed", "x: float32[batch, 8]"), tmp_path / "net.pt2", format="pt2")
    assert report.proof.coverage.share == 1
