"""The process of a simulation: reads a task from stdin and writes the result to stdout, as JSON."""

import json
import os
import sys
import traceback
from typing import Any

import torch
from torch import nn

from nnkit import errors
from nnkit.contract.spec import make_spec
from nnkit.contract.text import name_output
from nnkit.errors import NnkitError, first_line
from nnkit.models.precision import count_dtypes
from nnkit.models.references import look_up
from nnkit.models.user_lines import failing_line
from nnkit.verbs.core_handlers import plugin_manager
from nnkit.verbs.smoke.accelerator import BACKEND, NO_VALUES, Accelerator, NeedsValues
from nnkit.verbs.smoke.subject import Failed, Outputs, Skipped, Subject


def main() -> None:
    """Run the task on stdin."""
    # What user code prints must not end up in the result.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as result:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        json.dump(run(json.load(sys.stdin)), result)


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Return the status, message and sizes of the check, or the error that prevented it."""
    accelerator = Accelerator(task["kind"])  # before the first backward of the process
    try:
        host = plugin_manager()
        reference = look_up(task["reference"], host, task["inputs"], task["declarations"])
        spec = make_spec(reference.architecture, reference.plugin, base=task["spec"])
        subject = Subject(spec, host, torch.device("cpu"))
        dtypes = count_dtypes(subject.fresh().parameters())
        status, message = check(subject, accelerator)
        return {"status": status, "message": message, "sizes": subject.sizes, "dtypes": dtypes}
    except NnkitError as error:
        # The other process may not know an error class of a plugin's: name its nearest base in nnkit.
        bases = [base.__name__ for base in type(error).__mro__ if base.__module__ == errors.__name__]
        return {
            "error": bases[0],
            "message": error.message,
            "hint": error.hint,
            "traceback": traceback.format_exc(),
        }


def check(subject: Subject, accelerator: Accelerator) -> tuple[str, str]:
    """Return the status and message of the placement check on the accelerator."""
    if unsupported := subject.spec.architecture.unsupported.get("placement"):
        return "skipped", unsupported
    try:
        return "passed", placement(subject, accelerator)
    except Failed as fault:
        return "failed", str(fault)
    except Skipped as reason:
        return "skipped", str(reason)


def placement(subject: Subject, accelerator: Accelerator) -> str:
    """Train one step with everything on the accelerator, and check where the tensors are.

    Raises Failed where a tensor is wrongly on the CPU, and where the model doesn't run on the CPU either;
    Skipped where only the simulation can't run it.
    """
    module, inputs = subject.fresh().train(), subject.inputs()
    try:
        with accelerator.activate(module, subject.spec.signature, inputs) as moved:
            outputs = subject.outputs(module, moved)
            _check_devices(module, outputs, accelerator)
            _take_step(module, outputs)
    except (Failed, Skipped):
        raise
    except NeedsValues as error:
        raise Skipped(f"{NO_VALUES}{_format_line(error)}") from error
    except Exception as error:
        message = accelerator.translate(first_line(error))
        if isinstance(error, RuntimeError) and BACKEND in str(error) and "cpu" in str(error):
            # Some functions compare devices before they call an operator.
            raise Failed(f"{failing_line(error) or 'somewhere'}: {message}") from error
        _check_on_cpu(subject)
        raise Skipped(f"the simulation can't run the model: {message}{_format_line(error)}") from error
    return f"forward, backward and a step of SGD, everything on {accelerator.kind}"


def _check_devices(module: nn.Module, outputs: Outputs, accelerator: Accelerator) -> None:
    for name, tensor in (
        *((name_output(declared.name), tensor) for declared, tensor in outputs),
        *module.named_parameters(),
        *module.named_buffers(),
    ):
        if tensor.device.type != accelerator.device.type:
            raise Failed(f"{name} is on {tensor.device}{accelerator.origins.describe_origin(tensor)}")


def _take_step(module: nn.Module, outputs: Outputs) -> None:
    losses = [tensor.sum() for _, tensor in outputs if tensor.is_floating_point() and tensor.requires_grad]
    has_parameters = next(module.parameters(), None) is not None
    if losses and has_parameters:
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9).step()


def _check_on_cpu(subject: Subject) -> None:
    """Raise Failed where the model doesn't run on the CPU either."""
    module = subject.fresh().train()
    try:
        _take_step(module, subject.outputs(module, subject.inputs()))
    except Failed:
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {first_line(error)}"
        raise Failed(f"the model fails on the CPU too: {message}{_format_line(error)}") from error


def _format_line(error: BaseException) -> str:
    line = failing_line(error)
    return f", at {line}" if line else ""
