"""The vendors: how each stands and did, whose the trouble is; held, resumed and tested, by two operators at once, too."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from tests.console.browser import Visit, accessible, picture, watched
from tests.e2e.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")

HISTORY = """
INSERT INTO vendor_history (span, at, mode, vendor, payer_id, ended, ours, vendors, payers, waits)
SELECT s.span, s.at, 'test', v.name, p.id, p.base + s.n % 7, 0, p.base / 20, p.base / 40,
  array_fill(0, ARRAY[10 + s.n % 3]) || ARRAY[p.base / 4, p.base / 2, p.base / 8, p.base / 16]
FROM (SELECT 'hour', date_trunc('hour', now(), 'UTC') - make_interval(hours => h), h FROM generate_series(0, 23) AS h
      UNION ALL SELECT 'day', date_trunc('day', now(), 'UTC') - make_interval(days => d), d FROM generate_series(0, 6) AS d)
    AS s(span, at, n),
  unnest(ARRAY['sohar', 'integrex', 'vsee', 'healthie']) AS v(name),
  (VALUES ('', 120), ('60054', 80), ('MOON/1', 40)) AS p(id, base)
ON CONFLICT DO NOTHING"""
ENDED = """
WITH v AS (
  INSERT INTO verifications (id, tenant_id, mode, status, failure_code, vendor, payer_id, attempt_id, deadline,
                             completed_at, not_asked, metadata, member_digest, birth_digest, inquiry_digest,
                             digest_key_id, inquiry_sealed)
  SELECT 'v_' || p.id || n, t.id, 'test', 'failed', 'x', 'integrex', p.id, '', now(), now(), '{}', '{}', '', '', '', '', ''
  FROM (SELECT id FROM tenants WHERE name = 'Clinic North') AS t, (VALUES ('60054', 30), ('MOON/1', 60)) AS p(id, most),
    generate_series(1, p.most) AS n ON CONFLICT DO NOTHING RETURNING id, tenant_id, payer_id
)
INSERT INTO attempts (id, verification_id, tenant_id, vendor, mode, payer_id, state, created_at, intent_at, ended_at,
                      failure_code)
SELECT 'a_' || id, id, tenant_id, 'integrex', 'test', payer_id, CASE payer_id WHEN '60054' THEN 'failed' ELSE 'answered' END,
  now(), now() - interval '2 minutes', now() - interval '1 minute', CASE payer_id WHEN '60054' THEN 'payer_unavailable' END
FROM v"""
REFUSED = """
INSERT INTO refused_credentials (vendor, mode, account, refused_at, versions, trial_at)
VALUES ('healthie', 'test', '', now() - interval '5 minutes', ARRAY['v1'], now() + interval '30 minutes')
ON CONFLICT (vendor, mode, account) DO UPDATE SET refused_at = excluded.refused_at, versions = excluded.versions,
  trial_at = excluded.trial_at"""
TENANTS_TROUBLE = """
WITH a AS (
  INSERT INTO vendor_accounts (id, tenant_id, mode, vendor, environment, credentials_sealed, hint, fingerprint, state,
                               removed_at)
  SELECT 'acc_trouble', id, 'test', 'vsee', 'sandbox', NULL, '', '', 'refused', now() FROM tenants
  WHERE name = 'Clinic North' ON CONFLICT DO NOTHING
)
INSERT INTO vendor_standing (vendor, mode, account, circuit, rests_until)
VALUES ('vsee', 'test', 'acc_trouble', 'open', now() + interval '1 hour') ON CONFLICT DO NOTHING"""
AUDITED = "SELECT actor_id FROM audit_events WHERE action = :action AND subject_id = :vendor"


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def as_before(house: House) -> AsyncIterator[None]:
    await house.sql(HISTORY)
    yield
    await house.sql("DELETE FROM vendor_standing")
    await house.sql("DELETE FROM refused_credentials")


def row_of(page: Page, title: str) -> Locator:
    return page.locator("#vendors").get_by_role("row").filter(has_text=title)


async def audited(house: House, action: str, vendor: str) -> int:
    return len(await house.sql(AUDITED, action=action, vendor=vendor))


def message(page: Page) -> Locator:
    return page.locator("#message")


async def holds(page: Page, reason: str, until: str = "") -> None:
    await page.get_by_label("Why").fill(reason)
    await page.get_by_label("Until").fill(until)
    await page.locator("#hold ~ form button").click()


async def test_every_vendor_is_listed_with_its_numbers_and_whose_the_trouble_is(house: House, visit: Visit) -> None:
    await house.sql(ENDED)
    await house.sql(REFUSED)
    await house.sql(TENANTS_TROUBLE)
    page = await (await visit("operations")).page("/console/vendors")
    await expect(page.get_by_role("link", name="Vendors")).to_have_attribute("aria-current", "page")
    await expect(page.locator("#vendors tbody tr")).to_have_count(5)
    integrex = row_of(page, "Integrex")
    await expect(integrex).to_contain_text("well")
    await expect(integrex).to_contain_text("a payer's")
    await expect(integrex).to_contain_text("attempts fail at this payer and are answered at the others")
    await expect(integrex.get_by_role("link", name="Aetna")).to_have_attribute(
        "href", "/console/vendors/integrex?payer=60054"
    )
    await expect(integrex).to_contain_text("92.7 %")
    healthie = row_of(page, "Healthie")
    await expect(healthie).to_contain_text("credentials refused")
    await expect(healthie).to_contain_text("in 29 min")
    await expect(healthie).to_contain_text("ours the vendor refuses the credentials")
    await expect(row_of(page, "VSee")).to_contain_text("1 account of a tenant in trouble")
    await accessible(page)
    await picture(page, "vendors")


async def test_a_vendors_page_has_its_history_payers_and_what_it_can_say(house: House, visit: Visit) -> None:
    await house.sql(ENDED)
    page = await (await visit("operations")).page("/console/vendors/integrex")
    await expect(page.locator("figure.chart canvas")).to_have_count(4)
    for heading, rows in (("#day", 24), ("#week", 7)):
        table = page.locator(f"{heading} ~ figure details table").first
        await expect(table.locator("tbody tr")).to_have_count(rows)
    payers = page.locator("#payers ~ div")
    await expect(payers.get_by_role("row").filter(has_text="60054")).to_contain_text("the payer's")
    await expect(payers.get_by_role("row").filter(has_text="MOON/1")).to_contain_text("no trouble")
    can = page.locator("#can ~ dl")
    await expect(can).to_contain_text("Must be given")
    await expect(can).to_contain_text("/service/")
    await accessible(page)
    await picture(page, "vendor")
    await payers.get_by_role("link", name="MOON/1").click()
    await expect(page.locator("#of-payer")).to_have_text("Payer MOON/1")
    await expect(page.locator("figure.chart canvas")).to_have_count(8)
    await accessible(page)


async def test_it_is_held_with_reason_and_end_changed_and_resumed(house: House, visit: Visit) -> None:
    page = await (await visit("operations")).page("/console/vendors/sohar")
    before = [await audited(house, action, "sohar") for action in ("vendor.hold", "vendor.resume")]
    await holds(page, "their maintenance", "4h")
    await expect(message(page)).to_contain_text("It is held")
    stands = page.locator("#stands")
    await expect(stands).to_contain_text("by Test operations: “their maintenance”")
    await expect(stands).to_contain_text("in 3 h 59 min")
    await accessible(page)
    id_ = await house.create("sohar", "ELIGIBLE-vendors")
    await house.happens(id_, "held_back")
    await holds(page, "it takes longer", "2d")
    await expect(message(page)).to_contain_text("The hold was changed")
    await expect(stands).to_contain_text("“it takes longer”")
    await expect(stands).to_contain_text("in 1 d 23 h")
    await page.get_by_role("button", name="Resume now").click()
    await expect(message(page)).to_contain_text("It goes on")
    await expect(stands).to_contain_text("well")
    after = [await audited(house, action, "sohar") for action in ("vendor.hold", "vendor.resume")]
    assert after == [before[0] + 2, before[1] + 1]
    assert (await house.settled(id_))["status"] == "completed"


async def test_a_hold_without_an_end_lasts_until_it_is_resumed(house: House, visit: Visit) -> None:
    page = await (await visit("operations")).page("/console/vendors/vsee")
    await holds(page, "we wait for their word")
    await expect(page.locator("#stands")).to_contain_text("until somebody resumes it")
    listed = await (await visit("operations")).page("/console/vendors")
    await expect(row_of(listed, "VSee")).to_contain_text("we wait for their word")


@pytest.mark.parametrize(
    ("reason", "until", "says"),
    [
        ("their window", "tomorrow", "It ends after a span"),
        ("their window", "2020-01-01", "It ends after a span"),
        ("their window", "91d", "A hold ends within 90 days"),
        ("  ", "4h", "Say why"),
    ],
)
async def test_what_is_wrong_with_a_hold_is_named_and_nothing_is_held(
    house: House, visit: Visit, reason: str, until: str, says: str
) -> None:
    page = await (await visit("operations")).page("/console/vendors/sohar")
    await holds(page, reason, until)
    await expect(message(page)).to_contain_text("Nothing was held")
    await expect(message(page)).to_contain_text(says)
    await expect(page.get_by_label("Until")).to_have_value(until)
    await expect(page.locator("[aria-invalid]")).to_have_count(1)
    await accessible(page)
    assert await house.sql("SELECT 1 FROM vendor_standing WHERE held_at IS NOT NULL") == []
    await holds(page, "their window", "4h")
    await expect(message(page)).to_contain_text("It is held")


async def test_the_second_of_two_operators_is_told_what_stands(house: House, visit: Visit) -> None:
    first = await (await visit("operations")).page("/console/vendors/integrex")
    second = await (await visit("operations", "phi")).page("/console/vendors/integrex")
    await holds(first, "the first one's reason", "4h")
    await holds(second, "the second one's reason", "2d")
    await expect(message(second)).to_contain_text("somebody else was faster")
    await expect(second.locator("#stands")).to_contain_text("by Test operations: “the first one's reason”")
    [row] = await house.sql("SELECT held_reason FROM vendor_standing WHERE held_at IS NOT NULL")
    assert row.held_reason == "the first one's reason"
    mark = await second.locator("#stands input[name=seen]").get_attribute("value")
    await holds(first, "and another one")
    token = await second.locator("body").get_attribute("data-csrf")
    where = second.url.partition("?")[0] + "/resume"
    answer = await second.request.post(where, form={"csrf": token or "", "seen": mark or ""})
    assert "somebody else was faster" in await answer.text()
    await expect(second.locator("#stands")).to_contain_text("“and another one”", timeout=20_000)
    await second.get_by_role("button", name="Resume now").click()
    await expect(message(second)).to_contain_text("It goes on")
    answer = await second.request.post(where, form={"csrf": token or "", "seen": ""})
    assert "somebody else was faster" in await answer.text()


async def test_a_change_is_seen_without_reloading_and_what_is_typed_stays(house: House, visit: Visit) -> None:
    page = await (await visit("operations")).page("/console/vendors/healthie")
    await page.get_by_label("Why").fill("half a sent")
    held = await house.client.post(
        "/v1/vendors/healthie/hold", json={"reason": "by the API"}, headers={**house.operator, "x-mode": "test"}
    )
    assert held.status_code == 200
    await expect(page.locator("#stands")).to_contain_text("“by the API”", timeout=20_000)
    await expect(page.get_by_label("Why")).to_have_value("half a sent")


async def test_refused_credentials_are_tested_and_taken_again(house: House, visit: Visit) -> None:
    await house.sql(REFUSED)
    page = await (await visit("operations")).page("/console/vendors/healthie")
    await expect(page.locator("#stands")).to_contain_text("credentials refused")
    await page.get_by_role("button", name="Test the account now").click()
    await expect(message(page)).to_contain_text("the vendor took the credentials")
    await expect(page.locator("#stands")).to_contain_text("well")
    await accessible(page)
    assert await audited(house, "account.test", "healthie") == 1
    await house.sql(REFUSED)
    await page.goto(page.url.removesuffix("/test"))
    await page.get_by_role("button", name="Try refused credentials now").click()
    await expect(message(page)).to_contain_text("It goes on")


async def test_nothing_is_sent_to_a_held_vendor_to_test_it(house: House, visit: Visit) -> None:
    page = await (await visit("operations")).page("/console/vendors/sohar")
    await holds(page, "their window")
    await page.get_by_role("button", name="Test the account now").click()
    await expect(message(page)).to_contain_text("an operator holds the vendor, and nothing is sent to it")


async def test_a_tenants_account_in_trouble_is_named(house: House, visit: Visit) -> None:
    await house.sql(TENANTS_TROUBLE)
    page = await (await visit("operations")).page("/console/vendors/vsee")
    await expect(page.locator("#accounts ~ div")).to_contain_text("Clinic North")
    await expect(page.locator("#accounts ~ div")).to_contain_text("circuit open")
    await accessible(page)


async def test_a_vendor_that_is_not_there_is_not_found(visit: Visit) -> None:
    page = await (await visit("operations")).page("/console/vendors/nobody")
    await expect(page.get_by_role("heading")).to_have_text("Not found")
    await expect(page.locator("#problem")).to_contain_text("there is no such vendor")


@pytest.mark.parametrize("path", ["/console/vendors", "/console/vendors/sohar"])
async def test_a_tenants_people_are_refused(visit: Visit, path: str) -> None:
    page = await (await visit("staff", "administrator", tenant="Clinic North")).page(path)
    await expect(page.get_by_role("heading")).to_have_text("You may not do this")
    await expect(page.get_by_text("Sohar")).to_have_count(0)


async def test_they_can_be_read_without_javascript(house: House, visit: Visit) -> None:
    seen = await visit("operations")
    state = await seen.context.storage_state()
    browser = seen.context.browser
    assert browser is not None
    async with watched(browser, seen.url, java_script_enabled=False, storage_state=state) as plain:
        page = await plain.page("/console/vendors/sohar?payer=60054")
        await expect(page.locator("#of-payer ~ div details table").first).to_contain_text("UTC")
        await holds(page, "their window", "4h")
        await expect(message(page)).to_contain_text("It is held")
