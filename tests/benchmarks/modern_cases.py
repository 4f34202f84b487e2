"""Pairs of a network of the modern zoo and its reference, of the same size and with the same weights.

Each case is a function of `quick` (as small as it goes, to see that it works) that returns a `Pair`.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
import conftest  # noqa: F401 (makes torchvision importable where its compiled operators can't be loaded)

import nnkit


class Pair(NamedTuple):
    """Two networks, and for each the call that returns the output whose square is trained."""

    ours: nn.Module
    theirs: nn.Module
    call_ours: Callable[[], Tensor]
    call_theirs: Callable[[], Tensor]


# ---- mlp


def mlp(quick: bool) -> Pair:
    """The perceptron beside a plain sequence of torch's layers."""
    width = 16 if quick else 512
    theirs = nn.Sequential(
        nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )
    ours = nnkit.build("mlp", hidden_sizes=(width, width))
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(256, 784)
    return Pair(ours, theirs, lambda: ours(x), lambda: theirs(x))


# ---- transformer, bert


# ---- gpt2, llama


# ---- seq2seq-attention, tcn, wavenet


# ---- mamba, moe


# ---- densenet, mobilenet-v3, efficientnet, convnext, unet


# ---- vit, mixer, resmlp, clip


# ---- vae, vq-vae, dcgan


# ---- ddpm-unet


# ---- deepsets, set-transformer, graph-transformer


CASES: dict[str, Callable[[bool], Pair]] = {
    "mlp": mlp,
    # transformer, bert
    # gpt2, llama
    # seq2seq-attention, tcn, wavenet
    # mamba, moe
    # densenet, mobilenet-v3, efficientnet, convnext, unet
    # vit, mixer, resmlp, clip
    # vae, vq-vae, dcgan
    # ddpm-unet
    # deepsets, set-transformer, graph-transformer
}
