"""The mixture of experts beside transformers' Mixtral and Switch, and beside all experts for all tokens."""

from dataclasses import replace

import conftest  # noqa: F401 (makes transformers importable)
import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import MixtralConfig, SwitchTransformersConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock, load_balancing_loss_func
from transformers.models.switch_transformers.modeling_switch_transformers import SwitchTransformersSparseMLP
from zoo import small

import nnkit
from nnkit_sequence.configs import MoEConfig
from nnkit_sequence.moe import MixtureOfExperts

CONFIG = MoEConfig(hidden_size=12, intermediate_size=20, experts=5, top_k=2)
SWITCH = replace(CONFIG, top_k=1, expert="relu", normalize=False, capacity_factor=1.25)
BATCH, TIME = 3, 14


def network(config=CONFIG, dtype=torch.float64):
    """Return a mixture with a gate that has preferences."""
    torch.manual_seed(0)
    net = MixtureOfExperts(config).to(dtype)
    with torch.no_grad():
        net.gate.weight.normal_()
    return net


def tokens(time=TIME, width=CONFIG.hidden_size, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(BATCH, time, width, generator=generator, dtype=dtype, requires_grad=True)


def mask():
    """Return padding at the end, at the start, and none."""
    real = torch.ones(BATCH, TIME, dtype=torch.bool)
    real[0, 9:], real[1, :3] = False, False
    return real


def dense(net, x, config=CONFIG):
    """Return what `net` should: all experts for all tokens, times weights that are 0 for all but the top k."""
    p = torch.softmax(x @ net.gate.weight.t(), -1)
    kept = torch.where(p >= p.sort(-1, descending=True).values[..., config.top_k - 1, None], p, 0)
    w = kept / kept.sum(-1, keepdim=True) if config.normalize else kept
    gate, up = torch.einsum("btd,ehd->bteh", x, net.experts.gate_up_proj).chunk(2, -1)
    each = torch.einsum("bteh,edh->bted", gate * torch.sigmoid(gate) * up, net.experts.down_proj)
    return (w[..., None] * each).sum(2)


def gradients(output, net, x):
    return torch.autograd.grad(
        (output * torch.sin(torch.arange(output.numel()).view_as(output))).sum(), [x, *net.parameters()]
    )


@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_equals_all_experts_for_all_tokens_with_a_weight_of_0_for_most(top_k):
    config = replace(CONFIG, top_k=top_k, normalize=top_k > 1)
    net, x = network(config), tokens()
    y, expected = net(x).y, dense(net, x, config)
    assert (y - expected).abs().max() < 1e-12
    for ours, theirs in zip(gradients(y, net, x), gradients(expected, net, x), strict=True):
        assert theirs.abs().max() > 0
        assert (ours - theirs).abs().max() < 1e-12


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_equals_mixtral_with_its_state_dict(monkeypatch, dtype, tolerance):
    if dtype == torch.float64:  # let the reference compute in float64 what it would cast to float32
        monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)
    reference = MixtralSparseMoeBlock(
        MixtralConfig(hidden_size=12, intermediate_size=20, num_local_experts=5, num_experts_per_tok=2)
    ).to(dtype)
    source = network(dtype=dtype)
    reference.load_state_dict(source.state_dict())
    net = MixtureOfExperts(CONFIG).to(dtype)
    net.load_state_dict(reference.state_dict())

    x = tokens(dtype=dtype)
    y, loss = net(x)
    expected = reference(x)
    assert (y - expected).abs().max() < tolerance
    if dtype == torch.float64:
        for ours, theirs in zip(gradients(y, net, x), gradients(expected, reference, x), strict=True):
            assert (ours - theirs).abs().max() < tolerance
    logits, _, _ = reference.gate(x)
    assert (loss - load_balancing_loss_func((logits,), 5, 2)).abs() < max(tolerance, 1e-6)
    real = mask()
    wanted = load_balancing_loss_func((logits,), 5, 2, real)
    assert (net(x, real).loss - wanted).abs() < max(tolerance, 1e-6)


def test_equals_switch_with_its_capacity_for_each_sequence():
    seats = 4  # 1.25 * 14 tokens / 5 experts = 3.5, rounded up
    reference = (
        SwitchTransformersSparseMLP(
            SwitchTransformersConfig(d_model=12, d_ff=20, num_experts=5, expert_capacity=seats)
        )
        .double()
        .eval()
    )
    reference.router.dtype = torch.float64
    net, x = network(SWITCH), tokens()
    state = {"router.classifier.weight": net.gate.weight}
    for expert in range(5):
        state[f"experts.expert_{expert}.wi.weight"] = net.experts.gate_up_proj[expert]
        state[f"experts.expert_{expert}.wo.weight"] = net.experts.down_proj[expert]
    reference.load_state_dict(state)
    y = net(x).y
    assert (y - reference(x)).abs().max() < 1e-10
    unseated = y.abs().sum(-1) == 0
    assert 0 < unseated.sum() < BATCH * TIME / 2
    assert (network(replace(SWITCH, capacity_factor=0.0))(x).y.abs().sum(-1) > 0).all()


def test_seats_go_to_those_that_come_first():
    """Two experts, of which all tokens choose the first: with a factor of 1, it has seats for half of them."""
    config = MoEConfig(
        hidden_size=2, intermediate_size=3, experts=2, top_k=1, normalize=False, capacity_factor=1
    )
    net = network(config)
    with torch.no_grad():
        net.gate.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    x = torch.ones(1, 6, 2, dtype=torch.float64)
    assert (net(x).y.abs().sum(-1) > 0).tolist() == [[True] * 3 + [False] * 3]
    real = torch.tensor([[False, True, True, True, True, False]])  # padding has no seat, and needs none
    assert (net(x, real).y.abs().sum(-1) > 0).tolist() == [[False, True, True, False, False, False]]
    loss = net(x).loss
    p = torch.sigmoid(torch.tensor(2.0, dtype=torch.float64))
    assert (loss - 2 * p).abs() < 1e-12  # f = (1, 0), P = (p, 1 - p)


@pytest.mark.parametrize("config", [CONFIG, SWITCH])
def test_a_padded_sequence_is_as_without_its_padding(config):
    net, x, real = network(config), tokens(), mask()
    padded, loss = net(x, real)
    for row in range(BATCH):
        assert (padded[row][real[row]] - net(x[row : row + 1, real[row]]).y[0]).abs().max() < 1e-12
    other = torch.where(real[..., None], x, 7.0)
    assert (net(other, real).loss - loss).abs() < 1e-12
    assert padded[~real].abs().max() == 0


def test_counts_of_published_layers():
    """Of Mixtral 8x7B, as transformers has it by default, and of google/switch-base-8."""
    with torch.device("meta"):
        mixtral = MixtralSparseMoeBlock(MixtralConfig())
        switch = SwitchTransformersSparseMLP(SwitchTransformersConfig(d_ff=3072))
    for preset, reference, count in (("mixtral", mixtral, 1_409_318_912), ("switch", switch, 37_754_880)):
        config = nnkit.resolve("moe", preset=preset).config
        with torch.device("meta"):
            ours = MixtureOfExperts(config)
        assert sum(each.numel() for each in ours.parameters()) == count
        assert sum(each.numel() for each in reference.parameters()) == count


def test_the_summary_counts_the_experts_that_are_used():
    spec = small("sequence/moe", batch=2)
    config, tokens = spec.config, 2 * spec.sizes["time"]
    of_expert = 3 * config.hidden_size * config.intermediate_size
    gate = config.hidden_size * config.experts
    gathered = config.top_k * config.hidden_size  # sums of outputs
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        MixtureOfExperts(config)(torch.randn(2, spec.sizes["time"], config.hidden_size))
    assert counter.get_total_flops() == 2 * tokens * (config.top_k * of_expert + gate)
    assert nnkit.summarize(spec).totals.macs == tokens * (config.top_k * of_expert + gate + gathered)


def test_the_gate_must_be_able_to_learn():
    with pytest.raises(ValueError, match="turn off normalize"):
        MoEConfig(top_k=1)
    with pytest.raises(ValueError, match="top_k must be at most experts, 8, got 9"):
        MoEConfig(top_k=9)


def shares(seed, factor):
    """Train on tokens that have a direction in common; return how large a part each expert gets, sorted."""
    torch.manual_seed(seed)
    net = MixtureOfExperts(MoEConfig(hidden_size=16, intermediate_size=32, experts=4))
    target, common = torch.randn(16, 16) / 4, torch.randn(16)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(100):
        x = torch.randn(1, 128, 16) + common
        y, loss = net(x)
        (F.mse_loss(y, torch.tanh(x @ target)) + factor * loss).backward()
        optimizer.step()
        optimizer.zero_grad()
    chosen = net.gate(torch.randn(1, 1024, 16) + common).topk(2, -1).indices
    return (torch.bincount(chosen.flatten(), minlength=4) / chosen.numel()).sort().values


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_experts_are_balanced_with_the_loss_and_not_without(seed):
    """A quarter each is balance; measured over five seeds: at least 0.21 with the loss, at most 0.02 without."""
    assert shares(seed, 0.1)[0] > 0.15
    assert shares(seed, 0.0)[0] < 0.05
