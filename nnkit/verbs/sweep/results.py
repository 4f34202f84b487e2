"""The results of a sweep on disk: a line of JSON for each finished model. A rerun continues from them.

Each line records everything its result depends on, so `cat` joins the files of several shards.
"""

import fcntl
import json
import os
import stat
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
LIMITED = ("timed out", "out of memory")  # the statuses of a run that a limit ended
ANY_STATUS = "any"


class Results:
    """The results that a file holds already, and where new ones go; without a file, they are not kept."""

    def __init__(self, descriptor: int | None, lines: list[dict[str, Any]]) -> None:
        self._descriptor, self._lines = descriptor, lines

    def finished(self, tasks: Iterable[Task]) -> dict[str, ModelResult]:
        """Return the results of the tasks that are already finished, by name.

        A result is valid under any limits, unless a limit ended the run: then only under the same limits.
        """
        lines = {_make_key(line["task"], line["status"]): line for line in self._lines}
        finished = {}
        for task in tasks:
            for status in (ANY_STATUS, *LIMITED):
                if line := lines.get(_make_key(task.to_dict(), status)):
                    values = {name: value for name, value in line.items() if name not in ("schema", "task")}
                    finished[task.name] = ModelResult(**values)
        return finished

    def append(self, task: Task, result: ModelResult) -> None:
        """Append a result and flush it to disk. Raises NnkitError where it can't be written."""
        if self._descriptor is None:
            return
        line = {"schema": SCHEMA, "task": task.to_dict(), **result.to_dict()}
        try:
            # In one write, so that Ctrl-C can't cut the line in two.
            os.write(self._descriptor, json.dumps(line, ensure_ascii=False).encode() + b"\n")
            os.fsync(self._descriptor)
        except OSError as error:
            raise NnkitError(f"can't write the result of {task.name}: {error.strerror}") from error


def _make_key(task: dict[str, Any], status: str) -> str:
    """Return what must be the same for a result to be valid for a task."""
    if status in LIMITED:
        return json.dumps([task, status], sort_keys=True)
    without_limits = {name: value for name, value in task.items() if name not in LIMITS}
    return json.dumps([without_limits, ANY_STATUS], sort_keys=True)


@contextmanager
def results_in(path: Path | None) -> Iterator[Results]:
    """Open the results in a file, and create the file where it doesn't exist.

    A line that a crash cut short loses only that result. Raises UsageProblem for a file that contains
    anything else, that another run is writing, or that can't be written.
    """
    if path is None:
        yield Results(None, [])
        return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    except OSError as error:
        raise UsageProblem(
            f"can't write {path}: {error.strerror}", "choose a different file: --results FILE"
        ) from error
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
            f"another run is writing {path}", "wait for it to finish, or choose a different --results FILE"
        ) from error


def _read(descriptor: int, path: Path) -> list[dict[str, Any]]:
    """Return the results in a file, and make sure that the next one starts on a new line."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return []  # a device or a pipe holds no results, and might be read without end
    content = path.read_bytes()
    lines = content.split(b"\n")
    results_by_line = [_parse_results(line) for line in lines]
    is_results_file = any(results_by_line)
    for number, (line, results) in enumerate(zip(lines, results_by_line, strict=True), 1):
        if not results and not _is_torn(line, is_results_file):
            raise UsageProblem(
                f"line {number} of {path} is not a result of a sweep",
                "choose a different file: --results FILE",
            )
    last_line = lines[-1]
    if results_by_line[-1]:
        os.write(descriptor, b"\n")
    elif last_line:
        os.ftruncate(descriptor, len(content) - len(last_line))
    return [result for results in results_by_line for result in results]


def _parse_results(line: bytes) -> list[dict[str, Any]]:
    """Return the complete results in a line: one, or more where a torn line runs into the next one."""
    content = _parse(line)
    if _is_result(content):
        return [content]
    parts = [_parse(BEGINNING + part) for part in line.split(BEGINNING)[1:]]
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
    """Whether a line is empty or part of a result; without its beginning, only in a file of results."""
    line = line.strip(b"\0 \r\t")  # a crash of the machine may leave zeros
    if line[: len(BEGINNING)] == BEGINNING[: len(line)]:
        content = _parse(line)
        return not isinstance(content, dict) or content.get("schema") == SCHEMA
    return among_results and _parse(line) is None
