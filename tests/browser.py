"""A real browser for pages: Chromium without a window, that may ask no other machine."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from geotessera import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page, Route

# WebGL by the processor; no name resolves, so that nothing can be fetched by mistake.
_FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
_TIMEOUT = 60_000  # milliseconds; drawing by the processor is slow on a busy machine


@dataclass
class OpenPage:
    """A page, and what went wrong on it: errors, and requests to elsewhere."""

    page: Page
    problems: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def settled(self) -> None:
        """Wait until the map has drawn everything."""
        self.page.evaluate(
            """new Promise((done, fail) => {
              setTimeout(() => fail(new Error("the map does not come to rest")), 60000);
              geotesseraMap.once("idle", () => requestAnimationFrame(done));
              geotesseraMap.triggerRepaint();
            })"""
        )

    def look(self, lon: float, lat: float, zoom: float) -> None:
        """Move the map and wait until it is drawn."""
        # void: the map itself as an answer would take seconds to be copied.
        self.page.evaluate(
            "([lon, lat, zoom]) => void geotesseraMap.jumpTo({ center: [lon, lat], zoom })",
            [lon, lat, zoom],
        )
        self.settled()

    def spot(self, lon: float, lat: float) -> tuple[float, float]:
        """Return where a place is on the screen."""
        point = self.page.evaluate("(at) => geotesseraMap.project(at)", [lon, lat])
        return point["x"], point["y"]

    def click(self, lon: float, lat: float) -> None:
        """Click a place on the map."""
        self.page.mouse.click(*self.spot(lon, lat))

    def picture(self) -> np.ndarray:
        """Return the screen as uint8 (height, width, 3)."""
        return np.asarray(Image.open(BytesIO(self.page.screenshot())).convert("RGB"))

    def colour(self, lon: float, lat: float) -> np.ndarray:
        """Return the colour of a place on the screen."""
        x, y = self.spot(lon, lat)
        return self.picture()[int(y), int(x)]

    def becomes(self, met: Callable[[OpenPage], object]) -> bool:
        """Return whether something comes true within some seconds: pages draw when they can."""
        for _ in range(100):
            self.settled()
            if met(self):
                return True
            self.page.wait_for_timeout(100)
        return False


class Chromium:
    """Opens pages of one browser, each in a profile of its own."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    @contextlib.contextmanager
    def open(
        self, url: str, *, state: str = "ready", script: str | None = None, **options: Any
    ) -> Iterator[OpenPage]:
        """Open a page and wait until it says that it is in a state.

        Requests to other origins are recorded and refused. `script` runs before the page's
        own; the rest goes to Playwright's `new_context`.
        """
        # Small, and without fading: the processor draws every frame.
        options = {"viewport": {"width": 760, "height": 480}, "reduced_motion": "reduce", **options}
        context = self.browser.new_context(**options)
        context.set_default_timeout(_TIMEOUT)
        origin = urlsplit(url)[:2]
        if script:
            context.add_init_script(script)
        page = context.new_page()
        opened = OpenPage(page)

        def guard(route: Route) -> None:
            asked = route.request.url
            if urlsplit(asked).scheme in ("blob", "data") or urlsplit(asked)[:2] == origin:
                route.continue_()
            else:
                opened.elsewhere.append(asked)
                route.abort()

        context.route("**/*", guard)
        page.on("pageerror", lambda error: opened.problems.append(f"error: {error}"))
        page.on(
            "console",
            lambda said: (
                said.type in ("error", "warning")
                and "GL Driver Message" not in said.text
                and opened.problems.append(f"{said.type}: {said.text}")
            ),
        )
        try:
            page.goto(url)
            page.wait_for_selector(f'html[data-state="{state}"]')
            yield opened
        finally:
            context.close()


@contextlib.contextmanager
def started() -> Iterator[Chromium]:
    """Start Chromium; skip the test where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no Chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_FLAGS)
        yield Chromium(browser)
        browser.close()


@contextlib.contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serve a directory as `geotessera serve` does; the base URL, without a slash at its end."""
    with serving.bind(port=0) as server:
        server.start(directory)
        yield server.url.rstrip("/")
