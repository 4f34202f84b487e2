"""Files that appear whole or not at all."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnkit.errors import NnkitError, UsageProblem


def check_folder(target: Path) -> None:
    """Raise UsageProblem when the folder of a file isn't there."""
    if not target.parent.is_dir():
        raise UsageProblem(f"there is no folder {target.parent}", f"make it: mkdir -p {target.parent}")


@contextmanager
def staged(target: Path, force: bool) -> Iterator[Path]:
    """Give a path to write to; when the block ends well, what stands there takes the target's place.

    The path has the target's own name, in a temporary folder beside it, so that a file can name
    another that comes with it. Whatever ends the block early leaves what was there before.

    Raises UsageProblem when the folder isn't there or the file is, NnkitError when writing fails.
    """
    check_folder(target)
    if target.exists() and not force:
        raise UsageProblem(f"{target} is there already", "replace it with --force, or name another: -o FILE")
    try:
        with tempfile.TemporaryDirectory(prefix=".nnkit-", dir=target.parent) as folder:
            new, old = Path(folder, "new"), Path(folder, "old")
            new.mkdir()
            old.mkdir()
            yield new / target.name
            _take_place(new, old, target, force)
    except OSError as error:
        raise NnkitError(
            f"can't write {target}: {error.strerror or error}", "what was there before is unchanged"
        ) from error


def _take_place(new: Path, old: Path, target: Path, force: bool) -> None:
    """Move the new files to where they belong and what was there out of the way, or do nothing at all."""
    # The file that names the others comes last, so that it never names what isn't there.
    names = sorted((file.name for file in new.iterdir()), key=lambda name: (name == target.name, name))
    for name in names:
        if name != target.name and (target.parent / name).exists() and not force:
            raise UsageProblem(f"{target.parent / name} is there already", "replace it with --force")
    try:
        for name in dict.fromkeys([*names, target.name]):
            if (target.parent / name).exists():
                (target.parent / name).replace(old / name)
            if name in names:
                (new / name).replace(target.parent / name)
    except BaseException:
        for file in old.iterdir():
            file.replace(target.parent / file.name)
        raise
