"""Llama beside transformers' LlamaForCausalLM, its published sizes, and what it learns."""

import math

import conftest  # noqa: F401 (makes torchvision, and so transformers, importable)
import pytest
import torch
import torch.nn.functional as F
from conftest import python
from transformers import LlamaConfig as ReferenceConfig
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

import nnkit
from nnkit_sequence.configs import LlamaConfig
from nnkit_sequence.decoding import KeyValue, continue_greedily
from nnkit_sequence.llama import Llama, rotary_angles

SIZES = {"vocabulary": 53, "width": 48, "layers": 2, "heads": 6, "kv_heads": 2, "hidden": 40}
# Of the 4 pairs of features, each kind: turning often, less than once, and between, within 32 tokens.
STRETCHED = {"rope_theta": 50.0, "rope_factor": 8.0, "rope_context": 32}
THEIRS = {
    "vocabulary": "vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "hidden": "intermediate_size",
    "tied": "tie_word_embeddings",
}
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def config_json(rope_theta=500_000.0, rope_factor=1.0, rope_context=8192, **sizes):
    """Return transformers' config of these options."""
    rope = {"rope_type": "default", "rope_theta": rope_theta}
    if rope_factor > 1:
        rope |= {"rope_type": "llama3", "factor": rope_factor, "low_freq_factor": 1.0}
        rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": rope_context}
    named = {THEIRS[name]: value for name, value in sizes.items()}
    return ReferenceConfig(**named, rms_norm_eps=1e-5, rope_parameters=rope, max_position_embeddings=512)


def pair(dtype=torch.float64, std=0.3, **options):
    """Return ours and the reference with the same random weights, those of norms included."""
    torch.manual_seed(0)
    theirs = LlamaForCausalLM(config_json(**SIZES, **options)).to(dtype)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=std)
    ours = Llama(LlamaConfig(**SIZES, **options)).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.fixture
def exact_norms(monkeypatch):
    """The reference rounds to float32 in each norm, whatever its dtype; here it keeps to its dtype."""

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)


def text(*shape):
    return torch.randint(SIZES["vocabulary"], shape)


def test_float32_is_the_reference_as_it_is():
    ours, theirs = (model.eval() for model in pair(torch.float32, std=0.1))
    tokens = text(2, 40)
    torch.testing.assert_close(ours(tokens).logits, theirs(tokens).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("options", [{}, {"tied": True}, STRETCHED])
def test_logits_and_gradients_are_the_references(options):
    ours, theirs = pair(**options)
    tokens = text(2, 40)
    mask = torch.ones(2, 40, dtype=torch.bool)
    mask[0, :7] = False
    for given in (None, mask):
        real = mask if given is not None else torch.ones_like(mask)
        logits = ours(tokens, attention_mask=given).logits
        expected = theirs(tokens, attention_mask=given)
        torch.testing.assert_close(logits[real], expected.logits[real], **EXACT)
        loss, theirs_loss = logits[real].square().mean(), expected.logits[real].square().mean()
        for model, value in ((ours, loss), (theirs, theirs_loss)):
            model.zero_grad()
            value.backward()
        gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
        torch.testing.assert_close(gradients, {n: p.grad for n, p in theirs.named_parameters()}, **EXACT)


@pytest.mark.usefixtures("exact_norms")
def test_step_by_step_equals_the_whole_and_the_reference():
    ours, theirs = pair(**STRETCHED)
    tokens = text(2, 11)
    whole = ours(tokens)
    empty = [KeyValue(*torch.zeros(2, 2, 2, 0, 8, dtype=torch.float64))] * 2
    for start, sizes in ((None, [1] * 11), (empty, [4, 1, 6])):
        parts, cache, their_cache = [], start, None
        for part in tokens.split(sizes, dim=1):
            logits, cache = ours(part, past_key_values=cache)
            expected = theirs(part, cache=their_cache, use_cache=True)
            their_cache = expected.cache
            torch.testing.assert_close(logits, expected.logits, **EXACT)
            parts.append(logits)
        torch.testing.assert_close(torch.cat(parts, dim=1), whole.logits, **EXACT)
        torch.testing.assert_close(cache, whole.present, **EXACT)
        for mine, layer in zip(cache, their_cache.layers, strict=True):
            torch.testing.assert_close(mine, KeyValue(layer.keys, layer.values), **EXACT)


def test_padded_equals_unpadded_on_either_side_also_with_the_cache():
    """Angles are float32, so a shift of positions shows in the eighth digit."""
    ours, _ = pair()
    near = {"rtol": 1e-5, "atol": 1e-5}
    short, long, more = text(1, 5), text(1, 9), text(2, 1)
    both = ours(torch.cat((short, more[:1]), dim=1)).logits[0]
    for padding, real in (((0, 4), slice(0, 5)), ((4, 0), slice(4, 9))):
        mask = torch.ones(2, 9, dtype=torch.bool)
        mask[0] = F.pad(torch.ones(5, dtype=torch.bool), padding)
        logits, cache = ours(torch.cat((F.pad(short, padding), long)), attention_mask=mask)
        torch.testing.assert_close(logits[0, real], both[:5], **near)
        torch.testing.assert_close(logits[1:], ours(long).logits, **EXACT)
    logits = ours(more, cache, F.pad(mask, (0, 1), value=True)).logits  # continues the one padded on the left
    torch.testing.assert_close(logits[0, 0], both[5], **near)


def test_rates_by_hand():
    """Four pairs at θ = 10⁴ turn by 1, 0.1, 0.01 and 0.001 a token: 51, 5.1, 0.51 and 0.051 times in 320."""
    plain = rotary_angles(torch.tensor([0, 3]), 8, LlamaConfig(rope_theta=1e4))
    torch.testing.assert_close(plain, torch.tensor([[0.0] * 4, [3, 0.3, 0.03, 0.003]]))
    stretched = LlamaConfig(rope_theta=1e4, rope_factor=8, rope_context=128)  # 20, 2.04, 0.2 and 0.02 turns
    kept = (128 * 0.1 / (2 * math.pi) - 1) / 3
    rates = torch.tensor([[1, 0.1 * (kept + (1 - kept) / 8), 0.01 / 8, 0.001 / 8]])
    torch.testing.assert_close(rotary_angles(torch.tensor([1]), 8, stretched), rates)


@pytest.mark.parametrize("tied", [False, True])
def test_initialization_is_that_of_the_reference(tied):
    sizes = {**SIZES, "vocabulary": 1000, "width": 240, "tied": tied}
    theirs, ours = (
        LlamaForCausalLM(config_json(**sizes)).state_dict(),
        Llama(LlamaConfig(**sizes)).state_dict(),
    )
    assert [*ours] == [*theirs]
    for name, tensor in theirs.items():
        assert ours[name].std().item() == pytest.approx(tensor.std().item(), rel=0.03), name
        assert ours[name].mean().item() == pytest.approx(tensor.mean().item(), abs=1e-3), name


PUBLISHED = [
    ("1b", 1_235_814_400, 2048, 8192, 16, 64),
    ("3b", 3_212_749_824, 3072, 8192, 28, 128),
    ("8b", 8_030_261_248, 4096, 14_336, 32, 128),
    ("70b", 70_553_706_496, 8192, 28_672, 80, 128),
    ("405b", 405_853_388_800, 16_384, 53_248, 126, 128),
]


@pytest.mark.parametrize(("preset", "parameters", "width", "hidden", "layers", "features"), PUBLISHED)
def test_published_sizes(preset, parameters, width, hidden, layers, features):
    """The counts of meta-llama's model cards, which round them, and of transformers with their config.json."""
    model = nnkit.build("llama", preset=preset, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    layer = 2 * width**2 + 2 * width * 8 * features + 3 * width * hidden + 2 * width
    embeddings = (1 if preset in ("1b", "3b") else 2) * 128_256 * width
    assert parameters == embeddings + layers * layer + width


def test_multiply_adds_are_counted_by_formula():
    totals = nnkit.summarize("llama", time=2048, preset="8b", layers=2).totals
    projections = 2 * 4096**2 + 2 * 4096 * 8 * 128 + 3 * 4096 * 14_336
    assert totals.macs == 2048 * (2 * (projections + 2 * 2048 * 4096) + 128_256 * 4096)


@pytest.mark.slow
def test_405_billion_parameters_take_no_more_memory_than_a_few():
    code = (
        "import re, pathlib, sys, io, contextlib\n"
        "from nnkit.cli.main import main\n"
        "try:\n"
        "    with contextlib.redirect_stdout(io.StringIO()): main(sys.argv[1:])\n"
        "except SystemExit as ending:\n"
        "    print(ending.code, re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1])\n"
    )
    code, peak = map(int, python("-c", code, "summary", "llama", "--preset", "405b", "--json").stdout.split())
    assert code == 0
    assert peak * 1024 < 2**30


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("layout", ["save_pretrained", "torch.save"])
def test_files_of_the_reference_load_as_they_are(layout, tied, tmp_path):
    theirs = LlamaForCausalLM(config_json(**SIZES, tied=tied)).eval()
    if layout == "torch.save":
        torch.save(theirs.state_dict(), file := tmp_path / "llama.pt")
    else:
        theirs.save_pretrained(tmp_path)  # without the head, if it is the embedding
        file = tmp_path / "model.safetensors"
    tokens = text(1, 7)
    ours = nnkit.build("llama", weights=file, **SIZES, tied=tied).eval()
    torch.testing.assert_close(ours(tokens).logits, theirs(tokens).logits, rtol=1e-5, atol=1e-5)


def test_a_file_without_a_head_needs_a_tied_model(tmp_path, nnkit_command):
    LlamaForCausalLM(config_json(**SIZES, tied=True)).save_pretrained(tmp_path)
    sizes = [word for name, value in SIZES.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    done = nnkit_command("build", "llama", "--weights", "model.safetensors", *sizes)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: the weights in model.safetensors don't fit: missing: lm_head.weight\n")
    assert nnkit_command("build", "llama", "--weights", "model.safetensors", *sizes, "--tied").code == 0


def test_an_impossible_config_is_an_error_of_one_sentence(nnkit_command):
    for options in (["--heads", "7"], ["--width", "24", "--heads", "8"], ["--kv-heads", "3"]):
        done = nnkit_command("summary", "llama", *options)
        assert (done.code, done.out) == (2, "")
        assert "heads" in done.err.splitlines()[0]


VERSE = "Tyger Tyger, burning bright,\nIn the forests of the night;\n"


def test_it_learns_a_small_text_and_continues_it():
    """Characters are the tokens; a continuation with the cache is the one without."""
    torch.manual_seed(0)
    verse = torch.tensor([[*VERSE.encode()]])
    model = Llama(LlamaConfig(vocabulary=128, width=64, layers=2, heads=4, kv_heads=2, hidden=128))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    given, rest = verse[:, :7], verse.shape[1] - 7
    assert not torch.equal(continue_greedily(model, given, rest), verse)
    for _ in range(60):
        loss = F.cross_entropy(model(verse[:, :-1]).logits[0], verse[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    continued = continue_greedily(model, given, rest)
    assert bytes(continued[0].tolist()).decode() == VERSE
    torch.testing.assert_close(continued[:, 7:], model(continued[:, :-1]).logits[:, 6:].argmax(dim=-1))
