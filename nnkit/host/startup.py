"""Measures what each plugin adds to the start of nnkit: the time and the modules of its import. Torch-free.

Each plugin is imported in its own process: if two import torch, the second would find it imported, and an
import that never ends doesn't stop the others.
"""

import json
import math
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from nnkit.host.isolation import HEAVY
from nnkit.host.plugins import Plugin

PATIENCE = 60  # seconds that an import may take
SLOW = 0.5  # seconds from which an import counts as slow

_SCRIPT = """
import json, sys, time
import nnkit.contract.hooks
out, sys.stdout = sys.stdout, sys.stderr
before, start, error = set(sys.modules), time.perf_counter(), None
try:
    __import__(sys.argv[1])
except BaseException as raised:
    error = type(raised).__name__
took = time.perf_counter() - start
print(json.dumps([took, sorted(sys.modules.keys() - before), error]), file=out)
"""


@dataclass(frozen=True)
class Start:
    """What importing a plugin takes.

    Attributes:
        plugin: Its name.
        distribution: The distribution that it comes from.
        seconds: How long the import takes. None: too long, or the process died, as `error` says.
        modules: How many modules it imports.
        heavy: The heavy modules among them.
        error: What went wrong, if anything did.
    """

    plugin: str
    distribution: str
    seconds: float | None
    modules: int
    heavy: tuple[str, ...]
    error: str | None = None

    @property
    def slow(self) -> bool:
        """Whether the import delays every command noticeably."""
        return self.seconds is None or self.seconds >= SLOW

    def to_dict(self) -> dict[str, object]:
        """Return the measurement as plain data."""
        return asdict(self)


def measure(plugins: Iterable[Plugin]) -> list[Start]:
    """Import each of `plugins`, one after the other, and return what that takes, slowest first."""
    starts = [_measure(plugin) for plugin in plugins]
    return sorted(
        starts, key=lambda start: math.inf if start.seconds is None else start.seconds, reverse=True
    )


def _measure(plugin: Plugin) -> Start:
    module = plugin.module.partition(":")[0].strip()
    try:
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, module],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _unknown(plugin, f"takes more than {PATIENCE} seconds")
    if done.returncode != 0 or not done.stdout:
        return _unknown(plugin, f"the process exited with {done.returncode}")
    seconds, modules, error = json.loads(done.stdout.splitlines()[-1])
    heavy = tuple(name for name in HEAVY if name in modules)
    return Start(plugin.name, plugin.distribution, seconds, len(modules), heavy, error)


def _unknown(plugin: Plugin, error: str) -> Start:
    return Start(plugin.name, plugin.distribution, None, 0, (), error)
