"""Brings a database to the schema that this version of the package expects, and tells whether it is there.

The order: an advisory lock, Alembic's migrations, PgQueuer's own upgrade, our index on its table. Invariant: running it
any number of times, also from several processes at once, ends in the same schema.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db import queue_schema
from covergate.db.connect import asyncpg_dsn, make_engine
from covergate.errors import ConfigurationError

LOCK = 0x636F766572676174  # "covergat" in ASCII: the advisory lock of whoever migrates
LONGEST_STATEMENT = 0  # no limit: a migration may rewrite a table, and waiting for the lock is a statement too


def scripts() -> Path:
    """The directory of migrations: inside the installed package, or beside `src` in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent.parent / "migrations"


async def migrate(url: str) -> None:
    async with _alone(url) as connection:
        _refuse_newer(await _revision(connection))
        await connection.commit()
        await connection.run_sync(_alembic, command.upgrade, "head")
        raw = await asyncpg.connect(asyncpg_dsn(url))
        try:
            await queue_schema.install(raw)
        finally:
            await raw.close()


async def downgrade(url: str, revision: str) -> None:
    """Back to `revision` (`base`: nothing of ours is left); PgQueuer's tables stay."""
    async with _alone(url) as connection:
        await connection.run_sync(_alembic, command.downgrade, revision)


async def require_current(connection: AsyncConnection) -> None:
    """Raises `ConfigurationError` unless the database has exactly the schema of this version."""
    revision = await _revision(connection)
    if revision is None:
        raise ConfigurationError("the database has no CoverGate tables yet: run `covergate migrate`")
    _refuse_newer(revision)
    if revision != ScriptDirectory.from_config(_config()).get_current_head():
        raise ConfigurationError("the database is of an older version of CoverGate: run `covergate migrate`")
    if not await connection.scalar(text("SELECT to_regclass(:index) IS NOT NULL"), {"index": queue_schema.DUE_INDEX}):
        raise ConfigurationError("the database's job queue is not complete: run `covergate migrate`")


def ours(name: str | None, kind: str, parents: object) -> bool:
    """Alembic's `include_name`: everything but PgQueuer's tables."""
    return kind != "table" or not (name or "").startswith("pgqueuer")


@asynccontextmanager
async def _alone(url: str) -> AsyncIterator[AsyncConnection]:
    """A connection that holds the migration lock; the lock goes with the connection at the latest."""
    engine = make_engine(
        url, pool_size=1, application_name="covergate migrate", statement_timeout_seconds=LONGEST_STATEMENT
    )
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
            await connection.commit()
            yield connection
    finally:
        await engine.dispose()


def _alembic(connection: Connection, run: Callable[[Config, str], None], revision: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    run(config, revision)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    return config


async def _revision(connection: AsyncConnection) -> str | None:
    if not await connection.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL")):
        return None
    revision: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _refuse_newer(revision: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise ConfigurationError(
            "the database is of a newer version of CoverGate, and `covergate migrate` cannot go back: run that version"
        )
