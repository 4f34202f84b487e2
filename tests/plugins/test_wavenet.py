"""WaveNet beside its equations written out sample by sample; its sizes, its reach, and a tone that it continues."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import nnkit
from nnkit_sequence.configs import WaveNetConfig
from nnkit_sequence.wavenet import WaveNet, decode, encode

SMALL = {
    "levels": 6,
    "layers": 3,
    "stacks": 2,
    "residual_channels": 3,
    "dilation_channels": 4,
    "skip_channels": 5,
    "speakers": 7,
    "features": 2,
}


def built(**options):
    torch.manual_seed(0)
    model = WaveNet(WaveNetConfig(**{**SMALL, **options})).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # they start at 0, where one that is missing makes no difference
                parameter.normal_(std=0.3)
    return model


def sounds(batch=2, time=24):
    generator = torch.Generator().manual_seed(1)
    samples = torch.randint(0, SMALL["levels"], (batch, time), generator=generator)
    speaker = torch.randint(0, SMALL["speakers"], (batch,), generator=generator)
    features = torch.randn(batch, SMALL["features"], time, generator=generator, dtype=torch.float64)
    return samples, speaker, features


def _written_out(model, options, samples, speaker, features):
    """Compute the scores of one sound, sample by sample, from vectors and matrices."""
    w = dict(model.named_parameters())
    time, taps = len(samples), options["kernel_size"]
    inside = options["dilation_channels"]

    def convolve(name, x, dilation=1):
        """Return Σ_i W_i x(t - (taps - 1 - i) dilation) + b at each time; there is nothing before the first."""
        weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
        width = weight.shape[2]
        out = []
        for t in range(time):
            total = bias
            for i in range(width):
                past = t - (width - 1 - i) * dilation
                if past >= 0:
                    total = total + weight[:, :, i] @ x[past]
            out.append(total)
        return out

    x = convolve("causal", list(torch.eye(options["levels"], dtype=torch.float64)[samples]))
    assert w["causal.weight"].shape[2] == taps
    skips = [0] * time
    count = options["layers"] * options["stacks"]
    for layer in range(count):
        name = f"layers.{layer}"
        both = convolve(f"{name}.dilated", x, dilation=2 ** (layer % options["layers"]))
        if speaker is not None:
            both = [each + w[f"{name}.speaker.weight"][speaker] for each in both]
        if features is not None:
            V = w[f"{name}.features.weight"][:, :, 0]
            both = [each + V @ features[:, t] for t, each in enumerate(both)]
        z = [torch.tanh(each[:inside]) * torch.sigmoid(each[inside:]) for each in both]
        skips = [a + b for a, b in zip(skips, convolve(f"{name}.skip", z), strict=True)]
        if layer < count - 1:
            x = [a + b for a, b in zip(x, convolve(f"{name}.residual", z), strict=True)]
    hidden = convolve("hidden", [F.relu(each) for each in skips])
    return torch.stack(convolve("output", [F.relu(each) for each in hidden]), dim=1)


@pytest.mark.parametrize("kernel_size", [2, 3])
@pytest.mark.parametrize("without", [(), ("speaker",), ("features",), ("speaker", "features")], ids="-".join)
def test_equals_the_equations(kernel_size, without):
    """Outputs, and gradients of what has a part in them."""
    options = {**SMALL, "kernel_size": kernel_size}
    model = built(kernel_size=kernel_size)
    samples, speaker, features = sounds()
    given = {"speaker": speaker, "features": features.requires_grad_()}
    given = {name: None if name in without else tensor for name, tensor in given.items()}
    scores = model(samples, **given)
    expected = torch.stack(
        [
            _written_out(
                model,
                options,
                samples[row],
                *(None if tensor is None else tensor[row] for tensor in given.values()),
            )
            for row in range(len(samples))
        ]
    )
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-10)
    weights = torch.randn(scores.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    parts = {
        name: parameter
        for name, parameter in model.named_parameters()
        if not any(f".{unit}." in name for unit in without)
    }
    if given["features"] is not None:
        parts["features"] = features
    ours = torch.autograd.grad((scores * weights).sum(), parts.values())
    theirs = torch.autograd.grad((expected * weights).sum(), parts.values())
    for name, one, other in zip(parts, ours, theirs, strict=True):
        assert other.abs().max() > 0, name
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize(("kernel_size", "layers", "stacks"), [(2, 3, 2), (2, 4, 1), (3, 2, 2)])
def test_the_reach_is_what_the_formula_says(kernel_size, layers, stacks):
    """The Jacobian by the one-hot samples is 0 exactly beyond the reach, and in the future."""
    model = built(kernel_size=kernel_size, layers=layers, stacks=stacks, skip_channels=16)
    reach = 1 + (kernel_size - 1) * (1 + stacks * (2**layers - 1))
    taken = []

    def take_leaf(_, arguments):
        taken.append(arguments[0].detach().requires_grad_())
        return (taken[-1],)

    model.causal.register_forward_pre_hook(take_leaf)
    samples, speaker, features = sounds(time=40)
    for t in (39, 30):
        scores = model(samples, speaker, features)
        (jacobian,) = torch.autograd.grad(scores[0, :, t].sum(), taken[-1])
        felt = jacobian[0, :, kernel_size - 1 :].abs().sum(0) > 0  # without the zeros before the sound
        positions = torch.arange(40)
        assert torch.equal(felt, (positions <= t) & (positions > t - reach))


@pytest.mark.parametrize(
    ("preset", "reach", "without_last_residual"),
    [(None, 3071, 556_864), ("vctk", 3071, 556_864 + 30 * 109 * 64), ("tensorflow-wavenet", 5117, 1_514_944)],
)
def test_sizes_by_formula(preset, reach, without_last_residual):
    """ibab's variables are these and those of a residual convolution that nothing follows, but no first bias."""
    spec = nnkit.resolve("wavenet", **({"preset": preset} if preset else {}))
    c = spec.config
    Q, R, D, S, k, L = (
        c.levels, c.residual_channels, c.dilation_channels, c.skip_channels, c.kernel_size, c.layers * c.stacks,
    )  # fmt: skip
    layer = k * R * 2 * D + 2 * D + D * R + R + D * S + S + 2 * D * c.speakers
    total = k * Q * R + R + L * layer - (D * R + R) + S * S + S + S * Q + Q
    assert total == without_last_residual
    assert sum(parameter.numel() for parameter in nnkit.build(spec, device="meta").parameters()) == total
    assert 1 + (k - 1) * (1 + c.stacks * (2**c.layers - 1)) == reach


def test_multiply_adds_by_hand():
    Q, R, D, S, k, F_, L, T = 16, 8, 8, 16, 2, 3, 8, 48
    spec = nnkit.resolve("wavenet", preset="tiny")
    by_hand = T * (k * Q * R + L * (k * R * 2 * D + F_ * 2 * D + D * S) + (L - 1) * D * R + S * S + S * Q)
    assert nnkit.summarize(spec).totals.macs == by_hand
    with FlopCounterMode(display=False) as counter:
        nnkit.build(spec)(torch.zeros(1, T, dtype=torch.int64), torch.tensor([0]), torch.zeros(1, F_, T))
    assert counter.get_total_flops() == 2 * by_hand


def test_levels_follow_the_mu_law():
    for x in (-1, -0.5, -0.01, 0.003, 0.1, 0.9, 1):
        compressed = math.copysign(math.log(1 + 255 * abs(x)) / math.log(256), x)
        assert encode(torch.tensor(float(x))).item() == round((compressed + 1) / 2 * 255)
    assert torch.equal(encode(decode(torch.arange(256))), torch.arange(256))
    steps = decode(torch.arange(256)).diff()
    assert steps[127] < 2e-4  # fine where it is soft
    assert 0.04 < steps[0] < 0.05  # coarse where it is loud


def test_learns_a_tone_and_continues_it():
    """After 100 steps it goes on with tones of phases not seen, drawing on its own samples."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = WaveNet(
        WaveNetConfig(
            levels=32, layers=5, stacks=1, residual_channels=16, dilation_channels=16, skip_channels=32
        )
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def tones(batch, time):
        phase = 2 * math.pi * torch.rand(batch, 1, generator=generator)
        return 0.8 * torch.sin(phase + 2 * math.pi * torch.arange(time) / 17.3)

    for _ in range(100):
        samples = encode(tones(16, 120), 32)
        optimizer.zero_grad()
        F.cross_entropy(model(samples[:, :-1])[..., 32:], samples[:, 33:]).backward()
        optimizer.step()

    sound = tones(20, 140)
    samples = encode(sound[:, :40], 32)
    with torch.no_grad():
        for _ in range(100):
            nearest = model(samples[:, -33:])[:, :, -1].argmax(1, keepdim=True)
            samples = torch.cat((samples, nearest), dim=1)
    error = (decode(samples, 32) - sound)[:, 40:].abs().mean(1)
    assert error.max() < 0.1  # a constant 0 is wrong by 0.51 on average
