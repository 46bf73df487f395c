"""Who waits for a verification to end (`Prefer: wait`), woken by NOTIFY over one connection per API process.

A waiter registers first, then reads the row, then waits, so no end slips between. Waiting holds no pool connection. After a
reconnect everybody is woken, because notifications may have been missed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from covergate.access.api_keys import KEYS_CHANGED
from covergate.db.listen import listen
from covergate.verifications.commit import ENDED


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
        channels = {ENDED: self._ended, KEYS_CHANGED: lambda _: self._on_keys_changed()}
        await listen(self._url, "covergate waiters", channels, self._missed)

    def _missed(self) -> None:
        self.wake_all()
        self._on_keys_changed()

    def _ended(self, verification_id: str) -> None:
        for event in self._events.get(verification_id, ()):
            event.set()
