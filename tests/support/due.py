"""What waits to be worked on, as the database holds it. Nothing else in the tests knows how it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from covergate.gateway import Gateway
from tests.support.sql import run_numbered

NEAR = "deadline < clock_timestamp() + interval '1 minute'"
"""What waits for a deadline that is near keeps waiting for it when the clock is moved."""

_UNDER_WAY = "due_at > next_check_at"
"""Claimed, and its lease has not ended."""
_HASTEN = f"""
UPDATE work SET due_at = clock_timestamp(), next_check_at = least(next_check_at, clock_timestamp())
WHERE verification_id IN (
  SELECT verification_id FROM work
  WHERE NOT {_UNDER_WAY} AND due_at BETWEEN clock_timestamp() AND clock_timestamp() + make_interval(mins => $1)
    AND NOT {NEAR} AND ($2 OR late_tries IS NULL)
  FOR NO KEY UPDATE SKIP LOCKED)"""
"""Rows that somebody is working on are left for the next time: the clock must not make anybody wait."""


class Rows(Protocol):
    """Runs a statement with parameters as in `$1` and returns its rows, if it has any."""

    async def __call__(self, statement: str, *values: Any) -> Sequence[Any]: ...


@dataclass(frozen=True)
class Due:
    """The verifications that wait in one database."""

    rows: Rows

    async def steps(self, within_seconds: float | None = None) -> list[str]:
        """The ids of verifications that have a step to come, the soonest first; `late` looks after the end included."""
        rows = await self.rows(
            f"SELECT verification_id FROM work WHERE NOT {_UNDER_WAY}"
            " AND ($1::float8 IS NULL OR due_at <= now() + make_interval(secs => $1)) ORDER BY due_at, verification_id",
            within_seconds,
        )
        return [row[0] for row in rows]

    async def seconds_to(self, verification_id: str) -> float:
        """How long this verification still rests."""
        [row] = await self.rows(
            "SELECT extract(epoch FROM due_at - clock_timestamp()) FROM work WHERE verification_id = $1",
            verification_id,
        )
        return float(row[0])

    async def come(self, verification_id: str) -> str:
        """Its time has come, before that of all others; its lane."""
        [row] = await self.rows(
            "UPDATE work SET due_at = '2000-01-01', next_check_at = least(next_check_at, clock_timestamp())"
            " WHERE verification_id = $1 RETURNING vendor",
            verification_id,
        )
        return str(row[0])

    async def hasten(self) -> None:
        """All that rests is due now."""
        await self.rows(
            "UPDATE work SET due_at = least(due_at, clock_timestamp()), next_check_at = least(next_check_at, clock_timestamp())"
            f" WHERE NOT {_UNDER_WAY}"
        )

    async def hasten_within(self, minutes: int, *, late: bool) -> None:
        """What would be due within so many minutes is due now, what comes after a verification's end only if `late`."""
        await self.rows(_HASTEN, minutes, late)

    async def wake(self) -> None:
        """Tells the workers that there is something to do."""
        await self.rows("SELECT pg_notify('covergate_work', '0')")

    async def put_aside(self) -> None:
        """All that waits or is under way does so for an hour more."""
        later = "least(now() + interval '1 hour', deadline)"
        await self.rows(f"UPDATE work SET due_at = {later}, next_check_at = {later}")

    async def end_leases(self) -> None:
        """All that is under way looks abandoned: it is taken up again, that of living workers too, but what is being written."""
        await self.rows(
            "UPDATE work SET due_at = next_check_at WHERE verification_id IN"
            f" (SELECT verification_id FROM work WHERE {_UNDER_WAY} FOR NO KEY UPDATE SKIP LOCKED)"
        )

    async def hide(self) -> None:
        """As while its table is being migrated."""
        await self.rows("ALTER TABLE work RENAME TO work_away")

    async def show(self) -> None:
        await self.rows("ALTER TABLE work_away RENAME TO work")


def due_in(gateway: Gateway) -> Due:
    return Due(partial(run_numbered, gateway))
