"""Deliveries that wait, as the database holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from covergate.gateway import Gateway
from tests.support.due import Rows
from tests.support.sql import run_numbered

_WAITING = "status = 'pending' AND due_at < next_attempt_at + interval '1 s'"
"""Neither ended nor claimed."""


@dataclass(frozen=True)
class DueDeliveries:
    """The deliveries of one database that wait for their next try."""

    rows: Rows

    async def ids(self) -> list[str]:
        """The soonest first, those for later included; not those that are claimed."""
        found: Sequence[Any] = await self.rows(f"SELECT id FROM deliveries WHERE {_WAITING} ORDER BY due_at, id")
        return [row[0] for row in found]

    async def seconds_to(self, delivery_id: str) -> float:
        """How long this one still rests, or is its claimer's."""
        [row] = await self.rows(
            "SELECT extract(epoch FROM due_at - clock_timestamp()) FROM deliveries WHERE id = $1", delivery_id
        )
        return float(row[0])

    async def come(self, delivery_id: str) -> None:
        """Its time has come, before that of all others."""
        await self.rows("UPDATE deliveries SET due_at = '2000-01-01' WHERE id = $1", delivery_id)

    async def hasten(self) -> None:
        """All that rests is due now."""
        await self.rows(
            f"UPDATE deliveries SET due_at = now(), next_attempt_at = least(next_attempt_at, now()) WHERE {_WAITING}"
        )

    async def end_leases(self) -> None:
        """All that is claimed looks abandoned."""
        await self.rows(
            "UPDATE deliveries SET due_at = next_attempt_at WHERE id IN"
            " (SELECT id FROM deliveries WHERE status = 'pending' AND due_at > next_attempt_at FOR NO KEY UPDATE SKIP LOCKED)"
        )


def deliveries_due_in(gateway: Gateway) -> DueDeliveries:
    return DueDeliveries(partial(run_numbered, gateway))
