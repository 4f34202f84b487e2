"""Networks whose forward takes and returns trees, each written as its author would, and its declaration."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnkit import Architecture, Dim, TensorSpec
from nnkit.contract.spec import ModelSpec, make_spec

VOCABULARY, WIDTH, HEADS, LAYERS = 13, 8, 2, 2


@dataclass(frozen=True, kw_only=True)
class NoConfig:
    """Nothing to choose."""


class KeyValue(NamedTuple):
    key: Tensor
    value: Tensor


@dataclass
class Decoded:
    logits: Tensor
    present: list[KeyValue] | None = None


class DecoderLayer(nn.Module):
    """Attention over what came before, which is cached, and a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.project, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.perceptron = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU())

    def forward(self, x: Tensor, past: KeyValue | None, keep: Tensor) -> tuple[Tensor, KeyValue]:
        batch, time, width = x.shape
        parts = self.project(self.norm(x)).chunk(3, -1)
        query, key, value = (part.view(batch, time, HEADS, -1).transpose(1, 2) for part in parts)
        if past is not None:
            key, value = torch.cat([past.key, key], 2), torch.cat([past.value, value], 2)
        scores = query @ key.transpose(-1, -2) / (width / HEADS) ** 0.5
        weights = scores.masked_fill(~keep, -1e4).softmax(-1)
        x = x + self.out((weights @ value).transpose(1, 2).reshape(batch, time, width))
        return x + self.perceptron(x), KeyValue(key, value)


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    context: int = 12


class Decoder(nn.Module):
    """A decoder with learned positions: there are `context` of them."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(config.context, WIDTH)
        self.layers = nn.ModuleList(DecoderLayer() for _ in range(LAYERS))
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        *,
        cache: list[KeyValue] | None = None,
        use_cache: bool = True,
    ) -> Decoded:
        past = 0 if cache is None else cache[0].key.shape[2]
        steps = torch.arange(past, past + tokens.shape[1], device=tokens.device)
        x = self.tokens(tokens) + self.positions(steps)
        keep = torch.arange(past + tokens.shape[1], device=tokens.device) <= steps[:, None]
        keep = keep if mask is None else keep & mask[:, None, None, :]
        present = []
        for index, layer in enumerate(self.layers):
            x, key_value = layer(x, None if cache is None else cache[index], keep)
            present.append(key_value)
        return Decoded(self.head(x), present if use_cache else None)


def tensors_of_cache(name: str, axis: str, **more: bool) -> list[TensorSpec]:
    shape = ("batch", HEADS, axis, WIDTH // HEADS)
    parts = [f"{name}.{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]
    return [TensorSpec(part, shape, **more) for part in parts]


DECODER = Architecture(
    name="decoder",
    summary="a decoder with a cache",
    build=Decoder,
    config=DecoderConfig,
    inputs=[
        TensorSpec("tokens", ("batch", "time"), "int64", sample="index", index_of=VOCABULARY),
        TensorSpec("mask", ("batch", "past + time"), "bool", sample="keep", optional=True),
        *tensors_of_cache("cache", "past", optional=True),
    ],
    outputs=[
        TensorSpec("logits", ("batch", "time", VOCABULARY)),
        *tensors_of_cache("present", "past + time"),
    ],
    dims={"batch": Dim(default=1), "time": Dim(default=4), "past": Dim(default=0, min=0)},
    constraints=["past + time <= context"],
    constants={"use_cache": True},
    containers={"cache.*": KeyValue},
)


class Siamese(nn.Module):
    """Two pictures through one network."""

    def __init__(self, config: object = None) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, batch: dict[str, dict[str, Tensor]], *, margin: float, metric: str = "l2") -> dict:
        left, right = (self.body(batch[side]["image"]).flatten(1) for side in ("left", "right"))
        left = left * batch["left"]["weight"][:, None]
        apart = left - right if metric == "l2" else (left - right).abs()
        return {"embedding": {"left": left, "right": right}, "loss": (apart.square().sum(1) - margin).mean()}


SIAMESE = Architecture(
    name="siamese",
    summary="a network for pairs",
    build=Siamese,
    config=NoConfig,
    inputs=[
        TensorSpec("batch.left.image", ("batch", 3, 8, 8)),
        TensorSpec("batch.right.image", ("batch", 3, 8, 8)),
        TensorSpec("batch.left.weight", ("batch",)),
    ],
    outputs=[
        TensorSpec("loss", ()),
        TensorSpec("embedding.left", ("batch", 4)),
        TensorSpec("embedding.right", ("batch", 4)),
    ],
    dims={"batch": Dim(default=2)},
    constants={"margin": 0.5, "metric": "l1"},
)


class Streaming(nn.Module):
    """A recurrent cell that takes its state part by part."""

    def __init__(self, config: object = None) -> None:
        super().__init__()
        self.cells = nn.ModuleList([nn.GRUCell(5, 6), nn.GRUCell(6, 6)])

    def forward(self, x: Tensor, *states: Tensor, flip: bool = False, steps: int | None = None) -> tuple:
        new = []
        for cell, state in zip(self.cells, states, strict=True):
            x = cell(x, state)
            new.append(x)
        return (x.flip(1) if flip else x), new, steps


STREAMING = Architecture(
    name="streaming",
    summary="a recurrent cell",
    build=Streaming,
    config=NoConfig,
    inputs=[TensorSpec("x", ("batch", 5)), *(TensorSpec(f"states.{i}", ("batch", 6)) for i in range(2))],
    outputs=[TensorSpec("y", ("batch", 6)), *(TensorSpec(f"new.{i}", ("batch", 6)) for i in range(2))],
    dims={"batch": Dim(default=2)},
    constants={"flip": True, "steps": None},
)


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    levels: int = 2


class UNet(nn.Module):
    """Down `levels` times, up again, beside what was there on the way down."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 1)
        self.down = nn.ModuleList(nn.Conv2d(4, 4, 3, 2, 1) for _ in range(config.levels))
        self.up = nn.ModuleList(nn.Conv2d(8, 4, 3, padding=1) for _ in range(config.levels))

    def forward(self, x: Tensor) -> Tensor:
        x, skipped = self.enter(x), []
        for layer in self.down:
            skipped.append(x)
            x = functional.relu(layer(x))
        for layer in self.up:
            x = functional.interpolate(x, scale_factor=2.0)
            x = functional.relu(layer(torch.cat([x, skipped.pop()], 1)))
        return self.leave(x)


UNET = Architecture(
    name="unet",
    summary="a U-Net",
    build=UNet,
    config=UNetConfig,
    inputs=[TensorSpec("x", ("batch", 1, "height", "width"))],
    outputs=[TensorSpec("y", ("batch", 1, "height", "width"))],
    dims={
        "batch": Dim(default=1),
        "height": Dim(default=16, multiple_of="2**levels"),
        "width": Dim(default=16, multiple_of="2**levels"),
    },
)


class Sampler(nn.Module):
    """Adds noise, in eval mode too."""

    def __init__(self, config: object = None) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + torch.randn_like(x)


SAMPLER = Architecture(
    name="sampler",
    summary="a random network",
    build=Sampler,
    config=NoConfig,
    inputs=[TensorSpec("x", ("batch", 4))],
    outputs=[TensorSpec("y", ("batch", 4))],
    dims={"batch": Dim(default=2)},
    stochastic="always",
)


def spec_of(architecture: Architecture, **options: object) -> ModelSpec:
    return make_spec(architecture, options=options)
