"""The pointer network against its equations written out, packed sequences, ONNX Runtime, and sorting."""

import inspect
import math
from contextlib import ExitStack

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.flop_counter import FlopCounterMode

from nnkit_pointer.configs import PointerNetworkConfig
from nnkit_pointer.plugin import POINTER_NETWORK
from nnkit_pointer.pointer_network import IMPOSSIBLE, encode_padded, pick, pointer_network, random_orders

PLAIN = {}
DEEP = {"num_layers": 2, "bidirectional": True, "embedding_size": 3}
every_shape = pytest.mark.parametrize(
    "options",
    [PLAIN, {"num_layers": 2}, {"bidirectional": True}, DEEP],
    ids=["plain", "layers", "both", "deep"],
)


def built(dtype=torch.float32, seed=0, **options):
    """Build a small network whose scores differ enough to make clear choices."""
    torch.manual_seed(seed)
    model = pointer_network(PointerNetworkConfig(**{"hidden_size": 8, **options})).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


def elements(batch=3, length=6, size=2, seed=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, size, generator=generator, dtype=dtype)


def orders(batch=3, length=6, seed=2):
    return random_orders((batch, length), {}, torch.int64, torch.Generator().manual_seed(seed))


def noise_for(batch=3, length=6, seed=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, length, length, generator=generator, dtype=dtype)


@pytest.mark.parametrize(
    ("options", "shape", "parameters", "macs", "tensors"),
    [
        ({}, (1, 10, 2), 663_810, 6_620_160, 12),
        ({"hidden_size": 512}, (1, 10, 2), 2_638_338, 26_347_520, 12),
        ({"input_size": 1, "hidden_size": 64, "embedding_size": 32}, (1, 8, 1), 58_528, 463_104, 14),
    ],
    ids=["256", "512", "embedding"],
)
def test_sizes(options, shape, parameters, macs, tensors):
    with torch.device("meta"):
        model = pointer_network(PointerNetworkConfig(**options)).eval()
        with FlopCounterMode(display=False) as counter:
            log_probs, indices = model(torch.empty(shape))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(model.state_dict()) == tensors
    assert counter.get_total_flops() == 2 * macs
    assert log_probs.shape == (shape[0], shape[1], shape[1])
    assert indices.shape == shape[:2]
    assert indices.dtype == torch.int64


def _lstm_step(x, state, w_ih, w_hh, b_ih, b_hh):
    """One LSTM step for one row, from the definition."""
    hidden, cell = state
    i, f, g, o = (w_ih @ x + b_ih + w_hh @ hidden + b_hh).chunk(4)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


def _written_out(model, row, given=None):
    """Compute the network for one row, number by number; `given` are the choices to go on from."""
    weights = dict(model.named_parameters())

    def lstm_weights(module, suffix):
        return [
            weights[f"{module}.{kind}{suffix}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]

    if "embedding.weight" in weights:
        row = torch.stack([weights["embedding.weight"] @ x + weights["embedding.bias"] for x in row])
    memory = list(row)
    for layer in range(model.encoder.num_layers):
        directions = []
        for suffix in ("", "_reverse") if model.encoder.bidirectional else ("",):
            state = (row.new_zeros(model.encoder.hidden_size),) * 2
            outputs = []
            for x in reversed(memory) if suffix else memory:
                state = _lstm_step(x, state, *lstm_weights("encoder", f"_l{layer}{suffix}"))
                outputs.append(state[0])
            directions.append((outputs[::-1] if suffix else outputs, state))
        memory = [torch.cat(parts) for parts in zip(*(outputs for outputs, _ in directions), strict=True)]
    state = tuple(torch.cat(parts) for parts in zip(*(final for _, final in directions), strict=True))

    x, chosen, log_probs = weights["start"], [], []
    for i in range(len(row)):
        state = _lstm_step(x, state, *lstm_weights("decoder", ""))
        scores = {}
        for j in range(len(row)):
            if model.mask_chosen and j in chosen:
                continue
            hidden = weights["attention.W1.weight"] @ memory[j] + weights["attention.W2.weight"] @ state[0]
            scores[j] = (weights["attention.v.weight"][0] * hidden.tanh()).sum().item()
        total = sum(math.exp(u) for u in scores.values())
        log_probs.append(
            [math.log(math.exp(scores[j]) / total) if j in scores else IMPOSSIBLE for j in range(len(row))]
        )
        chosen.append(max(scores, key=scores.get) if given is None else given[i].item())
        x = row[chosen[-1]]
    return torch.tensor(log_probs, dtype=row.dtype), torch.tensor(chosen)


@every_shape
@pytest.mark.parametrize("mask_chosen", [True, False])
@pytest.mark.parametrize("forced", [False, True], ids=["greedy", "forced"])
def test_equals_the_equations(options, mask_chosen, forced):
    model = built(torch.float64, mask_chosen=mask_chosen, **options)
    x, targets = elements(dtype=torch.float64), orders() if forced else None
    with torch.no_grad():
        log_probs, indices = model.decode(x, targets=targets)
        for row in range(len(x)):
            expected = _written_out(model, x[row], targets[row] if forced else None)
            torch.testing.assert_close(log_probs[row], expected[0], rtol=1e-12, atol=1e-12)
            assert torch.equal(indices[row], expected[1])


@pytest.mark.parametrize("length", [1, 2, 6, 23])
@pytest.mark.parametrize("decoding", ["greedy", "sampled"])
def test_points_at_each_element_once(length, decoding):
    model = built()
    noise = noise_for(3, length) if decoding == "sampled" else None
    log_probs, indices = model.decode(elements(length=length), noise=noise)
    assert torch.equal(indices.sort(dim=1).values, torch.arange(length).expand(3, -1))
    torch.testing.assert_close(log_probs.exp().sum(dim=2), torch.ones(3, length))
    assert log_probs.isfinite().all()
    chosen_before = F.one_hot(indices, length).cumsum(1).roll(1, 1)
    chosen_before[:, 0] = 0
    assert torch.equal(log_probs == IMPOSSIBLE, chosen_before.bool())
    assert not log_probs.exp()[chosen_before.bool()].any()


def test_may_point_again_without_the_mask():
    model = built(mask_chosen=False)
    log_probs, indices = model(elements(length=12))
    assert any(len(row.unique()) < 12 for row in indices)
    assert (log_probs > IMPOSSIBLE).all()
    assert torch.equal(indices, log_probs.argmax(dim=2))


def test_forcing_its_own_choices_changes_nothing():
    model = built()
    x = elements()
    log_probs, indices = model.decode(x)
    forced, same = model.decode(x, targets=indices)
    assert torch.equal(forced, log_probs)
    assert torch.equal(same, indices)
    other, _ = model.decode(x, targets=indices.flip(1))
    assert torch.equal(other[:, 0], log_probs[:, 0])
    assert not torch.equal(other[:, 1], log_probs[:, 1])


def test_fewer_steps_than_elements():
    model = built()
    x, targets = elements(), orders()
    whole, _ = model.decode(x, targets=targets)
    part, indices = model.decode(x, targets=targets[:, :2])
    assert torch.equal(part, whole[:, :2])
    assert torch.equal(indices, targets[:, :2])


def test_samples_follow_the_distribution():
    """Frequencies of first and second choices among 20,000 draws, to five standard deviations."""
    draws = 20_000
    model = built()
    x = elements(batch=1, length=4).expand(draws, -1, -1)
    with torch.no_grad():
        log_probs, indices = model.decode(x, noise=noise_for(draws, 4))
    first = log_probs[0, 0].exp()
    frequencies = torch.bincount(indices[:, 0], minlength=4) / draws
    assert ((frequencies - first).abs() < 5 * (first * (1 - first) / draws).sqrt() + 1e-9).all()
    after = indices[:, 0] == first.argmax()
    second = log_probs[after][0, 1].exp()
    frequencies = torch.bincount(indices[after, 1], minlength=4) / after.sum()
    assert ((frequencies - second).abs() < 5 * (second * (1 - second) / after.sum()).sqrt() + 1e-9).all()


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_noise_at_its_limits_still_picks_what_is_allowed(value, dtype):
    scores = torch.tensor([[-math.inf, 0.5, -math.inf, 0.25]], dtype=dtype)
    assert pick(scores, torch.full((1, 4), value, dtype=dtype)).item() == 1
    mixed = torch.tensor([[1.0, 0.0, 1.0, 1.0]], dtype=dtype)
    assert pick(scores, mixed).item() == 3


@every_shape
@pytest.mark.parametrize("mask_chosen", [True, False], ids=["once", "again"])
@pytest.mark.parametrize("forced", [False, True], ids=["greedy", "forced"])
def test_padding_changes_nothing(options, mask_chosen, forced):
    """Each row of a padded batch gives what it gives alone, gradients too, whatever stands at the padding."""
    model = built(torch.float64, mask_chosen=mask_chosen, **options)
    lengths = torch.tensor([6, 4, 1])
    padding = torch.arange(6) >= lengths.unsqueeze(1)
    x = elements(dtype=torch.float64).masked_fill(padding.unsqueeze(2), math.nan).requires_grad_()
    targets = None
    if forced:
        targets = torch.full((3, 6), -100)
        for row, length in enumerate(lengths):
            targets[row, :length] = orders(1, length)[0]

    log_probs, indices = model.decode(x, lengths, targets)
    loss = F.nll_loss(log_probs.flatten(0, 1), indices.flatten(), reduction="sum")
    gradients = torch.autograd.grad(loss, [x, *model.parameters()])
    loss_alone = 0
    for row, length in enumerate(lengths):
        alone, chosen = model.decode(
            x[row : row + 1, :length], targets=targets[row : row + 1, :length] if forced else None
        )
        torch.testing.assert_close(log_probs[row, :length, :length], alone[0], rtol=1e-12, atol=1e-12)
        assert torch.equal(indices[row, :length], chosen[0])
        assert (log_probs[row, :length, length:] == IMPOSSIBLE).all()
        assert torch.equal(indices[row, length:], torch.arange(length, 6))
        assert torch.equal(
            log_probs[row].gather(1, indices[row].unsqueeze(1))[length:], torch.zeros(6 - length, 1)
        )
        loss_alone = loss_alone + F.nll_loss(alone[0], chosen[0], reduction="sum")
    torch.testing.assert_close(loss, loss_alone, rtol=1e-12, atol=1e-12)
    expected = torch.autograd.grad(loss_alone, [x, *model.parameters()])
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_padded_encoder_equals_packed_sequences(num_layers, bidirectional, dtype, tolerance):
    torch.manual_seed(0)
    lstm = nn.LSTM(4, 5, num_layers, batch_first=True, bidirectional=bidirectional, dtype=dtype)
    x, lengths = elements(5, 11, 4, dtype=dtype), torch.tensor([11, 9, 7, 3, 1])
    packed, (hidden, cell) = lstm(pack_padded_sequence(x, lengths, batch_first=True))
    expected, _ = pad_packed_sequence(packed, batch_first=True)
    memory, state = encode_padded(lstm, x, lengths)
    true = (torch.arange(11) < lengths.unsqueeze(1)).unsqueeze(2)
    torch.testing.assert_close(memory * true, expected, rtol=0, atol=tolerance)
    directions = 2 if bidirectional else 1
    for ours, theirs in zip(state, (hidden, cell), strict=True):
        torch.testing.assert_close(
            ours, torch.cat(tuple(theirs[-directions:]), dim=1), rtol=0, atol=tolerance
        )


def test_rows_are_apart():
    model = built(torch.float64)
    x = elements(batch=4, dtype=torch.float64)
    log_probs, indices = model(x)
    alone = [model(row.unsqueeze(0)) for row in x]
    torch.testing.assert_close(log_probs, torch.cat([each for each, _ in alone]), rtol=1e-12, atol=1e-12)
    assert torch.equal(indices, torch.cat([each for _, each in alone]))


@every_shape
@pytest.mark.parametrize("padded", [False, True])
def test_every_parameter_learns(options, padded):
    model = built(**options).train()
    log_probs, indices = model.decode(elements(), torch.tensor([6, 4, 2]) if padded else None, orders())
    log_probs.gather(2, indices.unsqueeze(2)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_backward_is_linear_in_steps():
    """No step slices a whole sequence: each such node would fill a tensor of its size in backward."""

    def nodes(length):
        # With an embedding and targets, so that everything a step takes needs a gradient.
        model = built(embedding_size=3)
        log_probs, _ = model.decode(elements(length=length), targets=orders(length=length))
        names, todo, seen = [], [log_probs.grad_fn], set()
        while todo:
            node = todo.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            names.append(node.name())
            todo += [source for source, _ in node.next_functions]
        return names

    short, long, longer = nodes(8), nodes(16), nodes(24)
    assert len(longer) - len(long) == len(long) - len(short)
    assert sum("Select" in name or "Slice" in name for name in longer) == sum(
        "Select" in name or "Slice" in name for name in short
    )


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.bfloat16, 0.1)])
def test_dtype_follows_the_input(dtype, tolerance, padded):
    model = built(**DEEP)
    x, targets = elements(), orders()
    lengths = torch.tensor([6, 4, 1]) if padded else None
    with torch.no_grad():
        expected, _ = model.decode(x, lengths, targets)
        log_probs, _ = model.to(dtype).decode(x.to(dtype), lengths, targets)
    assert log_probs.dtype == dtype
    possible = expected > IMPOSSIBLE
    assert torch.equal(possible, log_probs > IMPOSSIBLE)
    assert (log_probs.float() - expected)[possible].abs().max() <= tolerance * expected[possible].abs().max()


@pytest.mark.parametrize("options", [PLAIN, DEEP], ids=["plain", "deep"])
def test_meta_round_trip(options):
    model = built(**options)
    expected = model(elements())
    with torch.device("meta"):
        empty = pointer_network(PointerNetworkConfig(hidden_size=8, **options)).eval()
        shapes = [each.shape for each in empty(torch.empty(3, 6, 2), torch.empty(3, dtype=torch.int64))]
    assert shapes == [each.shape for each in expected]
    empty.load_state_dict(model.state_dict(), assign=True)
    for ours, theirs in zip(empty(elements()), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_weights_are_those_of_torchs_layers():
    model = built(**DEEP)
    nn.LSTM(3, 8, 2, batch_first=True, bidirectional=True).load_state_dict(model.encoder.state_dict())
    nn.LSTMCell(3, 16).load_state_dict(model.decoder.state_dict())
    keys = {tuple(built(decoding=each).state_dict()) for each in ("greedy", "sampled", "teacher-forced")}
    assert len(keys) == 1


@pytest.mark.parametrize("seed", [0, 1])
def test_learns_to_sort_and_at_a_length_not_seen(seed):
    torch.manual_seed(seed)
    model = pointer_network(PointerNetworkConfig(input_size=1, hidden_size=64, decoding="teacher-forced"))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def numbers(batch, length):
        x = torch.rand(batch, length, 1)
        return x, x.squeeze(2).argsort(dim=1)

    for _ in range(600):
        x, order = numbers(64, 5)
        log_probs, _ = model(x, order)
        optimizer.zero_grad()
        F.nll_loss(log_probs.flatten(0, 1), order.flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
    for length, threshold in [(5, 0.97), (10, 0.90)]:
        x, order = numbers(500, length)
        with torch.no_grad():
            _, indices = model.decode(x)
        assert (indices == order).float().mean() >= threshold


def declared_inputs(config, batch, length, seed=0):
    """Draw what the plugin declares, with names and dynamic axes."""
    specs = POINTER_NETWORK.inputs_for(config)
    drawn = {
        "x": elements(batch, length, config.input_size, seed),
        "noise": noise_for(batch, length, seed),
        "targets": orders(batch, length, seed),
        "lengths": torch.randint(1, length + 1, (batch,), generator=torch.Generator().manual_seed(seed)),
    }
    axes = tuple(
        {axis: name for axis, name in enumerate(spec.shape) if name in ("batch", "length")} for spec in specs
    )
    return tuple(drawn[spec.name] for spec in specs), [spec.name for spec in specs], axes


DECODINGS = ["greedy", "sampled", "teacher-forced"]


@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("padded", [False, True])
def test_declaration_matches_the_network(decoding, padded):
    config = PointerNetworkConfig(hidden_size=4, decoding=decoding, padded=padded)
    model = pointer_network(config).eval()
    inputs, names, _ = declared_inputs(config, 2, 5)
    parameters = inspect.signature(model.forward).parameters
    assert list(parameters)[: len(names)] == names
    assert all(
        each.default is (None if name == "lengths" else each.empty) for name, each in parameters.items()
    )
    sizes = {"batch": 2, "length": 5, "input_size": 2}
    for spec, tensor in zip(POINTER_NETWORK.inputs_for(config), inputs, strict=True):
        assert tuple(sizes[axis] for axis in spec.shape) == tensor.shape
    for spec, tensor in zip(POINTER_NETWORK.outputs_for(config), model(*inputs), strict=True):
        assert tuple(sizes[axis] for axis in spec.shape) == tensor.shape
        assert tensor.dtype == (torch.int64 if spec.dtype == "int64" else torch.float32)


def exported(model, inputs, names, axes, path):
    """Export with dynamic time: torch's LSTM needs its loop decomposition for that, all the way through."""
    from torch.export import _patches

    with ExitStack() as stack:
        stack.enter_context(_patches.register_lstm_while_loop_decomposition())
        stack.enter_context(_patches.register_gru_while_loop_decomposition())
        stack.enter_context(torch.inference_mode())
        program = torch.onnx.export(
            model,
            inputs,
            dynamo=True,
            input_names=names,
            output_names=["log_probs", "indices"],
            dynamic_shapes=axes,
            verbose=False,
        )
    program.save(path)
    return program


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padded": True, **DEEP},
        {"decoding": "sampled"},
        {"decoding": "teacher-forced"},
        {"decoding": "teacher-forced", "padded": True},
        {"decoding": "sampled", "padded": True, "bidirectional": True, "mask_chosen": False},
    ],
    ids=["greedy", "greedy-padded-deep", "sampled", "forced", "forced-padded", "sampled-padded-unmasked"],
)
def test_exports_with_batch_and_length_dynamic(options, tmp_path):
    """Also shows that several exports in one process work."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model = built(**options)
    config = PointerNetworkConfig(hidden_size=8, **options)
    inputs, names, axes = declared_inputs(config, 2, 5)
    program = exported(model, inputs, names, axes, tmp_path / "pointer.onnx")
    shapes = [[str(axis) for axis in output.shape] for output in program.model.graph.outputs]
    assert shapes == [["batch", "length", "length"], ["batch", "length"]]
    session = onnxruntime.InferenceSession(tmp_path / "pointer.onnx")
    for batch, length in [(2, 5), (1, 1), (1, 2), (2, 1), (3, 7), (1, 20), (5, 13)]:
        inputs, _, _ = declared_inputs(config, batch, length, seed=length)
        with torch.no_grad():
            log_probs, indices = model(*inputs)
        feeds = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        theirs = [torch.from_numpy(each) for each in session.run(None, feeds)]
        torch.testing.assert_close(theirs[0], log_probs, rtol=0, atol=1e-5)
        assert torch.equal(theirs[1], indices)
