"""Real Chromium (Debian's), driven by Playwright: its headless shell, which takes half of the time, or the whole browser.

Every page that is opened is watched: a broken policy or a script's error fails the test. A context of a test that passed is
emptied and serves the next one: a new one is a new process, for which Chromium starts, and compiles axe, anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Page, async_playwright, expect

HERE = Path(__file__).parent
PICTURES = Path(__file__).parents[2] / "docs" / "console"
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
NONE_THERE = (
    "CHROMIUM IS MISSING: no page of the console was looked at. Install it: apt-get install chromium-headless-shell"
)
_SWITCHES = (
    *("--no-sandbox", "--disable-gpu", "--in-process-gpu"),
    "--js-flags=--no-opt --no-maglev",  # no page lives long enough for its scripts to be worth optimizing
    # The next page comes into the process and the frame of the one before: a new process for each is a third of its time.
    "--disable-features=ProactivelySwapBrowsingInstance,RenderDocument",
)
_USUAL: Any = {"timezone_id": "America/New_York", "locale": "en-US", "viewport": {"width": 1280, "height": 720}}
_RESTING: WeakKeyDictionary[Browser, list[Page]] = WeakKeyDictionary()
expect.set_options(timeout=20_000)
_AXE = (HERE / "axe.min.js").read_text()
_WANTED = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
_VIOLATIONS = """async (tags) => {
  const found = await axe.run(document, {runOnly: {type: "tag", values: tags}, resultTypes: ["violations"]});
  return found.violations.map((one) => [one.id, one.nodes.map((node) => node.html)]);
}"""
_EXPECTED = ("the server responded with a status of",)
"""Chromium's own line about an answer 4xx, which tests provoke."""


@dataclass
class Watched:
    """A browser's context with a session of its own, and what its pages complained of."""

    context: BrowserContext
    url: str
    complaints: list[str] = field(default_factory=list)
    rested: Page | None = None
    """Of the test before, for the first that is opened."""

    async def page(self, path: str = "/console/") -> Page:
        page, self.rested = self.rested or await self.context.new_page(), None
        page.on("pageerror", self._note_error)
        page.on("console", self._note)
        await page.goto(self.url + path)
        return page

    def _note_error(self, error: Error) -> None:
        self.complaints.append(f"{error}")

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(expected in message.text for expected in _EXPECTED):
            self.complaints.append(f"{message.location['url']}: {message.text}")

    async def rest(self) -> Page | None:
        """One page that shows nothing, with nothing of the test left in it or in its context."""
        if not self.context.pages:
            return None
        page, *others = self.context.pages
        for other in others:
            await other.close()
        if page.url.startswith(self.url):
            await page.evaluate("localStorage.clear(), sessionStorage.clear()")
        page.remove_listener("pageerror", self._note_error)
        page.remove_listener("console", self._note)
        await page.goto("about:blank")
        await page.emulate_media(color_scheme="null")
        await page.set_viewport_size(_USUAL["viewport"])
        await self.context.clear_cookies()
        return page


class Visit(Protocol):
    """A browser in which somebody with these roles is signed in; `tenant` None: an operator."""

    async def __call__(self, *roles: str, tenant: str | None = None, mode: str = "test") -> Watched: ...


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_SWITCHES)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def watched(browser: Browser, url: str, **options: Any) -> AsyncIterator[Watched]:
    resting = _RESTING.setdefault(browser, [])
    rested = resting.pop() if resting and not options else None
    context = rested.context if rested else await browser.new_context(**(_USUAL | options))
    context.set_default_timeout(30_000)
    seen = Watched(context, url, rested=rested)
    rested = None
    try:
        yield seen
        if not options:
            with suppress(Error):  # a page that is just leaving for another
                rested = await seen.rest()
    finally:
        if rested:
            resting.append(rested)
        else:
            await context.close()
    assert not seen.complaints, seen.complaints


async def accessible(page: Page) -> None:
    """axe-core finds nothing against WCAG 2.2 AA. Evaluated from outside, so that the page's own policy stays."""
    await page.evaluate(_AXE)
    assert await page.evaluate(_VIOLATIONS, _WANTED) == []


async def picture(page: Page, name: str) -> None:
    """Among the documents, if `make pictures` asks for it."""
    if os.environ.get("PICTURES"):
        PICTURES.mkdir(exist_ok=True)
        await page.screenshot(path=PICTURES / f"{name}.png", full_page=True, animations="disabled")
