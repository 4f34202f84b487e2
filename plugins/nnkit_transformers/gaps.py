"""Settings that the default configuration of a type lacks, so that transformers builds no model from it."""

from collections.abc import Mapping
from typing import Any

HEAD = {"head_dim": 128}
HALF = {"partial_rotary_factor": 0.5}
"""Of a head is rotated, so that the three sections of its positions fit."""
SECTIONS = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [16, 16, 16, 16]}

GAPS: Mapping[str, Mapping[str, Any]] = {
    "autoformer": {"prediction_length": 24},
    "informer": {"prediction_length": 24},
    "time_series_transformer": {"prediction_length": 24},
    "esm": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    "hunyuan_v1_dense": HEAD,
    "hunyuan_v1_moe": HEAD,
    "hunyuan_vl": {"text_config": {**HEAD, "rope_parameters": SECTIONS}},
    "hunyuan_vl_text": {**HEAD, "rope_parameters": SECTIONS},
    "ministral": HEAD,
    "nemotron": {"num_key_value_heads": 8},
    "glm4v": {"text_config": HALF},
    "glm4v_text": HALF,
    "glm4v_moe": {"text_config": {**HEAD, **HALF}},
    "glm4v_moe_text": {**HEAD, **HALF},
    "glm46v": {"text_config": HALF},
    "glmga": {"text_config": HALF},
    "glm_image": {"text_config": HALF},
    "glm_image_text": HALF,
    "deepseek_v2": {"num_experts_per_tok": 6},
    "dots1": {"n_routed_experts": 128, "n_shared_experts": 2, "num_experts_per_tok": 6},
    "blip-2": {"image_token_index": 50265},
    "instructblip": {"image_token_index": 50265},
    "instructblipvideo": {"video_token_index": 50265},
    "moonshine_streaming": {"num_key_value_heads": 8},
    "chameleon": {"vocabulary_map": {"<image>": 8711}},
    "emu3": {"vocabulary_map": {"<image>": 151646}},
    "dbrx": {"attn_config": {"rope_theta": 500000.0, "clip_qkv": 8}},
    "aya_vision": {"vision_config": {"num_attention_heads": 16}},
    "t5gemma2_encoder": {"text_config": {"dropout_rate": 0.0}},
    "lw_detr": {"projector_scale_factors": [1.0]},
    "xmod": {"default_language": "en_XX"},
}
"""What a user sets comes before it."""
