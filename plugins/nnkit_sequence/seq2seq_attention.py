"""Sequence to sequence with attention: a decoder that looks back at the source before each word it writes.

Bahdanau, Cho and Bengio 2014, "Neural Machine Translation by Jointly Learning to Align and Translate",
https://arxiv.org/abs/1409.0473. The network is called RNNsearch there.

    annotation  h_j = [h→_j ; h←_j]    h→_j = GRU(E x_j, h→_{j-1})    h←_j = GRU(E x_j, h←_{j+1})
    start       s_0 = tanh(W_s h←_1)
    alignment   e_ij = v_aᵀ tanh(W_a s_{i-1} + U_a h_j)               α_ij = softmax_j(e_ij)
    context     c_i = Σ_j α_ij h_j
    state       r_i, z_i = σ(W_r E y_{i-1} + U_r s_{i-1} + C_r c_i), likewise z
                s̃_i = tanh(W E y_{i-1} + U (r_i ⊙ s_{i-1}) + C c_i)
                s_i = (1 - z_i) ⊙ s̃_i + z_i ⊙ s_{i-1}
    output      t̃_i = U_o s_{i-1} + V_o E y_{i-1} + C_o c_i           t_ik = max(t̃_i,2k-1 , t̃_i,2k)
                p(y_i | y_1 ... y_{i-1}, x) = softmax(W_o t_i)

A network without attention squeezes the source into one vector, however long it is. Here each word of the
target has a vector of its own, c_i: the mean of the annotations, weighted by how well they fit the state.
The weights α are an output, because they show which source words each target word came from.

B is the batch, S the words of the source, T those of the target, E the width of an embedding (m in the
paper), H that of a state (n), A that of the alignment (n'), L that of the output (l).
"""

import math

import torch
from torch import Tensor, nn

from nnkit_pointer.pointer_network import Stepped, Tensors, unroll
from nnkit_recurrent.gru import GRU
from nnkit_sequence.configs import Seq2SeqAttentionConfig


class Alignment(nn.Module):
    """How well each annotation fits a state: weights that sum to 1 over the words of the source."""

    def __init__(self, state_size: int, annotation_size: int, hidden_size: int) -> None:
        super().__init__()
        self.W_a = nn.Linear(state_size, hidden_size, bias=False)
        self.U_a = nn.Linear(annotation_size, hidden_size)
        self.v_a = nn.Linear(hidden_size, 1, bias=False)

    def forward(self, state: Tensor, keys: Tensor, is_word: Tensor | None) -> Tensor:
        """Return the weights (B, S) for a state (B, H) and keys U_a h_j (B, S, A), 0 outside of `is_word`."""
        hidden = torch.tanh(self.W_a(state).unsqueeze(1) + keys)  # (B, S, A)
        energies: Tensor = self.v_a(hidden).squeeze(2)  # (B, S)
        if is_word is not None:
            energies = energies.masked_fill(~is_word, -math.inf)
        return energies.softmax(dim=1)


class GatedUnit(nn.Module):
    """One step of the decoder's GRU. The reset gate acts before the product with U, as in the paper."""

    def __init__(self, input_size: int, state_size: int) -> None:
        super().__init__()
        self.W = nn.Linear(input_size, 3 * state_size)  # W and C of both gates and of the candidate
        self.U_gates = nn.Linear(state_size, 2 * state_size, bias=False)
        self.U = nn.Linear(state_size, state_size, bias=False)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """Return the next state (B, H) for an input x (B, input_size) and a state (B, H)."""
        reset, update, candidate = self.W(x).chunk(3, dim=1)  # (B, H) each
        from_reset, from_update = self.U_gates(state).chunk(2, dim=1)
        r, z = torch.sigmoid(reset + from_reset), torch.sigmoid(update + from_update)
        candidate = torch.tanh(candidate + self.U(r * state))
        return (1 - z) * candidate + z * state


class Seq2SeqAttention(nn.Module):
    """source (B, S), target (B, T) and lengths (B,) -> scores (B, T, target_vocabulary), weights α (B, T, S).

    target holds y_0 ... y_{T-1}, where y_0 is a start symbol; scores[:, i] are those of the word after
    target[:, i]. lengths: the words of each source; the rest of its row is padding.
    """

    def __init__(self, config: Seq2SeqAttentionConfig) -> None:
        super().__init__()
        width, state, annotation = config.embedding_size, config.hidden_size, 2 * config.hidden_size
        self.source_embedding = nn.Embedding(config.source_vocabulary, width)
        self.target_embedding = nn.Embedding(config.target_vocabulary, width)
        self.encoder = GRU(width, state, batch_first=True, bidirectional=True, reset="before")
        self.start = nn.Linear(state, state)  # W_s
        self.alignment = Alignment(state, annotation, config.alignment_size)
        self.decoder = GatedUnit(width + annotation, state)
        self.maxout = nn.Linear(state + width + annotation, 2 * config.maxout_size)  # U_o, V_o and C_o
        self.output = nn.Linear(config.maxout_size, config.target_vocabulary)  # W_o

    def forward(self, source: Tensor, target: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # Each direction ends at its last word, so the backward one ends with h←_1.
        annotations, (_, backward) = self.encoder(self.source_embedding(source), None, lengths)
        keys = self.alignment.U_a(annotations)  # (B, S, 2H) -> (B, S, A): the same for each target word
        is_word = None
        if lengths is not None:
            is_word = torch.arange(source.shape[1], device=source.device) < lengths.unsqueeze(1)  # (B, S)
        words = self.target_embedding(target)  # (B, T, E)

        def step(carry: Tensors, given: Tensors) -> Stepped:
            (state,), (word,) = carry, given  # (B, H), (B, E)
            weights = self.alignment(state, keys, is_word)  # (B, S)
            context = torch.bmm(weights.unsqueeze(1), annotations).squeeze(1)  # (B, 2H)
            after = self.decoder(torch.cat((word, context), dim=1), state)  # (B, H)
            return (after,), (state, context, weights)

        start = torch.tanh(self.start(backward))  # (B, H)
        by_step = unroll(step, (start,), (words.transpose(0, 1),))  # (T, B, H), (T, B, 2H), (T, B, S)
        states, contexts, weights = (tensor.transpose(0, 1) for tensor in by_step)  # (B, T, ...)
        # The output is outside of the loop, because the words that are fed back are given.
        pairs = self.maxout(torch.cat((states, words, contexts), dim=2)).unflatten(2, (-1, 2))  # (B, T, L, 2)
        scores: Tensor = self.output(pairs.amax(3))  # (B, T, L) -> (B, T, target_vocabulary)
        return scores, weights
