"""GPT-2: a decoder that learns to continue text, and with it whatever continuing text requires.

Radford, Wu, Child, Luan, Amodei and Sutskever 2019, "Language Models are Unsupervised Multitask Learners",
https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf.
Its blocks are those of Radford et al. 2018 (GPT) with the norm moved to their input. Names, layouts and
initialization are those of GPT2LMHeadModel in transformers, whose state dicts load as they are.

    x = W_e[token] + W_p[position]
    x = x + attention(norm(x))         each block, 12 to 48 times
    x = x + W₂ gelu(W₁ norm(x))
    logits = W_e norm(x)               the embedding again: its head is tied

    attention(x) = W_o concat_h softmax(q_h k_hᵀ / √C + causal mask) v_h,   [q; k; v] = W x

B batch, P past tokens in the cache, T new tokens, S = P + T, D width, H heads, C = D / H.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnkit_sequence.configs import GPT2Config
from nnkit_sequence.decoding import KeyValue, Prediction, visible_tokens


class Conv1D(nn.Module):
    """A linear layer whose weight lies transposed, (in, out), as in the published files.

    OpenAI wrote it as a convolution with a kernel of one token, hence the name.
    """

    def __init__(self, in_features: int, out_features: int, std: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        nn.init.normal_(self.weight, std=std)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        return F.linear(x, self.weight.t(), self.bias)


class Attention(nn.Module):
    """Each new token gathers values from itself and the tokens before it."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.c_attn = Conv1D(config.width, 3 * config.width)
        self.c_proj = Conv1D(config.width, config.width, residual_std(config))
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, past: KeyValue | None, visible: Tensor | None) -> tuple[Tensor, KeyValue]:
        """x (B, T, D), keys and values of the past (B, H, P, C) → (B, T, D), and those of S (B, H, S, C)."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, C)
            for part in self.c_attn(x).chunk(3, dim=-1)
        )
        if past is not None:
            k, v = torch.cat((past.key, k), dim=2), torch.cat((past.value, v), dim=2)  # (B, H, S, C)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, visible, dropout, is_causal=visible is None)
        y = y.transpose(1, 2).flatten(2)  # (B, T, D)
        return self.resid_dropout(self.c_proj(y)), KeyValue(k, v)


class MLP(nn.Module):
    """Two linear layers, four times as wide between them: (B, T, D) → (B, T, D)."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.c_fc = Conv1D(config.width, 4 * config.width)
        self.c_proj = Conv1D(4 * config.width, config.width, residual_std(config))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return W₂ gelu(W₁ x)."""
        x = F.gelu(self.c_fc(x), approximate="tanh")  # (B, T, 4 D)
        return self.dropout(self.c_proj(x))


class Block(nn.Module):
    """Attention and MLP, each applied to the normalized input and added to the input."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.width)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, past: KeyValue | None, visible: Tensor | None) -> tuple[Tensor, KeyValue]:
        """x (B, T, D) and its past → x (B, T, D) and its present; see `Attention`."""
        change, present = self.attn(self.ln_1(x), past, visible)
        x = x + change
        x = x + self.mlp(self.ln_2(x))
        return x, present


class Body(nn.Module):
    """All but the head: token numbers (B, T) → features (B, T, D)."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocabulary, config.width)
        self.wpe = nn.Embedding(config.context, config.width)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.ln_f = nn.LayerNorm(config.width)
        nn.init.normal_(self.wte.weight, std=0.02)
        nn.init.normal_(self.wpe.weight, std=0.02)

    def forward(
        self,
        input_ids: Tensor,
        cache: list[KeyValue] | None,
        mask: Tensor | None,
        position_ids: Tensor | None,
    ) -> tuple[Tensor, list[KeyValue]]:
        """Return the features, and for each block the keys and values of all tokens."""
        time, past = input_ids.shape[1], cache[0].key.shape[2] if cache else 0
        visible = None  # nothing hides but the future: the kernel has a mask of its own for that
        if cache is not None or mask is not None:
            visible = visible_tokens(time, past, mask, input_ids.device)
        if position_ids is None:
            position_ids = torch.arange(past, past + time, device=input_ids.device)  # (T,)
        x = self.drop(self.wte(input_ids) + self.wpe(position_ids))  # (B, T, D)
        present = []
        for index, block in enumerate(self.h):
            x, seen = block(x, cache[index] if cache else None, visible)
            present.append(seen)
        return self.ln_f(x), present


class GPT2(nn.Module):
    """Token numbers (B, T) → logits (B, T, vocabulary) of the token after each, and the cache."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.transformer = Body(config)
        self.lm_head = nn.Linear(config.width, config.vocabulary, bias=False)
        self.lm_head.weight = self.transformer.wte.weight
        self.register_load_state_dict_pre_hook(accept_published_names)

    def forward(
        self,
        input_ids: Tensor,
        past_key_values: list[KeyValue] | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Prediction:
        """Return the logits, and the cache to give with the next tokens.

        past_key_values: the keys and values of P earlier tokens, as the last call returned them.
        attention_mask: (B, S), False at tokens that no other may see, such as padding.
        position_ids: (B, T), where each token stands; otherwise they follow the P in the cache.
        """
        x, present = self.transformer(input_ids, past_key_values, attention_mask, position_ids)  # (B, T, D)
        return Prediction(self.lm_head(x), present)


def residual_std(config: GPT2Config) -> float:
    """Return the spread of weights that end a residual branch.

    There are 2 branches a layer, and their sum would grow with their number: each is divided by its root.
    """
    return 0.02 / math.sqrt(2 * config.layers)


def accept_published_names(model: nn.Module, state: dict[str, Any], *_: object) -> None:
    """Rename the tensors of the file that OpenAI's weights are published in, before they are loaded.

    It was written from the body alone: names don't begin with `transformer.`, and the head is left out, which
    is the embedding. Its `attn.bias` is the causal mask, not a weight.
    """
    for name in list(state):
        if name.endswith((".attn.bias", ".attn.masked_bias")):
            del state[name]
        elif name.startswith(("wte.", "wpe.", "h.", "ln_f.")):
            state[f"transformer.{name}"] = state.pop(name)
    if "transformer.wte.weight" in state:
        state.setdefault("lm_head.weight", state["transformer.wte.weight"])
