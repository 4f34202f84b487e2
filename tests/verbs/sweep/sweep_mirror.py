"""A plugin whose architecture writes down what its process is like. Imports no torch.

It does at import what `MIRROR` says.
"""

import atexit
import gc
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from sweep_seeds import NoOptions

from nnkit import Architecture, Dim, TensorSpec, hookimpl

NNKIT_PLUGIN_API = "1.0"
KEPT = []
LOGS = []


def start_thread():
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()


AT_IMPORT = {
    "thread": start_thread,
    "file": lambda: KEPT.append(os.open(os.devnull, os.O_RDONLY)),
    "folder": lambda: KEPT.append(tempfile.TemporaryDirectory()),
    "exit": lambda: atexit.register(int),
    "process": lambda: KEPT.append(subprocess.Popen([sys.executable, "-c", ""])),
    "": lambda: None,
}
AT_IMPORT[os.environ.get("MIRROR", "")]()


@hookimpl
def nnkit_architectures():
    return [
        Architecture(
            name=name,
            summary="",
            build=f"sweep_mirror:build_{name}",
            config=NoOptions,
            dims={"batch": Dim(default=4)},
            inputs=[TensorSpec("x", ("batch", 3))],
            outputs=[TensorSpec("y", ("batch", 3))],
        )
        for name in ("one", "two")
    ]


class Final:
    def __del__(self):
        os.write(self.descriptor, b"deleted ")


def build_one(config):
    import numpy as np
    import torch
    from parts import SCALE  # a file of the test's own

    path = Path(os.environ["MIRROR_FILE"])
    with path.open("a") as file:
        file.write(
            json.dumps(
                {**facts(), "scale": SCALE, "numpy": np.random.rand(), "torch": torch.rand(3).tolist()}
            )
        )
        file.write("\n")
    if not LOGS:
        LOGS.append(log := path.with_suffix(f".{os.getpid()}").open("w"))
        log.write("open ")  # and never flushed
        atexit.register(log.write, "exit ")
        threading.Thread(target=lambda: (time.sleep(0.3), log.write("thread "))).start()
    return torch.nn.Linear(3, 3)


def build_two(config):
    module = build_one(config)
    final = Final()
    final.descriptor = LOGS[0].fileno()
    final.itself = final
    return module


def facts():
    """Return what a model can notice of its process."""
    import numpy as np
    import torch

    np.ones((500, 500)) @ np.ones((500, 500))  # BLAS starts its threads now at the latest
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "python": random.random(),
        "leads": (os.getpgrp(), os.getsid(0)) == (os.getpid(), os.getpid()),
        "cpus": torch.get_num_threads(),
        "seed": torch.initial_seed(),
        "tasks": len(os.listdir("/proc/self/task")),
        "threads": [thread.name.partition(" ")[0] for thread in threading.enumerate()],
        "descriptors": sorted(str(Path(f"/proc/self/fd/{fd}").readlink()).partition(":")[0] for fd in (0, 1, 2)),
        "open": len(os.listdir("/proc/self/fd")),
        "signals": [status[name] for name in ("SigBlk", "SigIgn", "SigCgt")],
        "handlers": {each.name: str(signal.getsignal(each)) for each in signal.Signals},
        "alarm": signal.getitimer(signal.ITIMER_REAL),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if "RLIMIT_" in name},
        "environment": dict(os.environ),
        "path": sys.path,
        "argv": sys.argv,
        "main": sorted(name for name in vars(sys.modules["__main__"]) if not name.startswith("_")),
        "folder": str(Path.cwd()),
        "umask": os.umask(0o77) and None,
        "collector": (gc.isenabled(), gc.get_threshold()),
        "stdin": (sys.stdin.encoding, sys.stdin.isatty(), sys.stdin.read()),
        "streams": [(each.encoding, each.errors, each.isatty(), each.line_buffering) for each in (sys.stdout, sys.stderr)],
        "grad": torch.is_grad_enabled(),
        "limit of recursion": sys.getrecursionlimit(),
        "nice": os.nice(0),
    }  # fmt: skip
