"""Plugins that do wrong, each a distribution of its own, and what is to be told of them.

A module `hurt_NAME` is the plugin NAME of the distribution `nnkit-NAME`; `hurt_NAME_model` is its model.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

SOUND = """
from dataclasses import dataclass
from nnkit import Architecture, Dim, TensorSpec, hookimpl

NNKIT_PLUGIN_API = "1.0"

@dataclass(frozen=True, kw_only=True)
class Config:
    width: int = 4

def net(**changes):
    return Architecture(**{
        "name": "NAME-net", "summary": "a net", "build": "hurt_NAME_model:Net", "config": Config,
        "inputs": [TensorSpec("x", ("batch", "width"))], "outputs": [TensorSpec("y", ("batch", 2))],
        "dims": {"batch": Dim(default=1)}, **changes,
    })

@hookimpl
def nnkit_architectures():
    return [net()]
"""

MODEL = """
import torch

class Net(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.linear = torch.nn.Linear(config.width, 2)

    def forward(self, x):
        return self.linear(x)
"""


@dataclass(frozen=True)
class Bad:
    """A bad plugin.

    source, model: of its module and of its model's. told: the stage, and what is said then, in the one
    line that every command prints; None where nothing is wrong until it is used. works: its architecture
    is there all the same. points: what stands in the group `nnkit` of its entry points.
    """

    source: str = SOUND
    told: tuple[str, str] | None = None
    works: bool = False
    model: str = MODEL
    points: tuple[str, ...] = ("NAME = hurt_NAME",)


def _with(old: str, new: str) -> str:
    assert old in SOUND
    return SOUND.replace(old, new)


NET = "return [net()]"
HOOK = "\n@hookimpl\ndef {name}({arguments}):\n    {body}\n"

BAD = {
    "importing": Bad("raise ImportError('libfoo.so: cannot open')", ("import", "ImportError: libfoo.so: cannot open")),
    "syntax": Bad("def", ("import", "SyntaxError: invalid syntax")),
    "exiting": Bad("import sys\nsys.exit(3)", ("import", "SystemExit: 3")),
    "panicking": Bad("class Panic(BaseException): pass\nraise Panic('no')", ("import", "Panic: no")),
    "speechless": Bad(
        "class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd", ("import", "Odd"),
    ),
    "lacking": Bad("import not_there\n" + SOUND, ("import", "ModuleNotFoundError: No module named 'not_there'")),
    "nowhere": Bad(told=("import", "ModuleNotFoundError: No module named 'hurt_elsewhere'"), points=("NAME = hurt_elsewhere",)),
    "heavy": Bad("import numpy\n" + SOUND, works=True),
    "sleeping": Bad("import time\ntime.sleep(0.6)\n" + SOUND, works=True),
    "older": Bad(_with('"1.0"', '"0.9"'), ("API check", "it is for plugin API 0.9, this nnkit has 1.1; upgrade the plugin")),
    "newer": Bad(_with('"1.0"', '"1.9"'), ("API check", "it needs plugin API 1.9, this nnkit has 1.1; upgrade nnkit")),
    "unversioned": Bad(_with("NNKIT_PLUGIN_API", "OTHER"), ("API check", "it states no API version")),
    "misspelt": Bad(
        SOUND + HOOK.format(name="nnkit_sumarize", arguments="request", body="return None"),
        ("registration", "unknown hook nnkit_sumarize; did you mean nnkit_summarize"), works=True,
    ),
    "arguing": Bad(
        SOUND + HOOK.format(name="nnkit_build", arguments="request, colour", body="return None"),
        ("registration", "PluginValidationError"),
    ),
    "requestless": Bad(
        SOUND + HOOK.format(name="nnkit_build", arguments="", body="return None"),
        ("registration", "nnkit_build takes one argument, 'request'"), works=True,
    ),
    "raising": Bad(_with(NET, "raise RuntimeError('no')"), ("nnkit_architectures", "RuntimeError: no")),
    "leaving": Bad(_with(NET, "raise SystemExit('bye')"), ("nnkit_architectures", "SystemExit: bye")),
    "mistyped": Bad(_with(NET, "return [7, net()]"), ("nnkit_architectures", "returned 7; expected Architecture"), works=True),
    "nothing": Bad(_with(NET, "return None"), ("nnkit_architectures", "TypeError: 'NoneType' object is not iterable")),
    "nameless": Bad(_with(NET, "return [net(name=None), net()]"), ("registration", "TypeError"), works=True),
    "double": Bad(
        _with(NET, "return 2 * [net()]"), ("registration", "architecture 'double-net': the name is already taken"), works=True,
    ),
    "twice": Bad(
        points=("NAME = hurt_NAME", "NAME = hurt_sound"),
        told=("discovery", "'twice' is already hurt_twice; hurt_sound is left out"), works=True,
    ),
    "hiding": Bad(
        _with("width: int", "device: int"), ("registration", "option 'device' would hide the core option --device"),
    ),
    "spaced": Bad(_with('"NAME-net"', '"my net"'), ("registration", "architecture 'my net': a name is lower-case words")),
    "slashed": Bad(_with('"NAME-net"', '"my/net"'), ("registration", "architecture 'my/net': a name is lower-case words")),
    "spacedpoint": Bad(points=("my plugin = hurt_NAME",), told=("discovery", "a plugin's name has only letters")),
    "slashedpoint": Bad(points=("my/plugin = hurt_NAME",), told=("discovery", "a plugin's name has only letters")),
    "unknownaxis": Bad(
        _with('("batch", "width")', '("batch", "widht")'),
        ("registration", "a shape names 'widht', which is neither a dim nor a config field"),
    ),
    "printing": Bad(
        "print('hello')\n" + SOUND, ("loading", "it prints to stdout, which is for results: 'hello'"), works=True,
    ),
    "patching": Bad(
        "import click\nclick.echo = click.Command.main = None\n" + SOUND,
        ("loading", "it replaces click.Command.main, click.echo, which was put back"), works=True,
    ),
    "shadowing": Bad(
        "import builtins\nbuiltins.open = None\n" + SOUND,
        ("loading", "it replaces builtins.open, which was put back"), works=True,
    ),
    "rewiring": Bad(
        "import json, sys\njson.dumps = sys.exit = None\nsys.stdout = sys.stderr\n" + SOUND,
        ("loading", "it replaces json.dumps, sys.exit, sys.stdout, which was put back"), works=True,
    ),
    "moving": Bad(
        "import os\nos.chdir('/')\n" + SOUND, ("loading", "it replaces the working folder, which was put back"), works=True,
    ),
    "endless": Bad(
        _with(NET, "return iter(net, None)"), ("nnkit_architectures", "has more than 10,000 entries, or never ends"),
    ),
    "boundless": Bad(
        _with('("batch", "width")', '__import__("itertools").repeat("batch")'),
        ("registration", "a shape has more than 10,000 entries, or never ends"),
    ),
    "halved": Bad(_with('"a net"', '"half a pair: \\ud800"'), works=True),
    # What is wrong with these shows only when they are used.
    "unbuildable": Bad(works=True, model=MODEL.replace("super().__init__()", "raise ValueError('no')")),
    "quitting": Bad(works=True, model=MODEL.replace("super().__init__()", "raise SystemExit(5)")),
    "moduleless": Bad(works=True, model="def Net(config): return 7"),
    "mismatched": Bad(_with('("batch", "width")', '("batch", 7)'), works=True),
    "chatting": Bad(works=True, model=MODEL.replace("return self", "print('forward'); return self")),
    "incomplete": Bad(works=True, model="import not_there\n" + MODEL),
    "brokenmodel": Bad(works=True, model="def"),
    "requiring": Bad(_with("1)}, **", '1)}, "requires": {"not_there": "pip install not-there"}, **'), works=True),
    "intruding": Bad(
        SOUND + HOOK.format(name="nnkit_build", arguments="request", body="raise RuntimeError('not mine')"), works=True,
    ),
    "wrapping": Bad(
        SOUND + HOOK.replace("hookimpl", "hookimpl(wrapper=True)").format(
            name="nnkit_build", arguments="request", body="yield; raise RuntimeError('too late')"
        ), works=True,
    ),
}  # fmt: skip
"""By name. Each declares NAME-net, where it gets so far."""


def write_wheel(folder: Path, name: str, bad: Bad) -> Path:
    """Write the wheel of a plugin, which is a zip of its modules and of what pip wants to know."""
    info = f"nnkit_{name}-1.0.dist-info"
    files = {
        f"hurt_{name}.py": bad.source,
        f"hurt_{name}_model.py": bad.model,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: nnkit-{name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[nnkit]\n" + "\n".join(bad.points) + "\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    wheel = folder / f"nnkit_{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text.replace("NAME", name))
    return wheel
