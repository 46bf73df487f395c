"""`history` by month: a partition for this month and the next ones, made ahead of time; old ones are dropped.

A row whose month has no partition goes to the default one, `history_rest`, and is read there like any other. So nothing here
is urgent: what cannot be done now is done another time. Invariant: no lock is waited for longer than `TURN_SECONDS`, because
PostgreSQL has all who accept and work queue behind such a wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.sql import Query, Record

log = structlog.get_logger(__name__)

MONTHS_AHEAD = 3
TURN_SECONDS = 0.3
"""The longest wait for a table that others use. Their transactions take some ms; what takes longer is waited for another time."""
SEARCH_SECONDS = 1.0
"""The longest search of the default partition, which PostgreSQL repeats while it keeps others from writing."""
REST_BATCH = 5000

# Months are UTC's, whatever the session's zone.
_THIS_MONTH = "date_trunc('month', now() AT TIME ZONE 'UTC')"
_KEPT_SINCE = f"({_THIS_MONTH} - make_interval(months => :months))"
_PARTITIONS = "pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'history'::regclass"
_MISSING = Query(
    f"""
SELECT 'history_' || to_char(month, 'YYYY_MM') AS name, month AT TIME ZONE 'UTC' AS since,
  (month + interval '1 month') AT TIME ZONE 'UTC' AS until
FROM generate_series({_THIS_MONTH}, {_THIS_MONTH} + make_interval(months => :ahead), interval '1 month') AS month
WHERE 'history_' || to_char(month, 'YYYY_MM') NOT IN (SELECT relname FROM {_PARTITIONS}) ORDER BY month""",
    ahead="int",
)
_OLD = Query(
    f"""
SELECT relname AS name FROM {_PARTITIONS} AND relname ~ '^history_[0-9]{{4}}_[0-9]{{2}}$'
  AND to_date(right(relname, 7), 'YYYY_MM') + interval '1 month' <= {_KEPT_SINCE} ORDER BY relname""",
    months="int",
)
_LIMITS = Query("SELECT set_config('lock_timeout', :turn, true), set_config('statement_timeout', :search, true)")
_LOCK = Query("SELECT pg_advisory_xact_lock(hashtextextended('covergate partitions', 0))")
_IN_REST = Query("SELECT EXISTS (SELECT FROM history_rest WHERE at >= :since AND at < :until)")
_DELETE_FROM_REST = Query(
    f"""
DELETE FROM history_rest WHERE ctid IN (
  SELECT ctid FROM history_rest WHERE at < {_KEPT_SINCE} AT TIME ZONE 'UTC' LIMIT :batch)""",
    months="int",
)


class _InTheWay(Exception):
    """The default partition has rows that would belong into the new one."""


_BUSY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
_REFUSED: dict[type[Exception], str] = {
    asyncpg.InsufficientPrivilegeError: "this role may not: run `covergate migrate` as the owner of the tables",
    asyncpg.QueryCanceledError: "history_rest takes too long to search",
    _InTheWay: "history_rest has rows of this month, and goes on taking them",
    asyncpg.DuplicateTableError: "a table of this name is no partition",
    asyncpg.InvalidObjectDefinitionError: "another partition has a part of this month",
}
"""Error → what it means here."""


class Partitions:
    """Of one database. Each trouble is warned of once."""

    def __init__(self, transaction: Callable[[], AbstractAsyncContextManager[AsyncConnection]]) -> None:
        self._transaction = transaction
        self._warned: set[str] = set()

    async def make_ahead(self) -> None:
        """This month's partition and those of the next months, if they are missing and can be made now."""
        await self._change_each(_MISSING, {"ahead": MONTHS_AHEAD}, _make, "partition_made")

    async def drop_old(self, months: int) -> None:
        """Partitions whose rows are all older than so many months; and the default partition's rows of that age."""
        await self._change_each(_OLD, {"months": months}, _drop, "partition_dropped")
        deleted = REST_BATCH
        while deleted == REST_BATCH:
            async with self._transaction() as db:
                deleted = await _DELETE_FROM_REST.run(db, {"months": months, "batch": REST_BATCH})

    async def _change_each(
        self,
        due: Query,
        values: Mapping[str, Any],
        change: Callable[[AsyncConnection, Record], Awaitable[None]],
        event: str,
    ) -> None:
        """Each month in a transaction of its own, one process at a time."""
        async with self._transaction() as db:
            months = await due.all(db, values)
        for month in months:
            try:
                async with self._transaction() as db:
                    await _LIMITS.run(db, {"turn": f"{TURN_SECONDS}s", "search": f"{SEARCH_SECONDS}s"})
                    await _LOCK.run(db)
                    if month not in await due.all(db, values):
                        continue  # another process was first
                    await change(db, month)
                log.info(event, partition=month.name)
            except _BUSY:
                log.info(
                    "partition_waits", partition=month.name, reason="other transactions have a table that it needs"
                )
            except tuple(_REFUSED) as error:
                self._warn(month.name, next(why for kind, why in _REFUSED.items() if isinstance(error, kind)))

    def _warn(self, name: str, reason: str) -> None:
        if reason not in self._warned:
            self._warned.add(reason)
            log.warning("partition_not_changed", partition=name, reason=reason)


async def _make(db: AsyncConnection, month: Record) -> None:
    if await _IN_REST.scalar(db, {"since": month.since, "until": month.until}):
        raise _InTheWay
    await Query(f"CREATE TABLE {month.name} (LIKE history INCLUDING ALL)").run(db)
    span = f"FROM ('{month.since.isoformat()}') TO ('{month.until.isoformat()}')"
    await Query(f"ALTER TABLE history ATTACH PARTITION {month.name} FOR VALUES {span}").run(db)


async def _drop(db: AsyncConnection, partition: Record) -> None:
    await Query(f"DROP TABLE {partition.name}").run(db)
