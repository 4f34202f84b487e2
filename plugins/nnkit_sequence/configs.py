"""The options of the networks of sequences, such as text, sound and time series. Torch-free."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta


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


@dataclass(frozen=True, kw_only=True)
class TCNConfig:
    """Options of `tcn`. The defaults are those of the authors for pixels of MNIST, one by one."""

    input_size: Annotated[int, Meta(ge=1, description="features per step")] = 1
    output_size: Annotated[int, Meta(ge=1, description="scores per step")] = 10
    channels: Annotated[int, Meta(ge=1, description="channels of each block")] = 25
    levels: Annotated[
        int, Meta(ge=1, le=20, description="blocks; the dilation doubles from each to the next")
    ] = 8
    kernel_size: Annotated[int, Meta(ge=1, description="steps that a convolution sees (k)")] = 7
    dropout: Annotated[float, Meta(ge=0, lt=1, description="fraction of values dropped in training")] = 0.05


@dataclass(frozen=True, kw_only=True)
class WaveNetConfig:
    """Options of `wavenet`."""

    levels: Annotated[int, Meta(ge=2, description="levels of a quantized sample (μ + 1)")] = 256
    layers: Annotated[
        int, Meta(ge=1, le=20, description="layers of a stack; the dilation doubles from each to the next")
    ] = 10
    stacks: Annotated[int, Meta(ge=1, description="times that the dilation starts again at 1")] = 3
    kernel_size: Annotated[int, Meta(ge=1, description="samples that a convolution sees")] = 2
    residual_channels: Annotated[int, Meta(ge=1, description="channels between the layers")] = 32
    dilation_channels: Annotated[int, Meta(ge=1, description="channels of the filter and of the gate")] = 32
    skip_channels: Annotated[int, Meta(ge=1, description="channels of the sum that the scores follow")] = 256
    speakers: Annotated[
        int, Meta(ge=0, description="speakers to choose from, by an input `speaker`; 0 for no such input")
    ] = 0
    features: Annotated[
        int, Meta(ge=0, description="numbers that describe each sample, as an input `features`; 0 for none")
    ] = 0


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
