"""What waits to be worked on, as the database holds it. Nothing else in the tests knows how it does.

Work has a key: `ver_…:<step>` for a step of a verification (`ver_…:late<tries>` after its end), `dlv_…:<step>` for a delivery.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from covergate.db.queue_schema import announcement
from covergate.gateway import Gateway
from tests.support.sql import run_numbered

NEAR = "v.deadline < clock_timestamp() + interval '1 minute'"
"""What waits for a deadline that is near keeps waiting for it when the clock is moved."""

_KEY = "convert_from(payload, 'UTF8')"
_STEP = "split_part(entrypoint, ':', 1) = 'advance'"
_HASTEN = f"""
UPDATE pgqueuer SET execute_after = clock_timestamp()
WHERE id IN (
  SELECT id FROM pgqueuer
  WHERE status = 'queued' AND execute_after BETWEEN clock_timestamp() AND clock_timestamp() + make_interval(mins => $1)
    AND NOT EXISTS (SELECT FROM verifications v
                    WHERE v.id = split_part(dedupe_key, ':', 1) AND ({NEAR} OR $2 AND v.completed_at IS NOT NULL))
  FOR UPDATE SKIP LOCKED)
RETURNING entrypoint"""
"""Rows that somebody is working on are left for the next time: the clock must not make anybody wait."""


class Rows(Protocol):
    """Runs a statement with parameters as in `$1` and returns its rows, if it has any."""

    async def __call__(self, statement: str, *values: Any) -> Sequence[Any]: ...


@dataclass(frozen=True)
class Due:
    """The work that waits in one database."""

    rows: Rows

    async def steps(self, within_seconds: float | None = None) -> list[str]:
        """The keys of the steps of verifications, oldest first, those for later included unless they are not `within`."""
        rows = await self.rows(
            f"SELECT {_KEY} FROM pgqueuer WHERE {_STEP}"
            " AND ($1::float8 IS NULL OR execute_after <= now() + make_interval(secs => $1)) ORDER BY id",
            within_seconds,
        )
        return [row[0] for row in rows]

    async def deliveries(self) -> list[tuple[str, str]]:
        """(`deliver` or `deliver_slowly`, key), oldest first, those for later included."""
        rows = await self.rows(f"SELECT entrypoint, {_KEY} FROM pgqueuer WHERE NOT {_STEP} ORDER BY id")
        return [(row[0], row[1]) for row in rows]

    async def seconds_to(self, key: str) -> float:
        """How long this work still rests."""
        [row] = await self.rows(
            "SELECT extract(epoch FROM execute_after - clock_timestamp()) FROM pgqueuer WHERE dedupe_key = $1", key
        )
        return float(row[0])

    async def take(self, key: str) -> None:
        """Away from the others, as if its time had come: only its key is left of it."""
        await self.rows("DELETE FROM pgqueuer WHERE dedupe_key = $1", key)

    async def forget(self) -> None:
        """No worker comes for the steps that wait, as if the one that took them had died; the sweep may find them."""
        await self.rows(f"DELETE FROM pgqueuer WHERE {_STEP}")

    async def forget_stale(self) -> None:
        """Of the steps that wait, those that the verification, the only one, has left behind."""
        await self.rows("DELETE FROM pgqueuer WHERE dedupe_key NOT LIKE '%:' || (SELECT step FROM verifications)")

    async def hasten(self) -> None:
        """All that rests is due now."""
        await self.rows("UPDATE pgqueuer SET execute_after = clock_timestamp() WHERE status = 'queued'")

    async def hasten_within(self, minutes: int, *, late: bool) -> set[str]:
        """What would be due within so many minutes is due now, what comes after a verification's end only if `late`; in
        which groups there is such."""
        return {row[0] for row in await self.rows(_HASTEN, minutes, not late)}

    async def wake(self, groups: Collection[str]) -> None:
        """Tells the workers that there is something to do in these groups."""
        for group in groups:
            await self.rows("SELECT pg_notify($1, $2)", *announcement(group))

    async def put_aside(self) -> None:
        """All that waits or is under way does so for an hour more."""
        await self.rows("UPDATE pgqueuer SET heartbeat = now() + interval '1 hour' WHERE status = 'picked'")
        await self.rows("UPDATE pgqueuer SET execute_after = now() + interval '1 hour' WHERE status = 'queued'")

    async def lose_heartbeats(self) -> None:
        """All that is under way looks abandoned for an hour: it is taken up again, that of living workers too."""
        await self.rows("UPDATE pgqueuer SET heartbeat = clock_timestamp() - interval '1 hour' WHERE status = 'picked'")

    async def add_unreadable(self) -> None:
        """Work, first in line, whose key no worker can read."""
        await self.rows(
            "INSERT INTO pgqueuer (priority, status, entrypoint, payload, execute_after) VALUES"
            " (9, 'queued', 'advance', '\\xff', now()), (9, 'queued', 'deliver', NULL, now())"
        )

    async def hide(self) -> None:
        """As while its tables are being migrated."""
        await self.rows("ALTER TABLE pgqueuer RENAME TO pgqueuer_away")

    async def show(self) -> None:
        await self.rows("ALTER TABLE pgqueuer_away RENAME TO pgqueuer")


def due_in(gateway: Gateway) -> Due:
    return Due(partial(run_numbered, gateway))
