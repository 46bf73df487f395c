"""The opened database that a process works with: engine, sealer and, by default, a share in the embedded server.

Invariant: an open database has a schema that this version works with, and a key ring that belongs to it. Whatever is
wrong with it becomes one line (`ConfigurationError`) without the URL's password.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import asyncpg
import structlog
from asyncpg.transaction import Transaction
from sqlalchemy import QueuePool, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from covergate.db import embedded
from covergate.db.connect import asyncpg_dsn, make_engine, shares_sessions
from covergate.db.data_keys import owners_without
from covergate.db.embedded import EmbeddedPostgres, EmbeddedPostgresError
from covergate.db.key_ring import load_key_ring
from covergate.db.migrate import migrate as bring_up_to_date
from covergate.db.migrate import require_current
from covergate.db.outage import DATABASE_ERRORS
from covergate.db.roles import may_rewrite
from covergate.db.sealing import GATEWAY, Sealer
from covergate.db.sql import driver_of
from covergate.errors import ConfigurationError
from covergate.settings import Settings

log = structlog.get_logger(__name__)

ROLLBACK_SECONDS = 2
_AFTER_COMMIT = "covergate.after_commit"

__all__ = ["Database", "after_commit", "asyncpg_dsn", "make_engine", "open_database"]


@dataclass
class Database:
    url: str = field(repr=False)
    engine: AsyncEngine
    sealer: Sealer = field(repr=False)
    server: EmbeddedPostgres | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @property
    def pool_use(self) -> tuple[int, int]:
        """Connections in use, and at most."""
        pool = cast("QueuePool", self.engine.pool)
        return pool.checkedout(), pool.size()

    def connection(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """For single statements: each is a transaction by itself."""
        return self.autocommit.connect()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """As `engine.begin()`, at the price of asyncpg: BEGIN and COMMIT without SQLAlchemy in between."""
        async with self.autocommit.connect() as db:
            raw = await driver_of(db)
            transaction = raw.transaction()
            try:
                await transaction.start()
                yield db
                await transaction.commit()
            # Broad on purpose: a canceled transaction is undone, too.
            except BaseException:
                db.info.pop(_AFTER_COMMIT, None)
                await _undo(raw, transaction)
                raise
            for action in db.info.pop(_AFTER_COMMIT, ()):
                action()

    @asynccontextmanager
    async def apart(self, *, pool_size: int, application_name: str) -> AsyncIterator[Database]:
        """The same database through a pool of its own, for work that must not wait behind everything else."""
        engine = make_engine(self.url, pool_size=pool_size, application_name=application_name)
        try:
            yield Database(self.url, engine, self.sealer)
        finally:
            await engine.dispose()

    async def aclose(self) -> None:
        """Closes every connection; the last process to do so stops the embedded server."""
        await self.engine.dispose()
        if self.server is not None:
            await asyncio.to_thread(self.server.stop_if_last)


def after_commit(db: AsyncConnection, action: Callable[[], None]) -> None:
    """Has `action` run once the caller's transaction is committed; never if it is not. It must not raise."""
    db.info.setdefault(_AFTER_COMMIT, []).append(action)


async def _undo(raw: asyncpg.Connection, transaction: Transaction) -> None:
    """Rolls back. If that fails, for whatever reason, ends the connection, and the transaction with it."""
    if raw.is_closed():
        return
    try:
        async with asyncio.timeout(ROLLBACK_SECONDS):
            await transaction.rollback()
    # Broad on purpose: this error, or the second cancellation, must not hide the first one, which the caller raises.
    except BaseException:
        raw.terminate()


async def open_database(settings: Settings, *, pool_size: int, application_name: str, migrate: bool) -> Database:
    """Starts or joins the embedded server if no URL is set; then migrates, or checks that it was done."""
    server = await _start_embedded(settings) if settings.database_url is None else None
    url = settings.database_url or (server.url if server else "")
    engine: AsyncEngine | None = None
    try:
        async with _one_line(url):
            if server is None and await shares_sessions(url):
                raise ConfigurationError(
                    f"the pooler at {_shown(url)} shares sessions between clients: "
                    "use session pooling, or a URL that leads to PostgreSQL itself"
                )
            if migrate:
                await bring_up_to_date(url, runtime_role=settings.runtime_role, history_months=settings.history_months)
            engine = make_engine(url, pool_size=pool_size, application_name=application_name)
            async with engine.connect() as connection:
                await require_current(connection)
                if (
                    server is None
                    and settings.runtime_role is not None
                    and not migrate
                    and await may_rewrite(connection)
                ):
                    log.warning(
                        "database_role_may_rewrite_the_audit",
                        advice=f"connect as {settings.runtime_role}; the tables' owner is for `covergate migrate` only",
                    )
            sealer = Sealer(await load_key_ring(settings, engine))
            database = Database(url, engine, sealer, server)
            async with database.connection() as db:
                # Those that had none so far: from here on every tenant has a key before anything is sealed for it.
                await sealer.meet(db, [GATEWAY, *await owners_without(db)])
        return database
    # Broad on purpose: what was opened is closed after a cancellation, too.
    except BaseException:
        if engine is not None:
            await engine.dispose()
        if server is not None:
            await asyncio.to_thread(server.stop_if_last)
        raise


async def _start_embedded(settings: Settings) -> EmbeddedPostgres:
    try:
        return await asyncio.to_thread(embedded.start, settings.data_dir)
    except EmbeddedPostgresError as error:
        raise ConfigurationError(str(error)) from error


@asynccontextmanager
async def _one_line(url: str) -> AsyncIterator[None]:
    try:
        yield
    except asyncpg.TargetServerAttributeNotMatched:
        raise ConfigurationError(f"cannot use the database at {_shown(url)}: it can only be read from") from None
    except DATABASE_ERRORS as error:
        cause = error.__cause__ if isinstance(error, DBAPIError) else error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        raise ConfigurationError(f"cannot use the database at {_shown(url)}: {reason}") from None
    except ValueError:
        # The text of these may quote a part of the URL, such as a password with a slash in it.
        raise ConfigurationError("COVERGATE_DATABASE_URL is not a valid PostgreSQL URL") from None


def _shown(url: str) -> str:
    try:
        parsed = make_url(url)
        where = parsed.host or parsed.query.get("host") or "localhost"
        return f"{where}/{parsed.database or ''}"
    except ArgumentError:
        return "COVERGATE_DATABASE_URL"
