"""The options of the networks of sequences, such as text, sound and time series. Torch-free."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

# ---- transformer, bert


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


# ---- mamba, moe
