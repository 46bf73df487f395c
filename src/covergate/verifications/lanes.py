"""How much of one worker a vendor may take, and a payer of its vendor: so that who is slow slows only itself.

Each vendor has a lane. A payer with its share of the lane under way gets no more, and one claim takes no more than that at
once, so a payer that hangs holds less than twice its share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from covergate.gateway import Gateway
from covergate.verifications import store
from covergate.verifications.store import WORK, Claimed

SHARES = 5
"""So many payers that hang are needed to fill at least half a lane."""


class Lanes:
    """The queue of verifications. `places`: vendor → how many of its steps one worker makes at once."""

    channel = WORK

    def __init__(self, gateway: Gateway, places: Mapping[str, int]) -> None:
        self._gateway = gateway
        self._places = places
        self._full: set[str] = set()
        self.more = False

    async def claim(self, under_way: Collection[Claimed]) -> Sequence[Claimed]:
        """Of each lane at most a share at once, and nothing until so many places are free: small claims cost the most."""
        taken = Counter(one.verification.attempt.vendor for one in under_way)
        of_payer = Counter(_payer(one) for one in under_way)
        shares = {vendor: max(places // SHARES, 1) for vendor, places in self._places.items()}
        rooms = {vendor: share for vendor, share in shares.items() if self._places[vendor] - taken[vendor] >= share}
        full = {payer for payer, number in of_payer.items() if number >= shares.get(payer.partition(" ")[0], 1)}
        crowded = len(rooms) < len(shares) or bool(full)
        if not rooms:
            self.more = True
            return ()
        async with self._gateway.connection() as db:
            claimed = await store.claim(db, self._gateway.sealer, rooms, full)
        came = Counter(one.verification.attempt.vendor for one in claimed)
        self.more = crowded or any(came[vendor] >= room for vendor, room in rooms.items())
        return claimed

    async def next_in(self) -> float | None:
        async with self._gateway.connection() as db:
            return await store.next_in(db, list(self._places))

    async def renew(self, claims: Sequence[Claimed]) -> None:
        async with self._gateway.connection() as db:
            await store.renew(db, claims)


def _payer(claimed: Claimed) -> str:
    return f"{claimed.verification.attempt.vendor} {claimed.payer}"
