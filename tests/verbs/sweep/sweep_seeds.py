"""A plugin whose architectures each do to their process what a sweep must survive.

Each adds its name to the file `SEEDS_LOG` when it is built. Imports no torch.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from nnkit import Architecture, Dim, TensorSpec, hookimpl

NNKIT_PLUGIN_API = "1.0"


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    pass


NAMES = (
    "sound", "aborts", "hungry", "chatty", "leaves", "silent-end", "fails", "raises", "unready", "declined", "slow"
)  # fmt: skip


@hookimpl
def nnkit_architectures():
    more = {
        "unready": {"requires": {"not_there": "pip install not-there"}},
        "declined": {"unsupported": {"smoke-run": "it talks to a robot"}},
        "slow": {"dims": {"batch": Dim(default=4, min=2)}},
    }
    return [architecture(name, **more.get(name, {})) for name in NAMES]


def architecture(name, **more):
    return Architecture(
        **{"dims": {"batch": Dim(default=4)}, **more},
        name=name,
        summary=name,
        build=f"sweep_seeds:{name.replace('-', '_')}",
        config=NoOptions,
        inputs=[TensorSpec("x", ("batch", 3))],
        outputs=[TensorSpec("y", ("batch", 3))],
    )


def __getattr__(name):
    if name.replace("_", "-") not in NAMES:
        raise AttributeError(name)
    return lambda config: module(name)


def module(name):
    from torch import nn

    if "SEEDS_LOG" in os.environ:
        with Path(os.environ["SEEDS_LOG"]).open("a") as log:
            log.write(f"{name} {os.getpid()}\n")

    class Seed(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x):
            ACTS.get(name, lambda x: None)(x)
            return self.linear(x).softmax(0) if name == "fails" else self.linear(x)

    if name == "raises":
        raise ValueError("no such layer\nand more")
    return Seed()


def abort(x):
    print("about to abort", file=sys.stderr, flush=True)
    os.abort()


def eat(x):
    # A sum above the limit of the test, held until it is noticed: how soon that is depends on the machine.
    kept = [bytearray(os.urandom(1) * 2**25) for _ in range(40)]
    time.sleep(3600)
    del kept


def chat(x):
    print('{"report": {"checks": []}}')
    os.write(1, b'{"error": "not so"}\n' * 10_000)


ACTS = {
    "aborts": abort,
    "hungry": eat,
    "chatty": chat,
    "leaves": lambda x: os._exit(3),
    "silent_end": lambda x: os._exit(0),
    "slow": lambda x: time.sleep(float(os.environ.get("SEEDS_SLEEP", "3600"))),
}
