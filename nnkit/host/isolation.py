"""Runs what belongs to a plugin so that what it prints or replaces reaches nobody else. Torch-free.

It keeps an honest author's slip from harming others. Code that means to do harm, or that ends the
process from within (`os._exit`, a crash in a compiled library), it can't hold.
"""

import functools
import io
import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from types import ModuleType, TracebackType
from typing import Any, TypeAlias

from nnkit.errors import NnkitError

HEAVY = (
    "torch", "numpy", "onnx", "onnxruntime", "onnxscript", "transformers", "timm", "torchvision",
    "torch_geometric", "tensorflow", "jax", "scipy", "pandas", "matplotlib", "sklearn",
)  # fmt: skip
"""Modules that take long to import, for which a plugin's models are to wait until they are built."""


class Guard:
    """A context in which nothing reaches stdout, and what is replaced of what nnkit relies on is put back.

    That is: the standard streams, the working folder, and the functions and classes of the builtins, of
    click, pluggy, nnkit and those modules of the standard library that are imported by then.

    shared: what is put back, from `shared_members`; it is looked up once for all plugins.
    printed: what was kept from stdout. replaced: the names of what was put back.
    """

    def __init__(self, shared: "SharedMembers") -> None:
        self.shared = shared
        self.printed = ""
        self.replaced: tuple[str, ...] = ()

    def __enter__(self) -> "Guard":
        self._stdout = sys.stdout
        sys.stdout = self._text = io.StringIO()
        self._streams = {name: getattr(sys, name) for name in STREAMS}
        self._folder = _working_folder()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        replaced = list(_put_back({**self.shared, sys: {**self.shared[sys], **self._streams}}))
        if _working_folder() != self._folder and self._folder is not None:
            os.chdir(self._folder)
            replaced.append("the working folder")
        sys.stdout = self._stdout
        self.printed = self._text.getvalue()
        self.replaced = tuple(sorted(replaced))


def guarded_hook(
    impl: Callable[..., Any], failed: Callable[[Any, BaseException], None]
) -> Callable[..., Any]:
    """Return a hookimpl that gives None where `impl` fails, once `failed` has taken request and error."""

    @functools.wraps(impl)
    def guarded(request: Any) -> Any:
        try:
            return impl(request)
        except NnkitError:
            raise
        except (Exception, SystemExit) as error:
            failed(request, error)
            return None

    return guarded


def guarded_wrapper(impl: Callable[..., Any], failed: Callable[[BaseException], None]) -> Callable[..., Any]:
    """Return a wrapper that leaves things as they are where `impl` fails, and tells `failed` of it."""

    @functools.wraps(impl)
    def guarded(request: Any) -> Generator[None, Any, Any]:
        wrapper = impl(request)
        try:
            next(wrapper)
        except NnkitError:
            raise
        except (Exception, SystemExit) as error:
            failed(error)
            return (yield)
        result, inner = None, None
        try:
            result = yield
        except Exception as error:
            inner = error
        try:
            wrapper.send(result) if inner is None else wrapper.throw(inner)
            raise RuntimeError("a wrapper yields once")
        except StopIteration as end:
            return end.value
        except NnkitError:
            raise
        except (Exception, SystemExit) as error:
            if error is not inner:
                failed(error)
        if inner is not None:
            raise inner
        return result

    return guarded


SHARED = frozenset({"click", "pluggy", "nnkit"})
"""Packages of which every module is shared by all plugins, as is the standard library."""

STREAMS = ("stdin", "stdout", "stderr")


SharedMembers: TypeAlias = Mapping[Any, Mapping[str, Any]]


def shared_members() -> SharedMembers:
    """Return the functions and classes that every command relies on, by the module or class that has them."""
    return {place: _members(place) for place in _shared_places()}


def _shared_places() -> list[Any]:
    """Return the modules that every command relies on and that anybody could change, and their classes."""
    places: list[Any] = []
    for name, module in list(sys.modules.items()):
        package = name.partition(".")[0]
        if not isinstance(module, ModuleType) or package not in (SHARED | sys.stdlib_module_names):
            continue
        places.append(module)
        if package in SHARED or package in ("json", "pathlib"):
            places += [each for each in vars(module).values() if _is_class_of(each, name)]
    return places


def _is_class_of(value: object, module: str) -> bool:
    return isinstance(value, type) and value.__module__ == module


def _members(place: Any) -> dict[str, Any]:
    """Return the functions and classes of a module, or all of a class."""
    is_class = isinstance(place, type)
    return {name: member for name, member in vars(place).items() if is_class or callable(member)}


def _put_back(before: SharedMembers) -> Iterator[str]:
    """Set what was replaced to what it was, and yield the name of each."""
    for place, members in before.items():
        now = vars(place)
        for name, member in members.items():
            if now.get(name, _MISSING) is not member:
                setattr(place, name, member)
                yield f"{_name_of(place)}.{name}"


def _name_of(place: Any) -> str:
    """Return `json` for a module; for a class `click.Command`, wherever in its package it is defined."""
    if isinstance(place, type):
        return f"{place.__module__.partition('.')[0]}.{place.__qualname__}"
    return str(place.__name__)


_MISSING = object()


def _working_folder() -> str | None:
    """Return the working folder; None where somebody has removed it."""
    try:
        return os.getcwd()  # noqa: PTH109 - Path.cwd takes longer, and this runs for each plugin
    except OSError:
        return None


def heavy_modules() -> frozenset[str]:
    """Return those heavy modules that are imported by now."""
    return frozenset(HEAVY) & sys.modules.keys()
