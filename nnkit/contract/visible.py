"""Text from files, plugins and models, made safe to show: what would steer a terminal is escaped. Torch-free.

A control character can move the cursor or set the clipboard, a newline can forge a line of nnkit's own,
and a bidirectional mark can reorder what is read. Each is shown as its escape: `\\x1b`, `\\n`, `\\u202e`.
"""

import reprlib

HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of control and format characters, surrogates, line and paragraph separators."""

LONGEST = 2000  # characters of a message
LONGEST_VALUE = 200  # characters of a value in it


def visible(text: str) -> str:
    """Return the text as one line in which every character can be seen."""
    if text.isprintable():
        return text
    import unicodedata  # which hardly any text needs

    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in HIDDEN else letter
        for letter in text
    )


def visible_lines(text: str) -> str:
    """Return the text with its newlines kept and every other character visible."""
    return "\n".join(map(visible, text.split("\n")))


def message_line(text: str) -> str:
    """Return a message as one visible line, its middle left out where nobody would read all of it."""
    if len(text) > LONGEST:
        half = LONGEST // 2
        text = f"{text[:half]} … {text[-half:]}"
    return visible(text)


def brief(value: object) -> str:
    """Return the repr of a value from outside, cut where it is long or deeply nested."""
    shortener = reprlib.Repr()
    shortener.maxlevel = 3
    shortener.maxstring = shortener.maxother = shortener.maxlong = 80
    text = shortener.repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
