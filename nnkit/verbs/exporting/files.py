"""Files that appear whole or not at all.

They are written in a temporary folder beside their target, and put in place by one `rename` each, or by
one `link` where nothing may be replaced. So whatever ends the process, a path holds the old file or the
new one, at every instant.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nnkit.errors import NnkitError, UsageProblem


def check_folder(target: Path) -> None:
    """Raise UsageProblem when the folder of a file does not exist."""
    if not target.parent.is_dir():
        raise UsageProblem(f"folder {target.parent} does not exist", f"make it: mkdir -p {target.parent}")


@contextlib.contextmanager
def staged(target: Path, force: bool) -> Iterator[Path]:
    """Give a path to write to; when the block ends well, the file there is put at the target.

    The path has the target's own name, so that a file can name others that come with it: whatever else
    is written beside it is put beside the target. A symbolic link stays, and the file that it leads to
    is replaced. Whatever ends the block early leaves what was there before.

    force: whether files that exist are replaced. A folder never is.

    Raises UsageProblem when there is no place for the file, NnkitError when writing fails.
    """
    try:
        place = _place_of(target, force)
        with tempfile.TemporaryDirectory(prefix=".nnkit-", dir=place.parent) as folder:
            new, old = Path(folder, "new"), Path(folder, "old")
            new.mkdir()
            old.mkdir()
            yield new / target.name
            moves = _moves(new, target, place, force)
            _make_durable(moves)
            _replace(moves, old) if force else _add(moves)
            if force and target.name not in {file.name for file in moves}:
                place.unlink(missing_ok=True)  # an index has taken its place
    except OSError as error:
        raise NnkitError(
            f"can't write {target}: {error.strerror or error}", "what was there before is unchanged"
        ) from error


def _place_of(target: Path, force: bool) -> Path:
    """Return where the file will lie: the target, or what it links to."""
    check_folder(target)
    place = Path(os.path.realpath(target))
    check_folder(place)
    _check_free(target, place, force)
    return place


def _check_free(target: Path, place: Path, force: bool) -> None:
    if place.is_dir():
        raise UsageProblem(f"{target} is a folder", f"name a file in it: -o {target / 'NAME'}")
    if place.exists() and not place.is_file():
        raise UsageProblem(f"{target} is not a regular file", "name another: -o FILE")
    if place.exists() and not force:
        raise _exists(target)


def _exists(target: Path) -> UsageProblem:
    return UsageProblem(f"{target} already exists", "replace it with --force, or name another: -o FILE")


def _moves(new: Path, target: Path, place: Path, force: bool) -> dict[Path, Path]:
    """Return for each new file where it goes, in the order in which they are put there."""
    # The file that names the others comes last, so that it never names what doesn't exist.
    files = sorted(new.iterdir(), key=lambda file: (file.name == target.name, file.name))
    moves = {file: place if file.name == target.name else place.parent / file.name for file in files}
    for file, destination in moves.items():
        if file.name == target.name:
            continue
        if target.is_symlink() or destination.is_symlink():
            raise UsageProblem(
                f"{target} comes with {file.name}, and one of them is a symbolic link",
                "name the file itself: their folder must be the same",
            )
        _check_free(destination, destination, force)
    return moves


def _make_durable(moves: dict[Path, Path]) -> None:
    """Give each file the mode that the umask leaves, and see that it is on the disk before its name."""
    for file in moves:
        probe = file.with_name(".mode")
        probe.touch()
        file.chmod(probe.stat().st_mode)
        probe.unlink()
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _replace(moves: dict[Path, Path], old: Path) -> None:
    """Put each file at its destination, or where that fails none. What was there is replaced."""
    done: list[Path] = []
    existed = {destination for destination in moves.values() if destination.exists()}
    try:
        for file, destination in moves.items():
            _keep(destination, old / destination.name)
            file.replace(destination)
            done.append(destination)
    except BaseException:
        for destination in reversed(done):
            kept = old / destination.name
            if kept.exists():
                kept.replace(destination)
            elif destination not in existed:
                destination.unlink()
        raise


def _keep(destination: Path, kept: Path) -> None:
    """Give what is about to be replaced a second name, by which it can be put back."""
    # Where hard links don't exist, the first of two files can't be put back when the second fails.
    with contextlib.suppress(OSError):
        os.link(destination, kept)


def _add(moves: dict[Path, Path]) -> None:
    """Put each file at its destination, or where one exists by now none."""
    done: list[Path] = []
    try:
        for file, destination in moves.items():
            try:
                _link(file, destination)
            except FileExistsError:
                raise _exists(destination) from None
            done.append(destination)
    except BaseException:
        for destination in done:
            destination.unlink(missing_ok=True)
        raise


def _link(file: Path, destination: Path) -> None:
    """Put a file where none is. Raises FileExistsError where one is, however late it came."""
    try:
        os.link(file, destination)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: take the name first
        destination.touch(exist_ok=False)
        file.replace(destination)
