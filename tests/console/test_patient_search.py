"""Verifications found by their patient: for those who may see patients, by a posted form, audited, without PHI on the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from covergate.access.api_keys import create_key
from covergate.access.operators import find_tenant
from covergate.access.quotas import searches_policy
from tests.console.browser import Visit, accessible
from tests.console.visitors import Visitor, links_of, visiting, words_of
from tests.e2e.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")

SEARCH = "/verifications/search"


async def searches(house: House, actor: str) -> Sequence[Any]:
    return await house.sql(
        "SELECT subject_id, outcome, reason, tenant_id, mode FROM audit_events"
        " WHERE action = 'verification.search' AND actor_id = :actor ORDER BY id",
        actor=actor,
    )


async def found_by(visitor: Visitor, **typed: str) -> list[str]:
    answer = await visitor.send(SEARCH, reason="support", **typed)
    assert answer.status_code == 200, words_of(answer)
    return [path.rpartition("/")[2] for path in links_of(answer).values() if "/verifications/ver_" in path]


async def test_a_tenants_person_finds_by_member_id_and_birth_date(house: House) -> None:
    id_ = await house.create("sohar", "ELIGIBLE-77-ab")
    await house.create("sohar", "ELIGIBLE-78")
    [born] = {row["patient"]["date_of_birth"] for row in [await inquiry_of(house, id_)]}
    async with visiting(house, "staff", tenant="Clinic North", actor="gina") as gina:
        assert await found_by(gina, member_id=" eligible 77AB ") == [id_]
        assert await found_by(gina, member_id="ELIGIBLE-77-ab", date_of_birth=born) == [id_]
        assert await found_by(gina, member_id="ELIGIBLE-77-ab", date_of_birth="1901-01-01") == []
        answer = await gina.send(SEARCH, reason="billing", member_id="ELIGIBLE-77-ab")
        assert "ELIGIBLE" not in answer.text.upper().replace("ELIGIBLE</SPAN>", "") and "77-ab" not in answer.text
        assert "Jane" not in answer.text and answer.headers["cache-control"] == "no-store"
    rows = await searches(house, "gina")
    told = [(row.subject_id, row.outcome, row.reason, row.mode) for row in rows]
    assert told == [
        (id_, "allowed", "support", "test"),
        (id_, "allowed", "support", "test"),
        (None, "not_found", "support", "test"),
        (id_, "allowed", "billing", "test"),
    ]
    assert {row.tenant_id is None for row in rows} == {False}


async def inquiry_of(house: House, id_: str) -> dict[str, Any]:
    answer = await house.client.get(f"/v1/verifications/{id_}")
    inquiry: dict[str, Any] = answer.json()["inquiry"]
    return inquiry


async def test_an_operator_names_the_tenant_and_another_one_finds_nothing(house: House) -> None:
    id_ = await house.create("sohar", "ELIGIBLE-79")
    await create_key(house.gateway, tenant="Clinic South", mode="test", scopes=["verifications:read"])
    async with visiting(house, "operations", "phi", actor="hugo") as hugo:
        assert await found_by(hugo, member_id="ELIGIBLE-79", tenant="Clinic North") == [id_]
        assert await found_by(hugo, member_id="ELIGIBLE-79", tenant="Clinic South") == []
        answer = await hugo.send(SEARCH, reason="support", member_id="ELIGIBLE-79")
        assert answer.status_code == 422 and "tenant name whose patient it is" in words_of(answer)
    async with visiting(house, "staff", tenant="Clinic South") as other:
        assert await found_by(other, member_id="ELIGIBLE-79") == []
        answer = await other.send(SEARCH, reason="support", member_id="ELIGIBLE-79", tenant="Clinic North")
        assert answer.status_code == 422


async def test_without_the_role_or_a_reason_nothing_is_looked_for(
    house: House, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for roles, tenant in (
        (("operations",), None),
        (("webhooks",), "Clinic North"),
        (("administrator",), "Clinic North"),
    ):
        async with visiting(house, *roles, tenant=tenant, actor="ines") as ines:
            assert (await ines.get(SEARCH)).status_code == 403
            answer = await ines.send(SEARCH, reason="support", member_id="M-SECRET", tenant="Clinic North")
            assert answer.status_code == 403
            assert "Find by patient" not in (await ines.get("/verifications")).text
    async with visiting(house, "staff", tenant="Clinic North", actor="ines") as ines:
        assert "Find by patient" in await ines.text("/verifications")
        for fields, said in (
            ({"member_id": "M-SECRET"}, "choose one of the reasons"),
            ({"member_id": "M-SECRET", "reason": "curiosity"}, "choose one of the reasons"),
            ({"reason": "support"}, "member_id must have 1 to 100 characters"),
            ({"reason": "support", "member_id": "M-SECRET" * 20}, "member_id must have 1 to 100 characters"),
            ({"reason": "support", "member_id": "M-SECRET", "date_of_birth": "M-SECRET"}, "must be a date like"),
        ):
            answer = await ines.send(SEARCH, **fields)
            assert answer.status_code == 422 and said in words_of(answer), fields
            assert "M-SECRET" not in answer.text
    assert not await searches(house, "ines")
    logged = "".join(log.read_text() for log in tmp_path_factory.getbasetemp().glob("logs*/console.log"))
    assert SEARCH in logged and "M-SECRET" not in logged


async def test_searches_take_from_the_bucket_of_the_tenant(house: House) -> None:
    """Member ids are not to be guessed any faster here than by the API."""
    policy, quotas = searches_policy(house.gateway.settings), house.app.state.limits.quotas
    async with house.gateway.connection() as db:
        north = await find_tenant(db, "Clinic North")
    async with visiting(house, "operations", "phi") as guesser:
        assert await found_by(guesser, member_id="NOBODY-1", tenant="Clinic North") == []
        quotas.owe(policy, north, 2 * policy.quota)
        answer = await guesser.send(SEARCH, reason="support", member_id="NOBODY-2", tenant="Clinic North")
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
    assert (await house.client.get("/v1/verifications")).status_code == 429
    quotas._buckets.clear()
    await house.sql("DELETE FROM quotas")


async def test_the_page_is_accessible(house: House, visit: Visit) -> None:
    id_ = await house.create("sohar", "ELIGIBLE-80")
    page = await (await visit("operations", "phi")).page(f"/console{SEARCH}")
    await accessible(page)
    await page.get_by_label("Tenant (id or name)").fill("Clinic North")
    await page.get_by_label("Member id").fill("eligible-80")
    await page.get_by_label("Why").select_option("support")
    await page.get_by_role("button", name="Find").click()
    await page.get_by_role("link", name=id_[-8:]).wait_for()
    assert page.url.endswith(SEARCH)
    await accessible(page)
