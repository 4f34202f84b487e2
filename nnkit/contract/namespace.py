"""A zoo: a package with more architectures than a plugin can declare: `timm/convnext_tiny`. Torch-free.

A plugin that adapts a zoo returns a Namespace. Its functions are named by string, because they are called at
different times: `names` by `nnkit list timm/` and by Tab, so it imports neither the zoo nor torch; all others
by commands that import both anyway.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from nnkit.contract.catalog import CatalogRow
from nnkit.contract.config import RESERVED, options_of
from nnkit.contract.settings import SETTINGS

PREFIX = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
MEMBER = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)
"""The names that a zoo may use; a plugin's own architectures follow a stricter rule."""


class ZooName(NamedTuple):
    """One architecture of a zoo, and the family that `nnkit list` shows it under.

    Example:

        assert ZooName("net-8", "linear").family == "linear"
    """

    name: str
    family: str = ""


@dataclass(frozen=True, kw_only=True)
class DeclareRequest:
    """Declare `name`.

    Attributes:
        name: The name without the prefix.
        row: What the catalog knows about it under the installed version of the zoo, if anything.

    Example:

        request = DeclareRequest(name="net-8", row=CatalogRow(name="net-8", sizes="32"))
        assert (request.name, request.row.sizes) == ("net-8", "32")
    """

    name: str
    row: CatalogRow | None = None


@dataclass(frozen=True, kw_only=True)
class ReadRequest:
    """Say which architecture a folder or file describes, if it is one of this zoo.

    Attributes:
        config: What its `config.json` holds; empty for a file that has none.
        path: The folder, or the file.

    Example:

        def read(request: ReadRequest):
            if request.config.get("model_type") != "net":
                return None
            config = {"width": request.config["width"]}
            return {"architecture": "yours/net", "config": config, "weights": None}

        request = ReadRequest(config={"model_type": "net", "width": 8}, path=Path("net"))
        assert read(request)["config"] == {"width": 8}
    """

    config: Mapping[str, Any]
    path: Path


@dataclass(frozen=True, kw_only=True)
class Namespace:
    """A zoo whose architectures are found under a prefix.

    Attributes:
        prefix: What its names begin with, before the slash: lower-case words joined by hyphens.
        summary: One line, for `nnkit list`.
        package: The package that must be installed, as it is imported: `torch_geometric`.
        distribution: The distribution that it comes from: `torch-geometric`. A name may mean something else
            in another version of it.
        install: The command that installs it.
        names: `module:function`, called as `names(folder)` with the folder of the package; returns a ZooName
            for each architecture. It reads files and imports neither the zoo nor torch.
        declare: `module:function`, called with a DeclareRequest; returns the Architecture. It may import the
            zoo. The name of the Architecture is that of the request.
        read: `module:function`, called with a ReadRequest; returns a ModelSpec as plain data (`architecture`,
            `config`, `weights`, `dtype`) for a folder or file of this zoo, or None. Empty: it has none.
        cached: `module:function`, called with the ModelSpec; returns the path of the published weights in a
            cache of this machine, or None. It downloads nothing. Empty: they can't be looked up.
        probe: `module:function`, called with a name when the catalog is made; returns what can only be found
            by trying, by the name of a CatalogRow's field. Empty: nothing.

    Example:

        zoo = Namespace(
            prefix="yours",
            summary="Networks of the yours package",
            package="yours",
            distribution="yours",
            install="pip install yours",
            names="nnkit_yours.zoo:names",
            declare="nnkit_yours.zoo:declare",
        )
        assert zoo.prefix == "yours"
    """

    prefix: str
    summary: str
    package: str
    distribution: str
    install: str
    names: str
    declare: str
    read: str = ""
    cached: str = ""
    probe: str = ""

    @property
    def name(self) -> str:
        """Its prefix, as messages name it."""
        return self.prefix


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


def members(names: Iterable[ZooName]) -> dict[str, str]:
    """Return the family of each name; raises ValueError for what can't be a name."""
    families: dict[str, str] = {}
    for each in names:
        name, family = each
        if not isinstance(name, str) or not MEMBER.fullmatch(name):
            raise ValueError(f"{name!r} can't be the name of an architecture")
        families[name] = " ".join(str(family).split())
    return families
