"""Names to addresses, without threads: however many look-ups hang, the next one is not slowed."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import AsyncResolver

LOOK_UP_SECONDS = 5.0
"""For the whole look-up, all tries at all servers."""

FAILURE_KEPT_SECONDS = 5.0
FAILURES_KEPT = 1000

_C_ARES: dict[str, Any] = {"timeout": 2.0, "tries": 5}
"""c-ares learns how fast a server usually is, and may then give the first try a quarter of a second. Five tries, each twice
as long as the one before, still find a name whose answer takes two seconds."""


class Resolver(AbstractResolver):
    """c-ares: it asks the servers of /etc/resolv.conf, and /etc/hosts first; `localhost` needs neither.

    Names that only another module of the system's name service knows (mDNS, LDAP) are not found. `servers` are asked
    instead of the system's.
    """

    def __init__(
        self,
        *,
        servers: Sequence[str] | None = None,
        look_up_seconds: float = LOOK_UP_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = servers
        self._look_up_seconds = look_up_seconds
        self._clock = clock
        self._c_ares: AsyncResolver | None = None
        self._failed_until: dict[str, float] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError. A name that failed is not looked up again for FAILURE_KEPT_SECONDS."""
        if self._clock() < self._failed_until.get(host, 0.0):
            raise OSError(None, "the name could not be looked up a moment ago")
        try:
            async with asyncio.timeout(self._look_up_seconds):
                addresses = await self._asked().resolve(host, port, family)
        except OSError as error:  # a TimeoutError is one
            self._note_failure(host)
            raise OSError(None, "the name could not be looked up") from error
        self._failed_until.pop(host, None)
        return addresses

    async def close(self) -> None:
        """Look-ups under way end with an error."""
        if self._c_ares is not None:
            await self._c_ares.close()
            self._c_ares = None

    def _asked(self) -> AsyncResolver:
        # Made at the first look-up: it belongs to the loop that is running then. With arguments it is one of its own;
        # without, aiohttp would share one in the whole process.
        if self._c_ares is None:
            self._c_ares = AsyncResolver(nameservers=self._servers, **_C_ARES)
        return self._c_ares

    def _note_failure(self, host: str) -> None:
        now = self._clock()
        if len(self._failed_until) >= FAILURES_KEPT:
            self._failed_until = {name: until for name, until in self._failed_until.items() if until > now}
        if len(self._failed_until) < FAILURES_KEPT:
            self._failed_until[host] = now + FAILURE_KEPT_SECONDS
