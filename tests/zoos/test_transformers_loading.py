"""Folders of transformers hold what `from_pretrained` makes of them, whatever names their tensors have."""

import json

import huggingface_hub
import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import nnkit
from nnkit.errors import NnkitError, UsageProblem

SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 120,
}  # fmt: skip
MODELS = {
    "tied, in shards, bfloat16": (
        "LlamaForCausalLM", {**SMALL, "num_key_value_heads": 1, "tie_word_embeddings": True}, torch.bfloat16,
    ),
    "experts one by one": ("MixtralForCausalLM", {**SMALL, "num_key_value_heads": 2, "num_local_experts": 4}, None),
    "names of the past": ("BertForMaskedLM", {**SMALL, "max_position_embeddings": 48}, None),
    "transposed layers": ("GPT2LMHeadModel", {"vocab_size": 90, "n_embd": 32, "n_layer": 2, "n_head": 2}, torch.float16),
    "a head": ("BertForSequenceClassification", {**SMALL, "num_labels": 5, "max_position_embeddings": 48}, None),
}  # fmt: skip


def save(folder, case):
    name, values, dtype = MODELS[case]
    kind = getattr(transformers, name)
    torch.manual_seed(3)
    model = kind(kind.config_class(**values)).to(dtype or torch.float32)
    model.save_pretrained(folder, max_shard_size="20KB" if "shards" in case else "5GB")
    if case == "names of the past":
        file = folder / "model.safetensors"
        old = {key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
               for key, value in load_file(file).items()}  # fmt: skip
        save_file({**old, "bert.embeddings.position_ids": torch.arange(48)[None]}, file, {"format": "pt"})
    return kind


@pytest.mark.parametrize("case", MODELS)
def test_a_folder_is_what_from_pretrained_makes_of_it(tmp_path, case):
    expected = save(tmp_path, case).from_pretrained(tmp_path).state_dict()
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == ("shards" in case)
    state = nnkit.build(str(tmp_path)).state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name
        assert state[name].dtype == tensor.dtype, name


@pytest.mark.parametrize("case", ["tied, in shards, bfloat16", "experts one by one", "a head"])
def test_parameters_are_those_of_the_headers(tmp_path, case):
    save(tmp_path, case)
    elements = 0
    for file in tmp_path.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            elements += sum(opened.get_tensor(name).numel() for name in opened.keys())  # noqa: SIM118
    report = nnkit.summarize(str(tmp_path))
    assert report.totals.parameters == elements
    assert report.spec.dtype == ("bfloat16" if "bfloat16" in case else "float32")


def test_a_body_takes_its_tensors_from_a_model_with_a_head_and_back(tmp_path, caplog):
    caplog.set_level("INFO", "nnkit")
    save(tmp_path / "head", "a head")
    transformers.BertForSequenceClassification.from_pretrained(tmp_path / "head").bert.save_pretrained(
        tmp_path / "body"
    )
    expected = load_file(tmp_path / "body" / "model.safetensors")
    options = {**SMALL, "max_position_embeddings": 48}
    weights = str(tmp_path / "head" / "model.safetensors")
    with pytest.raises(UsageProblem, match=r"left over: classifier\.bias, classifier\.weight"):
        nnkit.build("transformers/bert", weights=weights, **options)
    body = nnkit.build("transformers/bert", weights=weights, strict=False, **options).state_dict()
    assert all(torch.equal(body[name], tensor) for name, tensor in expected.items())
    assert any(
        "bert.embeddings.LayerNorm.bias -> embeddings.LayerNorm.bias" in text for text in caplog.messages
    )
    weights = str(tmp_path / "body" / "model.safetensors")
    head = nnkit.build(
        "transformers/bert", task="sequence-classification", weights=weights, strict=False, **options
    )
    assert all(torch.equal(head.state_dict()[f"bert.{name}"], tensor) for name, tensor in expected.items())


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Returns a function that puts a model of MODELS into a cache of the hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    def put(name, case, commit="a" * 40, **changes):
        folder = tmp_path / f"models--{name.replace('/', '--')}"
        snapshot = folder / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text(commit)
        save(snapshot, case)
        config = json.loads((snapshot / "config.json").read_text())
        (snapshot / "config.json").write_text(json.dumps({**config, **changes}))
        return snapshot

    return put


LLAMA = {"task": "causal-lm", "num_key_value_heads": "1", "dtype": "bfloat16"}


def test_cached_weights_are_of_the_model_in_the_hub_s_cache_that_has_the_settings(cache):
    options = {**{key: str(value) for key, value in SMALL.items()}, **LLAMA}
    with pytest.raises(NnkitError, match="no cache of this machine has weights of transformers/llama"):
        nnkit.resolve("transformers/llama", **options, weights="cached")
    cache("org/other", "experts one by one")
    snapshot = cache(
        "org/small", "tied, in shards, bfloat16", transformers_version="4.0.0", unknown_setting=3
    )
    options["set"] = "tie_word_embeddings=true"
    spec = nnkit.resolve("transformers/llama", **options, weights="cached")
    assert spec.weights == f"hub:org/small/model.safetensors.index.json@{'a' * 40}"
    expected = transformers.LlamaForCausalLM.from_pretrained(snapshot).state_dict()
    state = nnkit.build("transformers/llama", **options, weights="cached").state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    max(snapshot.glob("*.safetensors")).unlink()
    with pytest.raises(NnkitError, match="has only some of the files of hub:org/small"):
        nnkit.resolve("transformers/llama", **options, weights="cached")


def test_cached_weights_of_other_settings_are_not_taken_and_several_are_a_question(cache):
    cache("org/small", "tied, in shards, bfloat16")
    with pytest.raises(NnkitError, match=r"hub:org/small \(--task causal-lm\)") as error:
        nnkit.resolve("transformers/llama", weights="cached")
    assert error.value.hint == "take one as it is: nnkit summary hub:org/small"
    with pytest.raises(NnkitError, match=r"hub:org/small \(vocab_size 120\)"):
        nnkit.resolve("transformers/llama", task="causal-lm", weights="cached")
    cache("org/again", "tied, in shards, bfloat16", commit="b" * 40)
    options = {
        **{key: str(value) for key, value in SMALL.items()},
        **LLAMA,
        "set": "tie_word_embeddings=true",
    }
    with pytest.raises(NnkitError, match=r"^2 models .*: org/again, org/small"):
        nnkit.resolve("transformers/llama", **options, weights="cached")
