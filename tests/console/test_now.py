"""Now: pictures with their numbers, live; an operator sees the fleet, a tenant's people their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import expect

from covergate import overview
from covergate.db.sql import Query
from tests.console.browser import Visit, accessible, picture, watched
from tests.console.visitors import links_of, visiting, words_of
from tests.e2e.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")

SAMPLES = """
INSERT INTO open_samples (at, mode, waiting_for, number)
SELECT date_trunc('minute', now()) - make_interval(mins => m), 'test', w.name, (w.base * (1.5 + sin(m / 20.0 + w.base)))::int
FROM generate_series(0, 179) AS m, (VALUES ('vendor', 40), ('circuit', 12), ('operator', 2)) AS w(name, base)
ON CONFLICT DO NOTHING"""
TENANT_SAMPLES = """
INSERT INTO open_tenant_samples (tenant_id, mode, at, waiting_for, number)
SELECT 'ten_now_open', 'test', at, w.name, w.number
FROM (SELECT DISTINCT at FROM open_samples WHERE extract(minute FROM at)::int % 5 = 0) AS s,
  (VALUES ('vendor', 12), ('start', 5)) AS w(name, number)
ON CONFLICT DO NOTHING"""
ENDED = """
INSERT INTO ended_hours (at, tenant_id, mode, vendor, outcome, failure_code, number)
SELECT date_trunc('hour', now(), 'UTC') - make_interval(hours => h), t.id, 'test', 'sohar', e.outcome, e.code,
  e.base + (h * 7) % 5
FROM generate_series(0, 23) AS h, (SELECT id FROM tenants WHERE name = :tenant) AS t,
  (VALUES ('eligible', '', 60), ('ineligible', '', 9), ('failed', 'payer_unavailable', 4), ('failed', 'member_id_invalid', 7))
    AS e(outcome, code, base)
ON CONFLICT DO NOTHING"""
HISTORY = """
INSERT INTO vendor_history (span, at, mode, vendor, payer_id, ended, ours, vendors, payers, waits)
SELECT 'hour', date_trunc('hour', now(), 'UTC'), 'test', v, '', 120, 0, 6, 3, ARRAY[0,0,0,0,0,0,0,0,0,0,30,50,20,11]
FROM unnest(ARRAY['sohar', 'integrex', 'vsee', 'healthie']) AS v ON CONFLICT DO NOTHING"""


async def counted(house: House) -> None:
    await house.sql(SAMPLES)
    await house.sql(ENDED, tenant="Clinic North")
    await house.sql(HISTORY)


@asynccontextmanager
async def held(house: House) -> AsyncIterator[None]:
    """What is created in the block for Healthie stays open."""
    whose = {**house.operator, "x-mode": "test"}
    answer = await house.client.post("/v1/vendors/healthie/hold", headers=whose)
    assert answer.status_code == 200, answer.text
    try:
        yield
    finally:
        await house.client.post("/v1/vendors/healthie/resume", headers=whose)


async def test_an_operator_sees_the_fleet_as_pictures_with_numbers(house: House, visit: Visit) -> None:
    await counted(house)
    async with held(house):
        id_ = await house.create("healthie", "ELIGIBLE-now")
        await house.happens(id_, "held_back")
        await looked_at(visit, id_)


async def looked_at(visit: Visit, id_: str) -> None:
    page = await (await visit("operations")).page()
    await expect(page.get_by_role("heading", name="Now")).to_be_visible()
    await expect(page.locator("figure.chart canvas")).to_have_count(3)
    await expect(page.get_by_role("row").filter(has_text="Sohar")).to_contain_text("92.5 %")
    await expect(page.locator("#oldest ~ div").get_by_role("link", name=id_[-8:])).to_be_visible()
    await expect(page.get_by_text("1 worker")).to_be_visible()
    await accessible(page)
    await page.locator("summary").first.click()
    rows = page.locator("details table").first.locator("tbody tr")
    await expect(rows.first).to_be_visible()
    assert 170 < await rows.count() <= 181
    await accessible(page)


async def test_pictures_of_a_wide_screen_a_phone_and_the_dark(house: House, visit: Visit) -> None:
    await counted(house)
    seen = await visit("operations")
    page = await seen.page()
    await expect(page.locator("figure.chart canvas")).to_have_count(3)
    await picture(page, "now")
    await page.emulate_media(color_scheme="dark")
    await accessible(page)
    await picture(page, "now-dark")
    await page.set_viewport_size({"width": 390, "height": 844})
    await accessible(page)
    await page.wait_for_function("document.documentElement.scrollWidth <= 390")
    await picture(page, "now-phone")


async def test_what_changes_is_seen_without_reloading(house: House, visit: Visit) -> None:
    page = await (await visit("operations")).page()
    await expect(page.get_by_role("heading", name="Now")).to_be_visible()
    async with held(house):
        id_ = await house.create("healthie", "ELIGIBLE-live")
        await expect(page.get_by_role("link", name=id_[-8:]).first).to_be_visible(timeout=20_000)


async def test_a_stream_ends_with_its_session(house: House, visit: Visit) -> None:
    page = await (await visit("operations")).page("/console/vendors?from=here")
    await house.sql("UPDATE console_sessions SET ended_at = now() WHERE ended_at IS NULL")
    await page.wait_for_url("**/console/sign-in**", timeout=20_000)
    await expect(page.locator("input[name=next]")).to_have_value("/console/vendors")


async def test_a_lost_connection_is_told_until_it_is_back(visit: Visit) -> None:
    seen = await visit("operations")
    page = await seen.page()
    lost = page.get_by_text("The connection to the gateway is lost")
    await expect(lost).to_be_hidden()
    await seen.context.set_offline(True)
    await expect(lost).to_be_visible()
    await accessible(page)
    await seen.context.set_offline(False)
    await expect(lost).to_be_hidden()
    assert all("DISCONNECTED" in one or "htmx:" in one for one in seen.complaints), seen.complaints
    seen.complaints.clear()


async def test_a_held_vendor_and_its_reason_are_seen(house: House, visit: Visit) -> None:
    held = await house.client.post(
        "/v1/vendors/vsee/hold", json={"reason": "their maintenance"}, headers={**house.operator, "x-mode": "test"}
    )
    assert held.status_code == 200
    page = await (await visit("operations")).page()
    row = page.locator("#vendors ~ div").get_by_role("row").filter(has_text="VSee")
    await expect(row).to_contain_text("held")
    await expect(row).to_contain_text("their maintenance")
    await house.client.post("/v1/vendors/vsee/resume", headers={**house.operator, "x-mode": "test"})


async def test_a_tenants_people_see_their_own_ends_only(house: House, visit: Visit) -> None:
    await counted(house)
    north = await (await visit("staff", tenant="Clinic North")).page()
    await expect(north.locator("#ended ~ p .figure")).not_to_have_text("0")
    await house.client.get("/v1/verifications")
    await house.sql("INSERT INTO tenants (id, name) VALUES ('ten_now_other', 'Clinic Now') ON CONFLICT DO NOTHING")
    other = await (await visit("staff", tenant="Clinic Now")).page()
    await expect(other.locator("#ended ~ p .figure")).to_have_text("0")
    await expect(other.get_by_text("Waiting for longest")).to_have_count(0)
    await accessible(other)


FAILING = Query(
    """
SELECT 'whe_01jd7k46mte0r9m2zn4x8b6wqg' AS id, 'ten' AS tenant_id, 'test' AS mode, 'enabled' AS status, 3 AS pending,
  2 AS tries, 500 AS last_status, NULL AS last_error, now() AS next_attempt_at
WHERE (:tenant_id IS NULL OR true) AND (:mode IS NULL OR true) LIMIT :most""",
    tenant_id="text",
    mode="text",
)


async def test_a_failing_webhook_is_a_link_for_those_who_keep_webhooks(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "_FAILING", FAILING)
    for roles, is_link in ((("staff",), False), (("staff", "webhooks"), True)):
        async with visiting(house, *roles, tenant="Clinic North") as own:
            page = await own.get("/")
            assert "…4x8b6wqg 3 500 2" in words_of(page)
            assert ("…4x8b6wqg" in links_of(page)) is is_link


async def test_what_is_open_is_each_tenants_own(house: House) -> None:
    await counted(house)
    await house.sql(
        "INSERT INTO tenants (id, name) VALUES ('ten_now_open', 'Clinic Open'), ('ten_now_none', 'Clinic None')"
        " ON CONFLICT DO NOTHING"
    )
    await house.sql(TENANT_SAMPLES)
    async with visiting(house, "staff", tenant="Clinic Open") as own:
        page = await own.get("/")
        assert "17 open: 5 their first step, 12 vendor counted" in words_of(page)
        assert links_of(page)["12 vendor"] == "/console/verifications?waiting_for=vendor"
        assert page.text.count("<td>12</td>") > 30 and "42</td>" not in page.text
        for path in links_of(page).values():
            assert (await own.client.get(path)).status_code == 200, path
    async with visiting(house, "staff", tenant="Clinic None") as other:
        shown = await other.text("/")
        assert "0 open counted" in shown and "Waiting for longest" not in shown


async def test_it_can_be_read_without_javascript(house: House, visit: Visit) -> None:
    await counted(house)
    seen = await visit("operations")
    state = await seen.context.storage_state()
    browser = seen.context.browser
    assert browser is not None
    async with watched(browser, seen.url, java_script_enabled=False, storage_state=state) as plain:
        page = await plain.page()
        await expect(page.get_by_role("heading", name="Now")).to_be_visible()
        await expect(page.locator("details table").first).to_contain_text("UTC")
