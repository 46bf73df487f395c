"""The directory and its work list: what requests asked for, and what vendors list, until somebody says which payer it is."""

from __future__ import annotations

import re
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import expect

from covergate.payers import store
from covergate.payers.store import Candidate
from covergate.vendors.flow import ListedPayer
from tests.console.browser import Visit, accessible, picture
from tests.console.visitors import visiting, words_of
from tests.e2e.house import REQUEST, House
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def ask(house: House, payer: dict[str, str]) -> Any:
    patient = REQUEST["patient"] | {"member_id": "ELIGIBLE-payers"}
    return await house.client.post(
        "/v1/verifications", json={**REQUEST, "vendor": "sohar", "patient": patient, "payer": payer}
    )


@pytest_asyncio.fixture(loop_scope="session")
async def candidate(house: House) -> Candidate:
    """A doubtful row of a vendor's list."""
    listed = ListedPayer("Aetna of the Moon", {"payer_code": "moon-1"}, "MOON1", ())
    found = Candidate("pyc_01jd7k46mte0r9m2zn4x8b6wqg", "sohar", "test", listed, ())
    async with house.gateway.transaction() as db:
        await store.replace_candidates(db, "sohar", "test", [found])
    return found


async def written(house: House, value: str) -> None:
    async def seen() -> bool:
        await house.app.state.unresolved.write()
        return bool(await house.sql("SELECT 1 FROM unresolved_payers WHERE value = :value", value=value))

    await eventually(seen, what=value)


async def test_what_requests_asked_for_is_attached_and_then_understood(house: House, visit: Visit) -> None:
    refused = await ask(house, {"name": "Moonlight Mutual"})
    assert refused.status_code == 422
    await written(house, "Moonlight Mutual")
    page = await (await visit("operations")).page("/console/payers?q=Aetna")
    await accessible(page)
    await picture(page, "payers")
    aetna = await page.locator("#directory ~ div small").first.inner_text()
    other = await (await visit("operations")).page("/console/payers")
    for one in (page, other):
        await one.get_by_role("button", name="payer for Moonlight Mutual").click()
        await one.get_by_label("Name, alias").fill("no such payer")
        await one.get_by_role("button", name="Find", exact=True).click()
        await expect(one.locator("main")).to_contain_text("Nothing was found.")
        await one.get_by_label("Name, alias").fill("60054")
        await one.get_by_role("button", name="Find", exact=True).click()
        await one.get_by_label("Aetna 60054").check()
    assert "Moonlight" not in page.url
    await accessible(page)
    await page.get_by_role("button", name="It is this one").click()
    await expect(page.locator("#message")).to_contain_text("means that payer")
    await other.get_by_role("button", name="It is this one").click()
    await expect(other.locator("#message")).to_contain_text("Somebody else was faster")
    assert len(await house.sql("SELECT 1 FROM audit_events WHERE action = 'payer.attach'")) == 1
    assert await house.sql("SELECT 1 FROM audit_events WHERE action = 'payer.attach' AND subject_id = :id", id=aetna)

    async def understood() -> bool:
        return bool((await ask(house, {"name": "Moonlight Mutual"})).status_code == 202)

    await eventually(understood, 20, what="the new name")


async def test_what_could_be_a_patients_own_is_not_kept(house: House) -> None:
    await ask(house, {"name": "Sample Family Fund"})
    await ask(house, {"name": "Payer of ELIGIBLE-payers"})
    await ask(house, {"name": "Kept Mutual"})
    await written(house, "Kept Mutual")
    assert (
        await house.sql("SELECT 1 FROM unresolved_payers WHERE value LIKE 'Sample%' OR value LIKE '%ELIGIBLE%'") == []
    )


async def test_a_doubtful_row_is_ignored_and_stays_so(house: House, visit: Visit, candidate: Candidate) -> None:
    page = await (await visit("operations")).page("/console/payers")
    await page.get_by_role("button", name="Ignore Aetna of the Moon").click()
    await expect(page.locator("#message")).to_contain_text("off the list")
    async with house.gateway.transaction() as db:
        await store.replace_candidates(db, "sohar", "test", [candidate])
    await page.reload()
    await expect(page.get_by_text("Aetna of the Moon")).to_have_count(0)
    await house.sql("DELETE FROM payer_candidates")


async def test_a_doubtful_row_becomes_a_new_payer_once(house: House, visit: Visit, candidate: Candidate) -> None:
    page = await (await visit("operations")).page("/console/payers")
    other = await (await visit("operations")).page("/console/payers")
    await page.get_by_role("button", name="Aetna of the Moon is a new payer").click()
    await expect(page.locator("#message")).to_contain_text("linked")
    await other.get_by_role("button", name="Aetna of the Moon is a new payer").click()
    await expect(other.locator("#message")).to_contain_text("Somebody else was faster")


async def test_a_doubtful_row_is_linked_to_a_payer_that_was_searched_for(house: House, candidate: Candidate) -> None:
    path = f"/payers/candidates/{candidate.id}"
    async with visiting(house, "operations") as operator:
        found = await operator.send(path, do="find")
        assert "Which payer is “Aetna of the Moon”?" in words_of(found)
        found = await operator.send(path, do="find", q="60054")
        payer_id = re.findall(r'name="payer" value="(pyr_\w+)"', found.text)[0]
        assert "Choose a payer." in words_of(await operator.send(path, do="link"))
        assert "no such payer" in words_of(await operator.send(path, do="link", payer="pyr_nobody"))
        linked = await operator.send(path, do="link", payer=payer_id)
        assert linked.headers["location"] == "/console/payers?done=linked"
        for do in ("find", "link", "new", "ignore"):
            again = await operator.send(path, do=do, payer=payer_id)
            assert again.headers["location"] == "/console/payers?done=gone", do
    names = await house.sql(
        "SELECT 1 FROM payer_names WHERE payer_id = :id AND value = 'Aetna of the Moon'", id=payer_id
    )
    assert len(names) == 1


async def test_it_fits_a_phone(visit: Visit, candidate: Candidate) -> None:
    page = await (await visit("operations")).page("/console/payers?q=a")
    await page.set_viewport_size({"width": 390, "height": 800})
    await page.emulate_media(color_scheme="dark")
    assert await page.evaluate("document.documentElement.scrollWidth") == 390
    await accessible(page)


async def test_a_tenants_people_do_not_see_it(visit: Visit) -> None:
    page = await (await visit("staff", "administrator", tenant="Clinic North")).page("/console/payers")
    await expect(page.get_by_role("heading")).to_have_text("You may not do this")
