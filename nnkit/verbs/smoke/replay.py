"""Hold the outputs of submodules constant, where a gradient is meant to differ from the derivative."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from nnkit.verbs.smoke.subject import Failed


class Recording:
    """What each call of some submodules returned, in the first run of a model."""

    def __init__(self) -> None:
        self.replays = False
        self._returned: dict[str, list[Any]] = {}
        self._calls: dict[str, int] = {}

    def restart(self) -> None:
        """Begin a run."""
        self._calls.clear()

    def pass_through(self, name: str, value: Any) -> Any:
        """Record what a submodule returns; or return what that call did when recorded."""
        call = self._calls.get(name, 0)
        self._calls[name] = call + 1
        recorded = self._returned.setdefault(name, [])
        if not self.replays:
            recorded.append(_detach(value))
        return recorded[call] if call < len(recorded) else _detach(value)


@contextmanager
def held_constant(module: nn.Module, names: Sequence[str]) -> Iterator[Recording]:
    """Record what these submodules return in a first run; once `replays` is set, they return that again.

    Raises Failed where there is no such submodule.
    """
    recording = Recording()
    handles = [module.register_forward_pre_hook(lambda *_: recording.restart())]
    try:
        for name in names:
            handles.append(_find(module, name).register_forward_hook(_hook(recording, name)))
        yield recording
    finally:
        for handle in handles:
            handle.remove()


def _hook(recording: Recording, name: str) -> Any:
    return lambda module, args, value: recording.pass_through(name, value)


def _find(module: nn.Module, name: str) -> nn.Module:
    try:
        return module.get_submodule(name)
    except AttributeError as error:
        raise Failed(f"it has no submodule {name}, which is declared straight-through") from error


def _detach(value: Any) -> Any:
    """Return a copy of a value with the tensors in its tuples, lists, mappings and dataclasses detached."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    kind: Any = type(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: _detach(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return kind(**parts)
    if isinstance(value, Mapping):
        return kind({key: _detach(part) for key, part in value.items()})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return kind(*map(_detach, value))
    return kind(map(_detach, value)) if isinstance(value, (list, tuple)) else value
