"""The options that a zoo takes and doesn't type: `--set drop_rate=0.1`. Torch-free."""

import json
from collections.abc import Mapping
from typing import Any

from nnkit.errors import UsageProblem

SETTINGS = "set"
"""The config field that holds them, each as KEY=VALUE; so a config stays hashable."""


def settings_of(config: Any) -> dict[str, Any]:
    """Return what was given by `--set KEY=VALUE`: numbers, yes or no, none, lists and dicts as JSON, or text.

    Raises UsageProblem for a setting without a value, and for one that is given twice.

    Example:

        config = open_config("NetOptions", {})(set=("device=cuda", "sizes=[1, 2]"))
        assert settings_of(config) == {"device": "cuda", "sizes": [1, 2]}
    """
    settings: dict[str, Any] = {}
    for text in getattr(config, SETTINGS, ()):
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageProblem(f"can't read --set {text!r}", "write it as KEY=VALUE: --set drop_rate=0.1")
        if key in settings:
            raise UsageProblem(f"--set {key} is given twice", "leave one out")
        settings[key] = _read_value(value)
    return settings


def settings_text(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return settings in the form of the config field `set`, which `settings_of` reads back.

    Example:

        assert settings_text({"rate": 0.1, "name": "x", "digit": "1"}) == ("rate=0.1", "name=x", 'digit="1"')
    """
    return tuple(
        f"{key}={value if isinstance(value, str) and _read_value(value) == value else json.dumps(value)}"
        for key, value in settings.items()
    )


def _read_value(text: str) -> Any:
    words = {"true": True, "yes": True, "false": False, "no": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        return text
