"""The names of timm's architectures, read from its source. Imports nothing of timm."""

import re
from collections.abc import Iterator
from pathlib import Path

from nnkit import ZooName

REGISTERED = re.compile(
    r"^@register_model[ \t]*\n(?:^(?:@.*|\#.*|[ \t].*|\)[ \t]*)?\n)*?^def[ \t]+(\w+)", re.MULTILINE
)
"""A function under the decorator `@register_model`, with whatever else decorates it in between."""


def names(package: Path) -> Iterator[ZooName]:
    """Yield each registered architecture; its family is the file that it is defined in."""
    for file in sorted((package / "models").glob("[!_]*.py")):
        for name in REGISTERED.findall(file.read_text(encoding="utf-8")):
            yield ZooName(name, file.stem)
