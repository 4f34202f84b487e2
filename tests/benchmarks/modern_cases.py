"""Pairs of a network of the modern zoo and its reference, of the same size and with the same weights.

Each case is a function of `quick` (as small as it goes, to see that it works) that returns a `Pair`.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

import nnkit

sys.path.insert(0, str(Path(__file__).parents[1]))
import conftest  # noqa: F401 (makes torchvision importable where its compiled operators can't be loaded)


class Pair(NamedTuple):
    """Two networks, and for each the call that returns the output whose square is trained."""

    ours: nn.Module
    theirs: nn.Module
    call_ours: Callable[[], Tensor]
    call_theirs: Callable[[], Tensor]


# ---- mlp

# ---- transformer, bert


# ---- gpt2, llama


# ---- seq2seq-attention, tcn, wavenet


# ---- mamba, moe


# ---- densenet, mobilenet-v3, efficientnet, convnext, unet


def torchvision_pair(name: str, quick: bool) -> Pair:
    """Return a network and torchvision's of the same name, on four images (one in quick)."""
    from torchvision import models

    torch.manual_seed(0)
    theirs = getattr(models, name.replace("-", "_"))()
    ours = nnkit.build(name)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 64, 64) if quick else torch.randn(4, 3, 224, 224)
    return Pair(ours, theirs, lambda: ours(images), lambda: theirs(images))


def densenet121(quick: bool) -> Pair:
    """Return DenseNet-121 and torchvision's."""
    return torchvision_pair("densenet121", quick)


def mobilenet_v3_small(quick: bool) -> Pair:
    """Return MobileNetV3-Small and torchvision's."""
    return torchvision_pair("mobilenet-v3-small", quick)


def efficientnet_b0(quick: bool) -> Pair:
    """Return EfficientNet-B0 and torchvision's."""
    return torchvision_pair("efficientnet-b0", quick)


def convnext_tiny(quick: bool) -> Pair:
    """Return ConvNeXt-T and torchvision's."""
    return torchvision_pair("convnext-tiny", quick)


# ---- vit, mixer, resmlp, clip


# ---- vae, vq-vae, dcgan


# ---- ddpm-unet


# ---- deepsets, set-transformer, graph-transformer


CASES: dict[str, Callable[[bool], Pair]] = {
    # mlp
    # transformer, bert
    # gpt2, llama
    # seq2seq-attention, tcn, wavenet
    # mamba, moe
    "densenet121": densenet121,
    "mobilenet-v3-small": mobilenet_v3_small,
    "efficientnet-b0": efficientnet_b0,
    "convnext-tiny": convnext_tiny,
    # vit, mixer, resmlp, clip
    # vae, vq-vae, dcgan
    # ddpm-unet
    # deepsets, set-transformer, graph-transformer
}
