"""Brings a database to the schema that this version of the package expects, and tells whether it is there.

Alembic's migrations run under an advisory lock; then the next months' partitions are made. Invariants: running it any
number of times, also from several processes at once, ends in the same schema; processes of the version before go on
working while and after it runs, if the migrations say that they can (`compatible_with`); no migration keeps others
waiting for a lock.

The database itself says which code works with its schema: `alembic_version` has its revision, and the comment on that
table lists all revisions whose code works with it. An older process, to which the new revision is unknown, looks there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import asyncpg
import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.connect import make_engine
from covergate.db.partitions import AUDIT_MONTHS, BY_MONTH, Partitions
from covergate.db.roles import grant
from covergate.errors import ConfigurationError

log = structlog.get_logger(__name__)

MIGRATION_LOCK = 0x636F766572676174  # "covergat" in ASCII: the advisory lock of a migration
LONGEST_STATEMENT = 0  # no limit: a migration may rewrite a table, and waiting for the lock is a statement too
TABLE_LOCK_SECONDS = 2.0
"""The longest wait of a migration for a table, and so of everything that queues for the table behind it."""
MIGRATION_PAUSE_SECONDS = 5.0
"""The pause before it tries again from the start, e.g. because a long read had the table."""

RETRIED = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)


def scripts() -> Path:
    """The directory of migrations: inside the installed package, or beside `src` in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent.parent / "migrations"


async def migrate(url: str, *, runtime_role: str | None = None, history_months: int | None = None) -> None:
    """`runtime_role`: the role of API and workers, if it is not the tables' owner; it is granted what they need.

    `history_months`: older months are dropped, which only the owner may; and those of the audit past their six years.
    """
    async with _alone(url) as connection:
        if await _is_newer_and_compatible(connection):
            return
        await connection.commit()
        await _run(connection, command.upgrade, "head")
        partitions = Partitions(partial(_begin, connection))
        await partitions.make_ahead()
        if history_months is not None:
            await partitions.drop_old(history_months)
        await partitions.drop_old(AUDIT_MONTHS, "audit_events")
        if runtime_role is not None:
            async with connection.begin():
                await grant(connection, runtime_role)


async def downgrade(url: str, revision: str) -> None:
    """Back to `revision` (`base`: nothing of ours is left)."""
    async with _alone(url) as connection:
        await connection.commit()
        await _run(connection, command.downgrade, revision)


async def require_current(connection: AsyncConnection) -> None:
    """Raises `ConfigurationError` unless the schema is this version's, or a newer one that works with it."""
    revision = await _revision(connection)
    if revision is None:
        raise ConfigurationError("the database has no CoverGate tables yet: run `covergate migrate`")
    if await _is_newer_and_compatible(connection):
        return
    if revision != _known().get_current_head():
        raise ConfigurationError("the database is of an older version of CoverGate: run `covergate migrate`")


def ours(name: str | None, kind: str, parents: object) -> bool:
    """Alembic's `include_name`: everything but partitions, which come and go."""
    return kind != "table" or not (name or "").startswith(tuple(f"{table}_" for table in BY_MONTH))


@asynccontextmanager
async def _alone(url: str) -> AsyncIterator[AsyncConnection]:
    """A connection that holds the migration lock; the lock goes with the connection at the latest."""
    engine = make_engine(
        url,
        pool_size=1,
        application_name="covergate migrate",
        statement_timeout_seconds=LONGEST_STATEMENT,
        lock_timeout_seconds=LONGEST_STATEMENT,
    )
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK})
            await connection.commit()
            yield connection
    finally:
        await engine.dispose()


@asynccontextmanager
async def _begin(connection: AsyncConnection) -> AsyncIterator[AsyncConnection]:
    async with connection.begin():
        yield connection


async def _run(connection: AsyncConnection, run: Callable[[Config, str], None], revision: str) -> None:
    """In one transaction, begun again for as long as it does not get a lock in time."""
    while True:
        try:
            async with connection.begin():
                await connection.execute(text(f"SET LOCAL lock_timeout = '{TABLE_LOCK_SECONDS}s'"))
                await connection.run_sync(_alembic, run, revision)
            return
        except DBAPIError as error:
            if not isinstance(error.__cause__ and error.__cause__.__cause__, RETRIED):
                raise
        log.info("migration_waits", reason="another transaction has a table that it needs")
        await asyncio.sleep(MIGRATION_PAUSE_SECONDS)


def _alembic(connection: Connection, run: Callable[[Config, str], None], revision: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    run(config, revision)
    reached = MigrationContext.configure(connection).get_current_revision()
    works_with = " ".join(sorted(compatible_revisions(_known(), reached))) if reached else ""
    connection.execute(text(f"COMMENT ON TABLE alembic_version IS '{works_with}'"))


def compatible_revisions(known: ScriptDirectory, revision: str) -> set[str]:
    """The revisions whose code works with this schema: its own, those it names, and, if it names the one before, that one's."""
    script = known.get_revision(revision)
    named = set(getattr(script.module, "compatible_with", ()))
    before = script.down_revision
    if isinstance(before, str) and before in named:  # a tuple would be a merge of branches, which ours have not
        return {revision} | named | compatible_revisions(known, before)
    return {revision} | named


def _known() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    return config


async def _revision(connection: AsyncConnection) -> str | None:
    if not await connection.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL")):
        return None
    revision: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


async def _is_newer_and_compatible(connection: AsyncConnection) -> bool:
    """Raises `ConfigurationError` if it is newer and not compatible."""
    known = _known()
    revision = await _revision(connection)
    if revision is None or revision in {script.revision for script in known.walk_revisions()}:
        return False
    comment = await connection.scalar(text("SELECT obj_description('alembic_version'::regclass, 'pg_class')"))
    # Its own revision too: else the comment is about another schema.
    if not {revision, known.get_current_head()} <= {*(comment or "").split()}:
        raise ConfigurationError(
            "the database is of a newer version of CoverGate, and `covergate migrate` cannot go back: run that version"
        )
    return True
