"""The five questions of an operator's day, from the first page on: how many clicks each takes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

import pytest
from playwright.async_api import Locator, Page, expect

from covergate.vendor_health.refused_credentials import RefusedCredentials
from tests.console.browser import Visit
from tests.e2e.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")

FAILED = 60


@dataclass
class Hand:
    """Clicks on a page, and counts them."""

    page: Page
    clicks: int = 0
    begun: float = field(default_factory=monotonic)

    async def click(self, what: Locator) -> None:
        await what.click()
        self.clicks += 1

    def done(self, question: str, most: int) -> None:
        told = f"{question}: {self.clicks} clicks, {monotonic() - self.begun:.1f} s"
        sys.stdout.write(f"{told}\n")
        assert self.clicks <= most, told


@asynccontextmanager
async def held(house: House, vendor: str) -> AsyncIterator[None]:
    whose = {**house.operator, "x-mode": "test"}
    body = {"reason": "for a test"}
    assert (await house.client.post(f"/v1/vendors/{vendor}/hold", json=body, headers=whose)).status_code == 200
    try:
        yield
    finally:
        await house.client.post(f"/v1/vendors/{vendor}/resume", headers=whose)


async def hand_of(visit: Visit) -> Hand:
    page = await (await visit("operations")).page()
    await expect(page.get_by_role("heading", name="Now")).to_be_visible()
    return Hand(page)


async def test_why_does_this_wait(house: House, visit: Visit) -> None:
    async with held(house, "healthie"):
        id_ = await house.create("healthie", "ELIGIBLE-why")
        await house.happens(id_, "held_back")
        hand = await hand_of(visit)
        await hand.click(hand.page.locator("#oldest ~ div").get_by_role("link", name=id_[-8:]))
        await expect(hand.page.get_by_text("which an operator holds")).to_be_visible()
        hand.done("why does this wait", 1)


async def test_a_payer_is_down(house: House, visit: Visit) -> None:
    for number in range(12):
        failed = {"id": "87726", "name": "UnitedHealthcare"}
        id_ = await house.create("sohar", f"PAYERDOWN-{number}", payer=failed)
        await house.settled(id_)
        answered = await house.create("sohar", f"ELIGIBLE-{number}")
        await house.settled(answered)
    hand = await hand_of(visit)
    await hand.click(hand.page.get_by_role("link", name="Vendors", exact=True))
    row = hand.page.get_by_role("row").filter(has_text="Sohar")
    await expect(row).to_contain_text("UnitedHealthcare", timeout=30_000)
    hand.done("payer X is down", 1)


async def test_those_that_failed_today_are_asked_again(house: House, visit: Visit) -> None:
    ids = await asyncio.gather(*(house.create("sohar", f"PAYERDOWN-again-{number}") for number in range(FAILED)))
    await asyncio.gather(*(house.settled(id_) for id_ in ids))
    hand = await hand_of(visit)
    await hand.click(hand.page.get_by_role("link", name="Verifications", exact=True))
    await hand.click(hand.page.get_by_role("link", name="Failed today"))
    await hand.click(hand.page.get_by_role("button", name="Ask again …"))
    await expect(hand.page.get_by_text("verifications match")).to_be_visible()
    await hand.click(hand.page.get_by_role("button", name="now"))
    await expect(hand.page.get_by_text("completed", exact=True)).to_be_visible(timeout=60_000)
    again = await house.sql("SELECT count(*) AS number FROM verifications WHERE retry_of = ANY(:ids)", ids=list(ids))
    assert again[0].number == FAILED
    hand.done(f"retry the {FAILED} that failed this morning", 4)


async def test_who_is_slow_today(house: House, visit: Visit) -> None:
    hand = await hand_of(visit)
    await hand.click(hand.page.get_by_role("link", name="Vendors", exact=True))
    await expect(hand.page.get_by_role("columnheader", name="p95")).to_be_visible()
    hand.done("who is slow today", 1)


async def test_the_vendors_key_expired(house: House, visit: Visit) -> None:
    account = house.gateway.shared_account("test", "integrex")
    assert account is not None
    assert await RefusedCredentials(house.gateway).refuse(account, None)
    hand = await hand_of(visit)
    row = hand.page.locator("#vendors ~ div").get_by_role("row").filter(has_text="Integrex")
    await expect(row).to_contain_text("credentials refused")
    await hand.click(row.get_by_role("link", name="Integrex"))
    await hand.click(hand.page.get_by_role("button", name="Try refused credentials now"))
    await hand.page.goto(hand.page.url.partition("/vendors")[0] + "/")
    await expect(row).to_contain_text("well")
    hand.done("the vendor's key expired", 2)
