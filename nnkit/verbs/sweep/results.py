"""The results of a sweep on disk: a line of JSON for each finished model; a rerun goes on from there.

A line says all that it depends on, so the files of several shards are joined by `cat`.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from nnkit.errors import NnkitError, UsageProblem
from nnkit.verbs.sweep.report import STATUSES, ModelResult
from nnkit.verbs.sweep.tasks import Task

SCHEMA = "nnkit.smoke-sweep-model/1"
BEGINNING = b'{"schema": "nnkit.smoke-sweep-model/'
LIMITS = ("time_limit", "memory_limit")


class Results:
    """The results that are there already, and where further ones go; without a file, nowhere."""

    def __init__(self, descriptor: int | None, lines: list[dict[str, Any]]) -> None:
        self._descriptor, self._lines = descriptor, lines

    def finished(self, tasks: Iterable[Task]) -> dict[str, ModelResult]:
        """Return the results of those of the tasks that are finished, by name.

        What a model has failed on holds whatever the limits; what a limit has ended, only under the same.
        """
        known = {_key(line["task"], line["status"]): line for line in self._lines}
        found = {}
        for task in tasks:
            for status in ("any", "timed out", "out of memory"):
                if line := known.get(_key(task.to_dict(), status)):
                    result = {name: value for name, value in line.items() if name not in ("schema", "task")}
                    found[task.name] = ModelResult(**result)
        return found

    def append(self, task: Task, result: ModelResult) -> None:
        """Add a result; when this returns, it is on the disk. Raises NnkitError where that can't be."""
        if self._descriptor is None:
            return
        line = {"schema": SCHEMA, "task": task.to_dict(), **result.to_dict()}
        try:
            # In one write, so that Ctrl-C comes before or after it.
            os.write(self._descriptor, json.dumps(line, ensure_ascii=False).encode() + b"\n")
            os.fsync(self._descriptor)
        except OSError as error:
            raise NnkitError(f"can't write the result of {task.name}: {error.strerror}") from error


def _key(task: dict[str, Any], status: str) -> str:
    """Return what must be the same for a result to hold."""
    limited = status in ("timed out", "out of memory")
    held = {name: value for name, value in task.items() if limited or name not in LIMITS}
    return json.dumps([held, status if limited else "any"], sort_keys=True)


@contextmanager
def results_in(path: Path | None) -> Iterator[Results]:
    """Give the results in a file, which is made where it isn't there.

    A line that a crash has cut short costs that one result. Raises UsageProblem for a file that holds
    anything else, that another run is writing, or that can't be written.
    """
    if path is None:
        yield Results(None, [])
        return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    except OSError as error:
        raise UsageProblem(f"can't write {path}: {error.strerror}", "name another: --results FILE") from error
    try:
        _lock(descriptor, path)
        yield Results(descriptor, _read(descriptor, path))
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageProblem(
            f"another run is writing {path}", "wait for it, or give this one a file of its own"
        ) from error


def _read(descriptor: int, path: Path) -> list[dict[str, Any]]:
    """Return the results in a file, and see that what is appended begins a line of its own."""
    content = path.read_bytes()
    lines = content.split(b"\n")
    results = [_results_of(line) for line in lines]
    for number, line in enumerate(lines, 1):
        if not results[number - 1] and not _is_torn(line, any(results)):
            raise _foreign(path, number)
    last = lines[-1]
    if results[-1]:
        os.write(descriptor, b"\n")
    elif last:
        os.ftruncate(descriptor, len(content) - len(last))
    return [result for found in results for result in found]


def _results_of(line: bytes) -> list[dict[str, Any]]:
    """Return the whole results in a line: one, or more where a line that was cut short runs into the next."""
    if _is_result(whole := _parse(line)):
        return [whole]
    parts = (_parse(BEGINNING + part) for part in line.split(BEGINNING)[1:])
    return [part for part in parts if _is_result(part)]


def _parse(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_result(content: Any) -> bool:
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        return False
    texts = [content.get(name) for name in ("name", "status", "message")]
    known = {"schema", "task", *(field.name for field in fields(ModelResult))}
    return (
        isinstance(content.get("task"), dict)
        and all(isinstance(text, str) for text in texts)
        and content["status"] in STATUSES
        and content.keys() <= known
    )


def _is_torn(line: bytes, among_results: bool) -> bool:
    """Whether a line is empty or the rest of a result. Without a beginning, it is one among results."""
    line = line.strip(b"\0 \r\t")  # a crash of the machine may leave zeros
    if line[: len(BEGINNING)] == BEGINNING[: len(line)]:
        content = _parse(line)
        return not isinstance(content, dict) or content.get("schema") == SCHEMA
    return among_results and _parse(line) is None


def _foreign(path: Path, number: int) -> UsageProblem:
    return UsageProblem(
        f"{path} holds something else than results of a sweep, at line {number}",
        "name another: --results FILE",
    )
