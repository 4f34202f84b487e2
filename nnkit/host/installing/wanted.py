"""Checks what the user asks to install or remove. Torch-free."""

import os
from collections.abc import Sequence
from pathlib import Path

from nnkit.errors import UsageProblem, did_you_mean
from nnkit.host.installing.distributions import (
    NAME,
    NNKIT,
    find_distribution,
    normalized,
    plugin_distributions,
)
from nnkit.host.plugin_manager import GROUP


def want(what: Sequence[str], editable: bool) -> list[str]:
    """Return what the user named, as a tool takes it: a folder or file here by its full path.

    Raises UsageProblem for a missing path, a folder that isn't a project, and nnkit itself.
    """
    return [_wanted(text, editable) for text in what]


def prefixed(what: Sequence[str]) -> str:
    """Return a hint if a name was typed without the prefix of plugins, or an empty string."""
    bare = [text for text in what if NAME.fullmatch(text) and not normalized(text).startswith(f"{NNKIT}-")]
    words = " ".join(f"{NNKIT}-{text}" for text in bare)
    return f"names are used as typed; did you mean {words}?" if bare else ""


def _wanted(text: str, editable: bool) -> str:
    path = Path(text)
    is_path = "://" not in text and (
        text.startswith(".") or text.endswith(".whl") or not {"/", os.sep}.isdisjoint(text)
    )
    if text.startswith("-"):
        raise UsageProblem(f"{text!r} is neither a name nor a path", "see: nnkit plugins install --help")
    if not is_path and not (editable and path.is_dir()):
        if editable:
            raise UsageProblem(
                f"folder {text} does not exist", "-e takes the folder of a plugin: -e ./nnkit-mine"
            )
        if normalized(_name_in(text)) == NNKIT:
            raise UsageProblem(
                "nnkit is already installed", "upgrade it with its own tool: pip install -U nnkit"
            )
        return text
    path = path.expanduser()
    if not path.exists():
        raise UsageProblem(f"{text} does not exist", "check the path")
    if path.is_dir() and not any((path / name).is_file() for name in ("pyproject.toml", "setup.py")):
        raise UsageProblem(f"{text} holds no pyproject.toml", "name the folder of the plugin's project")
    return str(path.resolve())


def _name_in(requirement: str) -> str:
    match = NAME.match(requirement)
    return match[0] if match else requirement


def removable(name: str) -> str:
    """Return the distribution to remove for `name`, of a distribution or of a plugin in it.

    Raises UsageProblem for nnkit itself, and for anything that isn't installed or isn't a plugin.
    """
    installed = plugin_distributions()
    wanted = normalized(name)
    if wanted == NNKIT:
        raise UsageProblem("nnkit doesn't remove itself", "with its own tool: pip uninstall nnkit")
    if wanted in installed:
        return installed[wanted].name
    offering = {
        distribution.name
        for distribution in installed.values()
        if name in {point.name for point in distribution.entry_points if point.group == GROUP}
    }
    if len(offering) == 1:
        return offering.pop()
    if offering:
        raise UsageProblem(
            f"plugin {name} is in more than one distribution", f"name one: {', '.join(sorted(offering))}"
        )
    if (distribution := find_distribution(name)) is not None:
        raise UsageProblem(f"{distribution.name} is not an nnkit plugin", "with its own tool: pip uninstall")
    hint = did_you_mean(wanted, installed) or f"installed: {', '.join(installed) or 'only those of nnkit'}"
    raise UsageProblem(f"no plugin {name} is installed", hint)


def requirements_in(file: Path) -> list[str]:
    """Return the requirements that a file written by `nnkit plugins freeze` asks for, without options."""
    try:
        lines = [line.strip() for line in file.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageProblem(
            f"can't read {file}: {getattr(error, 'strerror', error)}", "write it with: nnkit plugins freeze"
        ) from error
    return [line.removeprefix("-e ").strip() for line in lines if line and not line.startswith(("#", "--"))]
