"""What is the GRU's own: where the reset gate acts. Proven against ONNX's operator in ONNX Runtime."""

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from recurrent_tasks import learn_temporal_xor, learn_to_add
from torch import nn

from nnkit_recurrent.configs import GRUConfig
from nnkit_recurrent.gru import GRU, gru

INPUT, HIDDEN, BATCH, TIME = 5, 7, 4, 11
LENGTHS = torch.tensor([7, 11, 1, 4])


def onnx_gru(layer, linear_before_reset):
    """ONNX's GRU with the weights of `layer`, one layer, both directions: x, lengths and h_0 to Y and Y_h."""

    def onnx_order(key):
        r, z, n = getattr(layer, key).detach().numpy().reshape(3, HIDDEN, -1)
        return np.concatenate([z, r, n])

    def directions(key):
        return np.stack([onnx_order(key), onnx_order(f"{key}_reverse")])

    biases = np.concatenate([directions("bias_ih_l0"), directions("bias_hh_l0")], axis=1).squeeze(2)
    weights = {"W": directions("weight_ih_l0"), "R": directions("weight_hh_l0"), "B": biases}
    graph = helper.make_graph(
        [
            helper.make_node(
                "GRU",
                ["x", "W", "R", "B", "lengths", "h_0"],
                ["Y", "Y_h"],
                hidden_size=HIDDEN,
                direction="bidirectional",
                linear_before_reset=linear_before_reset,
            )
        ],
        "gru",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "B", INPUT]),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]),
            helper.make_tensor_value_info("h_0", TensorProto.FLOAT, [2, "B", HIDDEN]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("Y", "Y_h")],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString())


def difference(layer, session):
    x, h_0 = torch.randn(TIME, BATCH, INPUT), torch.randn(2, BATCH, HIDDEN)
    with torch.no_grad():
        output, final = layer(x, h_0, LENGTHS)
    feed = {"x": x.numpy(), "lengths": LENGTHS.numpy().astype(np.int32), "h_0": h_0.numpy()}
    Y, Y_h = session.run(None, feed)
    Y = Y.transpose(0, 2, 1, 3).reshape(TIME, BATCH, -1)  # (T, D, B, H) -> (T, B, D·H)
    return max(np.abs(output.numpy() - Y).max(), np.abs(final.numpy() - Y_h).max())


@pytest.mark.parametrize("implementation", ["fused", "plain"])
@pytest.mark.parametrize(("reset", "linear_before_reset"), [("before", 0), ("after", 1)])
def test_equals_onnx(reset, linear_before_reset, implementation):
    torch.manual_seed(0)
    layer = GRU(INPUT, HIDDEN, bidirectional=True, reset=reset, implementation=implementation)
    assert difference(layer, onnx_gru(layer, linear_before_reset)) < 1e-6
    assert difference(layer, onnx_gru(layer, 1 - linear_before_reset)) > 1e-3


def test_resets_before_by_default():
    assert GRU(INPUT, HIDDEN).reset == GRUConfig().reset == "before"


def test_the_two_resets_part_at_the_second_step():
    torch.manual_seed(0)
    before, after = GRU(INPUT, HIDDEN, reset="before"), GRU(INPUT, HIDDEN, reset="after")
    with torch.no_grad():
        before.bias_hh_l0.zero_()
    after.load_state_dict(before.state_dict())
    x = torch.randn(2, BATCH, INPUT)
    apart = (before(x)[0] - after(x)[0]).abs().amax(dim=(1, 2))
    assert apart[0] < 1e-6
    assert apart[1] > 1e-3


def test_equals_the_tutorials_cell_with_the_sign_of_z_turned():
    """There r, z and n are Linear([x; h]) and z takes the new state: 1 - σ(a) = σ(-a)."""
    torch.manual_seed(0)
    gates = {gate: nn.Linear(INPUT + HIDDEN, HIDDEN, dtype=torch.float64) for gate in "rzn"}
    layer = GRU(INPUT, HIDDEN, dtype=torch.float64)
    signed = [sign * gates[gate].weight.detach() for gate, sign in (("r", 1), ("z", -1), ("n", 1))]
    biases = [sign * gates[gate].bias.detach() for gate, sign in (("r", 1), ("z", -1), ("n", 1))]
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.cat(signed)[:, :INPUT])
        layer.weight_hh_l0.copy_(torch.cat(signed)[:, INPUT:])
        layer.bias_ih_l0.copy_(torch.cat(biases))
        layer.bias_hh_l0.zero_()
    x, start = torch.randn(TIME, BATCH, INPUT).double(), torch.randn(BATCH, HIDDEN).double()
    h = start
    for x_t in x:
        r = torch.sigmoid(gates["r"](torch.cat([x_t, h], dim=1)))
        z = torch.sigmoid(gates["z"](torch.cat([x_t, h], dim=1)))
        n = torch.tanh(gates["n"](torch.cat([x_t, r * h], dim=1)))
        h = (1 - z) * h + z * n
    assert (layer(x, start[None])[1][0] - h).abs().max() < 1e-12


def test_backward_works_through_many_steps_and_layers():
    """The tutorial's writes into its state and fails here."""
    layer = GRU(INPUT, HIDDEN, num_layers=3, dtype=torch.float64, implementation="plain")
    x = torch.randn(3, 2, INPUT, dtype=torch.float64, requires_grad=True)
    h_0 = torch.randn(3, 2, HIDDEN, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x, h_0))


def test_refuses_an_unknown_reset():
    with pytest.raises(ValueError, match="'before' or 'after', got 'never'"):
        GRU(INPUT, HIDDEN, reset="never")


@pytest.mark.parametrize("reset", ["before", "after"])
def test_learns_xor_over_time(reset):
    torch.manual_seed(0)
    config = GRUConfig(input_size=1, hidden_size=16, num_classes=2, reset=reset, predict="every")
    loss, accuracy = learn_temporal_xor(gru(config))
    assert loss < 0.01
    assert accuracy == 1


@pytest.mark.parametrize("reset", ["before", "after"])
def test_learns_to_add(reset):
    torch.manual_seed(0)
    assert learn_to_add(GRU(2, 64, batch_first=True, reset=reset)) < 0.01


@pytest.mark.parametrize("reset", ["before", "after"])
def test_the_cell_runs_under_autocast(reset):
    """The state stays float32, and the gates are computed in bfloat16."""
    torch.manual_seed(0)
    layer = GRU(INPUT, HIDDEN, reset=reset, implementation="plain")
    x = torch.randn(TIME, BATCH, INPUT)
    expected, _ = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        output, final = layer(x)
    assert output.dtype == final.dtype == torch.float32
    assert 0 < (output - expected).abs().max() < 0.02
