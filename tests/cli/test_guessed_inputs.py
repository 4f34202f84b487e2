"""Modules of the user's own without --input: what forward takes is guessed, said and confirmed, or asked for.

The networks are of the kinds that people write. Their multiply-adds are counted by hand, at the sizes that a
guess must come to.
"""

import json
import re
from pathlib import Path

import pytest

HEADER = """
import torch
from torch import nn
import torch.nn.functional as F

"""

LENET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(16 * 5 * 5, 120), nn.Linear(120, 84), nn.Linear(84, 10)
    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).view(-1, 16 * 5 * 5)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))
"""

MLP = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
    def forward(self, x):
        return self.net(x)
"""

UNET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.down, self.middle = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 1, 1)
    def forward(self, x):
        skip = self.down(x)
        return self.head(torch.cat([skip, self.up(self.middle(F.max_pool2d(skip, 2)))], 1))
"""

BILSTM = """
class Net(nn.Module):
    def __init__(self, vocabulary: int = 500):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 16)
        self.lstm = nn.LSTM(16, 24, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(48, 3)
    def forward(self, ids):
        return self.fc(self.lstm(self.embedding(ids))[0][:, -1])
"""

GPT = """
class Net(nn.Module):
    def __init__(self, block_size: int = 24):
        super().__init__()
        self.positions, self.tokens = nn.Embedding(block_size, 32), nn.Embedding(100, 32)
        self.block = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.head = nn.Linear(32, 100, bias=False)
    def forward(self, idx, targets=None):
        time = idx.shape[1]
        x = self.tokens(idx) + self.positions(torch.arange(time, device=idx.device))
        mask = nn.Transformer.generate_square_subsequent_mask(time, device=idx.device)
        return self.head(self.block(x, src_mask=mask))
"""

LIGHTNING = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4 * 26 * 26, 10)
        self.example_input_array = torch.zeros(16, 1, 28, 28)
    def forward(self, x):
        return self.fc(self.conv(x).flatten(1))
"""

TRANSFORMERS = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings, self.classifier = nn.Embedding(60, 8), nn.Linear(8, 2)
    @property
    def dummy_inputs(self):
        return {"input_ids": torch.tensor([[7, 6, 0, 0, 1], [1, 2, 3, 0, 0]])}
    def forward(self, input_ids=None, attention_mask=None):
        return {"logits": self.classifier(self.embeddings(input_ids).mean(1))}
"""

EXAMPLE_OF_MANY = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 3)
    def example_inputs(self):
        return torch.zeros(5, 8), {"scale": torch.ones(5, 1)}, torch.tensor([[0, 1, 4], [1, 2, 0]]), True
    def forward(self, x, extra, edges, double):
        y = self.fc(x) * extra["scale"]
        return y.index_add(0, edges[1], y[edges[0]]) * (2 if double else 1)
"""

POINTNET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv1d(3, 16, 1), nn.Conv1d(16, 64, 1), nn.Linear(64, 5)
    def forward(self, points):
        return self.head(self.second(F.relu(self.first(points))).max(dim=2).values)
"""

VAE = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 784), nn.Sigmoid())
        self.encoder, self.mean, self.variance = nn.Linear(784, 32), nn.Linear(32, 8), nn.Linear(32, 8)
    def forward(self, x):
        h = F.relu(self.encoder(x.view(-1, 784)))
        mean, variance = self.mean(h), self.variance(h)
        return self.decoder(mean + torch.randn_like(mean) * (variance / 2).exp()), mean, variance
"""

TRANSLATOR = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.source, self.target = nn.Embedding(50, 16), nn.Embedding(70, 16)
        self.transformer = nn.Transformer(16, 2, 1, 1, 32, batch_first=True)
        self.head = nn.Linear(16, 70)
    def forward(self, src, tgt):
        return self.head(self.transformer(self.source(src), self.target(tgt)))
"""

SIAMESE = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        pool = nn.AdaptiveAvgPool2d(1)
        self.encoder = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), pool, nn.Flatten(), nn.Linear(4, 8))
    def forward(self, left, right):
        return F.pairwise_distance(self.encoder(left), self.encoder(right))
"""

PACKED = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(8, 16, batch_first=True)
    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.gru(packed)[1]
"""

ODD_PICTURES = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4 * 49 * 49, 2)
    def forward(self, x):
        return self.fc(self.conv(x).view(x.size(0), -1))
"""

FIXED_TEXT = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.fc = nn.Embedding(300, 12), nn.Linear(12 * 20, 2)
    def forward(self, text):
        return self.fc(self.embedding(text).flatten(1))
"""

SERIES = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.project, self.head = nn.Linear(5, 16), nn.Linear(16, 1)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1)
    def forward(self, series):
        return self.head(self.encoder(self.project(series))[:, -1])
"""

VIT = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.cls, self.positions = nn.Parameter(torch.zeros(1, 1, 32)), nn.Parameter(torch.zeros(1, 65, 32))
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.encoder, self.head = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), nn.Linear(32, 10)
    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.encoder(x)[:, 0])
"""

DICT = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4)
    def forward(self, batch):
        return self.fc(batch["x"])
"""

TIME_FIRST = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(6, 4)
    def forward(self, x):
        return self.rnn(x)[0]
"""

PICTURE_AND_TEXT = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.embedding = nn.Conv2d(3, 4, 3, stride=2), nn.Embedding(20, 4)
    def forward(self, image, text):
        return self.conv(image).mean((2, 3)) + self.embedding(text).mean(1)
"""

JAXTYPING = """
from __future__ import annotations
from typing import TYPE_CHECKING
import torch
from torch import nn
if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 5))
    def forward(self, x: Float[Tensor, "b channels=3 32 32"], scale: float = 2.0) -> Tensor:
        return torch.einsum("bchw,cd->bdhw", x, self.weight) * scale
"""

NAMED_AXES = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16 * 6, 2)
        self.conv = nn.Conv1d(2, 6, 3, padding=1)
    def forward(self, sound: 'Float[torch.Tensor, "n c samples"]'):
        return self.fc(self.conv(sound).flatten(1))
"""

OWN_GRAMMAR = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 4))
    def forward(self, x: "float32[batch, steps, 8]", mask: "bool[batch, steps]"):
        return (x @ self.weight) * mask[..., None]
"""


def attention(width: int, time: int, feedforward: int) -> int:
    """Multiply-adds of one encoder layer: projections, scores and values, feedforward."""
    return 4 * width * width * time + 2 * time * time * width + 2 * width * feedforward * time


def conv(inputs: int, outputs: int, kernel: int, size: int) -> int:
    return inputs * outputs * kernel * kernel * size * size


CASES = {
    "lenet": (
        LENET, ["x: float32[batch, 1, 32, 32], from the first layer conv1"],
        conv(1, 6, 5, 28) + conv(6, 16, 5, 10) + 400 * 120 + 120 * 84 + 84 * 10,
    ),
    "mlp": (MLP, ["x: float32[batch, 784], from the first layer net.1"], 784 * 32 + 32 * 10),
    "unet": (
        UNET,
        ["x: float32[batch, 3, height=224 multiple_of=2, width=224 multiple_of=2], from the first layer down"],
        conv(3, 4, 3, 224) + conv(4, 8, 3, 112) + conv(8, 4, 2, 112) + conv(8, 1, 1, 224),
    ),
    "bilstm": (
        BILSTM, ["ids: int64[batch, time] < 500, from the first layer embedding"],
        2 * 8 * 4 * 24 * (16 + 24) + 48 * 3,
    ),
    "gpt": (  # the first table is of positions, so of 24 tokens at most
        GPT, ["idx: int64[batch, time=8 max=24] < 100, from the first layer tokens"],
        attention(32, 8, 64) + 8 * 32 * 100,
    ),
    "lightning": (
        LIGHTNING, ["x: float32[batch=16, 1, 28, 28], from example_input_array"],
        16 * (conv(1, 4, 3, 26) + 4 * 26 * 26 * 10),
    ),
    "transformers": (
        TRANSFORMERS, ["input_ids: int64[batch=2, time=5] < 60, from dummy_inputs"], 2 * 8 * 2,
    ),
    "example-of-many": (
        EXAMPLE_OF_MANY,
        [
            "x: float32[nodes=5, 8], from example_inputs",
            "extra.scale: float32[nodes, 1], from example_inputs",
            "edges: int64[2, edges_edges=3] < nodes, from example_inputs",
            "double = True, from example_inputs",
        ],
        5 * 8 * 3 + 3 * 3,  # and what the 3 edges add
    ),
    "pointnet": (
        POINTNET, ["points: float32[batch, 3, length=64], from the first layer first"],
        64 * (3 * 16 + 16 * 64) + 64 * 5,
    ),
    "vae": (
        VAE, ["x: float32[batch, 784], from the first layer encoder"], 2 * (784 * 32) + 3 * (32 * 8),
    ),
    "translator": (
        TRANSLATOR,
        [
            "src: int64[batch, time] < 50, from the first layer source",
            "tgt: int64[batch, time] < 70, from the first layer target",
        ],
        2 * attention(16, 8, 32) + attention(16, 8, 0) + 8 * 16 * 70,
    ),
    "siamese": (
        SIAMESE,
        [
            "left: float32[batch, 1, height=224 min=3, width=224 min=3], from the first layer encoder.0",
            "right: float32[batch, 1, height, width], from the first layer encoder.0",
        ],
        2 * (conv(1, 4, 3, 222) + 4 * 8),
    ),
    "packed": (
        PACKED,
        ["x: float32[batch, time=8, 8], from the first layer gru", "lengths: int64[batch] in 1..time, from its name"],
        8 * 3 * 16 * (8 + 16),
    ),
    "odd-pictures": (  # 4 * 49 * 49 features are those of 99 or 100 rows
        ODD_PICTURES, ["x: float32[batch, 3, 99, 99], from the first layer conv"],
        conv(3, 4, 3, 49) + 4 * 49 * 49 * 2,
    ),
    "fixed-text": (FIXED_TEXT, ["text: int64[batch, 20] < 300, from the first layer embedding"], 12 * 20 * 2),
    "series": (
        SERIES, ["series: float32[batch, time, 5], from the first layer project"],
        8 * 5 * 16 + attention(16, 8, 32) + 16,
    ),
    "vit": (
        VIT, ["image: float32[batch, 3, 32, 32], from the first layer patches"],
        conv(3, 32, 4, 8) + attention(32, 65, 64) + 32 * 10,
    ),
    "dict": (DICT, ["batch.x: float32[batch, 8], from the first layer fc"], 8 * 4),
    "time-first": (TIME_FIRST, ["x: float32[time, batch, 6], from the first layer rnn"], 8 * 4 * (6 + 4)),
    "picture-and-text": (
        PICTURE_AND_TEXT,
        [
            "image: float32[batch, 3, height=224 min=3, width=224 min=3], from the first layer conv",
            "text: int64[batch, time] < 20, from the first layer embedding",
        ],
        conv(3, 4, 3, 111),
    ),
    "jaxtyping": (JAXTYPING, ["x: float32[batch, 3, 32, 32], from its annotation"], 32 * 32 * 3 * 5),
    "named-axes": (  # the layer knows the number of channels, and the one behind it that of samples
        NAMED_AXES, ["sound: float32[batch, 2, 16], from its annotation and the first layer conv"],
        2 * 6 * 3 * 16 + 16 * 6 * 2,
    ),
    "own-grammar": (
        OWN_GRAMMAR,
        ["x: float32[batch, steps, 8], from its annotation", "mask: bool[batch, steps], from its annotation"],
        8 * 8 * 4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_inputs_are_guessed_said_and_can_be_typed(nnkit_command, name):
    source, assumed, macs = CASES[name]
    Path("net.py").write_text(source if "from __future__" in source else HEADER + source)
    done = nnkit_command("summary", "net.py:Net", "--json")
    said = [line.removeprefix("assumed: ") for line in done.err.splitlines() if line.startswith("assumed: ")]
    assert [line.rpartition(" (overrule it: --input ")[0] for line in said] == assumed
    totals = json.loads(done.out)["totals"]
    assert totals["macs"] == macs
    words = [word for line in assumed for word in ("--input", line.rpartition(", from ")[0])]
    again = nnkit_command("summary", "net.py:Net", "--json", *words)
    assert (json.loads(again.out)["totals"], again.err) == (totals, "")


GNN = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 4)
    def forward(self, x, edge_index):
        h = self.linear(x)
        return torch.zeros_like(h).index_add(0, edge_index[1], h[edge_index[0]])
"""

BERT = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 4)
    def forward(self, input_ids, attention_mask):
        return self.embedding(input_ids) * attention_mask[..., None]
"""

DIFFUSION = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.time = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(1, 8)
    def forward(self, x, t):
        return self.conv(x) + self.time(t[:, None].float())[:, :, None, None]
"""

ANY_AXES = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 4))
    def forward(self, x: 'Float[Tensor, "... d"]'):
        return x @ self.weight
"""

MANY_KEYS = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 4))
    def forward(self, batch):
        return batch["x"] @ self.weight * batch["mask"][:, :1] + batch.get("bias", 0)
"""

QUESTIONS = {
    "gnn": (GNN, "x, edge_index", ["x: float32[batch, 16]", "edge_index: int64[2, edges=16] < 8"]),
    "bert": (
        BERT, "input_ids, attention_mask",
        ["input_ids: int64[batch, time] < 20", "attention_mask: bool[batch, time]"],
    ),
    "diffusion": (DIFFUSION, "x, t", ["x: float32[batch, 3, height=224, width=224]", "t: int64[batch] < 1000"]),
    "any-axes": (ANY_AXES, "x", ["x: float32[batch, 8]"]),
    "dict": (
        MANY_KEYS, "batch.x, batch.mask",
        ["batch.x: float32[batch, 8]", "batch.mask: bool[batch, time]"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_cannot_be_guessed_is_asked_for_by_name(nnkit_command, name):
    source, names, lines = QUESTIONS[name]
    Path("net.py").write_text(HEADER + source)
    done = nnkit_command("summary", "net.py:Net")
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[0] == f"Error: net.py:Net needs its inputs declared: {names}"
    assert re.findall(r'--input "([^"]*)"', done.err.splitlines()[-1]) == lines


def test_the_lines_to_fill_in_are_a_start_and_what_is_declared_is_kept(nnkit_command):
    Path("net.py").write_text(HEADER + BERT)
    done = nnkit_command("summary", "net.py:Net")
    words = [word for line in re.findall(r'--input "([^"]*)"', done.err) for word in ("--input", line)]
    assert nnkit_command("summary", "net.py:Net", *words).code == 0
    done = nnkit_command("summary", "net.py:Net", "--input", "attention_mask: bool[batch, time=5]")
    assert "assumed: input_ids: int64[batch, time] < 20, from the first layer embedding" in done.err
    assert done.code == 0


@pytest.mark.parametrize(
    "verb",
    [
        ["info"],
        ["build"],
        ["smoke-run", "--check", "shapes"],
        pytest.param(["smoke-run", "--simulate", "cuda"], marks=pytest.mark.slow),
        pytest.param(["export", "--onnx", "--output", "net.onnx"], marks=pytest.mark.slow),
        pytest.param(["bench", "--time-limit", "0.1"], marks=pytest.mark.slow),
        ["compare", "net.py:Net"],
    ],
    ids=lambda verb: " ".join(verb[:2]),
)
def test_every_verb_guesses(nnkit_command, verb):
    Path("net.py").write_text(HEADER + FIXED_TEXT)
    done = nnkit_command(*verb, "net.py:Net")
    assert "assumed: text: int64[batch, 20] < 300, from the first layer embedding" in done.err
    assert done.code == 0


def test_options_decide_what_is_guessed_and_quiet_keeps_it_silent(nnkit_command):
    Path("net.py").write_text(HEADER + BILSTM)
    done = nnkit_command("info", "net.py:Net", "--vocabulary", "33", "--time", "4")
    assert "ids: int64[batch, time] < 33" in done.err
    assert nnkit_command("info", "net.py:Net", "--vocabulary=44", "-q").err == ""


def test_a_dict_that_is_declared_in_part_is_asked_for_the_rest(nnkit_command):
    Path("net.py").write_text(HEADER + MANY_KEYS)
    done = nnkit_command("summary", "net.py:Net", "--input", "batch.x: float32[batch, 8]")
    assert done.err.splitlines()[0] == "Error: net.py:Net needs its inputs declared: batch.mask"
    words = ["--input", "batch.x: float32[batch, 8]", "--input", "batch.mask: bool[batch, time]"]
    assert nnkit_command("summary", "net.py:Net", *words).code == 0


def test_help_and_declared_inputs_run_nothing(nnkit_command):
    Path("net.py").write_text(
        HEADER + DICT.replace("super().__init__()", "super().__init__(); print('built')")
    )
    assert "built" not in nnkit_command("summary", "net.py:Net", "--help").err
    done = nnkit_command("summary", "net.py:Net", "--input", "batch.x: float32[batch, 8]")
    assert done.err.count("built") == 1


def test_the_failure_of_a_trial_says_what_was_tried(nnkit_command):
    Path("net.py").write_text(HEADER + MLP.replace("self.net(x)", "self.net(x) @ torch.ones(3, 3)"))
    done = nnkit_command("summary", "net.py:Net")
    assert (
        "tried: x: float32[batch, 784], from the first layer net.1: RuntimeError: mat1 and mat2" in done.err
    )
    assert done.code == 2
