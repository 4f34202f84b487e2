"""The edges between leaf modules beside those that torch.export finds, on models of every kind."""

import gc
import warnings

import pytest
import torch
from exported import exported, reported
from torch import nn

import nnkit
from nnkit.contract.requests import SummaryRequest
from nnkit.models.running import bind
from nnkit.models.sampling import sample_inputs
from nnkit.models.targets import resolve_target
from nnkit.verbs.core_handlers import plugin_manager
from nnkit.verbs.graph.handler import graph

IMAGE = torch.randn(1, 3, 64, 64)
TINY = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
TINY |= {"intermediate_size": 37}


def tokens(length=7):
    return torch.randint(3, 90, (1, length))


class Cells(nn.Module):
    """A loop of cells, each with a head."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTMCell(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        hidden = cell = x.new_zeros(x.shape[1], 8)
        outputs = []
        for step in x:
            hidden, cell = self.cell(step, (hidden, cell))
            outputs.append(self.head(hidden))
        return torch.stack(outputs)


class Encoder(nn.TransformerEncoder):
    def __init__(self):
        super().__init__(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)


class Writes(nn.Module):
    """Writes through views, which the graph of torch.export shows once it is functional."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(8, 2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        both = torch.zeros(2, 8)
        both[:, :4] = self.left(x)
        both[:, 4:].add_(self.relu(self.right(x)))
        return self.last(both)


def compare(module, args=(), kwargs=None, functional=False):
    """Compare the edges of a module; there are some.

    functional: whether torch.export's graph is made functional first, which takes as long again. Before that
    it misses writes through views, and takes `x.to(…)` that changes nothing, and `x.reshape_as(y)`, for steps.
    """
    module = module.eval()
    spec, _ = resolve_target(nn.Identity(), "x: float32[1]", None, {}, plugin_manager(), "graph")
    request = SummaryRequest(
        spec=spec, host=plugin_manager(), module=module, inputs=args, keywords=kwargs or {}
    )
    report = graph(request)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, leaves = exported(module, args, kwargs, functional)
    ours = reported(report, leaves)
    assert (ours - theirs, theirs - ours) == (set(), set())
    assert ours
    gc.collect()


FAST = {
    "lstm": lambda: compare(nn.LSTM(4, 8, 2), (torch.randn(10, 2, 4),)),
    "lstm-cells": lambda: compare(Cells(), (torch.randn(6, 2, 4),)),
    "transformer-encoder": lambda: compare(Encoder(), (torch.randn(2, 4, 16),)),
    "writes-through-views": lambda: compare(Writes(), (torch.randn(2, 4),), functional=True),
}


@pytest.mark.parametrize("name", FAST)
def test_edges_of_small_models_are_those_of_torch_export(name):
    FAST[name]()


def compare_torchvision(name, size=64):
    models = pytest.importorskip("torchvision.models")
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    compare(getattr(models, name)(weights=None, **options), (torch.randn(1, 3, size, size),))


def compare_timm(name, size=224):
    timm = pytest.importorskip("timm")
    compare(timm.create_model(name, pretrained=False), (torch.randn(1, 3, size, size),), functional=True)


def compare_nnkit(name):
    spec = nnkit.resolve(name)
    module = nnkit.build(spec)
    args, kwargs = bind(module, spec.signature, sample_inputs(spec, full=True))
    compare(module, args, dict(kwargs), functional=name == "moe")


def compare_transformers(model, config, kwargs, **options):
    transformers = pytest.importorskip("transformers")
    settings = getattr(transformers, config)(**options)
    compare(getattr(transformers, model)(settings), (), kwargs, functional=True)


def compare_pyg():
    pyg = pytest.importorskip("torch_geometric.nn")
    compare(pyg.GCN(8, 16, 2, 4), (torch.randn(10, 8), torch.randint(0, 10, (2, 30))))


STUDY = {
    "resnet18": lambda: compare_torchvision("resnet18"),
    "resnet152": lambda: compare_torchvision("resnet152"),
    "vit_b_16": lambda: compare_torchvision("vit_b_16", 224),
    "swin_t": lambda: compare_torchvision("swin_t"),
    "googlenet": lambda: compare_torchvision("googlenet"),
    "densenet121": lambda: compare_torchvision("densenet121"),
    "pyg-gcn": compare_pyg,
    "gpt2": lambda: compare_transformers(
        "GPT2LMHeadModel",
        "GPT2Config",
        {"input_ids": tokens(), "use_cache": False},
        n_layer=2,
        n_embd=32,
        n_head=4,
        vocab_size=99,
        bos_token_id=1,
        eos_token_id=2,
    ),
}
MORE = {
    **{
        name: lambda name=name: compare_nnkit(name)
        for name in ("unet", "transformer", "gcn", "gat", "pointnet", "deepsets", "vae", "moe")
    },
    **{
        name: lambda name=name: compare_torchvision(name)
        for name in (
            "mobilenet_v3_small",
            "shufflenet_v2_x0_5",
            "squeezenet1_0",
            "alexnet",
            "vgg11_bn",
            "mnasnet0_5",
        )
    },
    "levit": lambda: compare_timm("levit_128s"),
    "deit": lambda: compare_timm("deit_tiny_patch16_224"),
    "bert": lambda: compare_transformers("BertModel", "BertConfig", {"input_ids": tokens()}, **TINY),
    "llama": lambda: compare_transformers(
        "LlamaForCausalLM",
        "LlamaConfig",
        {"input_ids": tokens(), "use_cache": False},
        **TINY,
        num_key_value_heads=2,
    ),
    "albert": lambda: compare_transformers(
        "AlbertModel", "AlbertConfig", {"input_ids": tokens()}, **TINY, embedding_size=16
    ),
    "t5": lambda: compare_transformers(
        "T5Model",
        "T5Config",
        {"input_ids": tokens(), "decoder_input_ids": tokens(5), "use_cache": False},
        vocab_size=99,
        d_model=32,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
    ),
    "distilbert": lambda: compare_transformers(
        "DistilBertModel",
        "DistilBertConfig",
        {"input_ids": tokens()},
        vocab_size=99,
        dim=32,
        n_layers=2,
        n_heads=4,
        hidden_dim=37,
    ),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*STUDY, *MORE])
def test_edges_are_those_of_torch_export(name):
    {**STUDY, **MORE}[name]()
