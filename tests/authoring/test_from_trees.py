"""`nnkit plugins new --from` a class whose forward takes trees and optional inputs, or whose sizes follow options."""

import pytest
from test_new import assert_clean, hold_untouched, manager_of  # noqa: F401

import nnkit

NETS = '''
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention


class Halving(nn.Module):
    def __init__(self, levels: int = 3, width: int = 4, depth: int = 1):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.Sequential(*(nn.Conv2d(width, width, 2, stride=2) for _ in range(levels)))
        self.up = nn.Upsample(scale_factor=2**levels)
        self.head = nn.Conv2d(width, 2 * width, 1)

    def forward(self, image):
        x = self.stem(image)
        return self.head(x + self.up(self.down(x)))


class Patches(nn.Module):
    def __init__(self, patch: int = 4, levels: int = 2):
        super().__init__()
        self.embed = nn.Conv2d(3, 3, patch, stride=patch)
        self.down = nn.Sequential(*(nn.Conv2d(3, 3, 2, stride=2) for _ in range(levels)))
        self.scale = 2**levels * patch

    def forward(self, image):
        return image + interpolate(self.down(self.embed(image)), scale_factor=self.scale)


@dataclass
class Answer:
    scores: Tensor
    hidden: Tensor


class Tagger(nn.Module):
    def __init__(self, context: int = 24, vocabulary: int = 20, width: int = 8):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.segment = nn.Embedding(2, width)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens, mask=None, *, segments=None, scale: float = 1.0, detail: bool = False) -> Answer:
        x = self.embed(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        if segments is not None:
            x = x + self.segment(segments)
        if mask is not None:
            x = x * mask[..., None]
        return Answer(self.head(scale * x), x)


class Needs(nn.Module):
    def forward(self, x, y=None):
        return x + y


@dataclass
class DecoderConfig:
    """depth: number of blocks."""

    vocabulary: int = 32
    width: int = 16
    heads: int = 4
    depth: int = 1
    context: int = 12


class Attention(nn.Module):
    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.project = nn.Linear(config.width, 3 * config.width)
        self.heads = config.heads

    def forward(self, x, past, mask):
        parts = self.project(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts
        if past is not None:
            key, value = torch.cat([past["key"], key], 2), torch.cat([past["value"], value], 2)
        places = torch.arange(key.shape[2], device=x.device)
        seen = places <= places[key.shape[2] - x.shape[1] :, None]
        if mask is not None:
            seen = seen & mask[:, None, None, :] | (places == places[key.shape[2] - x.shape[1] :, None])
        y = scaled_dot_product_attention(query, key, value, seen)
        return x + y.transpose(1, 2).flatten(2), {"key": key, "value": value}


class Decoder(nn.Module):
    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.embed = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Attention(config) for _ in range(config.depth))
        self.head = nn.Linear(config.width, config.vocabulary)

    def forward(
        self,
        tokens: Tensor,
        *,
        cache: list[dict[str, Tensor]] | None = None,
        mask: Tensor | None = None,
        train: bool = False,
    ):
        past = 0 if cache is None else cache[0]["key"].shape[2]
        places = torch.arange(past, past + tokens.shape[1], device=tokens.device)
        x, kept = self.embed(tokens) + self.positions(places), []
        for index, block in enumerate(self.blocks):
            x, parts = block(x, None if cache is None else cache[index], mask)
            kept.append(parts)
        return {"scores": self.head(x), "present": kept}


class Pair(nn.Module):
    def __init__(self, features, depth: int, *, bias: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(depth, features, 3, padding=1, bias=bias)

    def forward(self, batch: dict[str, Tensor], flip: bool):
        left, right = (self.conv(batch[side]).mean((2, 3)) for side in ("left", "right"))
        return {"pair": {"left": left, "right": right}, "same": (left * right).sum(1)}
'''

PICTURE = "image: float32[batch, 3, high=32, wide=48]"
CACHE = "float32[batch, heads, past=3 min=0, width // heads]"
DECODER = [
    "tokens: int64[batch, time=4] < vocabulary",
    f"cache.0.key: {CACHE}",
    f"cache.0.value: {CACHE}",
    "mask: bool[batch, past + time] keep",
]
TAGGER = [
    "tokens: int64[batch, time] < vocabulary",
    "mask: bool[batch, time]",
    "segments: int64[batch, time] < 2",
]


@pytest.fixture
def make_plugin(nnkit_command, tmp_path, manager_of):  # noqa: F811
    """Write a plugin around a class, and return its declaration, the notes and the manager that has it."""

    def make(code, inputs, *more):
        (tmp_path / "nets.py").write_text(NETS)
        words = [word for text in inputs for word in ("--input", text)]
        done = nnkit_command("plugins", "new", "mine", "--from", f"nets.py:{code}", *words, *more)
        assert done.code == 0, done.err
        assert_clean(tmp_path / "nnkit-mine")
        manager = manager_of(tmp_path / "nnkit-mine", "mine")
        assert manager.failures == []
        (declared,) = manager.architectures().values()
        return declared, done.err, manager

    return make


@pytest.mark.parametrize(
    ("code", "step", "other", "multiple"),
    [("Halving", "2**levels", {"levels": 5}, 32), ("Patches", "patch * 2**levels", {"patch": 6}, 24)],
)
def test_a_step_that_follows_options_is_an_expression(make_plugin, code, step, other, multiple):
    declared, notes, manager = make_plugin(code, [PICTURE])
    assert [declared.dims[name].multiple_of for name in ("batch", "high", "wide")] == [1, step, step]
    assert f"note: size high must be a multiple of {step}, as trial runs show" in notes
    spec = nnkit.resolve(declared.name, manager=manager, **other)
    assert spec.dims["high"].multiple_of == multiple
    assert nnkit.summarize(spec, manager=manager).totals.parameters > 0


def test_an_axis_may_be_a_multiple_of_an_option(make_plugin):
    declared, _, _ = make_plugin("Halving", [PICTURE])
    assert declared.outputs[0].shape == ("batch", "2 * width", "high", "wide")


def test_parameters_that_are_none_by_default_are_optional_inputs(make_plugin):
    declared, notes, manager = make_plugin("Tagger", TAGGER)
    assert [(tensor.name, tensor.optional) for tensor in declared.inputs] == [
        ("tokens", False),
        ("mask", True),
        ("segments", True),
    ]
    assert [tensor.name for tensor in declared.outputs] == ["scores", "hidden"]
    assert (declared.dims["time"].max, dict(declared.constants)) == ("context", {})
    assert "note: size time must be at most context" in notes
    report = nnkit.summarize("tagger", manager=manager)
    assert [variant.unused for variant in report.variants] == [(), ("segment.weight",)]


def test_an_input_that_forward_needs_is_not_optional(make_plugin):
    declared, notes, _ = make_plugin("Needs", ["x: float32[batch, 3]", "y: float32[batch, 3]"])
    assert [tensor.optional for tensor in declared.inputs] == [False, False]
    assert "note: input y isn't optional: forward fails without it" in notes


def test_a_decoder_with_a_cache(make_plugin):
    declared, notes, manager = make_plugin("Decoder", DECODER)
    assert [tensor.shape for tensor in declared.inputs][1:] == [
        ("batch", "heads", "past", "width // heads"),
        ("batch", "heads", "past", "width // heads"),
        ("batch", "past + time"),
    ]
    assert [(tensor.name, tensor.shape) for tensor in declared.outputs] == [
        ("scores", ("batch", "time", "vocabulary")),
        ("present.0.key", ("batch", "heads", "past + time", "width // heads")),
        ("present.0.value", ("batch", "heads", "past + time", "width // heads")),
    ]
    assert declared.constraints == ("time + past <= context",)
    assert "note: depth becomes model_depth" in notes
    report = nnkit.summarize("decoder", manager=manager, past=0, heads=2)
    parameters = 32 * 16 + 12 * 16 + (3 * 16 * 16 + 3 * 16) + (16 * 32 + 32)
    assert report.totals.parameters == parameters
    assert report.outputs["present.0.key"].shape == (1, 2, 4, 8)
    statuses = nnkit.smoke_run("decoder", checks=["shapes", "batch-independence"], manager=manager).checks
    assert {check.status for check in statuses} == {"passed"}


def test_required_parameters_and_constants_of_a_dict(make_plugin):
    inputs = [f"batch.{side}: float32[batch, model_depth, high, wide]" for side in ("left", "right")]
    declared, _, manager = make_plugin(
        "Pair", [*inputs, "flip = true"], "--set", "features=6", "--set", "depth=3"
    )
    assert dict(declared.constants) == {"flip": True}
    config = declared.config()
    assert (config.features, config.model_depth, config.bias) == (6, 3, True)
    assert [(tensor.name, tensor.shape) for tensor in declared.outputs] == [
        ("pair.left", ("batch", "features")),
        ("pair.right", ("batch", "features")),
        ("same", ("batch",)),
    ]
    assert nnkit.summarize("pair", manager=manager, features=5).totals.parameters == 5 * (3 * 9 + 1)


def test_a_parameter_without_a_default_asks_for_one(nnkit_command, tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    done = nnkit_command("plugins", "new", "mine", "--from", "nets.py:Pair", "--set", "features=6")
    assert (done.code, done.err.splitlines()) == (
        2,
        [
            "Error: parameter 'depth' of Pair has no default",
            "hint: choose one for its option: --set depth=8",
        ],
    )
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".py"] == ["nets.py"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "inputs", "architecture"),
    [("Halving", [PICTURE], "halving"), ("Tagger", TAGGER, "tagger"), ("Decoder", DECODER, "decoder")],
)
def test_what_is_written_around_trees_holds_untouched(hold_untouched, code, inputs, architecture):  # noqa: F811
    words = [word for text in inputs for word in ("--input", text)]
    hold_untouched(NETS, ["mine", "--from", f"net.py:{code}", *words], architecture)
