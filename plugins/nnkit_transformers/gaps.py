"""Settings that the default configuration of a type lacks, so that transformers builds no model from it."""

from collections.abc import Mapping
from typing import Any

HEAD = {"head_dim": 128}

GAPS: Mapping[str, Mapping[str, Any]] = {
    "autoformer": {"prediction_length": 24},
    "informer": {"prediction_length": 24},
    "time_series_transformer": {"prediction_length": 24},
    "esm": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    "hunyuan_v1_dense": HEAD,
    "hunyuan_v1_moe": HEAD,
    "hunyuan_vl_text": HEAD,
    "ministral": HEAD,
}
"""What a user sets comes before it."""
