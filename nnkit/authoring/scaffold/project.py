"""The files of a new plugin, written all or none. Torch-free."""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from string import Template

from nnkit.authoring.scaffold.names import Names
from nnkit.contract.api_version import PLUGIN_API
from nnkit.errors import NnkitError, UsageProblem

COMMON = {
    ".gitignore": "common/gitignore",
    "CHANGELOG.md": "common/CHANGELOG.md",
    "pyproject.toml": "common/pyproject.toml",
    "src/$package/__init__.py": "common/init.py",
    "src/$package/py.typed": "common/py.typed",
}
FRESH = {
    "README.md": "fresh/README.md",
    "src/$package/model.py": "fresh/model.py",
    "src/$package/plugin.py": "fresh/plugin.py",
    "tests/test_$module.py": "fresh/test.py",
}
"""Templates by the path of the file they become. They end in `.txt`, so that no tool takes them for code."""


def fresh_project(names: Names) -> dict[str, str]:
    """Return the files of a plugin with a small network to start from, by path."""
    return fill({**COMMON, **FRESH}, names, {"exclude": "", "extra": ""})


def fill(templates: Mapping[str, str], names: Names, values: Mapping[str, str]) -> dict[str, str]:
    """Return the files made from templates, by path, with the names and other values filled in."""
    module = names.architecture.replace("-", "_")
    substitutions = {**asdict(names), "api": PLUGIN_API, "module": module, **values}
    folder = files("nnkit.authoring.scaffold") / "templates"
    project = {}
    for path, name in templates.items():
        template = (folder / f"{name}.txt").read_text("utf-8")
        project[Template(path).substitute(substitutions)] = Template(template).substitute(substitutions)
    return project


def refuse_existing(folder: Path) -> None:
    """Raise UsageProblem where `folder` exists and is not an empty folder."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageProblem(f"{folder} already exists", "choose a different name, or move it away")


def write_project(folder: Path, project: Mapping[str, str]) -> None:
    """Write all files to a new folder, or none.

    Raises UsageProblem where it exists and isn't empty, NnkitError where it can't be written.
    """
    refuse_existing(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=".nnkit-", dir=folder.parent) as stage:
            staged = Path(stage, folder.name)
            for path, text in project.items():
                (staged / path).parent.mkdir(parents=True, exist_ok=True)
                (staged / path).write_text(text, "utf-8")
            staged.rename(folder)
    except OSError as error:
        raise NnkitError(f"can't write {folder}: {error.strerror or error}", "nothing was written") from error
