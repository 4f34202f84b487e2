"""Which line of the user's code a tensor came to the CPU at, and which line it met the accelerator at."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from nnkit.models.tensors import tensors_in
from nnkit.models.user_lines import Line, current_line
from nnkit.verbs.smoke.subject import Failed

# Of these FakeTensorMode doesn't compare the devices of the arguments.
UNCHECKED = frozenset(
    {torch.ops.aten.convolution.default, torch.ops.aten._embedding_bag.default,
     torch.ops.aten._embedding_bag_forward_only.default}
)  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """How a tensor came to the CPU: the line that made it there, or its name in the module.

    left: its values come from the accelerator.
    """

    place: Line | str | None
    left: bool = False


class Misplaced(Failed, RuntimeError):
    """A tensor on the CPU met one on the accelerator; code that expects torch's own error may catch it."""


class Origins(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers for each tensor on the CPU where it came from, and tells it when one meets the accelerator.

    kind: what the user calls the accelerator. hidden: tensors by identity that the module holds and
    `.to()` doesn't move, with their names.
    """

    def __init__(self, kind: str, hidden: Mapping[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kind = kind
        self.hidden = hidden
        self._known: MutableMapping[Tensor, Origin] = WeakTensorKeyDictionary()

    def of(self, tensor: Tensor) -> Origin:
        """Return where a tensor on the CPU came from."""
        return self._known.get(tensor) or Origin(self.hidden.get(id(tensor)))

    def since(self, tensor: Tensor) -> str:
        """Return words for where a tensor on the CPU came from, none where it isn't known."""
        origin = self.of(tensor)
        if isinstance(origin.place, str):
            return f"; it is {origin.place}, which .to() doesn't move"
        if origin.place is not None:
            return f"; {'moved' if origin.left else 'made'} there at {origin.place}"
        return "" if isinstance(tensor, FakeTensor) else "; made before forward, and .to() doesn't move it"

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        taken = list(tensors_in([args, kwargs]))
        strays = [each for each in taken if _on_cpu(each) and each.dim()]
        mixed = strays and not all(map(_on_cpu, taken))
        if mixed and func in UNCHECKED:
            raise Misplaced(self._meeting(strays[0]))
        try:
            result = func(*args, **kwargs)
        except RuntimeError as error:
            if mixed and "device" in str(error):
                raise Misplaced(self._meeting(strays[0])) from error
            raise
        self._remember(taken, list(tensors_in(result)))
        return result

    def _remember(self, taken: list[Tensor], given: list[Tensor]) -> None:
        new = [each for each in given if _on_cpu(each) and each not in self._known]
        if not new:
            return
        origins = [self.of(each) for each in taken if _on_cpu(each)]
        place = next((each.place for each in origins if each.place), None) or current_line()
        left = any(each.left for each in origins) or not all(map(_on_cpu, taken))
        for each in new:
            self._known[each] = Origin(place, left)

    def _meeting(self, stray: Tensor) -> str:
        here = current_line()
        since = "" if here and self.of(stray).place == here else self.since(stray)
        return f"{here or 'somewhere'}: {words_for(stray)} on cpu beside a tensor on {self.kind}{since}"


def words_for(tensor: Tensor) -> str:
    """Return `float32 4×6`."""
    return f"{str(tensor.dtype)[6:]} {'×'.join(map(str, tensor.shape)) or '1'}"


def _on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"
