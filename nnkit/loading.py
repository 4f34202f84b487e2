"""`module:name` -> the object that it names; plugins name their code so, to be imported when needed."""

from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from nnkit.errors import PluginProblem


def load(reference: str) -> Callable[..., Any]:
    """Return what `module:name` names. Raises PluginProblem when it isn't there."""
    module, _, name = reference.partition(":")
    try:
        found: Callable[..., Any] = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise PluginProblem(
            f"can't load {reference}: {error}", "see the plugins: nnkit plugins -v"
        ) from error
    return found


def missing(packages: Iterable[str]) -> str:
    """Return the first of some packages that isn't installed, or an empty string."""
    return next((name for name in packages if find_spec(name) is None), "")
