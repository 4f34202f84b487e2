"""Makes viewer.min.js and viewer.min.css of the page of viewer.js and viewer.css: `python tests/render/graph/pack_viewer.py`.

Needs npm. The first line of each has the hash of its source, by which a test sees that it is of date.
"""

import hashlib
import subprocess
from pathlib import Path

HERE = Path(__file__).parents[3] / "nnkit" / "render" / "graph"
ESBUILD = "esbuild@0.28.2"
NAMES = ("viewer.js", "viewer.css")
OURS = (  # properties that only viewer.js has, neither the browser nor the data: they get short names
    "isOpen|isStale|isGroup|isUnfolded|isRead|isDown|lanes|ranks|wires|targets|bundle|exits|spine|inside|trail|"
    "lines|drawn|label|depth|share|shareOf|difference|children|nodes|stamp|items|changes|source|tensor|parent|rail"
)
FLAGS = {"viewer.js": ("--format=esm", f"--mangle-props=^({OURS})$"), "viewer.css": ()}


def packed_name(name: str) -> str:
    """Return the name of the file that the page has."""
    return name.replace(".", ".min.")


def mark(name: str) -> str:
    """Return the first line of a packed file."""
    digest = hashlib.sha256((HERE / name).read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    return f"/* made of {name} {digest[:16]} */"


def pack(name: str, command: tuple[str, ...] = ("npx", "--yes", ESBUILD)) -> str:
    """Return a file of the viewer without what only people need."""
    options = ("--minify", "--charset=utf8", *FLAGS[name])
    made = subprocess.run(
        [*command, *options, str(HERE / name)], check=True, capture_output=True, text=True, encoding="utf-8"
    )
    return f"{mark(name)}\n{made.stdout.strip()}\n"


if __name__ == "__main__":
    for name in NAMES:
        (HERE / packed_name(name)).write_text(pack(name), encoding="utf-8")
