"""The check of placement: every tensor is where the model is.

On the CPU everything is in place, so torch's meta device takes the place of an accelerator: its tensors have
no values, and the first operator that gets a tensor of each device is the fault. Only the forward runs, and
only operators that surely refuse two devices count; `--simulate` also runs the backward and the optimizer.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nnkit.errors import first_line
from nnkit.models.user_lines import failing_line
from nnkit.verbs.smoke.origins import Origins
from nnkit.verbs.smoke.states import list_unmoved
from nnkit.verbs.smoke.subject import Failed, Outputs, Skipped, Subject

META = torch.device("meta")
STAND_IN = "an accelerator"
MAX_MESSAGE = 120  # characters of an error of torch's
aten = torch.ops.aten
# They refuse tensors of two devices, as those do that go element by element.
REFUSING = frozenset(
    {
        aten.mm.default, aten.bmm.default, aten.addmm.default, aten.baddbmm.default, aten.mv.default,
        aten.dot.default, aten.convolution.default, aten.cat.default, aten.stack.default,
        aten.embedding.default, aten.index_select.default, aten.gather.default,
        aten.native_layer_norm.default, aten.native_group_norm.default,
    }
)  # fmt: skip


def placement(subject: Subject) -> str:
    """Forward and backward run on the device, and no tensor is left on or returns to the CPU."""
    if subject.device.type == "cpu":
        return _stand_in(subject)
    module = subject.fresh().train()
    for name, tensor in _results(module, subject.outputs(module, subject.inputs())):
        if tensor.device.type != subject.device.type:
            raise Failed(f"{name} is on {tensor.device}, not on {subject.device}")
    return f"everything on {subject.device}"


def _results(module: nn.Module, outputs: Outputs) -> Iterator[tuple[str, Tensor]]:
    """Yield what must be on the device after a run."""
    yield from module.named_parameters()
    yield from module.named_buffers()
    for declared, tensor in outputs:
        yield f"output {declared.name}", tensor


def _stand_in(subject: Subject) -> str:
    """Run forward on the meta device in place of an accelerator."""
    module, inputs = subject.fresh().train(), subject.inputs()
    if any(map(is_lazy, module.parameters())):
        subject.evaluate(module, inputs)
    unmoved = dict(list_unmoved(module))
    try:
        module.to(META)
        with _OnMeta(unmoved) as origins:
            outputs = subject.outputs(module, [tensor.to(META) for tensor in inputs])
    except Failed:
        raise
    except Exception as error:  # also what a plain run would raise, which other checks report
        message = first_line(error)[:MAX_MESSAGE]
        if type(error) is RuntimeError and "meta" in message and "cpu" in message:
            # Some functions compare devices before they call an operator.
            raise Failed(f"{failing_line(error)}: {message.replace('meta', STAND_IN)}") from error
        raise Skipped(f"nothing was found before it needed values: {message}") from error
    for name, tensor in _results(module, outputs):
        if tensor.device != META:
            raise Failed(f"{name} is on {tensor.device}{origins.describe_origin(tensor)}")
    return f"forward, every tensor where {STAND_IN} would need it"


class _OnMeta(Origins):  # type: ignore[no-untyped-call]
    """Reports where a tensor on the CPU meets one on the meta device, which is called an accelerator."""

    def __init__(self, unregistered: Mapping[int, str]) -> None:
        super().__init__(STAND_IN, unregistered)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten._to_copy.default and args[0].device == META and _goes_to_cpu(kwargs or {}):
            values = torch.zeros_like(args[0], device="cpu")
            self.remember([args[0]], [values])
            args = (values, *args[1:])
        return super().__torch_dispatch__(func, types, args, kwargs)

    def refuses(self, func: Any) -> bool:
        return func in REFUSING or torch.Tag.pointwise in func.tags


def _goes_to_cpu(options: Mapping[str, Any]) -> bool:
    device = options.get("device")
    return device is not None and torch.device(device).type == "cpu"
