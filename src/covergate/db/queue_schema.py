"""PgQueuer's schema in our database, and the only way to make its `Queries`.

Its trigger is off: it would announce every job that is added, taken or done, from inside the transaction, to every group. Jobs
are announced after the commit (`notify.py`), to the group that they are for.

Invariant: nothing but this file names or shapes its tables. PgQueuer itself reads bare variables such as DURABILITY,
TRIGGER, FUNCTION and CHANNEL from the environment; here the environment is not a source, and every field is stated.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.domain.models import TableChangedEvent
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.domain.types import Channel, QueueEntrypoint
from pgqueuer.ports.driver import Driver
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

CHANNEL = Channel("ch_pgqueuer")
LOOK_AHEAD_SECONDS = 60
"""How far ahead a group that rests looks for its next job; it looks again sooner than that."""
DUE_INDEX = "pgqueuer_queued_execute_after_idx"
"""Ours, on PgQueuer's table: with 300,000 parked jobs it brings a pick-up from 71 ms back to 10 ms. Made last."""


_NEXT = f"""
SELECT execute_after - now() AS next_in FROM pgqueuer
WHERE status = 'queued' AND entrypoint = ANY($1) AND execute_after < now() + interval '{LOOK_AHEAD_SECONDS} seconds'
ORDER BY execute_after LIMIT 1"""


class _StatedSettings(DBSettings):
    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


@cache
def queue_settings() -> DBSettings:
    return _StatedSettings(
        prefix="",
        db_schema=None,
        channel=CHANNEL,
        function="fn_pgqueuer_changed",
        statistics_table="pgqueuer_statistics",
        queue_status_type="pgqueuer_status",
        queue_table="pgqueuer",
        queue_table_log="pgqueuer_log",
        trigger="tg_pgqueuer_changed",
        schedules_table="pgqueuer_schedules",
        durability=Durability.balanced,  # its log and statistics are unlogged: they are not what we answer from
        widen_id=True,
    )


def channel_of(group: str) -> Channel:
    """Where the jobs of a group are announced: all entrypoints that are called `<group>` or `<group>:<lane>`."""
    return Channel(f"{CHANNEL}_{group}")


@cache
def announcement(entrypoint: str) -> tuple[str, str]:
    """Channel and payload that wake the group of this entrypoint. PgQueuer asks for a time, which nobody reads."""
    channel = channel_of(entrypoint.partition(":")[0])
    event = TableChangedEvent(
        channel=channel,
        operation="insert",
        sent_at=datetime.fromtimestamp(0, UTC),
        table=queue_settings().queue_table,
        type="table_changed_event",
    )
    return channel, event.model_dump_json()


def enqueue_sql(condition: str = "true") -> str:
    """What PgQueuer's own `enqueue(…, on_conflict='skip')` does, but for its log, so that it can be part of a statement.

    Its parameters are `jobs.enqueuing`'s; nothing is queued where the condition does not hold.
    """
    return f"""
INSERT INTO pgqueuer (priority, entrypoint, payload, execute_after, dedupe_key, status)
SELECT 0, entrypoint, convert_to(key, 'UTF8'), now() + after, key, 'queued'
FROM unnest(CAST(:j_entrypoints AS text[]), CAST(:j_keys AS text[]), CAST(:j_waits AS interval[])) AS j(entrypoint, key, after)
WHERE {condition}
ON CONFLICT (dedupe_key) WHERE status IN ('queued', 'picked') AND dedupe_key IS NOT NULL DO NOTHING"""


def withdraw_sql() -> str:
    """Takes the jobs with these `keys` out of the queue, but for those under way."""
    return "DELETE FROM pgqueuer WHERE dedupe_key = ANY(CAST(:keys AS text[])) AND status = 'queued'"


def oldest_due_sql(group: str) -> str:
    """An expression: the time of the group's oldest job that waits, be it past or not."""
    return (
        f"(SELECT execute_after FROM pgqueuer WHERE status = 'queued' AND split_part(entrypoint, ':', 1) = '{group}'"
        " ORDER BY execute_after LIMIT 1)"
    )


class _OneLook(Queries):
    """PgQueuer looks three times before it rests (anything due, the next one's time, anything at all); this looks once."""

    _next_in: timedelta | None = None

    async def eligible_queued_work(self, entrypoints: list[QueueEntrypoint]) -> int:
        rows = await self.driver.fetch(_NEXT, entrypoints)
        self._next_in = rows[0]["next_in"] if rows else None  # type: ignore[assignment]
        return int(self._next_in is not None and self._next_in <= timedelta(0))

    async def next_deferred_eta(self, entrypoints: list[QueueEntrypoint]) -> timedelta | None:
        return self._next_in

    async def queued_work(self, entrypoints: list[QueueEntrypoint]) -> int:
        return int(self._next_in is not None)


def make_queries(driver: Driver, group: str | None = None) -> Queries:
    """`group`: for the manager of that group's jobs."""
    settings = queue_settings()
    if group is not None:
        settings = settings.model_copy(update={"channel": channel_of(group)})
    return _OneLook(
        driver,
        qbe=QueryBuilderEnvironment(settings),
        qbq=QueryQueueBuilder(settings),
        qbs=QuerySchedulerBuilder(settings),
    )


async def install(connection: asyncpg.Connection) -> None:
    """Creates or upgrades PgQueuer's objects and our index; a no-op when all is there. Not inside a transaction."""
    queries = make_queries(AsyncpgDriver(connection))
    await queries.apply_upgrade()
    settings = queue_settings()
    table = settings.queue_table
    enabled = "SELECT tgenabled <> 'D' FROM pg_trigger WHERE tgrelid = to_regclass($1) AND tgname = $2"
    if await connection.fetchval(enabled, table, settings.trigger):
        await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER {settings.trigger}")
    await connection.execute(
        f"CREATE INDEX IF NOT EXISTS {DUE_INDEX} ON {table} (execute_after) WHERE status = 'queued'"
    )
