"""One vendor hangs: its backlog stays in its lane, deadlines are kept, and the fleet keeps the lane's limit. Real workers.

Partners hang, of however many tenants: webhooks of the others and the verifications go on.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import httpx

from covergate.db.database import Database
from covergate.gateway import Gateway
from covergate.vendors import VENDORS
from covergate.verifications.lanes import PAYER_SHARES
from covergate.webhooks.places import PLACES
from tests.support.engine import accept
from tests.support.gateways import make_gateway
from tests.support.hooks import Hooks
from tests.support.partner import hang, partner_server
from tests.support.sql import run_sql
from tests.support.waiting import eventually
from tests.support.wire import ACTIVE
from tests.support.workers import working

BACKLOG = 300
"""Three times the lane; benchmarks/bulkheads.py has 2,000."""
MEASURED = 40
LANE = VENDORS["sohar"].concurrent_steps
ALL_DUE_AT_ONCE = """
WITH w AS (
  UPDATE work SET deadline = now() + interval '2 s', next_check_at = least(next_check_at, now() + interval '2 s')
  WHERE vendor = 'sohar' RETURNING verification_id, deadline)
UPDATE verifications SET deadline = w.deadline FROM w WHERE id = w.verification_id"""


class Vendors:
    """Integrex answers at once. Sohar's calls hang until the test lets some go; then they are refused."""

    def __init__(self) -> None:
        self.hanging = self.most = 0
        self._go = asyncio.Semaphore(0)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith(("/auth", "/oauth/token")):
            return httpx.Response(200, json={"access_token": "t", "token_type": "Bearer", "expires_in": 3600})
        if path.startswith("/integrex"):
            return httpx.Response(200, json={"id": "1"} if request.method == "POST" else ACTIVE)
        self.hanging += 1
        self.most = max(self.most, self.hanging)
        try:
            await self._go.acquire()
        finally:
            self.hanging -= 1
        return httpx.Response(400, json={"error": "invalid_request_error", "param": "memberId"})

    def let_go(self, count: int) -> None:
        for _ in range(count):
            self._go.release()


async def accept_many(gateway: Gateway, count: int) -> None:
    """So many verifications at Sohar, eight at a time, for so many payers that none has more than its share of the lane."""
    left = iter(range(count))

    async def some() -> None:
        for number in left:
            await accept(gateway, vendor="sohar", payer={"id": f"P{number % (2 * PAYER_SHARES)}"})

    await asyncio.gather(*(some() for _ in range(8)))


async def value(gateway: Gateway, statement: str, **values: Any) -> Any:
    [[only]] = await run_sql(gateway, statement, **values)
    return only


async def until(gateway: Gateway, condition: str) -> None:
    """Until the SQL condition holds."""
    await eventually(partial(value, gateway, f"SELECT {condition}"), 60, what=condition, every=0.05)


async def p95_of_others(gateway: Gateway) -> float:
    """Seconds from acceptance to submission, of verifications that come in one by one at another vendor."""
    begun = await value(gateway, "SELECT clock_timestamp()")
    for _ in range(MEASURED):
        await accept(gateway, vendor="integrex")
    await until(gateway, "NOT EXISTS (SELECT 1 FROM work WHERE vendor = 'integrex' AND submitted_at IS NULL)")
    submitted = (
        "FROM verifications v JOIN (SELECT verification_id, submitted_at FROM attempts"
        " UNION ALL SELECT verification_id, submitted_at FROM work) AS a ON a.verification_id = v.id"
        " WHERE v.vendor = 'integrex'"
    )
    return float(
        await value(
            gateway,
            "SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM a.submitted_at - v.created_at))"
            f" {submitted} AND v.created_at >= :begun",
            begun=begun,
        )
    )


async def test_a_vendor_that_hangs_slows_only_itself_and_deadlines_are_kept(gateway: Gateway) -> None:
    """benchmarks/bulkheads.py measures how much; here the others only must not wait for the backlog."""
    vendors = Vendors()
    async with working(gateway, vendors, pool_size=10, drain_seconds=0.5, hand_over_seconds=-3600):
        alone = await p95_of_others(gateway)
        await accept_many(gateway, BACKLOG)
        await eventually(lambda: vendors.hanging >= LANE, 30)
        beside = await p95_of_others(gateway)
        assert vendors.hanging == LANE
        assert beside < alone + 3, (alone, beside)  # in the backlog they would wait for as long as Sohar hangs

        await run_sql(gateway, ALL_DUE_AT_ONCE)
        await until(gateway, "NOT EXISTS (SELECT 1 FROM verifications WHERE vendor = 'sohar' AND completed_at IS NULL)")
        late = await value(
            gateway, "SELECT max(extract(epoch FROM completed_at - deadline)) FROM verifications WHERE vendor = 'sohar'"
        )
        assert late < 5
        assert await value(gateway, "SELECT count(*) FROM events WHERE type = 'verification.failed'") == BACKLOG


class OnePayerHangs:
    """Sohar refuses at once, but for one payer, for which it says nothing."""

    def __init__(self) -> None:
        self.hanging = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/oauth/token"):
            return httpx.Response(200, json={"access_token": "t", "token_type": "Bearer", "expires_in": 3600})
        if b"DEAD" in request.content:
            self.hanging += 1
            await asyncio.Event().wait()
        return httpx.Response(400, json={"error": "invalid_request_error", "param": "memberId"})


async def test_a_payer_that_hangs_leaves_its_vendors_other_payers_alone(gateway: Gateway) -> None:
    """Two workers together leave a share of the lane to the others, however much of it is due."""
    vendors = OnePayerHangs()
    for _ in range(2 * LANE):
        await accept(gateway, vendor="sohar", payer={"id": "DEAD"})
    async with AsyncExitStack() as fleet:
        for _ in range(2):
            await fleet.enter_async_context(
                working(gateway, vendors, pool_size=10, drain_seconds=0.1, hand_over_seconds=-3600)
            )
        await eventually(lambda: vendors.hanging >= LANE // PAYER_SHARES, 30)
        others = [await accept(gateway, vendor="sohar", payer={"id": "60054"}) for _ in range(MEASURED)]
        await until(
            gateway,
            f"(SELECT count(*) FROM verifications WHERE completed_at IS NOT NULL AND payer_id = '60054') = {len(others)}",
        )
        assert vendors.hanging <= LANE - LANE // PAYER_SHARES


async def test_a_vendor_that_left_the_registry_has_a_lane(gateway: Gateway) -> None:
    """Its verifications go to the next vendor, or say why they wait."""
    id_ = await accept(gateway)
    await run_sql(gateway, "UPDATE work SET vendor = 'bygone', route = '{sohar}'")
    async with working(gateway, Vendors(), drain_seconds=0.1, hand_over_seconds=-3600):
        await until(gateway, f"(SELECT vendor FROM work WHERE verification_id = '{id_}') = 'sohar'")


async def test_two_workers_keep_one_limit(gateway: Gateway) -> None:
    vendors = Vendors()
    await accept_many(gateway, 2 * LANE)
    async with AsyncExitStack() as fleet:
        for _ in range(2):
            await fleet.enter_async_context(
                working(gateway, vendors, pool_size=10, drain_seconds=0.5, hand_over_seconds=-3600)
            )
        for done in (0, LANE // 2, LANE):
            vendors.let_go(LANE // 2 if done else 0)
            await until(gateway, f"(SELECT count(*) FROM verifications WHERE completed_at IS NOT NULL) >= {done}")
            await eventually(lambda: vendors.hanging >= LANE, 60)
        assert vendors.most == LANE
        vendors.let_go(2 * LANE)
        await until(gateway, "NOT EXISTS (SELECT 1 FROM verifications WHERE completed_at IS NULL)")


async def test_partners_of_many_tenants_that_hang_slow_neither_other_partners_nor_verifications(
    database: Database,
) -> None:
    """They have more than a worker has places for, and hang for longer than the test may take."""
    gateway = await make_gateway(database, allow_private_network=True)
    hooks = Hooks(gateway)
    async with partner_server() as partner:
        quick, _ = await hooks.endpoint(partner.url("/quick"))
        for number in range(gateway.settings.worker_tasks // PLACES + 3):
            tenant = f"ten_hangs{number}"
            await hooks.run_sql("INSERT INTO tenants (id, name) VALUES (:id, :id)", id=tenant)
            await hooks.endpoint(partner.on(f"/hangs{number}", hang), tenant=tenant)
            await hooks.publish(times=2 * PLACES, tenant_id=tenant)
        async with working(gateway, Vendors(), pool_size=10, delivery_seconds=600, drain_seconds=0.1):
            await eventually(lambda: partner.open >= gateway.settings.worker_tasks)
            made = [await accept(gateway, vendor="integrex") for _ in range(20)]
            await eventually(lambda: len(partner.at("/quick")) == len(made), 15)
            assert {got.json["data"]["id"] for got in partner.at("/quick")} == set(made)
            assert partner.open <= 2 * gateway.settings.worker_tasks
            steps = await value(gateway, "SELECT max(step) FROM deliveries WHERE endpoint_id <> :quick", quick=quick)
            assert steps == 1  # what has no place is left alone
