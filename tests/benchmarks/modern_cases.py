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


def mamba(quick: bool, scan: str = "loop") -> Pair:
    """Mamba of two layers, and transformers' without its kernels."""
    from transformers import MambaConfig as ReferenceConfig
    from transformers import MambaForCausalLM

    from nnkit_sequence.configs import MambaConfig
    from nnkit_sequence.mamba import Mamba

    size = {"vocab_size": 1000, "hidden_size": 32 if quick else 768, "num_hidden_layers": 2}
    theirs = MambaForCausalLM(ReferenceConfig(**size))
    ours = Mamba(MambaConfig(**size, scan=scan))
    ours.load_state_dict(theirs.state_dict())
    tokens = torch.randint(1000, (1, 8 if quick else 128))
    return Pair(ours, theirs, lambda: ours(tokens).scores, lambda: theirs(tokens, use_cache=False).logits)


def mamba_chunked(quick: bool) -> Pair:
    """The same in chunks."""
    return mamba(quick, "chunked")


def moe(quick: bool) -> Pair:
    """A layer of experts, and transformers' of Mixtral."""
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    from nnkit_sequence.configs import MoEConfig
    from nnkit_sequence.moe import MixtureOfExperts

    size = {"hidden_size": 32 if quick else 512, "intermediate_size": 64 if quick else 1024}
    theirs = MixtralSparseMoeBlock(MixtralConfig(**size))
    ours = MixtureOfExperts(MoEConfig(**size))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 8 if quick else 128, size["hidden_size"])
    return Pair(ours, theirs, lambda: ours(x).y, lambda: theirs(x))


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
    "mamba": mamba,
    "mamba-chunked": mamba_chunked,
    "moe": moe,
    # densenet, mobilenet-v3, efficientnet, convnext, unet
    # vit, mixer, resmlp, clip
    # vae, vq-vae, dcgan
    # ddpm-unet
    # deepsets, set-transformer, graph-transformer
}
