"""One vendor hangs: its backlog stays in its lane, deadlines are kept, and the fleet keeps the lane's limit. Real workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
from sqlalchemy import text

from covergate.db.database import Database, make_engine
from covergate.gateway import Gateway
from covergate.transport.transport import Transport
from covergate.vendors import VENDORS
from covergate.verifications.create import create
from covergate.verifications.request import CreateVerification
from covergate.worker import Worker
from tests.verifications.conftest import ACTIVE, CALLER, REQUEST

BACKLOG = 300
"""Three times the lane; benchmarks/bulkheads.py has 2,000."""
MEASURED = 40
LANE = VENDORS["sohar"].concurrent_steps
ALL_DUE_AT_ONCE = """
UPDATE verifications SET deadline = clock_timestamp() + interval '2 s',
                         next_check_at = least(next_check_at, clock_timestamp() + interval '2 s')
WHERE vendor = 'sohar' AND completed_at IS NULL"""


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


@asynccontextmanager
async def working(gateway: Gateway, vendors: Vendors) -> AsyncIterator[Worker]:
    """A worker with a pool of its own, as another process has."""
    engine = make_engine(gateway.database.url, pool_size=10, application_name="worker under test")
    database = Database(gateway.database.url, engine, gateway.sealer)
    async with Transport(allow_private_network=True, wire=httpx.MockTransport(vendors)) as transport:
        worker = Worker(Gateway(gateway.settings, database, gateway.connections), transport, drain_seconds=0.5)
        running = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            await asyncio.wait_for(running, 20)
            await engine.dispose()


async def accept(gateway: Gateway, count: int, **changes: Any) -> None:
    request = CreateVerification.model_validate({**REQUEST, **changes})
    left = iter(range(count))

    async def some() -> None:
        for _ in left:
            await create(gateway, CALLER, request, None)

    await asyncio.gather(*(some() for _ in range(8)))


async def value(gateway: Gateway, statement: str, **values: Any) -> Any:
    async with gateway.connection() as db:
        return (await db.execute(text(statement), values)).scalar_one()


async def until(gateway: Gateway, statement: str, seconds: float) -> None:
    """Until the SQL condition holds."""
    async with asyncio.timeout(seconds):
        while not await value(gateway, f"SELECT {statement}"):
            await asyncio.sleep(0.05)


async def p95_of_others(gateway: Gateway) -> float:
    """Seconds from acceptance to submission, of verifications that come in one by one at another vendor."""
    begun = await value(gateway, "SELECT clock_timestamp()")
    for _ in range(MEASURED):
        await accept(gateway, 1, vendor="integrex")
        await asyncio.sleep(0.02)  # the pace, not a wait for something
    submitted = "FROM attempts a JOIN verifications v ON v.id = a.verification_id WHERE v.vendor = 'integrex'"
    await until(
        gateway, f"NOT EXISTS (SELECT 1 {submitted} AND a.submitted_at IS NULL AND a.ended_at IS NULL)", seconds=60
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
    async with working(gateway, vendors):
        alone = await p95_of_others(gateway)
        await accept(gateway, BACKLOG, vendor="sohar")
        async with asyncio.timeout(30):
            while vendors.hanging < LANE:
                await asyncio.sleep(0.02)
        beside = await p95_of_others(gateway)
        assert vendors.hanging == LANE
        assert beside < alone + 3, (alone, beside)  # in the backlog they would wait for as long as Sohar hangs

        async with gateway.connection() as db:
            await db.execute(text(ALL_DUE_AT_ONCE))
        await until(
            gateway, "NOT EXISTS (SELECT 1 FROM verifications WHERE vendor = 'sohar' AND completed_at IS NULL)", 60
        )
        late = await value(
            gateway, "SELECT max(extract(epoch FROM completed_at - deadline)) FROM verifications WHERE vendor = 'sohar'"
        )
        assert late < 5
        assert await value(gateway, "SELECT count(*) FROM events WHERE type = 'verification.failed'") == BACKLOG


async def test_two_workers_keep_one_limit(gateway: Gateway) -> None:
    vendors = Vendors()
    await accept(gateway, 2 * LANE, vendor="sohar")
    async with AsyncExitStack() as fleet:
        for _ in range(2):
            await fleet.enter_async_context(working(gateway, vendors))
        for done in (0, LANE // 2, LANE):
            vendors.let_go(LANE // 2 if done else 0)
            async with asyncio.timeout(60):
                ended = "SELECT count(*) FROM verifications WHERE completed_at IS NOT NULL"
                while vendors.hanging < LANE or await value(gateway, ended) < done:
                    await asyncio.sleep(0.05)
        assert vendors.most == LANE
        vendors.let_go(2 * LANE)
        await until(gateway, "NOT EXISTS (SELECT 1 FROM verifications WHERE completed_at IS NULL)", 60)
