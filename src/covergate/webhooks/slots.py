"""How much of one worker an endpoint, and a tenant with all its endpoints, may take, so that a slow one slows only itself.

An endpoint has a few places in each worker, a tenant a few more in each group of deliveries. A delivery that finds them
taken waits for one while answers keep coming in; when none has come for a moment, or the last one took long, the delivery
must not hold its job's slot any longer (`sender.py` moves it to the slow group). This is memory of one process: another
worker learns the same by itself.
"""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

PLACES = 8
TENANT_PLACES = 24
"""Of a tenant's endpoints together, in each group: three that hang fill them, and a group has 100 (`worker_tasks`)."""
PATIENCE_SECONDS = 0.25
"""Without an answer for so long an endpoint with no free place counts as stuck."""


class Lane:
    """The places of one endpoint, or of one tenant."""

    def __init__(self, places: int) -> None:
        self.slow = False
        self._places = asyncio.Semaphore(places)
        self._taken = 0
        self._moved_at = 0.0

    async def enter(self) -> bool:
        """Takes a place, which `leave` gives back; False where none is to be had soon."""
        now = asyncio.get_running_loop().time
        while self._places.locked():
            if self.slow or now() - self._moved_at >= PATIENCE_SECONDS:
                return False
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._places.acquire()
                break
            except TimeoutError:
                continue
        else:
            await self._places.acquire()
        if not self._taken:
            self._moved_at = now()
        self._taken += 1
        return True

    def leave(self) -> None:
        self._taken -= 1
        if not self.slow:
            self._moved_at = asyncio.get_running_loop().time()
        self._places.release()


class Slots:
    """A lane lives as long as somebody is in it or it is slow."""

    def __init__(self) -> None:
        self._lanes: WeakValueDictionary[str, Lane] = WeakValueDictionary()
        self._slow: dict[str, Lane] = {}

    def of(self, endpoint_id: str) -> Lane:
        return self._lane(endpoint_id, PLACES)

    def of_tenant(self, tenant_id: str, *, slowly: bool) -> Lane:
        """In the slow group it has other places, so that its slow endpoints do not take those of its quick ones."""
        return self._lane(f"{tenant_id} slowly" if slowly else tenant_id, TENANT_PLACES)

    def _lane(self, name: str, places: int) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(places)
        return lane

    def note(self, endpoint_id: str, *, slow: bool) -> None:
        """How its last answer came."""
        lane = self.of(endpoint_id)
        lane.slow = slow
        if slow:
            self._slow[endpoint_id] = lane
        else:
            self._slow.pop(endpoint_id, None)
