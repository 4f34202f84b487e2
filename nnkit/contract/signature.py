"""How the tensors of a declaration are passed to forward: by dotted names, beside constants. Torch-free."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

Container: TypeAlias = str | type
"""`list`, `tuple`, `dict`, `module:Class`, or a class: a named tuple, a dataclass or a mapping."""

CONTAINERS = ("list", "tuple", "dict")


@dataclass(frozen=True)
class Signature:
    """The arguments of forward as a tree: every verb handles only its leaves, in order.

    Attributes:
        names: The dotted names of the tensors. The first part is a parameter of forward; `cache.0.key` is a
            tensor in the first entry of `cache`.
        constants: The arguments that are no tensors, by dotted name.
        containers: What holds the parts of a name, by its dotted name, which may have wildcards (`cache.*`).
            Where none is named, the annotation of forward says it; where there is none either, numbered
            parts make a list and named parts a dict.

    Example:

        signature = Signature(("tokens", "cache.0.key", "cache.0.value"), {"train": False})
        assert list(signature.parameters) == ["tokens", "cache", "train"]
    """

    names: tuple[str, ...]
    constants: Mapping[str, Any] = field(default_factory=dict)
    containers: Mapping[str, Container] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, None]:
        """The names of the arguments of forward, in declared order: tensors first, then constants."""
        return dict.fromkeys(name.partition(".")[0] for name in (*self.names, *self.constants))

    @property
    def is_flat(self) -> bool:
        """Whether every argument is a tensor of its own."""
        return not self.constants and not any("." in name for name in self.names)

    def container_at(self, path: str) -> Container | None:
        """Return the declared container of the parts of `path`, or None."""
        if path in self.containers:
            return self.containers[path]
        return next((kind for name, kind in self.containers.items() if fnmatchcase(path, name)), None)


def is_within(name: str, path: str) -> bool:
    """Whether a dotted name is `path`, or a part of it: `cache.0.key` is within `cache`."""
    return name == path or name.startswith(f"{path}.")


def prefixes_of(name: str) -> Iterator[str]:
    """Yield the paths that a dotted name is within, the shortest first: `cache`, `cache.0`, `cache.0.key`."""
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))
