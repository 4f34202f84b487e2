"""Draw what a terminal shows for commands of nnkit, as SVG, for a light and for a dark page.

The commands run for real. `docs/generate.py` writes the pictures and checks that they are fresh.
"""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "pictures"
COLUMNS = 100
EXAMPLE = Path("examples", "forgot_batch_first.py")
SMOKE_RUN = f'nnkit smoke-run {EXAMPLE.as_posix()}:Classifier --input "x: float32[batch, time=12, 32]"'


@dataclass(frozen=True)
class Command:
    """A command, and which lines of its output a picture has room for."""

    line: str
    keep: str = ""  # a pattern that the start of a line matches; a `…` at the end stands for all others


PICTURES: dict[str, tuple[Command, ...]] = {
    "terminal": (
        Command("nnkit summary simple-cnn --no-functional", keep="(?!buffers|not counted|counted in|note)"),
        Command("nnkit export gcn --onnx", keep="gcn|verified|sizes|weights|parameters"),
        Command(SMOKE_RUN, keep=".{9}(shapes|gradients|updates|batch-|determinism)|Error"),
    ),
    "summary": (Command("nnkit summary resnet18 --depth 1 --batch 8"),),
    "graph": (Command("nnkit graph transformer --depth 3"),),
    "export": (Command("nnkit export pointer-network --onnx"),),
    "smoke-run": (Command(SMOKE_RUN),),
}

# The background, the text, then black, red, green, yellow, blue, magenta, cyan, white, and the same brighter.
COLORS = {
    "light": (
        "#ffffff #1f2328 #24292f #cf222e #1a7f37 #9a6700 #0969da #8250df #1b7c83 #6e7781 "
        "#6e7781 #a40e26 #2da44e #bf8700 #218bff #a475f9 #3192aa #8c959f"
    ),
    "dark": (
        "#0d1117 #e6edf3 #484f58 #ff7b72 #3fb950 #d29922 #58a6ff #bc8cff #39c5cf #b1bac4 "
        "#8b949e #ffa198 #56d364 #e3b341 #79c0ff #d2a8ff #56d4dd #ffffff"
    ),
}
BORDERS = {"light": "#d0d7de", "dark": "#30363d"}

# Rich's own template loads a font from a server. This one takes a font of the reader's system.
TEMPLATE = """\
<svg xmlns="http://www.w3.org/2000/svg" role="img"
viewBox="0 0 {width} {height}" width="{width}" height="{height}">
<title>LABEL</title>
<style>
.{unique_id}-matrix {{
font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
font-size: {char_height}px;
}}
.frame > rect {{ stroke: BORDER }}
{styles}
</style>
<g class="frame">{chrome}</g>
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def pictures(*names: str) -> Iterator[tuple[str, str]]:
    """Yield (file name, SVG) for the named pictures, or for all."""
    printed: dict[str, str] = {}
    for name in names or PICTURES:
        blocks: list[Text] = []
        for command in PICTURES[name]:
            if command.line not in printed:
                printed[command.line] = run(command.line)
            blocks += [prompt(command.line), shorten(Text.from_ansi(printed[command.line]), command.keep)]
            blocks.append(Text())
        screen = Text("\n").join(blocks[:-1])
        label = "; ".join(command.line for command in PICTURES[name])
        for mode in COLORS:
            yield f"{name}-{mode}.svg", draw(screen, f"{name}-{mode}", mode, label)


def run(line: str) -> str:
    """Return what a command prints to a terminal in color, its errors too."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NNKIT_")}
    environment.pop("NO_COLOR", None)
    environment |= {"COLUMNS": str(COLUMNS), "PYTHONIOENCODING": "utf-8"}
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / EXAMPLE.parent, Path(folder, EXAMPLE.parent))
        done = subprocess.run(
            [sys.executable, "-m", "nnkit", "--color", "always", *shlex.split(line)[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            cwd=folder,
            env=environment | {"XDG_CONFIG_HOME": folder},
            check=False,
        )
    return done.stdout.rstrip()


def prompt(line: str) -> Text:
    """Return a command as it is typed: its program and verb in bold."""
    program, verb, *rest = line.split(" ", 2)
    return Text.assemble(("$ ", "blue"), (f"{program} {verb}", "bold"), " ", *rest)


def shorten(output: Text, keep: str) -> Text:
    """Return the lines of the output that `keep` matches; where it leaves some out, `…` is the last one."""
    lines = list(output.split("\n", allow_blank=True))
    kept = [line for line in lines if re.match(keep, line.plain)]
    if len(kept) < len(lines):
        kept.append(Text("…", "bright_black"))
    return Text("\n").join(kept)


def draw(screen: Text, identity: str, mode: str, label: str) -> str:
    """Return the screen as an SVG. `identity` sets its CSS apart from that of other pictures on a page."""
    console = Console(record=True, width=COLUMNS + 2, file=io.StringIO(), force_terminal=True)
    screen.no_wrap, screen.overflow = True, "ellipsis"
    console.print(Padding(screen, (0, 1, 1, 1)), highlight=False)
    background, foreground, *colors = (rgb(color) for color in COLORS[mode].split())
    theme = TerminalTheme(background, foreground, colors[:8], colors[8:])
    template = TEMPLATE.replace("LABEL", label.replace("&", "&amp;")).replace("BORDER", BORDERS[mode])
    svg = console.export_svg(title="", theme=theme, code_format=template, unique_id=identity)
    svg = re.sub(r' clip-path="[^"]*"', "", svg)  # no line is longer than the screen
    return re.sub(r"<text[^>]*>\s*</text>", "", svg)


def rgb(color: str) -> tuple[int, int, int]:
    """Return the red, green and blue of `#rrggbb`."""
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


def is_fresh(file: Path, svg: str) -> bool:
    """Return whether a picture shows what was drawn now, apart from measurements."""
    return file.is_file() and without_measurements(file.read_text("utf-8")) == without_measurements(svg)


def without_measurements(svg: str) -> str:
    """Return a picture without what differs from run to run or from machine to machine.

    These are lines with seconds or differences (`8.9e-08`), other decimals (`3.4`, ONNX Runtime's
    version), and the widths and positions that follow from their number of digits.
    """
    svg = re.sub(r"<text[^>]*>[^<]*(further|proof&#160;took|\de-\d)[^<]*</text>", "", svg)
    svg = re.sub(r' (x|textLength)="[^"]*"', "", svg)
    return re.sub(r">[^<]+<", lambda text: re.sub(r"\d+(\.\d+)+|(&#160;){2,}", "#", text[0]), svg)
