"""The process of a simulation: reads on stdin what to check, writes on stdout what it found, as JSON."""

import json
import os
import sys
import traceback
from typing import Any

import torch
from torch import nn

from nnkit import errors
from nnkit.contract.spec import make_spec
from nnkit.errors import NnkitError, first_line
from nnkit.models.precision import count_dtypes
from nnkit.models.references import look_up
from nnkit.models.user_lines import failing_line
from nnkit.verbs.core_handlers import plugin_manager
from nnkit.verbs.smoke.accelerator import BACKEND, NO_VALUES, Accelerator, NeedsValues
from nnkit.verbs.smoke.subject import Failed, Outputs, Skipped, Subject


def main() -> None:
    """Run the task that stdin gives."""
    # User code may print, which must not end up in the result.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as result:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        json.dump(run(json.load(sys.stdin)), result)


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Return status, message and sizes of the check, or the error that kept the check from being made."""
    accelerator = Accelerator(task["kind"])  # before the first backward of the process
    try:
        host = plugin_manager()
        found = look_up(task["reference"], host, task["inputs"])
        spec = make_spec(found.architecture, found.plugin, base=task["spec"])
        subject = Subject(spec, host, torch.device("cpu"))
        dtypes = count_dtypes(subject.fresh().parameters())
        status, message = check(subject, accelerator)
        return {"status": status, "message": message, "sizes": subject.sizes, "dtypes": dtypes}
    except NnkitError as error:
        # A plugin may have made a kind of its own, which the other process needn't know.
        kind = next(each.__name__ for each in type(error).__mro__ if each.__module__ == errors.__name__)
        return {
            "error": kind, "message": error.message, "hint": error.hint, "traceback": traceback.format_exc(),
        }  # fmt: skip


def check(subject: Subject, accelerator: Accelerator) -> tuple[str, str]:
    """Return status and message of the placement check on the accelerator."""
    if reason := subject.spec.architecture.unsupported.get("placement"):
        return "skipped", reason
    try:
        return "passed", placement(subject, accelerator)
    except Failed as fault:
        return "failed", str(fault)
    except Skipped as reason_not:
        return "skipped", str(reason_not)


def placement(subject: Subject, accelerator: Accelerator) -> str:
    """Train one step with everything on the accelerator, and look where the tensors are.

    Raises Failed where one is on the CPU that shouldn't be, and where the model doesn't run on the CPU
    either; Skipped where only the simulation can't run it.
    """
    module, inputs = subject.fresh().train(), subject.inputs()
    try:
        with accelerator.holding(module, subject.spec.input_names, inputs) as placed:
            outputs = subject.outputs(module, placed)
            _all_there(module, outputs, accelerator)
            _train(module, outputs)
    except (Failed, Skipped):
        raise
    except NeedsValues as error:
        raise Skipped(f"{NO_VALUES}{_at(error)}") from error
    except Exception as error:
        told = accelerator.in_words(first_line(error))
        if isinstance(error, RuntimeError) and BACKEND in str(error) and "cpu" in str(error):
            # Some functions compare devices before they call an operator.
            raise Failed(f"{failing_line(error) or 'somewhere'}: {told}") from error
        _run_on_cpu(subject)
        raise Skipped(f"the simulation can't run it: {told}{_at(error)}") from error
    return f"forward, backward and a step of SGD, everything on {accelerator.kind}"


def _all_there(module: nn.Module, outputs: Outputs, accelerator: Accelerator) -> None:
    for name, tensor in (
        *((f"output {declared.name}", tensor) for declared, tensor in outputs),
        *module.named_parameters(),
        *module.named_buffers(),
    ):
        if tensor.device.type != accelerator.device.type:
            raise Failed(f"{name} is on {tensor.device}{accelerator.origins.since(tensor)}")


def _train(module: nn.Module, outputs: Outputs) -> None:
    losses = [tensor.sum() for _, tensor in outputs if tensor.is_floating_point() and tensor.requires_grad]
    if losses and any(True for _ in module.parameters()):
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9).step()


def _run_on_cpu(subject: Subject) -> None:
    """Raise Failed where the model doesn't run on the CPU either."""
    module = subject.fresh().train()
    try:
        _train(module, subject.outputs(module, subject.inputs()))
    except Failed:
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {first_line(error)}"
        raise Failed(f"it fails on the CPU, too: {told}{_at(error)}") from error


def _at(error: BaseException) -> str:
    line = failing_line(error)
    return f", at {line}" if line else ""
