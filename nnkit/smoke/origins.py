"""Which line of the user's code a tensor came to the CPU at, and which line it met the accelerator at."""

import linecache
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

import nnkit
from nnkit.smoke.subject import Failed
from nnkit.tensors import tensors_in

LIBRARIES = tuple(str(Path(str(package.__file__)).parent) for package in (torch, nnkit))

# FakeTensorMode doesn't look at the devices of a convolution's arguments.
UNCHECKED = frozenset({torch.ops.aten.convolution.default})


@dataclass(frozen=True)
class Line:
    """A line of code and its function; as text `net.py:12 in forward: return self.two(y)`."""

    file: str
    number: int
    function: str

    def __str__(self) -> str:
        text = linecache.getline(self.file, self.number).strip()
        return f"{_short(self.file)}:{self.number} in {self.function}" + (f": {text}" if text else "")


def failing_line(error: BaseException) -> Line | None:
    """Return the innermost line of the user's code that an error came through."""
    return _innermost(reversed(list(traceback.walk_tb(error.__traceback__))))


def current_line() -> Line | None:
    """Return the innermost line of the user's code that is running."""
    return _innermost(traceback.walk_stack(sys._getframe(1)))


def _innermost(frames: Iterable[tuple[FrameType, int]]) -> Line | None:
    for frame, number in frames:
        file = frame.f_code.co_filename
        if not file.startswith((*LIBRARIES, "<")):
            return Line(file, number, frame.f_code.co_name)
    return None


def _short(file: str) -> str:
    """Return the path of a file from the current folder, or as it would be imported."""
    for folder in (str(Path.cwd()), *sorted(sys.path, key=len, reverse=True)):
        if folder and Path(file).is_relative_to(folder):
            return str(Path(file).relative_to(folder))
    return file


@dataclass(frozen=True)
class Origin:
    """How a tensor came to the CPU: the line that made it there, or its name in the module.

    left: its values come from the accelerator.
    """

    place: Line | str | None
    left: bool = False


class Origins(TorchDispatchMode):
    """Remembers for each tensor on the CPU where it came from, and tells it when one meets the accelerator.

    kind: what the user calls the accelerator. hidden: tensors by identity that the module holds and
    `.to()` doesn't move, with their names.
    """

    def __init__(self, kind: str, hidden: Mapping[int, str]) -> None:
        super().__init__()
        self.kind = kind
        self.hidden = hidden
        self._known = WeakTensorKeyDictionary()

    def of(self, tensor: Tensor) -> Origin:
        """Return where a tensor on the CPU came from."""
        known: Origin | None = self._known.get(tensor)
        return known or Origin(self.hidden.get(id(tensor)))

    def since(self, tensor: Tensor) -> str:
        """Return the words for where a tensor on the CPU came from, none where it isn't known."""
        place = self.of(tensor).place
        if isinstance(place, str):
            return f": it is {place}, which .to() doesn't move"
        return f" since {place}" if place else ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        taken = list(tensors_in([args, kwargs]))
        stray = next((each for each in taken if _on_cpu(each) and each.dim()), None)
        mixed = stray is not None and not all(map(_on_cpu, taken))
        if mixed and func in UNCHECKED:
            raise Failed(self._meeting(stray))
        try:
            result = func(*args, **kwargs)
        except RuntimeError as error:
            if mixed and "device" in str(error):
                raise Failed(self._meeting(stray)) from error
            raise
        self._remember(taken, list(tensors_in(result)))
        return result

    def _remember(self, taken: list[Tensor], given: list[Tensor]) -> None:
        new = [each for each in given if _on_cpu(each) and each not in self._known]
        if not new:
            return
        origins = [self.of(each) for each in taken if _on_cpu(each)]
        place = next(filter(None, (each.place for each in origins)), None) or current_line()
        left = any(each.left for each in origins) or not all(map(_on_cpu, taken))
        for each in new:
            self._known[each] = Origin(place, left)

    def _meeting(self, stray: Tensor) -> str:
        here = current_line()
        told = f"{tensor_words(stray)} on cpu beside a tensor on {self.kind}"
        since = "" if here and self.of(stray).place == here else self.since(stray)
        return f"{here}: {told}{since}" if here else f"in backward {told}{since}"


def tensor_words(tensor: Tensor) -> str:
    """Return `float32 4×6`."""
    return f"{str(tensor.dtype)[6:]} {'×'.join(map(str, tensor.shape)) or '1'}"


def _on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"
