"""GPT-2 beside transformers' GPT2LMHeadModel, its published sizes, and what it learns."""

import conftest  # noqa: F401 (makes torchvision, and so transformers, importable)
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import GPT2Config as ReferenceConfig
from transformers import GPT2LMHeadModel

import nnkit
from nnkit_sequence.configs import GPT2Config
from nnkit_sequence.decoding import KeyValue, continue_greedily
from nnkit_sequence.gpt2 import GPT2

SIZES = {"vocabulary": 53, "context": 24, "width": 24, "layers": 3, "heads": 4}
# Their names in config.json.
THEIRS = {
    "vocabulary": "vocab_size",
    "context": "n_positions",
    "width": "n_embd",
    "layers": "n_layer",
    "heads": "n_head",
}
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def config_json(**sizes):
    """Return transformers' config of these sizes."""
    named = {THEIRS.get(name, name): value for name, value in sizes.items()}
    return ReferenceConfig(**named, bos_token_id=0, eos_token_id=0)


def reference(std=0.02, **options):
    """Return transformers' model with random weights, those of norms and biases included."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config_json(**SIZES, **options))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return model


def pair(dtype=torch.float64, std=0.3):
    """Return ours and the reference with the same weights and no dropout."""
    theirs = reference(std=std, **dict.fromkeys(DROPOUTS, 0.0)).to(dtype)
    ours = GPT2(GPT2Config(**SIZES, dropout=0.0)).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def text(*shape):
    return torch.randint(SIZES["vocabulary"], shape)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_logits_and_cache_are_the_references(dtype, bound):
    ours, theirs = (model.eval() for model in pair(dtype, std=0.1))
    tokens = text(2, 9)
    logits, present = ours(tokens)
    expected = theirs(tokens, use_cache=True)
    torch.testing.assert_close(logits, expected.logits, rtol=bound, atol=bound)
    for mine, layer in zip(present, expected.cache.layers, strict=True):
        torch.testing.assert_close(mine, KeyValue(layer.keys, layer.values), rtol=bound, atol=bound)


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_in_training_are_the_references(masked):
    ours, theirs = (model.train() for model in pair())
    tokens = text(2, 9)
    mask = torch.tensor([[1] * 9, [0] * 3 + [1] * 6]) if masked else None
    real = torch.ones(2, 9, dtype=torch.bool) if mask is None else mask.bool()
    loss = ours(tokens, attention_mask=mask).logits[real].square().mean()
    expected = theirs(tokens, attention_mask=mask).logits[real].square().mean()
    torch.testing.assert_close(loss, expected, **EXACT)
    loss.backward()
    expected.backward()
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    torch.testing.assert_close(gradients, {n: p.grad for n, p in theirs.named_parameters()}, **EXACT)


def test_positions_given_are_the_references():
    ours, theirs = pair()
    tokens, places = text(2, 5), torch.randint(SIZES["context"], (2, 5))
    expected = theirs(tokens, position_ids=places).logits
    torch.testing.assert_close(ours(tokens, position_ids=places).logits, expected, **EXACT)


def test_step_by_step_equals_the_whole_and_the_reference():
    ours, theirs = pair()
    tokens = text(2, 11)
    whole = ours(tokens)
    empty = [KeyValue(*torch.zeros(2, 2, 4, 0, 6, dtype=torch.float64))] * 3
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


def test_padded_equals_unpadded_on_either_side_also_with_the_cache():
    ours, _ = pair()
    short, long = text(1, 5), text(1, 9)
    alone = ours(short).logits
    right = torch.cat((F.pad(short, (0, 4)), long))
    mask = torch.tensor([[True] * 5 + [False] * 4, [True] * 9])
    torch.testing.assert_close(ours(right, attention_mask=mask).logits[:1, :5], alone, **EXACT)
    left, mask = torch.cat((F.pad(short, (4, 0)), long)), mask.flip(1)
    mask[1] = True
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)
    logits, cache = ours(left, attention_mask=mask, position_ids=places)
    torch.testing.assert_close(logits[:1, 4:], alone, **EXACT)
    torch.testing.assert_close(logits[1:], ours(long).logits, **EXACT)
    more = text(2, 1)
    mask, places = F.pad(mask, (0, 1), value=True), places[:, -1:] + 1
    logits = ours(more, cache, attention_mask=mask, position_ids=places).logits
    torch.testing.assert_close(
        logits[0, -1], ours(torch.cat((short, more[:1]), dim=1)).logits[0, -1], **EXACT
    )


def test_initialization_is_that_of_the_reference():
    sizes = {**SIZES, "width": 256, "vocabulary": 1000, "context": 200}
    theirs = GPT2LMHeadModel(config_json(**sizes)).state_dict()
    ours = GPT2(GPT2Config(**sizes)).state_dict()
    assert [*ours] == [*theirs]
    for name, tensor in theirs.items():
        assert ours[name].std().item() == pytest.approx(tensor.std().item(), rel=0.02), name
        assert ours[name].mean().item() == pytest.approx(tensor.mean().item(), abs=1e-3), name


@pytest.mark.parametrize(
    ("preset", "parameters", "layers", "width"),
    [
        ("small", 124_439_808, 12, 768),
        ("medium", 354_823_168, 24, 1024),
        ("large", 774_030_080, 36, 1280),
        ("xl", 1_557_611_200, 48, 1600),
    ],
)
def test_published_sizes(preset, parameters, layers, width):
    """The counts are those of transformers' GPT2LMHeadModel with the config.json of gpt2, gpt2-medium, …"""
    model = nnkit.build("gpt2", preset=preset, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert parameters == (50_257 + 1024 + 2) * width + layers * (12 * width**2 + 13 * width)


def test_multiply_adds_are_counted_by_formula():
    totals = nnkit.summarize("gpt2", time=100).totals
    assert totals.macs == 100 * (12 * (12 * 768**2 + 2 * 100 * 768) + 50_257 * 768)


@pytest.mark.parametrize("layout", ["save_pretrained", "torch.save", "hub"])
def test_files_of_the_reference_load_as_they_are(layout, tmp_path):
    theirs = reference().eval()
    tokens = text(1, 7)
    if layout == "torch.save":
        torch.save(theirs.state_dict(), file := tmp_path / "gpt2.pt")
    else:
        theirs.save_pretrained(tmp_path)
        file = tmp_path / "model.safetensors"
    if layout == "hub":  # as openai-community/gpt2: the body alone, with the causal masks
        weights = {name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}
        masks = {f"h.{layer}.attn.bias": torch.ones(24, 24).tril()[None, None] for layer in range(3)}
        save_file(weights | masks, file)
    ours = nnkit.build("gpt2", weights=file, **SIZES).eval()
    torch.testing.assert_close(ours(tokens).logits, theirs(tokens).logits, rtol=1e-5, atol=1e-5)


def test_a_file_of_another_size_does_not_load(tmp_path, nnkit_command):
    weights = {name.removeprefix("transformer."): tensor for name, tensor in reference().state_dict().items()}
    weights.pop("lm_head.weight")
    save_file(weights, file := tmp_path / "gpt2.safetensors")
    done = nnkit_command("build", "gpt2", "--preset", "tiny", "--weights", str(file))
    assert (done.code, done.out) == (2, "")
    assert "other shapes: transformer.wte.weight is 53×24 in the file, 128×32 in the model" in done.err


RHYME = (
    "Twinkle, twinkle, little star,\nHow I wonder what you are!\n"
    "Up above the world so high,\nLike a diamond in the sky.\n"
)


def test_it_learns_a_small_text_and_continues_it():
    """Characters are the tokens; a continuation with the cache is the one without."""
    torch.manual_seed(0)
    rhyme = torch.tensor([[*RHYME.encode()]])
    model = GPT2(GPT2Config(vocabulary=128, context=128, width=64, layers=2, heads=4, dropout=0.0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    untrained = continue_greedily(model, rhyme[:, :9], 104)
    for _ in range(60):
        loss = F.cross_entropy(model(rhyme[:, :-1]).logits[0], rhyme[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    continued = continue_greedily(model, rhyme[:, :9], 104)
    assert bytes(continued[0].tolist()).decode() == RHYME != bytes(untrained[0].tolist()).decode()
    torch.testing.assert_close(continued[:, 9:], model(continued[:, :-1]).logits[:, 8:].argmax(dim=-1))
