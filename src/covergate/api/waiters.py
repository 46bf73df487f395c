"""Requests that wait for a verification to end (`Prefer: wait`), woken by NOTIFY over one connection per API process.

A waiter registers first, then reads the row, then waits, so no end slips between. Waiting holds no pool connection. After a
reconnect everybody is woken, because notifications may have been missed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from covergate.access.credentials import CREDENTIALS_CHANGED
from covergate.access.vendor_accounts import ACCOUNTS_CHANGED
from covergate.db.listen import listen
from covergate.verifications.commit import ENDED


class Waiters:
    """`run` keeps the LISTEN connection up until it is canceled. `on_keys_changed` is called when credentials changed,
    `on_accounts_changed` when vendor accounts did.
    """

    def __init__(
        self,
        url: str,
        on_keys_changed: Callable[[], None] = lambda: None,
        on_accounts_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._url = url
        self._events: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        """By the verification that is waited for, and by the credential that waits."""
        self._on_keys_changed = on_keys_changed
        self._on_accounts_changed = on_accounts_changed
        self._closing = False

    @asynccontextmanager
    async def registered(self, *ids: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set when the verification may have ended, the credential may be invalid, or the process shuts down."""
        event = asyncio.Event()
        if self._closing:
            event.set()
        for id_ in ids:
            self._events[id_].add(event)
        try:
            yield event
        finally:
            for id_ in ids:
                self._events[id_].discard(event)
                if not self._events[id_]:
                    del self._events[id_]

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
        channels = {
            ENDED: self._wake,
            CREDENTIALS_CHANGED: self._credential_changed,
            ACCOUNTS_CHANGED: lambda _: self._on_accounts_changed(),
        }
        await listen(self._url, "covergate waiters", channels, self._missed)

    def _missed(self) -> None:
        self.wake_all()
        self._on_keys_changed()
        self._on_accounts_changed()

    def _credential_changed(self, credential_id: str) -> None:
        self._on_keys_changed()
        self._wake(credential_id)

    def _wake(self, id_: str) -> None:
        for event in self._events.get(id_, ()):
            event.set()
