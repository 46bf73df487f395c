"""How much longer 99 partners wait for their webhooks while the 100th's endpoint hangs.

`python -m benchmarks.endpoints [PER_SECOND [ROUNDS [ONE_IN]]]`.
One worker on a durable PostgreSQL, a hundred tenants with an endpoint each, events for all of them at a steady pace. One in
`ONE_IN` is for the one that hangs: its even share, or a tenth, which without a lane of its own would hold a worker's whole budget
within the 15 s that a try takes.
Nobody hangs and one hangs in turns, each as long as it takes until the worker knows (a try is given up after 15 s), in the
order A B B A, so that what else the machine does falls on both. What is compared is the time from right before the
transaction that announces an event until it is at the partner's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import sys
import tempfile
import time
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import structlog

from benchmarks import machine, rows
from benchmarks.load import percentile
from covergate import ids
from covergate.db.database import open_database
from covergate.gateway import Gateway
from covergate.settings import Settings
from covergate.states import EventType
from covergate.transport.transport import Transport
from covergate.vendor_health.circuit_breaker import CircuitBreakers
from covergate.webhooks.events import News
from covergate.worker import Worker

ENDPOINTS, HANGS = 100, "99"
TURN_SECONDS = 20.0
PER_SECOND = int(sys.argv[1]) if len(sys.argv) > 1 else 60
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 4
ONE_IN = int(sys.argv[3]) if len(sys.argv) > 3 else ENDPOINTS


async def subscribe(gateway: Gateway, base: str) -> None:
    for name in range(ENDPOINTS):
        await rows.make_tenant(gateway, f"ten_{name}")
        secret = b"whsec_" + b64encode(secrets.token_bytes(32))
        await rows.make_endpoint(gateway, ids.new(ids.ENDPOINT), f"ten_{name}", f"{base}/{name}", secret)


async def tell(gateway: Gateway, tenant_id: str) -> None:
    told = {"announced": time.time()}
    await rows.announce(gateway, News(tenant_id, "test", EventType.VERIFICATION_COMPLETED, None, told))


async def turn(gateway: Gateway, partners: httpx.AsyncClient, seconds: float, *, hangs: bool) -> list[float]:
    """Milliseconds from event to arrival, of each delivery to the others."""
    clock, count = asyncio.get_running_loop().time, int(seconds * PER_SECOND)
    await partners.get(f"/hang/{HANGS}" if hangs else "/answer")
    await partners.get("/arrived")
    order = [f"ten_{HANGS if number % ONE_IN == 0 else number % (ENDPOINTS - 1)}" for number in range(count)]
    random.shuffle(order)
    begun = clock()
    async with asyncio.TaskGroup() as telling:
        for number, tenant_id in enumerate(order):
            await asyncio.sleep(max(0.0, begun + number / PER_SECOND - clock()))
            telling.create_task(tell(gateway, tenant_id))
    others = sum(tenant_id != f"ten_{HANGS}" for tenant_id in order)
    arrived: list[list[Any]] = []
    async with asyncio.timeout(60):
        while sum(name != HANGS for name, _, _ in arrived) < others:
            await asyncio.sleep(0.2)
            arrived += (await partners.get("/arrived")).json()
    await forget_backlog(gateway, partners)
    return [(came - announced) * 1000 for name, announced, came in arrived if name != HANGS]


async def forget_backlog(gateway: Gateway, partners: httpx.AsyncClient) -> None:
    """What hangs is answered, what waits behind it goes, and the worker learns that the endpoint is quick again."""
    await partners.get("/answer")
    await rows.give_up_deliveries(gateway)
    await tell(gateway, f"ten_{HANGS}")
    await asyncio.sleep(2)


async def measure(gateway: Gateway, partners: httpx.AsyncClient) -> None:
    found: dict[bool, list[float]] = {False: [], True: []}
    breakers = CircuitBreakers(gateway)
    async with Transport(allow_private_network=True, ended=breakers.count) as transport:
        worker = Worker(gateway, transport, breakers, drain_seconds=1.0)
        running = asyncio.create_task(worker.run())
        try:
            await turn(gateway, partners, 5, hangs=False)  # warms up
            for number in range(ROUNDS):
                for hangs in (number % 2 == 1, number % 2 == 0):
                    times = await turn(gateway, partners, TURN_SECONDS, hangs=hangs)
                    found[hangs] += times
                    shown = " ".join(f"p{percent} {percentile(times, percent):.0f}" for percent in (50, 95, 99))
                    print(f"{'one hangs' if hangs else 'nobody hangs'}: {shown}", file=sys.stderr)
        finally:
            worker.stop()
            await running
    print("| the other 99 | n | p50 ms | p95 ms | p99 ms | p99 grows by |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, times in (("nobody hangs", found[False]), (f"1 of {ENDPOINTS} hangs", found[True])):
        shown = " | ".join(f"{percentile(times, percent):.1f}" for percent in (50, 95, 99))
        growth = "" if times is found[False] else f"{percentile(times, 99) / percentile(found[False], 99) - 1:+.1%}"
        print(f"| {name} | {len(times)} | {shown} | {growth} |")
    print(
        f"\n{PER_SECOND} events/s, one in {ONE_IN} for the one that hangs, {2 * ROUNDS} turns of {TURN_SECONDS:.0f} s."
    )
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")


async def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="cgends", dir="/var/tmp", ignore_cleanup_errors=True) as scratch:
        Path(scratch).chmod(0o711)
        port, settings = (
            machine.free_port(),
            Settings(data_dir=Path(scratch), allow_private_network=True, _env_file=None),
        )
        database = await open_database(settings, pool_size=20, application_name="endpoints", migrate=True)
        try:
            gateway, base = Gateway(settings, database), f"http://127.0.0.1:{port}"
            command = machine.module("partners", str(port))
            with machine.Child("partners", command, machine.environment(), Path(scratch), port):
                await subscribe(gateway, base)
                async with httpx.AsyncClient(base_url=base) as partners:
                    await measure(gateway, partners)
        finally:
            await database.aclose()


if __name__ == "__main__":
    asyncio.run(main())
