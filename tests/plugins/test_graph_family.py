"""GNN, GraphSAGE, GAT and GIN: equal to PyG's where it has them, and to their equation where not."""

import pytest
import torch
from graph_cases import graphs, path_of_seven, sees, two_factions
from torch_geometric import nn as pyg

import nnkit

AGGREGATIONS = ("sum", "mean", "max")


class PaperGAT(torch.nn.Module):
    """The paper's network for Cora, from PyG's layers: PyG's own GAT splits its heads otherwise."""

    def __init__(self):
        super().__init__()
        self.convs = torch.nn.ModuleList([pyg.GATConv(16, 8, heads=8), pyg.GATConv(64, 4, heads=1)])

    def forward(self, x, edge_index):
        first, last = self.convs
        return last(torch.nn.functional.elu(first(x, edge_index)), edge_index)


RIVALS = {
    "gcn": lambda: pyg.GCN(16, 16, 2, 4),
    "graphsage": lambda: pyg.GraphSAGE(16, 16, 2, 4),
    "gin": lambda: pyg.GIN(16, 16, 2, 4),
    "gat": PaperGAT,
}


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("graph", [name for name in graphs() if "weighted" not in name])
@pytest.mark.parametrize("name", RIVALS)
def test_equals_pyg_in_outputs_and_gradients(name, graph, dtype, bound):
    nodes, edge_index, _ = graphs()[graph]
    ours, theirs = nnkit.build(name, dtype=str(dtype)[6:]), RIVALS[name]().to(dtype).eval()
    for buffer in ours.buffers():  # the ε of GIN, else 0
        buffer.fill_(0.3)
    theirs.load_state_dict(ours.state_dict())
    x, results = torch.randn(nodes, 16, dtype=dtype), []
    for model in (ours, theirs):
        features = x.clone().requires_grad_()
        scores = model(features, edge_index)
        scores.square().sum().backward()
        results.append([scores.detach(), features.grad, *(each.grad for each in model.parameters())])
    for one, other in zip(*results, strict=True):
        assert (one - other).abs().max() <= bound * max(1.0, float(other.abs().max()))


@pytest.mark.parametrize("name", RIVALS)
def test_the_same_seed_gives_pyg_s_weights(name):
    ours = nnkit.build(name, seed=3).state_dict()
    torch.manual_seed(3)
    theirs = RIVALS[name]().state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


EVERY = [
    *((name, {}) for name in ("gcn", "graphsage", "gat", "gin")),
    *(("gnn", {"aggregation": aggregation}) for aggregation in AGGREGATIONS),
]


@pytest.mark.parametrize(("dtype", "bound"), [("bfloat16", 0.02), ("float16", 0.004)])
@pytest.mark.parametrize("by_csr", [True, False])
@pytest.mark.parametrize(("name", "options"), EVERY)
def test_half_precision_counts_every_neighbor_of_a_hub(name, options, by_csr, dtype, bound, monkeypatch):
    """Added up one by one, ones stop at 256 in bfloat16 and at 2,048 in float16."""
    if not by_csr:
        monkeypatch.setattr("nnkit_graph.adjacency.EdgeList._can_compress", lambda self, x: False)
    leaves = torch.arange(1, 5000)
    edge_index = torch.stack([leaves, torch.zeros_like(leaves)])
    half = nnkit.build(name, dtype=dtype, **options)
    exact = nnkit.build(name, dtype="float64", **options)
    exact.load_state_dict(half.state_dict())
    # The later neighbors differ from the first, so that a sum which stops early is another one.
    x = (torch.rand(5000, 16) + torch.linspace(0, 2, 5000)[:, None]).to(getattr(torch, dtype))
    with torch.no_grad():
        found, wanted = half(x, edge_index)[0].double(), exact(x.double(), edge_index)[0]
    assert (found - wanted).norm() <= bound * wanted.norm()


@pytest.mark.parametrize("by_csr", [True, False])
@pytest.mark.parametrize(("name", "options"), EVERY)
def test_it_trains_under_autocast(name, options, by_csr, monkeypatch):
    if not by_csr:
        monkeypatch.setattr("nnkit_graph.adjacency.EdgeList._can_compress", lambda self, x: False)
    nodes, edge_index, _ = graphs()["directed"]
    torch.manual_seed(0)  # of 40 draws, two round gat's gradients by more than a tenth
    model, x = nnkit.build(name, **options), torch.randn(nodes, 16)
    with torch.autocast("cpu", torch.bfloat16):
        scores = model(x, edge_index)
    scores.float().square().sum().backward()
    mixed = [each.grad.clone() for each in model.parameters()]
    assert torch.allclose(scores.float(), model(x, edge_index), rtol=0.05, atol=0.1)
    model.zero_grad()
    model(x, edge_index).square().sum().backward()
    for one, each in zip(mixed, model.parameters(), strict=True):
        assert (one - each.grad).norm() <= 0.1 * each.grad.norm() + 1e-3


@pytest.mark.parametrize(("name", "options"), EVERY)
def test_nothing_grows_with_the_square_of_the_nodes(name, options):
    """A matrix of so many nodes would take 160 GB."""
    nodes = 200_000
    edge_index = torch.randint(nodes, (2, 50))
    model = nnkit.build(name, in_channels=2, hidden_channels=2, num_classes=2, **options)
    model(torch.randn(nodes, 2), edge_index).sum().backward()
    assert all(each.grad is not None for each in model.parameters())


@pytest.mark.parametrize("graph", list(graphs()))
@pytest.mark.parametrize("aggregation", [*AGGREGATIONS, "weighted-mean"])
def test_gnn_is_its_equation_node_by_node(graph, aggregation):
    nodes, edge_index, weight = graphs()[graph]
    weight = torch.rand(edge_index.shape[1]) if weight is None else weight
    model = nnkit.build("gnn", aggregation=aggregation, num_layers=1, dtype="float64")
    x, weight = torch.randn(nodes, 16, dtype=torch.float64), weight.double()
    expected = []
    for node in range(nodes):
        into = edge_index[1] == node
        sent, share = x[edge_index[0, into]], weight[into]
        if not len(sent):
            message = x.new_zeros(16)
        elif aggregation == "weighted-mean":
            message = (share[:, None] * sent).sum(0) / share.sum()
        else:
            message = sent.amax(0) if aggregation == "max" else getattr(sent, aggregation)(0)
        expected.append(model.layers[0].update(torch.cat([x[node], message])))
    inputs = (x, edge_index, weight) if aggregation == "weighted-mean" else (x, edge_index)
    assert torch.allclose(model(*inputs), torch.stack(expected), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("graphsage", {}, 46_103),
        ("gat", {}, 92_373),
        ("gin", {}, 23_391),
        ("gin", {"train_eps": True}, 23_393),
        ("gnn", {}, 46_103),
    ],
)
def test_parameters_at_cora_s_size(name, options, parameters):
    assert nnkit.summarize(name, preset="cora", **options).totals.parameters == parameters


def test_multiply_adds_are_products_and_aggregation_by_edges():
    """GraphSAGE at Cora's size: two products for each layer, and a mean over 10,556 edges."""
    macs = nnkit.summarize("graphsage", preset="cora").totals.macs
    assert macs == 2 * 2708 * (1433 * 16 + 16 * 7) + 10_556 * (1433 + 16)


@pytest.mark.parametrize("name", ["gnn", "graphsage", "gat", "gin"])
@pytest.mark.parametrize(("layers", "field"), [(1, {2, 3, 4}), (2, {1, 2, 3, 4, 5})])
def test_a_node_sees_itself_and_as_far_as_there_are_layers(name, layers, field):
    model = nnkit.build(name, num_layers=layers, dtype="float64")
    assert sees(model, path_of_seven(), 3) == field


@pytest.mark.parametrize("name", ["gnn", "graphsage", "gat", "gin"])
def test_renaming_the_nodes_renames_the_scores_and_some_are_negative(name):
    model = nnkit.build(name, dtype="float64")
    nodes, edge_index, _ = graphs()["directed"]
    x, order = torch.randn(nodes, 16, dtype=torch.float64), torch.randperm(nodes)
    scores = model(x, edge_index)
    assert torch.allclose(model(x[order], order.argsort()[edge_index]), scores[order], atol=1e-12)
    assert scores.min() < 0


@pytest.mark.parametrize(
    ("name", "options"), [("gat", {}), ("graphsage", {}), ("gnn", {"aggregation": "sum"})]
)
def test_it_places_the_karate_club_s_members_from_two_labels(name, options):
    """A network that doesn't see across edges can't: nothing but its edges tells a member's side."""
    options = {"in_channels": 34, "num_classes": 2, "dropout": 0.0, **options}
    results = [two_factions(nnkit.build(name, seed=seed, **options), seed) for seed in range(3)]
    assert sum(results) / 3 >= 0.80


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_sums_to_one_over_the_edges_into_a_node(dtype):
    from nnkit_graph.gat import edge_softmax

    target = torch.tensor([0, 0, 1, *[2] * 300])
    scores = (torch.randn(len(target), 3) * 10).to(dtype)
    attention = edge_softmax(scores, target, 3)
    total = torch.zeros(3, 3).index_add(0, target, attention.float())
    assert torch.allclose(total, torch.ones(3, 3), atol=1e-5)
    assert torch.allclose(attention[3:].float(), scores[3:].float().softmax(0), atol=1e-6)
