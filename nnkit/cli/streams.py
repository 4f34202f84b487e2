"""The process's streams: stdout is kept for results, and letters that an encoding lacks are replaced."""

import codecs
import contextlib
import io
import os
import sys
import unicodedata
from typing import TextIO

HANDLER = "nnkit-readable"
ASCII = "nnkit-ascii"
SIGNS = {
    "×": "x", "→": "->", "·": "-", "…": "...", "⋮": ":", "≤": "<=", "≥": ">=", "−": "-", "±": "+-", "⊙": "*",
    "√": "sqrt ", "≈": "~=", "←": "<-", "λ": "lambda", "Λ": "lambda",
    "⁄": "/", "\u0302": "^", "‖": "||", "⌈": "ceil(", "⌉": ")", "↕": "|", "─": "-",
}  # fmt: skip


def claim_stdout() -> TextIO | None:
    """Keep stdout for results and return it; anything else that writes to descriptor 1 reaches stderr.

    So do C libraries, child processes, and what a plugin prints from atexit. Returns None, and does
    nothing, where Python's stdout is not that descriptor: in a notebook, under a test's capture.
    """
    stdout = sys.__stdout__
    if stdout is None or sys.stdout is not stdout:
        return None
    stdout.flush()
    buffering = 1 if stdout.isatty() else -1
    results = os.fdopen(os.dup(1), "w", buffering, encoding=stdout.encoding, errors=stdout.errors)
    os.dup2(2, 1)
    sys.stdout = results
    return results


def release_stdout(results: TextIO | None) -> None:
    """Close the stream of the results; what is printed from now on reaches stderr."""
    if results is not None:
        sys.stdout = sys.stderr
        with contextlib.suppress(OSError):  # it was closed or full, which has been reported
            results.close()


def open_missing() -> None:
    """Open the standard descriptors that are closed, before another file gets their number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - as long as the process


def silence(stream: TextIO) -> None:
    """Discard what is still to be written to a closed stream, also at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def make_readable(*streams: TextIO) -> None:
    """Let each stream write a look-alike for a letter that its encoding lacks, instead of raising."""
    for stream in streams:
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if takes_everything(stream):
            stream.reconfigure(errors="backslashreplace")  # half a surrogate pair, as in names of files
            continue
        codecs.register_error(HANDLER, _readable)
        encoding = codecs.lookup(stream.encoding).name
        if encoding == "ascii":
            codecs.register(_ascii)
            encoding = ASCII
        stream.reconfigure(encoding=encoding, errors=HANDLER)


def takes_everything(stream: TextIO) -> bool:
    """Whether a stream can encode every letter; one without an encoding keeps text as it is."""
    encoding = getattr(stream, "encoding", None)
    return encoding is None or codecs.lookup(encoding).name.startswith("utf")


def can_encode(stream: TextIO, letters: str) -> bool:
    """Whether a stream can write all of these letters as they are."""
    try:
        letters.encode(getattr(stream, "encoding", None) or "utf-8", "strict")
    except UnicodeEncodeError:
        return False
    return True


def _ascii(name: str) -> codecs.CodecInfo | None:
    """Return ASCII under a different name: click takes `ascii` for a mistake and writes UTF-8."""
    if name.replace("_", "-") != ASCII:
        return None
    plain = codecs.lookup("ascii")
    return codecs.CodecInfo(
        plain.encode,
        plain.decode,
        incrementalencoder=plain.incrementalencoder,
        incrementaldecoder=plain.incrementaldecoder,
        name=ASCII,
    )


def _readable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_sign, error.object[error.start : error.end])), error.end


def _sign(letter: str) -> str:
    """Return a letter in ASCII: `×` as `x`, `Â` as `A^`, `½` as `1/2`, `²` as `^2`, `α` as `alpha`."""
    if letter in SIGNS:
        return SIGNS[letter]
    kept = "".join(map(_part, unicodedata.normalize("NFKD", letter)))
    if kept and unicodedata.decomposition(letter).startswith("<super>"):
        return f"^{kept}"
    return kept or "?"


def _part(letter: str) -> str:
    """Return a letter without accents in ASCII, and nothing for what has no reading."""
    if letter in SIGNS or letter.isascii():
        return SIGNS.get(letter, letter)
    name = unicodedata.name(letter, "")
    return name.split()[-1].lower() if name.startswith("GREEK") else ""
