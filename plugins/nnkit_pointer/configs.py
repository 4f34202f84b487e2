"""The options of the pointer network."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta


@dataclass(frozen=True, kw_only=True)
class PointerNetworkConfig:
    """Options of `pointer-network`."""

    input_size: Annotated[int, Meta(ge=1, description="features of an element")] = 2
    hidden_size: Annotated[
        int, Meta(ge=1, description="width of the encoder, in each direction, and of the attention")
    ] = 256
    num_layers: Annotated[int, Meta(ge=1, description="layers of the encoder")] = 1
    bidirectional: Annotated[
        bool, Meta(description="read the elements in both directions; the decoder is then twice as wide")
    ] = False
    embedding_size: Annotated[
        int, Meta(ge=0, description="width of a linear embedding of the elements; 0 takes them as they are")
    ] = 0
    mask_chosen: Annotated[bool, Meta(description="point at each element once only")] = True
    padded: Annotated[
        bool, Meta(description="rows may be padded: also take `lengths`, the number of true elements of each")
    ] = False
    decoding: Annotated[
        Literal["greedy", "sampled", "teacher-forced"],
        Meta(
            description="how an element is picked: the likeliest; at random, from `noise`, a further input; "
            "or the one that `targets`, a further input, names"
        ),
    ] = "greedy"
