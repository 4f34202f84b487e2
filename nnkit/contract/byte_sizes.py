"""Sizes of memory, and counts, as a user types them. Torch-free."""

import re

from nnkit.errors import UsageProblem

SIZE = re.compile(r"\s*(?P<number>\d+(\.\d+)?)\s*(?P<unit>[kmgt]?)(?P<binary>i?)b?\s*", re.IGNORECASE)
PREFIXES = ("", "k", "m", "g", "t")
COUNT = re.compile(r"\s*(?P<number>\d+(\.\d+)?)\s*(?P<unit>[kmgbt]?)\s*", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return the bytes of `16GB` (16·10⁹), `16GiB` (16·2³⁰), or a plain number.

    Raises UsageProblem for any other text.
    """
    match = SIZE.fullmatch(text)
    if match is None:
        raise UsageProblem(f"can't read the size {text!r}", "write it like 16GB or 512MiB")
    base = 1024 if match["binary"] else 1000
    return int(float(match["number"]) * base ** PREFIXES.index(match["unit"].lower()))


def parse_count(text: str) -> int:
    """Return the number that `10M`, `1.5G`, `7B` (which is 7G) or `500000` means.

    Raises UsageProblem for any other text.
    """
    match = COUNT.fullmatch(text)
    if match is None:
        raise UsageProblem(f"can't read the number {text!r}", "write it like 10M, 1.5G or 500000")
    unit = match["unit"].lower().replace("b", "g")
    factor: int = 1000 ** PREFIXES.index(unit)
    return round(float(match["number"]) * factor)
