"""Runs what belongs to a plugin so that what it prints or replaces reaches nobody else. Torch-free.

It keeps an honest author's slip from harming others. Code that means to do harm, or that ends the
process from within (`os._exit`, a crash in a compiled library), it can't hold.
"""

import builtins
import functools
import io
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, redirect_stdout
from types import TracebackType
from typing import Any

from nnkit.errors import NnkitError

HEAVY = (
    "torch", "numpy", "onnx", "onnxruntime", "onnxscript", "transformers", "timm", "torchvision",
    "torch_geometric", "tensorflow", "jax", "scipy", "pandas", "matplotlib", "sklearn",
)  # fmt: skip
"""Modules that take long to import, for which a plugin's models are to wait until they are built."""


class Guard:
    """A context in which nothing reaches stdout, and what is replaced in click or the builtins is put back.

    printed: what was kept from stdout. replaced: the names of what was put back.
    """

    def __init__(self) -> None:
        self.printed = ""
        self.replaced: tuple[str, ...] = ()

    def __enter__(self) -> "Guard":
        self._stack = ExitStack()
        self._text = self._stack.enter_context(redirect_stdout(io.StringIO()))
        self._before = {place: dict(vars(place)) for place in _shared_places()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self.printed = self._text.getvalue()
        self.replaced = tuple(_put_back(self._before))


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


def _shared_places() -> list[Any]:
    """Return the modules and classes that every command relies on and that anybody could change."""
    click = sys.modules.get("click")
    if click is None:
        return [builtins]
    classes = [each for each in vars(click).values() if isinstance(each, type)]
    return [builtins, click, *(each for each in classes if each.__module__.startswith("click."))]


def _put_back(before: Mapping[Any, dict[str, Any]]) -> list[str]:
    replaced = []
    for place, members in before.items():
        now = vars(place)
        for name, member in members.items():
            if now.get(name, _MISSING) is not member:
                setattr(place, name, member)
                owner = f"click.{place.__name__}" if isinstance(place, type) else place.__name__
                replaced.append(f"{owner}.{name}")
    return replaced


_MISSING = object()


def heavy_modules() -> frozenset[str]:
    """Return those heavy modules that are imported by now."""
    return frozenset(HEAVY) & sys.modules.keys()
