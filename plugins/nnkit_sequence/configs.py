"""The options of the networks of sequences, such as text, sound and time series. Torch-free."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

# ---- transformer, bert


# ---- gpt2, llama


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


# ---- mamba, moe
