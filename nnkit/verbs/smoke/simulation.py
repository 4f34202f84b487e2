"""`--simulate cuda`: the placement check without the accelerator, in a separate process.

The fake accelerator can only be set up in a process that has not yet run a backward, and user code may end
the process it runs in. So both happen in a process of their own. Torch-free.
"""

import json
import subprocess
import sys
from itertools import pairwise
from typing import Any

from nnkit import errors
from nnkit.contract.requests import SmokeRequest
from nnkit.errors import NnkitError, UsageProblem, did_you_mean
from nnkit.models.devices import ACCELERATORS
from nnkit.verbs.smoke.report import CheckResult, SmokeReport

CHECK = "placement"
TIME_LIMIT = 600  # seconds


# The process gets this one's search path before it imports anything, so that it finds the same code. Ctrl-C
# reaches both processes; the other one then ends without output.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.path[:] = {path!r}
from nnkit.verbs.smoke.simulated import main
main()
"""


class _SimulationError(Exception):
    """An error of the other process; its text is the traceback."""


def simulate(request: SmokeRequest) -> SmokeReport:
    """Run the placement check on fake tensors on a fake `request.simulate`.

    Raises UsageProblem for what can't be simulated, the model's own error where it can't be built, and
    NnkitError where the other process dies or takes longer than the time limit.
    """
    _refuse_impossible(request)
    request.progress(f"checking {CHECK} on {request.device}")
    answer = _run_process(_make_task(request))
    if "error" in answer:
        error_class: type[NnkitError] = getattr(errors, answer["error"])
        raise error_class(answer["message"], answer["hint"]) from _SimulationError(answer["traceback"])
    result = CheckResult(CHECK, answer["status"], answer["message"], _repeat_command(request))
    spec = request.spec.with_sizes(answer["sizes"])
    return SmokeReport(spec, request.device, (result,), dtypes=answer["dtypes"])


def _refuse_impossible(request: SmokeRequest) -> None:
    if request.simulate not in ACCELERATORS:
        raise UsageProblem(
            f"can't simulate {request.simulate!r}",
            did_you_mean(str(request.simulate), ACCELERATORS) or f"choose from: {', '.join(ACCELERATORS)}",
        )
    impossible = [f"--check {name}" for name in request.checks or () if name != CHECK]
    flags = {"--full": request.full, "--compile": request.compiled, "--parallel": request.parallel}
    impossible += [flag for flag, given in flags.items() if given]
    if impossible:
        raise UsageProblem(
            f"{impossible[0]} can't be simulated: a simulation has no values",
            f"leave it out: only {CHECK} is checked",
        )
    if request.inputs is not None or not request.spec.typed:
        raise UsageProblem(
            "a simulation builds the model and its inputs itself; it can't take them from Python",
            f"name the class: nnkit smoke-run file.py:Class --input … --simulate {request.simulate}",
        )


def _repeat_command(request: SmokeRequest) -> str:
    return request.spec.command("smoke-run", "--simulate", str(request.simulate), "--check", CHECK)


def _make_task(request: SmokeRequest) -> dict[str, Any]:
    spec = request.spec
    # A class is typed as: file.py:Class --input DECLARATION --declare KEY=VALUE …
    reference, *options = (spec.name,) if spec.plugin else spec.architecture.typed
    typed = list(pairwise(options))
    return {
        "kind": request.simulate,
        "reference": reference,
        "inputs": [value for flag, value in typed if flag == "--input"],
        "declarations": [value for flag, value in typed if flag == "--declare"],
        "spec": spec.to_dict(),
    }


def _run_process(task: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of the other process. What the user's code prints goes to stderr."""
    try:
        process = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(path=sys.path)],
            input=json.dumps(task),
            stdout=subprocess.PIPE,
            encoding="utf-8",
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NnkitError(
            f"the simulation did not finish within {TIME_LIMIT} seconds", "try smaller sizes"
        ) from error
    if not process.stdout:
        raise NnkitError(
            f"the simulation process ended {_describe_exit(process.returncode)}, without a result",
            "its output is above; to see whether the model runs on the CPU, leave out --simulate",
        )
    answer: dict[str, Any] = json.loads(process.stdout)
    return answer


def _describe_exit(code: int) -> str:
    return f"by signal {-code}" if code < 0 else f"with exit code {code}"
