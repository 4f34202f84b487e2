"""Which tensor flows from which call to which, in models that make it hard to tell.

The edges that each test expects follow from what its forward says: they are written down, not computed.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import nnkit

X = torch.randn(2, 4)


def linear() -> nn.Linear:
    return nn.Linear(4, 4)


class Net(nn.Module):
    """Three layers, and the function that is its forward."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.a, self.b, self.c = linear(), linear(), linear()
        self.narrow = nn.Linear(2, 4)
        self.identity, self.dropout, self.relu = nn.Identity(), nn.Dropout(), nn.ReLU(inplace=True)
        self.weight = nn.Parameter(torch.randn(4))
        self.register_buffer("memory", torch.zeros(3, 2, 4))
        self.anchor = torch.ones(2, 4)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def edges_of(report: nnkit.GraphReport) -> set[str]:
    """Return the edges as `source>target`."""
    keys = [node.key for node in report.nodes]
    return {f"{keys[edge.source]}>{keys[edge.target]}" for edge in report.edges}


def flows(function: Callable[..., Any]) -> set[str]:
    return edges_of(nnkit.graph(Net(function).eval(), X.clone()))


def write_slices(net, x):
    y = torch.zeros(2, 2, 4)
    y[0] = net.a(x)
    y[1].add_(net.b(x))
    return net.c(y)


def write_views(net, x):
    y = torch.zeros(2, 2, 4)
    first, second = y[0], y[1]
    first.add_(net.a(x))
    second.add_(net.b(x))
    return net.c(y)


def write_chunk(net, x):
    left, right = net.a(x).chunk(2, -1)
    left.mul_(2)
    return net.narrow(left), net.narrow(right)


def write_rows(net, x):
    y = net.a(x)
    top, bottom = y[:1], y[1:]
    top.mul_(2)
    return net.b(bottom), net.c(top)


def write_result(net, x):
    y = torch.empty(2, 4)
    torch.add(net.a(x), x, out=y)
    F.relu(y, inplace=True)
    return net.b(y)


def write_buffer(net, x):
    net.memory[1] = net.a(x)
    return net.b(net.memory.sum(0))


def replace_data(net, x):
    y, z = net.a(x), net.b(x)
    y.data = z
    return net.c(y)


def pass_on(net, x):
    y = net.a(x)
    dropped = net.dropout(y)
    same = net.identity(y)
    return net.b(dropped) + y + same


def relu_in_place(net, x):
    y = net.a(x)
    return net.b(net.relu(y)) + y


def return_twice(net, x):
    y = net.a(x)
    return y, y


def return_inputs(net, x):
    return x, net.a(x), x.T


def return_own(net, x):
    return net.weight, x + net.anchor, net.anchor


def return_tree(net, x):
    @dataclass
    class Pair:
        left: Tensor
        right: Tensor

    return {"pair": Pair(net.a(x), net.b(x)), "none": None, "list": [x + 1]}


def call_twice(net, x):
    return net.a(net.a(x))


def stack_unbind(net, x):
    query, key = torch.stack([net.a(x), net.b(x)]).unbind(0)
    return net.c(query) * key


def reshape(net, x):
    y = net.a(x).view(2, 2, 2).permute(1, 0, 2)
    return net.narrow(torch.einsum("abc,abd->acd", y, y).reshape_as(x.view(2, 2, 2)))


def of_shape(net, x):
    y = net.a(x)
    return torch.zeros_like(y) + y.new_ones(2, 4) + net.b(x)


def with_checkpoints(net, x):
    y = checkpoint(net.a, x, use_reentrant=False)
    return checkpoint(net.b, y, use_reentrant=True) + x


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 2


def own_function(net, x):
    return net.b(Double.apply(net.a(x)))


@torch.jit.script
def scripted(x: Tensor, y: Tensor) -> Tensor:
    return torch.relu(x) + y


def compiled(net, x):
    return net.b(scripted(net.a(x), x))


def mapped(net, x):
    return net.c(torch.vmap(lambda row: net.b(row) * 2)(net.a(x)))


def other_weights(net, x):
    weight = net.a(x).mean(0, keepdim=True) * net.b.weight
    return torch.func.functional_call(net.b, {"weight": weight}, (x,))


def copied(net, x):
    y = net.a(x)
    return net.b(copy.copy(y)) + copy.deepcopy(y)


def new_parameter(net, x):
    return net.b(nn.Parameter(net.a(x)))


def differentiated(net, x):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(net.a(x).pow(2).sum(), x)
    return net.b(gradient)


def sparse(net, x):
    return torch.sparse.mm(torch.eye(2).to_sparse(), net.a(x))


def by_value(net, x):
    y = net.a(x)
    return net.b(y) if bool(y.isfinite().all()) else net.c(y)


CASES = {
    write_slices: "x>a zeros>setitem a>setitem setitem>getitem x>b getitem>add b>add setitem>c add>c c>output",
    write_views: "x>a zeros>getitem zeros>getitem~2 getitem>add a>add x>b getitem~2>add~2 b>add~2 add>c add~2>c "
    "c>output",
    write_chunk: "x>a a>chunk chunk>mul mul>narrow chunk>narrow~2 narrow>output_0 narrow~2>output_1",
    write_rows: "x>a a>getitem a>getitem~2 getitem>mul getitem~2>b mul>c b>output_0 c>output_1",
    write_result: "x>a a>add x>add empty>add add>relu relu>b b>output",
    write_buffer: "x>a a>setitem setitem>sum sum>b b>output",
    replace_data: "x>a x>b b>c c>output",
    pass_on: "x>a a>dropout a>identity dropout>b b>add a>add add>add~2 identity>add~2 add~2>output",
    relu_in_place: "x>a a>relu relu>b b>add relu>add add>output",
    return_twice: "x>a a>output_0 a>output_1",
    return_inputs: "x>a x>output_0 a>output_1 x>output_2",
    return_own: "x>add anchor>add weight>output_0 add>output_1 anchor>output_2",
    return_tree: "x>a x>b x>add a>pair.left b>pair.right add>list.0",
    call_twice: "x>a a>a~2 a~2>output",
    stack_unbind: "x>a x>b a>stack b>stack stack>unbind unbind>c c>mul unbind>mul mul>output",
    reshape: "x>a a>view view>permute permute>einsum x>view~2 einsum>reshape_as reshape_as>narrow narrow>output",
    of_shape: "x>a zeros_like>add new_ones>add add>add~2 x>b b>add~2 add~2>output",
    with_checkpoints: "x>a a>b b>add x>add add>output",
    own_function: "x>a a>mul mul>b b>output",
    compiled: "x>a a>relu relu>add x>add add>b b>output",
    mapped: "x>a a>b b>mul mul>c c>output",
    other_weights: "x>a a>mean mean>mul mul>b x>b b>output",
    copied: "x>a a>b a>deepcopy b>add deepcopy>add add>output",
    new_parameter: "x>a a>b b>output",
    differentiated: "x>a a>pow pow>sum sum>grad x>grad grad>b b>output",
    sparse: "eye>to_sparse x>a to_sparse>sparse_mm a>sparse_mm sparse_mm>output",
    by_value: "x>a a>isfinite isfinite>all a>b b>output",
}


@pytest.mark.parametrize("function", CASES, ids=lambda function: function.__name__)
def test_edges_follow_the_tensors(function):
    assert flows(function) == set(CASES[function].split())


def test_no_tensor_is_marked_afterwards():
    x, net = X.clone(), Net(pass_on).eval()
    kept = []
    net.a.register_forward_hook(lambda module, args, result: kept.append(result))
    nnkit.graph(net, x)
    assert kept
    assert not any("nnkit" in name for tensor in (x, *kept, *net.parameters()) for name in vars(tensor))


def test_a_tensor_kept_from_an_earlier_run_has_no_maker():
    kept = {}

    def forward(net, x):
        if "y" in kept:
            return net.b(kept["y"])
        kept["y"] = net.a(x)
        return kept["y"]

    net = Net(forward).eval()
    nnkit.graph(net, X)
    assert edges_of(nnkit.graph(net, X)) == {"tensor>b", "b>output"}


def test_functions_in_torchs_own_modules_show_where_they_lie_between_modules():
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
    edges = edges_of(nnkit.graph(layer, torch.randn(1, 3, 4)))
    assert {"src>self_attn", "self_attn>dropout1", "src>add", "dropout1>add", "add>norm1"} <= edges
    attention = [node for node in nnkit.graph(layer, torch.randn(1, 3, 4)).nodes if node.path == "self_attn"]
    assert [node.type for node in attention] == ["MultiheadAttention"]  # its functions are its own affair


def test_a_list_of_modules_is_a_container_where_they_follow_one_another():
    class Lists(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([linear(), linear()])
            self.convs, self.norms = nn.ModuleList([linear(), linear()]), nn.ModuleList([linear(), linear()])

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            for conv, norm in zip(self.convs, self.norms, strict=True):
                x = norm(conv(x))
            return x

    report = nnkit.graph(Lists().eval(), X)
    containers = [node for node in report.nodes if node.kind == "container"]
    assert [(node.path, node.type, node.row.parameters) for node in containers] == [
        ("blocks", "ModuleList", 40)
    ]
    inside = [node.path for node in report.nodes if node.parent == report.nodes.index(containers[0])]
    assert inside == ["blocks.0", "blocks.1"]


def test_what_depends_on_no_input_is_told_apart():
    def forward(net, x):
        positions = torch.arange(4.0).cos()
        return net.a(x) + net.b(positions) + net.weight

    report = nnkit.graph(Net(forward).eval(), X)
    nodes = {node.key: node for node in report.nodes}
    assert {key for key, node in nodes.items() if node.from_no_input} == {"arange", "cos", "b"}
    assert nodes["arange"].kind == "constant"
    assert nodes["add~2"].reads == ("weight",)
    assert nodes["add~2"].line.startswith(("tests/verbs/graph/test_edges.py:", "test_edges.py:"))


def test_values_that_went_through_python_are_warned_of():
    report = nnkit.graph(Net(lambda net, x: net.b(torch.from_numpy(net.a(x).numpy() * 2))).eval(), X)
    assert any("numpy" in warning and "no edge" in warning for warning in report.warnings)


def test_a_graph_has_the_costs_of_the_summary():
    graph, summary = nnkit.graph("simple-cnn"), nnkit.summarize("simple-cnn")
    assert graph.totals == summary.totals
    rows = {node.path: node.row for node in graph.nodes if node.kind == "module"}
    assert rows == {row.path: row for row in summary.rows if row.kind == "module"}


def test_a_model_that_fails_fails_as_in_a_summary():
    from nnkit.verbs.summary.report import ForwardFailed

    with pytest.raises(ForwardFailed, match="narrow"):
        nnkit.graph(Net(lambda net, x: net.narrow(x)).eval(), X)
