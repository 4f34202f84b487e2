"""The colors of boxes in Mermaid and DOT: pale fills with dark text, which suit any background."""

from collections.abc import Mapping

FAMILIES: Mapping[str, tuple[str, str]] = {
    "conv": ("#dbe7ff", "#4a74c9"),
    "linear": ("#dbe7ff", "#4a74c9"),
    "norm": ("#e4f3e1", "#5b9a52"),
    "activation": ("#fdf0d0", "#c0932a"),
    "attention": ("#f0e2fb", "#8d5cc0"),
    "recurrent": ("#f0e2fb", "#8d5cc0"),
    "pool": ("#d9f1f2", "#3f9298"),
    "embedding": ("#fbe1ea", "#bf5a80"),
    "shape": ("#f1f1f1", "#8c8c8c"),
    "math": ("#f1f1f1", "#8c8c8c"),
    "other": ("#ffffff", "#6f6f6f"),
}
"""Fill and border by family."""

TEXT = "#1c1c1c"
HEAT = ("#fff6e0", "#ffe0a3", "#ffc067", "#ff9a4d", "#f2683c")
"""Fills from cold to hot."""
HEAT_BORDER = "#9a5a2a"


def heat_level(share: float) -> int:
    """Return the level of a share in HEAT; each begins at three times the share of the one before."""
    bounds = (1 / 81, 1 / 27, 1 / 9, 1 / 3)
    return sum(share >= bound for bound in bounds)
