"""The model types of transformers, read from its source. Imports nothing of transformers."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from nnkit import ZooName

TYPES = "MODEL_MAPPING_NAMES"
"""The mapping of each type that has a base model; all others are of heads: `MODEL_FOR_CTC_MAPPING_NAMES`."""

HEADS = {
    "multimodal": "IMAGE_TEXT VISUAL_QUESTION DOCUMENT_QUESTION ZERO_SHOT",
    "audio": "AUDIO SPEECH CTC RNNT TDT SPECTROGRAM WAVEFORM",
    "multimodal ": "MULTIMODAL",
    "vision": "IMAGE VIDEO DEPTH DETECTION SEGMENTATION BACKBONE MASK_GENERATION KEYPOINT POINTMAP POSE "
    "NORMAL_ESTIMATION TEXT_RECOGNITION TABLE_RECOGNITION",
    "time series": "TIME_SERIES",
    "text to text": "SEQ_TO_SEQ_CAUSAL",
    "text encoder": "MASKED_LM",
    "text generation": "CAUSAL_LM",
    "text encoder ": "TEXT_ENCODING SEQUENCE_CLASSIFICATION TOKEN_CLASSIFICATION QUESTION_ANSWERING",
}
"""The family of a type that has any of these heads; the first one that fits."""

PARTS = {
    "vision": "vision visual vit image video",
    "audio": "audio speech codec vocoder",
    "text": "text",
}
"""The family of a type without a head, by the words in its name: `clip_vision_model`."""


def names(package: Path) -> Iterator[ZooName]:
    """Yield each type that has a base model."""
    mappings = read_mappings(package)
    for name in mappings[TYPES]:
        heads = [mapping for mapping, types in mappings.items() if mapping != TYPES and name in types]
        yield ZooName(name, _family(name, heads))


def read_mappings(package: Path) -> dict[str, dict[str, str | tuple[str, ...]]]:
    """Return each mapping from types to the names of classes, as `modeling_auto.py` writes it."""
    file = package / "models" / "auto" / "modeling_auto.py"
    mappings: dict[str, dict[str, str | tuple[str, ...]]] = {}
    for statement in ast.parse(file.read_bytes()).body:
        match statement:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(func=ast.Name(id="OrderedDict"), args=[ast.List(elts=entries)]),
            ):
                mappings[name] = dict(_entries(entries, mappings))
    return mappings


def _entries(
    entries: list[ast.expr], mappings: Mapping[str, Mapping[str, str | tuple[str, ...]]]
) -> Iterator[tuple[str, str | tuple[str, ...]]]:
    """Yield the pairs of a list, with those of another mapping where it says `*list(OTHER.items())`."""
    for entry in entries:
        match entry:
            case ast.Starred(
                value=ast.Call(args=[ast.Call(func=ast.Attribute(value=ast.Name(id=other), attr="items"))])
            ):
                yield from mappings[other].items()
            case ast.Tuple():
                yield ast.literal_eval(entry)


def _family(name: str, heads: list[str]) -> str:
    for family, words in HEADS.items():
        if any(word in head for word in words.split() for head in heads):
            return family.strip()
    for family, words in PARTS.items():
        if any(word in name for word in words.split()):
            return family
    return "other"
