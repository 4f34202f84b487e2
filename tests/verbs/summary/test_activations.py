"""The elements that products give: against published figures, and the same on every kernel."""

import pytest
import torch
from torch import nn

import nnkit

# "Activations (M)" of the same networks at 224 pixels, on the cards of timm's published weights
PUBLISHED = {
    "resnet18": 2.5,
    "resnet50": 11.1,
    "densenet121": 6.9,
    "efficientnet-b0": 6.7,
    "mobilenet-v3-large": 4.4,
    "convnext-tiny": 13.4,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures(name):
    assert round(nnkit.summarize(name).totals.activations / 1e6, 1) == PUBLISHED[name]


class Attention(nn.Module):
    def forward(self, query, key, value):
        return nn.functional.scaled_dot_product_attention(query, key, value)


def test_attention_gives_its_scores_too_whichever_kernel_computes_it():
    batch, heads, targets, sources, width = 2, 3, 4, 5, 8
    shapes = [(batch, heads, targets, width), *[(batch, heads, sources, width)] * 2]
    expected = batch * heads * (targets * sources + targets * width)
    for device in ("cpu", "meta"):
        inputs = [torch.zeros(shape, device=device) for shape in shapes]
        assert nnkit.summarize(Attention(), inputs).totals.activations == expected


@pytest.mark.parametrize(("layer", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_a_recurrent_layer_gives_its_gates_in_one_kernel_or_step_by_step(layer, gates):
    time, batch, width, hidden = 5, 2, 3, 7
    for device in ("cpu", "meta"):
        module = layer(width, hidden, device=device)
        x = torch.zeros(time, batch, width, device=device)
        assert nnkit.summarize(module, [x]).totals.activations == 2 * time * batch * gates * hidden
