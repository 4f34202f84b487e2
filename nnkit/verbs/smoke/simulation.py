"""`--simulate cuda`: the placement check on an accelerator that isn't there, in a process of its own.

The fake accelerator can only be set up in a process that has never run a backward, and user code may end
the process it runs in; so neither happens in this one. Torch-free.
"""

import json
import subprocess
import sys
from typing import Any

from nnkit import errors
from nnkit.contract.requests import SmokeRequest
from nnkit.errors import NnkitError, UsageProblem, did_you_mean
from nnkit.models.devices import ACCELERATORS
from nnkit.verbs.smoke.report import CheckResult, SmokeReport

CHECK = "placement"
TIME_LIMIT = 600  # seconds


# The process has this one's search path before it imports anything, so that it finds the same code; and
# Ctrl-C, which reaches both, ends it without a word.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.path[:] = {path!r}
from nnkit.verbs.smoke.simulated import main
main()
"""


class _InSimulation(Exception):
    """An error of the other process; its text is the traceback."""


def simulate(request: SmokeRequest) -> SmokeReport:
    """Run the placement check on fake tensors of a fake `request.simulate`.

    Raises UsageProblem for what can't be simulated, the error of building the model as it is, and
    NnkitError when the process of the simulation dies or takes longer than the time limit.
    """
    _refuse(request)
    request.progress(f"checking {CHECK} on {request.device}")
    told = _ask(_task(request))
    if "error" in told:
        kind: type[NnkitError] = getattr(errors, told["error"])
        raise kind(told["message"], told["hint"]) from _InSimulation(told["traceback"])
    result = CheckResult(CHECK, told["status"], told["message"], _repeat(request))
    spec = request.spec.with_sizes(told["sizes"])
    return SmokeReport(spec, request.device, (result,), dtypes=told["dtypes"])


def _refuse(request: SmokeRequest) -> None:
    if request.simulate not in ACCELERATORS:
        kinds = ", ".join(ACCELERATORS)
        raise UsageProblem(
            f"can't simulate {request.simulate!r}",
            did_you_mean(str(request.simulate), ACCELERATORS) or f"one of: {kinds}",
        )
    others = [f"--check {name}" for name in request.checks or () if name != CHECK]
    flags = {"--full": request.full, "--compile": request.compiled, "--parallel": request.parallel}
    others += [flag for flag, given in flags.items() if given]
    if others:
        raise UsageProblem(
            f"{others[0]} can't be simulated: there are no values", f"leave it out: {CHECK} is checked"
        )
    if request.inputs is not None or not request.spec.typed:
        raise UsageProblem(
            "a simulation makes the model and its inputs itself, and can't take them from Python",
            f"name the class: nnkit smoke-run file.py:Class --input … --simulate {request.simulate}",
        )


def _repeat(request: SmokeRequest) -> str:
    return request.spec.command("smoke-run", "--simulate", str(request.simulate), "--check", CHECK)


def _task(request: SmokeRequest) -> dict[str, Any]:
    spec = request.spec
    reference, *rest = (spec.name,) if spec.plugin else spec.architecture.typed
    return {"kind": request.simulate, "reference": reference, "inputs": rest[1::2], "spec": spec.to_dict()}


def _ask(task: dict[str, Any]) -> dict[str, Any]:
    """Return what the process of the simulation says; what the user's code prints goes to stderr."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(path=sys.path)],
            input=json.dumps(task), stdout=subprocess.PIPE, encoding="utf-8", timeout=TIME_LIMIT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise NnkitError(
            f"the simulation did not end within {TIME_LIMIT} seconds", "try it with smaller sizes"
        ) from error
    if not done.stdout:
        raise NnkitError(
            f"the process of the simulation ended {_ending(done.returncode)}, without a result",
            "what it said is above; see whether the model runs on the CPU: leave out --simulate",
        )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _ending(code: int) -> str:
    return f"by signal {-code}" if code < 0 else f"with code {code}"
