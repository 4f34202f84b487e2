"""BERT: an encoder in which every token sees those on both sides, trained to fill in what was hidden.

Devlin, Chang, Lee and Toutanova 2018, "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding", https://arxiv.org/abs/1810.04805. Names, initialization and arithmetic are those of BertModel
in transformers, whose state dicts load as they are.

    x  = norm(E[token] + P[position] + S[token type])
    x  = norm(x + W_o attention(W_q x, W_k x, W_v x))       attention(Q, K, V) = softmax(Q Kᵀ / √d) V
    x  = norm(x + W₂ gelu(W₁ x))                            gelu(x) = x Φ(x), Φ by the error function
    pooled = tanh(W_p x₀)                                   x₀ is the first token, [CLS]

Token types distinguish the two sentences of a pair. B batch, T time, D width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnkit_sequence.configs import BertConfig


class BertOutput(NamedTuple):
    """What BERT returns: a vector for each token (B, T, D), and one for the whole text (B, D)."""

    last_hidden_state: Tensor
    pooler_output: Tensor


class Embeddings(nn.Module):
    """Tokens (B, T) and their types (B, T), all 0 if there are none → x (B, T, D)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        # As in the reference, token 0 is padding: it begins as zeros and isn't trained.
        self.word_embeddings = nn.Embedding(config.vocabulary, config.width, padding_idx=0)
        self.position_embeddings = nn.Embedding(config.context, config.width)
        self.token_type_embeddings = nn.Embedding(config.token_types, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, token_types: Tensor | None) -> Tensor:
        """Return the normalized sum of the three embeddings."""
        types = self.token_type_embeddings
        x = self.word_embeddings(tokens)  # (B, T, D)
        x = x + (types.weight[0] if token_types is None else types(token_types))
        x = x + self.position_embeddings.weight[: tokens.shape[1]]
        embedded: Tensor = self.dropout(self.LayerNorm(x))
        return embedded


class SelfAttention(nn.Module):
    """Attention of x (B, T, D) on itself; mask (B, 1, 1, T), False at tokens that nobody may look at."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.dropout = config.dropout

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return what each token found: (B, T, D)."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, D / heads)
            for layer in (self.query, self.key, self.value)
        )
        dropout = self.dropout if self.training else 0.0
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return found.transpose(1, 2).flatten(-2)


class Residual(nn.Module):
    """norm(x + W change): what ends both halves of a layer. change (B, T, size), x (B, T, D)."""

    def __init__(self, size: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(size, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, change: Tensor, x: Tensor) -> Tensor:
        """Return x (B, T, D), changed and normalized."""
        changed: Tensor = self.LayerNorm(x + self.dropout(self.dense(change)))
        return changed


class Layer(nn.Module):
    """x (B, T, D) → x (B, T, D)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": SelfAttention(config), "output": Residual(config.width, config)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.width, config.hidden)})
        self.output = Residual(config.hidden, config)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Let each token look at the others, and then think for itself."""
        x = self.attention["output"](self.attention["self"](x, mask), x)
        hidden = F.gelu(self.intermediate["dense"](x))  # (B, T, hidden)
        changed: Tensor = self.output(hidden, x)
        return changed


class Bert(nn.Module):
    """input_ids (B, T) → `BertOutput`. token_type_ids and attention_mask are (B, T) too.

    The mask is 0 or False at padding, 1 or True elsewhere.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(config) for _ in range(config.layers))})
        self.pooler = nn.ModuleDict({"dense": nn.Linear(config.width, config.width)})
        self.apply(initialize)
        self.register_load_state_dict_pre_hook(take_published_layout)

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor | None = None, attention_mask: Tensor | None = None
    ) -> BertOutput:
        """Return a vector for each token, and one for the whole text."""
        mask = None if attention_mask is None else attention_mask.bool()[:, None, None]  # (B, 1, 1, T)
        x = self.embeddings(input_ids, token_type_ids)  # (B, T, D)
        for layer in self.encoder["layer"]:
            x = layer(x, mask)
        return BertOutput(x, torch.tanh(self.pooler["dense"](x[:, 0])))


def initialize(module: nn.Module) -> None:
    """Draw weights from a normal distribution of 0.02; biases, and the embedding of padding, are 0."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()


def take_published_layout(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Rename what a published file calls otherwise, before it is loaded.

    A file of a whole task, such as bert-base-uncased, has `bert.` before each name of this network, and the
    head for the task beside it: `cls.predictions.bias`. The head is left out. Files that began in TensorFlow
    call the weight and bias of a norm gamma and beta. Old files hold the numbers of all positions.

        bert.embeddings.LayerNorm.gamma  →  embeddings.LayerNorm.weight
        bert.embeddings.position_ids     →  left out
        cls.predictions.bias             →  left out
    """
    names = [name for name in state_dict if name.startswith(prefix)]
    start = f"{prefix}bert." if any(name.startswith(f"{prefix}bert.") for name in names) else prefix
    for name in names:
        tensor = state_dict.pop(name)
        if not name.startswith(start) or name == f"{start}embeddings.position_ids":
            continue
        own = name[len(start) :]
        own = own.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        state_dict[prefix + own] = tensor
