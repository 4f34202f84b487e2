"""A zoo: a package with more architectures than a plugin can declare: `timm/convnext_tiny`. Torch-free.

A plugin that adapts a zoo returns a Namespace. Its functions are named by string, because they are called at
different times: `names` by `nnkit list timm/` and by Tab, so it imports neither the zoo nor torch; all others
by commands that import both anyway.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

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


def members(names: Iterable[ZooName]) -> dict[str, str]:
    """Return the family of each name; raises ValueError for what can't be a name."""
    families: dict[str, str] = {}
    for each in names:
        name, family = each
        if not isinstance(name, str) or not MEMBER.fullmatch(name):
            raise ValueError(f"{name!r} can't be the name of an architecture")
        families[name] = " ".join(str(family).split())
    return families


def namespace_problem(namespace: Namespace) -> str:
    """Return what is wrong with a namespace, or an empty string."""
    if not PREFIX.fullmatch(namespace.prefix):
        return "a prefix is lower-case words joined by hyphens"
    for part in ("package", "distribution", "install"):
        if not isinstance(value := getattr(namespace, part), str) or not value:
            return f"{part} is {value!r}, not text"
    for field in ("names", "declare", "read", "cached", "probe"):
        value = getattr(namespace, field)
        if value == "" and field not in ("names", "declare"):
            continue
        module, colon, function = str(value).partition(":")
        if not colon or not all(part.isidentifier() for part in (*module.split("."), *function.split("."))):
            return f"{field} is {value!r}; name a function as 'module:function'"
    return ""
