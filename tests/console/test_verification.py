"""One verification's page: the sentence at its top, its story, what can be done, and the patient only for a reason."""

from __future__ import annotations

import re
from html import unescape

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from covergate.access.api_keys import create_key
from tests.console.browser import Visit, Watched, accessible, picture, watched
from tests.e2e.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")

STAFF = ("staff",)


async def opened(seen: Watched, verification_id: str) -> Page:
    return await seen.page(f"/console/verifications/{verification_id}")


async def completed(house: House, member_id: str = "ELIGIBLE-story") -> str:
    id_ = await house.create("sohar", member_id)
    await house.receiver.end_of(id_)
    return id_


async def waits_for_a_person(house: House, member_id: str) -> str:
    """Its submission's reply was lost, and the vendor cannot look submissions up."""
    id_ = await house.create("integrex", member_id)
    await house.intended(id_)
    async with house.fast_clock(30):
        seen = await house.settled(id_)
    assert seen["waiting_for"]["kind"] == "operator"
    return id_


async def as_a_client(seen: Watched) -> httpx.AsyncClient:
    """The same session without a browser."""
    cookie = (await seen.context.cookies())[0]
    return httpx.AsyncClient(base_url=seen.url, cookies={cookie["name"]: cookie["value"]}, trust_env=False)


def csrf_of(page: httpx.Response) -> str:
    return page.text.partition('data-csrf="')[2][:64]


async def test_the_story_of_an_ended_one(house: House, visit: Visit) -> None:
    id_ = await completed(house)
    page = await opened(await visit("operations"), id_)
    await expect(page.locator("h1")).to_contain_text(id_)
    await expect(page.locator(".sentence")).to_contain_text("answered: eligible after")
    await expect(page.get_by_role("table", name="Steps")).to_contain_text("completed")
    calls = page.get_by_role("table", name="Calls to vendors")
    await expect(calls).to_contain_text("/v2/verifications/…")
    await expect(calls).to_contain_text("ms")
    deliveries = page.get_by_role("table", name="Events and their deliveries")
    await expect(deliveries).to_contain_text("verification.completed")
    await expect(deliveries).to_contain_text("delivered")
    await expect(page.locator("figure.story svg")).to_be_visible()
    await accessible(page)
    await picture(page, "verification")


async def test_an_open_one_is_canceled_and_tells_its_second_canceler(house: House, visit: Visit) -> None:
    id_ = await house.create("sohar", "NEVER-story")
    await house.happens(id_, "submitted")
    first, second = await opened(await visit("operations"), id_), await opened(await visit("operations"), id_)
    await expect(first.locator(".sentence")).to_contain_text("Waits for Sohar since")
    await expect(first.locator(".sentence")).to_contain_text("at the latest; you can look now or cancel it.")
    for page in (first, second):
        await page.get_by_text("Cancel it …").click()
    await accessible(first)
    await first.get_by_role("button", name="Cancel it now").click()
    await expect(first.locator("#message")).to_contain_text("It was canceled.")
    await expect(first.locator(".sentence")).to_contain_text("Canceled after")
    await second.get_by_role("button", name="Cancel it now").click()
    await expect(second.locator("#message")).to_contain_text("Nothing was done: it changed while you looked at it")
    rows = await house.sql(
        "SELECT tenant_id FROM audit_events WHERE action = 'verification.cancel' AND subject_id = :id", id=id_
    )
    assert [row.tenant_id is not None for row in rows] == [True]


async def test_what_waits_for_a_person_is_decided_once(house: House, visit: Visit) -> None:
    id_ = await waits_for_a_person(house, "DROPREPLY-story")
    seen = await visit("operations")
    first, second = await opened(seen, id_), await opened(seen, id_)
    await expect(first.locator(".sentence")).to_contain_text(
        "you can submit it again, say that the vendor has it, give it up or cancel it."
    )
    for page in (first, second):
        await page.get_by_text("Give it up …").click()
    await expect(first.get_by_text("It fails at once with submission_unknown")).to_be_visible()
    await accessible(first)
    await first.get_by_role("button", name="Give it up now").click()
    await expect(first.locator("#message")).to_contain_text("It was given up.")
    await expect(first.locator(".sentence")).to_contain_text("Failed (submission unknown)")
    await second.get_by_role("button", name="Give it up now").click()
    await expect(second.locator("#message")).to_contain_text("Nothing was done")
    assert (await house.read(id_))["failure"]["code"] == "submission_unknown"


async def test_a_decision_on_an_earlier_wait_is_not_taken(house: House, visit: Visit) -> None:
    id_ = await waits_for_a_person(house, "DROPREPLY-earlier")
    page = await opened(await visit("operations"), id_)
    await page.get_by_text("Submit it again …").click()
    await house.sql(
        "UPDATE work SET waiting_since = waiting_since + interval '1 second' WHERE verification_id = :id", id=id_
    )
    await page.get_by_role("button", name="Submit it again now").click()
    await expect(page.locator("#message")).to_contain_text("Nothing was done")
    assert (await house.read(id_))["waiting_for"]["kind"] == "operator"
    await page.get_by_text("Submit it again …").click()
    await page.get_by_role("button", name="Submit it again now").click()
    await expect(page.locator("#message")).to_contain_text("It is submitted again.")


async def test_a_page_renews_itself_until_the_end(house: House, visit: Visit) -> None:
    id_ = await house.create("sohar", "NEVER-live")
    await house.happens(id_, "submitted")
    page = await opened(await visit("operations"), id_)
    await expect(page.locator(".sentence")).to_contain_text("Waits for Sohar")
    reply = await house.client.post(f"/v1/verifications/{id_}/cancel")
    assert reply.status_code == 200
    await expect(page.locator(".sentence")).to_contain_text("Canceled after")
    await expect(page.locator("#ended")).to_be_attached()


async def test_a_form_that_was_opened_is_not_renewed_away(house: House, visit: Visit) -> None:
    id_ = await house.create("sohar", "NEVER-typing")
    await house.happens(id_, "submitted")
    page = await opened(await visit("operations"), id_)
    await page.get_by_text("Cancel it …").click()
    await page.locator("h1").click()
    async with page.expect_response(lambda answer: answer.request.headers.get("hx-target") == "happened"):
        await page.evaluate("document.body.dispatchEvent(new Event('changed'))")
    await expect(page.get_by_role("button", name="Cancel it now")).to_be_visible()
    await page.get_by_role("button", name="Cancel it now").click()
    await expect(page.locator("#message")).to_contain_text("It was canceled.")


async def test_nothing_is_renewed_away_from_under_the_keyboard(house: House, visit: Visit) -> None:
    page = await opened(await visit("operations"), await completed(house, "ELIGIBLE-focus"))
    asked: list[str | None] = []
    page.on("request", lambda request: asked.append(request.headers.get("hx-target")))
    button = page.get_by_role("button", name="Deliver again: verification.completed")
    await button.focus()
    # Parts are asked for in one turn, so that a request of the focused one would have been seen before the other's answer.
    async with page.expect_response(lambda answer: answer.request.headers.get("hx-target") == "ended"):
        await page.evaluate("document.body.dispatchEvent(new Event('changed'))")
    assert "happened" not in asked
    await expect(button).to_be_focused()
    await button.blur()
    async with page.expect_response(lambda answer: answer.request.headers.get("hx-target") == "happened"):
        await page.evaluate("document.body.dispatchEvent(new Event('changed'))")


async def test_an_event_is_delivered_once_more(house: House, visit: Visit) -> None:
    id_ = await completed(house, "ELIGIBLE-redeliver")
    page = await opened(await visit("operations"), id_)
    await page.get_by_role("button", name="Deliver again: verification.completed").click()
    await expect(page.locator("#message")).to_contain_text("It is delivered once more.")
    tries = page.get_by_role("table", name="Events and their deliveries").locator("tbody td").nth(2).locator("div")
    await expect(tries).to_have_count(2)


async def test_the_patient_is_shown_for_a_reason_and_for_ten_minutes(house: House, visit: Visit) -> None:
    id_ = await completed(house, "ELIGIBLE-reveal")
    page = await opened(await visit("operations", "phi"), id_)
    await expect(page.locator("body")).not_to_contain_text("ELIGIBLE-reveal")
    await expect(page.locator("body")).not_to_contain_text("Jane")
    await accessible(page)
    await page.get_by_label("Why").select_option("billing")
    await page.get_by_role("button", name="Show the patient").click()
    await expect(page.locator("#patient")).to_contain_text("Jane Sample")
    await expect(page.locator("#patient")).to_contain_text("ELIGIBLE-reveal")
    assert "Jane" not in page.url + await page.title()
    await accessible(page)
    await picture(page, "verification-card")
    await expect(page.get_by_role("table", name="Who looked at it")).to_contain_text(
        "A claim or a bill is being worked on"
    )
    rows = await house.sql(
        "SELECT reason, tenant_id FROM audit_events WHERE action = 'verification.reveal' AND subject_id = :id", id=id_
    )
    assert [(row.reason, row.tenant_id is not None) for row in rows] == [("billing", True)]
    looks = "SELECT count(*) AS n FROM audit_events WHERE action = 'verification.read' AND subject_id = :id"
    read = (await house.sql(looks, id=id_))[0].n
    await house.sql(
        "UPDATE console_sessions SET revealed = replace(revealed::text, '20', '19')::jsonb WHERE revealed <> '{}'"
    )
    # It is masked without a hand on it, and what renews itself was no look.
    await expect(page.locator("#patient")).not_to_contain_text("Jane")
    await expect(page.get_by_role("button", name="Show the patient")).to_be_visible()
    assert (await house.sql(looks, id=id_))[0].n == read


async def test_without_scripts_it_is_masked_in_time(
    house: House, visit: Visit, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = await completed(house, "ELIGIBLE-masked")
    seen = await visit("operations", "phi")
    async with await as_a_client(seen) as client:
        token = csrf_of(await client.get("/console/account"))
        where = f"/console/verifications/{id_}"
        assert "refresh" not in (await client.get(where)).text.partition("</head>")[0]
        shown = await client.post(f"{where}/reveal", data={"csrf": token, "reason": "billing"}, follow_redirects=True)
        told = re.search(r'<noscript><meta http-equiv="refresh" content="(\d+); url=(.+)"></noscript>', shown.text)
        assert "Jane" in shown.text and told and told[2] == where and 560 < int(told[1]) <= 602
        for path in ("/raw?exchange=1", "/print"):
            seconds, _, url = (await client.get(where + path)).headers["refresh"].partition("; url=")
            assert 560 < int(seconds) <= 602 and url in (where, f"{where}/raw")
    monkeypatch.setattr("covergate.console.page._seconds_to", lambda _: 1)
    state = await seen.context.storage_state()
    async with watched(browser, seen.url, java_script_enabled=False, storage_state=state) as plain:
        page = await opened(plain, id_)
        await expect(page.locator("#patient")).to_contain_text("Jane Sample")
        await house.sql("UPDATE console_sessions SET revealed = '{}'")
        await expect(page.get_by_role("button", name="Show the patient")).to_be_visible()


async def test_what_renews_itself_reads_no_phi(house: House, visit: Visit) -> None:
    id_ = await completed(house, "ELIGIBLE-renewed")
    seen = await visit("operations", "phi")
    await revealed(await opened(seen, id_))
    looks = "SELECT count(*) AS n FROM audit_events WHERE subject_id = :id"
    before = (await house.sql(looks, id=id_))[0].n
    async with await as_a_client(seen) as client:
        for target, status in (("happened", 200), ("ended", 200), ("patient", 204)):
            headers = {"X-Live": "1", "HX-Request": "true", "HX-Target": target}
            part = await client.get(f"/console/verifications/{id_}", headers=headers)
            assert part.status_code == status
            assert "Jane" not in part.text
    assert (await house.sql(looks, id=id_))[0].n == before


async def test_a_reason_is_demanded(house: House, visit: Visit) -> None:
    id_ = await completed(house, "ELIGIBLE-reason")
    seen = await visit("operations", "phi")
    page = await opened(seen, id_)
    token = await page.locator("body").get_attribute("data-csrf")
    async with await as_a_client(seen) as client:
        for reason in ("", "curiosity"):
            refused = await client.post(f"/console/verifications/{id_}/reveal", data={"csrf": token, "reason": reason})
            assert refused.status_code == 422
            assert "choose one of the reasons" in refused.text


async def test_who_may_not_see_patients_has_no_form(house: House, visit: Visit) -> None:
    id_ = await completed(house, "ELIGIBLE-noform")
    seen = await visit("operations")
    page = await opened(seen, id_)
    await expect(page.locator("#patient")).to_contain_text("Your roles do not show patients.")
    await expect(page.get_by_role("button", name="Show the patient")).to_have_count(0)
    token = await page.locator("body").get_attribute("data-csrf")
    async with await as_a_client(seen) as client:
        refused = await client.post(f"/console/verifications/{id_}/reveal", data={"csrf": token, "reason": "billing"})
        assert refused.status_code == 403
        raw = await client.get(f"/console/verifications/{id_}/raw")
        assert raw.status_code == 403


async def test_a_tenants_staff_sees_its_own_alone(house: House, visit: Visit) -> None:
    await create_key(house.gateway, tenant="Clinic South", mode="test", scopes=["verifications:read"])
    id_ = await completed(house, "ELIGIBLE-own")
    own = await opened(await visit(*STAFF, tenant="Clinic North"), id_)
    await expect(own.locator(".sentence")).to_contain_text("answered: eligible")
    await expect(own.locator("body")).not_to_contain_text("ELIGIBLE-own")
    await expect(own.get_by_role("heading", name="Who looked at it")).to_have_count(0)
    await expect(own.get_by_role("button", name="Deliver again")).to_have_count(0)
    seen = await visit(*STAFF, tenant="Clinic South")
    foreign = await opened(seen, id_)
    await expect(foreign.locator("h1")).to_have_text("Not found")
    token = await foreign.locator("body").get_attribute("data-csrf") or ""
    live = await visit(*STAFF, tenant="Clinic North", mode="live")
    await expect((await opened(live, id_)).locator("h1")).to_have_text("Not found")
    before = await house.read(id_)
    async with await as_a_client(seen) as client:
        token = csrf_of(await client.get("/console/account"))
        for path, status in (("", 404), ("/raw", 404), ("/print", 404)):
            assert (await client.get(f"/console/verifications/{id_}{path}")).status_code == status
        for path, status in (
            ("/cancel", 404),
            ("/ask-again", 404),
            ("/reveal", 404),
            ("/resolve", 403),
            ("/redeliver", 403),
        ):
            data = {"csrf": token, "reason": "billing", "action": "give_up", "delivery": "dlv_x"}
            assert (await client.post(f"/console/verifications/{id_}{path}", data=data)).status_code == status, path
    assert await house.read(id_) == before


async def test_what_is_no_id_is_not_found(house: House, visit: Visit) -> None:
    seen = await visit("operations")
    for id_ in ("ver_00000000000000000000000000", "nonsense", "%00"):
        page = await opened(seen, id_)
        await expect(page.locator("h1")).to_have_text("Not found")


async def revealed(page: Page) -> Page:
    await page.get_by_label("Why").select_option("patient_care")
    await page.get_by_role("button", name="Show the patient").click()
    await expect(page.locator("#message")).to_contain_text("shown for 10 minutes")
    return page


@pytest.mark.parametrize("vendor", ["integrex", "sohar", "vsee", "healthie", "health_harbor"])
async def test_each_number_leads_to_its_place_in_the_raw_reply(house: House, visit: Visit, vendor: str) -> None:
    id_ = await house.create(vendor, f"ELIGIBLE-{vendor}")
    await house.receiver.end_of(id_)
    seen = await visit("operations", "phi")
    page = await revealed(await opened(seen, id_))
    await accessible(page)
    amounts = page.get_by_role("table", name="Deductible, out-of-pocket").locator("a[title]")
    also = (
        "one => [...(one.nextElementSibling?.querySelectorAll('a') ?? [])].map((other) => other.getAttribute('href'))"
    )
    wanted = [
        (await one.inner_text(), [await one.get_attribute("href") or "", *await one.evaluate(also)])
        for one in await amounts.all()
    ]
    wanted = [(words, addresses) for words, addresses in wanted if numbers_in(words)]
    assert len(wanted) >= 2
    async with await as_a_client(seen) as client:
        for words, addresses in wanted:
            marked = [number_at(await client.get(address)) for address in addresses]
            (number,) = numbers_in(words)
            # As it stands, a share as a fraction, or what is left of a total: then both places are told.
            stated = {*marked, *(100 * one for one in marked), *(one - other for one in marked for other in marked[1:])}
            assert number in stated, (words, marked)
        for heading, name in (("coverage", "Coverage"), ("bill", "Payer"), ("bill", "Its id")):
            fact = page.locator(f"#{heading}-heading ~ dl dt", has_text=re.compile(f"^{name}$")).locator("+ dd")
            if vendor == "health_harbor" and heading == "bill":
                # Its reply names no payer.
                await expect(fact).to_contain_text("(as asked)")
                continue
            raw = await client.get(await fact.locator("a[title]").get_attribute("href") or "")
            assert '<mark id="here">' in raw.text, (heading, name)
    await page.goto(seen.url + wanted[0][1][0])
    await expect(page.locator("mark#here")).to_be_in_viewport()
    await accessible(page)
    if vendor == "integrex":
        await picture(page, "verification-raw")


def number_at(raw: httpx.Response) -> float:
    """What is marked."""
    assert raw.status_code == 200
    marked = unescape(raw.text.partition('<mark id="here">')[2].partition("</mark>")[0])
    return numbers_in(marked.partition(": ")[2])[0]


def numbers_in(text: str) -> list[float]:
    return [float(one.replace(",", "")) for one in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


async def test_one_page_to_file(house: House, visit: Visit) -> None:
    id_ = await completed(house, "ELIGIBLE-print")
    seen = await visit("operations", "phi")
    page = await opened(seen, id_)
    await page.goto(f"{seen.url}/console/verifications/{id_}/print")
    await expect(page.locator("#message")).to_contain_text("show the patient first")
    await page.goto(f"{seen.url}/console/verifications/{id_}/raw?exchange=1")
    await expect(page.locator("#message")).to_contain_text("show the patient first")
    await revealed(page)
    await page.get_by_role("link", name="One page to print and file").click()
    await expect(page.locator("h1")).to_have_text("Eligible")
    await expect(page.locator("header")).to_contain_text("Jane Sample")
    await expect(page.locator("ol")).to_contain_text("Send the claim to the payer that is to be billed")
    assert re.findall(r"(?<!ver)_[a-z]\w*", await page.inner_text("body")) == []
    assert "Jane" not in page.url + await page.title()
    await accessible(page)
    rows = await house.sql(
        "SELECT 1 FROM audit_events WHERE action = 'verification.answers' AND subject_id = :id", id=id_
    )
    assert len(rows) == 1


async def test_a_wrong_address_of_a_reply_is_told(house: House, visit: Visit) -> None:
    id_ = await completed(house, "ELIGIBLE-wrong")
    seen = await visit("operations", "phi")
    page = await revealed(await opened(seen, id_))
    for query, said in (
        ("exchange=77", "There is no such reply"),
        ("exchange=x", "This part of the address cannot be used: exchange."),
        ("exchange=1&at=/body/nowhere", "is not in this reply"),
        ("exchange=1&at=<script>", "is not in this reply"),
    ):
        await page.goto(f"{seen.url}/console/verifications/{id_}/raw?{query}")
        await expect(page.locator("main")).to_contain_text(said)


async def test_it_fits_a_phone(house: House, visit: Visit) -> None:
    id_ = await completed(house, "ELIGIBLE-phone")
    page = await revealed(await opened(await visit("operations", "phi"), id_))
    await page.set_viewport_size({"width": 390, "height": 800})
    assert await page.evaluate("document.documentElement.scrollWidth") == 390
    await page.emulate_media(color_scheme="dark")
    await accessible(page)


async def test_it_can_be_read_and_worked_with_without_scripts(house: House, visit: Visit) -> None:
    id_ = await house.create("sohar", "NEVER-plain")
    await house.happens(id_, "submitted")
    seen = await visit("operations")
    async with await as_a_client(seen) as client:
        token = csrf_of(await client.get("/console/account"))
        read = await client.get(f"/console/verifications/{id_}")
        assert "Waits for Sohar since" in read.text
        assert "The vendor&#39;s work is not recalled" in read.text
        assert "<svg" in read.text
        assert " style=" not in read.text
        done = await client.post(f"/console/verifications/{id_}/cancel", data={"csrf": token, "action": "cancel"})
        assert (done.status_code, done.headers["location"]) == (303, f"/console/verifications/{id_}?done=cancel")


async def test_an_ended_one_is_asked_again_with_corrections_once(house: House, visit: Visit) -> None:
    id_ = await house.create("sohar", "BADMEMBER-again")
    await house.receiver.end_of(id_)
    seen = await visit("operations")
    first, second = await opened(seen, id_), await opened(seen, id_)
    for page in (first, second):
        await page.get_by_text("Ask again …").click()
        await page.get_by_label("Member id").fill("ELIGIBLE-corrected")
    await expect(first.get_by_label("Date of birth")).to_have_count(0)
    await accessible(first)
    await first.get_by_role("button", name="Ask again now").click()
    await expect(first.locator("#message")).to_contain_text("This is the new verification.")
    new = first.url.partition("/verifications/")[2].partition("?")[0]
    assert new != id_
    assert "ELIGIBLE-corrected" not in first.url
    end = await house.receiver.end_of(new)
    assert end["data"]["outcome"] == "eligible"
    shown = await house.read(new)
    assert (shown["retry_of"], shown["inquiry"]["patient"]["member_id"]) == (id_, "ELIGIBLE-corrected")
    await second.get_by_role("button", name="Ask again now").click()
    await expect(second.locator("#message")).to_contain_text("it was asked again meanwhile")
    await expect(second.get_by_role("table", name="The same question, asked again")).to_contain_text(new)
    assert len(await house.sql("SELECT 1 FROM verifications WHERE retry_of = :id", id=id_)) == 1


async def test_a_correction_that_cannot_be_used_is_told_without_its_value(house: House, visit: Visit) -> None:
    id_ = await completed(house, "ELIGIBLE-uncorrected")
    page = await revealed(await opened(await visit("operations", "phi"), id_))
    await page.get_by_text("Ask again …").click()
    await page.get_by_label("Provider's NPI").fill("4711")
    await page.get_by_label("Date of birth").fill("1991-01-01")
    await page.get_by_role("button", name="Ask again now").click()
    await expect(page.locator("#problem")).to_contain_text("/provider/npi cannot be used")
    await expect(page.locator("#problem")).not_to_contain_text("4711")
    assert await house.sql("SELECT 1 FROM verifications WHERE retry_of = :id", id=id_) == []


async def test_what_the_vendor_has_goes_on_under_its_reference(house: House, visit: Visit) -> None:
    id_ = await waits_for_a_person(house, "DROPREPLY-found")
    ref = next(one["ref"] for one in await house.submissions() if one["member_id"] == "DROPREPLY-found")
    page = await opened(await visit("operations"), id_)
    await page.get_by_text("Say that the vendor has it …").click()
    await page.get_by_label("The vendor's reference").fill(ref)
    await page.get_by_role("button", name="Say that the vendor has it now").click()
    await expect(page.locator("#message")).to_contain_text("The vendor is asked for it under that reference.")
    assert (await house.settled(id_))["outcome"] == "eligible"
