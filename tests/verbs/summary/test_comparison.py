"""Models side by side, and layer by layer."""

import csv
import json

import pytest
import torch
from torch import nn

import nnkit
from nnkit.verbs.summary.comparison import compare


def summary(*layers, shape=(2, 8)):
    return nnkit.summarize(nn.Sequential(*layers), [torch.zeros(shape)])


def kinds(report):
    return [(change.kind, change.path) for change in report.changes]


def test_a_model_is_equal_to_itself_and_nothing_has_changed():
    report = nnkit.compare("resnet18", "resnet18")
    assert report.equal
    assert (report.changes, report.options) == ((), ())


def test_one_option_changes_the_layer_that_it_is_for():
    report = nnkit.compare("resnet18", nnkit.resolve("resnet18", num_classes=100))
    assert not report.equal
    assert kinds(report) == [("changed", "fc")]
    (change,) = report.changes
    assert (change.parameters, change.macs) == (90 * 513, 90 * 512)
    assert [(each.name, each.left, each.right) for each in report.options] == [
        ("config.num_classes", 10, 100)
    ]


def test_what_was_added_and_removed_stands_where_it_belongs():
    left = summary(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    right = summary(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4), nn.Softmax(1))
    assert kinds(compare([left, right])) == [("changed", "1"), ("added", "3")]
    assert kinds(compare([right, left])) == [("changed", "1"), ("removed", "3")]


def test_the_differences_add_up_to_that_of_the_totals():
    report = nnkit.compare("resnet18", "resnet34")
    left, right = (side.totals for side in report.sides)
    assert sum(change.parameters for change in report.changes) == right.parameters - left.parameters
    assert sum(change.macs for change in report.changes) == right.macs - left.macs
    assert {change.kind for change in report.changes} == {"added"}


class Order(nn.Module):
    def __init__(self, first):
        super().__init__()
        self.norm, self.fc, self.first = nn.LayerNorm(8), nn.Linear(8, 8), first

    def forward(self, x):
        return self.fc(self.norm(x)) if self.first else self.norm(self.fc(x))


def test_the_same_layers_in_another_order_are_not_equal():
    one, other = (nnkit.summarize(Order(first), [torch.zeros(2, 8)]) for first in (True, False))
    report = compare([one, other])
    assert not report.equal
    assert [change.kind for change in report.changes] == ["moved"]


def test_parameters_that_a_module_holds_itself_are_not_lost():
    """Attention has its input projection itself, beside the module of its output's."""
    one, other = (
        nnkit.summarize(nn.MultiheadAttention(width, 2), [torch.zeros(3, 2, width)] * 3) for width in (8, 16)
    )
    report = compare([one, other])
    difference = other.totals.parameters - one.totals.parameters
    assert sum(change.parameters for change in report.changes) == difference


def test_more_than_two_stand_side_by_side(nnkit_command):
    out = nnkit_command("compare", "resnet18", "resnet34", "vgg16", "--num-classes", "1000").out
    assert "11,689,512" in out
    assert "21,797,672" in out
    assert "138,357,544" in out
    assert out.rstrip().endswith("not equal")


def test_one_side_has_options_of_its_own(nnkit_command):
    done = nnkit_command("compare", "resnet18", "resnet18", "--right.num-classes", "100", "--batch", "2")
    assert done.code == 0
    assert "~  fc    Linear 2×512 → 2×10  Linear 2×512 → 2×100     +46,170  +92,160" in done.out
    assert "config.num_classes  10    100" in done.out
    assert done.out.rstrip().endswith("not equal: 1 changed, 1 option")


def test_flags_and_presets_have_sides_too(nnkit_command):
    done = nnkit_command(
        "compare", "gcn", "gcn", "--left.preset", "cora", "--right.preset=cora", "--exit-code"
    )
    assert (done.code, done.out.rstrip()[-5:]) == (0, "equal")
    data = json.loads(nnkit_command("compare", "lstm", "lstm", "--right.bidirectional", "--json").out)
    assert {"name": "config.bidirectional", "left": False, "right": True} in data["options"]


def test_the_exit_code_tells_a_pipeline(nnkit_command, tmp_path):
    for name, classes in (("a", "10"), ("b", "10"), ("c", "100")):
        spec = nnkit_command("build", "resnet18", "--num-classes", classes, "--spec").out
        (tmp_path / f"{name}.yaml").write_text(spec)
    assert nnkit_command("compare", "a.yaml", "b.yaml", "--exit-code").code == 0
    assert nnkit_command("compare", "a.yaml", "c.yaml", "--exit-code").code == 1
    assert nnkit_command("compare", "a.yaml", "c.yaml").code == 0


def test_csv_and_markdown_have_the_same_changes(nnkit_command):
    args = ("compare", "resnet18", "resnet18", "--right.num-classes", "100")
    rows = list(csv.DictReader(nnkit_command(*args, "--format", "csv").out.splitlines()))
    assert rows == [
        {"change": "changed", "path": "fc", "left": "Linear 1×512 → 1×10", "right": "Linear 1×512 → 1×100",
         "parameters": "46170", "macs": "46080"}
    ]  # fmt: skip
    assert "| ~ | fc | Linear 1×512 → 1×10 |" in nnkit_command(*args, "--format", "markdown").out


@pytest.mark.parametrize(
    ("args", "error", "hint"),
    [
        (["resnet18"], "compare takes two or more models", "nnkit compare resnet18 resnet34"),
        (["resnet18", "resnet1"], "unknown architecture 'resnet1'", "did you mean resnet1"),
        (["gcn", "gcn", "--left.hidden-chanels", "3"], "gcn has no option 'hidden_chanels'", "did you mean"),
        (["gcn", "gcn", "--middle.depth", "3"], "no such option --middle.depth", "--left. or --right."),
        (["gcn", "gcn", "--nodes"], "option --nodes needs a value", "--nodes VALUE"),
        (
            ["gcn", "gcn", "gcn", "--left.nodes", "3"],
            "--left. and --right. need exactly two models",
            "name two",
        ),
    ],
)
def test_bad_input_gets_one_clear_error(nnkit_command, args, error, hint):
    done = nnkit_command("compare", *args)
    assert (done.code, done.out) == (2, "")
    assert f"Error: {error}" in done.err
    assert hint in done.err
