"""A module that is built and one example of its inputs: the default checks find faults without a declaration."""

import bare
import pytest
import reported
import seeded
import torch
from torch import nn

# One of each kind of fault, and of what has to be found out by running.
SAMPLE = (
    seeded.DetachedBranch, seeded.CustomBackward, seeded.AttentionAcrossBatch, seeded.HardCodedBatch,
    seeded.OnlyEvenBatches, seeded.RangeOnCpu, seeded.NotPersistent, seeded.NormalizesInPlace,
    seeded.SecondInputOverwritten, reported.InPlaceReluInSkip, reported.PositionsByBatch,
    reported.FirstResultKept, reported.TiedByData, reported.ListTimesN, reported.MaskOfNineZeros,
    reported.PlacesInModelDtype, reported.KeyIgnored, reported.CacheIgnored, reported.OptionalMaskIgnored,
)  # fmt: skip
# Another meaning with sound shapes and gradients; a layer skipped by chance, which `full=True` sees.
MISSED = {seeded.SoftmaxOverWrongAxis, seeded.SkipsAtRandom}
FULL = {"overfit": "derivative", "export": "batch-independence", "half": "cast"}  # and what sees it before


@pytest.mark.parametrize("kind", SAMPLE, ids=lambda kind: kind.__name__)
def test_its_check_finds_the_fault_of_a_bare_module(kind):
    outcome = bare.check(*bare.example_of(kind), checks=[kind.CATCH])
    assert kind.CATCH in (outcome.warned if hasattr(kind, "WARNS") else outcome.failed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [kind for kind in bare.SEEDS if not bare.needs(kind)], ids=lambda kind: kind.__name__
)
def test_the_default_checks_find_it(kind):
    outcome = bare.check(*bare.example_of(kind))
    assert outcome.catches(kind) == (kind not in MISSED)
    if kind not in MISSED:
        assert FULL.get(kind.CATCH, kind.CATCH) in {**outcome.failed, **outcome.warned}


def test_it_is_known_how_many_are_found():
    own = [kind for kind in bare.SEEDS if kind not in seeded.MEASURED and not bare.needs(kind)]
    measured = [kind for kind in seeded.MEASURED if not bare.needs(kind) and kind not in MISSED]
    assert len(measured) == 27
    assert len([kind for kind in own if kind not in MISSED]) / len(own) > 0.9


class Entries(nn.Module):
    """Takes and returns a dict."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, batch):
        return {"y": self.linear(batch["x"] + batch["y"]), "sums": [batch["x"].sum(-1)]}


class Past(nn.Module):
    """Attends to a past that it returns longer."""

    def __init__(self):
        super().__init__()
        self.queries, self.keys = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x, past):
        keys = torch.cat([past[0], self.keys(x)], 1)
        return (self.queries(x) @ keys.mT).softmax(-1) @ keys, [keys]


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.queries, self.keys = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x, mask=None):
        scores = self.queries(x) @ self.keys(x).mT
        return (scores if mask is None else scores.masked_fill(~mask[:, None], -1e4)).softmax(-1) @ x


class Edges(nn.Module):
    """Nodes and edges, none of them a batch."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x, edges):
        y = self.linear(x)
        return torch.zeros_like(y).index_add_(0, edges[1], y[edges[0]])


class Neighbors(nn.Module):
    """A graph that is part of the model: its nodes are as many as they are, and no samples."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.register_buffer("adjacency", torch.rand(5, 5))

    def forward(self, x):
        return self.adjacency @ self.linear(x)


class Bags(nn.Module):
    """Words in a row, and where each bag of them begins."""

    def __init__(self):
        super().__init__()
        self.bags, self.linear = nn.EmbeddingBag(20, 6), nn.Linear(6, 2)

    def forward(self, words, starts):
        return self.linear(self.bags(words, starts))


SOUND = {
    "dict": (Entries, lambda: [{"x": torch.randn(4, 6), "y": torch.randn(4, 6)}]),
    "cache": (Past, lambda: [torch.randn(4, 3, 6), [torch.randn(4, 2, 6)]]),
    "mask": (Masked, lambda: [torch.randn(4, 5, 6), torch.rand(4, 5) > 0.3]),
    "without the mask": (Masked, lambda: [torch.randn(4, 5, 6)]),
    "edges": (Edges, lambda: [torch.randn(9, 6), torch.randint(9, (2, 20))]),
    "fixed graph": (Neighbors, lambda: [torch.randn(5, 6)]),
    "offsets": (Bags, lambda: [torch.randint(20, (10,)), torch.tensor([0, 3, 7])]),
    "time first": (lambda: nn.LSTM(6, 5), lambda: [torch.randn(7, 3, 6)]),
    "a layer of torch's, time first": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16), lambda: [torch.randn(7, 2, 8)]
    ),
    "two lengths": (
        lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True),
        lambda: [torch.randn(2, 7, 8), torch.randn(2, 5, 8)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_no_check_fails_on_a_sound_module_of_any_structure(name):
    build, example = SOUND[name]
    torch.manual_seed(0)
    assert bare.check(build().eval(), example()).failed == {}


ZOO = (
    "torchvision/mobilenet_v3_small", "torchvision/squeezenet1_1", "timm/test_resnet", "timm/test_vit",
    "timm/ghostnet_050", "transformers/Bert", "transformers/GPTNeoX", "transformers/Swin",
)  # fmt: skip


@pytest.mark.slow
def test_no_check_fails_on_sound_models_of_others(recwarn):
    import clean

    failed = {name: clean.check_bare(spec)[0] for name, spec in clean.models() if name in ZOO}
    assert failed == {name: [] for name in ZOO}
