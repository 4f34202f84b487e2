"""The TCN beside one of the same names that pads as its authors do; its sizes, its reach, and what it learns."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nnkit
from nnkit_sequence.configs import TCNConfig
from nnkit_sequence.tcn import TCN

SMALL = {"input_size": 3, "output_size": 5, "channels": 4, "levels": 3, "kernel_size": 3, "dropout": 0.0}


class PaddedOnBothSides(nn.Module):
    """A block as the authors describe it, each convolution registered twice; the names are theirs."""

    def __init__(self, inputs, outputs, kernel_size, dilation):
        super().__init__()
        self.cut = (kernel_size - 1) * dilation
        options = {"padding": self.cut, "dilation": dilation}
        self.conv1 = nn.utils.weight_norm(nn.Conv1d(inputs, outputs, kernel_size, **options))
        self.conv2 = nn.utils.weight_norm(nn.Conv1d(outputs, outputs, kernel_size, **options))
        self.net = nn.ModuleDict({"0": self.conv1, "4": self.conv2})
        self.downsample = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x):
        out = x
        for convolution in (self.conv1, self.conv2):
            out = F.relu(convolution(out)[:, :, : -self.cut])
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


class Theirs(nn.Module):
    def __init__(self, config):
        super().__init__()
        widths = [config.input_size] + [config.channels] * config.levels
        self.tcn = nn.Module()
        self.tcn.network = nn.Sequential(
            *(PaddedOnBothSides(*widths[i : i + 2], config.kernel_size, 2**i) for i in range(config.levels))
        )
        self.linear = nn.Linear(config.channels, config.output_size)

    def forward(self, x):
        return self.linear(self.tcn.network(x).transpose(1, 2))


def sequences(config, batch=2, time=40, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, config.input_size, time, generator=generator, dtype=dtype)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("options", [{}, {"input_size": 4}], ids=["wider", "as wide"])
def test_a_state_dict_of_the_authors_code_gives_equal_outputs_and_gradients(options, tmp_path):
    torch.manual_seed(0)
    config = TCNConfig(**{**SMALL, **options})
    theirs = Theirs(config)
    keys = set(theirs.state_dict())
    assert {f"tcn.network.1.{name}" for name in ("conv1.weight_g", "conv2.weight_v", "net.4.bias")} < keys
    torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
    ours = nnkit.build("tcn", weights=str(tmp_path / "theirs.pt"), **{**SMALL, **options})
    x = sequences(config)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-6)

    ours, theirs, x = ours.double(), theirs.double(), x.double().requires_grad_()
    outputs = ours(x), theirs(x)
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)
    weights = torch.randn(outputs[0].shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    of_ours = torch.autograd.grad((outputs[0] * weights).sum(), [x, *ours.parameters()])
    gradients = torch.autograd.grad((outputs[1] * weights).sum(), [x, *theirs.parameters()])
    of_theirs = dict(zip(["x", *dict(theirs.named_parameters())], gradients, strict=True))
    of_ours = dict(zip(["x", *dict(ours.named_parameters())], of_ours, strict=True))
    for name, gradient in of_ours.items():
        older = name.replace("parametrizations.weight.original0", "weight_g")
        older = older.replace("parametrizations.weight.original1", "weight_v")
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradient, of_theirs.pop(older), rtol=0, atol=1e-10, msg=name)
    assert not of_theirs


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_a_state_dict_that_lacks_a_tensor_is_refused(tmp_path):
    state = Theirs(TCNConfig(**SMALL)).state_dict()
    del state["tcn.network.1.conv2.weight_g"]
    torch.save(state, tmp_path / "theirs.pt")
    with pytest.raises(nnkit.NnkitError, match=r"missing: tcn\.network\.1\.conv2"):
        nnkit.build("tcn", weights=str(tmp_path / "theirs.pt"), **SMALL)


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [(None, 66_910), ("copy", 12_530), ("adding", 96_001), ("music", 882_538)],
)
def test_sizes_of_the_authors_code(preset, parameters):
    """Counted in github.com/locuslab/TCN, with the options that each of its experiments has by default."""
    model = nnkit.build("tcn", device="meta", **({"preset": preset} if preset else {}))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_multiply_adds_by_hand():
    T, C, k, blocks = 784, 25, 7, 8
    convolutions = k * (1 * C + (2 * blocks - 1) * C * C)
    assert nnkit.summarize("tcn").totals.macs == T * (convolutions + 1 * C + C * 10)


@pytest.mark.parametrize(("kernel_size", "levels"), [(2, 4), (3, 3), (5, 2), (1, 3)])
def test_the_reach_is_what_the_formula_says(kernel_size, levels):
    """With positive weights and inputs no path is cut: the Jacobian is 0 only where nothing is connected."""
    config = TCNConfig(**{**SMALL, "kernel_size": kernel_size, "levels": levels})
    model = TCN(config).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    reach, time = 1 + 2 * (kernel_size - 1) * (2**levels - 1), 50
    x = sequences(config, 1, time, torch.float64).abs().requires_grad_()
    for t in (time - 1, 37):
        (jacobian,) = torch.autograd.grad(model(x)[0, t].sum(), x)
        positions = torch.arange(time)
        connected = (positions <= t) & (positions > t - reach)
        assert torch.equal(jacobian[0].sum(0) > 0, connected)
        assert (jacobian[0][:, ~connected] == 0).all()


def _learn_echo(delay, **options):
    """Train a network to say what it read `delay` steps ago; return its accuracy on new sequences."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = TCN(TCNConfig(input_size=4, output_size=4, channels=16, dropout=0.0, **options))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def draw(batch):
        symbols = torch.randint(0, 4, (batch, 40), generator=generator)
        return F.one_hot(symbols, 4).float().transpose(1, 2), symbols[:, :-delay]

    for _ in range(120):
        x, answer = draw(32)
        optimizer.zero_grad()
        F.cross_entropy(model(x)[:, delay:].flatten(0, 1), answer.flatten()).backward()
        optimizer.step()
    x, answer = draw(256)
    return (model(x)[:, delay:].argmax(2) == answer).float().mean().item()


def test_learns_what_is_within_its_reach_and_nothing_beyond():
    """Reaches of 29 and 13 steps, for an echo of 20 steps; guessing one of four is right in 25 %."""
    assert _learn_echo(20, kernel_size=3, levels=3) > 0.99
    assert _learn_echo(20, kernel_size=3, levels=2) < 0.3
