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


# ---- mamba, moe
