"""Finish the pages of the site. MkDocs calls `on_page_content` with the HTML of each page."""

import re

CELL = re.compile(r"<td.*?</td>", re.DOTALL)
OUTPUT = re.compile(r'(?<=<span class="go">)[^<]+')
COLORS = (
    ("passed", r"^passed\b"),
    ("failed", r"^(failed|Error:)"),
    ("warned", r"^(warned|Warning:)"),
    ("skipped", r"^(skipped\b|hint:|…$)"),
    ("heading", r"^(Usage|Examples|Commands|Options|[A-Z][a-z]+ options):"),
    ("heading", r"^(step +(type|shape|parameters|input)\b|output +spread\b).*"),
    ("option", r"(?<![\w-])--?[a-z][\w-]*(?= |,|$)"),
)


def on_page_content(html: str, **_: object) -> str:
    """Return a page with its lines of output colored, as a terminal does.

    The backslash in the code of a table's cell goes: GitHub needs it before `|`, and MkDocs would show it.
    """
    html = CELL.sub(lambda cell: cell[0].replace(r"\|", "|"), html)
    return OUTPUT.sub(lambda line: color(line[0]), html)


def color(line: str) -> str:
    """Return a line of output with what stands out in it marked by the classes of nnkit.css."""
    for name, pattern in COLORS:
        line = re.sub(pattern, rf'<span class="nnkit-{name}">\g<0></span>', line, flags=re.MULTILINE)
    return line
