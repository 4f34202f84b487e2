"""The check of placement: every tensor is where the model is.

On the CPU everything is in place, so the check keeps account of where each tensor would be if the model were
on an accelerator. Its parameters, buffers and inputs would be on it, and so would the results of these. A
tensor that forward creates without naming a device would not, and the first operator that gets a tensor of
each kind is the fault. Code that asks for the device of a tensor on the accelerator gets `cpu:0`, which torch
takes for the CPU: so `torch.zeros(n, device=x.device)` and `torch.zeros(n)` differ. Only operators
that surely refuse two devices count; `--simulate` also runs the backward and the optimizer.
"""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from nnkit.contract.text import name_output
from nnkit.errors import first_line
from nnkit.models.tensors import storages_of, tensors_in
from nnkit.verbs.smoke.origins import Origins
from nnkit.verbs.smoke.states import list_unmoved
from nnkit.verbs.smoke.subject import Failed, Outputs, Skipped, Subject

HERE, THERE = torch.device("cpu"), torch.device("cpu:0")  # the CPU, and the accelerator
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
    module = subject.copy().train()
    for name, tensor in _results(module, subject.outputs(module, subject.inputs())):
        if tensor.device.type != subject.device.type:
            raise Failed(f"{name} is on {tensor.device}, not on {subject.device}")
    return f"everything on {subject.device}"


def _results(module: nn.Module, outputs: Outputs) -> Iterator[tuple[str, Tensor]]:
    """Yield what must be on the device after a run."""
    yield from module.named_parameters()
    yield from module.named_buffers()
    for declared, tensor in outputs:
        yield name_output(declared.name), tensor


def _stand_in(subject: Subject) -> str:
    """Run forward on the CPU as if the model were on an accelerator."""
    module, inputs = subject.uncompiled().copy().train(), subject.inputs()
    if any(map(is_lazy, module.parameters())):
        subject.evaluate(module, inputs)
    origins = _StandIn(dict(list_unmoved(module)), [*module.parameters(), *module.buffers(), *inputs])
    try:
        with origins, _Devices(origins):
            outputs = subject.outputs(module, inputs)
    except Failed:
        raise
    except Exception as error:  # a plain run raises it too, and other checks report it
        raise Skipped(f"forward doesn't get through: {first_line(error)[:MAX_MESSAGE]}") from error
    for name, tensor in _results(module, outputs):
        if origins.is_on_cpu(tensor):
            raise Failed(f"{name} is on cpu{origins.describe_origin(tensor)}")
    return f"forward, every tensor where {STAND_IN} would need it"


class _StandIn(Origins):  # type: ignore[no-untyped-call]
    """Keeps which tensors would be on the accelerator; all others are on the CPU.

    default: whether a tensor that an operator makes of none is there. It is set while a function of torch's
    runs, whose own tensors are where its arguments are.
    """

    def __init__(self, unregistered: Mapping[int, str], there: Iterable[Tensor]) -> None:
        super().__init__(STAND_IN, unregistered)
        self._there: MutableMapping[Tensor, bool] = WeakTensorKeyDictionary()
        self._there.update(dict.fromkeys(there, True))
        self.default = True

    def is_on_cpu(self, tensor: Tensor) -> bool:
        if tensor in self._there or is_functorch_wrapped_tensor(tensor):
            return False
        return self.is_known(tensor) or not self._shares_memory(tensor)

    def _shares_memory(self, tensor: Tensor) -> bool:
        """Whether a tensor is another object for one on the accelerator, as `nn.Parameter(x)` makes it."""
        storages = storages_of(tensor)
        return any(not storages.isdisjoint(storages_of(other)) for other in list(self._there))

    def place(self, tensor: Tensor, there: bool) -> None:
        """Note where a tensor is."""
        if there:
            self._there[tensor] = True
        else:
            self._there.pop(tensor, None)

    def remember(self, arguments: list[Tensor], results: list[Tensor]) -> None:
        there = self.default if not arguments else not all(map(self.is_on_cpu, arguments))
        for tensor in results:
            if there and all(tensor is not argument for argument in arguments):
                self.place(tensor, there)
        super().remember(arguments, results)

    def refuses(self, func: Any) -> bool:
        return func in REFUSING or torch.Tag.pointwise in func.tags


class _Devices(TorchFunctionMode):
    """Answers which device a tensor is on, and notes where a function is asked to put its result."""

    def __init__(self, origins: _StandIn) -> None:
        super().__init__()
        self._origins = origins

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        origins, arguments = self._origins, list(tensors_in([args, kwargs]))
        if func == Tensor.device.__get__:
            return HERE if origins.is_on_cpu(args[0]) else THERE
        is_there = not all(map(origins.is_on_cpu, arguments))
        target = self._device_named(func, args, kwargs)
        before, origins.default = origins.default, is_there or not arguments
        try:
            result = func(*args, **kwargs)
        finally:
            origins.default = before
        if not isinstance(result, Tensor) or (target is None and arguments):
            return result
        goes_there = target == THERE
        if any(result is argument for argument in arguments) and goes_there != is_there:
            result = torch.ops.aten.alias(result)  # on the CPU it was there already
        origins.place(result, goes_there)
        if not goes_there:
            origins.note(result, moved=is_there)
        return result

    def _device_named(
        self, func: Any, args: Sequence[Any], keywords: Mapping[str, Any]
    ) -> torch.device | None:
        """Return the device that the arguments of a function name, or None."""
        if func is Tensor.cpu:
            return HERE
        named = [keywords.get("device"), *(args[1:] if func is Tensor.to else ())]
        for value in (*named, *(args[1:2] if func is Tensor.type_as else ())):
            if isinstance(value, Tensor):
                return HERE if self._origins.is_on_cpu(value) else THERE
            if isinstance(value, (str, torch.device)):
                return torch.device(value)
        return None
