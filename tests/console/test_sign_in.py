"""Coming in and going: accounts, second factors, one-time links, idle time, forged forms."""

from __future__ import annotations

import time

import httpx
import pyotp
import pytest
from playwright.async_api import Browser, expect

from covergate.access import console_users
from covergate.access.console_users import create_user, revoke_user
from tests.console.browser import Visit, accessible, watched
from tests.e2e.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")

PASSWORD = "nine green bottles"


async def test_an_account_is_set_up_by_its_link_and_then_signs_in(house: House, browser: Browser) -> None:
    code = await create_user(house.gateway, login="Anna", name="Anna Sample")
    url = str(house.client.base_url).rstrip("/")
    async with watched(browser, url) as seen:
        page = await seen.page(f"/console/enter#{code}")
        await expect(page.get_by_role("heading")).to_have_text("Set up the account anna")
        await accessible(page)
        secret = await page.locator("code").first.inner_text()
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_label("The code").fill(pyotp.TOTP(secret).at(time.time() - 30))
        await page.get_by_role("button", name="Set up").click()
        await expect(page.locator("#message")).to_contain_text("Sign in with it")
        assert code not in page.url
        await accessible(page)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_label("Code").fill(pyotp.TOTP(secret).now())
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("link", name="Anna Sample")).to_be_visible()
        cookie = (await seen.context.cookies())[0]
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
        await page.get_by_role("button", name="Sign out").click()
        await page.goto(url + "/console/")
        await expect(page.get_by_role("heading")).to_have_text("Sign in")
    assert await house.sql("SELECT 1 FROM audit_events WHERE action = 'session.end'")


async def ready_user(house: House, login: str) -> pyotp.TOTP:
    """With its last code long used."""
    code = await create_user(house.gateway, login=login, name=f"User {login}")
    pending = await console_users.pending_user(house.gateway, code)
    assert pending is not None
    factor = pyotp.TOTP(pending.totp_secret)
    assert await console_users.set_up(house.gateway, code, PASSWORD, factor.at(time.time() - 30)) is None
    return factor


async def test_a_link_opens_once(house: House) -> None:
    code = await create_user(house.gateway, login="once", name="Once")
    pending = await console_users.pending_user(house.gateway, code)
    assert pending is not None
    factor = pyotp.TOTP(pending.totp_secret).now()
    assert await console_users.set_up(house.gateway, code, "short", factor) is not None
    assert await console_users.set_up(house.gateway, code, PASSWORD, factor) is None
    assert await console_users.set_up(house.gateway, code, PASSWORD, factor) is not None


async def test_a_code_is_taken_once(house: House) -> None:
    factor = (await ready_user(house, "twice")).now()
    assert await console_users.sign_in(house.gateway, "twice", PASSWORD, factor) is not None
    assert await console_users.sign_in(house.gateway, "twice", PASSWORD, factor) is None


async def test_after_ten_wrong_tries_the_account_rests(house: House) -> None:
    factor = await ready_user(house, "rests")
    for _ in range(10):
        assert await console_users.sign_in(house.gateway, "rests", "wrong password!", factor.now()) is None
    assert await console_users.sign_in(house.gateway, "rests", PASSWORD, factor.now()) is None
    await house.sql("UPDATE console_users SET locked_until = now() WHERE login = 'rests'")
    assert await console_users.sign_in(house.gateway, "rests", PASSWORD, factor.now()) is not None


async def test_a_revoked_account_is_out_at_once(house: House, visit: Visit) -> None:
    factor = await ready_user(house, "gone")
    seen = await visit("operations")
    page = await seen.page("/console/sign-in")
    await page.get_by_label("Login").fill("gone")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_label("Code").fill(factor.now())
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("link", name="User gone")).to_be_visible()
    assert await revoke_user(house.gateway, "gone")
    await page.reload()
    await expect(page.get_by_role("heading")).to_have_text("Sign in")


async def test_an_idle_session_ends_and_leads_back(house: House, visit: Visit) -> None:
    seen = await visit("operations")
    page = await seen.page("/console/account")
    await house.sql("UPDATE console_sessions SET seen_at = now() - interval '16 minutes' WHERE ended_at IS NULL")
    await page.reload()
    assert page.url.endswith("/console/sign-in?next=/console/account")


async def test_a_form_of_another_site_or_session_is_refused(house: House, visit: Visit) -> None:
    seen = await visit("operations")
    cookie = (await seen.context.cookies())[0]
    async with httpx.AsyncClient(base_url=seen.url, cookies={cookie["name"]: cookie["value"]}) as client:
        refused = await client.post("/console/mode", data={"mode": "live", "csrf": "0" * 64})
        elsewhere = await client.post("/console/mode", data={"mode": "live"}, headers={"sec-fetch-site": "cross-site"})
        huge = await client.post("/console/mode", data={"mode": "x" * 70_000})
    assert (refused.status_code, elsewhere.status_code, huge.status_code) == (403, 403, 413)
    assert {row.mode for row in await house.sql("SELECT mode FROM console_sessions WHERE ended_at IS NULL")} == {"test"}


async def test_nobody_is_sent_to_another_site(house: House) -> None:
    async with httpx.AsyncClient(base_url=house.client.base_url) as client:
        for given in ("//evil.example", "https://evil.example/console/", "/console/\\evil", "/elsewhere"):
            page = await client.get("/console/sign-in", params={"next": given})
            assert page.status_code == 200
            assert "evil" not in page.text
            assert "elsewhere" not in page.text
