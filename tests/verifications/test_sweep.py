"""The safety net: leases that end, missed deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.queue import LEASE_SECONDS
from covergate.db.sealing import Sealer
from covergate.verifications.commit import apply
from covergate.verifications.model import Change
from tests.support.engine import Engine
from tests.support.sweeps import sweep


async def test_a_step_whose_lease_ends_is_claimed_by_another(engine: Engine) -> None:
    """No sweep is needed for it."""
    id_ = await engine.create()
    lost = await engine.take()
    assert await engine.due() == []  # it may still be under way
    [left] = await engine.rows("SELECT extract(epoch FROM due_at - clock_timestamp()) AS seconds FROM work")
    assert LEASE_SECONDS - 5 < left.seconds <= LEASE_SECONDS
    await engine.end_leases()
    assert await sweep(engine.gateway) == 0
    assert await engine.due() == [id_]
    claimed = await engine.take()
    assert claimed.step > lost.step
    assert await engine.due() == []


async def test_a_late_verification_is_closed_whoever_has_claimed_it(engine: Engine) -> None:
    id_ = await engine.create()
    await engine.take()
    await engine.run_sql("UPDATE work SET due_at = now(), next_check_at = now(), deadline = now()")
    assert sum(await asyncio.gather(*(sweep(engine.gateway) for _ in range(4)))) == 1
    assert (await engine.view(id_))["failure"]["code"] == "deadline_exceeded"
    assert await engine.events() == ["verification.failed"]


async def test_what_is_not_due_is_left_alone(engine: Engine) -> None:
    await engine.create()
    await engine.step()
    assert await sweep(engine.gateway) == 0
    assert len(await engine.due()) == 1


async def test_one_that_cannot_be_closed_does_not_keep_the_others_open(engine: Engine) -> None:
    ids = [await engine.create() for _ in range(5)]
    await engine.run_sql("UPDATE work SET due_at = now(), next_check_at = now(), deadline = now()")
    await engine.run_sql(
        f"""
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF new.id = '{ids[2]}' THEN RAISE 'not this one'; END IF; RETURN new; END $$"""
    )
    await engine.run_sql("CREATE TRIGGER refuse BEFORE UPDATE ON verifications FOR EACH ROW EXECUTE FUNCTION refuse()")
    assert await sweep(engine.gateway) == 4
    statuses = [(await engine.view(id_))["status"] for id_ in ids]
    assert statuses == ["failed", "failed", "queued", "failed", "failed"]
    assert await engine.events() == ["verification.failed"] * 4


async def test_many_with_one_deadline_are_closed_in_one_sweep(engine: Engine) -> None:
    """Two workers at it close none twice, and nothing of them is due afterwards."""
    for _ in range(60):
        await engine.create()
    await engine.run_sql("UPDATE work SET due_at = now(), next_check_at = now(), deadline = now()")
    assert sum(await asyncio.gather(*(sweep(engine.gateway) for _ in range(2)))) == 60
    assert await engine.events() == ["verification.failed"] * 60
    assert await engine.due() == []


async def test_closed_together_each_ends_as_it_would_alone(engine: Engine) -> None:
    """Its own reason, timeline, attempt and announcement; a step that was under way does nothing."""
    waiting, fresh = await engine.create(), await engine.create(external_id="visit-2", metadata={"clinic": "north"})
    await engine.step()
    claims = [await engine.take(id_) for id_ in (waiting, fresh)]
    await engine.run_sql("UPDATE work SET waiting_for = 'vendor_retry' WHERE verification_id = :id", id=waiting)
    await engine.run_sql("UPDATE work SET due_at = now(), next_check_at = now(), deadline = now()")
    assert await sweep(engine.gateway) == 2
    views = [await engine.view(id_) for id_ in (waiting, fresh)]
    assert [view["failure"]["code"] for view in views] == ["vendor_unavailable", "deadline_exceeded"]
    assert [(await engine.timeline(id_))[-1] for id_ in (waiting, fresh)] == ["failed", "failed"]
    rows = await engine.rows(
        "SELECT v.completed_at, a.state, a.vendor_ref, a.failure_code, a.ended_at, v.exchange_count, e.data"
        " FROM verifications v JOIN attempts a ON a.id = v.attempt_id JOIN events e ON e.verification_id = v.id ORDER BY v.id"
    )
    assert [(row.state, row.failure_code) for row in rows] == [
        ("abandoned", "vendor_unavailable"),
        ("abandoned", "deadline_exceeded"),
    ]
    assert [(row.vendor_ref, row.exchange_count) for row in rows] == [("1234567890987654321", 1), (None, 0)]
    assert all(row.completed_at == row.ended_at for row in rows)
    assert rows[1].data == {
        "id": fresh,
        "external_id": "visit-2",
        "status": "failed",
        "outcome": None,
        "outcome_reason": None,
        "failure_code": "deadline_exceeded",
        "metadata": {"clinic": "north"},
    }
    assert await engine.due() == []
    for claimed in claims:
        await engine.advance(claimed)
    assert await engine.events() == ["verification.failed"] * 2


async def test_what_does_not_close_is_left_behind_not_tried_without_end(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ones that cannot be closed come first at every look."""
    monkeypatch.setattr("covergate.verifications.sweep.CLOSED_TOGETHER", 2)
    ids = [await engine.create() for _ in range(7)]
    await engine.run_sql(
        "UPDATE work SET due_at = now() - interval '1 s', next_check_at = now() - interval '1 s',"
        " deadline = now() - CASE WHEN verification_id = ANY(:first) THEN interval '1 s' ELSE interval '0' END",
        first=ids[:2],
    )
    await engine.run_sql(
        f"""
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF new.id IN ('{ids[0]}', '{ids[1]}') THEN RAISE 'not these'; END IF; RETURN new; END $$"""
    )
    await engine.run_sql("CREATE TRIGGER refuse BEFORE UPDATE ON verifications FOR EACH ROW EXECUTE FUNCTION refuse()")
    assert await sweep(engine.gateway) == 5
    assert [(await engine.view(id_))["status"] for id_ in ids] == ["queued"] * 2 + ["failed"] * 5


async def test_one_whose_follower_is_locked_does_not_keep_the_others_open(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was paused in its transaction may have dozens of followers: each alone is waited for only a moment."""
    waits: list[str] = []

    async def applied(db: AsyncConnection, sealer: Sealer, changes: Sequence[Change]) -> None:
        waits.append((await db.execute(text("SHOW lock_timeout"))).scalar_one())
        await apply(db, sealer, changes)

    monkeypatch.setattr("covergate.verifications.sweep.apply", applied)
    leader, other = await engine.create(), await engine.create()
    follower = await engine.create()
    await engine.run_sql(
        "UPDATE work SET due_at = now(), next_check_at = now(), deadline = now() WHERE verification_id <> :id",
        id=follower,
    )
    await engine.run_sql("UPDATE work SET follows = :leader WHERE verification_id = :id", leader=leader, id=follower)
    async with engine.gateway.transaction() as db:
        await db.execute(text("SELECT FROM work WHERE verification_id = :id FOR UPDATE"), {"id": follower})
        assert await sweep(engine.gateway) == 1
    assert waits == ["3s", "200ms", "200ms"]
    assert [(await engine.view(id_))["status"] for id_ in (leader, other)] == ["queued", "failed"]
    assert await sweep(engine.gateway) == 1
    assert (await engine.view(leader))["status"] == "failed"
