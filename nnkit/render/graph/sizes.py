"""How large things are in a picture, in units of an SVG."""

from nnkit.render.graph.scene import Box
from nnkit.render.graph.text import width_of

TITLE, SUBTITLE, LABEL = 12.0, 10.0, 9.5  # of text
HEADER = 38.0  # above what is in an open group
PAD = 14.0  # inside the frame of an open group
SIDE = 12.0  # beside a box
RAIL = 6.0  # beside a rail
PORT = 10.0  # between the ends of two lines at one box
TRACK = 8.0  # between two tracks
TURN = 6.0  # how far a line runs before its first and after its last turn, and the radius of its corners
ARROW = 8.0
GAP, EDGE = 24.0, 14.0  # between two ranks at least, and between a rank and the frame
LABEL_ROW = 14.0
STACK = 4.0  # from a repeat to what shows behind it
NEAR = 48.0  # how far a rail moves to run straight
SYMBOLS = {"add": "+", "iadd": "+", "add_": "+", "mul": "×", "imul": "×", "mul_": "×", "sub": "−"}


def size_of(box: Box) -> tuple[float, float]:
    """Return the width and height of a closed box."""
    if is_symbol(box):
        return 22.0, 22.0
    title = width_of(box.title, TITLE, bold=bool(box.subtitle)) + badge_width(box)
    width = max(title, width_of(box.subtitle, SUBTITLE)) + 24
    return max(width, 56.0), 40.0 if box.subtitle else 24.0


def header_width(box: Box) -> float:
    """Return the width of the title of an open box."""
    return max(width_of(box.title, TITLE, bold=True) + badge_width(box), width_of(box.subtitle, SUBTITLE))


def badge_width(box: Box) -> float:
    """Return the room for `×80` after a title."""
    return width_of(f"×{box.times}", SUBTITLE) + 14 if box.times > 1 else 0.0


def is_symbol(box: Box) -> bool:
    """Whether a closed box is drawn as a circle with a sign, like `+`."""
    return box.kind == "function" and box.title in SYMBOLS
