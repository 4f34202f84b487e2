"""What is found out about a module by running it, held against what torch.nn documents or a hand count."""

import collections
import dataclasses

import pytest
import torch
from torch import nn

import nnkit
from nnkit.errors import UsageProblem
from nnkit.models.module_objects import architecture_of_module
from nnkit.models.sampling import sample_inputs


def shapes(module, inputs):
    """Return the declared shapes of the inputs by name, as text."""
    declared = architecture_of_module(module, inputs).inputs
    return {tensor.name: ", ".join(map(str, tensor.shape)) for tensor in declared}


def failures(report):
    return {check.name: check.message for check in report.checks if check.status == "failed"}


def dim_of(module, inputs, name):
    return architecture_of_module(module, inputs).dims[name]


LAYERS = {
    "linear": (nn.Linear(8, 3), torch.randn(4, 8), "batch, 8"),
    "one sample": (nn.Linear(8, 3), torch.randn(1, 8), "batch, 8"),
    "convolution": (nn.Conv2d(3, 4, 3), torch.randn(2, 3, 20, 24), "batch, 3, height, width"),
    "signal": (nn.Conv1d(3, 4, 3), torch.randn(2, 3, 20), "batch, 3, length"),
    "recurrent": (nn.GRU(6, 4, batch_first=True), torch.randn(2, 7, 6), "batch, time, 6"),
    "time first": (nn.GRU(6, 4), torch.randn(7, 2, 6), "size_1, batch, 6"),
    "embedding": (nn.Embedding(30, 4), torch.randint(30, (2, 7)), "batch, time"),
    "fully connected": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 2)),
        torch.randn(2, 3, 8, 8),
        "batch, 3, 8, 8",
    ),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_the_axes_of_a_layer_are_those_that_torch_documents(kind):
    module, example, expected = LAYERS[kind]
    (found,) = shapes(module, example).values()
    assert found.replace("time", "size_1") == expected.replace("time", "size_1")


Pair = collections.namedtuple("Pair", "left right")


@dataclasses.dataclass
class Sample:
    image: torch.Tensor
    scale: float


class Trees(nn.Module):
    """Takes what networks take: a dict, a named tuple, a dataclass, a list, text and None."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, features, pair, sample=None, *, mode="sum", mask=None, levels=()):
        total = self.layer(features["a"]) + self.layer(pair.left) * self.layer(pair.right)
        if sample is not None:
            total = total + self.layer(sample.image) * sample.scale
        for level in levels:
            total = total + self.layer(level)
        return {mode: total if mask is None else total * mask}


def tree(batch=3):
    def draw():
        return torch.randn(batch, 6)

    return {
        "features": {"a": draw()},
        "pair": Pair(draw(), draw()),
        "sample": Sample(draw(), 0.5),
        "mode": "sum",
        "mask": None,
        "levels": [draw(), draw()],
    }


def test_inputs_of_any_structure_have_dotted_names_and_constants():
    module, inputs = Trees(), tree()
    names = ["features.a", "pair.left", "pair.right", "sample.image", "levels.0", "levels.1"]
    assert shapes(module, inputs) == dict.fromkeys(names, "batch, 6")
    constants = architecture_of_module(module, inputs).constants
    assert constants == {"sample.scale": 0.5, "mode": "sum", "mask": None}


def test_every_verb_takes_them(tmp_path):
    module, inputs = Trees(), tree()
    assert not failures(nnkit.smoke_run(module, inputs))
    assert nnkit.summarize(module, inputs).totals.macs == 6 * 6 * 4 * 3
    report = nnkit.export(module, tmp_path / "trees.onnx", inputs)
    assert {check.sizes["batch"] for check in report.checks} >= {1, 3}
    assert nnkit.verify(tmp_path / "trees.onnx", module, inputs, named=True).verified
    assert nnkit.compare(module, module, inputs=inputs).equal
    assert nnkit.fit(module, "1MB", inputs).fit.training > 3
    assert nnkit.bench(module, inputs=inputs, time_limit=0.05).models[0].batch == 3


def test_a_sequence_holds_positional_arguments():
    inputs = tree()
    assert shapes(Trees(), [inputs["features"], inputs["pair"], None]) == dict.fromkeys(
        ("features.a", "pair.left", "pair.right"), "batch, 6"
    )


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, query, memory, mask=None, hidden=None):
        return self.attention(query, memory, memory, attn_mask=mask, key_padding_mask=hidden)[0]


def test_axes_of_one_size_move_together_only_where_they_must():
    """Query and memory both have 16 steps of 16 features, and so has the mask: only two of them belong together."""
    inputs = {
        "query": torch.randn(3, 16, 16),
        "memory": torch.randn(3, 16, 16),
        "mask": torch.zeros(16, 16, dtype=torch.bool).fill_diagonal_(False),
        "hidden": torch.zeros(3, 16, dtype=torch.bool),
    }
    found = shapes(Attention(), inputs)
    query, memory = found["query"].split(", ")[1], found["memory"].split(", ")[1]
    assert query != memory
    assert found["mask"] == f"{query}, {memory}"
    assert found["hidden"] == f"batch, {memory}"
    assert found["query"].endswith(", 16")
    assert found["memory"].endswith(", 16")
    assert not failures(nnkit.smoke_run(Attention(), inputs))


class Nearest(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x, prototypes):
        return self.layer(x) @ self.layer(prototypes).T


class Twins(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, left, right):
        return self.layer(left), self.layer(right)


def test_what_each_sample_is_compared_with_is_no_part_of_the_batch():
    examples = [torch.randn(4, 8), torch.randn(4, 8)]
    assert shapes(Nearest(), examples) == {"x": "batch, 8", "prototypes": "size_1, 8"}
    assert shapes(Twins(), examples) == {"left": "batch, 8", "right": "batch, 8"}


class Graph(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x, edge_index):
        source, target = edge_index
        hidden = self.layer(x)
        return hidden.index_add(0, target, hidden[source])


def test_edges_index_the_nodes_and_no_node_is_a_sample():
    edges = torch.randint(10, (2, 20), generator=torch.Generator().manual_seed(0))
    inputs = [torch.randn(10, 8), edges]
    assert shapes(Graph(), inputs) == {"x": "nodes, 8", "edge_index": "2, edges"}
    report = nnkit.smoke_run(Graph(), inputs)
    assert not failures(report)
    _, drawn = sample_inputs(report.spec, sizes={"nodes": 3, "edges": 50}, seed=7)
    assert drawn.shape == (2, 50)
    assert drawn.max() < 3


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = nn.GRU(8, 4, batch_first=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.cells(packed)[1].squeeze(0)


def test_lengths_follow_the_time():
    inputs = [torch.randn(3, 9, 8), torch.tensor([9, 4, 6])]
    assert shapes(Packed(), inputs) == {"x": "batch, time, 8", "lengths": "batch"}
    report = nnkit.smoke_run(Packed(), inputs)
    _, lengths = sample_inputs(report.spec, sizes={"time": 5}, seed=3)
    assert lengths.max() == 5


class Pyramid(nn.Module):
    """Halves a picture twice and joins the halves again, so sizes are multiples of 4."""

    def __init__(self):
        super().__init__()
        self.down, self.down2 = (nn.Conv2d(3, 3, 3, padding=1, stride=2) for _ in range(2))
        self.up, self.up2 = (nn.ConvTranspose2d(3, 3, 2, 2) for _ in range(2))

    def forward(self, x):
        half = self.down(x)
        return self.up2(self.up(self.down2(half)) + half) + x


@pytest.mark.parametrize("size", [16, 96, 224])
def test_multiples_are_found(size):
    example = torch.rand(1, 3, size, size)
    assert shapes(Pyramid(), example) == {"x": "batch, 3, height, width"}
    assert dim_of(Pyramid(), example, "width").multiple_of == 4
    assert not failures(nnkit.smoke_run(Pyramid(), example))


class Pairs(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 4)

    def forward(self, x):
        return self.layer(x.reshape(-1, 16)).repeat_interleave(2, 0)


def test_a_batch_may_be_a_multiple():
    assert dim_of(Pairs(), torch.randn(4, 8), "batch").multiple_of == 2


class Context(nn.Module):
    def __init__(self, length=10):
        super().__init__()
        self.token, self.place = nn.Embedding(20, 8), nn.Embedding(length, 8)

    def forward(self, ids):
        return self.token(ids) + self.place(torch.arange(ids.shape[1], device=ids.device))


@pytest.mark.parametrize("time", [6, 9, 10])
def test_a_limit_slightly_above_the_example_is_found(time):
    assert dim_of(Context(), torch.randint(20, (2, time)), "time").max == 10


class HardCoded(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 2)

    def forward(self, x):
        return self.layer(x.view(4, 8))


def test_a_hard_coded_batch_fails_and_is_exported_as_it_is(tmp_path):
    report = nnkit.smoke_run(HardCoded(), torch.randn(4, 8))
    assert failures(report)["batch-sizes"].startswith(
        "each of the 4 rows is a sample by itself, but a single one"
    )
    assert "batch is 4: it fails with other sizes" in report.spec.architecture.assumed
    assert nnkit.export(HardCoded(), tmp_path / "fixed.onnx", torch.randn(4, 8)).verified


class Branches(nn.Module):
    """Its path depends on values, so tensors without values can't run it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 2)

    def forward(self, x):
        rows = [self.layer(row) if row.sum() > 0 else -self.layer(row) for row in x]
        return torch.stack(rows)


def test_a_module_that_looks_at_values_is_run_on_them():
    assert shapes(Branches(), torch.randn(4, 8)) == {"x": "batch, 8"}
    assert not failures(nnkit.smoke_run(Branches(), torch.randn(4, 8)))


def test_the_example_itself_is_the_first_sample_and_others_are_like_it():
    image = torch.rand(2, 3, 8, 8)
    ids = torch.tensor([[5, 9, 7, 5]])
    for module, example in ((nn.Conv2d(3, 4, 3), image), (nn.Embedding(10, 4), ids)):
        spec = nnkit.smoke_run(module, example, checks=["shapes"]).spec
        (first,) = sample_inputs(spec, sizes={"batch": len(example)}, seed=0)
        assert torch.equal(first, example)
        (more,) = sample_inputs(spec, sizes={"batch": 6}, seed=0)
        assert torch.equal(more[: len(example)], example)
        assert not torch.equal(more[-1], more[0])
        (other,) = sample_inputs(spec, seed=1)
        assert other.min() >= example.min()
        assert other.max() <= example.max()
        (one,) = sample_inputs(spec, sizes={"batch": 1}, seed=0)
        assert torch.equal(one, example[:1])


class Sorted(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x, order):
        if sorted(order.tolist()) != list(range(len(order))):
            raise ValueError("no permutation")
        return self.layer(x)[:, order]


def test_values_that_a_module_refuses_stay_as_they_are():
    found = architecture_of_module(Sorted(), [torch.randn(3, 4), torch.tensor([2, 0, 3, 1])])
    assert "order is as in the example: it fails on other values" in found.assumed


def test_integers_that_are_all_the_same_are_varied_as_far_as_the_module_takes():
    found = architecture_of_module(nn.Embedding(3, 4), torch.zeros(2, 5, dtype=torch.long))
    assert "input takes integers from 0 to 1" in found.assumed


def test_nothing_of_the_module_changes():
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = torch.get_rng_state()
    architecture_of_module(module, torch.randn(5, 4, generator=torch.Generator()))
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert module.training
    assert torch.equal(torch.get_rng_state(), state)


def test_reports_show_what_was_found():
    module, example = nn.Linear(8, 3), torch.randn(4, 8)
    line = "input: float32[batch, 8]"
    for report in (nnkit.smoke_run(module, example, checks=["shapes"]), nnkit.summarize(module, example)):
        assert report.to_dict()["assumed"] == [line]
        assert line in str(report) or line in nnkit.render.as_text(report)


def test_a_declaration_overrules_what_would_be_found():
    report = nnkit.smoke_run(nn.Linear(8, 3), "input: float32[batch, time, 8]", pointwise="time", batch=2)
    assert list(report.spec.sizes) == ["batch", "time"]
    assert not failures(report)
    assert next(check for check in report.checks if check.name == "pointwise").status == "passed"


NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width: int = 8, causal: bool = False):
        super().__init__()
        self.layer = nn.Linear(width, 3)

    def forward(self, features, scale):
        return self.layer(features) * scale
"""


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net_of_one.py").write_text(NET)
    return f"{tmp_path / 'net_of_one.py'}:Net"


def test_python_takes_the_declarations_of_the_command_line(net):
    inputs = ["features: float32[batch, time, 8]", "scale: float32[batch, 1, 1]"]
    assert nnkit.resolve(net, inputs).input_names == ("features", "scale")
    assert nnkit.build(net, inputs).layer.in_features == 8
    assert nnkit.summarize(net, inputs, batch=2).spec.sizes["batch"] == 2
    report = nnkit.smoke_run(net, inputs, permutation="time", unsupported={"derivative": "tired"})
    assert report.spec.architecture.permutation == ("time",)
    assert not failures(report)


def test_an_option_of_the_class_comes_before_a_declaration(net):
    inputs = ["features: float32[batch, time, 8]", "scale: float32[batch, 1, 1]"]
    spec = nnkit.resolve(net, inputs, causal=True)
    assert spec.config.causal
    assert not spec.architecture.causal


def test_errors_say_what_a_caller_of_python_can_do(net):
    with pytest.raises(UsageProblem) as raised:
        nnkit.summarize(net, "features: float32[batch, 8]")
    assert "nnkit.summarize(" in raised.value.hint
    assert "inputs=" in raised.value.hint
    assert "--input" not in raised.value.hint
    with pytest.raises(UsageProblem, match="a module needs example inputs") as raised:
        nnkit.smoke_run(nn.Linear(2, 2))
    assert 'nnkit.smoke_run(module, inputs="x: float32[batch, 8]")' in raised.value.hint
    with pytest.raises(UsageProblem, match="declared by its plugin"):
        nnkit.smoke_run("resnet18", causal="time")
    with pytest.raises(UsageProblem, match="did you mean time"):
        nnkit.smoke_run(nn.Linear(8, 3), torch.randn(2, 5, 8), causal="tine")


def test_the_call_that_repeats_a_check_repeats_it():
    module, inputs = HardCoded(), torch.randn(4, 8)
    report = nnkit.smoke_run(
        module, inputs, checks=["batch-sizes"], seed=3, unsupported={"derivative": "tired"}
    )
    (check,) = report.checks
    (again,) = eval(check.repeat, {"nnkit": nnkit, "module": module, "inputs": inputs}).checks
    assert (again.status, again.message) == (check.status, check.message)
    assert "seed=3" in check.repeat
    assert "tired" in check.repeat


class Places(nn.Module):
    """Adds a learned vector to each place of a picture, of which there are 100 in all."""

    def __init__(self):
        super().__init__()
        self.places = nn.Parameter(torch.randn(4, 100))

    def forward(self, x):
        return x + self.places[:, : x.shape[2] * x.shape[3]].unflatten(1, x.shape[2:])


def test_axes_with_a_limit_in_common_are_no_larger_than_in_the_example():
    """8×12 and 12×8 fit into 100 places, and so each may be 12 alone; 12×12 don't."""
    module, inputs = Places(), torch.randn(2, 4, 8, 8)
    dims = architecture_of_module(module, inputs).dims
    assert {name: dims[name].max for name in ("height", "width")} == {"height": 8, "width": 8}
    assert not failures(nnkit.smoke_run(module, inputs))


class Cut(nn.Module):
    """Fails where both sides are between 49 and 95."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        assert not all(49 <= side < 95 for side in x.shape[2:])
        return self.layer(x)


def test_an_axis_that_fails_at_the_sizes_of_the_checks_keeps_that_of_the_example():
    """The least of each side runs with the other in full, and half of both does: the checks cut both."""
    module, inputs = Cut(), torch.randn(2, 3, 96, 96)
    assert shapes(module, inputs) == {"x": "batch, 3, size_1, 96"}
    assert not failures(nnkit.smoke_run(module, inputs))


class Attend(nn.Module):
    """Attention in which what the mask hides has no part: over nothing, torch gives NaN."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(30, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, ids, mask):
        x = self.embedding(ids)
        hidden = mask == 0 if mask.dtype == torch.int64 else mask
        return self.attention(x, x, x, key_padding_mask=hidden)[0]


MASKS = {
    "ones": torch.ones(2, 6, dtype=torch.int64),
    "padded": torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]]),
    "none hidden": torch.zeros(2, 6, dtype=torch.bool),
    "hidden in front": torch.tensor([[True, True, False, False, False, False], [False] * 6]),
}


@pytest.mark.parametrize("kind", MASKS)
def test_no_row_of_a_mask_is_hidden_as_a_whole(kind):
    example = MASKS[kind]
    inputs = {"ids": torch.randint(30, (2, 6)), "mask": example}
    sample = architecture_of_module(Attend(), inputs).inputs[1].sample
    hidden = example.dtype == torch.bool
    varied = set()
    for time in (1, 2, 6, 9):
        for seed in range(20):
            drawn = sample((4, time), {}, example.dtype, torch.Generator().manual_seed(seed))
            assert (drawn != hidden).any(-1).all()
            varied.add(tuple(drawn.flatten().tolist()))
    assert len(varied) > 8


def test_a_model_with_a_mask_in_its_example_is_exported(tmp_path):
    inputs = {"ids": torch.randint(30, (2, 6)), "mask": MASKS["ones"]}
    assert nnkit.export(Attend(), tmp_path / "attend.onnx", inputs).verified


def test_zeros_are_not_taken_for_a_mask():
    found = architecture_of_module(nn.Embedding(4, 3), torch.zeros(2, 5, dtype=torch.int64))
    assert found.inputs[0].sample.span == (0, 3)
