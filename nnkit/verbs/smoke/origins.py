"""Where in the user's code a tensor came to be on the CPU, and where it met the accelerator."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from nnkit.contract.text import format_shape
from nnkit.models.precision import name_of
from nnkit.models.tensors import tensors_in
from nnkit.models.user_lines import Line, current_line
from nnkit.verbs.smoke.subject import Failed

# Operators whose arguments FakeTensorMode doesn't check for devices.
UNCHECKED = frozenset(
    {
        torch.ops.aten.convolution.default,
        torch.ops.aten._embedding_bag.default,
        torch.ops.aten._embedding_bag_forward_only.default,
    }
)


@dataclass(frozen=True)
class Origin:
    """How a tensor came to be on the CPU.

    Attributes:
        place: the line that created it, its name in the module, or None where neither is known.
        moved: whether its values come from the accelerator.
    """

    place: Line | str | None
    moved: bool = False


class Misplaced(Failed, RuntimeError):
    """A tensor on the CPU met one on the accelerator; code that expects torch's own error may catch it."""


class Origins(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers where each tensor on the CPU came from, and reports it when one meets the accelerator.

    A result on the CPU has the origin of the first of its arguments that has one; else the line that runs
    now is its origin.

    kind: the user's name for the accelerator. unregistered: the names of tensors in the module that `.to()`
    doesn't move, by identity.
    """

    def __init__(self, kind: str, unregistered: Mapping[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kind = kind
        self.unregistered = unregistered
        self._origins: MutableMapping[Tensor, Origin] = WeakTensorKeyDictionary()

    def origin_of(self, tensor: Tensor) -> Origin:
        """Return where a tensor on the CPU came from."""
        return self._origins.get(tensor) or Origin(self.unregistered.get(id(tensor)))

    def describe_origin(self, tensor: Tensor) -> str:
        """Return a clause that explains why a tensor is on the CPU, or nothing where that isn't known."""
        origin = self.origin_of(tensor)
        if isinstance(origin.place, str):
            return f"; it is {origin.place}, which .to() doesn't move"
        if origin.place is not None:
            return f"; {'moved' if origin.moved else 'created'} there at {origin.place}"
        if isinstance(tensor, FakeTensor):
            return ""
        return "; created before forward, and .to() doesn't move it"

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import torch._dynamo for a compiler that never runs here

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        arguments = list(tensors_in([args, kwargs]))
        # Operators accept a scalar tensor from the CPU.
        on_cpu = [tensor for tensor in arguments if self.is_on_cpu(tensor) and tensor.dim()]
        mixed = on_cpu and not all(map(self.is_on_cpu, arguments))
        if mixed and self.refuses(func):
            raise Misplaced(self._describe_meeting(on_cpu[0]))
        try:
            result = func(*args, **kwargs)
        except RuntimeError as error:
            if mixed and "device" in str(error):
                raise Misplaced(self._describe_meeting(on_cpu[0])) from error
            raise
        self.remember(arguments, list(tensors_in(result)))
        return result

    def is_on_cpu(self, tensor: Tensor) -> bool:
        """Whether a tensor is on the CPU, and not on the accelerator."""
        return tensor.device.type == "cpu"

    def refuses(self, func: Any) -> bool:
        """Whether an operator refuses tensors of two devices without an error of its own."""
        return func in UNCHECKED

    def remember(self, arguments: list[Tensor], results: list[Tensor]) -> None:
        """Keep where the results on the CPU came from."""
        new = [tensor for tensor in results if self.is_on_cpu(tensor) and tensor not in self._origins]
        if not new:
            return
        origins = [self.origin_of(tensor) for tensor in arguments if self.is_on_cpu(tensor)]
        known_places = [origin.place for origin in origins if origin.place]
        place = known_places[0] if known_places else current_line()
        moved = any(origin.moved for origin in origins) or not all(map(self.is_on_cpu, arguments))
        for tensor in new:
            self._origins[tensor] = Origin(place, moved)

    def is_known(self, tensor: Tensor) -> bool:
        """Whether it is known where a tensor on the CPU came from."""
        return tensor in self._origins

    def note(self, tensor: Tensor, moved: bool) -> None:
        """Keep that the line that runs now put a tensor on the CPU. moved: whether from the accelerator."""
        self._origins[tensor] = Origin(current_line(), moved)

    def _describe_meeting(self, tensor: Tensor) -> str:
        line = current_line()
        created_here = line and self.origin_of(tensor).place == line
        origin = "" if created_here else self.describe_origin(tensor)
        place = line or "somewhere"
        return f"{place}: {describe_tensor(tensor)} on cpu used with a tensor on {self.kind}{origin}"


def describe_tensor(tensor: Tensor) -> str:
    """Return `float32 4×6`."""
    return f"{name_of(tensor.dtype)} {format_shape(tensor.shape)}"
