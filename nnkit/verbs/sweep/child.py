"""The process that runs one task. It gets the task on stdin and tells on stdout, in lines of JSON, what it
is at and what came of it.

Nothing else comes through there: whatever the model prints goes to stderr. Stdin stays open as long as
the parent lives; when it closes, this process and all that it has started end.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING, Any

from nnkit.errors import NnkitError, UsageProblem, first_line
from nnkit.verbs.sweep.memory import peak_memory

if TYPE_CHECKING:
    from nnkit.verbs.smoke.report import SmokeReport

Tell = Callable[[dict[str, Any]], None]


def main() -> None:
    """Run the task that stands on stdin."""
    life, out = os.dup(0), os.fdopen(os.dup(1), "w", encoding="utf-8")
    task = json.loads(sys.stdin.readline())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    Thread(target=_end_with_parent, args=(life,), daemon=True).start()

    def tell(event: dict[str, Any]) -> None:
        out.write(json.dumps(event) + "\n")
        out.flush()

    tell({"at": "starting"})
    try:
        report = _smoke_run(task, tell)
        if report is not None:
            tell({"report": report.to_dict()})
    except Exception as error:
        said = first_line(error)
        tell({"error": said if isinstance(error, NnkitError) else f"{type(error).__name__}: {said}"})
    tell({"at": "ending", "peak_memory": peak_memory(os.getpid())})


def _end_with_parent(life: int) -> None:
    os.read(life, 1)
    os.killpg(0, signal.SIGKILL)


def _smoke_run(task: dict[str, Any], tell: Tell) -> "SmokeReport | None":
    """Return the report; or None, once it is told, where no model can be run in the way asked for."""
    from nnkit import api
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
        tell({"refused": [problem.message, problem.hint]})
        return None
    plugin, architecture = manager.find(task["spec"]["architecture"])
    return api.smoke_run(
        Reference(architecture, plugin, task["spec"]).resolve(), device=task["device"], checks=checks,
        full=task["full"], compiled=task["compiled"], progress=lambda line: tell({"at": line}),
    )  # fmt: skip
