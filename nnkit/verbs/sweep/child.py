"""The process that runs one task. It reads the task from stdin, and writes events to stdout as lines of JSON:
what it is doing, and what came of it. The processes that measure a catalog begin the same way.

Nothing else is written there: what the model prints goes to stderr. Stdin stays open as long as the parent
lives; when it closes, this process ends, with every process that it has started.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING, Any

from nnkit.contract.requests import SmokeRequest
from nnkit.errors import NnkitError, UsageProblem, first_line
from nnkit.models.process import neutral_torch, one_at_a_time
from nnkit.verbs.sweep.memory import peak_memory

if TYPE_CHECKING:
    from nnkit.verbs.smoke.report import SmokeReport

Send = Callable[[dict[str, Any]], None]


def main() -> None:
    """Run the task on stdin."""
    task, send = take_task()
    send({"at": "starting"})
    try:
        report = _smoke_run(task, send)
        if report is not None:
            send({"report": report.to_dict()})
    except NnkitError as error:
        send({"error": first_line(error)})
    except Exception as error:
        send({"error": f"{type(error).__name__}: {first_line(error)}"})
    send({"at": "ending", "peak_memory": peak_memory(os.getpid())})


def take_task() -> tuple[dict[str, Any], Send]:
    """Return the task on stdin, and what sends an event to the parent."""
    lifeline, out = os.dup(0), os.fdopen(os.dup(1), "w", encoding="utf-8")
    task = json.loads(sys.stdin.readline())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()

    def send(event: dict[str, Any]) -> None:
        out.write(json.dumps(event) + "\n")
        out.flush()

    return task, send


def _end_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)  # returns when the parent ends, for nothing is ever written there
    os.killpg(0, signal.SIGKILL)


@one_at_a_time
def _smoke_run(task: dict[str, Any], send: Send) -> "SmokeReport | None":
    """Return the report; or send `refused` and return None where no model can be run in the requested way."""
    from nnkit.models.devices import find_device
    from nnkit.models.references import Reference
    from nnkit.verbs.core_handlers import plugin_manager
    from nnkit.verbs.smoke.handler import choose_checks

    manager = plugin_manager()
    checks = None if task["checks"] is None else tuple(task["checks"])
    try:
        find_device(task["device"])
        choose_checks(checks, task["full"], manager)
    except UsageProblem as problem:
        send({"refused": [problem.message, problem.hint]})
        return None
    plugin, architecture = manager.find(task["spec"]["architecture"])
    spec = Reference(architecture, plugin, task["spec"]).resolve()
    spec.require_support("smoke-run")
    request = SmokeRequest(
        spec=spec,
        host=manager,
        device=task["device"],
        checks=checks,
        full=task["full"],
        compiled=task["compiled"],
        progress=lambda line: send({"at": line}),
    )
    with neutral_torch(spec.plugin):
        report: SmokeReport = manager.hook.nnkit_smoke_run(request=request)
    return report
