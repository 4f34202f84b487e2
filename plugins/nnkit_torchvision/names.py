"""The names of torchvision's architectures, read from its source. Imports nothing of torchvision."""

import re
from collections.abc import Iterator
from pathlib import Path

from nnkit import ZooName

REGISTERED = re.compile(
    r"""^@register_model\((?:name=)?(?:["']([^"']+)["'])?\)[ \t]*\n(?:^(?:@.*|\#.*|[ \t].*|\)[ \t]*)?\n)*?"""
    r"""^def[ \t]+(\w+)""",
    re.MULTILINE,
)
"""A function under `@register_model()`, by the name that the decorator gives it, or else by its own."""


def names(package: Path) -> Iterator[ZooName]:
    """Yield each registered architecture; its family is its module: `resnet`, `detection.faster_rcnn`."""
    folder = package / "models"
    for file in sorted(folder.rglob("[!_]*.py")):
        family = ".".join(file.relative_to(folder).with_suffix("").parts)
        for registered, function in REGISTERED.findall(file.read_text(encoding="utf-8")):
            yield ZooName(registered or function, family)
