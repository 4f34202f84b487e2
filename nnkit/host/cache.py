"""The folder for what can be made again, such as the names of a zoo. Torch-free."""

import os
import sys
from contextlib import suppress
from pathlib import Path


def cache_folder(setting: str) -> Path | None:
    """Return the folder that the setting `cache` means, or None for `off`, and where there is no home."""
    if setting == "off":
        return None
    if setting != "auto":
        return Path(os.path.expanduser(setting))  # noqa: PTH111 - Path.expanduser raises without a home
    if sys.platform == "win32":
        parent = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~")  # noqa: PTH111
    else:
        usual = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
        parent = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser(usual)  # noqa: PTH111
    return Path(parent, "nnkit") if os.path.isabs(parent) else None  # noqa: PTH117 - there may be no home


def write_whole(path: Path, text: str) -> bool:
    """Write a file so that others see it as it was or as it will be. Return whether that succeeded.

    A cache is a help, never a need: a folder that can't be written to is left alone.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8", newline="\n")
        draft.replace(path)
    except OSError:
        _remove(draft)
        return False
    return True


def keep_newest(folder: Path, pattern: str, count: int) -> None:
    """Remove the files of a pattern but the newest ones, as far as they can be removed."""
    dated = []
    for path in folder.glob(pattern):
        try:
            dated.append((path.stat().st_mtime_ns, path))
        except OSError:  # another process removed it
            continue
    for _, path in sorted(dated, reverse=True)[count:]:
        _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
