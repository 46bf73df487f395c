"""Tables by month: a partition for this month and the next ones, made ahead of time; old ones are dropped.

A row whose month has no partition goes to the default one, `<table>_rest`, and is read there like any other. So nothing here
is urgent: what cannot be done now is done another time. Invariant: no lock is waited for longer than `TURN_SECONDS`, because
PostgreSQL has all who accept and work queue behind such a wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.sql import Query, Record

log = structlog.get_logger(__name__)

MONTHS_AHEAD = 3
AUDIT_MONTHS = 72
"""How long the audit is kept."""
TURN_SECONDS = 0.3
"""The longest wait for a table that others use. Their transactions take some ms; what takes longer is waited for another time."""
SEARCH_SECONDS = 1.0
"""The longest search of the default partition, which PostgreSQL repeats while it keeps others from writing."""
REST_BATCH = 5000

# Months are UTC's, whatever the session's zone.
_THIS_MONTH = "date_trunc('month', now() AT TIME ZONE 'UTC')"
KEPT_SINCE = f"({_THIS_MONTH} - make_interval(months => :months))"
"""Months that ended before are old."""


@dataclass(frozen=True, slots=True)
class Months:
    """Statements over the partitions of one table."""

    table: str
    missing: Query
    old: Query
    in_rest: Query
    delete_from_rest: Query | None
    """None: of this table no row is ever deleted."""
    never_truncated: bool = False


def _months(table: str, *, append_only: bool = False) -> Months:
    partitions = f"pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = '{table}'::regclass"
    missing = f"""
SELECT '{table}_' || to_char(month, 'YYYY_MM') AS name, month AT TIME ZONE 'UTC' AS since,
  (month + interval '1 month') AT TIME ZONE 'UTC' AS until
FROM generate_series({_THIS_MONTH}, {_THIS_MONTH} + make_interval(months => :ahead), interval '1 month') AS month
WHERE '{table}_' || to_char(month, 'YYYY_MM') NOT IN (SELECT relname FROM {partitions}) ORDER BY month"""
    old = f"""
SELECT relname AS name FROM {partitions} AND relname ~ '^{table}_[0-9]{{4}}_[0-9]{{2}}$'
  AND to_date(right(relname, 7), 'YYYY_MM') + interval '1 month' <= {KEPT_SINCE} ORDER BY relname"""
    delete_from_rest = f"""
DELETE FROM {table}_rest WHERE ctid IN (
  SELECT ctid FROM {table}_rest WHERE at < {KEPT_SINCE} AT TIME ZONE 'UTC' LIMIT :batch)"""
    return Months(
        table,
        Query(missing, ahead="int"),
        Query(old, months="int"),
        Query(f"SELECT EXISTS (SELECT FROM {table}_rest WHERE at >= :since AND at < :until)"),
        None if append_only else Query(delete_from_rest, months="int"),
        never_truncated=append_only,
    )


BY_MONTH = {"history": _months("history"), "audit_events": _months("audit_events", append_only=True)}

_LIMITS = Query("SELECT set_config('lock_timeout', :turn, true), set_config('statement_timeout', :search, true)")
_LOCK = Query("SELECT pg_advisory_xact_lock(hashtextextended('covergate partitions', 0))")


class _InTheWay(Exception):
    """The default partition has rows that would belong into the new one."""


_BUSY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
_REFUSED: dict[type[Exception], str] = {
    asyncpg.InsufficientPrivilegeError: "this role may not: run `covergate migrate` as the owner of the tables",
    asyncpg.QueryCanceledError: "the default partition takes too long to search",
    _InTheWay: "the default partition has rows of this month, and goes on taking them",
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
        for months in BY_MONTH.values():
            await self._change_each(months, months.missing, {"ahead": MONTHS_AHEAD}, _make, "partition_made")

    async def drop_old(self, months: int, table: str = "history") -> None:
        """Partitions whose rows are all older than so many months; and the default partition's rows of that age."""
        of_table = BY_MONTH[table]
        await self._change_each(of_table, of_table.old, {"months": months}, _drop, "partition_dropped")
        deleted = REST_BATCH
        while deleted == REST_BATCH and of_table.delete_from_rest is not None:
            async with self._transaction() as db:
                deleted = await of_table.delete_from_rest.run(db, {"months": months, "batch": REST_BATCH})

    async def _change_each(
        self,
        of_table: Months,
        due: Query,
        values: Mapping[str, Any],
        change: Callable[[AsyncConnection, Months, Record], Awaitable[None]],
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
                    await change(db, of_table, month)
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


async def _make(db: AsyncConnection, months: Months, month: Record) -> None:
    if await months.in_rest.scalar(db, {"since": month.since, "until": month.until}):
        raise _InTheWay
    await Query(f"CREATE TABLE {month.name} (LIKE {months.table} INCLUDING ALL)").run(db)
    span = f"FROM ('{month.since.isoformat()}') TO ('{month.until.isoformat()}')"
    await Query(f"ALTER TABLE {months.table} ATTACH PARTITION {month.name} FOR VALUES {span}").run(db)
    if (
        months.never_truncated
    ):  # PostgreSQL gives a partition its table's triggers for rows, but not those for statements
        await Query(
            f"CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON {month.name}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        ).run(db)


async def _drop(db: AsyncConnection, _: Months, partition: Record) -> None:
    await Query(f"DROP TABLE {partition.name}").run(db)
