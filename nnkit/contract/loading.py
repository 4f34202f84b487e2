"""`module:name` -> the object. Plugins name their code this way, so that it is imported only when needed."""

from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from nnkit.errors import PluginProblem


def load(reference: str) -> Callable[..., Any]:
    """Return the object that `module:name` names. Raises PluginProblem if it can't be imported."""
    module, _, name = reference.partition(":")
    try:
        loaded: Callable[..., Any] = getattr(import_module(module), name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and missing.partition(".")[0] != module.partition(".")[0]:
            package = missing.partition(".")[0].replace("_", "-")
            hint = f"install the package that provides it, probably: pip install {package}"
        else:
            hint = "see the full error with -v; see the plugins: nnkit plugins"
        prefix = "" if isinstance(error, (ImportError, AttributeError)) else f"{type(error).__name__}: "
        raise PluginProblem(f"can't load {reference}: {prefix}{error}", hint) from error
    return loaded


def missing(packages: Iterable[str]) -> str:
    """Return the first package that isn't installed, or an empty string."""
    return next((name for name in packages if find_spec(name) is None), "")
