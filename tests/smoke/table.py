"""Print which check catches which seeded fault: `python tests/smoke/table.py`."""

import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import seeded
from test_seeded import failed


def main() -> None:
    """Run every check on every seeded module."""
    warnings.simplefilter("ignore")
    caught = 0
    for kind in seeded.ALL:
        names = list(failed(kind, full=True))
        caught += bool(names)
        print(f"{kind.__name__:24} {', '.join(names) or 'not caught'}", flush=True)
    print(
        f"{caught} of {len(seeded.ALL)} caught; a sound module fails {len(failed(seeded.Base, full=True))} checks"
    )


if __name__ == "__main__":
    main()
