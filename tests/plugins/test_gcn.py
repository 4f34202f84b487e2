"""GCN against PyG, the textbook's matrix, and what the tutorial's forms do."""

import gc

import pytest
import torch
from graph_cases import accuracy, graphs, karate, path_of_seven, sees, two_factions
from torch import nn
from torch_geometric import nn as pyg

import nnkit
from nnkit.models.sampling import sample_inputs
from nnkit_graph.adjacency import AdjacencyCache, normalize_edges, normalize_matrix

PATH = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])  # 0 - 1 - 2


def pair(dtype, weighted=False, **options):
    """Return ours and PyG's network with the same weights."""
    ours = nnkit.build("gcn", dtype=str(dtype)[6:], edge_weight=weighted, num_layers=3, **options)
    theirs = pyg.GCN(16, 16, 3, 4).to(dtype).eval()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("by_csr", [True, False])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("name", graphs())
def test_equals_pyg_in_outputs_and_gradients(name, dtype, bound, by_csr, monkeypatch):
    nodes, edge_index, weight = graphs()[name]
    weight = None if weight is None else weight.to(dtype)
    if not by_csr:
        monkeypatch.setattr("nnkit_graph.adjacency.EdgeList._can_compress", lambda self, x: False)
    ours, theirs = pair(dtype, weight is not None)
    x = torch.randn(nodes, 16, dtype=dtype)
    found, wanted = [], []
    for model, results in ((ours, found), (theirs, wanted)):
        features = x.clone().requires_grad_()
        scores = model(features, edge_index, weight)
        scores.square().sum().backward()
        results += [scores, features.grad, *(each.grad for each in model.parameters())]
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).abs().max() <= bound * max(1.0, float(other.detach().abs().max()))


@pytest.mark.parametrize("gradients", [True, False])
def test_a_layer_that_widens_aggregates_before_its_weights_and_equals_pyg(gradients):
    """PyG aggregates after them. Without gradients the layers share two buffers."""
    sizes = {"in_channels": 5, "hidden_channels": 9, "num_classes": 11, "num_layers": 3}
    ours, theirs = nnkit.build("gcn", dtype="float64", **sizes), pyg.GCN(5, 9, 3, 11).double().eval()
    theirs.load_state_dict(ours.state_dict())
    nodes, edge_index, _ = graphs()["directed"]
    x = torch.randn(nodes, 5, dtype=torch.float64)
    with torch.set_grad_enabled(gradients):
        assert torch.allclose(ours(x, edge_index), theirs(x, edge_index), atol=1e-12)
    entries = edge_index.shape[1] + nodes
    macs = nnkit.summarize("gcn", nodes=nodes, edges=edge_index.shape[1], **sizes).totals.macs
    assert macs == nodes * (5 * 9 + 9 * 9 + 9 * 11) + entries * (5 + 9 + 9)  # PyG: 9 + 9 + 11


@pytest.mark.parametrize("options", [{}, {"aggregate": "first"}, {"bias": False}, {"normalization": "none"}])
@pytest.mark.parametrize("channels", [(16, 16, 4), (16, 24, 30), (24, 16, 16)])
@pytest.mark.parametrize("layers", [1, 2, 4])
def test_inference_in_two_buffers_gives_the_same_bits(options, channels, layers):
    """The gradient's mode runs the plain layers. Whatever is in new memory, here NaN, changes nothing."""
    fields = dict(zip(("in_channels", "hidden_channels", "num_classes"), channels, strict=True))
    model = nnkit.build("gcn", num_layers=layers, cached=True, **fields, **options)
    nodes, edge_index, _ = graphs()["isolated nodes"]
    x = torch.randn(nodes, channels[0])
    given, plain = x.clone(), model(x, edge_index)
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN
    try:
        with torch.no_grad():
            first = model(x, edge_index)
            kept = first.clone()
            second = model(x, edge_index)
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(first, plain)
    assert torch.equal(second, plain)
    assert torch.equal(first, kept), "a second run has written over the result of the first"
    assert torch.equal(x, given)
    assert first.untyped_storage().nbytes() == first.numel() * 4, "the scores keep a buffer alive"


def test_what_a_hook_keeps_is_not_overwritten():
    model = nnkit.build("gcn", num_layers=3)
    nodes, edge_index, _ = graphs()["directed"]
    x, kept = torch.randn(nodes, 16), []
    scores = model(x, edge_index)
    for module in [*model.convs, *(conv.lin for conv in model.convs)]:
        module.register_forward_hook(lambda module, inputs, output: kept.append((output, output.clone())))
    with torch.no_grad():
        assert torch.equal(model(x, edge_index), scores)
    assert len(kept) == 6
    assert all(torch.equal(output, copy) for output, copy in kept)


@pytest.mark.parametrize("inner", ["convs.1", "convs.1.lin"])
@pytest.mark.parametrize("change", ["hook", "forward", "module"])
def test_an_inner_module_that_is_changed_is_still_called(inner, change):
    model = nnkit.build("gcn", num_layers=3)
    nodes, edge_index, _ = graphs()["directed"]
    x, module = torch.randn(nodes, 16), model.get_submodule(inner)

    class Twice(nn.Module):
        def forward(self, *args):
            return 2 * module(*args)

    if change == "hook":
        module.register_forward_hook(lambda module, inputs, output: 2 * output)
    elif change == "forward":
        plain = module.forward
        module.forward = lambda *args: 2 * plain(*args)
    else:
        model.set_submodule(inner, Twice())
    with_gradients = model(x, edge_index)
    with torch.no_grad():
        assert torch.equal(model(x, edge_index), with_gradients)
    module.__dict__.pop("forward", None)
    module._forward_hooks.clear()
    if change == "module":
        model.set_submodule(inner, module)
    with torch.no_grad():
        assert not torch.allclose(model(x, edge_index), with_gradients)


@pytest.mark.parametrize("cached", [True, False])
def test_it_goes_through_vmap_and_jvp(cached):
    model = nnkit.build("gcn", dtype="float64", cached=cached)
    nodes, edge_index, _ = graphs()["directed"]
    x, change = torch.randn(2, 3, nodes, 16, dtype=torch.float64)
    wanted = torch.stack([model(each, edge_index) for each in x])
    with torch.no_grad():
        scores, slope = torch.func.jvp(torch.vmap(lambda x: model(x, edge_index)), (x,), (change,))
        ahead, behind = (model((x + h * change)[0], edge_index) for h in (1e-6, -1e-6))
    assert torch.allclose(scores, wanted, atol=1e-12)
    assert torch.allclose(slope[0], (ahead - behind) / 2e-6, atol=1e-6)


def test_a_mode_sees_the_layers_as_they_are_written():
    """In the summary and in tools like it: without a mode the operations write into buffers."""
    from torch.overrides import TorchFunctionMode

    names = []

    class Names(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            names.append(getattr(function, "__name__", ""))
            return function(*args, **kwargs or {})

    model = nnkit.build("gcn")
    with torch.no_grad(), Names():
        model(torch.randn(20, 16), graphs()["directed"][1])
    assert [name for name in names if name in ("linear", "matmul", "add", "relu", "addmm", "relu_")] == [
        *("linear", "matmul", "add", "relu"),
        *("linear", "matmul", "add"),
    ]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions_give_the_same_without_gradients(dtype):
    model = nnkit.build("gcn", dtype=dtype)
    x, edge_index = torch.randn(20, 16).to(getattr(torch, dtype)), graphs()["directed"][1]
    with_gradients = model(x, edge_index)
    with torch.no_grad():
        assert torch.equal(model(x, edge_index), with_gradients)
    if dtype == "float64":
        return
    model = nnkit.build("gcn")
    with torch.autocast("cpu", getattr(torch, dtype)):
        with_gradients = model(x.float(), edge_index)
        with torch.no_grad():
            assert torch.equal(model(x.float(), edge_index), with_gradients)


def test_weights_of_edges_can_be_learned():
    ours, theirs = pair(torch.float64, True)
    nodes, edge_index, weight = graphs()["weighted"]
    x, gradients = torch.randn(nodes, 16, dtype=torch.float64), []
    for model in (ours, theirs):
        learned = weight.double().requires_grad_()
        model(x, edge_index, learned).square().sum().backward()
        gradients.append(learned.grad)
    assert torch.allclose(*gradients, atol=1e-12)


def test_the_matrix_of_a_path_is_the_analytic_one():
    a = 6**-0.5
    expected = torch.tensor([[1 / 2, a, 0], [a, 1 / 3, a], [0, a, 1 / 2]], dtype=torch.float64)
    eye = torch.eye(3, dtype=torch.float64)
    assert torch.allclose(normalize_edges(PATH, None, eye) @ eye, expected)
    dense = torch.zeros(3, 3, dtype=torch.float64).index_put((PATH[1], PATH[0]), torch.tensor(1.0).double())
    assert torch.allclose(normalize_matrix(dense), expected)


@pytest.mark.parametrize("name", ["undirected", "directed", "weighted", "self-looped, weighted", "no edges"])
@pytest.mark.parametrize("normalization", ["symmetric", "none"])
def test_the_dense_form_agrees_with_the_sparse(name, normalization):
    nodes, edge_index, weight = graphs()[name]
    options = {"normalization": normalization, "dtype": "float64"}
    sparse = nnkit.build("gcn", edge_weight=True, **options)
    dense = nnkit.build("gcn", adjacency="dense", **options)
    weight = torch.ones(edge_index.shape[1]) if weight is None else weight
    source, target = edge_index
    matrix = torch.zeros(nodes, nodes, dtype=torch.float64).index_put((target, source), weight.double())
    x = torch.randn(nodes, 16, dtype=torch.float64)
    assert torch.allclose(sparse(x, edge_index, weight.double()), dense(x, matrix), atol=1e-12)


def test_without_normalization_it_is_the_tutorial_s_formula():
    """relu(A (X W1 + b1)) W2 + b2, aggregated once, as far as the tutorial's bias inside the sum is 0."""
    model = nnkit.build("gcn", adjacency="dense", normalization="none", aggregate="first")
    first, second = model.convs
    matrix = (torch.rand(9, 9) < 0.4).float()
    x = torch.randn(9, 16)
    expected = torch.relu(matrix @ (x @ first.lin.weight.T)) @ second.lin.weight.T
    assert torch.allclose(model(x, matrix), expected, atol=1e-5)


@pytest.mark.parametrize("form", ["bare", "normalized"])
def test_a_relu_on_the_scores_makes_it_the_tutorial_s_layers(form):
    """Its graph network, relu((A X) W + b), and its stacked GCN, relu(D^-½ (A + I) D^-½ (X W))."""
    bare = form == "bare"
    options = {"normalization": "none" if bare else "symmetric", "bias": bare, "adjacency": "dense"}
    model = nnkit.build("gcn", dtype="float64", **options)
    matrix = (torch.rand(9, 9) < 0.4).double().triu(1)
    matrix = matrix + matrix.T
    mixing = matrix
    if not bare:
        root = torch.diag((matrix + torch.eye(9)).sum(1).rsqrt())
        mixing = root @ (matrix + torch.eye(9)) @ root
    x = expected = torch.randn(9, 16, dtype=torch.float64)
    for conv in model.convs:
        if bare:
            conv.bias.data.normal_()
        expected = torch.relu(mixing @ expected @ conv.lin.weight.T + (conv.bias if bare else 0))
    assert torch.allclose(model(x, matrix).relu(), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, {1, 2, 3, 4, 5}),
        ({"num_layers": 1}, {2, 3, 4}),
        ({"normalization": "none"}, {1, 3, 5}),
        ({"aggregate": "first"}, {2, 3, 4}),
    ],
)
def test_a_node_sees_as_far_as_there_are_layers_and_itself(options, field):
    """Which nodes of a path of seven have an influence on node 3."""
    model = nnkit.build("gcn", **options, dtype="float64")
    assert sees(model, path_of_seven(), 3) == field


def test_renaming_the_nodes_renames_the_scores():
    model = nnkit.build("gcn", dtype="float64")
    nodes, edge_index, _ = graphs()["directed"]
    x, order = torch.randn(nodes, 16, dtype=torch.float64), torch.randperm(nodes)
    rank = order.argsort()
    assert torch.allclose(model(x[order], rank[edge_index]), model(x, edge_index)[order], atol=1e-12)


def test_scores_may_be_negative_and_activations_stay_bounded_with_depth():
    model = nnkit.build("gcn", num_layers=8)
    scores = model(torch.randn(20, 16), graphs()["undirected"][1])
    assert scores.min() < 0
    assert scores.std() < 10


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_the_dtype_follows_the_inputs(dtype):
    model = nnkit.build("gcn", dtype=dtype)
    kind = getattr(torch, dtype)
    assert model(torch.randn(20, 16, dtype=kind), graphs()["directed"][1]).dtype == kind


def test_it_runs_on_meta():
    model = nnkit.build("gcn", device="meta")
    edges = torch.empty(2, 9, dtype=torch.int64, device="meta")
    assert model(torch.empty(5, 16, device="meta"), edges).shape == (5, 4)


@pytest.mark.parametrize("options", [{}, {"edge_weight": True}, {"adjacency": "dense"}])
def test_inputs_go_by_their_declared_names(options):
    spec = nnkit.resolve("gcn", **options)
    inputs = {each.name: tensor for each, tensor in zip(spec.inputs, sample_inputs(spec), strict=True)}
    model = nnkit.build(spec)
    assert torch.equal(model(**inputs), model(*inputs.values()))


def test_the_gradient_of_a_gradient_goes_through_the_product():
    model = nnkit.build("gcn", dtype="float64")
    nodes, edge_index, _ = graphs()["directed"]
    x = torch.randn(nodes, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: model(x, edge_index).sigmoid()[:3], x, fast_mode=True)


def test_an_edge_to_a_node_that_is_not_there_is_an_error():
    for normalization in ("symmetric", "none"):
        model = nnkit.build("gcn", normalization=normalization)
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.randn(3, 16), torch.tensor([[0], [3]]))


def test_a_cached_graph_is_used_again_for_the_same_tensors_and_no_others():
    model = nnkit.build("gcn", cached=True)
    plain = nnkit.build("gcn")
    nodes, edge_index, _ = graphs()["directed"]
    x = torch.randn(nodes, 16)
    first = model(x, edge_index)
    kept = model._cache._value
    assert model(x + 1, edge_index).shape == first.shape
    assert model._cache._value is kept

    edge_index[:, :5] = edge_index[:, 5:10].clone()  # in place: the same object, another graph
    assert torch.equal(model(x, edge_index), plain(x, edge_index))
    assert model._cache._value is not kept
    other = edge_index.flip(0)
    assert torch.equal(model(x, other), plain(x, other))
    assert torch.equal(model(x[:20].double().float(), other), plain(x[:20], other))


@pytest.mark.parametrize("by_csr", [True, False])
def test_a_graph_that_is_cached_in_inference_mode_can_be_trained_on(by_csr, monkeypatch):
    if not by_csr:
        monkeypatch.setattr("nnkit_graph.adjacency.EdgeList._can_compress", lambda self, x: False)
    model = nnkit.build("gcn", cached=True)
    nodes, edge_index, _ = graphs()["directed"]
    x = torch.randn(nodes, 16)
    with torch.inference_mode():
        first = model(x, edge_index)
    kept = model._cache._value
    scores = model(x, edge_index)
    scores.sum().backward()
    assert model._cache._value is kept
    assert torch.equal(scores, first)
    assert model.convs[0].lin.weight.grad.any()


def test_learned_weights_of_edges_are_never_taken_from_the_cache():
    model = nnkit.build("gcn", cached=True, edge_weight=True)
    nodes, edge_index, weight = graphs()["weighted"]
    x, weight = torch.randn(nodes, 16), weight.clone().requires_grad_()
    with torch.no_grad():
        model(x, edge_index, weight)  # what is kept from here would have no gradient
    for _ in range(2):  # and what is kept from the first round couldn't go back a second time
        weight.grad = None
        model(x, edge_index, weight).square().sum().backward()
        assert weight.grad is not None


def test_a_cached_graph_is_gone_with_its_tensors():
    cache = AdjacencyCache()
    index = PATH.clone()
    cache.put(normalize_edges(index, None, torch.eye(3)), index, None)
    assert cache.get(index, None) is not None
    del index
    gc.collect()
    assert cache.get(PATH, None) is None


class Tutorial(nn.Module):
    """Aggregates without self-loops or normalization, and cuts the scores off: the snippet's faults."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(34, 16), nn.Linear(16, 4)])

    def forward(self, x, adjacency):
        for layer in self.layers:
            x = torch.relu(adjacency @ layer(x))
        return x


def test_it_places_the_karate_club_s_members_from_two_labels():
    options = {"in_channels": 34, "num_classes": 2, "dropout": 0.0}
    assert min(two_factions(nnkit.build("gcn", seed=seed, **options), seed) for seed in range(3)) >= 0.90


def test_it_learns_the_karate_club_where_the_tutorial_s_form_does_not():
    edge_index, _ = karate()
    matrix = torch.zeros(34, 34).index_put((edge_index[1], edge_index[0]), torch.tensor(1.0))
    ours, theirs = [], []
    for seed in range(3):
        ours.append(accuracy(nnkit.build("gcn", preset="karate", dropout=0.0, seed=seed), edge_index, seed))
        torch.manual_seed(seed)
        theirs.append(accuracy(Tutorial(), matrix, seed))
    assert sum(ours) / 3 >= 0.70
    assert sum(ours) > sum(theirs)


def test_multiply_adds_are_the_products_and_the_entries_of_the_matrix():
    """At Cora's size: X W in each layer, then 10,556 edges and a loop for each node, 23 features in all."""
    macs = nnkit.summarize("gcn", preset="cora").totals.macs
    assert macs == 2708 * (1433 * 16 + 16 * 7) + (10_556 + 2708) * (16 + 7)


@pytest.mark.parametrize(("bias", "parameters"), [(True, 23_063), (False, 23_040)])
def test_parameters_at_cora_s_size(bias, parameters):
    assert nnkit.summarize("gcn", preset="cora", bias=bias).totals.parameters == parameters


def test_sampled_edges_are_distinct_and_no_loops():
    for options in (
        {"nodes": 9, "edges": 72},
        {"nodes": 9, "edges": 60},
        {"preset": "cora"},
        {"nodes": 500, "edges": 7},
    ):
        _, edges = sample_inputs(nnkit.resolve("gcn", **options))
        assert edges.unique(dim=1).shape == edges.shape
        assert not (edges[0] == edges[1]).any()
    _, crowded = sample_inputs(nnkit.resolve("gcn", nodes=1, edges=3))
    assert crowded.tolist() == [[0, 0, 0], [0, 0, 0]]
