"""What delivers in a worker, by itself: a dispatcher of the test's own, as the worker has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from covergate.db.listen import listen
from covergate.db.queue import Dispatcher
from covergate.gateway import Gateway
from covergate.webhooks.events import ClaimedDelivery
from covergate.webhooks.places import Places, WorkersDesk
from covergate.webhooks.sender import Deliverer

ENDS_WITHIN_SECONDS = 20


@asynccontextmanager
async def delivering(
    gateway: Gateway, *, timeout_seconds: float = 15.0, drain_seconds: float = ENDS_WITHIN_SECONDS
) -> AsyncIterator[WorkersDesk]:
    """It is stopped after the block; what has not ended within `drain_seconds` is cut off."""
    stopping = asyncio.Event()
    places = Places(gateway, gateway.settings.worker_tasks)
    async with Deliverer(gateway, places, timeout_seconds=timeout_seconds) as deliverer:

        async def work(row: ClaimedDelivery) -> None:
            try:
                await deliverer.deliver(row)
            # Broad on purpose, as in the worker.
            except Exception as error:
                structlog.get_logger().error("step_failed", error=type(error).__name__)
                await deliverer.failed_inside(row)

        dispatcher = Dispatcher(places, work)
        listening = asyncio.create_task(
            listen(gateway.database.url, "tests", {dispatcher.channel: dispatcher.wake}, dispatcher.wake)
        )
        running = asyncio.create_task(dispatcher.run(stopping))
        try:
            yield WorkersDesk(places, dispatcher)
        finally:
            stopping.set()
            dispatcher.wake()
            _, late = await asyncio.wait([running], timeout=drain_seconds)
            if late:
                for task in list(dispatcher.under_way):
                    task.cancel()
            await asyncio.wait_for(running, ENDS_WITHIN_SECONDS)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
