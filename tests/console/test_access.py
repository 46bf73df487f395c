"""Who may come in, as it is seen and ended in the console, and the audit: two kinds of people on each page."""

from __future__ import annotations

import csv
import io
import json

import httpx
import pytest
from playwright.async_api import Page, expect

from covergate.access.api_keys import create_key, list_keys
from covergate.access.console_users import create_user, list_users
from covergate.access.operators import create_operator
from covergate.gateway import Gateway
from tests.console.browser import Visit, Watched, accessible, picture
from tests.e2e.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def hint_of(gateway: Gateway, name: str, tenant: str) -> str:
    """A new key's."""
    return (await create_key(gateway, tenant=tenant, mode="test", name=name))[-4:]


async def test_an_operator_sees_everybody_and_revokes(house: House, visit: Visit) -> None:
    gateway = house.gateway
    await hint_of(gateway, "North's intake", "Clinic North")
    await hint_of(gateway, "South's intake", "Clinic South")
    await create_operator(gateway, name="Night shift 7")
    await create_user(gateway, login="berta", name="Berta Sample")
    seen = await visit("operations")
    page = await seen.page("/console/access")
    for text in ("North's intake", "South's intake", "Night shift 7", "Berta Sample"):
        await expect(page.get_by_text(text)).to_be_visible()
    await accessible(page)
    await picture(page, "access")
    south = page.get_by_role("row").filter(has_text="South's intake")
    await south.get_by_label("Revoke the key").first.click()
    await accessible(page)
    await south.get_by_role("button", name="Yes, revoke the key").click()
    await expect(page.locator("#message")).to_contain_text("revoked")
    await page.get_by_label("Revoke the operator Night shift 7").first.click()
    await page.get_by_role("button", name="Yes, revoke the operator Night shift 7").click()
    await page.get_by_label("Revoke the account berta").first.click()
    await page.get_by_role("button", name="Yes, revoke the account berta").click()
    await expect(page.get_by_role("row").filter(has_text="berta")).to_contain_text("revoked")
    assert {key.state for key in await list_keys(gateway, tenant="Clinic South")} == {"revoked"}
    assert [user.state for user in await list_users(gateway) if user.login == "berta"] == ["revoked"]


async def test_a_tenants_people_see_and_end_only_their_own(house: House, visit: Visit) -> None:
    await hint_of(house.gateway, "North's own", "Clinic North")
    await hint_of(house.gateway, "South's own", "Clinic South")
    await visit("staff", tenant="Clinic South")
    await visit("operations")
    seen = await visit("administrator", tenant="Clinic North")
    page = await seen.page("/console/access")
    await expect(page.get_by_text("North's own")).to_be_visible()
    text = await page.locator("main").inner_text()
    assert "South" not in text
    assert "Test operations" not in text
    await accessible(page)
    [south] = [key for key in await list_keys(house.gateway, tenant="Clinic South") if key.name == "South's own"]
    assert await posted(seen, page, f"/console/access/keys/{south.id}/revoke") == "/console/access?done=gone"
    assert south.state == "valid"
    [other] = await house.sql("SELECT id FROM console_sessions WHERE name = 'Test staff' AND ended_at IS NULL LIMIT 1")
    assert await posted(seen, page, f"/console/access/sessions/{other.id}/end") == "/console/access?done=gone"


async def test_staff_sees_neither_access_nor_audit(house: House, visit: Visit) -> None:
    seen = await visit("staff", tenant="Clinic North")
    for path in ("/console/access", "/console/audit", "/console/audit/export/csv"):
        page = await seen.page(path)
        await expect(page.get_by_role("heading")).to_have_text("You may not do this")
    await accessible(page)


async def test_a_session_is_ended_by_somebody_else(house: House, visit: Visit) -> None:
    other = await visit("phi")
    seen = await visit("operations")
    page = await seen.page("/console/access")
    await page.get_by_label("End the session of Test phi").first.click()
    await page.get_by_role("button", name="Yes, end the session of Test phi").first.click()
    left = await other.page("/console/account")
    await expect(left.get_by_role("heading")).to_have_text("Sign in")


async def test_the_audit_is_searched_and_exported(house: House, visit: Visit) -> None:
    id_ = await house.create("integrex", "ELIGIBLE-audit")
    await house.settled(id_)
    seen = await visit("operations")
    page = await seen.page("/console/audit")
    await page.get_by_label("What (id)").fill(id_)
    await page.get_by_label("Action").fill("verification.read")
    await page.get_by_role("button", name="Find").click()
    await expect(page.get_by_role("cell", name=id_).first).to_be_visible()
    await accessible(page)
    await picture(page, "audit")
    async with http(seen, await cookies_of(seen)) as client:
        query = {"subject": id_, "action": "verification.read"}
        table = await client.get("/console/audit/export/csv", params=query)
        lines = await client.get("/console/audit/export/ndjson", params=query)
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert {row["subject"] for row in rows} == {id_}
    assert [json.loads(line)["subject"]["id"] for line in lines.text.splitlines()] == [id_] * len(rows)
    assert "attachment" in table.headers["content-disposition"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("since=yesterday", "since must be a date"),
        ("outcome=maybe", "outcome must be one of"),
        ("tenant=Nobody", "tenant must be"),
        ("after=xyz", "after must be"),
    ],
)
async def test_a_filter_that_cannot_be_used_is_named(house: House, visit: Visit, query: str, words: str) -> None:
    page = await (await visit("operations")).page(f"/console/audit?{query}")
    await expect(page.locator("#problem")).to_contain_text(words)


async def test_a_tenants_account_at_a_vendor_is_tested_and_removed(house: House, visit: Visit) -> None:
    key = {
        "authorization": f"Bearer {await create_key(house.gateway, tenant='Clinic East', mode='test', scopes=SCOPES)}"
    }
    given = {"credentials": {"client_id": "own", "client_secret": "a-secret-of-our-own"}, "environment": "sandbox"}
    put = await house.client.put("/v1/vendor-accounts/sohar", json=given, headers=key)
    assert put.status_code == 201, put.text
    seen = await visit("administrator", tenant="Clinic East")
    page = await seen.page("/console/access")
    whose = {**house.operator, "x-mode": "test"}
    await house.client.post("/v1/vendors/sohar/hold", headers=whose)
    await page.get_by_role("button", name="Test the account at sohar").click()
    await expect(page.locator("main")).to_contain_text("an operator holds the vendor")
    await house.client.post("/v1/vendors/sohar/resume", headers=whose)
    await page.get_by_role("link", name="Back to Access").click()
    await page.get_by_role("button", name="Test the account at sohar").click()
    await expect(page.locator("main")).to_contain_text("account at sohar was tested")
    await accessible(page)
    await page.get_by_role("link", name="Back to Access").click()
    await page.get_by_label("Remove the account at sohar").first.click()
    await page.get_by_role("button", name="Yes, remove the account at sohar").click()
    await expect(page.locator("#message")).to_contain_text("removed")


SCOPES = ["accounts:manage", "verifications:read"]


async def cookies_of(seen: Watched) -> dict[str, str]:
    return {cookie["name"]: cookie["value"] for cookie in await seen.context.cookies()}


def http(seen: Watched, cookies: dict[str, str]) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=seen.url, cookies=cookies)


async def posted(seen: Watched, page: Page, path: str) -> str | None:
    """A form that the page does not have, with the session's own token; where it leads."""
    token = await page.locator("body").get_attribute("data-csrf")
    assert token is not None
    async with http(seen, await cookies_of(seen)) as client:
        answer = await client.post(path, data={"csrf": token})
    where: str | None = answer.headers.get("location")
    return where
