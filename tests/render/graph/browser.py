"""A real browser for the tests of pages: Chromium by playwright."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import npm
import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIZES = {
    "wide": {"width": 1440, "height": 900},
    "notebook": {"width": 980, "height": 620},  # the cell of a notebook in such a window
    "narrow": {"width": 390, "height": 844},
}


@dataclass
class Watched:
    """A page, and what went wrong or left it."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def box(self, key: str) -> Any:
        """Return the box of a step by its key."""
        exact = json.dumps(key)
        return self.page.locator(f'[role="treeitem"]:has(> title:text-is({exact}))')

    def toggle(self, key: str) -> None:
        """Open or close a box by its sign."""
        self.box(key).locator(".toggle").click()
        self.page.wait_for_timeout(300)


@contextmanager
def chromium() -> Iterator[Any]:
    """Start a browser; skip the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no Chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def opener(browser: Any) -> Callable[..., Watched]:
    """Return what opens a file in a window of its own."""

    def visit(file: Path, size: str = "wide", color: str = "light", fragment: str = "") -> Watched:
        context = browser.new_context(
            viewport=SIZES[size],
            color_scheme=color,
            has_touch=size == "narrow",
            permissions=["clipboard-read", "clipboard-write"],
            reduced_motion="reduce",
        )
        watched = Watched(context.new_page())
        watched.page.on("pageerror", lambda error: watched.errors.append(str(error)))
        watched.page.on(
            "console", lambda line: watched.errors.append(line.text) if line.type == "error" else None
        )
        watched.page.on("request", lambda request: watched.requests.append(request.url))
        watched.page.on("requestfailed", lambda request: _forget(watched, request))
        watched.page.goto(f"{file.as_uri()}{fragment}")
        watched.page.wait_for_selector("body[data-ready]", timeout=20_000)
        return watched

    return visit


def _forget(watched: Watched, request: Any) -> None:
    """Forget a request that the page's own policy stopped."""
    if request.failure == "csp":
        watched.requests.remove(request.url)


def axe_source(folder: Path) -> str:
    """Return axe-core's script."""
    installed = npm.install(folder, "axe-core@4.14.1")
    return (installed / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
