"""Pairs of a network of the modern zoo and its reference, of the same size and with the same weights.

Each case is a function of `quick` (as small as it goes, to see that it works) that returns a `Pair`.
"""

import copy
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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


class TorchTransformer(nn.Module):
    """torch.nn.Transformer between the embedding and the head of ours."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        sizes = (config.width, config.heads, config.layers, config.layers, config.hidden)
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.transformer = nn.Transformer(*sizes, dropout=config.dropout, batch_first=True)

    def embed(self, tokens: Tensor) -> Tensor:
        from nnkit_sequence.transformer import positions

        x = self.embedding(tokens)
        return x * math.sqrt(x.shape[-1]) + positions(tokens.shape[1], x)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        y = self.transformer(self.embed(source), self.embed(target), tgt_mask=causal, tgt_is_causal=True)
        return nn.functional.linear(y, self.embedding.weight)


def transformer(quick: bool) -> Pair:
    """The base model of the paper, with a small vocabulary: its embedding and head are no difference."""
    from nnkit_sequence.configs import TransformerConfig
    from nnkit_sequence.transformer import Transformer

    config = TransformerConfig(vocabulary=1000, layers=1 if quick else 6, dropout=0, final_norm=True)
    ours, theirs = Transformer(config), TorchTransformer(config)
    ours.load_state_dict(theirs.transformer.state_dict(), strict=False)
    theirs.embedding.load_state_dict(ours.embedding.state_dict())
    source, target = torch.randint(1000, (4, 64)), torch.randint(1000, (4, 48))
    return Pair(ours, theirs, lambda: ours(source, target), lambda: theirs(source, target))


def bert(quick: bool) -> Pair:
    """bert-base-uncased with padded texts; theirs by the same fused attention."""
    import transformers

    from nnkit_sequence.bert import Bert
    from nnkit_sequence.configs import BertConfig

    config = BertConfig(layers=1 if quick else 12, dropout=0)
    settings = transformers.BertConfig(
        num_hidden_layers=config.layers, hidden_dropout_prob=0, attention_probs_dropout_prob=0
    )
    theirs = transformers.BertModel._from_config(settings, attn_implementation="sdpa")
    ours = Bert(config)
    ours.load_state_dict(theirs.state_dict())
    mask = torch.ones(2, 128, dtype=torch.int64)
    mask[1, 100:] = 0
    texts = {"input_ids": torch.randint(1, config.vocabulary, (2, 128)), "attention_mask": mask}
    return Pair(
        ours,
        theirs,
        lambda: ours(**texts).last_hidden_state,
        lambda: theirs(**texts).last_hidden_state,
    )


# ---- gpt2, llama


def gpt2(quick: bool) -> Pair:
    """GPT-2 of 4 blocks as wide as the smallest published one, on whole texts."""
    return whole_texts(*_gpt2(quick))


def gpt2_step(quick: bool) -> Pair:
    """The same for one more token after 128 in the cache."""
    return next_token(*_gpt2(quick))


def _gpt2(quick: bool) -> tuple[nn.Module, nn.Module]:
    from transformers import GPT2Config, GPT2LMHeadModel

    layers, width, heads = (1, 16, 2) if quick else (4, 768, 12)
    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=1000, n_embd=width, n_layer=layers, n_head=heads, bos_token_id=0, eos_token_id=0
        )
    )
    ours = nnkit.build("gpt2", vocabulary=1000, width=width, layers=layers, heads=heads)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def llama(quick: bool) -> Pair:
    """Llama of 4 layers of 512 features, on whole texts."""
    return whole_texts(*_llama(quick))


def llama_step(quick: bool) -> Pair:
    """The same for one more token after 128 in the cache."""
    return next_token(*_llama(quick))


def _llama(quick: bool) -> tuple[nn.Module, nn.Module]:
    from transformers import LlamaConfig, LlamaForCausalLM

    layers, width, heads = (1, 16, 4) if quick else (4, 512, 8)
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=1000,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads // 4,
            rms_norm_eps=1e-5,
        )
    )
    ours = nnkit.build(
        "llama",
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads // 4,
        hidden=4 * width,
        rope_theta=1e4,
    )
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def whole_texts(ours: nn.Module, theirs: nn.Module) -> Pair:
    """Return decoders on 4 texts of 128 tokens."""
    tokens = torch.randint(1000, (4, 128))
    return Pair(ours, theirs, lambda: ours(tokens).logits, lambda: theirs(tokens).logits)


def next_token(ours: nn.Module, theirs: nn.Module) -> Pair:
    """Return decoders on one more token of 4 texts, with the 128 before in the cache."""
    from transformers import DynamicCache

    tokens, new = torch.randint(1000, (4, 128)), torch.randint(1000, (4, 1))
    with torch.no_grad():
        past = ours.eval()(tokens).present

    def call_theirs() -> Tensor:
        return theirs(new, cache=DynamicCache(past), use_cache=True).logits  # a call appends to its cache

    return Pair(ours, theirs, lambda: ours(new, past_key_values=past).logits, call_theirs)


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


def vit(quick: bool) -> Pair:
    """ViT-B/16 beside torchvision's."""
    from torchvision.models import vit_b_16

    from nnkit_vision.configs import ViT16Config
    from nnkit_vision.vit import vit_b_16 as our_vit

    size = 32 if quick else 224
    ours, theirs = our_vit(ViT16Config(image_size=size)), vit_b_16(image_size=size)
    return of_images(ours, theirs, torch.randn(1 if quick else 2, 3, size, size))


def mixer(quick: bool) -> Pair:
    """Mixer-B/16 beside timm's."""
    import timm

    from nnkit_vision.configs import Patches16Config
    from nnkit_vision.mixer import mixer_b_16

    size = 32 if quick else 224
    ours = mixer_b_16(Patches16Config(image_size=size))
    theirs = timm.create_model("mixer_b16_224", img_size=size)
    return of_images(ours, theirs, torch.randn(1 if quick else 2, 3, size, size))


def resmlp(quick: bool) -> Pair:
    """ResMLP-S12 beside timm's."""
    import timm

    from nnkit_vision.configs import Patches16Config
    from nnkit_vision.resmlp import resmlp_12

    size = 32 if quick else 224
    ours = resmlp_12(Patches16Config(image_size=size))
    theirs = timm.create_model("resmlp_12_224", img_size=size)
    return of_images(ours, theirs, torch.randn(1 if quick else 4, 3, size, size))


def of_images(ours: nn.Module, theirs: nn.Module, images: Tensor) -> Pair:
    """Return the pair of two classifiers, with heads that aren't zero."""
    for name, parameter in theirs.named_parameters():
        if name.startswith("head"):
            nn.init.normal_(parameter)
    ours.load_state_dict(theirs.state_dict())
    return Pair(ours, theirs, lambda: ours(images), lambda: theirs(images))


def clip(quick: bool) -> Pair:
    """CLIP of the size ViT-B/32 beside transformers', with texts as long as they may be."""
    from transformers import CLIPConfig, CLIPModel

    from nnkit_vision.clip import CLIP
    from nnkit_vision.configs import CLIPConfig as OurConfig

    blocks, count = (1, 1) if quick else (12, 4)
    ours = CLIP(OurConfig(vision_blocks=blocks, text_blocks=blocks))
    towers = {"num_hidden_layers": blocks}
    theirs = CLIPModel(CLIPConfig(text_config=towers, vision_config=towers))
    ours.load_state_dict(theirs.state_dict())
    ids, images = torch.randint(0, 49407, (count, 77)), torch.randn(count, 3, 224, 224)
    ids[:, -1] = 49407
    return Pair(
        ours,
        theirs,
        lambda: ours(ids, images).logits_per_image,
        lambda: theirs(ids, images).logits_per_image,
    )


# ---- ddpm-unet


def ddpm_unet(quick: bool) -> Pair:
    """The CIFAR-10 network of the paper, half as wide, beside diffusers'."""
    import diffusers

    channels, batch = (32, 1) if quick else (64, 4)
    theirs = diffusers.UNet2DModel(
        block_out_channels=tuple(channels * multiplier for multiplier in (1, 2, 2, 2)),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
    )
    ours = nnkit.build(nnkit.resolve("ddpm-unet", channels=channels, dropout=0.0))
    ours.load_state_dict(theirs.state_dict())
    image, timestep = torch.randn(batch, 3, 32, 32), torch.randint(1000, (batch,))
    return Pair(ours, theirs, lambda: ours(image, timestep), lambda: theirs(image, timestep).sample)


# ---- deepsets, set-transformer, graph-transformer


def deepsets(quick: bool) -> Pair:
    """Deep Sets beside PyG's aggregation, which takes the elements of all sets in one list."""
    from torch_geometric.nn.aggr import DeepSetsAggregation

    width, batch, elements = (8, 2, 5) if quick else (256, 64, 100)
    ours = nnkit.build("deepsets", phi_sizes=(width, width), rho_sizes=(width,))
    theirs = DeepSetsAggregation(nn.Sequential(*copy.deepcopy(ours.phi)), copy.deepcopy(ours.ro))
    x = torch.randn(batch, elements, 3)
    index = torch.arange(batch).repeat_interleave(elements)
    return Pair(ours, theirs, lambda: ours(x), lambda: theirs(x.flatten(0, 1), index, dim_size=batch))


def set_transformer(quick: bool) -> Pair:
    """The Set Transformer beside the same blocks of PyG's, which have one projection and one layer more each."""
    from torch_geometric.nn.aggr.utils import (
        InducedSetAttentionBlock,
        PoolingByMultiheadAttention,
        SetAttentionBlock,
    )

    width, batch, elements = (8, 2, 5) if quick else (128, 16, 300)
    ours = nnkit.build("set-transformer", in_features=width, hidden_features=width)
    options = {"heads": 4, "layer_norm": False}
    theirs = nn.Sequential(
        *(InducedSetAttentionBlock(width, 32, **options) for _ in range(2)),
        PoolingByMultiheadAttention(width, 4, **options),
        *(SetAttentionBlock(width, **options) for _ in range(2)),
        nn.Linear(width, 4),
    )
    x = torch.randn(batch, elements, width)
    return Pair(ours, theirs, lambda: ours(x), lambda: theirs(x))


def graph_transformer(quick: bool) -> Pair:
    """The Graph Transformer beside layers of PyG's TransformerConv."""
    from torch_geometric.nn import TransformerConv

    class PyG(nn.Module):
        """The same network of PyG's layers."""

        def __init__(self) -> None:
            super().__init__()
            options = {"heads": 4, "beta": True, "dropout": 0.3}
            self.convs = nn.ModuleList([
                TransformerConv(64, width // 4, **options),
                TransformerConv(width, width // 4, **options),
                TransformerConv(width, 7, concat=False, **options),
            ])  # fmt: skip
            self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            """Return the scores."""
            for conv, norm in zip(self.convs, self.norms, strict=False):
                x = norm(conv(x, edge_index)).relu()
                x = nn.functional.dropout(x, 0.3, self.training)
            return self.convs[-1](x, edge_index)

    width, nodes, edges = (8, 10, 20) if quick else (64, 2700, 10_600)
    ours = nnkit.build("graph-transformer", in_channels=64, hidden_channels=width, num_classes=7)
    theirs = PyG()
    theirs.load_state_dict(ours.state_dict())
    x, edge_index = torch.randn(nodes, 64), torch.randint(nodes, (2, edges))
    return Pair(ours, theirs, lambda: ours(x, edge_index), lambda: theirs(x, edge_index))


CASES: dict[str, Callable[[bool], Pair]] = {
    "mlp": mlp,
    "transformer": transformer,
    "bert": bert,
    "gpt2": gpt2,
    "gpt2-step": gpt2_step,
    "llama": llama,
    "llama-step": llama_step,
    "mamba": mamba,
    "mamba-chunked": mamba_chunked,
    "moe": moe,
    "densenet121": densenet121,
    "mobilenet-v3-small": mobilenet_v3_small,
    "efficientnet-b0": efficientnet_b0,
    "convnext-tiny": convnext_tiny,
    "vit": vit,
    "mixer": mixer,
    "resmlp": resmlp,
    "clip": clip,
    "ddpm-unet": ddpm_unet,
    "deepsets": deepsets,
    "set-transformer": set_transformer,
    "graph-transformer": graph_transformer,
}
