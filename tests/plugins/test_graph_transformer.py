"""The Graph Transformer beside PyG's TransformerConv, its equations, and the karate club."""

import pytest
import torch
from graph_cases import graphs, path_of_seven, sees
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import TransformerConv

import nnkit


class PyG(nn.Module):
    """The network of PyG's layers: heads side by side, and averaged in the last layer."""

    def __init__(self, sizes, hidden, classes, dropout=0.0, **options):
        super().__init__()
        *inner, last = sizes
        self.convs = nn.ModuleList(
            TransformerConv(size, hidden // 4, heads=4, dropout=dropout, **options) for size in inner
        )
        self.convs.append(TransformerConv(last, classes, heads=4, dropout=dropout, concat=False, **options))
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in inner)
        self.dropout = dropout

    def forward(self, x, edge_index, edge_attr=None):
        for conv, norm in zip(self.convs, self.norms, strict=False):
            x = F.dropout(norm(conv(x, edge_index, edge_attr)).relu(), self.dropout, self.training)
        return self.convs[-1](x, edge_index, edge_attr)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("options", [{}, {"edge_dim": 5}, {"beta": False}], ids=["plain", "edges", "no gate"])
@pytest.mark.parametrize("name", graphs())
def test_a_saved_state_dict_of_pyg_s_gives_its_outputs_and_gradients(name, options, dtype, bound, tmp_path):
    nodes, edge_index, _ = graphs()[name]
    torch.manual_seed(0)
    theirs = PyG([16, 32], 32, 3, **{"beta": True, "edge_dim": None, **options}).to(dtype)
    torch.save(theirs.state_dict(), tmp_path / "pyg.pt")
    ours = nnkit.build(
        "graph-transformer", dtype=str(dtype)[6:], weights=tmp_path / "pyg.pt", num_layers=2,
        hidden_channels=32, num_classes=3, dropout=0.0, **options,
    )  # fmt: skip
    x = torch.randn(nodes, 16, dtype=dtype)
    edges = torch.randn(edge_index.shape[1], 5, dtype=dtype) if options.get("edge_dim") else None
    results = []
    for model in (ours.train(), theirs.train()):
        given = [each.clone().requires_grad_() for each in (x, edges) if each is not None]
        scores = model(given[0], edge_index, *given[1:])
        scores.square().sum().backward()
        gradients = [each.grad for each in (*given, *dict(sorted(model.named_parameters())).values())]
        results.append([scores, *gradients])
    for one, other in zip(*results, strict=True):
        if other is None or other.numel() == 0:  # nothing goes over the edges where there are none
            assert one is None or not one.any()
        else:
            assert (one - other).abs().max() <= bound * max(1.0, float(other.detach().abs().max()))


def test_drops_what_pyg_drops_and_draws_weights_from_the_same_intervals():
    nodes, edge_index, _ = graphs()["directed"]
    ours = nnkit.build("graph-transformer", seed=4, num_layers=2, hidden_channels=32, dropout=0.5)
    theirs = PyG([16, 32], 32, 4, beta=True, dropout=0.5)
    theirs.load_state_dict(ours.state_dict())
    x, found = torch.randn(nodes, 16), []
    for model in (ours, theirs):
        torch.manual_seed(5)
        found.append(model.train()(x, edge_index))
    assert torch.allclose(*found, atol=1e-5)
    torch.manual_seed(4)
    again = TransformerConv(16, 8, heads=4, beta=True)
    for name, parameter in again.named_parameters():
        bound = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 16**-0.5
        own = ours.convs[0].state_dict()[name]
        assert 0.8 * bound < own.abs().max() <= bound
        assert 0.8 * bound < parameter.abs().max() <= bound


@pytest.mark.parametrize(
    ("preset", "parameters"),  # each counted on PyG's layers
    [("karate", 3_216), ("cora", 373_360), ("arxiv", 469_904)],
)
def test_counts(preset, parameters):
    with torch.device("meta"):
        theirs = {
            "karate": lambda: PyG([34, 16], 16, 4, beta=True),
            "cora": lambda: PyG([1433, 64], 64, 7, beta=True),
        }
        if preset in theirs:
            assert sum(each.numel() for each in theirs[preset]().parameters()) == parameters
    model = nnkit.build("graph-transformer", preset=preset, device="meta")
    assert sum(each.numel() for each in model.parameters()) == parameters


def test_the_equations_node_by_node():
    model = nnkit.build("graph-transformer", dtype="float64", num_layers=1, heads=2, edge_dim=3)
    (conv,) = model.convs
    nodes, edge_index, _ = graphs()["directed"]
    x = torch.randn(nodes, 16, dtype=torch.float64)
    edges = torch.randn(edge_index.shape[1], 3, dtype=torch.float64)
    found = model(x, edge_index, edges)
    for node in range(nodes):
        own = conv.lin_skip(x[node])
        into = (edge_index[1] == node).nonzero().flatten()
        heads = []
        for head in (slice(0, 4), slice(4, 8)):  # 4 classes each
            gathered = torch.zeros(4, dtype=torch.float64)
            if len(into):
                sources, extra = x[edge_index[0, into]], conv.lin_edge(edges[into])[:, head]
                keys = conv.lin_key(sources)[:, head] + extra
                weights = (keys @ conv.lin_query(x[node])[head] / 2).softmax(0)
                gathered = weights @ (conv.lin_value(sources)[:, head] + extra)
            heads.append(gathered)
        mixed = torch.stack(heads).mean(0)
        beta = conv.lin_beta(torch.cat([mixed, own, mixed - own])).sigmoid()
        assert torch.allclose(found[node], beta * own + (1 - beta) * mixed, atol=1e-12)


@pytest.mark.parametrize(("layers", "field"), [(1, {2, 3, 4}), (2, {1, 2, 3, 4, 5})])
def test_a_node_sees_as_far_as_there_are_layers(layers, field):
    model = nnkit.build("graph-transformer", dtype="float64", num_layers=layers)
    assert sees(model, path_of_seven(), 3) == field


def test_renaming_nodes_and_edges_renames_the_scores():
    model = nnkit.build("graph-transformer", dtype="float64", edge_dim=2)
    nodes, edge_index, _ = graphs()["directed"]
    x, edges = (
        torch.randn(nodes, 16, dtype=torch.float64),
        torch.randn(edge_index.shape[1], 2, dtype=torch.float64),
    )
    order, other = torch.randperm(nodes), torch.randperm(edge_index.shape[1])
    renamed = model(x[order], order.argsort()[edge_index][:, other], edges[other])
    assert torch.allclose(renamed, model(x, edge_index, edges)[order], atol=1e-12)


def question(generator):
    """Return a graph of 64 nodes that ask and 4 that answer each: features, edges and the answers wanted.

    An answering node has a key and a value; the asking one wants the value of the key that it names.
    """
    keys = torch.rand(64, 4, generator=generator).argsort(1)  # each of its neighbors has another
    values = torch.randint(3, (64, 4), generator=generator)
    asked = torch.randint(4, (64,), generator=generator)
    asking = torch.cat([F.one_hot(asked, 4), torch.zeros(64, 7)], 1)
    answering = torch.cat(
        [torch.zeros(256, 4), F.one_hot(keys.flatten(), 4), F.one_hot(values.flatten(), 3)], 1
    )
    edge_index = torch.stack([torch.arange(64, 320), torch.arange(64).repeat_interleave(4)])
    return torch.cat([asking, answering]), edge_index, values[keys == asked[:, None]]


def share_answered(name, **options):
    """Train on fresh graphs and return the share of right answers on another."""
    model = nnkit.build(name, in_channels=11, num_classes=3, num_layers=1, dropout=0.0, **options)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    for _ in range(150):
        x, edge_index, wanted = question(generator)
        optimizer.zero_grad()
        F.cross_entropy(model(x, edge_index)[:64], wanted).backward()
        optimizer.step()
    x, edge_index, wanted = question(generator)
    return float((model(x, edge_index)[:64].argmax(1) == wanted).float().mean())


def test_a_node_gets_the_answer_of_the_neighbor_that_it_asks():
    """A convolution takes the mean of all neighbors, whatever the node asks."""
    assert share_answered("graph-transformer") >= 0.95
    assert share_answered("gcn") <= 0.75
