"""LISTEN over a connection of its own, for as long as the process runs.

Invariant: news may be lost, e.g. while the connection is made again; then `missed` is called, and whoever listens looks for
itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from covergate.db.connect import connect
from covergate.db.outage import DATABASE_ERRORS

log = structlog.get_logger(__name__)

RECONNECT_SECONDS = 0.5
PROBE_SECONDS = 10.0


async def listen(
    url: str, application_name: str, channels: Mapping[str, Callable[[str], None]], missed: Callable[[], None]
) -> None:
    """Until it is canceled. Channel → what is called with the payload of each news."""
    while True:
        try:
            try:
                await _listen_once(url, application_name, channels, missed)
            finally:
                missed()
        except DATABASE_ERRORS as error:
            log.warning("listen_connection_lost", listener=application_name, error=type(error).__name__)
        # Broad on purpose: without this task everybody who waits for news would sleep to the end.
        except Exception as error:
            log.error("listening_failed", listener=application_name, error=type(error).__name__, exc_info=error)
        await asyncio.sleep(RECONNECT_SECONDS)


async def _listen_once(
    url: str, application_name: str, channels: Mapping[str, Callable[[str], None]], missed: Callable[[], None]
) -> None:
    connection = await connect(url, application_name=application_name)
    try:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        for channel, told in channels.items():
            await connection.add_listener(channel, partial(_pass_on, told))
        missed()
        while not lost.is_set():
            try:
                await asyncio.wait_for(lost.wait(), PROBE_SECONDS)
            except TimeoutError:
                # A connection that died without a word is found by asking.
                await connection.execute("SELECT 1", timeout=PROBE_SECONDS)
    finally:
        connection.terminate()


def _pass_on(told: Callable[[str], None], *notification: object) -> None:
    told(str(notification[-1]))
