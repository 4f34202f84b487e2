"""The Set Transformer beside its equations and PyG's blocks, and on the paper's first experiment."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch_geometric.nn.aggr.utils import (
    InducedSetAttentionBlock,
    PoolingByMultiheadAttention,
    SetAttentionBlock,
)

import nnkit
from nnkit_sets.configs import SetTransformerConfig
from nnkit_sets.set_transformer import ISAB, MAB, PMA, SAB

SMALL = {
    "in_features": 3,
    "num_outputs": 2,
    "out_features": 5,
    "hidden_features": 16,
    "heads": 4,
    "num_inds": 6,
}


def sets(batch=5, elements=9, features=3):
    """Return sets in float64, and which of their places have an element."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, elements, features, generator=generator, dtype=torch.float64)
    mask = torch.rand(batch, elements, generator=generator) < 0.6
    mask[:, 0] = True
    return x, mask


@pytest.mark.parametrize(
    ("options", "parameters"),  # counted on the authors' modules
    [({}, 423_172), ({"preset": "mixture"}, 423_172), ({"preset": "max-regression"}, 37_953)],
)
def test_counts(options, parameters):
    assert nnkit.summarize("set-transformer", **options).totals.parameters == parameters


def test_names_are_the_authors():
    names = set(nnkit.build("set-transformer", layer_norm=True, device="meta").state_dict())
    layers = ("fc_q", "fc_k", "fc_v", "ln0", "ln1", "fc_o")
    blocks = [f"enc.{block}.{mab}" for block in (0, 1) for mab in ("mab0", "mab1")]
    blocks += [f"dec.{block}.mab" for block in range(3)]
    expected = {
        f"{block}.{layer}.{kind}" for block in blocks for layer in layers for kind in ("weight", "bias")
    }
    assert names == expected | {"enc.0.I", "enc.1.I", "dec.0.S", "dec.3.weight", "dec.3.bias"}


def written_out(block, queries, keys):
    """Return MAB for one set, head by head: queries (M, D), keys (N, D)."""
    q, k, v = block.fc_q(queries), block.fc_k(keys), block.fc_v(keys)
    heads = []
    for one, key, value in zip(*(each.split(4, 1) for each in (q, k, v)), strict=True):
        weights = (one @ key.T / math.sqrt(16)).exp()  # 16 is the whole width, though a head has 4
        heads.append(one + weights / weights.sum(1, keepdim=True) @ value)
    o = torch.cat(heads, 1)
    o = o if block.ln0 is None else F.layer_norm(o, (16,), block.ln0.weight, block.ln0.bias)
    o = o + block.fc_o(o).clamp(min=0)
    return o if block.ln1 is None else F.layer_norm(o, (16,), block.ln1.weight, block.ln1.bias)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("encoder", ["isab", "sab"])
def test_the_equations_set_by_set(encoder, layer_norm):
    """Each set alone, without the places that its mask leaves out."""
    model = nnkit.build("set-transformer", dtype="float64", encoder=encoder, layer_norm=layer_norm, **SMALL)
    x, mask = sets()
    for each, kept, found in zip(x, mask, model(x, mask), strict=True):
        h = each[kept]
        for block in model.enc:
            if encoder == "sab":
                h = written_out(block.mab, h, h)
            else:
                h = written_out(block.mab1, h, written_out(block.mab0, block.I[0], h))
        pma, *blocks, last = model.dec
        h = written_out(pma.mab, pma.S[0], h)
        for block in blocks:
            h = written_out(block.mab, h, h)
        assert torch.allclose(found, last(h), atol=1e-12)


def as_pyg(theirs, ours):
    """Give PyG's block the weights of ours, as far as the two agree.

    PyG adds the query as it came, projects what the heads found, and divides by the root of a head's width:
    equal where our queries and PyG's last projection are the identity, and PyG's keys are scaled.
    """
    dim, heads = ours.fc_q.out_features, ours.heads
    eye, zero = torch.eye(dim, dtype=torch.float64), torch.zeros(dim, dtype=torch.float64)
    factor = heads**-0.5  # √(D / H) / √D
    with torch.no_grad():
        ours.fc_q.weight.copy_(eye)
        ours.fc_q.bias.zero_()
        theirs.attn.in_proj_weight.copy_(torch.cat([eye, factor * ours.fc_k.weight, ours.fc_v.weight]))
        theirs.attn.in_proj_bias.copy_(torch.cat([zero, factor * ours.fc_k.bias, ours.fc_v.bias]))
        theirs.attn.out_proj.weight.copy_(eye)
        theirs.attn.out_proj.bias.zero_()
        theirs.lin.load_state_dict(ours.fc_o.state_dict())


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("kind", ["sab", "isab", "pma"])
def test_equals_pyg_s_blocks_where_the_two_agree(kind, layer_norm):
    config = SetTransformerConfig(
        hidden_features=16, heads=4, num_inds=6, num_outputs=3, layer_norm=layer_norm
    )
    options = {"heads": 4, "layer_norm": layer_norm}
    torch.manual_seed(0)
    if kind == "sab":
        ours, theirs = SAB(16, 16, config).double(), SetAttentionBlock(16, **options).double()
        as_pyg(theirs.mab, ours.mab)
    elif kind == "isab":
        ours, theirs = ISAB(16, 16, config).double(), InducedSetAttentionBlock(16, 6, **options).double()
        as_pyg(theirs.mab1, ours.mab0)
        as_pyg(theirs.mab2, ours.mab1)
        theirs.ind.data.copy_(ours.I)
    else:
        ours, theirs = PMA(16, config).double(), PoolingByMultiheadAttention(16, 3, **options).double()
        as_pyg(theirs.mab, ours.mab)
        theirs.seed.data.copy_(ours.S)
        theirs.lin = torch.nn.Identity()  # a layer before the pooling, which the authors' code hasn't
        ours.register_forward_pre_hook(lambda block, given: (given[0].relu(), *given[1:]))
    x, mask = sets(features=16)
    results = []
    for block in (ours, theirs):
        given = x.clone().requires_grad_()
        outputs = block(given, mask)
        kept = outputs if kind == "pma" else outputs[mask]  # PyG sets what is padding to other values
        kept.square().sum().backward()
        results.append((kept, given.grad))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("encoder", ["isab", "sab"])
def test_the_order_and_the_padding_do_not_matter(encoder):
    model = nnkit.build("set-transformer", dtype="float64", encoder=encoder, **SMALL)
    x, mask = sets()
    order = torch.randperm(9)
    whole = model(x, mask)
    assert torch.allclose(model(x[:, order], mask[:, order]), whole, atol=1e-12)
    assert torch.allclose(model(F.pad(x, (0, 0, 0, 4), value=9.0), F.pad(mask, (0, 4))), whole, atol=1e-12)
    assert torch.allclose(model(x), model(x, torch.ones_like(mask)), atol=1e-12)


def test_queries_without_a_batch_are_those_of_every_set():
    torch.manual_seed(0)
    block = MAB(4, 3, 8, 2, layer_norm=False).double()
    x, _ = sets()
    seeds = torch.randn(1, 6, 4, dtype=torch.float64)
    assert torch.equal(block(seeds, x), block(seeds.repeat(5, 1, 1), x))


def test_heads_that_do_not_divide_the_width_are_refused(nnkit_command):
    result = nnkit_command("summary", "set-transformer", "--heads", "3")
    assert result.code == 2
    assert "128 hidden features can't be split over 3 heads" in result.err


def test_learns_the_largest_of_some_numbers():
    """The paper's first experiment: up to 10 numbers, the largest comes out."""
    model = nnkit.build("set-transformer", preset="max-regression", hidden_features=32)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=300)

    def batch(size):
        x = torch.rand(size, 10, 1, generator=generator)
        mask = torch.arange(10) < torch.randint(1, 11, (size, 1), generator=generator)
        return x, mask, x.squeeze(-1).masked_fill(~mask, 0).amax(1)

    for _ in range(300):
        x, mask, highest = batch(32)
        optimizer.zero_grad()
        F.l1_loss(model(x, mask).flatten(), highest).backward()
        optimizer.step()
        schedule.step()
    x, mask, highest = batch(512)
    with torch.no_grad():
        assert (model(x, mask).flatten() - highest).abs().mean() < 0.05
    assert (highest - highest.mean()).abs().mean() > 0.1  # what always answering the mean would give
