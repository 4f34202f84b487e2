"""The names of a zoo, read from its files. Torch-free, and nothing of the zoo is imported."""

import sys
from importlib.util import find_spec
from pathlib import Path

from nnkit.contract.loading import load
from nnkit.contract.namespace import Namespace, members


def package_folder(namespace: Namespace) -> Path | None:
    """Return the folder of a zoo's package, or None if it isn't installed."""
    if namespace.package in sys.modules and getattr(sys.modules[namespace.package], "__path__", None):
        return Path(next(iter(sys.modules[namespace.package].__path__)))
    spec = find_spec(namespace.package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return Path(folders[0]) if folders else None


def read_names(namespace: Namespace, folder: Path) -> dict[str, str]:
    """Return the family of each architecture of a zoo, by name."""
    return members(load(namespace.names)(folder))
