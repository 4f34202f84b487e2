"""What each plugin costs every start of nnkit: how long its import takes, and what comes with it. Torch-free.

Each is imported in a process of its own: of two that import torch, the second would find it there
already, and one that never ends stops nobody else.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from nnkit.host.isolation import HEAVY
from nnkit.host.plugins import Plugin

PATIENCE = 60  # seconds that an import may take
SLOW = 0.5  # seconds from which an import is told as slow

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
    """What importing a plugin takes: seconds, modules, and the heavy ones among them.

    seconds is None where it takes longer than anybody waits or the process died; then `error` says so.
    error: what the import raises, where it does.
    """

    plugin: str
    distribution: str
    seconds: float | None
    modules: int
    heavy: tuple[str, ...]
    error: str | None = None

    @property
    def slow(self) -> bool:
        """Whether every command waits for it longer than a user likes to."""
        return self.seconds is None or self.seconds >= SLOW

    def to_dict(self) -> dict[str, object]:
        """Return it as plain data."""
        return asdict(self)


def measure(plugins: Iterable[Plugin]) -> list[Start]:
    """Return what importing each of `plugins` takes, slowest first, one after the other."""
    found = [_measure(plugin) for plugin in plugins]
    return sorted(found, key=lambda each: -1e9 if each.seconds is None else -each.seconds)


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
        return _unknown(plugin, f"the process ends with {done.returncode}")
    seconds, modules, error = json.loads(done.stdout.splitlines()[-1])
    heavy = tuple(name for name in HEAVY if name in modules)
    return Start(plugin.name, plugin.distribution, seconds, len(modules), heavy, error)


def _unknown(plugin: Plugin, error: str) -> Start:
    return Start(plugin.name, plugin.distribution, None, 0, (), error)
