"""Text on streams that can't take every letter: signs become what reads the same, and nothing raises."""

import codecs
import io
import unicodedata
from typing import TextIO

HANDLER = "nnkit-readable"
ASCII = "nnkit-ascii"
SIGNS = {
    "×": "x", "→": "->", "·": "-", "…": "...", "⋮": ":", "≤": "<=", "≥": ">=", "−": "-", "±": "+-", "⊙": "*",
    "⁄": "/", "\u0302": "^", "‖": "||", "⌈": "ceil(", "⌉": ")", "↕": "|", "─": "-",
}  # fmt: skip


def make_readable(*streams: TextIO) -> None:
    """Let each stream whose encoding lacks a letter write what reads like it, instead of raising."""
    for stream in streams:
        if not isinstance(stream, io.TextIOWrapper) or takes_everything(stream):
            continue
        codecs.register_error(HANDLER, _readable)
        encoding = codecs.lookup(stream.encoding).name
        if encoding == "ascii":
            codecs.register(_ascii)
            encoding = ASCII
        stream.reconfigure(encoding=encoding, errors=HANDLER)


def takes_everything(stream: TextIO) -> bool:
    """Whether a stream can take any letter; one without an encoding keeps text as it is."""
    encoding = getattr(stream, "encoding", None)
    return encoding is None or codecs.lookup(encoding).name.startswith("utf")


def _ascii(name: str) -> codecs.CodecInfo | None:
    """Return ASCII under another name: click takes a stream that says `ascii` for one set up by mistake,
    and writes UTF-8 to it."""
    if name.replace("_", "-") != ASCII:
        return None
    plain = codecs.lookup("ascii")
    return codecs.CodecInfo(
        plain.encode, plain.decode, incrementalencoder=plain.incrementalencoder,
        incrementaldecoder=plain.incrementaldecoder, name=ASCII,
    )  # fmt: skip


def _readable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_sign, error.object[error.start : error.end])), error.end


def _sign(letter: str) -> str:
    """Return a letter in ASCII: `×` as `x`, `Â` as `A^`, `½` as `1/2`, `²` as `^2`, `α` as `alpha`."""
    if letter in SIGNS:
        return SIGNS[letter]
    plain = "".join(SIGNS.get(part, part) for part in unicodedata.normalize("NFKD", letter))
    kept = "".join(part for part in plain if part.isascii())
    if kept and unicodedata.decomposition(letter).startswith("<super>"):
        return f"^{kept}"
    name = unicodedata.name(letter, "")
    return kept or (name.split()[-1].lower() if name.startswith("GREEK") else "?")
