"""The zoos that plugins add, as `nnkit list` and `nnkit plugins` show them. Torch-free."""

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase

from nnkit.host.registry import PluginRegistry
from nnkit.host.zoo_index import installed_version, package_folder


@dataclass(frozen=True, kw_only=True)
class Zoo:
    """A zoo, and whether its architectures can be used.

    Attributes:
        prefix: What its names begin with, before the slash.
        plugin: The plugin that adds it.
        summary: One line on it.
        distribution: The distribution that it needs.
        version: The installed version of that; empty if it isn't known.
        installed: Whether its package is installed.
        install: The command that installs it.
        architectures: How many it has, or had when the catalog was made; 0 if its names aren't known.
    """

    prefix: str
    plugin: str
    summary: str
    distribution: str
    version: str
    installed: bool
    install: str
    architectures: int

    @property
    def state(self) -> str:
        """What is in it, in a few words: `1,371 architectures`, or `not installed`."""
        if not self.installed:
            return f"not installed: {self.install}"
        return f"{self.architectures:,} architectures" if self.architectures else "its names can't be read"

    def to_dict(self) -> dict[str, object]:
        """Return it as plain data."""
        return asdict(self)


def zoos(registry: PluginRegistry) -> Iterator[Zoo]:
    """Yield each zoo, in the order of plugins. Their names are read, if that has to be."""
    for plugin in registry.plugins.values():
        for prefix, namespace in plugin.namespaces.items():
            yield Zoo(
                prefix=prefix,
                plugin=plugin.name,
                summary=namespace.summary,
                distribution=namespace.distribution,
                version=installed_version(namespace),
                installed=package_folder(namespace) is not None,
                install=namespace.install,
                architectures=len(registry.known_members(prefix)),
            )


def has_wildcard(pattern: str) -> bool:
    """Whether a pattern is to be matched as a whole, such as `res*`."""
    return not set(pattern).isdisjoint("*?[")


def matches(pattern: str, name: str, family: str) -> bool:
    """Whether `pattern` is part of a name or family, or matches the name if it has a wildcard."""
    pattern, name = pattern.lower(), name.lower()
    if has_wildcard(pattern):
        return fnmatchcase(name, pattern)
    return pattern in name or pattern in family.lower()


def split_prefix(name: str, prefixes: Collection[str]) -> tuple[str, str]:
    """Return (`timm`, `convnext_tiny`) for a name or a pattern in a zoo, otherwise ("", name)."""
    prefix, slash, rest = name.partition("/")
    return (prefix, rest) if slash and prefix in prefixes else ("", name)
