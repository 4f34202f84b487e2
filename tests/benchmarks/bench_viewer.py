"""The page of a picture in Chromium: sizes, first paint, and what a user waits for, up to 12,000 boxes.

    python tests/benchmarks/bench_viewer.py [--quick]

Times are those of one page each, in a browser without a GPU. The budget of each is printed beside it as a ratio.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nnkit
from nnkit.contract.requests import DrawRequest
from nnkit.render.graph.html import as_html

sys.path.append(str(Path(__file__).parents[1] / "render" / "graph"))
from browser import chromium, opener

MODELS: dict[str, dict[str, Any]] = {
    "resnet18": {},
    "googlenet": {},
    "vit": {},
    "llama of 80 layers": {"preset": "70b"},
    "llama of 300 layers": {"layers": 300},
}
SIZE_BUDGETS = {"resnet18": 60, "llama of 80 layers": 500}  # KB
PAINT_BUDGET = 500  # ms
WAIT_BUDGET = 500  # ms, for a click on a model with everything unfolded
FRAME_BUDGET = 50  # ms

PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
FRAMES = """async () => {
    const graph = document.querySelector('#graph'), times = []
    let before = performance.now()
    for (let i = 0; i < 60; i++) {
        const zoom = i % 20 < 5
        graph.dispatchEvent(new WheelEvent('wheel', {deltaY: zoom ? (i % 2 ? 30 : -30) : 90, deltaX: 15,
            ctrlKey: zoom, clientX: 300, clientY: 400, cancelable: true}))
        await new Promise(requestAnimationFrame)
        const now = performance.now()
        times.push(now - before)
        before = now
    }
    return times
}"""


def line(name: str, what: str, value: float, unit: str, budget: float | None = None) -> None:
    """Print a measurement, and its ratio to what it may be."""
    ratio = f"  ratio {value / budget:.2f} of {budget:g}" if budget else ""
    print(f"{name:22} {what:18} {value:8.0f} {unit}{ratio}", flush=True)


def clicked(page: Any, act: str) -> float:
    """Return the milliseconds until a click has been drawn."""
    script = """async (act) => {
        const begin = performance.now()
        document.querySelector(act).click()
        document.body.getBoundingClientRect()
        const worked = performance.now() - begin
        await new Promise(requestAnimationFrame)
        return worked
    }"""
    return float(page.evaluate(script, act))


def measure(name: str, visit: Any, folder: Path) -> None:
    """Print what a page of a model costs."""
    begin = time.perf_counter()
    report = nnkit.graph(name.split(maxsplit=1)[0], **MODELS[name])
    found = time.perf_counter()
    text = as_html(DrawRequest(report=report))
    written = time.perf_counter()
    file = folder / f"{name.replace(' ', '-')}.html"
    file.write_text(text, encoding="utf-8", newline="")
    line(name, "nodes", len(report.nodes), "")
    line(name, "finding the graph", 1000 * (found - begin), "ms")
    line(name, "writing the page", 1000 * (written - found), "ms")
    line(name, "file", len(text.encode()) / 1000, "KB", SIZE_BUDGETS.get(name))
    paints = []
    for _ in range(3):
        watched = visit(file)
        paints.append(watched.page.evaluate(PAINT))
        page = watched.page
    line(name, "first paint", statistics.median(paints), "ms", PAINT_BUDGET)
    if page.locator("text=unfold all").count():
        page.evaluate(
            "document.querySelector('.unfold').dispatchEvent(new MouseEvent('click', {bubbles: true}))"
        )
    line(name, "open everything", clicked(page, "[data-act=all]"), "ms", WAIT_BUDGET)
    line(name, "steps in all", page.evaluate(f"({COUNT})()"), "")
    typed = page.evaluate(SEARCH)
    line(name, "search", typed, "ms", WAIT_BUDGET)
    line(name, "sort", clicked(page, "th.number button"), "ms", WAIT_BUDGET)
    frames = sorted(page.evaluate(FRAMES))
    line(name, "frame, median", statistics.median(frames), "ms", FRAME_BUDGET)
    line(name, "frame, 95 %", frames[int(0.95 * len(frames))], "ms", FRAME_BUDGET)


COUNT = """() => {
    const graph = document.querySelector('#graph')
    graph.focus()
    return Number(document.querySelector('#found').textContent.replace(/[^0-9]/g, ''))
}"""
SEARCH = """() => {
    const search = document.querySelector('#search'), begin = performance.now()
    search.value = 'proj'
    search.dispatchEvent(new Event('input'))
    document.body.getBoundingClientRect()
    const time = performance.now() - begin
    search.value = ''
    search.dispatchEvent(new Event('input'))
    return time
}"""


def main() -> None:
    """Measure each model in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the first model")
    names = list(MODELS)[: 1 if parser.parse_args().quick else None]
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        for name in names:
            measure(name, opener(browser), Path(folder))


if __name__ == "__main__":
    main()
