"""What sizes of images a timm model takes, and how that is written in a catalog."""

import math
import re
from dataclasses import dataclass
from typing import Any

from nnkit import Dim
from nnkit_timm.construction import Construction

GUESSED_STEP = 32
"""The step, and the smallest size, where no catalog knows them: what most networks shrink an image by."""

WRITTEN = re.compile(r"(?P<step>\d+)(?: from (?P<least>\d+))?(?P<square>, square)?")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes that an image may have: a single one, or multiples of a step.

    Attributes:
        step: The step. 0: the size is fixed when the model is built.
        least: The smallest size.
        square: Whether height and width must be equal.
    """

    step: int
    least: int = 1
    square: bool = False

    @property
    def fixed(self) -> bool:
        """Whether the size is fixed when the model is built."""
        return self.step == 0

    def __str__(self) -> str:
        if self.fixed:
            return "fixed"
        least = f" from {self.least}" if self.least > self.step else ""
        return f"{self.step}{least}{', square' if self.square else ''}"

    @classmethod
    def parse(cls, text: str) -> "Sizes | None":
        """Return sizes from what a catalog says: `fixed`, `32`, `32 from 64`; None for anything else."""
        if text == "fixed":
            return cls(step=0)
        match = WRITTEN.fullmatch(text)
        if match is None:
            return None
        step = int(match["step"])
        return cls(step=step, least=int(match["least"] or step), square=bool(match["square"]))

    @classmethod
    def guess(cls, found: Construction, image: tuple[int, int], fixed: bool) -> "Sizes":
        """Return what is safe to assume of a model that no catalog knows."""
        if fixed:
            return cls(step=0)
        patch = _argument(found, "patch_size")
        # Patches of 14 pixels; those of 16 fit into the usual step, and those of 4 are often merged later.
        uncommon = isinstance(patch, int) and patch > 1 and GUESSED_STEP % patch != 0
        step = math.gcd(patch if uncommon else GUESSED_STEP, *image)
        return cls(step=step, least=-(-GUESSED_STEP // step) * step)

    def dims(self, image: tuple[int, int]) -> dict[str, Dim]:
        """Return the dims of an image whose default size is given."""
        if self.fixed:
            return {}
        height, width = (
            Dim(default=size, min=self.least, multiple_of=self.step, description=what)
            for size, what in zip(image, ("rows of the image", "columns of the image"), strict=True)
        )
        return {"height": height} if self.square else {"height": height, "width": width}


def is_fixed(found: Construction, declared: bool) -> bool:
    """Whether the model takes images of only one size. declared: what the configuration of weights says."""
    return (
        declared
        and not _argument(found, "dynamic_img_size")
        and _argument(found, "strict_img_size") is not False
    )


def _argument(found: Construction, name: str) -> Any:
    parameter = found.parameters.get(name)
    return found.arguments.get(name, parameter.default if parameter else None)
