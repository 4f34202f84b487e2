"""The models of PyTorch Geometric: names, parameters, multiply-adds and verbs, against its own and by hand."""

from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import nnkit
from nnkit.models.sampling import sample_inputs
from nnkit_pyg.declare import MODELS
from nnkit_pyg.names import names
from nnkit_pyg.sampling import edges, graph_of_node

NODES, EDGES = 34, 156
LOOPS = EDGES + NODES  # with a self-loop for each node
WITH_OPERATORS = {"DimeNet", "DimeNetPlusPlus", "GNNFF", "ViSNet", "Node2Vec"}
HERE = sorted(MODELS.keys() - WITH_OPERATORS)


@pytest.fixture(scope="module")
def pyg():
    return pytest.importorskip("torch_geometric.nn.models")


def test_each_name_is_declared_and_each_declaration_has_a_name(pyg):
    listed = names(Path(pyg.__file__).parents[2])
    assert {each.name for each in listed} == MODELS.keys()
    assert len({each.name for each in listed}) == len(listed) == 32
    assert MODELS.keys() <= set(pyg.__all__)


def test_names_that_a_release_lacks_are_left_out(tmp_path):
    folder = tmp_path / "nn" / "models"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("__all__ = classes = [\n    'GCN',\n    'GAT2',\n]\n")
    assert [each.name for each in names(tmp_path)] == ["GCN"]


def directly(pyg):
    """Return each model as its user would build it, with the options that `pyg/NAME` has by default."""
    gnn = {"in_channels": 16, "hidden_channels": 64, "num_layers": 2, "out_channels": 4}
    plain = {"in_channels": 16, "hidden_channels": 64, "out_channels": 4}
    degrees = torch.tensor([0, 1, 9, 6, 6, 3, 4])
    kinds = ["mean", "min", "max", "std"]
    scalers = ["identity", "amplification", "attenuation"]
    atoms = {"hidden_channels": 128, "out_channels": 1, "num_radial": 6}
    from torch_geometric.nn import GCNConv, GENConv

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.prelu = GCNConv(16, 512), torch.nn.PReLU(512)

    return {
        "GCN": lambda: pyg.GCN(**gnn),
        "GraphSAGE": lambda: pyg.GraphSAGE(**gnn),
        "GIN": lambda: pyg.GIN(**gnn),
        "GAT": lambda: pyg.GAT(**gnn),
        "PNA": lambda: pyg.PNA(**gnn, aggregators=kinds, scalers=scalers, deg=degrees),
        "EdgeCNN": lambda: pyg.EdgeCNN(**gnn),
        "DeepGCNLayer": lambda: pyg.DeepGCNLayer(GENConv(64, 64), torch.nn.LayerNorm(64), torch.nn.ReLU()),
        "GraphUNet": lambda: pyg.GraphUNet(16, 32, 4, 3),
        "RECT_L": lambda: pyg.RECT_L(16, 200),
        "SignedGCN": lambda: pyg.SignedGCN(64, 64, 2),
        "SGFormer": lambda: pyg.SGFormer(**plain),
        "Polynormer": lambda: pyg.Polynormer(**plain),
        "GPSE": pyg.GPSE,
        "GPSENodeEncoder": lambda: pyg.GPSENodeEncoder(128, 32, 64, 64),
        "AttentiveFP": lambda: pyg.AttentiveFP(39, 200, 1, 10, 2, 2),
        "NeuralFingerprint": lambda: pyg.NeuralFingerprint(16, 32, 64, 3),
        "SchNet": pyg.SchNet,
        "DimeNet": lambda: pyg.DimeNet(**atoms, num_spherical=2, num_blocks=6, num_bilinear=8),
        "DimeNetPlusPlus": lambda: pyg.DimeNetPlusPlus(
            **atoms, num_spherical=2, num_blocks=4, int_emb_size=64, basis_emb_size=8, out_emb_channels=256
        ),
        "GNNFF": lambda: pyg.GNNFF(128, 128, 4),
        "ViSNet": pyg.ViSNet,
        "LightGCN": lambda: pyg.LightGCN(100, 64, 3),
        "ARLinkPredictor": lambda: pyg.ARLinkPredictor(16, 64, 32),
        "RENet": lambda: pyg.RENet(1000, 20, 200, 10),
        "DeepGraphInfomax": lambda: pyg.DeepGraphInfomax(512, Encoder(), None, None),
        "MLP": lambda: pyg.MLP(**plain, num_layers=3),
        "PMLP": lambda: pyg.PMLP(**gnn),
        "LINKX": lambda: pyg.LINKX(1000, **gnn),
        "JumpingKnowledge": lambda: pyg.JumpingKnowledge("lstm", 64, 3),
        "HeteroJumpingKnowledge": lambda: pyg.HeteroJumpingKnowledge(["paper", "author"], "lstm", 64, 3),
        "MaskLabel": lambda: pyg.MaskLabel(4, 64),
    }


def with_slow_ones():
    """Yield the models that can be built here; those that wait for sympy are slow."""
    for name in sorted(MODELS.keys() - {"Node2Vec"}):
        yield pytest.param(name, marks=[pytest.mark.slow] if name.startswith("DimeNet") else [])


@pytest.mark.parametrize("name", list(with_slow_ones()))
def test_parameters_are_those_of_pygs_own_build(pyg, name):
    options = {"num_spherical": 2} if name.startswith("DimeNet") else {}
    ours, theirs = nnkit.build(f"pyg/{name}", **options), directly(pyg)[name]()
    assert {key: tuple(value.shape) for key, value in ours.state_dict().items()} == {
        key: tuple(value.shape) for key, value in theirs.state_dict().items()
    }
    assert type(ours).__name__ == type(theirs).__name__


def linear(rows, *widths):
    return rows * sum(a * b for a, b in pairwise(widths))


BY_HAND = {
    # a linear layer, then each edge and self-loop adds a row to its target's
    "GCN": linear(NODES, 16, 64, 4) + LOOPS * (64 + 4),
    # two linear layers; rows are added before them
    "GraphSAGE": 2 * linear(NODES, 16, 64, 4) + EDGES * (16 + 64),
    "GIN": linear(NODES, 16, 64, 64) + linear(NODES, 64, 4, 4) + EDGES * (16 + 64),
    # the softmax adds up a number for each edge
    "GAT": linear(NODES, 16, 64, 4) + LOOPS * (64 + 4) + 2 * LOOPS,
    # maxima are not multiply-adds
    "EdgeCNN": linear(EDGES, 32, 64, 64) + linear(EDGES, 128, 4, 4),
    "DeepGCNLayer": linear(NODES, 64, 128, 64) + 2 * EDGES * 64,
    "RECT_L": linear(NODES, 16, 200, 16) + LOOPS * 200,
    "SignedGCN": linear(NODES, 64, 32) * 4 + (EDGES + 60) * 64
    + 2 * (linear(NODES, 64, 32) + linear(NODES, 32, 32)) + (EDGES + 60) * 64,
    "GPSENodeEncoder": linear(NODES, 32, 128, 64),
    "LightGCN": 3 * 1000 * 64,
    "ARLinkPredictor": linear(NODES, 16, 64, 32),
    # two GRUs over 10 steps of 4 events, two linear layers, and 40 earlier events of either kind
    "RENet": 2 * (4 * 10 * 3 * 200 * (600 + 200) + linear(4, 600, 1000) + 40 * 200),
    "DeepGraphInfomax": 2 * (linear(NODES, 16, 512) + LOOPS * 512),
    "MLP": linear(NODES, 16, 64, 64, 4),
    "PMLP": linear(NODES, 16, 64, 4) + LOOPS * (64 + 4),
    "LINKX": EDGES * 64 + linear(1000, 16, 64) + 2 * linear(1000, 64, 64) + linear(1000, 64, 64, 4),
    # an LSTM in both directions over 3 layers, and a number for each layer
    "JumpingKnowledge": NODES * 3 * 2 * 4 * 96 * (64 + 96) + linear(NODES * 3, 192, 1),
    "MaskLabel": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_macs_are_those_counted_by_hand(pyg, name):
    assert nnkit.summarize(f"pyg/{name}").totals.macs == BY_HAND[name]


def test_macs_of_schnet_follow_its_neighbors(pyg):
    spec = nnkit.resolve("pyg/SchNet")
    _, positions, molecule = sample_inputs(spec, seed=0)
    near = (torch.cdist(positions, positions) <= 10) & (molecule[:, None] == molecule[None])
    neighbors, atoms = int(near.sum()) - 20, 20
    block = 3 * linear(atoms, 128, 128) + linear(neighbors, 50, 128, 128) + neighbors * 128
    assert nnkit.summarize(spec).totals.macs == 6 * block + linear(atoms, 128, 64, 1) + atoms


def test_the_nearest_neighbors_are_kept(pyg):
    from nnkit_pyg.build import Neighbors

    on_a_line = torch.tensor([[0.0], [1.0], [3.0], [6.25], [50.0]]) * torch.tensor([1.0, 0, 0])
    edges, lengths = Neighbors(cutoff=5.5, max_num_neighbors=2)(on_a_line, torch.tensor([0, 0, 0, 0, 0]))
    of = {target: set(edges[0][edges[1] == target].tolist()) for target in range(5)}
    assert of == {0: {1, 2}, 1: {0, 2}, 2: {0, 1}, 3: {1, 2}, 4: set()}
    assert torch.equal(lengths, (on_a_line[edges[0]] - on_a_line[edges[1]]).norm(dim=-1))


@pytest.mark.parametrize("name", ["MLP", "EdgeCNN", "ARLinkPredictor", "GPSENodeEncoder", "MaskLabel"])
def test_macs_are_those_of_torchs_flop_counter_where_nothing_is_scattered(pyg, name):
    spec = nnkit.resolve(f"pyg/{name}")
    module, inputs = directly(pyg)[name]().eval(), sample_inputs(spec, seed=0)
    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    assert nnkit.summarize(spec).totals.macs * 2 == counter.get_total_flops()


@pytest.mark.parametrize("name", sorted(MODELS.keys() & WITH_OPERATORS))
@pytest.mark.skipif(find_spec("pyg_lib") is not None, reason="pyg-lib is installed")
def test_what_needs_compiled_operators_says_so(nnkit_command, name):
    done = nnkit_command("summary", f"pyg/{name}")
    assert done.code == 3
    assert "pyg-lib" in done.err
    assert "data.pyg.org" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pyg/GAT", "--heads", "3"], "divisible by the number of heads"),
        (["pyg/GCN", "--set", "addself_loops=false"], "did you mean add_self_loops?"),
        (["pyg/GCN", "--set", "bias=false"], "give it as --bias"),
        (["pyg/GCN", "--act", "reluu"], "relu"),
        (["pyg/GCM"], "did you mean pyg/GCN"),
    ],
)
def test_options_that_a_model_does_not_take_are_usage_errors(nnkit_command, words, message):
    done = nnkit_command("summary", *words)
    assert done.code == 2
    assert message in done.err


def test_options_reach_the_model(pyg):
    model = nnkit.build(
        "pyg/GAT", heads=4, v2=True, jk="cat", norm="layer_norm", act="elu", set=("add_self_loops=false",)
    )
    theirs = pyg.GAT(
        16, 64, 2, 4, heads=4, v2=True, jk="cat", norm="layer_norm", act="elu", add_self_loops=False
    )
    assert str(model) == str(theirs)
    assert not model.convs[0].add_self_loops


@pytest.mark.parametrize("name", ["GraphSAGE", "GIN", "SignedGCN", "SGFormer", "MLP", "LINKX", "MaskLabel"])
def test_it_runs_trains_and_behaves(pyg, name):
    report = nnkit.smoke_run(f"pyg/{name}")
    assert not [(each.name, each.message) for each in report.checks if each.status in ("failed", "warned")]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in HERE if name != "GPSE"])
def test_every_model_runs_trains_and_behaves(pyg, name):
    report = nnkit.smoke_run(f"pyg/{name}")
    assert not [(each.name, each.message) for each in report.checks if each.status in ("failed", "warned")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GCN", "RECT_L", "AttentiveFP"])
def test_an_export_is_proven_at_other_numbers_of_nodes_and_edges(pyg, tmp_path, name):
    report = nnkit.export(f"pyg/{name}", tmp_path / "m.onnx")
    assert report.verified
    assert len({(each.sizes["nodes"], each.sizes["edges"]) for each in report.checks}) >= 3


@pytest.mark.parametrize(
    ("nodes", "number"), [(1, 0), (1, 3), (2, 2), (2, 9), (5, 20), (100, 30), (100, 9000)]
)
def test_edges_are_distinct_where_they_can_be_and_within_the_graph(nodes, number):
    drawn = edges((2, number), {"nodes": nodes}, torch.int64, torch.Generator().manual_seed(0))
    assert drawn.shape == (2, number)
    if number:
        assert 0 <= drawn.min() <= drawn.max() < nodes
    if number <= nodes * (nodes - 1):
        assert len({*zip(*drawn.tolist(), strict=True)}) == number
        assert not (drawn[0] == drawn[1]).any()


@pytest.mark.parametrize(("nodes", "graphs"), [(1, 1), (5, 5), (34, 2), (100, 7)])
def test_every_graph_of_a_batch_has_a_node(nodes, graphs):
    drawn = graph_of_node((nodes,), {"graphs": graphs}, torch.int64, torch.Generator().manual_seed(0))
    assert drawn.tolist() == sorted(drawn.tolist())
    assert set(drawn.tolist()) == set(range(graphs))
