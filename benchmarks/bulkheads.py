"""`python -m benchmarks.bulkheads`: how much longer others wait while one vendor hangs with 2,000 verifications queued.

One worker on a durable PostgreSQL. Integrex answers at once, Sohar never. Verifications for Integrex come in at a steady pace,
alone and beside the backlog in turns of a few seconds, so that what else the machine does falls on both; then while the
hanging calls time out and the circuit opens. What is compared is the time from acceptance to the end in the database.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks import rows
from benchmarks.load import percentile
from covergate.access.caller import Caller
from covergate.db.database import Database, open_database
from covergate.gateway import Gateway, connections_of
from covergate.settings import Settings
from covergate.transport.transport import Transport
from covergate.vendor_health.circuit_breaker import CircuitBreakers
from covergate.vendors.integrex import VENDOR as INTEGREX
from covergate.verifications.create import Acceptance
from covergate.verifications.request import CreateVerification
from covergate.worker import Worker

BACKLOG, PER_SECOND = 2000, 20
BLOCKS, TURN_SECONDS, SETTLE_SECONDS = 3, 3.2, 0.5
HANGS = "sohar"
CALLER = Caller("ten_bulkheads", "test", "key_bulkheads", frozenset())
BODY: dict[str, Any] = {
    "payer": {"id": "60054", "name": "Aetna"},
    "patient": {
        "first_name": "Jane",
        "last_name": "Sample",
        "date_of_birth": "1990-02-03",
        "member_id": "W123456789",
        "address": {"state": "CA"},
    },
    "provider": {"npi": "1234567893"},
    "service": {"place_of_service_code": "10", "specialty": "PSY"},
}
ACTIVE = {"coverageStatusCode": "1", "coverageStatusDesc": "Active", "copay($)": "30.00"}


async def wire(request: httpx.Request) -> httpx.Response:
    path = request.url.path
    if path.endswith(("/auth", "/oauth/token")):
        return httpx.Response(200, json={"access_token": "t", "token_type": "Bearer", "expires_in": 3600})
    if path.startswith(f"/{HANGS}"):
        await asyncio.Event().wait()
    return httpx.Response(200, json={"id": "1"} if request.method == "POST" else ACTIVE)


@asynccontextmanager
async def working(gateway: Gateway) -> AsyncIterator[None]:
    breakers = CircuitBreakers(gateway)
    async with Transport(allow_private_network=True, ended=breakers.count, wire=httpx.MockTransport(wire)) as transport:
        worker = Worker(gateway, transport, breakers, drain_seconds=1.0, hand_over_seconds=-3600)
        running = asyncio.create_task(worker.run())
        try:
            yield
        finally:
            worker.stop()
            await running


async def accept(gateway: Gateway, vendor: str, count: int) -> list[str]:
    request = CreateVerification.model_validate({**BODY, "vendor": vendor})
    return [(await Acceptance(gateway).create(CALLER, request, None)).id for _ in range(count)]


async def waits(gateway: Gateway, seconds: float) -> list[float]:
    """Milliseconds of each verification that came in during so many seconds."""
    clock, ids = asyncio.get_running_loop().time, list[str]()
    begun = clock()
    while clock() - begun < seconds:
        ids += await accept(gateway, "integrex", 1)
        await asyncio.sleep(max(0.0, begun + len(ids) / PER_SECOND - clock()))
    while True:
        times = [ms for ms in await rows.durations(gateway, ids) if ms is not None]
        if len(times) == len(ids):
            return times
        await asyncio.sleep(0.2)


async def show_backlog(gateway: Gateway, *, due: bool) -> None:
    """Takes the backlog out of the lane, or puts it back: what is in flight goes on hanging."""
    await rows.show_backlog(gateway, HANGS, due=due)
    await asyncio.sleep(SETTLE_SECONDS)


@dataclass
class Found:
    """Milliseconds of each verification for the vendor that answers; seconds by which the last of the others was late."""

    alone: list[float] = field(default_factory=list)
    hanging: list[float] = field(default_factory=list)
    timing_out: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)


async def measure(database: Database, found: Found) -> None:
    settings = Settings(sandbox_url="http://sandbox.invalid", sandbox_secret="sandbox", _env_file=None)
    instant = INTEGREX.connection.sandbox("http://sandbox.invalid", "x").model_copy(update={"poll_seconds": 0})
    gateway = Gateway(settings, database, {**connections_of(settings), ("test", "integrex"): instant})
    await rows.make_tenant(gateway, CALLER.tenant_id)
    async with working(gateway):
        await waits(gateway, 5)  # warms up
    await accept(gateway, HANGS, BACKLOG)
    async with working(gateway):
        await waits(gateway, 3)  # the lane fills
        for due in (False, True, True, False, False, True):
            await show_backlog(gateway, due=due)
            (found.hanging if due else found.alone).extend(await waits(gateway, TURN_SECONDS))
        found.timing_out += await waits(gateway, 30)  # calls time out after 30 s, and the circuit opens
        await rows.end_deadlines(gateway, HANGS)
        while await rows.any_open(gateway, HANGS):
            await asyncio.sleep(0.2)
        found.late.append(await rows.latest_end(gateway, HANGS))
        found.after += await waits(gateway, 10)


def report(found: Found) -> None:
    print(f"| the others, {PER_SECOND}/s | n | p50 ms | p95 ms | p95 grows by |\n| --- | ---: | ---: | ---: | ---: |")
    for name, measured in (
        ("alone, in turns with the next", found.alone),
        (f"beside {BACKLOG} queued for a vendor that hangs", found.hanging),
        ("beside them while calls time out and the circuit opens", found.timing_out),
        ("alone, after", found.after),
    ):
        growth = percentile(measured, 95) / percentile(found.alone, 95) - 1
        shown = f"{percentile(measured, 50):.0f} | {percentile(measured, 95):.0f} | {growth:+.0%}"
        print(f"| {name} | {len(measured)} | {shown} |")
    print(f"\n{BACKLOG} that were due at the same moment ended at most {max(found.late):.1f} s after it.")
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")


async def main() -> None:
    found = Found()
    for _ in range(BLOCKS):  # each on a database of its own, which knows of no circuit yet
        with tempfile.TemporaryDirectory(prefix="cgbulk", dir="/var/tmp", ignore_cleanup_errors=True) as scratch:
            Path(scratch).chmod(0o711)
            settings = Settings(data_dir=Path(scratch), _env_file=None)
            database = await open_database(settings, pool_size=20, application_name="bulkheads", migrate=True)
            try:
                await measure(database, found)
            finally:
                await database.aclose()
    report(found)


if __name__ == "__main__":
    asyncio.run(main())
