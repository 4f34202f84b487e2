"""Layouts and static pictures: how long boxes take to get their cells, and a model to become an SVG.

    python tests/benchmarks/bench_layout.py [--quick]

Each budget is printed beside its time as a ratio.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import nnkit
from nnkit.contract.requests import DrawRequest
from nnkit.render.graph.layout import lay_out
from nnkit.render.graph.scene import Box, Wire, scene_of
from nnkit.render.graph.svg import as_svg

LAYOUT_BUDGET = 0.3  # seconds for 12,000 boxes
BOXES = 12_000


def chain(count: int, skip: int) -> Box:
    """Return a group of boxes in a row, each with a wire that also skips some."""
    boxes = tuple(Box(str(at), "", "", "module", at) for at in range(count))
    wires = [
        Wire(at, (at + 1, *({min(at + skip, count)} - {at + 1})), at, "", False) for at in range(count - 1)
    ]
    return Box("", "", "", "group", -1, boxes, tuple(wires))


def seconds(run: Callable[[], object]) -> float:
    """Return the processor time of the fastest of three runs."""
    times = []
    for _ in range(3):
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small models only")
    is_quick = parser.parse_args().quick
    one = chain(BOXES, 3)
    many = chain(40, 5)
    for name, run in (
        (f"{BOXES:,} boxes in one group", lambda: lay_out(one)),
        (f"{BOXES:,} boxes in {BOXES // 40} groups", lambda: [lay_out(many) for _ in range(BOXES // 40)]),
    ):
        took = seconds(run)
        print(f"{name:32} {took:6.3f} s   {took / LAYOUT_BUDGET:4.2f}× of {LAYOUT_BUDGET} s")
    for name in ("resnet18",) if is_quick else ("resnet18", "densenet121", "transformer", "llama"):
        report = nnkit.graph(name)
        scene = seconds(partial(scene_of, report))
        svg = seconds(partial(as_svg, DrawRequest(report=report)))
        print(f"{name:32} {scene:6.3f} s scene, {svg:6.3f} s SVG, ratio {svg / max(scene, 1e-6):.1f}")


if __name__ == "__main__":
    main()
