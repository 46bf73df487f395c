"""Who waits for a verification to end (`Prefer: wait`), woken by NOTIFY over one connection per API process.

A waiter registers first, then reads the row, then waits, so no end slips between. Waiting holds no pool connection. After a
reconnect everybody is woken, because notifications may have been missed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from covergate.access.api_keys import KEYS_CHANGED
from covergate.db.connect import connect
from covergate.db.outage import DATABASE_ERRORS
from covergate.verifications.commit import ENDED

log = structlog.get_logger(__name__)

RECONNECT_SECONDS = 0.5
HEARTBEAT_SECONDS = 10.0


class Waiters:
    """`run` keeps the LISTEN connection up until it is canceled; `on_keys_changed` is called when API keys changed."""

    def __init__(self, url: str, on_keys_changed: Callable[[], None] = lambda: None) -> None:
        self._url = url
        self._events: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._on_keys_changed = on_keys_changed
        self._closing = False

    @asynccontextmanager
    async def registered(self, verification_id: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set when the verification may have ended, or the process shuts down."""
        event = asyncio.Event()
        if self._closing:
            event.set()
        self._events[verification_id].add(event)
        try:
            yield event
        finally:
            self._events[verification_id].discard(event)
            if not self._events[verification_id]:
                del self._events[verification_id]

    def wake_all(self) -> None:
        for events in self._events.values():
            for event in events:
                event.set()

    def close(self) -> None:
        """Shutting down: nobody waits any longer."""
        self._closing = True
        self.wake_all()

    @property
    def closing(self) -> bool:
        return self._closing

    async def run(self) -> None:
        while True:
            try:
                await self._listen_once()
            except DATABASE_ERRORS as error:
                log.warning("listen_connection_lost", error=type(error).__name__)
            # Broad on purpose: without this task every waiting request would sleep to its end.
            except Exception as error:
                log.error("listening_failed", error=type(error).__name__, exc_info=error)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen_once(self) -> None:
        try:
            await self._listen()
        finally:
            self.wake_all()
            self._on_keys_changed()

    async def _listen(self) -> None:
        connection = await connect(self._url, application_name="covergate waiters")
        try:
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(ENDED, self._ended)
            await connection.add_listener(KEYS_CHANGED, lambda *_: self._on_keys_changed())
            self._on_keys_changed()
            self.wake_all()
            while not lost.is_set():
                try:
                    await asyncio.wait_for(lost.wait(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    # A connection that died without a word is found by asking.
                    await connection.execute("SELECT 1", timeout=HEARTBEAT_SECONDS)
        finally:
            connection.terminate()

    def _ended(self, *notification: object) -> None:
        verification_id = notification[-1]
        for event in self._events.get(str(verification_id), ()):
            event.set()
