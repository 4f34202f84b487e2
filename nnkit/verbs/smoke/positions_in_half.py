"""Positions counted in half precision: bfloat16 has every integer only up to 256."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nnkit.models.user_lines import current_line

LARGEST = {torch.bfloat16: 2**8, torch.float16: 2**11}
"""The integers up to which a dtype has all."""


class Positions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes where 0, 1, 2, … are made in a dtype, or converted to it, and how many."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype = dtype
        self.counted: dict[int, str] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import torch._dynamo for a compiler that never runs here

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        counts = packet is torch.ops.aten.arange or (packet is torch.ops.aten._to_copy and _counts(args[0]))
        if counts and isinstance(result, Tensor) and result.dtype == self.dtype:
            self.counted.setdefault(result.numel(), str(current_line() or ""))
        return result

    def problem_with(self, checked: Mapping[str, int], sizes: Mapping[str, int]) -> str:
        """Return where positions collide at the sizes of the model; those of the check may be cut."""
        largest, name = LARGEST[self.dtype], str(self.dtype).removeprefix("torch.")
        for dim, size in sizes.items():
            line = self.counted.get(checked[dim])
            if line is not None and size > largest:
                where = f", at {line}" if line else ""
                return f"positions along {dim} are counted in {name}: those above {largest} collide{where}"
        return ""


def _counts(tensor: Tensor) -> bool:
    """Whether a tensor of integers holds 0, 1, 2, … along its last axis."""
    if tensor.is_floating_point() or not tensor.numel() * tensor.ndim or tensor.layout != torch.strided:
        return False
    return bool((tensor == torch.arange(tensor.shape[-1], device=tensor.device)).all())
