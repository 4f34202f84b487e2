"""transformers/: figures counted elsewhere, and models that are those of transformers itself."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers.models.auto import modeling_auto

import nnkit
from nnkit import NnkitError, ReadRequest, UsageProblem
from nnkit.contract.spec import make_spec
from nnkit.verbs.core_handlers import plugin_manager
from nnkit_transformers.folders import read
from nnkit_transformers.inputs import Ending
from nnkit_transformers.probe import Input, find_inputs, read_inputs, write_inputs
from nnkit_transformers.settings import configuration
from nnkit_transformers.tasks import model_class_of, tasks_of

SMALL = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 100}

# Parameters and multiply-adds as counted by torch's own flop counter, without nnkit, two layers deep.
FIGURES = {
    "clip": (48_874_753, 1_035_153_920),
    "mbart": (112_366_592, 1_891_631_104),
    "olmoe": (1_747_470_336, 7_532_969_984),
    "resnet": (23_508_032, 4_087_136_256),
    "wav2vec2": (23_492_992, 3_406_329_856),
    "qwen2_vl": (3_676_845_056, 56_203_673_600),
    "mamba": (46_159_104, 241_078_272),
    "lxmert": (207_936_768, 6_638_039_040),
    "granite_speech5_ctc": (88_779_008, 14_062_059_520),
    "decision_transformer": (1_058_582, 42_647_552),
    "owlvit": (49_248_257, 10_651_438_592),
    "moonshine_streaming": (20_437_441, 365_614_080),
    "glm4v_text": (1_028_699_136, 13_069_451_264),
    "speecht5": (33_101_312, 4_807_458_816),
    "voxtral_realtime": (726_733_568, 16_878_272_512),
    "idefics": (907_207_684, 166_845_267_968),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_those_of_the_flop_counter(name):
    layers = {} if name in ("lxmert", "resnet") else {"layers": 2}
    totals = nnkit.summarize(f"transformers/{name}", **layers).totals
    assert (totals.parameters, totals.macs) == FIGURES[name]


def test_every_task_of_a_type_is_one_of_transformers():
    assert tasks_of("bert")["sequence-classification"] == "BertForSequenceClassification"
    assert next(iter(tasks_of("bert"))) == "base"
    mappings = [
        value
        for name, value in vars(modeling_auto).items()
        if name.startswith("MODEL_") and name.endswith("_NAMES")
    ]
    assert len(tasks_of("bert")) == sum("bert" in mapping for mapping in mappings)


def test_a_model_is_the_one_that_transformers_builds():
    module = nnkit.build(
        "transformers/bert", task="sequence-classification", layers=1, num_labels=5, seed=3, **SMALL
    )
    config = transformers.BertConfig(num_hidden_layers=1, num_labels=5, **SMALL)
    own = transformers.BertForSequenceClassification(config).eval()
    assert type(module).__name__ == "BertForSequenceClassification"
    assert isinstance(module, transformers.BertForSequenceClassification)
    own.load_state_dict(module.state_dict())
    ids = torch.arange(16).reshape(2, 8)
    with torch.no_grad():
        outputs = module(ids)
        assert list(outputs) == ["logits"]
        assert torch.equal(outputs["logits"], own(input_ids=ids).logits)


def test_a_decoder_returns_no_cache_and_keeps_its_tied_weights():
    module = nnkit.build("transformers/gpt2", task="causal-lm", n_layer=1, n_embd=32, n_head=2, vocab_size=99)
    assert module.lm_head.weight is module.transformer.wte.weight
    assert list(module(torch.zeros(1, 4, dtype=torch.int64))) == ["logits"]


def test_settings_of_nested_configurations_keep_what_the_parent_gives_them():
    settings = ("backbone_config.embedding_size=32", "encoder_layers=1", "decoder_layers=1")
    module = nnkit.build("transformers/detr", set=settings, device="meta")
    assert module.config.backbone_config.embedding_size == 32
    assert module.config.backbone_config.out_features == ["stage4"]


@pytest.mark.parametrize(
    ("name", "options", "said", "hint"),
    [
        ("bert", {"set": ("hiden_size=3",)}, "no setting 'hiden_size'", "did you mean hidden_size"),
        ("clip", {"set": ("text_config.hiden_size=3",)}, "no 'hiden_size'", "did you mean hidden_size"),
        ("llama", {"hidden_size": 33}, "is not a multiple of the number of attention heads", "nnkit info"),
        ("bert", {"layers": 0}, "--layers is at least 1", ""),
        ("bert", {"task": "ctc"}, "--task takes one of", ""),
    ],
)
def test_what_transformers_refuses_is_said(name, options, said, hint):
    with pytest.raises(UsageProblem) as error:
        nnkit.summarize(f"transformers/{name}", **options)
    assert said in error.value.message
    assert hint in error.value.hint


def test_layers_makes_no_stack_deeper_and_leaves_stages():
    convnext = nnkit.build("transformers/convnext", device="meta")
    assert len(convnext.encoder.stages) == 4
    detr = nnkit.build("transformers/pp_doclayout_v4", layers=2, device="meta")
    assert (detr.config.encoder_layers, detr.config.decoder_layers) == (1, 2)


def test_positions_limit_the_time():
    bert = nnkit.resolve("transformers/bert").dims["time"]
    roberta = nnkit.resolve("transformers/roberta").dims["time"]
    assert (bert.max, roberta.max) == (512, 510)  # RoBERTa's first token is at position 2 of 512
    with pytest.raises(UsageProblem, match="at most 64"):
        nnkit.resolve("transformers/bert", max_position_embeddings=64, time=65)


def test_inputs_are_the_fewest_that_a_model_runs_on_and_can_be_written_down():
    inputs = {
        "base": find_inputs("whisper", nnkit.resolve("transformers/whisper").config).inputs,
        "multiple-choice": (Input("input_ids", 1),),
    }
    assert [name for name, _ in inputs["base"]] == ["input_features", "decoder_input_ids"]
    assert read_inputs(write_inputs(inputs)) == inputs


def test_a_model_that_is_no_model_when_shallow_is_tried_whole():
    inputs = find_inputs("depth_pro", nnkit.resolve("transformers/depth_pro").config).inputs
    assert inputs == (Input("pixel_values"),)


def test_what_a_user_sets_within_a_part_leaves_the_rest_of_it():
    spec = nnkit.resolve("transformers/glm4v", set=("text_config.vocab_size=64",))
    text = configuration("glm4v", spec.config).text_config
    assert (text.vocab_size, text.rope_parameters["partial_rotary_factor"]) == (64, 0.5)


def test_a_class_that_its_package_forgets_to_list_is_found():
    assert model_class_of("voxtral_realtime_text", "base").__name__ == "VoxtralRealtimeTextModel"


@pytest.mark.parametrize(
    ("name", "problem"),
    [("bark", "its class has no forward"), ("sam2_video", "it needs inference_session")],
)
def test_why_no_inputs_are_known_is_said(name, problem):
    with pytest.raises(NnkitError, match=problem):
        nnkit.summarize(f"transformers/{name}", layers=2)


def test_a_parameter_is_no_reason_to_fail_for_want_of_an_input():
    """Without shapes and pronunciations of characters, their embeddings get no gradient."""
    report = nnkit.smoke_run("transformers/roc_bert", layers=1, checks=["gradients"], **SMALL)
    assert report.passed
    choices = find_inputs("roc_bert", nnkit.resolve("transformers/roc_bert", task="multiple-choice").config)
    assert {variant for _, variant in choices.inputs} == {1}


def test_a_text_ends_in_one_token():
    drawn = Ending(10, 2)((3, 8), {}, torch.int64, torch.Generator().manual_seed(0))
    assert ((drawn == 2).sum(-1) == 1).all()
    assert (drawn[:, -1] == 2).all()
    assert drawn.max() < 10


def saved_bert(folder: Path) -> transformers.PreTrainedModel:
    config = transformers.BertConfig(num_hidden_layers=1, num_labels=5, **SMALL)
    model = transformers.BertForSequenceClassification(config)
    model.save_pretrained(folder)
    return model


def saved_llama(folder: Path) -> transformers.PreTrainedModel:
    rope = {"rope_type": "default", "rope_theta": 5e5}
    config = transformers.LlamaConfig(
        num_hidden_layers=1, tie_word_embeddings=True, rope_parameters=rope, **SMALL
    )
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("save", [saved_bert, saved_llama])
def test_a_folder_is_built_as_it_was_saved(tmp_path, save):
    model = save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    data = read(ReadRequest(config=config, path=tmp_path))
    plugin, architecture = plugin_manager().find(data["architecture"])
    spec = make_spec(architecture, plugin, base=data)
    module = nnkit.build(spec)
    assert type(module).__name__ == type(model).__name__
    saved, built = model.state_dict(), module.state_dict()
    assert saved.keys() == built.keys()
    assert all(
        torch.equal(saved[name], built[name]) and saved[name].dtype == built[name].dtype for name in saved
    )
    in_file = sum(tensor.numel() for tensor in load_file(tmp_path / "model.safetensors").values())
    assert nnkit.summarize(spec).totals.parameters == in_file
    if save is saved_llama:
        assert module.config.rope_parameters["rope_theta"] == 5e5


def test_code_in_a_folder_is_refused(tmp_path):
    config = {"model_type": "bert", "auto_map": {"AutoModel": "modeling.Net"}}
    with pytest.raises(NnkitError, match="needs code of its own"):
        read(ReadRequest(config=config, path=tmp_path))
    assert read(ReadRequest(config={"architecture": "resnet18"}, path=tmp_path)) is None


def test_contrastive_logits_are_no_reason_to_fail():
    sizes = ("hidden_size=32", "num_attention_heads=2", "intermediate_size=64")
    settings = [
        *(f"text_config.{each}" for each in (*sizes, "vocab_size=100", "eos_token_id=2")),
        *(f"vision_config.{each}" for each in (*sizes, "image_size=32", "patch_size=8")),
    ]
    spec = nnkit.resolve("transformers/clip", layers=1, projection_dim=16, set=tuple(settings))
    report = nnkit.smoke_run(spec, checks=["batch-independence", "shapes"])
    status = {check.name: check.status for check in report.checks}
    assert status == {"shapes": "passed", "batch-independence": "skipped"}


def test_a_folder_with_short_texts_is_run_on_short_ones(tmp_path):
    part = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**part, "max_position_embeddings": 16, "vocab_size": 100, "eos_token_id": 99, "bos_token_id": 98}
    vision = {**part, "image_size": 32, "patch_size": 8}
    model = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    )
    model.save_pretrained(tmp_path)
    spec = nnkit.resolve(str(tmp_path))
    assert spec.sizes["time"] == 16
    assert nnkit.summarize(spec).totals.parameters == model.num_parameters()
