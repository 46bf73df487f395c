"""Places to wait in (`Prefer: wait`): how many requests of one credential wait at once, over all processes.

A process leases places from PostgreSQL, a few at a time, and gives them to its requests by itself: so only a wait that finds
none free costs a round trip, and a request that does not wait costs nothing. Invariant: the places that are leased for a
credential are never more than `most_waits`, but after the database was away for longer than a lease. What is not needed any
more goes back once a second; the leases of a process that died end by themselves.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from covergate.db.group_commit import GroupCommit
from covergate.db.kept import Kept
from covergate.db.outage import DATABASE_ERRORS
from covergate.db.sql import Query, turn
from covergate.gateway import Gateway

log = structlog.get_logger(__name__)

PLACE_RENEWAL_SECONDS = 1.0
PLACE_LEASE_SECONDS = 10
"""So long the places of a process that died stay taken."""
SHARE = 20
"""A process leases a twentieth of what a credential may have at a time, one at least."""
FULL_SECONDS = 0.2
"""So long a credential that has no place left is not asked for again."""

KEPT = (Kept("wait_places", "until the lease has long ended", "1 day", "ends_at"),)

_TURN = turn("covergate wait places")
_LEASE = Query("""
INSERT INTO wait_places AS p (credential_id, process_id, places, ends_at)
SELECT w.credential_id, :process_id, least(w.places, :most - taken.places), clock_timestamp() + make_interval(secs => :seconds)
FROM unnest(CAST(:credential_ids AS text[]), CAST(:wanted AS int[])) AS w(credential_id, places)
  CROSS JOIN LATERAL (
    SELECT CAST(coalesce(sum(t.places), 0) AS int) AS places FROM wait_places t
    WHERE t.credential_id = w.credential_id AND t.ends_at > clock_timestamp()) AS taken
WHERE taken.places < :most
ON CONFLICT (credential_id, process_id) DO UPDATE SET ends_at = excluded.ends_at,
  places = excluded.places + CASE WHEN p.ends_at > clock_timestamp() THEN p.places ELSE 0 END
RETURNING credential_id, places, set_config('synchronous_commit', 'off', true)""")
_RENEW = Query("""
WITH gone AS (
  DELETE FROM wait_places WHERE process_id = :process_id AND credential_id = ANY(CAST(:gone AS text[]))
)
INSERT INTO wait_places (credential_id, process_id, places, ends_at)
SELECT h.credential_id, :process_id, h.places, clock_timestamp() + make_interval(secs => :seconds)
FROM unnest(CAST(:credential_ids AS text[]), CAST(:places AS int[])) AS h(credential_id, places)
ON CONFLICT (credential_id, process_id) DO UPDATE SET places = excluded.places, ends_at = excluded.ends_at
RETURNING set_config('synchronous_commit', 'off', true)""")
_GIVE_ALL_BACK = Query("DELETE FROM wait_places WHERE process_id = :process_id")


@dataclass(slots=True)
class _Lease:
    """Of one credential in this process."""

    places: int = 0
    used: int = 0
    needed: int = 0
    """Used at once since the last renewal."""
    full_until: float = 0.0
    growing: asyncio.Future[bool] | None = None


class WaitPlaces:
    """`run` renews the leases until it is canceled."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._most = gateway.settings.most_waits
        self._process_id = secrets.token_hex(8)
        self._leases: dict[str, _Lease] = {}
        self._grown = GroupCommit(self._grow)
        self._writing = asyncio.Lock()

    @asynccontextmanager
    async def one_for(self, credential_id: str) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
        """A function that takes a place, once, and says whether there was one. It is free again at the end of the block."""
        has_place = False

        async def take() -> bool:
            nonlocal has_place
            has_place = has_place or await self._take(credential_id)
            return has_place

        try:
            yield take
        finally:
            if has_place:
                self._leases[credential_id].used -= 1

    async def _take(self, credential_id: str) -> bool:
        while self._most:
            lease = self._leases.setdefault(credential_id, _Lease())
            if lease.used < lease.places:
                lease.used += 1
                lease.needed = max(lease.needed, lease.used)
                return True
            if time.monotonic() < lease.full_until:
                return False
            if lease.growing is None:
                lease.growing = asyncio.ensure_future(self._grown.add(credential_id))
            if not await asyncio.shield(lease.growing):
                return False
        return False

    async def _grow(self, credential_ids: Sequence[str]) -> list[bool]:
        """Whether each has a place free now. A credential that gets nothing is full; without a database none gets any."""
        got: dict[str, int] = {}
        wanted = max(1, self._most // SHARE)
        async with self._writing:
            try:
                got = await self._lease(credential_ids, wanted)
            except DATABASE_ERRORS as error:
                log.warning("wait_places_not_leased", error=type(error).__name__)
            finally:
                for credential_id in credential_ids:
                    lease = self._leases[credential_id]
                    lease.growing = None
                    lease.places = got.get(credential_id, lease.places)
                    if lease.places <= lease.used:
                        lease.full_until = time.monotonic() + FULL_SECONDS
        return [
            self._leases[credential_id].places > self._leases[credential_id].used for credential_id in credential_ids
        ]

    async def _lease(self, credential_ids: Sequence[str], wanted: int) -> dict[str, int]:
        values = {"credential_ids": list(credential_ids), "wanted": [wanted] * len(credential_ids), "most": self._most}
        async with self._gateway.transaction() as db:
            await _TURN.run(db)
            rows = await _LEASE.all(db, self._ours(values))
        return {row.credential_id: row["places"] for row in rows}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(PLACE_RENEWAL_SECONDS)
            try:
                await self.renew()
            except DATABASE_ERRORS as error:
                log.warning("wait_places_not_renewed", error=type(error).__name__)

    async def renew(self) -> None:
        """Keeps what was needed since the last time, and gives the rest back."""
        async with self._writing:
            held: dict[str, int] = {}
            gone: list[str] = []
            for credential_id, lease in list(self._leases.items()):
                lease.places = max(lease.used, min(lease.places, lease.needed))
                lease.needed = lease.used
                if lease.places:
                    held[credential_id] = lease.places
                elif lease.growing is None:
                    del self._leases[credential_id]
                    gone.append(credential_id)
            if not held and not gone:
                return
            values = {"credential_ids": list(held), "places": list(held.values()), "gone": gone}
            async with self._gateway.connection() as db:
                await _RENEW.run(db, self._ours(values))

    async def give_all_back(self) -> None:
        """At the end of the process: the others need not wait for the end of its leases."""
        try:
            async with self._gateway.connection() as db:
                await _GIVE_ALL_BACK.run(db, {"process_id": self._process_id})
        except DATABASE_ERRORS as error:
            log.warning("wait_places_not_given_back", error=type(error).__name__)

    def _ours(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {**values, "process_id": self._process_id, "seconds": float(PLACE_LEASE_SECONDS)}
