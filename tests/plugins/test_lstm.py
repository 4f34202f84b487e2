"""What is the LSTM's own: the tutorial's cell, and remembering over many steps."""

import torch
from recurrent_tasks import learn_temporal_xor, learn_to_add

from nnkit_recurrent.configs import LSTMConfig
from nnkit_recurrent.lstm import LSTM, lstm

INPUT, HIDDEN, BATCH, TIME = 5, 7, 4, 11


def test_equals_the_tutorials_cell_with_its_gates_in_our_order():
    """There the gates are x W_ih + h W_hh + b in the order i, f, o, g."""
    generator = torch.Generator().manual_seed(0)
    W_ih, W_hh, b = (
        torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5
        for shape in ((INPUT, 4 * HIDDEN), (HIDDEN, 4 * HIDDEN), (4 * HIDDEN,))
    )
    layer = LSTM(INPUT, HIDDEN, implementation="plain", dtype=torch.float64)

    def in_our_order(rows):
        i, f, o, g = rows.chunk(4)
        return torch.cat([i, f, g, o])

    with torch.no_grad():
        layer.weight_ih_l0.copy_(in_our_order(W_ih.t()))
        layer.weight_hh_l0.copy_(in_our_order(W_hh.t()))
        layer.bias_ih_l0.copy_(in_our_order(b))
        layer.bias_hh_l0.zero_()
    x = torch.randn(TIME, BATCH, INPUT, generator=generator, dtype=torch.float64)
    h_0, c_0 = torch.randn(2, BATCH, HIDDEN, generator=generator, dtype=torch.float64)
    h, c = h_0, c_0
    for x_t in x:
        i, f, o, g = (x_t @ W_ih + h @ W_hh + b).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    _, (h_n, c_n) = layer(x, (h_0[None], c_0[None]))
    assert (h_n[0] - h).abs().max() < 1e-12
    assert (c_n[0] - c).abs().max() < 1e-12


def test_both_parts_of_the_state_count():
    """The tutorial's network asks for a state and ignores it."""
    torch.manual_seed(0)
    net = lstm(LSTMConfig(input_size=INPUT, hidden_size=HIDDEN, initial_state=True))
    x, zeros = torch.randn(BATCH, TIME, INPUT), torch.zeros(1, BATCH, HIDDEN)
    without = net(x)[0]
    assert torch.equal(net(x, zeros, zeros)[0], without)
    for state in ((zeros + 1, zeros), (zeros, zeros + 1)):
        assert (net(x, *state)[0] - without).abs().max() > 1e-4


def test_an_open_forget_gate_keeps_the_cell():
    """With f = 1 and i = 0 the cell state is what it was, however long the sequence."""
    layer = LSTM(INPUT, HIDDEN)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.bias_ih_l0[:HIDDEN] = -100  # i
        layer.bias_ih_l0[HIDDEN : 2 * HIDDEN] = 100  # f
    c_0 = torch.randn(1, BATCH, HIDDEN)
    _, (_, c_n) = layer(torch.randn(500, BATCH, INPUT), (torch.zeros_like(c_0), c_0))
    assert torch.allclose(c_n, c_0)


def test_learns_xor_over_time():
    torch.manual_seed(0)
    loss, accuracy = learn_temporal_xor(
        lstm(LSTMConfig(input_size=1, hidden_size=16, num_classes=2, predict="every"))
    )
    assert loss < 0.01
    assert accuracy == 1


def test_learns_to_add():
    torch.manual_seed(0)
    assert learn_to_add(LSTM(2, 64, batch_first=True)) < 0.02
