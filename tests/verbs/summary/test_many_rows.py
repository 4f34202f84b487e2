"""A loop of many steps: each has its rows, which are written as Python's own encoder writes them."""

import json
from dataclasses import asdict

import torch
from torch import nn

import nnkit
from nnkit.render import summary as render

STEPS = 1500  # more rows than are written at once


class Loop(nn.Module):
    """Five calls in each step, of which one has another argument each time."""

    def __init__(self):
        super().__init__()
        self.cell, self.state = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        """Return the last state (B, 2) of x (B, T, 2)."""
        h = x.new_zeros(x.shape[0], 2)
        for step in range(x.shape[1]):
            h = torch.tanh(self.cell(x[:, step]) + self.state(h))
        return h


def test_every_step_has_its_rows_and_equal_ones_are_one_object():
    report = nnkit.summarize(Loop(), torch.randn(3, STEPS, 2))
    rows = report.rows[1:]
    assert [row.path for row in rows] == ["getitem", "cell", "state", "add", "tanh"] * STEPS
    assert [row.inputs[1] for row in rows[::5]] == [("slice", str(step)) for step in range(STEPS)]
    assert [row.repeated for row in rows[1::5]] == [False] + [True] * (STEPS - 1)
    assert report.totals.macs == STEPS * 2 * (3 * 2 * 2) == sum(row.macs for row in rows)
    assert len({id(row) for row in rows}) == STEPS + 6  # a getitem for each step, both cells before and after


def test_json_in_pieces_is_the_report_as_plain_data():
    report = nnkit.summarize(Loop(), torch.randn(3, STEPS, 2))
    data = report.to_dict()
    assert "".join(render.as_json(report)) == json.dumps(data, indent=2, ensure_ascii=False)
    assert data["rows"] == [
        {**asdict(row), "input_shapes": row.input_shapes, "output_shapes": row.output_shapes}
        for row in report.rows
    ]
