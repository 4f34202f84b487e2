"""Write files so that they appear complete or not at all.

They are written to a temporary folder next to their target, and put in place by one `rename` each, or by
one `link` where nothing may be replaced. So whatever ends the process, a path holds either the old file or
the new one at every moment.
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
        raise UsageProblem(f"folder {target.parent} does not exist", f"create it: mkdir -p {target.parent}")


@contextlib.contextmanager
def staged(target: Path, force: bool) -> Iterator[Path]:
    """Yield a path to write to; when the block succeeds, the file is moved to the target.

    The path has the target's own name, so that a file can name others that belong to it. Files that are
    written next to it are moved next to the target. If the target is a symbolic link, the link stays and the
    file it points to is replaced. If the block fails, what was there before is unchanged.

    force: whether existing files are replaced. A folder never is.

    Raises UsageProblem when the file can't be put there, NnkitError when writing fails.
    """
    try:
        destination = _find_destination(target, force)
        with tempfile.TemporaryDirectory(prefix=".nnkit-", dir=destination.parent) as folder:
            new, old = Path(folder, "new"), Path(folder, "old")
            new.mkdir()
            old.mkdir()
            yield new / target.name
            moves = _plan_moves(new, target, destination, force)
            _write_to_disk(moves)
            _replace_files(moves, old) if force else _add_files(moves)
            if force and target.name not in {file.name for file in moves}:
                destination.unlink(missing_ok=True)  # an index has taken its place
    except OSError as error:
        raise NnkitError(
            f"can't write {target}: {error.strerror or error}", "what was there before is unchanged"
        ) from error


def _find_destination(target: Path, force: bool) -> Path:
    """Return where the file will be: at the target, or at what it links to."""
    check_folder(target)
    destination = Path(os.path.realpath(target))
    check_folder(destination)
    _check_free(target, destination, force)
    return destination


def _check_free(target: Path, destination: Path, force: bool) -> None:
    if destination.is_dir():
        raise UsageProblem(f"{target} is a folder", f"name a file in it: -o {target / 'NAME'}")
    if destination.exists() and not destination.is_file():
        raise UsageProblem(f"{target} is not a regular file", "choose a different name: -o FILE")
    if destination.exists() and not force:
        raise _already_exists(target)


def _already_exists(target: Path) -> UsageProblem:
    return UsageProblem(
        f"{target} already exists", "replace it with --force, or choose a different name: -o FILE"
    )


def _plan_moves(new: Path, target: Path, destination: Path, force: bool) -> dict[Path, Path]:
    """Return the destination of each new file, in the order in which they are moved."""
    # The main file names the others. It comes last, so that it never names a file that doesn't exist.
    files = sorted(new.iterdir(), key=lambda file: (file.name == target.name, file.name))
    moves = {}
    for file in files:
        moves[file] = destination if file.name == target.name else destination.parent / file.name
    for file, destination_of_file in moves.items():
        if file.name == target.name:
            continue
        if target.is_symlink() or destination_of_file.is_symlink():
            raise UsageProblem(
                f"{target} comes with {file.name}, and one of them is a symbolic link",
                "name the file itself: both must be in the same folder",
            )
        _check_free(destination_of_file, destination_of_file, force)
    return moves


def _write_to_disk(moves: dict[Path, Path]) -> None:
    """Give each file the mode that the umask allows, and write it to disk before it gets its name."""
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


def _replace_files(moves: dict[Path, Path], old: Path) -> None:
    """Move each file to its destination, replacing what was there; if one fails, move none."""
    done: list[Path] = []
    existed = {destination for destination in moves.values() if destination.exists()}
    try:
        for file, destination in moves.items():
            _keep_old(destination, old / destination.name)
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


def _keep_old(destination: Path, kept: Path) -> None:
    """Give a file that is about to be replaced a second name, so that it can be put back."""
    # Without hard links, the first of two files can't be put back when the second fails.
    with contextlib.suppress(OSError):
        os.link(destination, kept)


def _add_files(moves: dict[Path, Path]) -> None:
    """Move each file to its destination; if one already exists, move none."""
    done: list[Path] = []
    try:
        for file, destination in moves.items():
            try:
                _link_file(file, destination)
            except FileExistsError:
                raise _already_exists(destination) from None
            done.append(destination)
    except BaseException:
        for destination in done:
            destination.unlink(missing_ok=True)
        raise


def _link_file(file: Path, destination: Path) -> None:
    """Put a file where none exists. Raises FileExistsError if one does, even if it was created just now."""
    try:
        os.link(file, destination)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: take the name first
        destination.touch(exist_ok=False)
        file.replace(destination)
