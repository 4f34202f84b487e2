"""RNNsearch beside its equations written out word by word, its published size, and the reversing of strings."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from zoo import tiny

import nnkit
from nnkit_sequence.configs import Seq2SeqAttentionConfig
from nnkit_sequence.seq2seq_attention import Seq2SeqAttention

SIZES = {
    "source_vocabulary": 7,
    "target_vocabulary": 9,
    "embedding_size": 3,
    "hidden_size": 4,
    "alignment_size": 5,
    "maxout_size": 6,
}


def built(dtype=torch.float64, seed=0, **options):
    """Build a small network whose weights are large enough for clear choices."""
    torch.manual_seed(seed)
    model = Seq2SeqAttention(Seq2SeqAttentionConfig(**{**SIZES, **options})).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


def sentences(batch=4, source_time=6, target_time=5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(0, SIZES["source_vocabulary"], (batch, source_time), generator=generator)
    target = torch.randint(0, SIZES["target_vocabulary"], (batch, target_time), generator=generator)
    return source, target


def _gru(x, h, W, U, b):
    """One step for one sentence, from the equations, with the rows of r, z and n in W and U."""
    W_r, W_z, W_n = W.chunk(3)
    U_r, U_z, U_n = U.chunk(3)
    b_r, b_z, b_n = b.chunk(3)
    r = torch.sigmoid(W_r @ x + U_r @ h + b_r)
    z = torch.sigmoid(W_z @ x + U_z @ h + b_z)
    n = torch.tanh(W_n @ x + U_n @ (r * h) + b_n)
    return z * h + (1 - z) * n


def _written_out(model, source, target):
    """Compute the scores and weights of one sentence without padding, word by word."""
    w = dict(model.named_parameters())

    def encoder(words, suffix):
        kinds = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        W, U, b, b_2 = (w[f"encoder.{kind}{suffix}"] for kind in kinds)
        states = [W.new_zeros(U.shape[1])]
        for word in words:
            states.append(_gru(w["source_embedding.weight"][word], states[-1], W, U, b + b_2))
        return states[1:]

    words = source.tolist()
    forward, backward = encoder(words, ""), encoder(words[::-1], "_reverse")[::-1]
    h = [torch.cat(pair) for pair in zip(forward, backward, strict=True)]
    s = torch.tanh(w["start.weight"] @ backward[0] + w["start.bias"])
    scores, weights = [], []
    for word in target.tolist():
        y = w["target_embedding.weight"][word]
        energies = [
            (
                w["alignment.v_a.weight"][0]
                * torch.tanh(
                    w["alignment.W_a.weight"] @ s + w["alignment.U_a.weight"] @ h_j + w["alignment.U_a.bias"]
                )
            ).sum()
            for h_j in h
        ]
        total = sum(e.exp() for e in energies)
        alpha = [e.exp() / total for e in energies]
        c = sum(a * h_j for a, h_j in zip(alpha, h, strict=True))
        t = w["maxout.weight"] @ torch.cat((s, y, c)) + w["maxout.bias"]
        t = torch.stack([torch.maximum(t[2 * k], t[2 * k + 1]) for k in range(len(t) // 2)])
        scores.append(w["output.weight"] @ t + w["output.bias"])
        weights.append(torch.stack(alpha))
        U = torch.cat((w["decoder.U_gates.weight"], w["decoder.U.weight"]))
        s = _gru(torch.cat((y, c)), s, w["decoder.W.weight"], U, w["decoder.W.bias"])
    return torch.stack(scores), torch.stack(weights)


@pytest.mark.parametrize("lengths", [None, [6, 4, 1, 3]], ids=["whole", "padded"])
def test_equals_the_equations(lengths):
    """Outputs and gradients; a padded sentence is written out without its padding."""
    model, (source, target) = built(), sentences()
    given = None if lengths is None else torch.tensor(lengths)
    scores, weights = model(source, target, given)
    rows = [
        _written_out(model, source[row, :length], target[row])
        for row, length in enumerate(lengths or [6] * 4)
    ]
    expected_scores = torch.stack([each for each, _ in rows])
    expected_weights = torch.stack([F.pad(each, (0, 6 - each.shape[1])) for _, each in rows])
    torch.testing.assert_close(scores, expected_scores, rtol=0, atol=1e-10)
    torch.testing.assert_close(weights, expected_weights, rtol=0, atol=1e-10)
    assert expected_weights.std() > 0.05  # they are no mere mean

    generator = torch.Generator().manual_seed(0)
    on_scores, on_weights = (
        torch.randn(tensor.shape, dtype=torch.float64, generator=generator) for tensor in (scores, weights)
    )
    parameters = dict(model.named_parameters())

    def gradients(scores, weights):
        loss = (on_scores * scores).sum() + (on_weights * weights).sum()
        return torch.autograd.grad(loss, parameters.values())

    ours, theirs = gradients(scores, weights), gradients(expected_scores, expected_weights)
    for name, one, other in zip(parameters, ours, theirs, strict=True):
        assert other.abs().max() > 0, name
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10, msg=name)


def test_weights_are_shares_and_none_goes_to_padding():
    model, (source, target) = built(torch.float32), sentences()
    lengths = torch.tensor([6, 4, 1, 3])
    _, weights = model(source, target, lengths)
    torch.testing.assert_close(weights.sum(2), torch.ones(4, 5))
    padding = torch.arange(6) >= lengths[:, None, None]
    assert (weights.masked_select(padding) == 0).all()
    assert (weights.masked_select(~padding) > 0).all()


def test_word_by_word_equals_the_whole():
    model, (source, target) = built(), sentences()
    scores, weights = model(source, target)
    for i in range(target.shape[1]):
        until, alignment = model(source, target[:, : i + 1])
        torch.testing.assert_close(until[:, -1], scores[:, i], rtol=0, atol=1e-12)
        torch.testing.assert_close(alignment[:, -1], weights[:, i], rtol=0, atol=1e-12)


def test_the_encoder_has_the_tensors_of_torchs_gru():
    nn.GRU(3, 4, bidirectional=True).load_state_dict(built(torch.float32).encoder.state_dict())


def test_size_of_the_paper():
    """By formula, with the letters of its appendix A.2.3: n hidden units, m of a word, n' and l."""
    n, m, l, a, words = 1000, 620, 500, 1000, 30_000  # noqa: E741
    embeddings = 2 * words * m
    encoder = 2 * 3 * n * (m + n + 2)
    start, alignment = n * n + n, a * n + a * 2 * n + a + a
    decoder = 3 * n * (m + 2 * n + n + 1)
    output = 2 * l * (n + m + 2 * n + 1) + words * (l + 1)
    total = embeddings + encoder + start + alignment + decoder + output
    assert total == 80_449_000
    model = nnkit.build("seq2seq-attention", preset="paper", device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == total


def test_multiply_adds_by_hand():
    E, H, A, L, V, S, T = 64, 128, 128, 64, 1000, 12, 10
    of_source = 2 * 3 * H * (E + H) + 2 * H * A
    of_target = H * A + S * A + S * 2 * H + 3 * H * (E + 3 * H) + 2 * L * (3 * H + E) + L * V
    spec = tiny("seq2seq-attention")
    assert nnkit.summarize(spec).totals.macs == S * of_source + H * H + T * of_target
    model, (source, target) = nnkit.build(spec), sentences(1, S, T)
    with FlopCounterMode(display=False) as counter:
        model(source, target, torch.tensor([S]))
    assert counter.get_total_flops() == 2 * (S * of_source + H * H + T * of_target)


def test_backward_is_linear_in_both_times():
    """No step takes its slice of a whole sequence: each such node would fill a tensor of its size."""

    def nodes(time):
        source, target = sentences(2, time, time)
        scores, _ = built()(source, target, torch.tensor([time, 2]))
        names, todo, seen = [], [scores.grad_fn], set()
        while todo:
            node = todo.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            names.append(node.name())
            todo += [source for source, _ in node.next_functions]
        return len(names), sum("Select" in name or "Slice" in name for name in names)

    (short, _), (middle, few), (long, many) = nodes(8), nodes(16), nodes(24)
    assert long - middle == middle - short
    assert many == few


def reversals(batch, time, generator, letters=8):
    """Return strings padded with 0, their lengths, and each string backward."""
    lengths = torch.randint(2, time + 1, (batch, 1), generator=generator)
    positions = torch.arange(time)
    source = torch.randint(1, letters + 1, (batch, time), generator=generator) * (positions < lengths)
    backward = source.gather(1, (lengths - 1 - positions).clamp(min=0)) * (positions < lengths)
    return source, lengths.squeeze(1), backward


def test_learns_to_reverse_and_its_weights_show_how():
    """After 150 steps it writes strings backward, and the weights run from the last letter to the first."""
    torch.manual_seed(0)
    options = {"embedding_size": 16, "hidden_size": 32, "alignment_size": 32, "maxout_size": 32}
    model = Seq2SeqAttention(Seq2SeqAttentionConfig(source_vocabulary=9, target_vocabulary=9, **options))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        source, lengths, answer = reversals(64, 6, generator)
        scores, _ = model(source, F.pad(answer, (1, -1)), lengths)
        optimizer.zero_grad()
        F.cross_entropy(scores.flatten(0, 1), answer.flatten(), ignore_index=0).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    source, lengths, answer = reversals(500, 6, generator)
    written = torch.zeros(500, 1, dtype=torch.int64)
    with torch.no_grad():
        for _ in range(6):
            scores, weights = model(source, written, lengths)
            written = torch.cat((written, scores[:, -1:].argmax(2)), dim=1)
    real = answer > 0
    assert (written[:, 1:] == answer)[real].float().mean() > 0.97
    read = (lengths.unsqueeze(1) - 1 - torch.arange(6))[real]
    assert (weights.argmax(2)[real] == read).float().mean() > 0.7
