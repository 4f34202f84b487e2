"""Numbers that float16 doesn't hold: where they first appear, and whether they reach an output."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nnkit.contract.text import name_output
from nnkit.models.precision import convert
from nnkit.models.tensors import tensors_in
from nnkit.models.user_lines import Line, current_line, failing_line
from nnkit.verbs.smoke.full import DIFFERENT, cosine_similarity
from nnkit.verbs.smoke.subject import Failed, Outputs, Subject, Warned

aten = torch.ops.aten
PRODUCTS = frozenset(
    {
        aten.mm.default, aten.bmm.default, aten.mv.default, aten.addmm.default, aten.addmv.default,
        aten.baddbmm.default, aten.convolution.default,
    }
)  # fmt: skip
LARGEST = torch.finfo(torch.float16).max


def check_overflow(subject: Subject) -> None:
    """Raise Failed where a number overflows in float16 and spoils an output.

    Only where the outputs themselves fit into float16: before any training, the signals of a deep network
    may grow beyond it. A copy without noise is run, since noise lets them grow too; an overflow shows
    behind a zero as well. An output that is NaN without an overflow is a warning: zero by zero, as a norm
    divides where its eps is rounded to zero.
    """
    subject = subject.uncompiled()
    inputs = subject.inputs()
    expected = subject.first_run().outputs
    module = convert(subject.copy(), torch.float16)
    halves = [tensor.half() if tensor.is_floating_point() else tensor for tensor in inputs]
    try:
        with _ProductsInFloat32():
            spoiled = _find_spoiled(expected, subject.evaluate(module, halves))
            if not spoiled:
                return
            with _FirstOverflow() as first:
                outputs = subject.evaluate(module, halves)
    except (RuntimeError, TypeError, ValueError) as error:
        if "without overflow" in str(error):  # a constant, such as a mask of -1e9
            line = failing_line(error)
            raise Failed(f"{f'{line}: ' * bool(line)}a constant overflows in float16") from error
        return  # the CPU lacks kernels in float16, and `half` reports what else fails
    place = f"{first.place}: " if first.place else ""
    if first.overflows:
        raise Failed(f"{place}a number overflows in float16, which spoils {name_output(spoiled)}")
    if not all(_are_finite(tensor) for _, tensor in outputs):
        raise Warned(f"{place}{name_output(spoiled)} is not finite in float16")


def _find_spoiled(expected: Outputs, halves: Outputs) -> str:
    """Return the first output that fits into float16 and is not finite or has another direction there."""
    for (declared, wanted), (_, half) in zip(expected, halves, strict=True):
        if not wanted.is_floating_point() or not wanted.numel() or not wanted.abs().max() < LARGEST:
            continue
        if not _are_finite(half) or (wanted.numel() > 1 and cosine_similarity(wanted, half) < DIFFERENT):
            return declared.name
    return ""


class _ProductsInFloat32(TorchDispatchMode):
    """Computes products of float16 on the CPU in float32, and rounds what they give.

    Accelerators do so too. The CPU's own kernels for float16 take 10 to 60 times as long.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import torch._dynamo for a compiler that never runs here

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in PRODUCTS or not all(map(_is_half_on_cpu, tensors_in([args, kwargs or {}]))):
            return func(*args, **(kwargs or {}))
        wide = [value.float() if isinstance(value, torch.Tensor) else value for value in args]
        return func(*wide, **(kwargs or {})).half()


def _is_half_on_cpu(tensor: torch.Tensor) -> bool:
    return tensor.dtype == torch.float16 and tensor.device.type == "cpu" and tensor.layout == torch.strided


class _FirstOverflow(TorchDispatchMode):
    """Remembers where the first number that is not finite came from finite ones."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.place: Line | None = None
        self.overflows = self.found = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from_finite = not self.found and _are_finite([args, kwargs])  # now: it may be in place
        result = func(*args, **(kwargs or {}))
        if from_finite and not _are_finite(result):
            self.found, self.place = True, current_line()
            self.overflows = any(bool(tensor.isinf().any()) for tensor in tensors_in(result))
        return result


def _are_finite(value: Any) -> bool:
    return all(bool(t.isfinite().all()) for t in tensors_in(value) if t.is_floating_point())
