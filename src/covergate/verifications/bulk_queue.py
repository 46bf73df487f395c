"""The queue of bulk jobs, and one that a worker has claimed for a slice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from covergate.access.caller import Caller, CallerKind, Origin
from covergate.db.queue import due, renewing, taking
from covergate.db.sql import Query, Record
from covergate.gateway import Gateway
from covergate.states import BulkAction
from covergate.verifications.bulk_jobs import BULK_JOBS, read_filters
from covergate.verifications.operator import Resolution
from covergate.verifications.queries import Filters

JOBS_AT_ONCE = 2
"""In one worker."""
NO_LONGER_MATCHES, ALREADY_RETRIED = "no_longer_matches", "already_retried"
"""Why one is skipped."""

_CLAIM = Query(f"""
WITH lanes AS (SELECT 'bulk' AS lane, CAST(:room AS int) AS room), due AS MATERIALIZED (
{due("bulk_jobs", "id", "lanes", "t.due_at IS NOT NULL")}
), {taking("bulk_jobs", "id")}
SELECT * FROM taken""")
_RENEW = Query(renewing("bulk_jobs", "id"))
_NEXT_IN = Query(
    "SELECT extract(epoch FROM min(due_at) - clock_timestamp())::float8 FROM bulk_jobs WHERE due_at > now()"
)


class BulkStopped(Exception):
    """The job is another worker's, or was stopped, or this verification was done."""


class BulkSkipped(Exception):
    """There is nothing to be done to this one, or not any more."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job of this worker's, for a slice. Its caller is who ordered it, with what that one may see."""

    id: str
    step: int
    action: BulkAction
    caller: Caller
    filters: Filters
    resolution: Resolution | None
    again: bool
    corrections_sealed: bytes | None = field(repr=False)

    @property
    def key(self) -> str:
        return self.id

    @property
    def named(self) -> dict[str, Any]:
        return {"id": self.id, "step": self.step}


class BulkQueue:
    """The queue of jobs."""

    channel = BULK_JOBS

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.more = False

    async def claim(self, under_way: Collection[ClaimedJob]) -> Sequence[ClaimedJob]:
        room = JOBS_AT_ONCE - len(under_way)
        self.more = room <= 0
        if room <= 0:
            return ()
        async with self._gateway.connection() as db:
            rows = await _CLAIM.all(db, {"room": room})
        return [_claimed(row) for row in rows]

    async def next_in(self) -> float | None:
        async with self._gateway.connection() as db:
            seconds: float | None = await _NEXT_IN.scalar(db)
        return seconds

    async def renew(self, rows: Sequence[ClaimedJob]) -> None:
        async with self._gateway.connection() as db:
            await _RENEW.run(db, {"keys": [row.id for row in rows], "steps": [row.step for row in rows]})


def _claimed(row: Record) -> ClaimedJob:
    kind = CallerKind(row.actor_kind)
    scopes = frozenset({"verifications:read" if kind is CallerKind.KEY else "phi"} if row.sees_phi else ())
    origin = Origin(row.request_id, row.address, row.acting_user)
    return ClaimedJob(
        row.id,
        row.step,
        BulkAction(row.action),
        Caller(row.tenant_id, row.mode, row.actor_id, scopes, kind=kind, origin=origin),
        read_filters(row["filter"]),
        None if row.resolution is None else Resolution(row.resolution),
        row.again,
        row.corrections_sealed,
    )
