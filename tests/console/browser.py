"""Real Chromium (Debian's), driven by Playwright: its headless shell, which takes half of the time, or the whole browser.

Every page that is opened is watched: a broken policy or a script's error fails the test.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

HERE = Path(__file__).parent
PICTURES = Path(__file__).parents[2] / "docs" / "console"
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
NONE_THERE = (
    "CHROMIUM IS MISSING: no page of the console was looked at. Install it: apt-get install chromium-headless-shell"
)
_SWITCHES = ("--no-sandbox", "--disable-gpu", "--in-process-gpu")
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

    async def page(self, path: str = "/console/") -> Page:
        page = await self.context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        page.on("console", lambda message: self._note(page, message.type, message.text))
        await page.goto(self.url + path)
        return page

    def _note(self, page: Page, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not any(expected in text for expected in _EXPECTED):
            self.complaints.append(f"{page.url}: {text}")


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
    context = await browser.new_context(**{"timezone_id": "America/New_York", "locale": "en-US", **options})
    context.set_default_timeout(30_000)
    seen = Watched(context, url)
    try:
        yield seen
    finally:
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
