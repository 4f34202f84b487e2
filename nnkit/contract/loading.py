"""`module:name` -> the object that it names; plugins name their code so, to be imported when needed."""

from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from nnkit.errors import PluginProblem


def load(reference: str) -> Callable[..., Any]:
    """Return what `module:name` names. Raises PluginProblem when it isn't there or fails to be imported."""
    module, _, name = reference.partition(":")
    try:
        found: Callable[..., Any] = getattr(import_module(module), name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and missing.partition(".")[0] != module.partition(".")[0]:
            package = missing.partition(".")[0].replace("_", "-")
            hint = f"install the package that provides it, probably: pip install {package}"
        else:
            hint = "see where: repeat with -v; see the plugins: nnkit plugins"
        kind = "" if isinstance(error, (ImportError, AttributeError)) else f"{type(error).__name__}: "
        raise PluginProblem(f"can't load {reference}: {kind}{error}", hint) from error
    return found


def missing(packages: Iterable[str]) -> str:
    """Return the first of some packages that isn't installed, or an empty string."""
    return next((name for name in packages if find_spec(name) is None), "")
