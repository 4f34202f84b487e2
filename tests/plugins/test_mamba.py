"""Mamba beside transformers': outputs, gradients, state dicts, counts; both scans; token by token."""

from dataclasses import asdict

import conftest  # noqa: F401 (makes transformers importable)
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import MambaConfig as ReferenceConfig
from transformers import MambaForCausalLM, MambaModel
from transformers.models.mamba import modeling_mamba

import nnkit
from nnkit_sequence.configs import MambaConfig
from nnkit_sequence.mamba import Mamba

CONFIG = MambaConfig(
    vocab_size=37,
    hidden_size=24,
    num_hidden_layers=3,
    state_size=5,
    conv_kernel=3,
    time_step_rank=4,
    chunk_size=4,
)
BATCH, TIME = 2, 11


def reference(config=CONFIG, model=MambaForCausalLM):
    """Return transformers' network of this size, with random weights in place of those that start alike."""
    names = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "state_size",
        "conv_kernel",
        "time_step_rank",
        "expand",
    )
    options = {name: getattr(config, name) for name in names}
    torch.manual_seed(0)
    network = model(ReferenceConfig(**options, residual_in_fp32=False))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network.eval()


@pytest.fixture
def in_float64(monkeypatch):
    """Let the reference compute in float64 what it would cast to float32."""
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)
    monkeypatch.setattr(
        modeling_mamba.MambaRMSNorm,
        "forward",
        lambda norm, x: nn.functional.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon),
    )


def ours(state, scan="loop"):
    network = Mamba(MambaConfig(**{**asdict(CONFIG), "scan": scan})).to(next(iter(state.values())).dtype)
    network.load_state_dict(state)
    return network.eval()


def tokens(time=TIME):
    return torch.randint(CONFIG.vocab_size, (BATCH, time), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("scan", ["loop", "chunked"])
def test_equals_transformers(scan):
    theirs = reference()
    network = ours(theirs.state_dict(), scan)
    with torch.no_grad():
        expected = theirs(tokens()).logits
        assert (network(tokens()).scores - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("scan", ["loop", "chunked"])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_equal_transformers(in_float64, scan, masked):
    theirs = reference().double()
    network = ours(theirs.state_dict(), scan).train()
    theirs.train()
    mask = torch.ones(BATCH, TIME, dtype=torch.bool)
    mask[0, :4] = False
    expected = theirs(tokens(), attention_mask=mask.long() if masked else None).logits
    scores = network(tokens(), mask if masked else None).scores
    assert (scores - expected).abs().max() < 1e-10
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (scores * weights).sum().backward()
    wanted = dict(theirs.named_parameters())
    assert {name for name, _ in network.named_parameters()} == set(wanted)
    for name, parameter in network.named_parameters():
        assert (parameter.grad - wanted[name].grad).abs().max() < 1e-10 * wanted[name].grad.abs().max(), name


def test_loads_the_names_of_a_backbone_and_of_the_authors():
    theirs = reference(model=MambaModel)
    state = theirs.state_dict()
    with torch.no_grad():
        expected = theirs(tokens()).last_hidden_state
    authors = {
        f"backbone.{name}".replace("embeddings", "embedding"): tensor for name, tensor in state.items()
    }
    authors["lm_head.weight"] = state["embeddings.weight"]
    for names in (state, authors):
        network = Mamba(CONFIG).eval()
        missing, unexpected = network.load_state_dict(names, strict=False)
        assert (missing, unexpected) == (["lm_head.weight"] if names is state else [], [])
        with torch.no_grad():
            x, *_ = network.backbone(tokens())
        assert (x - expected).abs().max() < 1e-5 * expected.abs().max()


def test_loads_files_of_transformers(tmp_path):
    """As save_pretrained writes them, without the tied head; as torch.save does, with it; and without a head."""
    options = {name: value for name, value in asdict(CONFIG).items() if name not in ("scan", "chunk_size")}
    whole, backbone = reference(), reference(model=MambaModel)
    whole.save_pretrained(tmp_path / "whole")
    torch.save(whole.state_dict(), tmp_path / "whole.pt")
    save_file(backbone.state_dict(), tmp_path / "backbone.safetensors")
    for file, theirs in (
        ("whole/model.safetensors", whole),
        ("whole.pt", whole),
        ("backbone.safetensors", backbone),
    ):
        network = nnkit.build("mamba", weights=tmp_path / file, **options)
        for name, parameter in theirs.named_parameters():
            own = name if theirs is whole else f"backbone.{name}"
            assert torch.equal(network.get_parameter(own), parameter)
        assert network.lm_head.weight is network.backbone.embeddings.weight


@pytest.mark.parametrize("scan", ["loop", "chunked"])
@pytest.mark.parametrize("cuts", [[1] * TIME, [4, 7], [2, 8, 1]])
def test_piece_by_piece_is_as_the_whole(scan, cuts):
    network = ours(reference().double().state_dict(), scan)
    with torch.no_grad():
        whole = network(tokens())
        state, scores = (), []
        for piece in tokens().split(cuts, 1):
            part, *state = network(piece, None, *state)
            scores.append(part)
    for ours_, theirs in zip((torch.cat(scores, 1), *state), whole, strict=True):
        assert (ours_ - theirs).abs().max() < 1e-12


def test_what_is_kept_is_what_transformers_keeps():
    theirs = reference()
    network = ours(theirs.state_dict())
    with torch.no_grad():
        kept = theirs(tokens(), use_cache=True).cache
        _, conv_state, ssm_state = network(tokens())
    for layer in range(CONFIG.num_hidden_layers):
        h = kept.get_recurrent_state(layer, state_idx=0)  # (b, e, n)
        assert (ssm_state[layer].transpose(1, 2) - h).abs().max() < 1e-5 * h.abs().max()
        inputs = kept.get_conv_state(layer, state_idx=0)[..., -(CONFIG.conv_kernel - 1) :]
        assert (conv_state[layer] - inputs).abs().max() < 1e-5 * inputs.abs().max()


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_sequence_is_as_without_its_padding(side):
    network = ours(reference().double().state_dict())
    mask = torch.ones(BATCH, TIME, dtype=torch.bool)
    mask[0, slice(0, 4) if side == "left" else slice(7, None)] = False
    with torch.no_grad():
        padded = network(tokens(), mask).scores
        alone = network(tokens()[:1, mask[0]]).scores
    assert (padded[0, mask[0]] - alone[0]).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("preset", "count"),
    [
        ("130m", 129_135_360),
        ("370m", 371_516_416),
        ("790m", 793_204_224),
        ("1.4b", 1_372_178_432),
        ("2.8b", 2_768_345_600),
    ],
)
def test_published_sizes(preset, count):
    """Widths and layers are those in the authors' list of models, counts those of transformers."""
    config = nnkit.resolve("mamba", preset=preset).config
    with torch.device("meta"):
        network = Mamba(config)
        theirs = MambaForCausalLM(
            ReferenceConfig(hidden_size=config.hidden_size, num_hidden_layers=config.num_hidden_layers)
        )
    shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
    assert shapes == {name: parameter.shape for name, parameter in theirs.named_parameters()}
    assert sum(shape.numel() for shape in shapes.values()) == count
    d, e, n, r = config.hidden_size, 2 * config.hidden_size, 16, -(-config.hidden_size // 16)
    layer = d + d * 2 * e + 5 * e + e * (r + 2 * n) + (r + 1) * e + e * n + e + e * d
    assert count == 50280 * d + config.num_hidden_layers * layer + d


def test_the_summary_counts_what_torch_counts():
    spec = nnkit.resolve("mamba", preset="tiny", batch=2, time=9)
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        Mamba(spec.config)(torch.zeros(2, 9, dtype=torch.int64))
    assert 2 * nnkit.summarize(spec).totals.macs == counter.get_total_flops()


def test_initial_steps_are_from_a_thousandth_to_a_tenth():
    """And A starts as -1 ... -N for each channel, D as 1, and a sum of L layers with the variance of one."""
    torch.manual_seed(0)
    mixer = Mamba(MambaConfig(vocab_size=8, hidden_size=64, num_hidden_layers=4)).backbone.layers[0].mixer
    delta = nn.functional.softplus(mixer.dt_proj.bias)
    assert 1e-3 <= delta.min() < 2e-3
    assert 5e-2 < delta.max() <= 1e-1 * (1 + 1e-5)
    assert (mixer.A_log.exp() - torch.arange(1, 17)).abs().max() < 1e-5
    assert (mixer.D == 1).all()
    bound = 1 / (128**0.5 * 4**0.5)
    assert 0.99 * bound < mixer.out_proj.weight.abs().max() <= bound


class Elements(TorchDispatchMode):
    """Counts the elements of all results, in forward and backward."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operator, _types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        self.count += sum(each.numel() for each in tree_leaves(result) if isinstance(each, torch.Tensor))
        return result


@pytest.mark.parametrize("scan", ["loop", "chunked"])
def test_a_training_step_is_linear_in_time(scan):
    """Where each step of the loop indexes its input, backward fills a tensor of all steps for each."""
    network = ours(reference().state_dict(), scan).train()

    def elements(time):
        with Elements() as elements:
            network(tokens(time)).scores.sum().backward()
        return elements.count

    assert elements(256) < 4.4 * elements(64)
