"""The paper's result on Cora, on the Planetoid split: 81.5 % of the test papers."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch.nn import functional as F

import nnkit

FILE = Path(os.environ.get("NNKIT_CORA", ROOT.parent / "shared" / "data" / "cora.npz"))


@pytest.mark.slow
@pytest.mark.skipif(not FILE.is_file(), reason="the Planetoid split of Cora is not here; set NNKIT_CORA")
def test_gcn_reaches_the_paper_s_accuracy_on_cora():
    data = {name: torch.from_numpy(array) for name, array in np.load(FILE).items()}
    x = torch.zeros(2708, 1433)
    x[data["x_indices"][0], data["x_indices"][1]] = 1
    x = x / x.sum(1, keepdim=True).clamp(min=1)
    edge_index, y = data["edge_index"].long(), data["y"].long()
    train, valid, test = (data[f"{part}_mask"].bool() for part in ("train", "val", "test"))
    assert (edge_index.shape[1], int(train.sum()), int(test.sum())) == (10_556, 140, 1000)

    torch.manual_seed(0)
    model = nnkit.build("gcn", preset="cora", cached=True)
    first, *rest = model.convs
    optimizer = torch.optim.Adam(
        [
            {"params": first.parameters(), "weight_decay": 5e-4},
            {"params": [each for conv in rest for each in conv.parameters()], "weight_decay": 0.0},
        ],
        lr=0.01,
    )
    best, accuracy = 0.0, 0.0
    for _ in range(200):
        optimizer.zero_grad()
        features = F.dropout(x, 0.5)
        F.cross_entropy(model.train()(features, edge_index)[train], y[train]).backward()
        optimizer.step()
        with torch.no_grad():
            right = model.eval()(x, edge_index).argmax(1) == y
        if float(right[valid].float().mean()) > best:
            best, accuracy = float(right[valid].float().mean()), float(right[test].float().mean())
    assert accuracy >= 0.79
