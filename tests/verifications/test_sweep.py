"""The safety net: lost jobs, missed deadlines."""

from __future__ import annotations

import asyncio

from covergate.verifications.sweep import sweep
from tests.verifications.conftest import Engine


async def test_a_lost_job_is_sent_again(engine: Engine) -> None:
    id_ = await engine.create()
    await engine.take()
    assert await sweep(engine.gateway) == 0  # it may still be under way
    await engine.run_sql("UPDATE verifications SET next_check_at = next_check_at - interval '20 s'")
    assert await sweep(engine.gateway) == 1
    assert await engine.jobs() == [f"{id_}:0"]
    assert await sweep(engine.gateway) == 0


async def test_a_late_verification_is_closed_without_a_job(engine: Engine) -> None:
    id_ = await engine.create()
    await engine.take()
    await engine.run_sql("UPDATE verifications SET next_check_at = clock_timestamp(), deadline = clock_timestamp()")
    assert sum(await asyncio.gather(*(sweep(engine.gateway) for _ in range(4)))) == 1
    assert (await engine.view(id_))["failure"]["code"] == "deadline_exceeded"
    assert await engine.events() == ["verification.failed"]


async def test_what_is_not_due_is_left_alone(engine: Engine) -> None:
    await engine.create()
    await engine.step()
    assert await sweep(engine.gateway) == 0
    assert len(await engine.jobs()) == 1


async def test_one_that_cannot_be_closed_does_not_keep_the_others_open(engine: Engine) -> None:
    ids = [await engine.create() for _ in range(5)]
    await engine.run_sql("UPDATE verifications SET next_check_at = clock_timestamp(), deadline = clock_timestamp()")
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
    """More than one transaction takes; two workers at it do not close any twice."""
    for _ in range(60):
        await engine.create()
    await engine.run_sql("UPDATE verifications SET next_check_at = clock_timestamp(), deadline = clock_timestamp()")
    assert sum(await asyncio.gather(*(sweep(engine.gateway) for _ in range(2)))) == 60
    assert await engine.events() == ["verification.failed"] * 60
