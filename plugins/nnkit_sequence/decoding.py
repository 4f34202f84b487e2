"""What decoders with a cache share: the cache, which tokens each token may see, and a greedy continuation.

B batch, P past tokens in the cache, T new tokens, S = P + T, H heads of keys and values, C their features.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class KeyValue(NamedTuple):
    """What one layer keeps of the tokens that it has seen: two tensors (B, H, P, C)."""

    key: Tensor
    value: Tensor


class Prediction(NamedTuple):
    """What a decoder returns: logits (B, T, vocabulary) of each next token, and the cache of all S tokens."""

    logits: Tensor
    present: list[KeyValue]


def visible_tokens(time: int, past: int, mask: Tensor | None, device: torch.device) -> Tensor:
    """Return which tokens each new token may see: bool (T, S), or (B, 1, T, S) if there is a mask (B, S).

    It sees itself and what comes before it, without the tokens that are False in the mask. With P = 2, T = 3
    and a mask that is False at the first token, such as padding on the left:

        past   new
        - x    x - -
        - x    x x -
        - x    x x x

    A token that is masked itself still sees itself: a softmax over nothing would be NaN, and nobody reads
    the output there.
    """
    tokens = torch.arange(past + time, device=device)
    new = tokens[past:, None]
    if mask is None:
        return tokens <= new  # (T, S)
    return (tokens < new) & mask.bool()[:, None, None] | (tokens == new)  # (B, 1, T, S)


@torch.no_grad()
def continue_greedily(decoder: Callable[..., Prediction], input_ids: Tensor, steps: int) -> Tensor:
    """Return `input_ids` (B, T) followed by the likeliest token, `steps` times: (B, T + steps).

    The cache makes it quick: after the first call, each new token is all that is computed.
    """
    logits, cache = decoder(input_ids)
    continued = [input_ids]
    for step in range(steps):
        newest = logits[:, -1:].argmax(dim=-1)  # (B, 1)
        continued.append(newest)
        if step < steps - 1:
            logits, cache = decoder(newest, past_key_values=cache)
    return torch.cat(continued, dim=1)
