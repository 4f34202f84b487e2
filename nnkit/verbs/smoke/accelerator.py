"""A simulated accelerator: torch's backend for private use, on which all tensors are fake.

Fake tensors have shapes, dtypes and devices but no values, and torch refuses to mix their devices as it
does on real hardware. Set it up before the first backward of a process: that is when autograd makes a queue
for each device.
"""

import logging
import re
from collections.abc import Iterator
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

from nnkit.contract.signature import Signature
from nnkit.models.running import call
from nnkit.models.sampling import Inputs
from nnkit.models.user_lines import current_line
from nnkit.verbs.smoke.origins import Origins, describe_tensor
from nnkit.verbs.smoke.states import list_unmoved
from nnkit.verbs.smoke.subject import Failed, Skipped

NO_VALUES = "the model needs a tensor's values, which are not simulated"
BACKEND = "simulated"  # torch doesn't allow the name of a device that it knows

NO_KERNEL = re.compile(r"Could not run '([\w:.]+)'")

NeedsValues = (DataDependentOutputException, DynamicOutputShapeException)


class _Backend:
    """The functions that torch calls on the module of a backend."""

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
        self._libraries = self._register_kernels()
        self.origins = Origins(kind, {})
        # It logs a traceback for errors that it also raises.
        logging.getLogger("torch._subclasses.fake_tensor").disabled = True

    def _register_kernels(self) -> list[torch.library.Library]:
        """Register the kernels that torch calls without asking any mode.

        `torch.tensor(…, device=…)` does that, and indexing by a list. The libraries must stay alive.
        """

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
        aten = library("aten", "IMPL")
        aten.impl("empty.memory_format", empty, "PrivateUse1")
        aten.impl("empty_strided", empty_strided, "PrivateUse1")
        aten.impl("_copy_from", copy_from, "PrivateUse1")
        # Under autocast, dtypes stay as they are.
        autocast = library("_", "IMPL")
        autocast.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
        return [aten, autocast]

    @contextmanager
    def activate(self, module: nn.Module, signature: Signature, inputs: Inputs) -> Iterator[Inputs]:
        """Move `module` and `inputs` to the device, and yield the inputs; all tensors are fake meanwhile."""
        if any(map(is_lazy, module.parameters())):
            with torch.no_grad():
                call(module, signature, inputs)
        with self.fake:
            self._move_module(module)
            moved = tuple(self._move_tensor(tensor) for tensor in inputs)
        self.origins = Origins(self.kind, dict(list_unmoved(module)))
        with self.fake, self.origins, _DeviceNames(self):
            yield moved

    def _move_module(self, module: nn.Module) -> None:
        # `.to()` can't replace a real tensor by a fake one.
        fakes: dict[Tensor, Tensor] = {}
        for submodule in module.modules():
            for name, tensor in (
                *submodule.named_parameters(recurse=False, remove_duplicate=False),
                *submodule.named_buffers(recurse=False, remove_duplicate=False),
            ):
                if tensor not in fakes:
                    fakes[tensor] = self._move_tensor(tensor)
                # Not in _parameters: torch's recurrent layers see their weights being set.
                setattr(submodule, name, fakes[tensor])

    def _move_tensor(self, tensor: Tensor) -> Tensor:
        fake = torch.empty_like(tensor, device=self.device)
        if isinstance(tensor, nn.Parameter):
            return nn.Parameter(fake, requires_grad=tensor.requires_grad)
        return fake

    def translate(self, message: str) -> str:
        """Return an error message with the device called what the user calls it."""
        if missing := NO_KERNEL.match(message):
            return f"no kernel for {missing[1]} on such a tensor"
        return message.replace(f"{BACKEND}:0", self.kind).replace(BACKEND, self.kind)


class _DeviceNames(TorchFunctionMode):
    """Replaces the user's name of the accelerator by the simulated device, and reports a move to numpy."""

    def __init__(self, accelerator: Accelerator) -> None:
        super().__init__()
        self.accelerator = accelerator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.numpy and isinstance(args[0], FakeTensor):
            self._report_numpy(args[0])
        if "device" in kwargs:
            kwargs["device"] = self._replace_device(kwargs["device"])
        if func is Tensor.to:
            args = (args[0], *map(self._replace_device, args[1:]))
        elif func is getattr(Tensor, self.accelerator.kind, None):
            return args[0].to(self.accelerator.device)
        return func(*args, **kwargs)

    def _replace_device(self, value: Any) -> Any:
        is_device = isinstance(value, (str, torch.device))
        if is_device and str(value).startswith(self.accelerator.kind):
            return self.accelerator.device
        return value

    def _report_numpy(self, tensor: Tensor) -> None:
        line, described = current_line(), describe_tensor(tensor)
        kind = self.accelerator.kind
        if tensor.device.type == BACKEND:
            raise Failed(f"{line}: {described} on {kind} can't be converted to a numpy array")
        if tensor.is_floating_point() and self.accelerator.origins.origin_of(tensor).moved:
            raise Failed(f"{line}: {described} goes from {kind} to numpy, and its gradient is lost")
        raise Skipped(f"{NO_VALUES}, at {line}")
