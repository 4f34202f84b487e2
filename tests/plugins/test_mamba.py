"""Mamba beside transformers': outputs, gradients, state dicts, counts; both scans; token by token."""

import math
from dataclasses import asdict

import conftest  # noqa: F401 (makes transformers importable)
import pytest
import torch
from torch import nn
from transformers import MambaConfig as ReferenceConfig
from transformers import MambaForCausalLM, MambaModel
from transformers.models.mamba import modeling_mamba

from nnkit_sequence.configs import MambaConfig
from nnkit_sequence.mamba import Mamba, selective_scan, step_by_step

CONFIG = MambaConfig(
    vocab_size=37,
    hidden_size=24,
    num_hidden_layers=3,
    state_size=5,
    conv_kernel=3,
    time_step_rank=4,
    chunk_size=4,
)
BATCH, TIME = 2, 11


def reference(config=CONFIG, model=MambaForCausalLM):
    """Return transformers' network of this size, with random weights in place of those that start alike."""
    names = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "state_size",
        "conv_kernel",
        "time_step_rank",
        "expand",
    )
    options = {name: getattr(config, name) for name in names}
    torch.manual_seed(0)
    network = model(ReferenceConfig(**options, residual_in_fp32=False))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network.eval()


@pytest.fixture
def in_float64(monkeypatch):
    """Let the reference compute in float64 what it would cast to float32."""
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)
    monkeypatch.setattr(
        modeling_mamba.MambaRMSNorm,
        "forward",
        lambda norm, x: nn.functional.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon),
    )


def ours(state, scan="loop"):
    network = Mamba(MambaConfig(**{**asdict(CONFIG), "scan": scan})).to(next(iter(state.values())).dtype)
    network.load_state_dict(state)
    return network.eval()


def tokens(time=TIME):
    return torch.randint(CONFIG.vocab_size, (BATCH, time), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("scan", ["loop", "chunked"])
def test_equals_transformers(scan):
    theirs = reference()
    network = ours(theirs.state_dict(), scan)
    with torch.no_grad():
        expected = theirs(tokens()).logits
        assert (network(tokens()).scores - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("scan", ["loop", "chunked"])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_equal_transformers(in_float64, scan, masked):
    theirs = reference().double()
    network = ours(theirs.state_dict(), scan).train()
    theirs.train()
    mask = torch.ones(BATCH, TIME, dtype=torch.bool)
    mask[0, :4] = False
    expected = theirs(tokens(), attention_mask=mask.long() if masked else None).logits
    scores = network(tokens(), mask if masked else None).scores
    assert (scores - expected).abs().max() < 1e-10
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (scores * weights).sum().backward()
    wanted = dict(theirs.named_parameters())
    assert {name for name, _ in network.named_parameters()} == set(wanted)
    for name, parameter in network.named_parameters():
        assert (parameter.grad - wanted[name].grad).abs().max() < 1e-10 * wanted[name].grad.abs().max(), name
