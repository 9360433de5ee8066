"""A real browser for tests of pages: Chromium where there is one, else the tests skip and say so."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str | None:
    """The program of CONCEPTRY_BROWSER, else the first Chromium on PATH."""
    return os.environ.get("CONCEPTRY_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


@dataclass
class Visit:
    """An open page, and what it did: console messages and errors, and requests other than for the page itself."""

    page: Any
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@dataclass
class Browser:
    """A running Chromium; every visit has a profile of its own."""

    running: Any

    @contextmanager
    def visit(self, path: Path, width: int = 1400, height: int = 900, **options: Any) -> Iterator[Visit]:
        """Open the file `path`; `options` are those of a playwright context, such as color_scheme."""
        context = self.running.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(5_000)
        page = context.new_page()
        visit = Visit(page)
        page.on("console", lambda message: visit.messages.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: visit.messages.append(f"error: {error}"))
        page.on("request", lambda request: visit.requests.append(request.url))
        try:
            page.goto(path.as_uri())
            visit.requests.remove(path.as_uri())
            yield visit
        finally:
            context.close()


@contextmanager
def open_browser(untested: str) -> Iterator[Browser]:
    """Start the browser once; without one, skip and say that `untested` was not tested."""
    program = find_browser()
    if program is None:
        pytest.skip(f"not tested: {untested}; no Chromium on PATH and CONCEPTRY_BROWSER is not set")
    playwright = pytest.importorskip("playwright.sync_api", reason=f"not tested: {untested}; playwright is missing")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=program, timeout=60_000)
        try:
            yield Browser(running)
        finally:
            running.close()
