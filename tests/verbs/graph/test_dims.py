"""The axes inside a model by the names of the dims that they follow."""

import torch
from torch import nn

import nnkit


def axes_of(reference, **options):
    return {node.key: node.axes for node in nnkit.graph(reference, **options).nodes}


def test_axes_follow_the_dims_of_a_u_net():
    axes = axes_of("unet", channels=4)
    assert axes["encoder.0"] == (("batch", 4, "height", "width"),)
    assert axes["max_pool2d~2"] == (("batch", 8, "height/4", "width/4"),)
    assert axes["cat"][0][2:] == ("height/8", "width/8")


def test_self_loops_are_edges_and_nodes():
    axes = axes_of("gcn")
    assert axes["cat"] == ((2, "nodes+edges"),)
    assert axes["scatter"] == (("nodes+1",),)


def test_a_fixed_size_that_equals_that_of_a_dim_keeps_its_number():
    axes = axes_of("lstm")  # an image of 28 rows of 28 pixels, row by row
    assert axes["x"] == (("batch", "time", 28),)
    assert axes["recurrent"][0] == ("batch", "time", 128)


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRUCell(3, 5), nn.Linear(5, 2)

    def forward(self, x):
        state = x.new_zeros(x.shape[0], 5)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state)


def test_a_loop_over_time_still_has_a_batch():
    report = nnkit.graph(Loop().eval(), inputs="x: float32[batch, time=6, 3]")
    axes = {node.key: node.axes for node in report.nodes}
    assert axes["head"] == (("batch", 2),)
    assert axes["cell~6"] == (("batch", 5),)
    assert axes["x"] == (("batch", 6, 3),)  # for another time there would be other calls


def test_edges_have_the_names_of_what_they_carry():
    report = nnkit.graph(nn.Sequential(nn.Linear(3, 4), nn.Flatten(0, 1)).eval(), torch.randn(5, 7, 3))
    edge = next(edge for edge in report.edges if report.nodes[edge.target].type == "output")
    first, second = report.nodes[0].axes[0][:2]
    assert edge.axes == (f"{first}·{second}", 4)
    assert edge.shape == (35, 4)
