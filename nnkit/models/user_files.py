"""Import the user's own code, only because the user typed where it is, and say what modules it has."""

import importlib.util
import inspect
import os
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from nnkit.errors import NnkitError, UsageProblem, did_you_mean, first_line
from nnkit.models.user_lines import at_line

MAX_LEVELS = 5  # folders that a package may be deep
NEVER_HIDDEN = frozenset("__main__ __init__ abc codecs encodings io nnkit os site stat torch".split())
"""Names that a user's file can't take: Python has them before it runs any file, or nnkit runs on them."""


def load_code(reference: str) -> Callable[..., Any]:
    """Return the class, function or module object that `file.py:Class` or `package.module:Class` names.

    Raises UsageProblem where there is none, NnkitError where its file fails when imported.
    """
    location, _, name = reference.rpartition(":")
    namespace = import_location(location)
    factory = getattr(namespace, name, None)
    if callable(factory):
        return factory  # type: ignore[no-any-return]
    own = modules_in(namespace)
    offered = f"it has {', '.join(own)}" if own else "write file.py:Class"
    raise UsageProblem(
        f"{location} has no class or function {name!r}", did_you_mean(name, own or vars(namespace)) or offered
    )


def modules_of_file(location: str) -> dict[str, Callable[..., Any]]:
    """Return what a file has that is a module, or returns one; see modules_in."""
    return modules_in(import_location(location))


def modules_in(namespace: ModuleType) -> dict[str, Callable[..., Any]]:
    """Return what an imported file has that is a module, or returns one, in the order of the file."""
    return {
        name: value
        for name, value in vars(namespace).items()
        if not name.startswith("_") and _is_module(value, namespace.__name__)
    }


def _is_module(value: Any, file: str) -> bool:
    """Whether something is an nn.Module, or a class or function of that file that makes one."""
    from torch import nn

    if isinstance(value, nn.Module):
        return True
    if getattr(value, "__module__", None) != file:
        return False
    if inspect.isfunction(value):
        try:
            value = typing.get_type_hints(value).get("return")
        except Exception:  # it names something that is imported only for type checkers
            return False
        return isinstance(value, type) and issubclass(value, nn.Module)
    return isinstance(value, type) and issubclass(value, nn.Module) and value.forward is not nn.Module.forward


def own_summary(factory: Callable[..., Any]) -> str:
    """Return the first line of the docstring that a class or function has, not one that it inherits."""
    text = vars(factory).get("__doc__") if isinstance(factory, type) else getattr(factory, "__doc__", None)
    return first_line(inspect.cleandoc(text)) if isinstance(text, str) and text.strip() else ""


def import_location(location: str) -> ModuleType:
    """Import a file or a module; its errors name the line."""
    try:
        return _import_file(Path(location)) if location.endswith(".py") else import_module(location)
    except FileNotFoundError as error:
        raise UsageProblem(f"file {location} does not exist{at_line(error)}", "check the path") from error
    except ModuleNotFoundError as error:
        hint = "check the name and PYTHONPATH, or install the package"
        raise UsageProblem(f"can't import {location}: {error}{at_line(error)}", hint) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit, for example
        problem = f"{type(error).__name__}: {first_line(error)}"
        raise NnkitError(
            f"{location} fails when imported{at_line(error)}: {problem}", "see the full error with -v"
        ) from error


def _import_file(path: Path) -> ModuleType:
    """Import a file as `python FILE` runs it: it can import its neighbors, also later on.

    A file that imports relatively (`from .layers import head`) is imported as a part of its package, as
    `python -m package.file` does.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    path = path.resolve()
    try:
        return _execute(path, path.stem, path.parent)
    except ImportError as error:
        if "attempted relative import" not in str(error):
            raise
        for levels in range(1, min(MAX_LEVELS, len(path.parents))):
            root = path.parents[levels]
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            try:
                return _execute(path, name, root)
            except ImportError as relative:
                if "attempted relative import" not in str(relative):
                    raise
        raise


def _execute(path: Path, name: str, root: Path) -> ModuleType:
    """Execute a file as the module `name`, which is not `__main__`; imports begin in the folder `root`."""
    name = "main" if name == "__main__" else name
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    with importing_from(str(root)):
        if root != path.parent:
            import_module(name.rpartition(".")[0])
        sys.modules[name] = module  # dataclasses and pickles look their module up
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
    return module


_imported_from: dict[str, set[str]] = {}
"""For each folder of an imported file, the modules that were imported from the same folder."""

_appended: list[str] = []
"""The folders that were put last on the import path."""


@contextmanager
def importing_from(folder: str) -> Iterator[None]:
    """Put a folder first on the import path, and forget modules imported from the folders of other files.

    A file in it may have the name of a module that nnkit uses (`click.py`): then that module is out of the
    way meanwhile.
    """
    for other in _imported_from.keys() - {folder}:
        for name in _imported_from.pop(other):
            sys.modules.pop(name, None)
    others = [other for other in _appended if other != folder and other in sys.path]
    for other in others:  # a folder without __init__.py gives way to a module of any folder behind it
        sys.path.remove(other)
    hidden = _hide_namesakes(folder)
    before = set(sys.modules)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        sys.path.extend(others)
        if folder not in sys.path:
            sys.path.append(folder)  # last, for imports inside forward
            _appended.append(folder)
        new = {name for name in sys.modules.keys() - before if _is_in(sys.modules[name], folder)}
        kept = new - _restore(hidden, new)
        if not _is_installed(Path(folder)):
            _imported_from.setdefault(folder, set()).update(kept)


def _hide_namesakes(folder: str) -> dict[str, ModuleType]:
    """Take modules from elsewhere that have the name of a file in the folder out of sys.modules."""
    if _is_installed(Path(folder)):
        return {}
    entries = list(Path(folder).iterdir())
    names = {entry.stem for entry in entries if entry.suffix == ".py"}
    names |= {entry.name for entry in entries if entry.is_dir() and _is_package(entry)}
    names -= {*sys.builtin_module_names, *NEVER_HIDDEN}
    clashes = {
        name: module
        for name, module in list(sys.modules.items())
        if (top := name.partition(".")[0]) in names and not _is_in(sys.modules.get(top, module), folder)
    }
    if clashes:
        import torch  # noqa: F401, so that its own imports find what they mean
    for name in clashes:
        sys.modules.pop(name, None)
    return clashes


def _is_package(folder: Path) -> bool:
    """Whether a folder would be imported; one without __init__.py is, if nothing else has its name."""
    if (folder / "__init__.py").is_file():
        return True
    if folder.name not in sys.modules:
        return False
    found = PathFinder.find_spec(folder.name, [str(folder.parent), *sys.path])
    return found is not None and found.origin is None and any(folder.glob("*.py"))


def _restore(hidden: Mapping[str, ModuleType], new: set[str]) -> set[str]:
    """Put hidden modules back; return those of `new` that made way, with the standard library's namesakes."""
    tops = {name.partition(".")[0] for name in hidden} | sys.stdlib_module_names
    gone = {name for name in new if name.partition(".")[0] in tops}
    for name in gone:
        sys.modules.pop(name, None)
    sys.modules.update(hidden)
    return gone


def _is_in(module: Any, folder: str) -> bool:
    """Whether a module was imported from a folder, and not from an environment that lies within it."""
    spec = getattr(module, "__spec__", None)  # has the folders of a package without __init__.py
    places = [getattr(module, "__file__", None), *(getattr(spec, "submodule_search_locations", None) or ())]
    inside = [Path(place).relative_to(folder) for place in places if str(place).startswith(folder + os.sep)]
    return any(not _is_installed(place) for place in inside)


def _is_installed(path: Path) -> bool:
    return not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
