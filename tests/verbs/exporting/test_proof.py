"""What the proof is made of: which weights are felt, by how much an output may be off, what a dim is called."""

import onnx
import pytest
import torch
from torch import nn

import nnkit
from nnkit.contract.signature import Signature
from nnkit.errors import VerificationFailed
from nnkit.verbs.exporting.coverage import measure, perturb
from nnkit.verbs.exporting.onnx_graph import axes_of, evaluate
from nnkit.verbs.exporting.tolerance import is_same, tolerance_and_scale, tolerance_of, typical_tolerance


def limits(module, x):
    with torch.inference_mode():
        return [typical_tolerance(module(x))]


def test_the_effect_of_a_weight_is_how_far_redrawing_it_moves_the_output():
    """Against the effect that is measured by redrawing it."""
    torch.manual_seed(0)
    module, x = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 4)), torch.randn(64, 20)
    limit = limits(module, x)
    effects = measure(module, Signature(("x",)), (x,), limit).effects.effects
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            before, kept = module(x), parameter.clone()
            moved = []
            for _ in range(30):
                # A small step, for which the first order is enough.
                parameter.copy_(kept + 1e-3 * kept.square().mean().sqrt() * torch.randn(kept.shape))
                moved.append((module(x) - before).square().mean().sqrt() * 1e3 / limit[0])
            parameter.copy_(kept)
            assert effects[name] == pytest.approx(float(torch.stack(moved).mean()), rel=0.5)


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.unread = nn.Linear(5, 6), nn.Linear(2, 2)
        self.gate = nn.Parameter(torch.zeros(6))
        self.faint = nn.Parameter(1e-7 * torch.randn(6))

    def forward(self, x):
        return x.sum(1, keepdim=True) + self.gate * self.inner(x) + self.faint


def test_what_a_gate_hides_what_is_faint_and_what_is_not_read():
    torch.manual_seed(0)
    module, x = Parts(), torch.randn(8, 5)
    effects = measure(module, Signature(("x",)), (x,), limits(module, x)).effects
    assert effects.unseen == {"inner.weight", "inner.bias", "gate", "faint"}
    assert effects.unused == ("unread.weight", "unread.bias")
    other = perturb(module, Signature(("x",)), [(x,), (torch.randn(8, 5),)])
    assert measure(other, Signature(("x",)), (x,), limits(other, x)).effects.unseen == set()
    assert not module.gate.any()  # the module itself stays as it is


def test_statistics_of_normalisations_are_measured_and_dropout_stays_off():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.9), nn.Linear(6, 3)).eval()
    with torch.no_grad():
        module[0].weight.mul_(1e-9)
    samples = [(torch.randn(40, 5),), (torch.randn(40, 5),)]
    other = perturb(module, Signature(("x",)), samples)
    with torch.inference_mode():
        assert torch.equal(other(samples[0][0]), other(samples[0][0]))
        assert other[1](other[0](samples[0][0])).std() > 0.3
    assert not other.training


def test_integers_alone_have_no_effect_to_measure():
    class Largest(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 4)

        def forward(self, x):
            return self.linear(x).argmax(-1)

    assert measure(Largest(), Signature(("x",)), (torch.randn(2, 3),), [None]).effects is None


def test_masked_scores_do_not_widen_what_is_allowed():
    scores = torch.randn(4, 10)
    masked = scores.clone()
    masked[:, 5:] = -1e4
    assert tolerance_and_scale(masked)[1] == pytest.approx(float(scores[:, :5].std(correction=0)), rel=1e-3)
    infinite = scores.clone()
    infinite[:, 5:] = -torch.inf
    assert is_same(infinite, infinite)
    wrong = infinite.clone()
    wrong[0, 9] = 0
    assert not is_same(wrong, infinite)
    assert not is_same(infinite, wrong)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_what_is_allowed_follows_spread_and_dtype(dtype):
    torch.manual_seed(0)
    small = (1e-3 * torch.randn(1000)).to(dtype)
    assert typical_tolerance((small.double() * 64).to(dtype)) == pytest.approx(
        64 * typical_tolerance(small), rel=0.1
    )
    far = (100 + torch.zeros(5, dtype=torch.float64)).to(dtype)
    far[0] += 1
    assert float(tolerance_of(far).max()) >= 16 * 100 * torch.finfo(dtype).eps
    assert is_same(far + 0, far)
    assert not is_same(small.flip(0), small)


def test_an_axis_without_a_size_and_a_name_is_free():
    port = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, "n", 3, 0])
    assert axes_of(port) == ["?", "n", 3, 0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("height", 7),
        ("2*height - 1", 13),
        ("height//2 + 3", 6),
        ("(height - 1)//3", 2),
        ("Max(1, height)", None),
        ("u0", None),
        ("1//0", None),
    ],
)
def test_sizes_that_are_computed_from_dims(text, value):
    assert evaluate(text, {"height": 7}) == value


@pytest.mark.slow
def test_statistics_of_one_size_do_not_keep_a_deep_network_from_being_proven_at_others(tmp_path):
    """Measured at 64×65, those of 130 layers amplify rounding at 81×82, where 16 % stayed unproven."""
    proof = nnkit.export("efficientnet-b3", tmp_path / "b3.onnx", height=64, width=64).proof
    assert proof.coverage.share == 1
    assert not any(check.rounded for check in proof.checks)


class Amplifying(nn.Module):
    """Amplifies the rounding of its linear layer where `gate` is not 0, as it is at first."""

    def __init__(self, behind: int) -> None:
        super().__init__()
        self.first, self.gate = nn.Linear(64, 64), nn.Parameter(torch.zeros(64))
        self.behind = nn.Linear(64, behind)

    def forward(self, x):
        y = self.first(x)
        return y + self.gate.sign() * (1e7 * y + self.behind(x).sum(1, keepdim=True)).sin()


def test_rounding_that_only_perturbed_weights_amplify_is_no_failure(tmp_path):
    """With perturbed weights, float32 and float64 differ by as much as the file does from either."""
    torch.manual_seed(0)
    proof = nnkit.export(Amplifying(4), tmp_path / "x.onnx", [torch.randn(2, 64)]).proof
    assert {check.weights for check in proof.checks if check.rounded} == {"perturbed"}
    assert {"gate", "behind.weight"} <= set(proof.coverage.unproven)


def test_a_model_that_only_such_weights_show_is_not_proven(tmp_path):
    torch.manual_seed(0)
    with pytest.raises(VerificationFailed, match="is not the model"):
        nnkit.export(Amplifying(64), tmp_path / "x.onnx", [torch.randn(2, 64)])
    assert not any(tmp_path.iterdir())
