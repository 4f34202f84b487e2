"""What is the Elman network's own: the identity as its nonlinearity, and what that costs."""

import pytest
import torch
import torch.nn.functional as F
from recurrent_tasks import learn_temporal_xor
from torch import nn

from nnkit_recurrent.configs import RNNConfig
from nnkit_recurrent.rnn import RNN, rnn

INPUT, HIDDEN = 5, 7


def test_the_identity_gives_the_tutorials_states():
    """There the state is Linear([x; h]), with one bias."""
    torch.manual_seed(0)
    joint = nn.Linear(INPUT + HIDDEN, HIDDEN, dtype=torch.float64)
    layer = RNN(INPUT, HIDDEN, nonlinearity="identity", dtype=torch.float64)
    with torch.no_grad():
        layer.weight_ih_l0.copy_(joint.weight[:, :INPUT])
        layer.weight_hh_l0.copy_(joint.weight[:, INPUT:])
        layer.bias_ih_l0.copy_(joint.bias)
        layer.bias_hh_l0.zero_()
    x = torch.randn(6, 3, INPUT, dtype=torch.float64)
    states, h = [], torch.zeros(3, HIDDEN, dtype=torch.float64)
    for x_t in x:
        h = joint(torch.cat([x_t, h], dim=1))
        states.append(h)
    output, final = layer(x)
    assert (output - torch.stack(states)).abs().max() < 1e-12
    assert torch.equal(final[0], output[-1])


@pytest.mark.parametrize(("nonlinearity", "affine"), [("identity", True), ("tanh", False), ("relu", False)])
def test_only_the_identity_is_affine_in_the_sequence(nonlinearity, affine):
    torch.manual_seed(0)
    layer = RNN(INPUT, HIDDEN, num_layers=2, nonlinearity=nonlinearity, dtype=torch.float64)
    x, y = torch.randn(2, 6, 3, INPUT, dtype=torch.float64)
    residual = layer(x + y)[0] - layer(x)[0] - layer(y)[0] + layer(torch.zeros_like(x))[0]
    assert (residual.abs().max() < 1e-12) == affine


@pytest.mark.parametrize(("nonlinearity", "grows"), [("identity", True), ("tanh", False)])
def test_an_identity_state_grows_without_bound(nonlinearity, grows):
    layer = RNN(1, HIDDEN, nonlinearity=nonlinearity)
    with torch.no_grad():
        layer.weight_hh_l0.copy_(1.05 * torch.eye(HIDDEN))
        output, _ = layer(torch.ones(1000, 1, 1))
    assert (output[-1].norm() > 1e9) == grows


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("implementation", ["fused", "plain"])
def test_nonlinearity_is_obeyed(nonlinearity, implementation):
    torch.manual_seed(0)
    layer = RNN(INPUT, HIDDEN, nonlinearity=nonlinearity, implementation=implementation)
    x = torch.randn(1, 3, INPUT)
    with torch.no_grad():
        sums = F.linear(x[0], layer.weight_ih_l0, layer.bias_ih_l0 + layer.bias_hh_l0)
        assert torch.allclose(layer(x)[0][0], getattr(torch, nonlinearity)(sums), atol=1e-6)


def test_refuses_an_unknown_nonlinearity():
    with pytest.raises(ValueError, match="tanh, relu, identity, got 'sigmoid'"):
        RNN(INPUT, HIDDEN, nonlinearity="sigmoid")


def test_learns_xor_over_time():
    loss, accuracy = learn_temporal_xor(
        rnn(RNNConfig(input_size=1, hidden_size=16, num_classes=2, predict="every"))
    )
    assert loss < 0.01
    assert accuracy == 1


def test_without_a_nonlinearity_cannot_learn_xor_over_time():
    config = RNNConfig(input_size=1, hidden_size=16, num_classes=2, nonlinearity="identity", predict="every")
    loss, accuracy = learn_temporal_xor(rnn(config))
    assert loss > 0.68  # log 2 = 0.693 is chance
    assert accuracy < 0.6
