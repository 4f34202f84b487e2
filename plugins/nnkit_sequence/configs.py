"""The options of the networks of sequences, such as text, sound and time series. Torch-free."""

from dataclasses import dataclass
from typing import Annotated, Literal

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
    """Options of `gpt2`, named as in the published config.json."""

    vocab_size: Annotated[int, Meta(ge=1, description="tokens in the vocabulary")] = 50257
    n_positions: Annotated[int, Meta(ge=1, description="the most tokens of a text")] = 1024
    n_embd: Annotated[int, Meta(ge=1, description="features of a token")] = 768
    n_layer: Annotated[int, Meta(ge=1, description="number of blocks")] = 12
    n_head: Annotated[int, Meta(ge=1, description="attention heads")] = 12
    dropout: Annotated[
        float,
        Meta(ge=0, le=1, description="fraction of embeddings, attention and branches dropped in training"),
    ] = 0.1

    def __post_init__(self) -> None:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd ({self.n_embd}) must be a multiple of n_head ({self.n_head})")


# ---- seq2seq-attention, tcn, wavenet


@dataclass(frozen=True, kw_only=True)
class Seq2SeqAttentionConfig:
    """Options of `seq2seq-attention`."""

    source_vocabulary: Annotated[int, Meta(ge=1, description="words of the source language")] = 1000
    target_vocabulary: Annotated[int, Meta(ge=1, description="words of the target language")] = 1000
    embedding_size: Annotated[int, Meta(ge=1, description="width of a word's embedding (m)")] = 64
    hidden_size: Annotated[
        int, Meta(ge=1, description="size of the decoder's state, and of the encoder's in each direction (n)")
    ] = 128
    alignment_size: Annotated[
        int, Meta(ge=1, description="width of the layer that compares a state with a source word (n')")
    ] = 128
    maxout_size: Annotated[
        int, Meta(ge=1, description="width of the layer below the scores, each the larger of two (l)")
    ] = 64


# ---- mamba, moe


@dataclass(frozen=True, kw_only=True)
class MambaConfig:
    """Options of `mamba`, with the names that transformers has."""

    vocab_size: Annotated[int, Meta(ge=2, description="tokens that there are")] = 50280
    hidden_size: Annotated[int, Meta(ge=1, description="features of a token")] = 768
    num_hidden_layers: Annotated[int, Meta(ge=1, description="layers")] = 24
    expand: Annotated[int, Meta(ge=1, description="channels of a layer, in multiples of hidden_size")] = 2
    state_size: Annotated[int, Meta(ge=1, description="numbers that each channel remembers")] = 16
    conv_kernel: Annotated[int, Meta(ge=2, description="tokens that the convolution sees")] = 4
    time_step_rank: Annotated[
        int, Meta(ge=0, description="rank of the step size; 0: hidden_size / 16, rounded up")
    ] = 0
    scan: Annotated[
        Literal["loop", "chunked"],
        Meta(description="step by step, or the steps of a chunk together; both compute the same"),
    ] = "loop"
    chunk_size: Annotated[int, Meta(ge=2, description="steps of a chunk")] = 16


@dataclass(frozen=True, kw_only=True)
class MoEConfig:
    """Options of `moe`."""

    hidden_size: Annotated[int, Meta(ge=1, description="features of a token")] = 256
    intermediate_size: Annotated[int, Meta(ge=1, description="units of an expert")] = 512
    experts: Annotated[int, Meta(ge=1, description="experts that there are")] = 8
    top_k: Annotated[int, Meta(ge=1, description="experts that each token is sent to")] = 2
    expert: Annotated[
        Literal["swiglu", "relu"], Meta(description="what an expert is: as in Mixtral, or as in the paper")
    ] = "swiglu"
    normalize: Annotated[
        bool, Meta(description="divide the weights of the chosen experts by their sum, so that they sum to 1")
    ] = True
    capacity_factor: Annotated[
        float,
        Meta(ge=0, description="seats at the experts, in multiples of those that are needed; 0: no limit"),
    ] = 0.0

    def __post_init__(self) -> None:
        if self.top_k > self.experts:
            raise ValueError(f"top_k must be at most experts, {self.experts}, got {self.top_k}")
        if self.normalize and self.top_k == 1 < self.experts:
            raise ValueError(
                "with top_k=1 and normalize each weight is 1, and the gate learns nothing from the output; "
                "turn off normalize"
            )
