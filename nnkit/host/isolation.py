"""Runs the code of a plugin so that what it prints or replaces affects nothing else. Torch-free.

This protects from honest mistakes. It can't stop malicious code, or code that ends the process (`os._exit`,
a crash in a compiled library).
"""

import functools
import io
import os
import signal
import sys
import threading
import typing
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType, TracebackType
from typing import Any, TypeAlias

from nnkit.errors import NnkitError, first_line

HEAVY = (
    "torch", "numpy", "onnx", "onnxruntime", "onnxscript", "transformers", "timm", "torchvision",
    "torch_geometric", "tensorflow", "jax", "scipy", "pandas", "matplotlib", "sklearn",
)  # fmt: skip
"""Modules that take long to import; a plugin imports them only when it builds a model."""


class Guard:
    """A context in which nothing reaches stdout, and whatever nnkit relies on is restored at the end.

    Restored are the standard streams, the working folder, and the functions and classes of the builtins, of
    click, pluggy, nnkit, and of the modules of the standard library that are imported by then.

    Attributes:
        shared: What to restore, from `shared_members`; collected once for all plugins.
        printed: The text that was kept from stdout.
        replaced: The names of what was restored.
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
        replaced = list(_restore({**self.shared, sys: {**self.shared[sys], **self._streams}}))
        if _working_folder() != self._folder and self._folder is not None:
            os.chdir(self._folder)
            replaced.append("the working folder")
        sys.stdout = self._stdout
        self.printed = self._text.getvalue()
        self.replaced = tuple(sorted(replaced))

    def faults(self) -> Iterator[str]:
        """Yield what was undone, in words."""
        if self.printed.strip():
            yield f"it prints to stdout, which is for results: {first_line(self.printed)!r}"
        if self.replaced:
            yield f"it replaces {', '.join(self.replaced)}, which was put back"


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what takes longer, where the system can interrupt it.

    That is in the main thread of a POSIX system; elsewhere, Ctrl-C ends it.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*received: object) -> None:
        raise TimeoutError(f"takes more than {seconds:g} seconds")

    handler = signal.signal(signal.SIGALRM, stop)
    remaining, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, remaining)
        signal.signal(signal.SIGALRM, handler)


def guarded_hook(
    impl: Callable[..., Any], failed: Callable[[Any, BaseException], None]
) -> Callable[..., Any]:
    """Return a hookimpl that calls `failed` with request and error if `impl` fails, and returns None."""

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
    """Return a wrapper that calls `failed` with the error if `impl` fails, and keeps the inner result."""

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
"""Packages that all plugins share, as they share the standard library."""

STREAMS = ("stdin", "stdout", "stderr")

PATCHED = ("_check_generic", "_collect_parameters", "_collect_type_vars")
"""What typing_extensions replaces in typing; the first plugin that needs msgspec imports both."""


SharedMembers: TypeAlias = Mapping[Any, Mapping[str, Any]]


def shared_members() -> SharedMembers:
    """Return the functions and classes that every command relies on, by the module or class that has them."""
    return {owner: _members(owner) for owner in _shared_owners()}


def _shared_owners() -> list[Any]:
    """Return the modules that every command relies on and that a plugin could change, and their classes."""
    owners: list[Any] = []
    for name, module in list(sys.modules.items()):
        package = name.partition(".")[0]
        if not isinstance(module, ModuleType) or package not in (SHARED | sys.stdlib_module_names):
            continue
        owners.append(module)
        if package in SHARED or package in ("json", "pathlib"):
            owners += [value for value in vars(module).values() if _is_class_of(value, name)]
    return owners


def _is_class_of(value: object, module: str) -> bool:
    return isinstance(value, type) and value.__module__ == module


def _members(owner: Any) -> dict[str, Any]:
    """Return the functions and classes of a module, or all of a class."""
    if isinstance(owner, type):
        return dict(vars(owner))
    return {
        name: member
        for name, member in vars(owner).items()
        if callable(member) and not (owner is typing and name in PATCHED)
    }


def _restore(before: SharedMembers) -> Iterator[str]:
    """Restore what was replaced, and yield its names."""
    for owner, members in before.items():
        now = vars(owner)
        if members.items() <= now.items():  # as it nearly always is: the loop below takes five times as long
            continue
        for name, member in members.items():
            if now.get(name, _MISSING) is not member:
                setattr(owner, name, member)
                yield f"{_name_of(owner)}.{name}"


def _name_of(owner: Any) -> str:
    """Return `json` for a module, and `click.Command` for a class, wherever in its package it is defined."""
    if isinstance(owner, type):
        return f"{owner.__module__.partition('.')[0]}.{owner.__qualname__}"
    return str(owner.__name__)


_MISSING = object()


def _working_folder() -> str | None:
    """Return the working folder; None if it was removed."""
    try:
        return os.getcwd()  # noqa: PTH109 - Path.cwd takes longer, and this runs for each plugin
    except OSError:
        return None


def heavy_modules() -> frozenset[str]:
    """Return the heavy modules that are imported by now."""
    return frozenset(HEAVY) & sys.modules.keys()
