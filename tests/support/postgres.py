"""Databases for tests: one real PostgreSQL, the embedded one, and copies of a database that was migrated once."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

import asyncpg
from sqlalchemy import QueuePool, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from covergate.db import embedded
from covergate.db.data_keys import owners_without
from covergate.db.database import Database, make_engine
from covergate.db.key_ring import introduce
from covergate.db.migrate import migrate
from covergate.db.sealing import GATEWAY, KeyRing, Sealer

MEMORY_NEEDED = 2 * 1024**3
TEMPLATE = f"covergate_template_{os.getpid()}"
KEYS = "test:" + base64.b64encode(b"only for tests, 32 bytes of key.").decode()


_FIRST_OF_OURS = 16384
"""Below it are the object ids that PostgreSQL gives itself, the same in every database."""


def ask_for_types_once() -> None:
    """asyncpg asks every new connection what `bytea[]` is; with hundreds of databases the answer, 10 ms, is the same."""
    known: dict[tuple[int, ...], Any] = {}
    ask = asyncpg.Connection._introspect_types

    async def introspect(connection: asyncpg.Connection, ids: Iterable[int], timeout: float) -> Any:
        key = tuple(sorted(ids))
        if key[-1] >= _FIRST_OF_OURS:
            return await ask(connection, ids, timeout)
        if key not in known:
            known[key] = await ask(connection, ids, timeout)
        return known[key]

    asyncpg.Connection._introspect_types = introspect


def make_sealer() -> Sealer:
    return Sealer(KeyRing.parse(KEYS))


@contextmanager
def server_directory() -> Iterator[Path]:
    """Short, as a unix socket's path must be, and in memory if there is enough: cloning takes 20 ms, not 500."""
    memory = Path("/dev/shm")
    in_memory = memory.is_dir() and shutil.disk_usage(memory).free > MEMORY_NEEDED
    with tempfile.TemporaryDirectory(prefix="cg", dir=memory if in_memory else "/tmp") as directory:
        yield Path(directory)


@contextmanager
def running_server() -> Iterator[str]:
    """The address of an empty PostgreSQL that trades crash safety for speed; COVERGATE_TEST_DATABASE_URL names another."""
    if given := os.environ.get("COVERGATE_TEST_DATABASE_URL"):
        yield given
        _administrator(given).close()
        return
    with server_directory() as directory:
        server = embedded.start(directory, durable=False)
        yield server.url
        _administrator(server.url).close()
        server.stop_if_last()


async def make_template(server_url: str) -> str:
    """The name of a database that was migrated once and that nothing is connected to."""
    await _administer(server_url, f"CREATE DATABASE {TEMPLATE}")
    await migrate(_named(server_url, TEMPLATE))
    return TEMPLATE


@asynccontextmanager
async def new_database(server_url: str, template: str | None = None) -> AsyncIterator[str]:
    """The address of a database that lives as long as the block: a copy of the template, or empty."""
    name = f"test_{secrets.token_hex(6)}"
    copied = f" TEMPLATE {template} STRATEGY FILE_COPY" if template else ""
    await _administer(server_url, f"CREATE DATABASE {name}{copied}")
    yield _named(server_url, name)
    await _administer(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def opened_database(
    url: str, sealer: Sealer, *, pool_size: int = 10, application_name: str = "tests"
) -> AsyncIterator[Database]:
    database = Database(url, make_engine(url, pool_size=pool_size, application_name=application_name), sealer)
    try:
        await make_known(database)
        yield database
    finally:
        await database.aclose()


async def make_known(database: Database) -> None:
    """The ring and first data keys, as at a start; not if the database is away, or has no tables."""
    with suppress(OSError, asyncpg.PostgresError, SQLAlchemyError):
        async with database.transaction() as db:
            await introduce(database.sealer.ring, db)
        async with database.connection() as db:
            await database.sealer.meet(db, [GATEWAY, *await owners_without(db)])


def pool_of(engine: AsyncEngine) -> QueuePool:
    pool = engine.pool
    assert isinstance(pool, QueuePool)
    return pool


async def _administer(server_url: str, statement: str) -> None:
    await asyncio.wrap_future(_administrator(server_url).execute(statement))


class _Administrator:
    """One connection for all tests, in a thread of its own, because each test has another event loop."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._connection: asyncpg.Connection | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="administrator", daemon=True)
        self._thread.start()

    def execute(self, statement: str) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(self._execute(statement), self._loop)

    def close(self) -> None:
        if self._connection is not None:
            asyncio.run_coroutine_threadsafe(self._connection.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _execute(self, statement: str) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self._server_url)
        await self._connection.execute(statement)


_administrator = cache(_Administrator)


def _named(server_url: str, name: str) -> str:
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)
