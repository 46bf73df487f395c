"""What a connection survives and what it does not: failover, silence, cancellation, and a user who leaves a mess behind."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Protocol

import asyncpg
import pytest
from sqlalchemy import make_url

from covergate.db import connect as connecting
from covergate.db import database as opening
from covergate.db.connect import KEEPALIVE, connect, make_engine
from covergate.db.database import Database
from covergate.db.embedded import EmbeddedPostgres
from covergate.db.outage import is_away
from covergate.db.sealing import Sealer
from covergate.db.sql import Query, driver_of
from tests.support.relay import Relay, relaying
from tests.support.waiting import eventually


class Opened(Protocol):
    """A database through a pool of its own, as long as the block."""

    def __call__(
        self, url: str, pool_size: int = 4, statement_timeout_seconds: int = 30
    ) -> AbstractAsyncContextManager[Database]: ...


ADD = Query("INSERT INTO tenants (id, name) VALUES (:id, :id)", id="text")
ALL = Query("SELECT array_agg(id ORDER BY id) FROM tenants")
SERVER = Query("SELECT pg_backend_pid()")


@pytest.fixture
def opened(sealer: Sealer) -> Opened:
    @asynccontextmanager
    async def through(url: str, pool_size: int = 4, statement_timeout_seconds: int = 30) -> AsyncIterator[Database]:
        engine = make_engine(
            url,
            pool_size=pool_size,
            application_name="tests",
            statement_timeout_seconds=statement_timeout_seconds,
        )
        yield Database(url, engine, sealer)
        await engine.dispose()

    return through


async def backends(database: Database, number: int = 4) -> list[int]:
    """All connections of the pool at work at once; the servers' processes behind them."""
    ready = asyncio.Barrier(number)

    async def one() -> int:
        async with database.connection() as db:
            pid: int = await SERVER.scalar(db)
            await ready.wait()
            return pid

    return await asyncio.gather(*(one() for _ in range(number)))


async def test_after_a_failover_by_name_the_pool_finds_the_new_primary(
    opened: Opened, own_server: EmbeddedPostgres, database_url: str, postgres_url: str
) -> None:
    async with relaying(own_server.url) as relay, opened(relay.url("postgres")) as database:
        async with database.connection() as db:
            await Query("DROP TABLE IF EXISTS tenants").run(db)
            await Query("CREATE TABLE tenants (id text, name text)").run(db)
        await backends(database)
        # The old primary becomes a standby, which ends nothing; the name leads to the new one.
        async with database.connection() as db:
            await Query("ALTER SYSTEM SET default_transaction_read_only = on").run(db)
            await Query("SELECT pg_reload_conf()").run(db)
        raw = await asyncpg.connect(own_server.url)

        async def read_only() -> bool:
            return bool(await raw.fetchval("SHOW default_transaction_read_only") == "on")

        await eventually(read_only)
        relay.target = postgres_url
        url = relay.url(make_url(database_url).database or "")
        database.url = url
        failures = []
        async with asyncio.timeout(10):
            while True:
                try:
                    async with database.transaction() as db:
                        await Query("CREATE TABLE IF NOT EXISTS moved (id int)").run(db)
                    break
                except Exception as error:
                    failures.append(error)
        assert all(is_away(error) for error in failures)
        # One read-only connection tells for all of them.
        assert len(failures) == 1
        await raw.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await raw.execute("SELECT pg_reload_conf()")
        await raw.close()


async def test_only_a_server_that_can_be_written_to_is_connected_to(own_server: EmbeddedPostgres) -> None:
    raw = await asyncpg.connect(own_server.url)
    await raw.execute("DROP DATABASE IF EXISTS standby")
    await raw.execute("CREATE DATABASE standby")
    await raw.execute("ALTER DATABASE standby SET default_transaction_read_only = on")
    await raw.close()
    url = own_server.url.replace("/postgres?", "/standby?")
    with pytest.raises(asyncpg.TargetServerAttributeNotMatched) as refused:
        await connect(url, application_name="tests")
    assert is_away(refused.value)
    reader = await connect(f"{url}&target_session_attrs=any", application_name="tests")
    assert await reader.fetchval("SELECT 1") == 1
    await reader.close()


async def test_of_several_hosts_the_one_that_answers_is_used(
    relay: Relay, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 1)
    name = make_url(database_url).database
    with socket.socket() as full:  # takes the connection and says nothing
        full.bind(("127.0.0.1", 0))
        full.listen()
        silent = full.getsockname()[1]
        url = f"postgresql://postgres@127.0.0.1:{silent},127.0.0.1:1,127.0.0.1:{relay.port}/{name}"
        raw = await connect(url, application_name="tests")
        assert await raw.fetchval("SELECT current_database()") == name
        await raw.close()


async def test_a_connection_that_went_silent_is_given_up(
    relay: Relay, opened: Opened, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "REPLY_SECONDS", 0.2)
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 1)
    url = relay.url(make_url(database_url).database or "")
    async with opened(url, statement_timeout_seconds=1) as database:
        before = await backends(database)
        relay.silence()
        began = time.monotonic()
        for manager in (database.connection, database.transaction):
            with pytest.raises(TimeoutError) as silent:
                async with asyncio.timeout(20), manager() as db:
                    await ALL.scalar(db)
            assert is_away(silent.value)
        assert time.monotonic() - began < 10
        relay.speak()
        after = await backends(database)
        assert not {*before} & {*after}


async def test_a_peer_that_vanished_is_noticed_by_the_kernel(relay: Relay, database_url: str) -> None:
    raw = await connect(relay.url(make_url(database_url).database or ""), application_name="tests")
    connected = raw._transport.get_extra_info("socket")
    for name, value in KEEPALIVE.items():
        level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
        assert connected.getsockopt(level, getattr(socket, name)) == value
    await raw.close()


class Undone(Exception):
    pass


async def begin(database: Database, relay: Relay) -> None:
    relay.silence()
    async with database.transaction():
        pass


async def work(database: Database, relay: Relay) -> None:
    async with database.transaction() as db:
        await ADD.run(db, {"id": "ten_1"})
        relay.silence()
        await ADD.run(db, {"id": "ten_2"})


async def commit(database: Database, relay: Relay) -> None:
    async with database.transaction() as db:
        await ADD.run(db, {"id": "ten_1"})
        relay.silence()


async def undo(database: Database, relay: Relay) -> None:
    async with database.transaction() as db:
        await ADD.run(db, {"id": "ten_1"})
        relay.silence()
        raise Undone


@pytest.mark.parametrize("cancellations", [1, 2])
@pytest.mark.parametrize("moment", [begin, work, commit, undo])
async def test_a_transaction_canceled_at_any_moment_leaves_nothing_to_the_next(
    moment: Callable[[Database, Relay], Coroutine[Any, Any, None]],
    cancellations: int,
    relay: Relay,
    opened: Opened,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "ROLLBACK_SECONDS", 0.1)
    async with opened(relay.url(make_url(database_url).database or ""), pool_size=1) as database:
        async with database.connection() as db:
            await ALL.scalar(db)
        task = asyncio.create_task(moment(database, relay))
        await eventually(lambda: relay.held, every=0)
        for _ in range(cancellations):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises((asyncio.CancelledError, Undone)):
            await task
        relay.speak()
        async with database.connection() as db:
            await ADD.run(db, {"id": "ten_3"})
        with suppress(Undone):
            async with database.transaction() as db:
                await ADD.run(db, {"id": "ten_4"})
                raise Undone
    raw = await asyncpg.connect(database_url)
    rows = set(await raw.fetchval("SELECT array_agg(id) FROM tenants"))
    await raw.close()
    # Whether a commit under way was made cannot be known.
    assert rows - ({"ten_1"} if moment is commit else set()) == {"ten_3"}


async def test_a_transaction_left_open_is_not_handed_on(database: Database) -> None:
    async with database.connection() as db:
        await (await driver_of(db)).execute("BEGIN")
        await ADD.run(db, {"id": "ten_1"})
    for _ in range(12):
        async with database.connection() as db:
            assert await ALL.scalar(db) is None


async def test_a_connection_that_is_old_is_made_anew(
    postgres_url: str, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name in the URL may lead to another server by then, and the one that it led to still answer."""
    monkeypatch.setattr(connecting, "RECYCLE_SECONDS", 0)
    async with opened(postgres_url) as database:
        servers = []
        for _ in range(2):
            async with database.connection() as db:
                servers.append(await SERVER.scalar(db))
    assert servers[0] != servers[1]
