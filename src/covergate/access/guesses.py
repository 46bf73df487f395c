"""Wrong API keys: what a source of them may cost.

A source is an IPv4 address or an IPv6 /64. As long as its quota of wrong keys lasts, a key is looked up at once. After that
its keys wait for the next of the common look-ups, one a second, however many come: so guessing costs next to nothing, and a good
key behind the same address still gets through. Keys that were right lately, and those that are in the cache, are not held up.
"""

from __future__ import annotations

import asyncio

from covergate.access.caller import Caller
from covergate.access.credential_cache import CredentialCache
from covergate.access.credentials import digest
from covergate.access.quotas import QuotaPolicy, Quotas, rate_limited
from covergate.errors import Problem

HELD_SECONDS = 1.0
MOST_HELD = 500
"""Keys in one common look-up; a source that sends more is refused without one."""
MOST_PROVEN = 10_000


class Guesses:
    def __init__(self, keys: CredentialCache, quotas: Quotas, policy: QuotaPolicy) -> None:
        self._keys = keys
        self._quotas = quotas
        self._policy = policy
        self._proven: dict[bytes, None] = {}
        """Digests of keys that were right when they were last looked up."""
        self._held: dict[bytes, asyncio.Future[bool]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def authenticate(self, key: str, source: str) -> Caller | None:
        """The caller of a key that is not in the cache; None for a wrong one. Raises Problem `rate_limited`."""
        digested = digest(key)
        if digested in self._proven:
            return await self._looked_up(key, digested)
        try:
            self._quotas.take(self._policy, source)
        except Problem:
            if not await self._exists(digested):
                raise
            return await self._looked_up(key, digested)
        caller = await self._looked_up(key, digested)
        if caller is not None:
            self._quotas.give_back(self._policy, source)
        return caller

    async def _looked_up(self, key: str, digested: bytes) -> Caller | None:
        caller = await self._keys.authenticate(key)
        if caller is None:
            self._proven.pop(digested, None)
        else:
            if len(self._proven) >= MOST_PROVEN:
                self._proven.clear()
            self._proven[digested] = None
        return caller

    async def _exists(self, digested: bytes) -> bool:
        """Whether there is such a key, told by the next common look-up."""
        if (held := self._held.get(digested)) is None:
            if len(self._held) >= MOST_HELD:
                raise rate_limited(self._policy, HELD_SECONDS)
            held = self._held[digested] = asyncio.get_running_loop().create_future()
            if self._looking is None:
                self._looking = asyncio.create_task(self._look_up())
        return await asyncio.shield(held)

    async def _look_up(self) -> None:
        await asyncio.sleep(HELD_SECONDS)
        held, self._held, self._looking = self._held, {}, None
        found: frozenset[bytes] = frozenset()
        failed: Exception | None = None
        try:
            found = await self._keys.existing(list(held))
        # Broad on purpose: each of those who wait gets it, and turns it into its own problem.
        except Exception as error:
            failed = error
        for digested, future in held.items():
            if failed is None:
                future.set_result(digested in found)
            else:
                future.set_exception(failed)
                future.exception()  # nobody may be left to ask for it
