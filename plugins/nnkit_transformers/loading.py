"""The tensors of a file under the names that they have in the model, as transformers translates them itself.

Files keep the names of the past (`LayerNorm.gamma`), hold experts singly where the model has them stacked,
and name the parts of a model with a head differently from those of one without (`bert.encoder`, `encoder`).
"""

import copy
import logging
from collections.abc import Mapping, Set
from types import SimpleNamespace
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

LOG = logging.getLogger("nnkit")


def translate(model: PreTrainedModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by the names of the model; what the model has no name for keeps its own.

    What transformers ignores is left out.
    """
    own = model.state_dict()
    if state.keys() == own.keys() and all(state[name].shape == own[name].shape for name in own):
        return dict(state)
    transforms = get_model_conversion_mapping(model)
    renamings = [each for each in transforms if isinstance(each, WeightRenaming)]
    converters = [each for each in transforms if isinstance(each, WeightConverter)]
    converter_of = {pattern: each for each in converters for pattern in each.source_patterns}
    collected: dict[str, Any] = {}
    translated: dict[str, Tensor] = {}
    changed: dict[str, str] = {}
    for key in sorted(state, key=dot_natural_key):  # experts in their order
        name, pattern = rename_source_key(key, renamings, converters, model.base_model_prefix, own)
        if name not in own and key in own:
            name, pattern = key, None
        if name not in own:
            translated[key] = state[key]
            continue
        if name not in collected:
            collected[name] = copy.deepcopy(converter_of[pattern]) if pattern else WeightRenaming(key, name)
        collected[name].add_tensor(name, key, pattern or key, state[key])
        if name != key:
            changed[key] = name
    for name, transform in collected.items():
        for target, value in transform.convert(name, model=model, config=model.config).items():
            translated[target] = value[0] if isinstance(value, list) else value
    if changed:
        first, name = next(iter(changed.items()))
        LOG.info("tensors named as transformers loads them: %d, such as %s -> %s", len(changed), first, name)
    ignored = translated.keys() - own.keys() - _unexpected(model, translated.keys() - own.keys())
    return {name: value for name, value in translated.items() if name not in ignored}


def _unexpected(model: PreTrainedModel, names: Set[str]) -> set[str]:
    """Return those of the names that transformers would report, and not silently leave out."""
    info = SimpleNamespace(missing_keys=set(), unexpected_keys=set(names))
    model._adjust_missing_and_unexpected_keys(info)
    return info.unexpected_keys
