"""BERT beside transformers' BertModel, with its weights."""

import pytest
import torch
import transformers
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import nnkit
from nnkit.errors import UsageProblem
from nnkit_sequence.bert import Bert
from nnkit_sequence.configs import BertConfig

SMALL = BertConfig(
    vocabulary=50, context=20, token_types=3, width=24, layers=2, heads=4, hidden=40, dropout=0
)


def theirs_of(config, model=transformers.BertModel, **options):
    """Return transformers' model of the same sizes."""
    settings = transformers.BertConfig(
        vocab_size=config.vocabulary,
        max_position_embeddings=config.context,
        type_vocab_size=config.token_types,
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.hidden,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        **options,
    )
    return model(settings)


def shaken(model):
    """Return the model with values in its biases and norms too, which begin as zeros and ones."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 10)
    return model


@pytest.fixture
def pair():
    """Return ours and theirs, with the same weights."""
    torch.manual_seed(0)
    theirs = shaken(theirs_of(SMALL))
    ours = Bert(SMALL)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def texts(time=9):
    """Return the three inputs of a batch of three, the second text of which is padded."""
    mask = torch.ones(3, time, dtype=torch.int64)
    mask[1, time - 4 :] = 0
    return {
        "input_ids": torch.randint(SMALL.vocabulary, (3, time)),
        "token_type_ids": torch.randint(SMALL.token_types, (3, time)),
        "attention_mask": mask,
    }


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "left_out", [(), ("token_type_ids",), ("attention_mask",), ("token_type_ids", "attention_mask")]
)
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_outputs_and_gradients_equal_the_reference(pair, kind, tolerance, left_out, training):
    inputs = {name: each for name, each in texts().items() if name not in left_out}
    results = []
    for model in pair:
        model.to(kind).train(training)
        outputs = model(**inputs)
        state, pooled = outputs[0], outputs[1]
        (state.sin().sum() + pooled.sin().sum()).backward()
        results.append((state, pooled, {name: each.grad for name, each in model.named_parameters()}))
    (state, pooled, gradients), (their_state, their_pooled, their_gradients) = results
    assert (state - their_state).abs().max() < tolerance
    assert (pooled - their_pooled).abs().max() < tolerance
    assert gradients.keys() == their_gradients.keys()
    if kind == torch.float64:
        for name, gradient in gradients.items():
            assert (gradient - their_gradients[name]).abs().max() < tolerance, name
    assert pooled.std() > 0.1


def test_its_layout_is_that_of_the_reference():
    with torch.device("meta"):
        ours, theirs = (
            {name: each.shape for name, each in model.state_dict().items()}
            for model in (Bert(BertConfig()), theirs_of(BertConfig()))
        )
    assert list(ours.items()) == list(theirs.items())


def test_it_begins_as_the_reference_does():
    torch.manual_seed(0)
    config = BertConfig(vocabulary=3000, context=512, width=128, layers=1, heads=2, hidden=512)
    theirs = dict(theirs_of(config).named_parameters())
    for name, ours in Bert(config).named_parameters():
        if ours.numel() > 1000:
            assert ours.std().item() == pytest.approx(theirs[name].std().item(), rel=0.05), name
            assert abs(ours.mean()) < 0.001
        else:
            assert ours.unique().numel() > 2 or torch.equal(ours, theirs[name]), name
    assert torch.equal(Bert(config).embeddings.word_embeddings.weight[0], torch.zeros(128))


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [
        # counted in transformers' BertModel of the published configurations
        ("base", 109_482_240),
        ("base-cased", 108_310_272),
        ("large", 335_141_888),
        ("tiny", 4_385_920),
        ("mini", 11_170_560),
        ("small", 28_763_648),
        ("medium", 41_373_184),
    ],
)
def test_published_sizes(preset, parameters):
    config = nnkit.resolve("bert", preset=preset).config
    with torch.device("meta"):
        ours, theirs = (
            sum(each.numel() for each in model(config).parameters()) for model in (Bert, theirs_of)
        )
    assert ours == theirs == parameters


def test_multiply_adds():
    """Of one text of 10 tokens: the projections, the two products of attention, the feed-forward, the pooler."""
    report = nnkit.summarize("bert", time=10)
    layer = 10 * (4 * 768 * 768 + 2 * 10 * 768 + 2 * 768 * 3072)
    assert report.totals.macs == 12 * layer + 768 * 768
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), counter:
        Bert(BertConfig())(torch.zeros(1, 10, dtype=torch.int64))
    assert 2 * report.totals.macs == counter.get_total_flops()


def test_a_padded_text_equals_the_text(pair):
    ours = pair[0].double().eval()
    inputs = texts()
    whole = ours(**inputs)
    alone = ours(inputs["input_ids"][1:2, :5], inputs["token_type_ids"][1:2, :5])
    assert torch.allclose(whole.last_hidden_state[1:2, :5], alone.last_hidden_state, rtol=0, atol=1e-12)
    assert torch.allclose(whole.pooler_output[1:2], alone.pooler_output, rtol=0, atol=1e-12)


def saved_by_transformers(folder):
    theirs = theirs_of(SMALL)
    theirs.save_pretrained(folder)
    return theirs, folder / "model.safetensors"


def saved_with_heads(folder):
    theirs = theirs_of(SMALL, transformers.BertForPreTraining)
    theirs.save_pretrained(folder)
    return theirs.bert, folder / "model.safetensors"


def laid_out_as_on_the_hub(folder):
    """bert-base-uncased: `bert.` and `cls.`, gamma and beta, and in older files the numbers of positions."""
    theirs = theirs_of(SMALL, transformers.BertForPreTraining)
    state = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): each
        for name, each in theirs.state_dict().items()
        if name != "cls.predictions.decoder.weight"  # tied
    }
    state["bert.embeddings.position_ids"] = torch.arange(SMALL.context)[None]
    torch.save(state, folder / "pytorch_model.bin")
    return theirs.bert, folder / "pytorch_model.bin"


def options_of(config):
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


@pytest.mark.parametrize("write", [saved_by_transformers, saved_with_heads, laid_out_as_on_the_hub])
def test_files_load(write, tmp_path):
    torch.manual_seed(1)
    theirs, path = write(tmp_path)
    ours = nnkit.build("bert", weights=str(path), **options_of(SMALL)).eval()
    inputs = texts()
    assert torch.allclose(ours(**inputs)[0], theirs.eval()(**inputs)[0], rtol=0, atol=1e-5)


def test_a_file_without_the_pooler_is_refused(tmp_path):
    theirs_of(SMALL, transformers.BertForMaskedLM).save_pretrained(tmp_path)
    with pytest.raises(UsageProblem, match="missing: pooler"):
        nnkit.build("bert", weights=str(tmp_path / "model.safetensors"), **options_of(SMALL))


def test_it_loads_as_a_part_of_something_larger(pair):
    """Only what belongs to it is renamed or left out: the `cls` beside it is the larger model's own."""
    ours, theirs = pair
    larger = nn.ModuleDict({"encoder": Bert(SMALL), "cls": nn.Linear(2, 2)})
    state = {f"encoder.bert.{name}": each for name, each in theirs.state_dict().items()}
    state |= {"encoder.cls.bias": torch.ones(1), "cls.weight": torch.ones(2, 2), "cls.bias": torch.ones(2)}
    assert not any(larger.load_state_dict(state))
    assert torch.equal(larger["cls"].weight, torch.ones(2, 2))
    assert torch.equal(larger["encoder"].pooler["dense"].weight, ours.pooler["dense"].weight)
