"""Lets the collector of cyclic garbage rest while a command starts.

An import makes many objects that all stay. The collector looks through them 400 times while torch is being
imported, finds nothing, and takes a tenth of that time. So it waits for more objects until torch is there.
Then it is as Python starts it, and leaves out what the imports have made.
"""

import gc
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

OBJECTS = 100_000  # more than a command makes that needs no torch; so many that are garbage take 20 MB


def rest_until_torch() -> None:
    """Let the collector wait for more objects until torch is imported; keep it as it is if torch is there."""
    usual = gc.get_threshold()
    if "torch" in sys.modules or usual[0] == 0:
        return
    gc.set_threshold(OBJECTS, *usual[1:])

    def wake() -> None:
        gc.freeze()
        gc.set_threshold(*usual)

    sys.meta_path.insert(0, _Watch("torch", wake))


class _Watch:
    """A finder that finds nothing itself: it calls `then` when a module has been imported, or has failed."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self.name, self.then = name, then

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders find for that one module, with its import watched."""
        if name != self.name:
            return None
        others = (finder.find_spec for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (find(name, path, target) for find in others)), None)
        if spec is not None and spec.loader is not None:
            self._watch(spec.loader)
        return spec

    def _watch(self, loader: Any) -> None:
        execute = loader.exec_module

        def watched(module: ModuleType) -> None:
            del loader.exec_module  # from now on it is the loader that it was
            try:
                execute(module)
            finally:
                sys.meta_path.remove(self)
                self.then()

        loader.exec_module = watched
