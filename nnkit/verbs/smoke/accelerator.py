"""An accelerator that isn't there: torch's backend for private use, on which all tensors are fake.

Fake tensors have shapes, types and devices and no values, and torch refuses to mix their devices as it
would on a real one. Set up before the first backward of a process: autograd then makes its queues.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from nnkit.models.running import call
from nnkit.models.sampling import Inputs
from nnkit.models.user_lines import current_line
from nnkit.verbs.smoke.origins import Origins, words_for
from nnkit.verbs.smoke.states import hidden
from nnkit.verbs.smoke.subject import Failed, Skipped

NO_VALUES = "a tensor's values are needed, which aren't simulated"
BACKEND = "simulated"  # torch doesn't let it have the name of a device that it knows

NO_KERNEL = re.compile(r"Could not run '([\w:.]+)'")

NeedsValues = (DataDependentOutputException, DynamicOutputShapeException)


class _Backend:
    """What torch asks of the module of a backend."""

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def is_initialized() -> bool:
        return True

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(seed: int) -> None: ...

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


class Accelerator:
    """A fake device that the user calls `kind`: `cuda`, `xpu`, `mps`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        _setup_privateuseone_for_python_backend(BACKEND, backend_module=_Backend)
        self.device = torch.device(BACKEND, 0)
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)  # a tensor that nobody moved is on the CPU
        self._libraries = self._kernels()
        self.origins = Origins(kind, {})
        # It logs a traceback of its own for what is raised anyway.
        logging.getLogger("torch._subclasses.fake_tensor").disabled = True

    def _kernels(self) -> list[torch.library.Library]:
        """Serve what torch calls past every mode: `torch.tensor(…, device=…)`, lists as indices."""

        def empty(size: list[int], *, dtype: torch.dtype, device: torch.device, **_: object) -> Tensor:
            return FakeTensor(self.fake, torch.empty(size, dtype=dtype, device="meta"), device)

        def empty_strided(
            size: list[int], stride: list[int], *, dtype: torch.dtype, device: torch.device, **_: object
        ) -> Tensor:
            memory = torch.empty_strided(size, stride, dtype=dtype, device="meta")
            return FakeTensor(self.fake, memory, device)

        def copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
            return target

        library: Any = torch.library.Library
        own = library("aten", "IMPL")
        own.impl("empty.memory_format", empty, "PrivateUse1")
        own.impl("empty_strided", empty_strided, "PrivateUse1")
        own.impl("_copy_from", copy_from, "PrivateUse1")
        # Under autocast types stay as they are.
        autocast = library("_", "IMPL")
        autocast.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
        return [own, autocast]

    @contextmanager
    def holding(self, module: nn.Module, input_names: Sequence[str], inputs: Inputs) -> Iterator[Inputs]:
        """Move `module` and `inputs` there; while it lasts, all tensors are fake. Yields the inputs."""
        if any(map(is_lazy, module.parameters())):
            with torch.no_grad():
                call(module, input_names, inputs)
        with self.fake:
            self._move(module)
            moved = tuple(self._moved(each) for each in inputs)
        self.origins = Origins(self.kind, dict(_left_behind(module)))
        with self.fake, self.origins, _Names(self):
            yield moved

    def _move(self, module: nn.Module) -> None:
        # `.to()` can't swap a real tensor for a fake one.
        made: dict[Tensor, Tensor] = {}
        for each in module.modules():
            for name, tensor in (
                *each.named_parameters(recurse=False, remove_duplicate=False),
                *each.named_buffers(recurse=False, remove_duplicate=False),
            ):
                if tensor not in made:
                    made[tensor] = self._moved(tensor)
                setattr(each, name, made[tensor])  # torch's recurrent layers keep a list of their own

    def _moved(self, tensor: Tensor) -> Tensor:
        moved = torch.empty_like(tensor, device=self.device)
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(moved, requires_grad=tensor.requires_grad)
        return moved

    def in_words(self, text: str) -> str:
        """Return an error's text with the name by which the user knows the device."""
        if missing := NO_KERNEL.match(text):
            return f"it has no kernel of {missing[1]} for this kind of tensor"
        return text.replace(f"{BACKEND}:0", self.kind).replace(BACKEND, self.kind)


def _left_behind(module: nn.Module) -> Iterator[tuple[int, str]]:
    """Yield the tensors that `.to()` doesn't move, by identity, with their names."""
    for name, found in hidden(module):
        if isinstance(found, nn.Module):
            yield from ((id(each), f"{name}.{part}") for part, each in found.named_parameters())
            yield from ((id(each), f"{name}.{part}") for part, each in found.named_buffers())
        else:
            yield id(found), name


class _Names(TorchFunctionMode):
    """Takes the accelerator's real name for the fake one, and sees values leave for numpy."""

    def __init__(self, accelerator: Accelerator) -> None:
        super().__init__()
        self.accelerator = accelerator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.numpy and isinstance(args[0], FakeTensor):
            self._leaves(args[0])
        if "device" in kwargs:
            kwargs["device"] = self._here(kwargs["device"])
        if func is Tensor.to:
            args = (args[0], *map(self._here, args[1:]))
        elif func is getattr(Tensor, self.accelerator.kind, None):
            return args[0].to(self.accelerator.device)
        return func(*args, **kwargs)

    def _here(self, value: Any) -> Any:
        named = isinstance(value, (str, torch.device))
        return self.accelerator.device if named and str(value).startswith(self.accelerator.kind) else value

    def _leaves(self, tensor: Tensor) -> None:
        line, words = current_line(), words_for(tensor)
        kind = self.accelerator.kind
        if tensor.device.type == BACKEND:
            raise Failed(f"{line}: {words} on {kind} can't be turned into a numpy array")
        if tensor.is_floating_point() and self.accelerator.origins.of(tensor).left:
            raise Failed(f"{line}: {words} leaves {kind} for numpy, and its gradient ends there")
        raise Skipped(f"{NO_VALUES}, at {line}")
