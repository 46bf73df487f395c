"""Accepting many at once: together in one transaction, each answered for itself, equal keys one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.sealing import GATEWAY
from covergate.db.sql import Record
from covergate.eligibility.inquiry import Payer
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.payers.directory import Named
from covergate.verifications import create
from covergate.verifications.checks import Intake
from covergate.verifications.create import Acceptance
from covergate.verifications.request import CreateVerification
from tests.support.engine import Engine
from tests.support.gateways import CALLER, TENANT
from tests.support.requests import REQUEST
from tests.support.sql import run_sql

SUBSCRIBER = {
    "patient_relationship": "spouse",
    "first_name": "John",
    "last_name": "Sample",
    "date_of_birth": "1980-01-31",
    "ssn": "123456789",
}


def request(**changes: Any) -> CreateVerification:
    return CreateVerification.model_validate({**REQUEST, **changes})


async def together(acceptance: Acceptance, *asked: tuple[CreateVerification, str | None]) -> list[Any]:
    calls = (acceptance.create(CALLER, body, key) for body, key in asked)
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_many_at_once_are_few_transactions(engine: Engine) -> None:
    acceptance = Acceptance(engine.gateway)
    created = await together(acceptance, *((request(external_id=f"visit-{n}"), None) for n in range(40)))
    assert len({one.id for one in created}) == 40
    rows = await engine.rows(
        "SELECT external_id, v.xmin::text AS transaction, w.xmin::text AS due_since, route, w.not_asked"
        " FROM verifications v JOIN work w ON w.verification_id = v.id"
    )
    assert {row.external_id for row in rows} == {f"visit-{n}" for n in range(40)}
    assert len({row.transaction for row in rows}) < 10
    assert all(row.transaction == row.due_since for row in rows)
    assert all(row.route == [] and "/subscriber" not in row.not_asked for row in rows)
    assert sorted(await engine.due()) == sorted(one.id for one in created)
    assert [row.row["not_asked"] for row in created] == [rows[0].not_asked] * 40


async def test_equal_keys_at_once_create_one_and_tell_the_others(engine: Engine) -> None:
    acceptance = Acceptance(engine.gateway)
    created = await together(acceptance, *((request(), "the same key") for _ in range(5)), (request(), "another key"))
    assert len({one.id for one in created[:5]}) == 1
    assert sorted(one.replayed for one in created) == [False, False, True, True, True, True]
    assert len(await engine.rows("SELECT 1 FROM verifications")) == 2


async def test_equal_keys_with_other_bodies(engine: Engine) -> None:
    acceptance = Acceptance(engine.gateway)
    asked = await together(acceptance, (request(), "k"), (request(external_id="visit-2"), "k"))
    # Either may come first.
    (refused,) = [one for one in asked if isinstance(one, Problem)]
    (created,) = [one for one in asked if one is not refused]
    assert not created.replayed
    assert refused.code == "idempotency_key_reused"


async def test_one_row_that_postgresql_refuses_keeps_no_other_out(engine: Engine, gateway: Gateway) -> None:
    await run_sql(
        gateway, "ALTER TABLE verifications ADD CONSTRAINT not_this_one CHECK (external_id IS DISTINCT FROM 'bad')"
    )
    acceptance = Acceptance(gateway)
    asked = [(request(external_id="bad" if n == 3 else f"visit-{n}"), None) for n in range(8)]
    created = await together(acceptance, *asked)
    assert isinstance(created[3], asyncpg.CheckViolationError)
    assert len({one.id for n, one in enumerate(created) if n != 3}) == 7
    assert len(await engine.rows("SELECT 1 FROM verifications")) == 7


async def test_what_one_turn_has_created_stays_created_if_the_next_is_refused(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two equal keys make two turns, and the second fails: it alone gets the error."""
    turns = 0
    insert = create.insert_all

    async def refused_at_first(db: AsyncConnection, rows: Sequence[dict[str, Any]]) -> dict[str, Record]:
        nonlocal turns
        turns += 1
        if turns == 2:
            raise ValueError("refused")
        return await insert(db, rows)

    monkeypatch.setattr(create, "insert_all", refused_at_first)
    acceptance = Acceptance(engine.gateway)
    # Else the first to ask for the tenant's keys would be accepted before the others are there.
    await engine.gateway.meet(TENANT, GATEWAY)
    *created, refused = await together(
        acceptance, (request(), None), (request(), "the same key"), (request(), "the same key")
    )
    assert len({one.id for one in created}) == 2
    assert isinstance(refused, ValueError)
    assert len(await engine.rows("SELECT 1 FROM verifications")) == 2


@pytest.mark.parametrize(
    "named",
    [None, Named(Payer(id="60054", name="Aetna", directory_id="pyr_01"))],
    ids=["as it was sent", "completed by the directory"],
)
@pytest.mark.parametrize("service", [{}, {"date": "2026-12-01", "specialty": "PSY"}], ids=["undated", "dated"])
def test_the_json_that_is_sealed_is_that_of_the_inquiry(named: Named | None, service: dict[str, Any]) -> None:
    sent = request(subscriber=SUBSCRIBER, service=service)
    intake = Intake.of(CALLER, sent, named, datetime.now(UTC))
    assert intake.stated == intake.inquiry.model_dump(mode="json")
    assert intake.body == sent.model_dump(mode="json")
