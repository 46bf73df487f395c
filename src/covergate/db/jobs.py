"""Jobs: nudges in PgQueuer, enqueued in the transaction that makes them necessary.

A payload holds ids and a step, nothing else: PgQueuer copies it into its log. A job that is lost is found by the sweep; a job
that comes twice or late is stopped by the step it carries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.notify import tell
from covergate.db.queue_schema import announcement, enqueue_sql, withdraw_sql
from covergate.db.sql import Query

ADVANCE = "advance"
"""The group of all lanes; each vendor has a lane, so that one vendor's backlog stays its own."""
DELIVER = "deliver"
DELIVER_SLOWLY = "deliver_slowly"


@dataclass(frozen=True, slots=True)
class Job:
    """`key` is both payload and dedupe key, e.g. `ver_…:3`: at most one such job is queued or running."""

    entrypoint: str
    key: str
    after: timedelta = timedelta(0)


def lane(vendor: str) -> str:
    """The entrypoint of one vendor's jobs."""
    return f"{ADVANCE}:{vendor}"


def advance(vendor: str, verification_id: str, step: int, after: timedelta = timedelta(0)) -> Job:
    return Job(lane(vendor), f"{verification_id}:{step}", after)


def advance_late(vendor: str, verification_id: str, tries: int = 0, after: timedelta = timedelta(0)) -> Job:
    """Fetch what a vendor answered after the end."""
    return Job(lane(vendor), f"{verification_id}:late{tries}", after)


def deliver(delivery_id: str, step: int, after: timedelta = timedelta(0), *, slow: bool = False) -> Job:
    return Job(DELIVER_SLOWLY if slow else DELIVER, f"{delivery_id}:{step}", after)


_ENQUEUE = Query(enqueue_sql())
_WITHDRAW = Query(withdraw_sql())


def enqueuing(jobs: Sequence[Job]) -> dict[str, Any]:
    """The values for a statement that has `enqueue_sql` as one of its parts; `announce` goes with it."""
    return {
        "j_entrypoints": [job.entrypoint for job in jobs],
        "j_keys": [job.key for job in jobs],
        "j_waits": [max(job.after, timedelta(0)) for job in jobs],
    }


def announce(db: AsyncConnection, jobs: Sequence[Job]) -> None:
    """Wakes the workers after the commit; without it they look within seconds."""
    for job in jobs:
        tell(db, *announcement(job.entrypoint))


async def withdraw(db: AsyncConnection, jobs: Sequence[Job]) -> None:
    """Takes jobs out of the queue that nobody needs any more. They would do nothing, but thousands of them do it at once."""
    await _WITHDRAW.all(db, {"keys": [job.key for job in jobs]})


async def enqueue(db: AsyncConnection, jobs: Sequence[Job]) -> None:
    """In the caller's transaction."""
    return
