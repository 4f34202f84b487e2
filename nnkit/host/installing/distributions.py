"""The installed distributions that add to nnkit, and the requirement that installs each again. Torch-free.

Only their metadata is read, so a distribution with a broken plugin is found too.
"""

import json
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from nnkit.host.plugin_manager import COMMANDS_GROUP, GROUP

NNKIT = "nnkit"
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def normalized(name: str) -> str:
    """Return the name of a distribution as indexes compare it: `NNkit_Mine` is `nnkit-mine`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def adds_to_nnkit(distribution: metadata.Distribution) -> bool:
    """Whether a distribution offers plugins or commands."""
    return any(point.group in (GROUP, COMMANDS_GROUP) for point in distribution.entry_points)


def plugin_distributions() -> dict[str, metadata.Distribution]:
    """Return the distributions that add to nnkit by their normalized names, without nnkit itself."""
    distributions = {
        normalized(distribution.name): distribution
        for distribution in _installed()
        if normalized(distribution.name) != NNKIT and adds_to_nnkit(distribution)
    }
    return dict(sorted(distributions.items()))


def find_distribution(requirement: str) -> metadata.Distribution | None:
    """Return what is installed for a requirement: `mine`, `mine[x]>=1`, `mine @ URL`, a URL or a path."""
    name = NAME.match(requirement)
    location = requirement.rpartition(" @ ")[2].strip()
    for distribution in _installed():
        if _came_from(distribution, location):
            return distribution
    is_name = name and (" @ " in requirement or not re.search(r"[/\\:]", requirement))
    return _by_name(name[0]) if name and is_name else None


def requirement_of(distribution: metadata.Distribution) -> str:
    """Return the line of a requirements file that installs the same again, from the same origin."""
    name, origin = distribution.name, _origin(distribution)
    if not origin:
        return f"{name}=={distribution.version}"
    url, fragments = origin["url"], []
    if origin.get("dir_info", {}).get("editable"):
        return f"-e {url}"
    if version_control := origin.get("vcs_info"):
        url = f"{version_control['vcs']}+{url}@{version_control['commit_id']}"
    if digest := origin.get("archive_info", {}).get("hash"):
        fragments.append(digest)
    if folder := origin.get("subdirectory"):
        fragments.append(f"subdirectory={folder}")
    return f"{name} @ {url}" + (f"#{'&'.join(fragments)}" if fragments else "")


def _installed() -> Iterable[metadata.Distribution]:
    return filter(_is_readable, metadata.distributions())


def _is_readable(distribution: metadata.Distribution) -> bool:
    """Whether the metadata of a distribution is complete; one that is half removed may have no name."""
    try:
        return bool(
            distribution.metadata["Name"]
            and distribution.entry_points is not None
            and _origin(distribution) is not None
        )
    except Exception:
        return False


def _by_name(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _origin(distribution: metadata.Distribution) -> dict[str, Any]:
    """Return where a distribution came from, as its installer recorded it; empty for an index."""
    origin: dict[str, Any] = json.loads(distribution.read_text("direct_url.json") or "{}")
    return origin


def _came_from(distribution: metadata.Distribution, location: str) -> bool:
    url = _origin(distribution).get("url", "")
    # A requirement may surround the URL: git+URL@commit#subdirectory=…
    around = rf"{re.escape(url)}(?=$|[@#])"
    return bool(url) and (url == _file_url(location) or re.search(around, location) is not None)


def _file_url(location: str) -> str:
    return "" if "://" in location else Path(location).resolve().as_uri()
