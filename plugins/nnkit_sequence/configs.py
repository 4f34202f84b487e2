"""The options of the networks of sequences, such as text, sound and time series. Torch-free."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

# ---- transformer, bert


# ---- gpt2, llama


# ---- seq2seq-attention, tcn, wavenet


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
