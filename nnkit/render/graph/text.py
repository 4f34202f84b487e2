"""How wide a text is in Helvetica, and in Arial and Liberation Sans, which have the same widths."""

_WIDTHS = {
    191: "'",
    222: "ijl",
    260: "|",
    278: " !,./:;I[]\\ft·",
    333: "()-r`{}",
    389: "*",
    469: "^",
    500: "Jckvxyzs",
    584: "+<=>~×−",
    611: "FTZ",
    667: "ABEKPSVXY&",
    722: "CDHNRUw",
    778: "GOQ",
    833: "Mm",
    889: "%",
    944: "W",
    1000: "…→—",
    1015: "@",
}
_WIDTH = {letter: width for width, letters in _WIDTHS.items() for letter in letters}
_OTHER, _WIDE = 556, 1000  # digits and most letters; Chinese, Japanese, Korean and whatever else may be wide


LONGEST = 48  # letters of a title


def shortened(text: str) -> str:
    """Return a text with its middle left out if it is very long."""
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]}…{text[1 - half :]}"


def width_of(text: str, size: float, bold: bool = False) -> float:
    """Return about how wide a text is at a size, rather too wide than too narrow."""
    units = sum(_WIDTH.get(letter, _OTHER if letter < "\u1100" else _WIDE) for letter in text)
    return units / 1000 * size * (1.08 if bold else 1.0)
