"""The process that measures some architectures, one after the other."""

import gc
from dataclasses import asdict

from nnkit.contract.catalog import CatalogRow
from nnkit.errors import PluginProblem
from nnkit.verbs.sweep.child import take_task

MOST_BROKEN = 5  # names at the beginning; then it isn't they that are broken, but their zoo


def main() -> None:
    """Measure the names in the task on stdin, and send their rows as soon as there are any."""
    task, send = take_task()
    from nnkit.verbs.catalog.row import describe_reason, measure
    from nnkit.verbs.core_handlers import plugin_manager
    from nnkit.verbs.summary import handler  # noqa: F401 - torch, which no name is to wait for

    manager, broken, measured = plugin_manager(), 0, 0
    for name in task["names"]:
        send({"at": name})
        try:
            for row in measure(name, manager, task["quick"]):
                send({"row": asdict(row)})
            measured += 1
        except PluginProblem as problem:
            broken += 1
            if broken == MOST_BROKEN and not measured:
                send({"refused": [problem.message, problem.hint]})
                return
            reason = describe_reason(problem)
            send({"row": asdict(CatalogRow(name=name.partition("/")[2], method=reason))})
        send({"done": name})
        gc.collect()
