"""viewer.js and viewer.css as source: style, types, and that the packed files are made of them."""

import json
import shutil
import subprocess
from pathlib import Path

import npm
import pytest
from pack_viewer import ESBUILD, HERE, NAMES, pack, packed_name

pytestmark = pytest.mark.slow

TYPES = {
    "compilerOptions": {
        "allowJs": True,
        "checkJs": True,
        "strict": True,
        "noEmit": True,
        "target": "ES2022",
        "lib": ["ES2023", "DOM", "DOM.Iterable"],
        "types": [],
    },
    "files": ["viewer.js"],
}


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """Return a folder with the tools and the files to check."""
    folder = npm.install(tmp_path_factory.mktemp("lint"), "@biomejs/biome@2.6.8", "typescript@7.0.2", ESBUILD)
    for name in NAMES:
        shutil.copy(HERE / name, folder)
    shutil.copy(Path(__file__).with_name("biome.json"), folder)
    (folder / "tsconfig.json").write_text(json.dumps(TYPES), encoding="utf-8")
    return folder


def run(folder, tool, *args):
    """Run a tool that npm installed; returns all that it prints."""
    command = [str(folder / "node_modules" / ".bin" / tool), *args]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)
    return done.returncode, done.stdout + done.stderr


def test_biome_has_nothing_to_say_of_style_and_faults(tools):
    code, said = run(tools, "biome", "ci", "--error-on-warnings", *NAMES)
    assert code == 0, said


def test_types_hold(tools):
    code, said = run(tools, "tsc", "-p", ".")
    assert code == 0, said


def test_a_wrong_type_is_found(tools):
    """The check of types reads the comments."""
    source = (tools / "viewer.js").read_text(encoding="utf-8")
    try:
        (tools / "viewer.js").write_text(f"{source}\nsubtitle(1)\n", encoding="utf-8")
        assert run(tools, "tsc", "-p", ".")[0] != 0
    finally:
        (tools / "viewer.js").write_text(source, encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_page_has_what_is_packed_today(tools, name):
    """If not: python tests/render/graph/pack_viewer.py."""
    packed = pack(name, (str(tools / "node_modules" / ".bin" / "esbuild"),))
    assert (HERE / packed_name(name)).read_text(encoding="utf-8") == packed
