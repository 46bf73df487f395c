"""A look at what waits for its vendor, now instead of later: once, disturbing nothing, by those who may."""

from __future__ import annotations

from dataclasses import replace

import pytest

from covergate.errors import Problem
from covergate.verifications.look_now import look_now
from tests.support.engine import Engine
from tests.support.gateways import CALLER, OTHER_TENANT


async def audited(engine: Engine) -> list[str]:
    rows = await engine.rows("SELECT subject_id FROM audit_events WHERE action = 'verification.look_now' ORDER BY id")
    return [row.subject_id for row in rows]


async def standing(engine: Engine, id_: str) -> tuple[int, bool, str]:
    """Its step, whether the next one is due, and for what it waits."""
    [row] = await engine.rows(
        "SELECT step, due_at <= now() AS due, waiting_for FROM work WHERE verification_id = :id", id=id_
    )
    return row.step, row.due, row.waiting_for


async def waiting(engine: Engine) -> str:
    id_ = await engine.create()
    await engine.step(id_)
    await engine.run_sql(
        "UPDATE work SET due_at = now() + interval '1 hour', next_check_at = now() + interval '1 hour'"
    )
    return id_


async def test_the_next_look_is_due_at_once_and_only_once(engine: Engine) -> None:
    id_ = await waiting(engine)
    since = (await engine.view(id_))["waiting_for"]["since"]
    timeline = await engine.timeline(id_)
    step, due, waits = await standing(engine, id_)
    assert (due, waits) == (False, "vendor")
    assert await look_now(engine.gateway, CALLER, id_)
    assert await standing(engine, id_) == (step + 1, True, "vendor")
    # A second one moves nothing: nobody's look is made in vain.
    assert await look_now(engine.gateway, CALLER, id_)
    assert await standing(engine, id_) == (step + 1, True, "vendor")
    assert (await engine.view(id_))["waiting_for"]["since"] == since
    assert await engine.timeline(id_) == timeline
    assert await audited(engine) == [id_, id_]


async def test_a_look_that_is_being_made_is_not_disturbed(engine: Engine) -> None:
    id_ = await waiting(engine)
    assert await look_now(engine.gateway, CALLER, id_)
    claimed = await engine.take(id_)
    before = await standing(engine, id_)
    assert await look_now(engine.gateway, CALLER, id_)
    assert await standing(engine, id_) == before
    await engine.advance(claimed)
    assert "checked" in await engine.timeline(id_) or (await engine.view(id_))["completed_at"]


@pytest.mark.parametrize("waits", ["operator", "hold", "circuit", "credentials", "rate_limit", "vendor_retry"])
async def test_what_waits_for_something_else_stays(engine: Engine, waits: str) -> None:
    id_ = await waiting(engine)
    await engine.run_sql("UPDATE work SET waiting_for = :waits", waits=waits)
    before = await standing(engine, id_)
    assert not await look_now(engine.gateway, CALLER, id_)
    assert await standing(engine, id_) == before
    assert await audited(engine) == []


async def test_what_was_not_submitted_or_has_ended_stays(engine: Engine) -> None:
    id_ = await waiting(engine)
    for state in ("preparing", "submitting"):
        await engine.run_sql("UPDATE work SET state = :state", state=state)
        before = await standing(engine, id_)
        assert not await look_now(engine.gateway, CALLER, id_)
        assert await standing(engine, id_) == before
    await engine.run_sql("UPDATE work SET state = 'waiting', due_at = now(), next_check_at = now()")
    await engine.run_all()
    assert (await engine.view(id_))["completed_at"]
    assert not await look_now(engine.gateway, CALLER, id_)


async def test_anothers_is_not_found(engine: Engine) -> None:
    id_ = await waiting(engine)
    before = await standing(engine, id_)
    for caller in (replace(CALLER, within_tenant=OTHER_TENANT), replace(CALLER, within_mode="live")):
        with pytest.raises(Problem) as refused:
            await look_now(engine.gateway, caller, id_)
        assert refused.value.code == "not_found"
    with pytest.raises(Problem):
        await look_now(engine.gateway, CALLER, "Jane")
    assert await standing(engine, id_) == before
