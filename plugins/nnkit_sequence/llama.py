"""Llama 3: a decoder with rotary positions, whose queries share keys and values in groups.

Grattafiori et al. 2024, "The Llama 3 Herd of Models", https://arxiv.org/abs/2407.21783. Its parts: RMSNorm
(Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467), rotary positions (Su et al. 2021,
https://arxiv.org/abs/2104.09864), grouped queries (Ainslie et al. 2023, https://arxiv.org/abs/2305.13245),
gated units (Shazeer 2020, https://arxiv.org/abs/2002.05202). Names and initialization are those of
LlamaForCausalLM in transformers, whose state dicts load as they are.

    x = E[token]
    x = x + attention(norm(x))                              each layer
    x = x + W_down (silu(W_gate norm(x)) ⊙ W_up norm(x))
    logits = W_head norm(x)

    norm(x) = g ⊙ x / √(mean x² + ε)
    attention(x) = W_o concat_h softmax(q_h k_gᵀ / √C + causal mask) v_g,    group g = ⌊h G / H⌋
    q = rotate(W_q x),  k = rotate(W_k x),  v = W_v x

    rotate turns each pair of features (x_i, x_{i + C/2}) by the angle position · θ^(-2i/C), so that a product
    q·k depends only on the distance of the two tokens.

B batch, P past tokens in the cache, T new tokens, S = P + T, D width, H query heads, G key heads, C = D / H.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnkit_sequence.configs import LlamaConfig
from nnkit_sequence.decoding import KeyValue, Prediction, visible_tokens


def rotary_angles(positions: Tensor, features: int, config: LlamaConfig) -> Tensor:
    """Return by how much to turn each pair of features at each position (T,): (T, C / 2).

    They are float32 for any dtype of the model: bfloat16 can't tell position 257 from 256.
    """
    pairs = torch.arange(0, features, 2, device=positions.device, dtype=torch.float32) / features
    rates = 1 / config.rope_theta**pairs  # radians per token
    if config.rope_factor > 1:
        rates = stretched(rates, config)
    return torch.outer(positions.float(), rates)


def stretched(rates: Tensor, config: LlamaConfig) -> Tensor:
    """Return the rates (C / 2,) of a model whose context was stretched after its training, as in Llama 3.1.

    Pairs that turn 4 times or more within the old context tell near tokens apart, and keep their rate. Those
    that turn less than once tell far ones apart, and turn `rope_factor` times as slowly: no angle is new to
    the model. Between them the rate goes from one to the other:

        turns in the old context    0.5    1      2      4      8
        rate at factor 8            1/8    1/8    0.42   1      1      times what it was
    """
    turns = config.rope_context * rates / (2 * math.pi)
    kept = ((turns - 1) / (4 - 1)).clamp(0, 1)
    return kept * rates + (1 - kept) * rates / config.rope_factor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs of features of x (B, heads, T, C); cos and sin are (T, C / 2)."""
    one, other = x.chunk(2, dim=-1)  # (B, heads, T, C / 2)
    return torch.cat((one * cos - other * sin, other * cos + one * sin), dim=-1)  # (B, heads, T, C)


class Attention(nn.Module):
    """Each new token gathers values from itself and the tokens before it; H / G queries share a key."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        width, self.features = config.width, config.width // config.heads
        self.q_proj = nn.Linear(width, config.heads * self.features, bias=False)
        self.k_proj = nn.Linear(width, config.kv_heads * self.features, bias=False)
        self.v_proj = nn.Linear(width, config.kv_heads * self.features, bias=False)
        self.o_proj = nn.Linear(config.heads * self.features, width, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, past: KeyValue | None, visible: Tensor | None
    ) -> tuple[Tensor, KeyValue]:
        """x (B, T, D), keys and values of the past (B, G, P, C) → (B, T, D), and those of S (B, G, S, C)."""
        q, k, v = (
            project(x).unflatten(-1, (-1, self.features)).transpose(1, 2)  # (B, H or G, T, C)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if past is not None:
            k, v = torch.cat((past.key, k), dim=2), torch.cat((past.value, v), dim=2)  # (B, G, S, C)
        y = F.scaled_dot_product_attention(q, k, v, visible, is_causal=visible is None, enable_gqa=True)
        return self.o_proj(y.transpose(1, 2).flatten(2)), KeyValue(k, v)  # (B, T, D)


class MLP(nn.Module):
    """A gated unit: (B, T, D) → (B, T, D)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.up_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.down_proj = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return W_down (silu(W_gate x) ⊙ W_up x)."""
        y: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return y


class Layer(nn.Module):
    """Attention and MLP, each applied to the normalized input and added to the input."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = nn.RMSNorm(config.width, eps=1e-5)
        self.post_attention_layernorm = nn.RMSNorm(config.width, eps=1e-5)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, past: KeyValue | None, visible: Tensor | None
    ) -> tuple[Tensor, KeyValue]:
        """x (B, T, D) and its past → x (B, T, D) and its present; see `Attention`."""
        change, present = self.self_attn(self.input_layernorm(x), cos, sin, past, visible)
        x = x + change
        x = x + self.mlp(self.post_attention_layernorm(x))
        return x, present


class Body(nn.Module):
    """All but the head: token numbers (B, T) → features (B, T, D)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=1e-5)

    def forward(
        self, input_ids: Tensor, cache: list[KeyValue] | None, mask: Tensor | None
    ) -> tuple[Tensor, list[KeyValue]]:
        """Return the features, and for each layer the keys and values of all tokens."""
        time, past = input_ids.shape[1], cache[0].key.shape[2] if cache else 0
        visible = None  # nothing hides but the future: the kernel has a mask of its own for that
        if cache is not None or mask is not None:
            visible = visible_tokens(time, past, mask, input_ids.device)
        x = self.embed_tokens(input_ids)  # (B, T, D)
        positions = torch.arange(past, past + time, device=x.device)
        angles = rotary_angles(positions, self.config.width // self.config.heads, self.config)  # (T, C / 2)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        present = []
        for index, layer in enumerate(self.layers):
            x, seen = layer(x, cos, sin, cache[index] if cache else None, visible)
            present.append(seen)
        return self.norm(x), present


class Llama(nn.Module):
    """Token numbers (B, T) → logits (B, T, vocabulary) of the token after each, and the cache."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.model = Body(config)
        self.lm_head = nn.Linear(config.width, config.vocabulary, bias=False)
        if config.tied:
            self.lm_head.weight = self.model.embed_tokens.weight
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)

    def forward(
        self,
        input_ids: Tensor,
        past_key_values: list[KeyValue] | None = None,
        attention_mask: Tensor | None = None,
    ) -> Prediction:
        """Return the logits, and the cache to give with the next tokens.

        past_key_values: the keys and values of P earlier tokens, as the last call returned them.
        attention_mask: (B, S), False at tokens that no other may see, such as padding. On which side it is
            doesn't matter, for only distances do.
        """
        x, present = self.model(input_ids, past_key_values, attention_mask)  # (B, T, D)
        return Prediction(self.lm_head(x), present)
