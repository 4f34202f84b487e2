"""The options of the networks of sequences, such as text, sound and time series. Torch-free."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

# ---- transformer, bert


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Options of `transformer`. The defaults are the base model of the paper."""

    vocabulary: Annotated[int, Meta(ge=1, description="tokens that source and target share")] = 37000
    width: Annotated[int, Meta(ge=2, multiple_of=2, description="features of a token, d_model")] = 512
    layers: Annotated[int, Meta(ge=1, description="layers of the encoder, and of the decoder, N")] = 6
    heads: Annotated[int, Meta(ge=1, description="attention heads, h; they divide the width")] = 8
    hidden: Annotated[int, Meta(ge=1, description="hidden units of a feed-forward layer, d_ff")] = 2048
    dropout: Annotated[float, Meta(ge=0, le=1, description="fraction of values dropped in training")] = 0.1
    final_norm: Annotated[
        bool, Meta(description="also normalize behind both stacks, as torch.nn.Transformer does")
    ] = False

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads can't share a width of {self.width}: it is no multiple")


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """Options of `bert`. The defaults are those of bert-base-uncased."""

    vocabulary: Annotated[int, Meta(ge=1, description="known tokens, with [PAD] as number 0")] = 30522
    context: Annotated[int, Meta(ge=1, description="the most tokens of a text")] = 512
    token_types: Annotated[
        int, Meta(ge=1, description="kinds of tokens, such as the sentences of a pair")
    ] = 2
    width: Annotated[int, Meta(ge=1, description="features of a token, H")] = 768
    layers: Annotated[int, Meta(ge=1, description="encoder layers, L")] = 12
    heads: Annotated[int, Meta(ge=1, description="attention heads, A; they divide the width")] = 12
    hidden: Annotated[int, Meta(ge=1, description="hidden units of a feed-forward layer, 4H")] = 3072
    dropout: Annotated[float, Meta(ge=0, le=1, description="fraction of values dropped in training")] = 0.1

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads can't share a width of {self.width}: it is no multiple")


# ---- gpt2, llama


@dataclass(frozen=True, kw_only=True)
class GPT2Config:
    """Options of `gpt2`. The defaults are those of the smallest published one."""

    vocabulary: Annotated[int, Meta(ge=1, description="known tokens")] = 50257
    context: Annotated[int, Meta(ge=1, description="the most tokens of a text")] = 1024
    width: Annotated[int, Meta(ge=1, description="features of a token")] = 768
    layers: Annotated[int, Meta(ge=1, description="number of blocks")] = 12
    heads: Annotated[int, Meta(ge=1, description="attention heads")] = 12
    dropout: Annotated[
        float,
        Meta(ge=0, le=1, description="fraction of embeddings, attention and branches dropped in training"),
    ] = 0.1

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads can't share a width of {self.width}: it is no multiple")


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """Options of `llama`. The defaults are small enough to train on a laptop."""

    vocabulary: Annotated[int, Meta(ge=1, description="known tokens")] = 1000
    width: Annotated[int, Meta(ge=1, description="features of a token")] = 256
    layers: Annotated[int, Meta(ge=1, description="number of layers")] = 4
    heads: Annotated[int, Meta(ge=1, description="query heads; they divide the width evenly")] = 8
    kv_heads: Annotated[int, Meta(ge=1, description="key and value heads; they divide the query heads")] = 4
    hidden: Annotated[int, Meta(ge=1, description="hidden units of a feed-forward layer")] = 688
    tied: Annotated[bool, Meta(description="the head is the embedding, as in 1B and 3B")] = False
    rope_theta: Annotated[float, Meta(gt=1, description="base of the rotary rates")] = 500_000.0
    rope_factor: Annotated[
        float, Meta(ge=1, description="how much further than it was trained for the context reaches")
    ] = 1.0
    rope_context: Annotated[
        int, Meta(ge=1, description="tokens that it was trained for, before the context was stretched")
    ] = 8192

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"{self.heads} heads of an even number of features can't share a width of {self.width}"
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} query heads can't share {self.kv_heads} key heads evenly")


# ---- seq2seq-attention, tcn, wavenet


# ---- mamba, moe
