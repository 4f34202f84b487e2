"""`nnkit bench`: its numbers beside torch's own counters, its forms as other tools read them, its errors."""

import csv
import json
import math
import random
import re
from dataclasses import replace
from statistics import linear_regression
from xml.etree import ElementTree

import pytest
import torch
from conftest import python
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import nnkit
from nnkit.errors import NnkitError, UsageProblem
from nnkit.render.bench import as_text
from nnkit.render.samples_plot import Series, _ticks, plot_samples
from nnkit.verbs.benchmarking import handler, measuring
from nnkit.verbs.benchmarking.report import Probe, Ratio

SVG = "{http://www.w3.org/2000/svg}"
QUICK = ["--rounds", "10", "--threads", "1"]


@pytest.fixture(scope="module", autouse=True)
def _little_warm_up():
    """Nothing here is judged by its time."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(measuring, "WARM_UP", 0.01)
        yield


@pytest.fixture(scope="module")
def pair(_little_warm_up):
    return nnkit.bench("simple-cnn", nnkit.resolve("simple-cnn", batch=4), rounds=20, threads=1)


@pytest.fixture
def measured_already(monkeypatch, pair):
    """Let the command print the report that is there, and return what it asked for."""
    asked = {}

    def bench(*specs, **options):
        asked.update(options, specs=specs)
        return pair

    monkeypatch.setattr("nnkit.api.bench", bench)
    return asked


def flops_of(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def test_flops_and_memory_are_torchs_own(pair):
    module, x = nnkit.build("simple-cnn"), torch.randn(4, 3, 32, 32)
    forward, training = pair.models[1].measurements
    assert (forward.mode, training.mode) == ("forward", "training")
    assert forward.flops == 2 * pair.models[1].macs == flops_of(lambda: module(x))
    assert training.flops == flops_of(lambda: module(x).sum().backward())
    assert forward.peak == pytest.approx(forward.estimate, rel=0.02)
    assert training.peak == pytest.approx(training.estimate, rel=0.02)


def test_throughput_and_shares_follow_from_the_median(pair):
    peak = max(each.flops_per_second["float32"] for each in (pair.before, pair.after))
    copies = max(each.bytes_per_second for each in (pair.before, pair.after))
    for model, batch in zip(pair.models, (1, 4), strict=True):
        assert (model.batch, model.parameters, model.untrained) == (batch, 545_098, "")
        for each in model.measurements:
            seconds = each.latency.median / 1e9
            assert each.throughput == pytest.approx(batch / seconds)
            assert each.mfu == pytest.approx(each.flops / seconds / peak)
        assert model.measurements[0].mbu == pytest.approx(
            545_098 * 4 / (model.measurements[0].latency.median / 1e9) / copies
        )
        assert model.measurements[1].mbu is None


def test_every_sample_is_kept_with_its_place(pair):
    for mode in (0, 1):
        samples = [model.measurements[mode].samples for model in pair.models]
        assert sorted(samples[0].order + samples[1].order) == list(range(80))
        assert all(len(each.nanoseconds) == len(each.cpu_nanoseconds) == 40 for each in samples)


def test_of_two_each_mode_has_a_ratio_with_an_interval_around_it(pair):
    assert [(each.mode, each.pairs) for each in pair.ratios] == [("forward", 20), ("training", 20)]
    assert all(each.low <= each.ratio <= each.high for each in pair.ratios)


def test_text_of_two(pair):
    text = as_text(pair)
    assert text.startswith("vision/simple-cnn (left) and vision/simple-cnn (right) on cpu · ")
    assert "1 thread · batch=1 · batch=4 · float32" in text
    assert re.search(
        r"^forward +vision/simple-cnn \(left\) +vision/simple-cnn \(right\)$", text, re.MULTILINE
    )
    assert re.search(r"^training step +vision/simple-cnn \(left\)", text, re.MULTILINE)
    assert re.search(r"^FLOPs +12,257,792 +49,031,168$", text, re.MULTILINE)
    assert re.search(r"^machine +[\d.]+ GFLOP/s in float32, copies [\d.]+ GB/s before; ", text, re.MULTILINE)


def test_the_verdict_in_words(pair):
    ratios = (
        Ratio("forward", 1.5, 1.4, 1.6, 0.9999, 40, "slower"),
        Ratio("training", 1.01, 0.9, 1.1, 0.9999, 40, "no difference seen"),
    )
    text = as_text(replace(pair, ratios=ratios))
    assert (
        "ratio        forward 1.500 (99.99% interval 1.400 to 1.600 of 40 pairs): vision/simple-cnn (right) is slower\n"
        "ratio        training step 1.010 (99.99% interval 0.900 to 1.100 of 40 pairs): no difference seen\n"
    ) in text


def test_csv_has_the_columns_of_timm(nnkit_command, measured_already):
    done = nnkit_command("bench", "simple-cnn", "simple-cnn", "--format", "csv")
    left, right = csv.DictReader(done.out.splitlines())
    assert list(left) == [
        "model",
        *(f"infer_{name}" for name in ("samples_per_sec", "step_time", "batch_size", "img_size", "gmacs")),
        *(f"train_{name}" for name in ("samples_per_sec", "step_time", "batch_size", "img_size")),
        "param_count",
    ]
    assert (left["infer_batch_size"], right["train_batch_size"]) == ("1", "4")
    assert (right["infer_img_size"], right["infer_gmacs"], right["param_count"]) == ("32", "0.02", "0.55")
    assert float(right["infer_samples_per_sec"]) == pytest.approx(
        4000 / float(right["infer_step_time"]), rel=0.01
    )


def test_json_is_complete(nnkit_command, measured_already, pair):
    data = json.loads(nnkit_command("bench", "simple-cnn", "simple-cnn", "--json").out)
    assert data == json.loads(json.dumps(pair.to_dict()))
    assert data["schema"] == "nnkit.bench/1"
    assert data["environment"]["versions"]["torch"] == torch.__version__
    assert data["environment"]["threads"] == 1


def test_google_benchmark_has_each_sample_and_aggregates(nnkit_command, measured_already, pair):
    """Read by google-benchmark's own tools/compare.py too, when this was written."""
    done = nnkit_command("bench", "simple-cnn", "simple-cnn", "--format", "google-benchmark")
    data = json.loads(done.out)
    assert data["context"]["json_schema_version"] == 1
    name = "vision/simple-cnn (right)/training"
    runs = [each for each in data["benchmarks"] if each["run_name"] == name]
    samples = [each for each in runs if each["run_type"] == "iteration"]
    measured = pair.models[1].measurements[1]
    assert [each["real_time"] * each["iterations"] for each in samples] == list(measured.samples.nanoseconds)
    assert [each["cpu_time"] * each["iterations"] for each in samples] == list(
        measured.samples.cpu_nanoseconds
    )
    assert {(each["repetitions"], each["time_unit"], each["name"]) for each in samples} == {(40, "ns", name)}
    aggregates = {each["aggregate_name"]: each for each in runs if each["run_type"] == "aggregate"}
    assert set(aggregates) == {"mean", "median", "stddev"}
    assert aggregates["median"]["name"] == f"{name}_median"
    assert aggregates["median"]["real_time"] == measured.latency.median


def dots_in(svg):
    """Return the places of the dots of each series, as a browser draws them."""
    paths = [path.get("d") for path in svg.iter(f"{SVG}path") if path.get("stroke-linecap") == "round"]
    return [[tuple(map(float, dot)) for dot in re.findall(r"M(\S+) (\S+)h0", path)] for path in paths]


def test_html_plots_each_sample_where_it_was_taken(nnkit_command, measured_already, pair):
    done = nnkit_command("bench", "simple-cnn", "simple-cnn", *QUICK, "--format", "html")
    assert done.code == 0
    assert done.out.rstrip("\n") == pair._repr_html_()
    plots = [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", done.out, re.DOTALL)]
    assert len(plots) == 2
    for plot, measured in zip(
        plots, zip(*(model.measurements for model in pair.models), strict=True), strict=True
    ):
        samples = [
            (place, math.log(time))
            for each in measured
            for place, time in zip(each.samples.order, each.samples.times, strict=True)
        ]
        dots = [dot for series in dots_in(plot) for dot in series]
        assert len(dots) == len(samples) == 80
        for axis, direction in ((0, 1), (1, -1)):  # right is later, up is longer
            shown, true = [dot[axis] for dot in dots], [sample[axis] for sample in samples]
            slope, start = linear_regression(true, shown)
            assert slope * direction > 0
            assert shown == pytest.approx([start + slope * each for each in true], abs=0.2)
        texts = [text.text for text in plot.iter(f"{SVG}text")]
        for label in pair.labels:
            assert any(text.startswith(f"{label}: 40 samples, median ") for text in texts)


def test_a_label_can_not_leave_the_plot():
    hostile = "</text><script>alert(1)</script>\x1b[2J"
    svg = plot_samples("forward", [Series(hostile, [0], [5.0])])
    texts = [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert "</text><script>alert(1)</script>\\x1b[2J: 1 sample, median 5.00 ns" in texts
    assert "<script" not in svg


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.9e6, 4.1e6, [1e6, 2e6, 3e6, 4e6]),
        (0.9e6, 11e6, [1e6, 2e6, 5e6, 1e7]),
        (0.9e6, 1.1e9, [1e6, 1e7, 1e8, 1e9]),
    ],
)
def test_ticks_are_round_numbers(low, high, expected):
    assert _ticks(low, high) == pytest.approx(expected)


def test_options_reach_the_measuring(nnkit_command, measured_already):
    done = nnkit_command(
        "bench", "simple-cnn", "simple-cnn", "--dtype", "float64", "--right.num-classes", "3", "--no-training",
        "--optimizer", "sgd", "--time-limit", "2.5", "--rounds", "20", "--threads", "2", "--compile",
        "--device", "auto",
    )  # fmt: skip
    assert done.code == 0
    left, right = measured_already["specs"]
    assert (left.dtype, right.dtype) == ("float64", "float64")
    assert (left.config.num_classes, right.config.num_classes) == (10, 3)
    names = ("training", "optimizer", "time_limit", "rounds", "threads", "compiled", "device")
    assert [measured_already[name] for name in names] == [False, "sgd", 2.5, 20, 2, True, "auto"]


def test_one_model_without_training_and_nothing_on_stderr(nnkit_command):
    done = nnkit_command("bench", "gcn", "--no-training", "--rounds", "2", "--threads", "1")
    assert (done.code, done.err) == (0, "")
    assert re.search(r"^ +forward$", done.out, re.MULTILINE)
    assert re.search(r"^measured +4 times", done.out, re.MULTILINE)
    assert re.search(r"^p99 +-$", done.out, re.MULTILINE)
    assert re.search(r"^throughput +[\d.,]+ runs/s$", done.out, re.MULTILINE)
    assert "training" not in done.out


def test_modules_of_ones_own_and_why_one_is_not_trained():
    report = nnkit.bench(nn.Linear(3, 2), nn.Flatten(), inputs=[torch.ones(5, 3)], rounds=10)
    assert report.labels == ("linear", "flatten")
    assert [len(model.measurements) for model in report.models] == [2, 1]
    assert report.models[1].untrained == "no parameter is trainable"
    assert [each.mode for each in report.ratios] == ["forward"]
    assert "not trained  flatten: no parameter is trainable" in as_text(report)


def test_it_leaves_the_process_as_it_was():
    module, x = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout()), torch.rand(4, 3)
    threads, state, of_python = torch.get_num_threads(), torch.get_rng_state(), random.getstate()
    before = {name: each.clone() for name, each in module.state_dict().items()}
    report = nnkit.bench(module, inputs=[x], rounds=1, threads=threads + 1)
    assert report.environment.threads == threads + 1
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == of_python
    assert module.training
    assert all(torch.equal(before[name], each) for name, each in module.state_dict().items())


def test_a_machine_that_was_busy_is_told(monkeypatch):
    probes = iter([Probe({"float32": 3e9}, 2e9), Probe({"float32": 2e9}, 2e9)])
    monkeypatch.setattr(handler, "probe", lambda device, dtypes: next(probes))
    monkeypatch.setattr(handler, "UNSTEADY", 0)
    report = nnkit.bench(nn.Linear(3, 2), inputs=[torch.ones(5, 3)], rounds=1, training=False)
    assert report.warnings[0] == (
        "the machine was busy: float32 products ran at 3.0 G/s before and 2.0 G/s after"
    )
    assert re.fullmatch(
        r"the median forward of linear took [\d.]+ times the shortest: close other programs, or try fewer threads",
        report.warnings[1],
    )
    assert f"warning      {report.warnings[0]}" in as_text(report)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "bench takes one or two models"),
        (["gcn", "gcn", "gcn"], "bench takes one or two models"),
        (["gcn", "gcn", "--rounds", "9"], "9 rounds are too few"),
        (["gcn", "--rounds", "0"], "0 rounds are too few"),
        (["gcn", "--time-limit", "0"], "--time-limit must be greater than 0, got 0"),
        (["gcn", "--time-limit", "nan"], "--time-limit must be greater than 0, got nan"),
        (["gcn", "--threads", "-1"], "--threads must be greater than 0, got -1"),
        (["gcn", "--optimizer", "lion"], "'lion' is not one of"),
        (["gcn", "--format", "xml"], "'xml' is not one of"),
        (["gcn", "--device", "gpu"], "'gpu' is not a device"),
        (["gcn", "--left.hidden", "3"], "--left. and --right. need exactly two models"),
        (["gcn", "--hiden", "3"], "gcn has no option 'hiden'"),
        (["gcn", "--seed", "x"], "--seed takes an integer, got 'x'"),
        (["gnc"], "gnc"),
    ],
)
def test_what_can_not_be_asked_is_one_clear_error(nnkit_command, args, message):
    done = nnkit_command("bench", *args)
    assert (done.code, done.out) == (2, "")
    error, hint = done.err.splitlines()
    assert error.startswith("Error: ")
    assert message in error
    assert hint.startswith("hint: ")


def test_python_gets_the_error_for_an_unknown_optimizer_too():
    with pytest.raises(UsageProblem, match="unknown optimizer lion"):
        nnkit.bench("gcn", optimizer="lion")


class Broken(nn.Module):
    def __init__(self, where="forward"):
        super().__init__()
        self.layer, self.where = nn.Linear(3, 3), where

    def forward(self, x):
        if self.training or self.where == "forward":
            raise ValueError("not today\nnor tomorrow")
        return self.layer(x)


@pytest.mark.parametrize(("where", "what"), [("forward", "forward"), ("training", "training step")])
def test_a_model_that_does_not_run_is_an_error_that_says_where(where, what):
    with pytest.raises(NnkitError, match=f"a {what} of broken failed: ValueError: not today$") as raised:
        nnkit.bench(Broken(where), inputs=[torch.ones(2, 3)], rounds=1)
    assert raised.value.exit_code == 1
    assert raised.value.hint


def test_ctrl_c_is_one_line(nnkit_command, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(handler, "measure", interrupted)
    done = nnkit_command("bench", "gcn", "--threads", "1")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error: interrupted\n")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler imports what torch deprecates
def test_a_compiler_is_used_or_its_lack_is_an_error(nnkit_command):
    done = nnkit_command("bench", "simple-cnn", "--compile", "--no-training", *QUICK)
    assert done.code == 0
    assert " · compiled\n" in done.out
    # In a process of its own: torch remembers for good that a compiler doesn't work.
    command = ["bench", "lstm", "--compile", "--no-training", *QUICK]
    failed = python(
        "-c",
        "import torch._inductor.config as config; config.cpp.cxx = ('/nowhere/g++',)\n"
        f"from nnkit.cli.main import main; main({command!r})",
    )
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "compiling, or a forward of recurrent/lstm failed: " in failed.stderr
    assert failed.stderr.endswith("hint: leave out --compile\n")
