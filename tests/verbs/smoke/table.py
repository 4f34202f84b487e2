"""Print which check catches which seeded fault.

`python tests/verbs/smoke/table.py` declares the inputs and runs every check. With `--bare` each seed is a
module with one example, and the default checks run; where pytest-torch is installed, it is a column.
"""

import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import bare
import rival
import seeded
from test_seeded import failed


def main() -> None:
    """Run the checks on every seeded module."""
    warnings.simplefilter("ignore")
    print_bare() if "--bare" in sys.argv else print_declared()


def print_declared() -> None:
    """Run every check on every declared seed; the placement on a simulated accelerator."""
    caught = {kind: [*failed(kind, full=True), *failed(kind, simulate="cuda")] for kind in seeded.ALL}
    for part, of in (("of the 29 measured on other tools", True), ("of our own", False)):
        kinds = [kind for kind in seeded.ALL if (kind in seeded.MEASURED) == of]
        print(f"{sum(bool(caught[kind]) for kind in kinds)} {part}, {len(kinds)} in all, are caught\n")
        for kind in kinds:
            print(f"{kind.__name__:24} {', '.join(caught[kind]) or 'not caught'}")
        print()
    print(f"a sound module fails {len(failed(seeded.Base, full=True))} checks")


def print_bare() -> None:
    """Run the default checks on every seed, of which nothing is known but one example."""
    told, untold = "of our own, which a module and an example tell", "of our own, which need a declaration"
    own = [kind for kind in bare.SEEDS if kind not in seeded.MEASURED]
    parts = {
        "of the 29 measured on other tools": seeded.MEASURED,
        told: [kind for kind in own if not bare.needs(kind)],
        untold: [kind for kind in own if bare.needs(kind)],
    }
    for part, kinds in parts.items():
        count = theirs = 0
        for kind in kinds:
            outcome = bare.check(*bare.example_of(kind))
            by_rival = rival.caught(*bare.example_of(kind))
            count += outcome.catches(kind)
            theirs += bool(by_rival)
            print(f"{kind.__name__:24} {_describe(kind, outcome):60} {', '.join(by_rival)}", flush=True)
        print(f"{count} {part}, {len(kinds)} in all, are caught", end="")
        print(f"; by pytest-torch {theirs}\n" if rival.AVAILABLE else "\n")
    sound = bare.check(*bare.example_of(seeded.Base))
    print(f"a sound module fails {len(sound.failed)} checks")


def _describe(kind: type, outcome: bare.Outcome) -> str:
    """Return the checks that fail, those that warn in brackets; else what is needed."""
    names = [*outcome.failed, *(f"({name})" for name in outcome.warned)]
    return ", ".join(names) or f"not caught{'; needs ' * bool(bare.needs(kind))}{bare.needs(kind)}"


if __name__ == "__main__":
    main()
