"""Rows that somebody has locked keep nobody waiting who need not wait, and nobody for long."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from sqlalchemy import text

from covergate.db.connect import make_engine
from covergate.db.database import Database
from covergate.db.outage import is_away
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.verifications.sweep import close_late
from covergate.webhooks.endpoints import delete_endpoint
from covergate.webhooks.sender import Deliverer
from tests.support.engine import Engine
from tests.support.gateways import CALLER
from tests.support.hooks import Hooks
from tests.support.partner import Partner, answer
from tests.support.waiting import eventually


async def waiting_for_locks(hooks: Hooks) -> int:
    [row] = await hooks.rows(
        "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return int(row.n)


async def test_a_deletion_beside_410s_is_no_deadlock(
    hooks: Hooks, gateway: Gateway, deliverer: Deliverer, partner: Partner
) -> None:
    """The deletion has the endpoint when the answers come, and goes on to the deliveries."""
    await hooks.endpoint(partner.on("/hooks", answer(410)))
    await hooks.publish(times=4)
    claimed = [await hooks.take() for _ in range(4)]
    async with gateway.transaction() as db:
        await db.execute(text("UPDATE webhook_endpoints SET deleted_at = clock_timestamp(), status = 'disabled'"))
        recording = [asyncio.create_task(deliverer.deliver(one)) for one in claimed]

        async def all_wait() -> bool:
            return await waiting_for_locks(hooks) == 4

        await eventually(all_wait)
        await db.execute(
            text(
                "UPDATE deliveries SET status = 'exhausted', step = step + 1, next_attempt_at = NULL, due_at = NULL,"
                " ended_at = clock_timestamp() WHERE status = 'pending'"
            )
        )
    await asyncio.gather(*recording)
    rows = await hooks.rows("SELECT status FROM deliveries")
    assert {row.status for row in rows} == {"exhausted"}


@pytest.mark.parametrize("held", [1, 2], ids=["older", "last"])
async def test_a_deletion_beside_deliveries_that_are_recorded_together_is_no_deadlock(
    hooks: Hooks, gateway: Gateway, deliverer: Deliverer, partner: Partner, held: int
) -> None:
    """The deletion would meet them the other way round, for the older one lies behind the other on the disk."""
    endpoint, _ = await hooks.endpoint(partner.url())
    await hooks.publish(times=3)
    first, older, last = due = await hooks.due()
    claimed = [await hooks.take(id_) for id_ in (first, last, older)]

    async def waiting(number: int) -> None:
        async def so_many() -> bool:
            return await waiting_for_locks(hooks) == number

        await eventually(so_many)

    async with gateway.transaction() as holds_one:
        await holds_one.execute(text("SELECT 1 FROM deliveries WHERE id = :id FOR UPDATE"), {"id": due[held]})
        async with gateway.transaction() as holds_first:
            await holds_first.execute(text("SELECT 1 FROM deliveries WHERE id = :id FOR UPDATE"), {"id": first})
            recording = [asyncio.create_task(deliverer.deliver(claimed[0]))]
            await waiting(1)
            recording += [asyncio.create_task(deliverer.deliver(one)) for one in claimed[1:]]
            await eventually(lambda: len(deliverer._delivered._waiting) == 2)

        async def the_pair_waits() -> bool:
            rows = await hooks.rows("SELECT status FROM deliveries WHERE id = :id", id=first)
            return rows[0].status == "delivered" and await waiting_for_locks(hooks) == 1

        await eventually(the_pair_waits)
        deleting = asyncio.create_task(delete_endpoint(gateway, CALLER, endpoint))
        await waiting(2)
    await asyncio.gather(deleting, *recording)
    assert {row.status for row in await hooks.rows("SELECT status FROM deliveries")} == {"delivered"}


async def test_an_endpoint_that_somebody_has_locked_holds_no_deadline_up(engine: Engine) -> None:
    hooks = Hooks(engine.gateway)
    await hooks.endpoint("https://partner.example/hooks")
    id_ = await engine.create()
    await engine.run_sql("UPDATE work SET due_at = now(), next_check_at = now(), deadline = now()")
    async with engine.gateway.transaction() as db:
        await db.execute(text("SELECT 1 FROM webhook_endpoints FOR UPDATE"))
        assert await asyncio.wait_for(close_late(engine.gateway), 2) == 1
    assert (await engine.view(id_))["status"] == "failed"
    assert [row.status for row in await hooks.rows("SELECT status FROM deliveries")] == ["pending"]


async def test_a_lock_is_waited_for_for_a_moment(database: Database, hooks: Hooks) -> None:
    await hooks.endpoint("https://partner.example/hooks")
    assert await hooks.rows("SHOW lock_timeout") == [("3s",)]
    hurried = make_engine(database.url, pool_size=1, application_name="tests", lock_timeout_seconds=0.05)
    try:
        async with database.transaction() as db:
            await db.execute(text("SELECT 1 FROM webhook_endpoints FOR UPDATE"))
            async with hurried.connect() as other:
                with pytest.raises(asyncpg.LockNotAvailableError) as refused:
                    await Query("SELECT 1 FROM webhook_endpoints FOR UPDATE").all(other)
    finally:
        await hurried.dispose()
    assert is_away(refused.value)
