"""Summaries of networks whose inputs and outputs are trees, optional, or sized by arithmetic."""

import json
from dataclasses import dataclass
from functools import partial
from typing import Annotated, NamedTuple

import pytest
import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

import nnkit
from nnkit import Architecture, Dim, TensorSpec
from nnkit.contract.spec import make_spec
from nnkit.contract.text import fold_names
from nnkit.errors import UsageProblem
from nnkit.render import summary as render

HEADS, WIDTH = 2, 8


class Memory(NamedTuple):
    key: Tensor
    value: Tensor


@dataclass
class Output:
    scores: Tensor
    memory: tuple[Memory, ...]
    loss: Tensor | None = None
    scale: float = 0.5


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project, self.output = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, past: Memory | None, mask: Tensor | None) -> tuple[Tensor, Memory]:
        heads = self.project(x).unflatten(2, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)
        query, key, value = heads
        if past is not None:
            key, value = torch.cat([past.key, key], 2), torch.cat([past.value, value], 2)
        seen = None if mask is None else mask[:, None, None, :]
        y = scaled_dot_product_attention(query, key, value, seen)
        return self.output(y.transpose(1, 2).flatten(2)), Memory(key, value)


class Decoder(nn.Module):
    def __init__(self, config: "DecoderConfig") -> None:
        super().__init__()
        self.embed = nn.Embedding(16, WIDTH)
        self.layers = nn.ModuleList(Attention() for _ in range(config.layers))
        self.bias = nn.Linear(WIDTH, WIDTH)

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        *,
        cache: tuple[Memory, ...] | None = None,
        shift: Tensor | None = None,
        train: bool = True,
    ) -> Output:
        assert not train
        x, memory = self.embed(tokens), []
        for index, layer in enumerate(self.layers):
            x, kept = layer(x, None if cache is None else cache[index], mask)
            memory.append(kept)
        if shift is not None:
            x = x + self.bias(shift)
        return Output(x, tuple(memory))


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    layers: Annotated[int, Meta(ge=1)] = 2
    context: int = 12


def parts(name, time, config, **how):
    shape = ("batch", HEADS, time, WIDTH // HEADS)
    names = [f"{name}.{layer}.{part}" for layer in range(config.layers) for part in ("key", "value")]
    return [TensorSpec(name, shape, **how) for name in names]


DECODER = Architecture(
    name="decoder",
    summary="",
    build=Decoder,
    config=DecoderConfig,
    inputs=lambda config: [
        TensorSpec("tokens", ("batch", "time"), "int64", sample="index", index_of=16),
        TensorSpec("mask", ("batch", "past + time"), "bool", sample="keep", optional=True),
        *parts("cache", "past", config, optional=True),
        TensorSpec("shift", ("batch", "time", WIDTH), optional=True, given=False),
    ],
    outputs=lambda config: [
        TensorSpec("scores", ("batch", "time", WIDTH)),
        *parts("memory", "past + time", config),
    ],
    dims={"batch": Dim(default=1), "time": Dim(default=5), "past": Dim(default=3, min=0)},
    constants={"train": False},
    constraints=("past + time <= context",),
    typed=("decoder.py:Decoder",),
)
decoder = partial(make_spec, DECODER)


def macs_of(time, past, layers=2, batch=1, shift=False):
    """Return the multiply-adds by hand: projections, scores, weighted sums."""
    attention = 2 * time * (past + time) * WIDTH
    return batch * (layers * (time * 4 * WIDTH * WIDTH + attention) + shift * time * WIDTH * WIDTH)


def lines_of(report, **how):
    return [" ".join(line.split()) for line in render.as_text(report, **how).splitlines()]


def test_inputs_and_outputs_have_dotted_names(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    report = nnkit.summarize(decoder())
    expected = [
        "tokens input 5",
        "mask input 8",
        *(f"cache.{layer}.{part} input 2×3×4" for layer in (0, 1) for part in ("key", "value")),
        "train input False",
        "scores output 5×8",
        *(f"memory.{layer}.{part} output 2×8×4" for layer in (0, 1) for part in ("key", "value")),
        "loss output None",
        "scale output 0.5",
    ]
    assert [line for line in lines_of(report) if " input " in line or " output " in line] == expected
    drawn = render.as_text(report, terminal=True).splitlines()
    assert max(map(len, drawn)) <= 80
    assert all(any(line.split()[0] in row for row in drawn) for line in expected)
    for form in (render.as_markdown(report), render.as_latex(report), render.as_html(report)):
        assert "memory.1.value" in form.replace(r"\_", "_")
    assert report.totals.macs == macs_of(time=5, past=3)


def test_the_count_is_that_of_torch():
    spec = decoder(options={"batch": 2, "past": 4, "time": 3})
    module = Decoder(spec.config).to("meta").eval()
    cache = tuple(Memory(*torch.empty(2, 2, HEADS, 4, WIDTH // HEADS, device="meta")) for _ in range(2))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tokens = torch.empty(2, 3, dtype=torch.int64, device="meta")
        module(tokens, torch.empty(2, 7, dtype=torch.bool, device="meta"), cache=cache, train=False)
    assert nnkit.summarize(spec).totals.flops == counter.get_total_flops() == 2 * macs_of(3, 4, batch=2)


def test_json_has_the_names_shapes_and_dtypes():
    data = json.loads(json.dumps(nnkit.summarize(decoder()).to_dict()))
    assert data["inputs"][0] == {"name": "tokens", "shape": [1, 5], "dtype": "int64", "device": "cpu"}
    assert data["inputs"][-1] == {"name": "train", "value": "False"}
    assert [part["name"] for part in data["outputs"]][:2] == ["scores", "memory.0.key"]
    assert data["outputs"][-2:] == [{"name": "loss", "value": "None"}, {"name": "scale", "value": "0.5"}]
    assert data["spec"]["without"] == ["shift"]
    from nnkit import schemas

    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(data, schemas.schema_of(data), cls=jsonschema.Draft202012Validator)


def test_names_that_differ_only_in_an_index_are_one_row_from_three_on():
    lines = lines_of(nnkit.summarize(decoder(options={"layers": 3})))
    assert "cache.0.key … ×3 input 2×3×4" in lines
    assert "cache.1.key input 2×3×4" not in lines
    assert "cache.1.key input 2×3×4" in lines_of(nnkit.summarize(decoder(options={"layers": 3})), unfold=True)
    texts = {"a.0": "1", "b": "1", "a.1": "2", "a.2": "1", "a.3": "1", "x1": "1", "x2": "1", "x3": "1"}
    assert fold_names(texts) == {
        "a.0 … ×3": "1", "b": "1", "a.1": "2", "x1": "1", "x2": "1", "x3": "1"
    }  # fmt: skip


def test_each_other_choice_of_optional_inputs_has_a_line():
    report = nnkit.summarize(decoder())
    mask, cache, shift = report.variants
    assert (mask.input, mask.given, mask.macs) == ("mask", False, report.totals.macs)
    assert (cache.macs, shift.macs) == (macs_of(5, 0), macs_of(5, 3, shift=True))
    assert report.totals.unused == ("bias.*",)
    lines = lines_of(report)
    assert "without mask: 3,840 MACs (the same)" in lines
    assert (
        "without cache: 3,360 MACs (−12.5 %); returns memory.0.key 2×5×4, memory.0.value 2×5×4, "
        "memory.1.key 2×5×4 and 1 other" in lines
    )
    assert "with shift: 4,160 MACs (+8.3 %); also uses bias.*" in lines


def test_the_table_is_of_the_chosen_inputs():
    report = nnkit.summarize(decoder(options={"without": ["cache", "mask"]}))
    assert [name for name in report.inputs if name.startswith("cache")] == []
    assert report.totals.macs == macs_of(5, 0)
    assert "with cache (past 3): 3,840 MACs (+14.3 %); returns memory.0.key 2×8×4" in "\n".join(
        lines_of(report)
    )


class NeedsOneOf(nn.Module):
    def forward(self, x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        return (x if y is None else y) + 1


def test_a_choice_that_fails_says_so_in_its_line():
    x, y = (TensorSpec(name, ("batch", 3), optional=True, given=name == "x") for name in "xy")
    declared = Architecture(
        name="one-of", summary="", build=lambda config: NeedsOneOf(), config=DecoderConfig,
        inputs=[x, y], outputs=[], dims={"batch": Dim(default=1)},
    )  # fmt: skip
    report = nnkit.summarize(make_spec(declared))
    assert (report.variants[0].macs, report.variants[1].failure) == (None, "")
    (line,) = [line for line in lines_of(report) if line.startswith("without x: ")]
    assert line.startswith("without x: forward fails in the model: TypeError: unsupported operand")


@pytest.mark.parametrize("sizes", [{"past": 0}, {"past": 0, "time": 12}])
def test_a_size_may_be_0(sizes):
    report = nnkit.summarize(decoder(options=sizes), optimizer="adam", fsdp=2)
    time = report.spec.sizes["time"]
    assert report.totals.macs == macs_of(time, 0)
    assert f"cache.0.key input {HEADS}×0×4" in lines_of(report, columns=render.STANDARD + render.TRAINING)
    for form in (render.as_csv, render.as_markdown, render.as_latex, render.as_html):
        assert form(report)
    # tokens of 8 bytes, a mask of 1 each, and empty caches
    assert report.memory.inputs == time * (8 + 1)


@pytest.mark.parametrize(
    ("options", "dim", "found", "others"),
    [
        ({}, "time", 12, {"past": 0}),  # past has its default, and makes room
        ({"past": 4}, "time", 8, {"past": 4}),  # past was chosen
        ({"time": 2}, "past", 10, {"time": 2}),
        ({"time": 2, "context": 7}, "past", 5, {"time": 2}),
    ],
)
def test_the_largest_size_keeps_the_constraints(options, dim, found, others):
    report = nnkit.fit(decoder(options=options), "1GB", dim=dim)
    assert (report.fit.training, report.fit.inference) == (found, found)
    assert report.spec.sizes == {"batch": 1, dim: found, **others}
    assert [variant.input for variant in report.variants] == ["mask", "cache", "shift"]


class Halving(nn.Module):
    def __init__(self, config: "HalvingConfig") -> None:
        super().__init__()
        self.down = nn.Sequential(*(nn.Conv1d(1, 1, 2, stride=2) for _ in range(config.levels)))
        self.up = nn.Upsample(scale_factor=2**config.levels)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"y": batch["x"] + self.up(self.down(batch["x"]))}


@dataclass(frozen=True, kw_only=True)
class HalvingConfig:
    levels: int = 2


HALVING = Architecture(
    name="halving",
    summary="",
    build=Halving,
    config=HalvingConfig,
    inputs=[TensorSpec("batch.x", ("samples", 1, "length"))],
    outputs=[TensorSpec("y", ("samples", 1, "length"))],
    dims={"samples": Dim(default=1), "length": Dim(default=20, multiple_of="2**levels")},
)


@pytest.mark.parametrize(("levels", "length"), [(2, 20), (3, 16), (5, 32)])
def test_default_sizes_follow_the_options(levels, length):
    report = nnkit.summarize(make_spec(HALVING, options={"levels": levels}))
    assert report.spec.sizes["length"] == length
    assert f"batch.x input 1×1×{length}" in lines_of(report)
    halvings = [length // 2 ** (level + 1) * 2 for level in range(levels)]
    assert report.totals.macs == sum(halvings)


def test_a_size_that_does_not_follow_them_is_refused():
    with pytest.raises(UsageProblem, match="size --length of halving must be a multiple of 32, got 100"):
        make_spec(HALVING, options={"levels": 5, "length": 100})
    fit = nnkit.fit(make_spec(HALVING, options={"levels": 5}), "1MB", dim="length").fit
    assert fit.training % 32 == 0 < fit.training < fit.inference


def test_a_comparison_names_the_inputs_left_out():
    report = nnkit.compare(decoder(), decoder(options={"without": ["cache"]}))
    assert [(change.name, change.left, change.right) for change in report.options] == [
        ("without", ["shift"], ["cache", "shift"])
    ]
    assert {change.path for change in report.changes} >= {"layers.0.cat", "layers.1.cat"}


def test_a_benchmark_calls_forward_by_name():
    report = nnkit.bench(decoder(), rounds=2, threads=1)
    forward, training = report.models[0].measurements
    assert (forward.flops, report.models[0].untrained) == (2 * macs_of(5, 3), "")
    assert training.flops > 2 * forward.flops
