"""A GGUF file as a model by transformers' own map: as many parameters as its header has, and said where not."""

import numpy as np
import pytest

import nnkit
from nnkit.errors import NnkitError, UsageProblem

SIZES = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
TYPES = {  # what llama.cpp calls each type of transformers, and what else the type needs
    "llama": ("llama", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 128}),
    "starcoder2": ("starcoder2", {}),
    "gemma2": ("gemma2", {"head_dim": 16}),
}


@pytest.fixture
def gguf():
    return pytest.importorskip("gguf", reason="ggml's package is not installed: pip install gguf")


def write(gguf, path, model_type, **more):
    """Write a small model of transformers as llama.cpp would; return it."""
    transformers = pytest.importorskip("transformers")
    theirs, options = TYPES[model_type]
    config = transformers.AutoConfig.for_model(model_type, **{**SIZES, **options, **more})
    model = transformers.AutoModelForCausalLM.from_config(config)
    writer = gguf.GGUFWriter(path, theirs)
    writer.add_name("tiny")
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_block_count(3)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(16)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(128)
    writer.add_token_list([f"token {number}" for number in range(128)])
    kind = {name: each for each, name in gguf.MODEL_ARCH_NAMES.items()}[theirs]
    names = gguf.get_tensor_name_map(kind, 3)
    tied = config.tie_word_embeddings
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and tied:
            continue
        stem, _, end = name.rpartition(".")
        writer.add_tensor(f"{names.get_name(stem)}.{end}", tensor.numpy().astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


@pytest.mark.parametrize("model_type", TYPES)
def test_the_model_has_the_parameters_of_the_header(gguf, tmp_path, model_type):
    path = tmp_path / "m.gguf"
    theirs = write(gguf, path, model_type)
    spec = nnkit.resolve(str(path))
    assert spec.name == f"transformers/{model_type}"
    module = nnkit.build(spec)
    assert type(module).__name__ == type(theirs).__name__
    assert {name: tuple(each.shape) for name, each in module.named_parameters()} == {
        name: tuple(each.shape) for name, each in theirs.named_parameters()
    }
    assert sum(each.numel() for each in module.parameters()) == nnkit.inspect_file(path).elements


def test_summary_shows_the_header_and_the_model_on_request(gguf, tmp_path, nnkit_command):
    path = str(tmp_path / "m.gguf")
    write(gguf, path, "llama")
    assert "general.architecture: llama" in nnkit_command("summary", path).out
    done = nnkit_command("summary", path, "--model")
    assert done.code == 0, done.err
    assert "model.layers.0.mlp.down_proj" in done.out
    assert "parameters   108,992" in done.out
    assert "the model has random ones" in done.err
    assert "architecture: transformers/llama" in nnkit_command("build", path, "--spec").out


def test_a_map_that_leaves_out_a_size_is_not_believed(gguf, tmp_path):
    write(gguf, tmp_path / "m.gguf", "qwen3", head_dim=16)
    with pytest.raises(NnkitError, match="doesn't take in all of the metadata"):
        nnkit.resolve(str(tmp_path / "m.gguf"))


def test_an_architecture_that_transformers_has_no_map_for_is_named(tmp_path, gguf, nnkit_command):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "wavtokenizer-dec")
    writer.add_name("tiny")
    writer.add_tensor("a", np.ones(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UsageProblem, match="wavtokenizer-dec") as caught:
        nnkit.resolve(str(tmp_path / "m.gguf"))
    assert "nnkit summary" in caught.value.hint
    assert nnkit_command("summary", str(tmp_path / "m.gguf")).code == 0


def test_a_damaged_file_is_no_model(tmp_path, nnkit_command):
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(40))
    for command in (["build"], ["summary", "--model"], ["summary"], ["info"]):
        done = nnkit_command(command[0], str(tmp_path / "m.gguf"), *command[1:])
        assert done.code == 1, done.err
        assert done.err.count("Error:") == 1
    done = nnkit_command("build", str(tmp_path / "gone.gguf"))
    assert (done.code, "does not exist" in done.err) == (2, True)
