"""Memory without a run: beside what torch's CPU allocator counts, and torch's hooks for saved tensors."""

import copy
import itertools
import random
import re
import warnings

import pytest
import torch
from allocator import measure_memory
from memory_cases import SMALL
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import nnkit
from nnkit.contract.byte_sizes import parse_size
from nnkit.errors import NoEstimate, UsageProblem
from nnkit.render import summary as render
from nnkit.verbs.summary.fitting import largest_batch
from nnkit.verbs.summary.memory import estimate_memory


def torchvision(name):
    from torchvision import models

    return getattr(models, name)()


def encoder():
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(128, 4, 256, batch_first=True), 2)


CASES = {
    "resnet18": (lambda: torchvision("resnet18"), (3, 64, 64)),
    "vgg11": (lambda: torchvision("vgg11"), (3, 64, 64)),
    "mobilenet_v2": (lambda: torchvision("mobilenet_v2"), (3, 96, 96)),
    "densenet121": (lambda: torchvision("densenet121"), (3, 64, 64)),
    "vit_b_16": (lambda: torchvision("vit_b_16"), (3, 224, 224)),
    "transformer encoder": (encoder, (50, 128)),
}


HEAVY = ("vit_b_16", "vgg11", "densenet121")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in HEAVY else ()) for name in CASES]
)
def test_peaks_are_within_two_percent_of_the_allocators(name):
    make, shape = CASES[name]
    module = make()
    for batch, optimizer in ((2, "adamw"), (5, "sgd")):
        told = estimate_memory(
            copy.deepcopy(module).to("meta"), (torch.empty(batch, *shape, device="meta"),), {}, optimizer
        )
        training, inference = measure_memory(module, (torch.randn(batch, *shape),), optimizer)
        assert told.training_peak == pytest.approx(training, rel=0.02)
        assert told.inference_peak == pytest.approx(inference, rel=0.02)
        assert told.note == ""


@pytest.mark.parametrize(
    "widths",
    [
        pytest.param([200, 200, 200, 8, 8, 8], id="large beside large"),
        pytest.param([200, 200, 8, 200, 200, 8], id="large beside small"),
        pytest.param([8, 200, 199, 201, 198], id="no two alike"),
    ],
)
def test_an_update_takes_the_memory_that_the_order_of_parameters_asks_for(widths):
    # AdamW makes its denominator for one parameter while it still has that of the one before.
    layers = [nn.Linear(ins, outs, bias=False) for ins, outs in itertools.pairwise(widths)]
    module, x = nn.Sequential(*layers), torch.randn(1, widths[0])
    told = estimate_memory(copy.deepcopy(module).to("meta"), (x.to("meta"),), {}, "adamw")
    training, _ = measure_memory(module, (x,), "adamw")
    assert told.training_peak == pytest.approx(training, rel=1e-3)
    assert told.optimizer_state == sum(8 * parameter.numel() + 4 for parameter in module.parameters())


def errors_of(name, optimizer):
    """Return by how much the estimates of training and inference are off, and their note."""
    make, sample = SMALL[name]
    torch.manual_seed(0)
    module, inputs = make(), sample()
    estimate = estimate_memory(module, tuple(inputs), {}, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, on the kernels that it takes
        measured = measure_memory(module, inputs, optimizer)
    peaks = zip((estimate.training_peak, estimate.inference_peak), measured, strict=True)
    return [ours / truth - 1 for ours, truth in peaks], estimate.note


@pytest.mark.parametrize(
    "name",
    [
        "bilinear",
        "trilinear",
        "grid sample",
        "grouped-query attention, causal",
        "multi-head attention",
        "weight norm",
        "complex product",
        "cdist",
        "mask of bool",
        "conv2d, grouped",
        "gather",
    ],
)
def test_operators_that_take_memory_of_their_own_are_exact(name):
    errors, note = errors_of(name, "adamw")
    assert errors == pytest.approx([0, 0], abs=0.02)
    assert note == "" or name == "trilinear"  # its convolution has few channels


# The whole table is `python tests/benchmarks/bench_memory.py --sweep`.
SAMPLE = random.Random(12).sample(sorted(SMALL), 40)
QUICK = SAMPLE[:5]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SAMPLE]
)
def test_what_is_off_by_more_than_two_percent_has_a_note(name):
    for optimizer in ("adamw", "sgd"):
        errors, note = errors_of(name, optimizer)
        assert note or errors == pytest.approx([0, 0], abs=0.02)


def test_an_operator_that_nobody_measured_is_named():
    @torch.library.custom_op("probe::doubled", mutates_args=())
    def doubled(x: torch.Tensor) -> torch.Tensor:
        return x + x

    doubled.register_fake(torch.empty_like)
    doubled.register_autograd(lambda context, gradient: 2 * gradient)

    class Doubling(nn.Linear):
        def forward(self, x):
            return doubled(super().forward(x))

    memory = estimate_memory(Doubling(4, 4), (torch.randn(2, 4),), {}, "sgd")
    assert memory.note == "the working memory of these operators is unknown and left out: probe::doubled"


class Forces(nn.Module):
    """An energy and its derivative by the positions."""

    def __init__(self, twice_differentiable):
        super().__init__()
        self.energy, self.twice_differentiable = nn.Linear(3, 1), twice_differentiable

    def forward(self, x):
        x.requires_grad_(True)
        energy = self.energy(x).tanh().sum()
        return energy, torch.autograd.grad(energy, x, create_graph=self.twice_differentiable)[0]


def test_a_model_that_differentiates_in_its_forward_is_run_with_gradients():
    memory = estimate_memory(Forces(True), (torch.randn(5000, 3),), {}, "sgd")
    training, inference = measure_memory(Forces(True), [torch.randn(5000, 3)], "sgd")
    assert memory.training_peak == pytest.approx(training, rel=0.02)
    assert memory.inference_peak == pytest.approx(inference, rel=0.02)


def test_a_model_whose_forward_frees_its_graph_is_not_trained_but_run():
    memory = estimate_memory(Forces(False), (torch.randn(5, 3),), {}, "sgd")
    assert memory.note == "not trained: forward itself differentiates, and frees what backward needs"
    assert memory.inference_peak > memory.training_peak == 0


def test_a_step_that_the_optimizer_refuses_is_one_sentence():
    module = nn.Embedding(30, 4, sparse=True)
    with pytest.raises(
        NoEstimate, match="a training step failed: RuntimeError: Adam does not support sparse"
    ):
        estimate_memory(module, (torch.randint(30, (4,)),), {}, "adam")


def small_vision_transformer():
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, num_layers=3, num_heads=4, hidden_dim=64, mlp_dim=128)


@pytest.mark.parametrize("make", [lambda: torchvision("resnet18"), small_vision_transformer])
def test_what_is_saved_is_what_torch_hands_to_its_hooks(make):
    module, x = make().train(), torch.randn(2, 3, 32, 32)
    kept = {}
    resident = {each.untyped_storage().data_ptr() for each in (*module.parameters(), *module.buffers(), x)}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in resident:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = module(x)
    report = nnkit.summarize(module, [x], optimizer="adam")
    assert report.memory.saved == sum(kept.values())
    assert report.rows[0].training.saved == report.memory.saved
    assert output.requires_grad


def test_static_parts_are_those_of_the_optimizer():
    weights = sum(each.nbytes for each in nnkit.build("resnet18").parameters())
    parts = {name: nnkit.summarize("resnet18", optimizer=name).memory for name in ("sgd", "adam", "adamw")}
    assert {each.gradients for each in parts.values()} == {weights}
    assert parts["sgd"].optimizer_state == 0
    steps = 4 * 62  # bytes: a count of steps for each parameter
    assert parts["adam"].optimizer_state == parts["adamw"].optimizer_state == 2 * weights + steps


@pytest.mark.parametrize(
    ("make", "shape", "ratio"),  # a first layer has no gradient of its input
    [(lambda: torchvision("resnet18"), (3, 224, 224), 2.935), (encoder, (50, 128), None)],
)
def test_flops_of_forward_and_backward_are_those_of_torchs_counter(make, shape, ratio):
    """Counted there by running both on meta, where attention is in parts; here by what needs a gradient."""
    module, x = make().to("meta").train(), torch.empty(2, *shape, device="meta")
    report = nnkit.summarize(module, [x], optimizer="sgd")
    with FlopCounterMode(display=False) as counter:
        module(x).sum().backward()
    assert report.totals.training_flops == report.rows[0].training.flops == counter.get_total_flops()
    if ratio:
        assert report.totals.training_flops / report.totals.flops == pytest.approx(ratio, abs=0.005)


def test_rows_add_up_and_their_peaks_stay_below_that_of_the_step():
    report = nnkit.summarize("simple-cnn", optimizer="adam", batch=16)
    leaves = [row.training for row in report.rows if row.leaf]
    assert sum(each.flops for each in leaves) == report.totals.training_flops
    assert sum(each.saved for each in leaves) == report.memory.saved
    assert all(0 < each.peak <= report.memory.training_peak for each in leaves)
    text = render.as_text(report, render.check_columns(["flops", "saved", "peak"]))
    assert "training FLOPs" in text


class ByValue(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(x[x.sum(1) > -100])


def test_what_can_not_run_without_values_is_measured_and_says_so():
    report = nnkit.summarize(ByValue(), [torch.randn(3, 4)], optimizer="sgd")
    assert report.memory.note.startswith("measured in a run on the CPU")
    peaks = report.memory.training_peak, report.memory.inference_peak
    assert peaks == pytest.approx(measure_memory(ByValue(), [torch.randn(3, 4)], "sgd"), rel=0.02)


def test_what_can_not_be_trained_says_so():
    frozen = nn.Linear(4, 4).requires_grad_(False)
    memory = nnkit.summarize(frozen, [torch.randn(3, 4)], optimizer="sgd").memory
    assert (memory.training_peak, memory.note) == (0, "not trained: no parameter is trainable")
    assert memory.inference_peak > 0
    norm = nnkit.summarize(nn.BatchNorm1d(4), [torch.randn(1, 4)], optimizer="sgd").memory
    assert "more than one value per channel" in norm.note


def test_recurrent_kernels_are_told_to_be_estimates():
    memory = nnkit.summarize("lstm", optimizer="adam").memory
    assert "recurrent kernels" in memory.note


def test_a_convolution_of_few_channels_that_may_need_more_says_so():
    """oneDNN pads three channels to sixteen, for each thread, which a small model feels."""
    from torchvision.models import VisionTransformer

    model = VisionTransformer(64, 16, num_layers=3, num_heads=4, hidden_dim=128, mlp_dim=256)
    x = torch.randn(2, 3, 64, 64)
    told = nnkit.summarize(model, [x], optimizer="adamw").memory
    training, _ = measure_memory(model, (x,), "adamw")
    more = re.fullmatch(
        r"backward through a convolution of few channels may need up to (.*) MiB more or less", told.note
    )
    assert abs(told.training_peak - training) <= float(more[1]) * 2**20


def test_a_module_with_weights_is_what_it_was():
    module, x = nn.Sequential(nn.Linear(8, 8), nn.Dropout(), nn.BatchNorm1d(8)), torch.randn(4, 8)
    before = copy.deepcopy(module.state_dict())
    module[1].eval()
    state = torch.get_rng_state()
    nnkit.summarize(module, [x], optimizer="adam")
    assert all(torch.equal(each, before[name]) for name, each in module.state_dict().items())
    assert all(each.grad is None for each in module.parameters())
    assert [each.training for each in module] == [True, False, True]
    assert torch.equal(torch.get_rng_state(), state)


def test_no_weight_of_a_module_is_copied_for_the_estimate():
    """256 MiB of weights, and no allocation of a thousandth of it."""
    from torch.profiler import ProfilerActivity, profile

    module, x = nn.Linear(8192, 8192), torch.randn(2, 8192)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        memory = estimate_memory(module, (x,), {}, "adam")
    events = watched.profiler.kineto_results.events()
    largest = max((each.nbytes() for each in events if each.name() == "[memory]"), default=0)
    assert memory.parameters > 2**28
    assert largest < 2**18


@pytest.mark.parametrize(
    "peak", [lambda n: 100 + 7 * n, lambda n: max(500, 20 * n), lambda n: n * n, lambda n: 64 * (n // 8 + 1)]
)
@pytest.mark.parametrize("limit", [90, 120, 1000, 123_456])
@pytest.mark.parametrize("step", [1, 3])
def test_the_largest_batch_fits_and_the_next_does_not(peak, limit, step):
    calls = []
    found = largest_batch(lambda n: calls.append(n) or peak(n), limit, lowest=step, step=step)
    assert found % step == 0
    assert peak(found) <= limit if found else peak(step) > limit
    assert peak(found + step) > limit
    assert len(calls) <= 40


def test_the_batch_that_fits_is_found_and_the_next_does_not_fit():
    report = nnkit.fit("simple-cnn", "64MB", optimizer="adamw")
    fit = report.fit
    assert (fit.dim, fit.limit) == ("batch", 64_000_000)
    assert report.spec.sizes["batch"] == fit.training > 0
    assert report.memory.training_peak <= 64_000_000
    more = nnkit.summarize("simple-cnn", batch=fit.training + 1, optimizer="adamw").memory
    assert more.training_peak > 64_000_000
    assert fit.inference > fit.training


class Normalised(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 4), nn.BatchNorm1d(4))


def limited(**bounds):
    from nnkit import Architecture, Dim, TensorSpec
    from nnkit.contract.spec import make_spec
    from nnkit.models.user_modules import NoOptions

    return make_spec(
        Architecture(
            name="normalised", summary="", build=lambda config: Normalised(), config=NoOptions,
            inputs=[TensorSpec("x", ("batch", 4))], outputs=[], dims={"batch": Dim(**bounds)},
        )
    )  # fmt: skip


def test_no_size_is_found_that_the_dim_forbids():
    fit = nnkit.fit(limited(default=4, max=12, multiple_of=4), "1GB").fit
    assert (fit.training, fit.inference) == (12, 12)


def test_batch_norm_is_not_said_to_train_on_one_sample():
    one, two = (nnkit.summarize(limited(default=size), optimizer="adam").memory for size in (1, 2))
    assert (one.training_peak, two.training_peak > one.inference_peak) == (0, True)
    assert nnkit.fit(limited(default=1), two.training_peak - 1).fit.training == 0
    assert nnkit.fit(limited(default=1), two.training_peak).fit.training == 2


def test_where_nothing_fits_it_says_0(nnkit_command):
    assert nnkit.fit("simple-cnn", 1000).fit.training == 0
    out = nnkit_command("summary", "simple-cnn", "--batch", "max", "--memory", "1KB").out
    assert "into 1,000 bytes: training with batch 0, inference with batch 0" in out


@pytest.mark.parametrize(
    ("text", "size"),
    [("16GB", 16 * 10**9), ("16GiB", 2**34), ("1.5 MB", 1_500_000), ("512k", 512_000), ("7", 7)],
)
def test_sizes_are_read_as_they_are_written(text, size):
    assert parse_size(text) == size


def test_a_size_that_is_none_is_an_error():
    with pytest.raises(UsageProblem, match="can't read the size 'much'"):
        parse_size("much")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--batch", "max"], "--batch max needs --memory SIZE"),
        (["--memory", "16GB"], "--memory needs a size to maximize"),
        (["--batch", "max", "--memory", "lots"], "can't read the size 'lots'"),
        (["--columns", "mac"], "there is no column 'mac'"),
        (["--optimizer", "adm"], "'adm'"),
    ],
)
def test_bad_requests_get_one_clear_error(nnkit_command, args, message):
    done = nnkit_command("summary", "simple-cnn", *args)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_a_forward_that_fails_prints_the_rows_so_far_and_exits_with_1(nnkit_command, tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 2))\n"
    )
    done = nnkit_command("summary", "net.py:net", "--input", "input: float32[batch, 4]")
    assert done.code == 1
    assert "3 → failed" in done.out
    assert "Error: forward failed in 1 (Linear) at batch=1: RuntimeError: mat1 and mat2" in done.err
