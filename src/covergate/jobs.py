"""Jobs: nudges in PgQueuer, enqueued in the transaction that makes them necessary.

A payload holds ids and a step, nothing else: PgQueuer copies it into its log. A job that is lost is found by the sweep; a job
that comes twice or late is stopped by the step it carries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.queue_schema import make_queries

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


async def enqueue(db: AsyncConnection, jobs: Sequence[Job]) -> None:
    """In the caller's transaction, which must have begun: SQLAlchemy sends BEGIN with the first statement only."""
    if not jobs:
        return
    raw = (await db.get_raw_connection()).driver_connection
    if not isinstance(raw, asyncpg.Connection) or not raw.is_in_transaction():
        raise RuntimeError("jobs are enqueued inside a transaction that has begun")
    await make_queries(AsyncpgDriver(raw)).enqueue(
        [job.entrypoint for job in jobs],
        [job.key.encode() for job in jobs],
        [0] * len(jobs),
        execute_after=[max(job.after, timedelta(0)) for job in jobs],
        dedupe_key=[job.key for job in jobs],
        on_conflict="skip",
    )
