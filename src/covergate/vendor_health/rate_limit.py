"""Requests per second that hold across the fleet: a token bucket per vendor, mode and account, one row in PostgreSQL.

A process takes tokens in small lots, so that a call costs no round trip of its own, and lets go of those it does not use
within a second. Vendors that state no rate are not limited.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from covergate.db.kept import Kept
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.vendors.account import SHARED
from covergate.vendors.errors import VendorRateLimited

LOT_SECONDS = 0.05
"""A process takes the calls of so many seconds at once."""
LONGEST_WAIT_SECONDS = 2.0
"""A call that would have to wait longer is put back instead: `rate_limit`."""

KEPT = (Kept("vendor_rates", "one row for each vendor, mode and account"),)

_REFILLED = "least(:full, r.tokens + :rate * greatest(extract(epoch FROM clock_timestamp() - r.at), 0))"
_TAKE = Query(
    f"""
INSERT INTO vendor_rates AS r (vendor, mode, account, tokens, at)
VALUES (:vendor, :mode, :account, :full - :lot, clock_timestamp())
ON CONFLICT (vendor, mode, account) DO UPDATE SET tokens = {_REFILLED} - :lot, at = greatest(r.at, clock_timestamp())
WHERE {_REFILLED} - :lot >= - :rate * :longest
RETURNING tokens""",
    **dict.fromkeys(("rate", "lot", "full", "longest"), "double precision"),
)


@dataclass
class _Lot:
    left: float = 0.0
    until: float = 0.0


class RateLimits:
    """Tokens that this process holds, per vendor, mode and account."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._lots: dict[tuple[str, str, str], _Lot] = {}
        self._locks: dict[tuple[str, str, str], asyncio.Lock] = {}

    async def take(self, vendor: str, mode: str, per_second: float | None, account: str = SHARED) -> None:
        """Returns when one call may go out. Raises VendorRateLimited if that would take too long."""
        if per_second is None:
            return
        key = (vendor, mode, account)
        async with self._locks.setdefault(key, asyncio.Lock()):
            loop = asyncio.get_running_loop()
            lot = self._lots.setdefault(key, _Lot())
            if lot.left < 1 or loop.time() > lot.until:
                wait = await self._fetch(key, per_second, lot)
                if wait > 0:
                    await asyncio.sleep(wait)
                lot.until = loop.time() + 1.0
            lot.left -= 1

    async def _fetch(self, key: tuple[str, str, str], per_second: float, lot: _Lot) -> float:
        """Takes a lot, on credit for a short while if need be: the seconds until it is covered."""
        size = max(1.0, float(int(per_second * LOT_SECONDS)))
        vendor, mode, account = key
        values: dict[str, object] = {"vendor": vendor, "mode": mode, "account": account}
        values |= {"rate": per_second, "full": max(per_second, 1.0), "lot": size}
        async with self.gateway.connection() as db:
            tokens = await _TAKE.scalar(db, {**values, "longest": LONGEST_WAIT_SECONDS})
        if tokens is None:
            raise VendorRateLimited("the gateway's own limit for this vendor", retry_after=LONGEST_WAIT_SECONDS)
        lot.left = size
        return max(0.0, -float(tokens) / per_second)
