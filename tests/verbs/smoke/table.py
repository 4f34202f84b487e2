"""Print which check catches which seeded fault: `python tests/verbs/smoke/table.py`."""

import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import seeded
from test_seeded import failed


def main() -> None:
    """Run every check on every seeded module; the placement on a simulated accelerator."""
    warnings.simplefilter("ignore")
    caught = {kind: _caught(kind) for kind in (*seeded.ALL, seeded.Base)}
    sound = caught.pop(seeded.Base)
    for part, of in (("of the 29 measured on other tools", True), ("of our own", False)):
        kinds = [kind for kind in seeded.ALL if (kind in seeded.MEASURED) == of]
        print(f"{sum(bool(caught[kind]) for kind in kinds)} {part}, {len(kinds)} in all, are caught\n")
        for kind in kinds:
            print(f"{kind.__name__:24} {', '.join(caught[kind]) or 'not caught'}")
        print()
    print(f"a sound module fails {len(sound)} checks")


def _caught(kind: type) -> list[str]:
    return [*failed(kind, full=True), *failed(kind, simulate="cuda")]


if __name__ == "__main__":
    main()
