"""The options of the pointer network."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta


@dataclass(frozen=True, kw_only=True)
class PointerNetworkConfig:
    """Options of `pointer-network`."""

    input_size: Annotated[int, Meta(ge=1, description="features per element")] = 2
    hidden_size: Annotated[
        int, Meta(ge=1, description="width of the encoder in each direction, and of the attention")
    ] = 256
    num_layers: Annotated[int, Meta(ge=1, description="encoder layers")] = 1
    bidirectional: Annotated[
        bool, Meta(description="read the elements in both directions; this doubles the width of the decoder")
    ] = False
    embedding_size: Annotated[
        int, Meta(ge=0, description="width of a linear embedding of the elements; 0 for none")
    ] = 0
    mask_chosen: Annotated[bool, Meta(description="point at each element only once")] = True
    padded: Annotated[
        bool, Meta(description="add an input `lengths`, the number of real elements in each padded row")
    ] = False
    decoding: Annotated[
        Literal["greedy", "sampled", "teacher-forced"],
        Meta(
            description="which element to pick: the likeliest (greedy), a random one (sampled, with an input "
            "`noise`), or a given one (teacher-forced, with an input `targets`)"
        ),
    ] = "greedy"
