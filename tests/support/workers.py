"""A real worker in the test's process, with a scripted vendor on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx

from covergate.gateway import Gateway
from covergate.transport.transport import Transport
from covergate.vendor_health.circuit_breaker import CircuitBreakers
from covergate.worker import Worker
from tests.support.wire import Handler

ENDS_WITHIN_SECONDS = 20


@asynccontextmanager
async def working(
    gateway: Gateway, wire: Handler, *, pool_size: int = 5, **limits: float
) -> AsyncIterator[tuple[Worker, asyncio.Task[None]]]:
    """A worker with a pool of its own, as another process has, and the task that it runs in. It is stopped after the block."""
    async with (
        gateway.database.apart(pool_size=pool_size, application_name="worker under test") as database,
        running_worker(replace(gateway, database=database), wire, **limits) as (worker, running),
    ):
        yield worker, running


@asynccontextmanager
async def running_worker(
    gateway: Gateway, wire: Handler, **limits: float
) -> AsyncIterator[tuple[Worker, asyncio.Task[None]]]:
    """A worker on this gateway's own pool; it is stopped after the block."""
    breakers = CircuitBreakers(gateway)
    async with Transport(allow_private_network=True, ended=breakers.count, wire=httpx.MockTransport(wire)) as transport:
        worker = Worker(gateway, transport, breakers, **limits)
        running = asyncio.create_task(worker.run())
        try:
            yield worker, running
        finally:
            worker.stop()
            await asyncio.wait_for(running, ENDS_WITHIN_SECONDS)
