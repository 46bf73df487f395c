"""The list of verifications: filters in the address, whose rows are seen, and one action on all that match."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from playwright.async_api import Locator, Page, expect

from covergate.access.api_keys import create_key
from covergate.db.sql import Query
from covergate.verifications import standings
from covergate.verifications.view import JOINED
from tests.console.browser import Visit, Watched, accessible, picture
from tests.console.visitors import links_of, visiting, words_of
from tests.e2e.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")


def link_to(page: Page, verification_id: str) -> Locator:
    return page.locator(f"a[href$='/verifications/{verification_id}']")


async def as_a_client(seen: Watched) -> httpx.AsyncClient:
    """The same session without a browser."""
    cookie = (await seen.context.cookies())[0]
    return httpx.AsyncClient(base_url=seen.url, cookies={cookie["name"]: cookie["value"]}, trust_env=False)


async def test_the_list_is_filtered_and_shows_no_patient(house: House, visit: Visit) -> None:
    good = await house.create("sohar", "ELIGIBLE-list", external_id="appointment-7")
    bad = await house.create("sohar", "BADMEMBER-list")
    for id_ in (good, bad):
        await house.receiver.end_of(id_)
    page = await (await visit("operations", "phi")).page("/console/verifications")
    await expect(page.get_by_role("link", name="Verifications")).to_have_attribute("aria-current", "page")
    await expect(link_to(page, good)).to_have_count(1)
    await accessible(page)
    await picture(page, "verifications")
    await page.get_by_label("Status").select_option("failed")
    await page.get_by_label("Ended after").fill("today")
    await page.get_by_role("button", name="Find").click()
    await expect(link_to(page, good)).to_have_count(0)
    row = page.get_by_role("row").filter(has=link_to(page, bad))
    await expect(row).to_contain_text("failed")
    await expect(row).to_contain_text("member id invalid")
    assert "status=failed" in page.url and "list" not in page.url
    await page.get_by_role("link", name="Failed today").click()
    await expect(link_to(page, bad)).to_have_count(1)
    await page.get_by_role("link", name="All").click()
    await page.get_by_label("The tenant's own reference").fill("appointment-7")
    await page.get_by_role("button", name="Find").click()
    await expect(link_to(page, good)).to_have_count(1)
    await expect(page.locator("#found")).to_contain_text("1 in all, in test mode")
    content = await page.content()
    assert "Jane" not in content and "ELIGIBLE-list" not in content


async def test_a_wrong_filter_is_named_and_its_value_not_repeated(house: House, visit: Visit) -> None:
    seen = await visit("operations")
    page = await seen.page("/console/verifications")
    for query, named in (
        ("status=Jane", "status must be one of: queued"),
        ("created_after=yesterdayJane", "created_after must be today, a date like"),
        ("created_before=0001-01-01T00:00%2B14:00", "created_before must be today"),
        ("family=Jane", "family must be a verification's id"),
        ("member_id=Jane", "member_id there is no such filter"),
        ("tenant=Jane", "tenant must be a tenant's id or name"),
        ("payer_id=" + "Jane" * 20, "payer_id must have at most 64 characters"),
        ("after=Jane", "after must be a verification's id"),
    ):
        answer = await page.goto(f"{seen.url}/console/verifications?{query}")
        assert answer is not None and answer.status == 422, query
        await expect(page.locator("#problem")).to_contain_text(named)
        await expect(page.locator("#problem")).not_to_contain_text("Jane")
    await accessible(page)


async def test_a_tenants_people_see_their_own_only(house: House, visit: Visit) -> None:
    own = await house.create("sohar", "ELIGIBLE-own")
    await create_key(house.gateway, tenant="Clinic South", mode="test", scopes=["verifications:read"])
    name = "Clinic North"
    operator = await (await visit("operations")).page(f"/console/verifications?tenant={name}")
    await expect(link_to(operator, own)).to_have_count(1)
    await operator.goto(operator.url.partition("?")[0] + "?tenant=Clinic+South")
    await expect(link_to(operator, own)).to_have_count(0)
    seen = await visit("staff", tenant="Clinic South")
    page = await seen.page("/console/verifications")
    await expect(page.locator("#found")).to_contain_text("Nothing was found.")
    await expect(page.get_by_label("Tenant (id or name)")).to_have_count(0)
    await page.goto(f"{seen.url}/console/verifications?family={own}")
    await expect(page.locator("#found")).to_contain_text("Nothing was found.")
    answer = await page.goto(f"{seen.url}/console/verifications?tenant={name}")
    assert answer is not None and answer.status == 422
    page = await (await visit("staff", tenant=name)).page("/console/verifications")
    await expect(link_to(page, own)).to_have_count(1)
    webhooks = await (await visit("webhooks", tenant=name)).page("/console/verifications")
    await expect(webhooks.locator("#problem")).to_contain_text("Your roles do not show this page.")


async def test_pages_go_on_by_the_last_id_and_counts_say_where_they_stop(
    house: House, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covergate.console.verifications.ROWS_SHOWN", 2)
    made = [await house.create("sohar", f"ELIGIBLE-page-{number}", external_id="paged") for number in range(3)]
    seen = await visit("operations")
    page = await seen.page("/console/verifications?external_id=paged")
    await expect(page.locator("#found")).to_contain_text("3 in all")
    await page.get_by_role("link", name="Older").click()
    await expect(link_to(page, made[0])).to_have_count(1)
    await expect(link_to(page, made[2])).to_have_count(0)
    await page.get_by_role("link", name="To the newest").click()
    await expect(link_to(page, made[2])).to_have_count(1)
    for module in ("covergate.verifications.standings", "covergate.console.verifications"):
        monkeypatch.setattr(f"{module}.COUNTED_UP_TO", 2)
    await page.reload()
    await expect(page.locator("#found")).to_contain_text("more than 2")

    async def slowly(*given: Any) -> int | None:
        with monkeypatch.context() as patched:
            patched.setattr(standings, "JOINED", f"{JOINED} CROSS JOIN pg_sleep(1)")
            return await standings.count_matching(*given)

    monkeypatch.setattr("covergate.console.verifications.count_matching", slowly)
    await page.reload()
    await expect(page.locator("#found")).to_contain_text("Not counted")
    await expect(link_to(page, made[2])).to_have_count(1)


async def test_a_list_that_was_cut_off_says_so_and_goes_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    old = await house.create("sohar", "ELIGIBLE-cut", external_id="cut")
    newer = [await house.create("sohar", f"ELIGIBLE-cut-{number}") for number in range(2)]
    canceled = Query("DO $$ BEGIN RAISE EXCEPTION 'canceled' USING ERRCODE = 'query_canceled'; END $$")
    monkeypatch.setattr(standings, "_LISTED_BRIEFLY", canceled)
    monkeypatch.setattr(standings, "MOST_LOOKED_AT", 2)
    async with visiting(house, "operations") as operator:
        answer = await operator.get("/verifications", external_id="cut")
        assert "0 among the newest 2, in test mode." in words_of(answer)
        assert "Nothing was found." in words_of(answer)
        older = links_of(answer)["Older"]
        assert older == f"/console/verifications?external_id=cut&after={newer[0]}"
        answer = await operator.client.get(older)
        assert "1 among the newest 2 from here on, in test mode." in words_of(answer)
        assert any(path.endswith(old) for path in links_of(answer).values())
        waits = await operator.text("/verifications", waiting_for="vendor", payer_id="none")
        assert "among the newest 2 open ones" in waits or "0 in all" in waits


async def test_a_new_one_appears_by_itself_and_without_scripts_it_can_be_read(house: House, visit: Visit) -> None:
    seen = await visit("operations")
    page = await seen.page("/console/verifications?external_id=live")
    await expect(page.locator("#found")).to_contain_text("Nothing was found.")
    id_ = await house.create("sohar", "ELIGIBLE-live", external_id="live")
    await expect(link_to(page, id_)).to_have_count(1)
    await expect(page.locator("#found")).to_contain_text("eligible", timeout=20_000)
    async with await as_a_client(seen) as client:
        read = await client.get("/console/verifications", params={"external_id": "live"})
    assert f"/verifications/{id_}" in read.text and " style=" not in read.text


async def test_views_of_ones_own_are_kept_and_renamed_by_the_keyboard(visit: Visit) -> None:
    page = await (await visit("staff", tenant="Clinic North")).page("/console/verifications?status=failed")
    await page.get_by_label("Keep these filters as").fill("What failed")
    await page.keyboard.press("Enter")
    own = page.get_by_role("navigation", name="Your views").get_by_role("link", name="What failed")
    await expect(own).to_have_attribute("aria-current", "page")
    await page.get_by_text("Rename or remove").focus()
    await page.keyboard.press("Enter")
    await accessible(page)
    await page.get_by_label("Name of “What failed”").fill("Failed ones")
    await page.keyboard.press("Enter")
    await page.get_by_role("navigation", name="Your views").get_by_role("link", name="Failed ones").click()
    await page.get_by_text("Rename or remove").click()
    await page.get_by_role("button", name="Remove Failed ones").click()
    await expect(page.get_by_role("navigation", name="Your views")).to_have_count(0)


async def counted(seen: Watched, query: str, button: str) -> Page:
    page = await seen.page(f"/console/verifications?{query}")
    await page.get_by_role("button", name=f"{button} …", exact=True).click()
    await page.wait_for_url("**/jobs/**")
    return page


async def test_what_failed_is_asked_again_with_corrections_and_a_count_is_ordered_once(
    house: House, visit: Visit
) -> None:
    made = [await house.create("sohar", f"BADMEMBER-bulk-{number}", external_id="bulk") for number in range(2)]
    for id_ in made:
        await house.receiver.end_of(id_)
    seen = await visit("operations")
    page = await counted(seen, "status=failed&external_id=bulk", "Ask again")
    await expect(page.locator("main")).to_contain_text("2 verifications match")
    await expect(page.locator("main")).to_contain_text("pays the vendor for each")
    await expect(page.get_by_role("link", name="Verifications", exact=True)).to_have_attribute("aria-current", "page")
    await expect(link_to(page, made[0])).to_have_count(1)
    await accessible(page)
    other = await (await visit("operations")).page(
        page.url.partition("/console")[1] + page.url.partition("/console")[2]
    )
    await page.get_by_label("Corrections").fill("/patient/member_id ELIGIBLE-x")
    await page.get_by_role("button", name="Ask again: 2 now").click()
    await expect(page.locator("#problem")).to_contain_text("Line 1 must be a pointer")
    await page.go_back()
    await page.get_by_label("Corrections").fill("/patient/member_id = ELIGIBLE-bulk-corrected")
    await page.get_by_role("button", name="Ask again: 2 now").click()
    await expect(page.locator("#job")).to_contain_text("completed", timeout=20_000)
    await expect(page.get_by_role("row").filter(has_text="done")).to_contain_text("2")
    await accessible(page)
    await picture(page, "bulk")
    assert "ELIGIBLE" not in page.url
    for id_ in made:
        again = await house.sql("SELECT id FROM verifications WHERE retry_of = :id", id=id_)
        assert len(again) == 1
        assert (await house.receiver.end_of(again[0].id))["data"]["outcome"] == "eligible"
    await other.get_by_role("button", name="Ask again: 2 now").click()
    await expect(other.locator("#message")).to_contain_text("that count was ordered already")
    await expect(other.locator("#jobs")).to_contain_text("Test operations")
    await accessible(other)
    for id_ in made:
        assert len(await house.sql("SELECT 1 FROM verifications WHERE retry_of = :id", id=id_)) == 1


async def test_more_than_was_counted_is_counted_anew_and_what_changed_is_skipped(house: House, visit: Visit) -> None:
    made = [await house.create("sohar", f"NEVER-cancel-{number}", external_id="cancel") for number in range(2)]
    seen = await visit("operations")
    page = await counted(seen, "external_id=cancel", "Cancel")
    made.append(await house.create("sohar", "NEVER-cancel-3", external_id="cancel"))
    await page.get_by_role("button", name="Cancel: 2 now").click()
    await expect(page.locator("#message")).to_contain_text("More match now than were counted")
    assert [(await house.read(id_))["status"] for id_ in made].count("canceled") == 0
    await house.client.post(f"/v1/verifications/{made[0]}/cancel")
    await page.get_by_role("button", name="Cancel: 3 now").click()
    await expect(page.locator("#job")).to_contain_text("completed", timeout=20_000)
    await expect(page.get_by_role("row").filter(has_text="done")).to_contain_text("2")
    assert {(await house.read(id_))["status"] for id_ in made} == {"canceled"}
    await house.sql(
        "UPDATE bulk_items SET outcome = 'skipped', reason = 'no_longer_matches' WHERE verification_id = :id RETURNING 1",
        id=made[1],
    )
    await page.reload()
    row = page.get_by_role("row").filter(has_text="skipped no longer matches")
    await expect(row.filter(has=link_to(page, made[1]))).to_have_count(1)


async def test_what_needs_a_person_is_given_up_and_its_events_are_delivered_again(house: House, visit: Visit) -> None:
    id_ = await house.create("integrex", "DROPREPLY-bulk", external_id="person")
    await house.intended(id_)
    async with house.fast_clock(30):
        await house.settled(id_)
    seen = await visit("operations")
    page = await counted(seen, "waiting_for=operator&external_id=person", "Resolve: give up")
    await page.get_by_role("button", name="Resolve: give up: 1 now").click()
    await expect(page.locator("#job")).to_contain_text("completed", timeout=20_000)
    assert (await house.read(id_))["failure"]["code"] == "submission_unknown"
    await house.receiver.end_of(id_)
    page = await counted(seen, "external_id=person", "Deliver events again")
    await page.get_by_role("button", name="Deliver events again: 1 now").click()
    await expect(page.get_by_role("row").filter(has_text="done")).to_contain_text("1", timeout=20_000)


async def test_nobody_counts_or_orders_what_their_roles_do_not_allow(house: House) -> None:
    made = "SELECT count(*) AS n FROM bulk_jobs"
    async with (
        visiting(house, "staff", tenant="Clinic North") as staff,
        visiting(house, "staff", "webhooks", tenant="Clinic North") as colleague,
    ):
        before = (await house.sql(made))[0].n
        for do in ("resolve_give_up", "resolve_resubmit", "redeliver", "delete", ""):
            refused = await staff.send("/verifications/bulk", status="failed", do=do)
            assert refused.status_code == 403, do
            assert "Your roles do not allow this" in words_of(refused)
        assert (await house.sql(made))[0].n == before
        counted = await colleague.send("/verifications/bulk", status="failed", do="redeliver")
        where = counted.headers["location"].removeprefix("/console")
        assert "Deliver events again" in await staff.text(where)
        assert (await staff.send(f"{where}/order")).status_code == 403
        assert (await house.sql(made))[0].n == before + 1


async def test_a_job_is_stopped_and_tenants_see_their_own_jobs_only(house: House, visit: Visit) -> None:
    await create_key(house.gateway, tenant="Clinic South", mode="test", scopes=["verifications:read"])
    id_ = await house.create("sohar", "NEVER-stop", external_id="stop")
    staff = await visit("staff", tenant="Clinic North")
    page = await counted(staff, "external_id=stop", "Cancel")
    await expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    listed = await staff.page("/console/verifications?external_id=stop")
    await expect(listed.get_by_role("button", name="Resolve")).to_have_count(0)
    await expect(listed.get_by_role("button", name="Deliver events again")).to_have_count(0)
    foreign = await visit("staff", tenant="Clinic South")
    place = page.url.partition("/console/")[2]
    other = await foreign.page(f"/console/{place}")
    await expect(other.locator("#problem")).to_contain_text("there is no such job")
    await other.goto(f"{foreign.url}/console/jobs")
    await expect(other.locator("#jobs")).to_contain_text("None.")
    operator = await (await visit("operations")).page(f"/console/{place}")
    await expect(operator.locator("main")).to_contain_text("1 verification matches")
    # A job that nobody takes: its page has the button, and the verification stays as it is.
    await house.sql(
        "UPDATE bulk_jobs SET status = 'running', ended_at = NULL, due_at = now() + interval '1 hour' WHERE id = :id"
        " RETURNING 1",
        id=place.removeprefix("jobs/"),
    )
    await page.reload()
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("#message")).to_contain_text("It is stopped.")
    await expect(page.locator("#job")).to_contain_text("canceled")
    assert (await house.read(id_))["status"] != "canceled"
