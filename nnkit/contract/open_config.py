"""The config of an architecture in a zoo, made of the keyword arguments that the zoo takes. Torch-free."""

from collections.abc import Mapping
from dataclasses import MISSING, field, make_dataclass
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from nnkit.contract.config import RESERVED, options_of
from nnkit.contract.settings import SETTINGS


class OpenField(NamedTuple):
    """A parameter of a zoo's builder: its type, its default, and what it does.

    Example:

        assert OpenField(int, 16).default == 16
    """

    kind: Any
    default: Any
    description: str = ""


def open_config(name: str, fields: Mapping[str, OpenField]) -> type:
    """Return a config type with an option for each field that can be one, and `set` for all else.

    A field can't be an option if its name is one of nnkit's own, if a command line can't express its type, or
    if its default is not of that type. It can still be given: `--set depth=3`.

    Example:

        config = open_config("NetOptions", {"width": OpenField(int, 16), "device": OpenField(str, "cpu")})
        assert list(config.__dataclass_fields__) == ["width", "set"]
    """
    typed = [
        (key, Annotated[each.kind, Meta(description=each.description)], field(default=each.default))
        for key, each in fields.items()
        if key not in RESERVED and key.isidentifier() and _can_be_option(key, each)
    ]
    settings = Annotated[
        tuple[str, ...], Meta(description="any other option of the zoo, as KEY=VALUE (repeatable)")
    ]
    return make_dataclass(name, [*typed, (SETTINGS, settings, field(default=()))], frozen=True, kw_only=True)


def _can_be_option(name: str, each: OpenField) -> bool:
    if each.default is MISSING or type(each.default).__hash__ is None:
        return False
    try:
        typed = [(name, each.kind, field(default=each.default))]
        option = options_of(make_dataclass("Trial", typed, frozen=True, kw_only=True))[0]
        msgspec.convert(msgspec.to_builtins(each.default), each.kind)
    except (TypeError, RuntimeError, msgspec.ValidationError):
        return False
    words = option.kind.replace(",…", "").split(" or ")
    known = {"flag", "integer", "number", "text", "none"}
    return bool(option.choices) or all(word in known for word in words)
