"""What rnn, gru and lstm have in common, against torch.nn, ONNX Runtime and themselves run otherwise."""

import contextlib
import itertools
import subprocess
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.export._patches import (
    register_gru_while_loop_decomposition,
    register_lstm_while_loop_decomposition,
)
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from nnkit_recurrent.gru import GRU
from nnkit_recurrent.lstm import LSTM
from nnkit_recurrent.plugin import nnkit_architectures
from nnkit_recurrent.rnn import RNN

ARCHITECTURES = {architecture.name: architecture for architecture in nnkit_architectures()}

LAYERS = {
    "rnn-tanh": (RNN, {"nonlinearity": "tanh"}),
    "rnn-relu": (RNN, {"nonlinearity": "relu"}),
    "rnn-identity": (RNN, {"nonlinearity": "identity"}),
    "gru-before": (GRU, {"reset": "before"}),
    "gru-after": (GRU, {"reset": "after"}),
    "lstm": (LSTM, {}),
}
REFERENCES = {
    "rnn-tanh": (nn.RNN, {"nonlinearity": "tanh"}),
    "rnn-relu": (nn.RNN, {"nonlinearity": "relu"}),
    "gru-after": (nn.GRU, {}),
    "lstm": (nn.LSTM, {}),
}
STACKS = {"1": {}, "2-both": {"num_layers": 2, "bidirectional": True}, "3": {"num_layers": 3}}
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
INPUT, HIDDEN, BATCH, TIME = 5, 7, 4, 11
LENGTHS = torch.tensor([7, 11, 1, 4])

every_layer = pytest.mark.parametrize("name", LAYERS)
every_stack = pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
both_implementations = pytest.mark.parametrize("implementation", ["fused", "plain"])


def layer_of(name, dtype=torch.float64, **options):
    torch.manual_seed(1)
    kind, own = LAYERS[name]
    return kind(INPUT, HIDDEN, **own, **options).to(dtype)


def reference_of(name, dtype=torch.float64, **options):
    torch.manual_seed(1)
    kind, own = REFERENCES[name]
    return kind(INPUT, HIDDEN, **own, **options).to(dtype)


def sequences(dtype=torch.float64, batch_first=False):
    shape = (BATCH, TIME, INPUT) if batch_first else (TIME, BATCH, INPUT)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(dtype)


def state_for(layer, dtype=torch.float64, batch=BATCH):
    """A random initial state, as torch.nn takes it."""
    rows = layer.num_layers * (1 + layer.bidirectional)
    parts = torch.randn(2, rows, batch, HIDDEN, generator=torch.Generator().manual_seed(3)).to(dtype)
    return (parts[0], parts[1]) if "LSTM" in type(layer).__name__ else parts[0]


def parts_of(state):
    return (state,) if isinstance(state, torch.Tensor) else tuple(state)


def flat(result):
    output, state = result
    return output, *parts_of(state)


def assert_equal(results, expected, tolerance):
    results, expected = list(results), list(expected)
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected, strict=True):
        assert result.shape == wanted.shape
        assert result.dtype == wanted.dtype
        assert (result - wanted).abs().max() <= tolerance


def gradients(layer, results, *leaves):
    generator = torch.Generator().manual_seed(4)
    weighted = sum((part * torch.randn(part.shape, generator=generator).to(part)).sum() for part in results)
    return torch.autograd.grad(weighted, [*layer.parameters(), *leaves])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@every_stack
@both_implementations
@pytest.mark.parametrize("name", REFERENCES)
def test_equals_torch_with_its_state_dict(name, implementation, stack, dtype):
    reference = reference_of(name, dtype, **stack)
    layer = layer_of(name, dtype, implementation=implementation, **stack)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    layer.load_state_dict(reference.state_dict())
    x = sequences(dtype).requires_grad_()
    state = state_for(reference, dtype)

    for given in (None, state):
        expected, results = flat(reference(x, given)), flat(layer(x, given))
        assert_equal(results, expected, TOLERANCE[dtype])
        # sums over 44 steps: their scale, not that of a state, bounds the rounding
        wanted = gradients(reference, expected, x)
        scale = max(1.0, *(gradient.abs().max().item() for gradient in wanted))
        assert_equal(gradients(layer, results, x), wanted, scale * TOLERANCE[dtype])


@every_stack
@both_implementations
@pytest.mark.parametrize("name", REFERENCES)
def test_lengths_give_what_packed_sequences_give(name, implementation, stack):
    reference = reference_of(name, batch_first=True, **stack)
    layer = layer_of(name, batch_first=True, implementation=implementation, **stack)
    x = sequences(batch_first=True).requires_grad_()
    state = state_for(reference)

    for given in (None, state):
        packed = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
        output, final = reference(packed, given)
        output, _ = pad_packed_sequence(output, batch_first=True, total_length=TIME)
        expected, results = (output, *parts_of(final)), flat(layer(x, given, LENGTHS))
        assert_equal(results, expected, 1e-12)
        assert_equal(gradients(layer, results, x), gradients(reference, expected, x), 1e-11)


@every_stack
@both_implementations
@every_layer
def test_padded_sequences_give_what_each_gives_alone(name, implementation, stack):
    layer = layer_of(name, batch_first=True, implementation=implementation, **stack)
    x, state = sequences(batch_first=True), state_for(layer)
    output, final = layer(x, state, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        one = slice(row, row + 1)
        start = tuple(part[:, one] for part in parts_of(state))
        alone, alone_final = layer(x[one, :length], start)
        assert_equal([output[one, :length]], [alone], 1e-12)
        assert not output[one, length:].any()
        assert_equal((part[:, one] for part in parts_of(final)), parts_of(alone_final), 1e-12)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "padded"])
@every_stack
@every_layer
def test_fused_equals_plain(name, stack, lengths):
    fused, plain = (layer_of(name, implementation=kind, **stack) for kind in ("fused", "plain"))
    x, state = sequences(), state_for(fused)
    assert_equal(flat(fused(x, state, lengths)), flat(plain(x, state, lengths)), 1e-12)


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@every_layer
def test_a_long_sequence_projected_in_pieces_is_one_sequence(name, padded, monkeypatch):
    layer = layer_of(name, bidirectional=True, implementation="plain")
    x, state, lengths = sequences(), state_for(layer), LENGTHS if padded else None
    whole = flat(layer(x, state, lengths))
    monkeypatch.setattr("nnkit_recurrent.steps.PIECE", 4)  # 11 steps: 4, 4, 3
    pieces = flat(layer(x, state, lengths))
    assert_equal(pieces, whole, 1e-12)
    assert_equal(gradients(layer, pieces), gradients(layer, whole), 1e-11)


@both_implementations
@every_layer
def test_works_without_biases(name, implementation):
    layer = layer_of(name, bias=False, implementation=implementation, num_layers=2)
    zeroed = layer_of(name, implementation=implementation, num_layers=2)
    for key, parameter in zeroed.named_parameters():
        if "bias" in key:
            nn.init.zeros_(parameter)
    zeroed.load_state_dict(layer.state_dict(), strict=False)
    x = sequences()
    assert_equal(flat(layer(x)), flat(zeroed(x)), 1e-12)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_seed_gives_the_weights_it_gives_torch(name):
    stack = STACKS["2-both"]
    ours, theirs = layer_of(name, **stack).state_dict(), reference_of(name, **stack).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize(
    ("kind", "counts"),
    [(RNN, (640, 1_480, 3_760)), (GRU, (1_920, 4_440, 11_280)), (LSTM, (2_560, 5_920, 15_040))],
)
def test_parameters_are_as_many_as_torch_has(kind, counts):
    stacks = ({}, {"num_layers": 2}, {"num_layers": 2, "bidirectional": True})
    layers = [kind(10, 20, **stack) for stack in stacks]
    assert tuple(sum(p.numel() for p in layer.parameters()) for layer in layers) == counts
    wide = {RNN: 131_584, GRU: 394_752, LSTM: 526_336}
    assert sum(p.numel() for p in kind(256, 256).parameters()) == wide[kind]


@both_implementations
@every_layer
def test_a_run_in_pieces_equals_the_whole_run(name, implementation):
    layer = layer_of(name, num_layers=2, implementation=implementation)
    x = sequences()
    output, final = layer(x)
    state, pieces = None, []
    for piece in x.split([1, 4, 6]):
        part, state = layer(piece, state)
        pieces.append(part)
    assert_equal([torch.cat(pieces), *parts_of(state)], [output, *parts_of(final)], 1e-12)


@both_implementations
@every_layer
def test_steps_see_nothing_of_later_ones(name, implementation):
    layer = layer_of(name, num_layers=2, implementation=implementation)
    x = sequences()
    changed = torch.cat([x[:6], x[6:] + 1])
    before, after = layer(x)[0], layer(changed)[0]
    assert torch.equal(before[:6], after[:6])
    assert (before[6:] != after[6:]).any(dim=-1).all()


@both_implementations
@every_layer
def test_the_state_counts_and_is_never_written_to(name, implementation):
    layer = layer_of(name, num_layers=2, implementation=implementation)
    x = sequences()
    state = tuple(part.requires_grad_() for part in parts_of(state_for(layer)))
    before = [part.detach().clone() for part in state]
    output, final = layer(x, state)
    kept = [part.detach().clone() for part in (output, *parts_of(final))]
    layer(x, final)
    layer(x, state)
    assert all(torch.equal(part, copy) for part, copy in zip(state, before, strict=True))
    assert all(torch.equal(part, copy) for part, copy in zip(flat((output, final)), kept, strict=True))
    assert (output - layer(x)[0]).abs().max() > 1e-3
    for gradient in torch.autograd.grad(output.sum(), state):
        assert (gradient.abs().amax(dim=(1, 2)) > 0).all()  # every layer's


@both_implementations
@every_layer
def test_every_parameter_gets_a_gradient(name, implementation):
    layer = layer_of(name, num_layers=2, bidirectional=True, implementation=implementation)
    for lengths in (None, LENGTHS):
        output, _ = layer(sequences(), None, lengths)
        for gradient in gradients(layer, [output]):
            assert gradient.abs().max() > 0


@every_layer
def test_backward_reads_each_step_once(name):
    """Indexing a step makes its backward as long as the sequence, and the whole quadratic."""
    layer = layer_of(name, implementation="plain", bidirectional=True)
    output, _ = layer(sequences().requires_grad_(), None, LENGTHS)
    seen, waiting = set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting.extend(parent for parent, _ in node.next_functions)
    assert sum(node.name() == "UnbindBackward0" for node in seen) == 2
    assert not [node for node in seen if node.name().startswith(("SelectBackward", "IndexBackward"))]


@every_layer
def test_dropout_falls_between_layers_in_training_alone(name):
    layer = layer_of(name, num_layers=2, dropout=0.5, implementation="plain")
    single = layer_of(name, num_layers=2, implementation="plain")
    single.load_state_dict(layer.state_dict())
    x = sequences()
    (trained, state), (expected, wanted) = layer(x), single(x)
    assert not torch.isclose(trained, expected).all()
    assert torch.equal(parts_of(state)[0][0], parts_of(wanted)[0][0])  # the first layer's
    assert torch.equal(layer.eval()(x)[0], expected)


@every_layer
def test_refuses_what_does_not_fit(name):
    layer = layer_of(name)
    with pytest.raises(ValueError, match=r"3 axes .* got shape \(4, 5\)"):
        layer(torch.zeros(4, 5))
    with pytest.raises(ValueError, match=r"shapes \[\(1, 4, 7\).*got \[\(1, 3, 7\)"):
        layer(sequences(), state_for(layer, batch=3))
    with pytest.raises(ValueError, match="'fused' or 'plain', got 'quick'"):
        layer_of(name, implementation="quick")


# --- the architectures ---

VARIANTS = {
    "rnn-tanh": ("rnn", {"nonlinearity": "tanh"}),
    "rnn-relu": ("rnn", {"nonlinearity": "relu"}),
    "rnn-identity": ("rnn", {"nonlinearity": "identity"}),
    "gru-before": ("gru", {"reset": "before"}),
    "gru-after": ("gru", {"reset": "after"}),
    "lstm": ("lstm", {}),
}
SMALL = {"input_size": INPUT, "hidden_size": HIDDEN, "num_classes": 3}
EVERYTHING = {"num_layers": 2, "bidirectional": True, "lengths": True, "initial_state": True}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def build(variant, **options):
    """Return the architecture, the config and the network of `variant`."""
    name, own = VARIANTS[variant]
    architecture = ARCHITECTURES[name]
    config = architecture.config(**{**SMALL, **own, **options})
    module, function = architecture.build.split(":")
    torch.manual_seed(5)
    net = getattr(__import__(module, fromlist=[function]), function)(config)
    return architecture, config, net.eval()


def shape_of(spec, config, sizes):
    values = {**vars(config), **sizes}
    return tuple(axis if isinstance(axis, int) else values[axis] for axis in spec.shape)


def draw(architecture, config, dtype=torch.float32, **sizes):
    """Random inputs, in declared order."""
    generator = torch.Generator().manual_seed(6)
    inputs = []
    for spec in architecture.inputs_for(config):
        shape = shape_of(spec, config, sizes)
        if spec.sample == "lengths":
            drawn = torch.randint(1, sizes[spec.index_of] + 1, shape, generator=generator)
            drawn[0] = sizes[spec.index_of]
        else:
            drawn = torch.randn(shape, generator=generator).to(dtype)
        inputs.append(drawn)
    return tuple(inputs)


OPTIONS = [
    {"predict": predict, "lengths": lengths, "initial_state": state, "bidirectional": both, "num_layers": 2}
    for predict, lengths, state, both in itertools.product(("last", "every"), *[(False, True)] * 3)
]


@pytest.mark.parametrize(
    "device_and_dtype", [("cpu", torch.float64), ("cpu", torch.bfloat16), ("meta", torch.float32)]
)
@both_implementations
@every_variant
def test_declared_inputs_and_outputs_are_true(variant, implementation, device_and_dtype):
    device, dtype = device_and_dtype
    for options in OPTIONS:
        architecture, config, net = build(variant, implementation=implementation, **options)
        net = net.to(device, dtype)
        inputs = tuple(value.to(device) for value in draw(architecture, config, dtype, batch=3, time=4))
        outputs = net(*inputs)
        declared = architecture.outputs_for(config)
        assert len(outputs) == len(declared)
        for output, spec in zip(outputs, declared, strict=True):
            assert output.shape == shape_of(spec, config, {"batch": 3, "time": 4}), spec.name
            assert (output.device.type, output.dtype) == (device, dtype)
        by_name = {
            spec.name: value for spec, value in zip(architecture.inputs_for(config), inputs, strict=True)
        }
        again = net(**by_name)
        assert device == "meta" or all(torch.equal(a, b) for a, b in zip(outputs, again, strict=True))


@every_variant
def test_gives_log_probabilities_of_the_final_state(variant):
    architecture, config, net = build(variant, bidirectional=True, num_layers=2, lengths=True)
    x, lengths = draw(architecture, config, batch=4, time=9)
    log_probs, h_n, *_ = net(x, lengths)
    assert torch.allclose(log_probs.exp().sum(-1), torch.ones(4))
    features = torch.cat([h_n[-2], h_n[-1]], dim=-1)  # forward, backward
    assert torch.allclose(log_probs, net.head(features).log_softmax(-1))
    output, _ = net.recurrent(x, None, lengths)
    ends = output[torch.arange(4), lengths - 1]
    assert torch.allclose(ends[:, :HIDDEN], h_n[-2], atol=1e-6)
    assert torch.allclose(output[:, 0, HIDDEN:], h_n[-1], atol=1e-6)


@every_variant
def test_every_step_ends_as_the_last_does(variant):
    architecture, config, last = build(variant)
    _, _, every = build(variant, predict="every")
    (x,) = draw(architecture, config, batch=4, time=9)
    assert torch.allclose(last(x)[0], every(x)[0][:, -1], atol=1e-6)


def test_plugin_imports_no_torch():
    code = (
        "import nnkit_recurrent.plugin as p, sys; p.nnkit_architectures(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


# --- export ---


def export(net, inputs, architecture, config):
    """Export as nnkit does: all dims dynamic, in inference mode, torch's own loops registered."""
    specs, outputs = architecture.inputs_for(config), architecture.outputs_for(config)
    dims = architecture.dims_for(config)
    shapes = tuple({i: axis for i, axis in enumerate(spec.shape) if axis in dims} for spec in specs)
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(register_lstm_while_loop_decomposition())
        stack.enter_context(register_gru_while_loop_decomposition())
        stack.enter_context(torch.inference_mode())
        program = torch.onnx.export(
            net,
            inputs,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=[spec.name for spec in specs],
            output_names=[spec.name for spec in outputs],
            verbose=False,
        )
    model = program.model_proto
    onnx.checker.check_model(model, full_check=True)
    return model


def session_of(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def axes_of(value):
    return tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)


def assert_runs_in_onnxruntime(model, net, architecture, config, *, dtype=torch.float32, tolerance=2e-6):
    session = session_of(model)
    for batch, time in ((1, 1), (2, 3), (5, 1), (3, 200)):
        inputs = draw(architecture, config, dtype, batch=batch, time=time)
        feed = {
            spec.name: value.numpy()
            for spec, value in zip(architecture.inputs_for(config), inputs, strict=True)
        }
        with torch.no_grad():
            expected = net(*inputs)
        for result, wanted in zip(session.run(None, feed), expected, strict=True):
            assert result.shape == wanted.shape
            assert np.abs(result - wanted.numpy()).max() <= tolerance, (batch, time)


@both_implementations
@every_variant
def test_exports_with_any_batch_and_time(variant, implementation):
    architecture, config, net = build(variant, implementation=implementation, predict="every", **EVERYTHING)
    model = export(net, draw(architecture, config, batch=2, time=5), architecture, config)
    operators = [node.op_type for node in model.graph.node]
    if implementation == "fused":
        assert operators.count(architecture.name.upper()) == 2  # one a layer
        assert not {"Scan", "Loop"} & set(operators)
    else:
        assert operators.count("Scan") == 4  # one a layer and direction
    declared = {
        spec.name: shape_of(spec, config, {"batch": "batch", "time": "time"})
        for spec in (*architecture.inputs_for(config), *architecture.outputs_for(config))
    }
    assert {value.name: axes_of(value) for value in (*model.graph.input, *model.graph.output)} == declared
    assert_runs_in_onnxruntime(model, net, architecture, config)


@both_implementations
@pytest.mark.parametrize("variant", ["rnn-tanh", "gru-before", "lstm"])
def test_exports_twice_in_one_process(variant, implementation):
    architecture, config, net = build(variant, implementation=implementation)
    inputs = draw(architecture, config, batch=2, time=5)
    for _ in range(2):
        model = export(net, inputs, architecture, config)
        assert_runs_in_onnxruntime(model, net, architecture, config)


@pytest.mark.parametrize("variant", ["gru-before", "lstm"])
def test_exports_in_float64(variant):
    architecture, config, net = build(variant, lengths=True)
    net = net.double()
    inputs = draw(architecture, config, torch.float64, batch=2, time=5)
    model = export(net, inputs, architecture, config)
    assert_runs_in_onnxruntime(model, net, architecture, config, dtype=torch.float64, tolerance=1e-12)


@pytest.mark.parametrize("variant", ["rnn-relu", "gru-before", "lstm"])
def test_exports_from_torch_alone(variant):
    """torch.export keeps no operator of ONNX: the program must run in torch."""
    architecture, config, net = build(variant, lengths=True)
    inputs = draw(architecture, config, batch=2, time=5)
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    with torch.no_grad():
        program = torch.export.export(net, inputs, dynamic_shapes=({0: batch, 1: time}, {0: batch})).module()
        other = draw(architecture, config, batch=3, time=8)
        assert_equal(program(*other), net(*other), 1e-6)
