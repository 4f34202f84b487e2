"""A folder with a hubconf.py, as torch.hub takes it: `folder:entrypoint`. Its code runs only as it was typed.

An entrypoint is called as torch.hub calls it, with its folder first on the import path. It differs in one
default: nothing is downloaded unasked, so `pretrained` is no until the user says yes.
"""

import ast
import functools
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nnkit.contract.text import shorten
from nnkit.errors import UsageProblem, did_you_mean
from nnkit.models.user_files import import_location, importing_from, own_summary

FILE = "hubconf.py"
LISTED = 8
DOWNLOADS = "pretrained"


def is_hub_folder(location: str) -> bool:
    """Whether a folder has a hubconf.py; a package that has one, too, is a package where it has that name."""
    folder = Path(location)
    is_package = location.isidentifier() and (folder / "__init__.py").is_file()
    return (folder / FILE).is_file() and not is_package


def load_entrypoint(reference: str) -> Callable[..., Any]:
    """Return what `folder:entrypoint` names, as a function that finds its neighbors whenever it is called.

    Raises UsageProblem where there is none, and where a package is missing that hubconf.py depends on.
    """
    location, _, name = reference.rpartition(":")
    found = entrypoints(location)
    if name not in found:
        hint = did_you_mean(name, found) or f"it has {shorten([*found], LISTED)}"
        raise UsageProblem(f"{location} has no entrypoint {name!r}", hint)
    return _from_folder(found[name], Path(location).resolve())


def entrypoints(location: str) -> dict[str, Callable[..., Any]]:
    """Return the functions and modules of a folder's hubconf.py that can build something."""
    path = Path(location, FILE)
    _check_dependencies(path)
    return {
        name: value
        for name, value in vars(import_location(str(path))).items()
        if not name.startswith("_") and _is_entrypoint(value)
    }


def choose_entrypoint(location: str) -> UsageProblem:
    """Return the error for a folder that is named without an entrypoint; it lists them."""
    references = {f"{location}:{name}": value for name, value in entrypoints(location).items()}
    if not references:
        hint = "it has a function for each model: def small(): return Net(8)"
        return UsageProblem(f"{Path(location, FILE)} has no entrypoint", hint)
    width = max(map(len, references))
    return UsageProblem(
        f"{location} has {len(references)} entrypoint{'s' if len(references) > 1 else ''}",
        f"name one: {next(iter(references))}",
        [f"{name:{width}}  {own_summary(value)}".rstrip() for name, value in references.items()],
    )


def _is_entrypoint(value: Any) -> bool:
    """Whether something is a function, or a class or object of torch.nn.Module, and not torch's own."""
    from torch import nn

    is_class = isinstance(value, type) and issubclass(value, nn.Module)
    if not (inspect.isfunction(value) or isinstance(value, (nn.Module, functools.partial)) or is_class):
        return False
    return str(getattr(value, "__module__", "")).partition(".")[0] not in ("torch", "typing", "os")


def _from_folder(entrypoint: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    if not inspect.isfunction(entrypoint):
        return entrypoint

    @functools.wraps(entrypoint)
    def build(*args: Any, **options: Any) -> Any:
        with importing_from(str(folder)):
            return entrypoint(*args, **options)

    signature = inspect.signature(entrypoint)
    parameters = [
        each.replace(default=False) if each.name == DOWNLOADS and each.default is True else each
        for each in signature.parameters.values()
    ]
    if parameters != [*signature.parameters.values()]:
        build.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return build


def _check_dependencies(path: Path) -> None:
    """Raise UsageProblem for the packages that hubconf.py names and that are missing; it doesn't run yet.

    torch.hub looks at them after the import, which then fails for the first of them in its own words.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # which the import reports
        return
    named: list[str] = []
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else ()
        if any(isinstance(target, ast.Name) and target.id == "dependencies" for target in targets):
            try:
                named = [str(each) for each in ast.literal_eval(node.value)]  # type: ignore[attr-defined]
            except (ValueError, TypeError):
                return
    if absent := [name for name in named if not _exists(name.partition(".")[0], path.parent)]:
        raise UsageProblem(
            f"{path} depends on packages that are not installed: {', '.join(absent)}",
            f"install what provides them, for example: pip install {' '.join(absent)}",
        )


def _exists(package: str, folder: Path) -> bool:
    if (folder / package).is_dir() or (folder / f"{package}.py").is_file():
        return True
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False
