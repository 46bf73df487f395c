"""Which errors mean that the database is away for a moment: a table of them, and what a real server says in each trouble."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError, InterfaceError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from covergate.db.connect import make_engine
from covergate.db.database import Database
from covergate.db.embedded import EmbeddedPostgres
from covergate.db.embedded.cluster import bring_up
from covergate.db.outage import is_away, is_lost
from covergate.db.sealing import Sealer
from covergate.db.sql import Query, driver_of
from tests.support.waiting import eventually

ONE = Query("SELECT 1")


def state(sqlstate: str) -> asyncpg.PostgresError:
    """As asyncpg makes it from what the server sends."""
    return asyncpg.PostgresError.new({"C": sqlstate, "M": "message", "S": "ERROR", "V": "ERROR"})


def wrapped(error: Exception, *, invalidated: bool = False) -> DBAPIError:
    """As SQLAlchemy raises it."""
    outer = DBAPIError("SELECT 1", {}, error, connection_invalidated=invalidated)
    outer.__cause__ = error
    return outer


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def while_handling(error: Exception, context: BaseException) -> Exception:
    error.__context__ = context
    return error


AWAY = {
    **{
        code: state(code)
        for code in (
            *(
                "08000",
                "08003",
                "08006",
                "08P01",
                "25006",
                "25P03",
                "25P04",
                "40001",
                "40P01",
                "53100",
                "53200",
                "53300",
            ),
            *("55000", "55P03", "57014", "57P01", "57P02", "57P03", "57P05", "58030"),
        )
    },
    "a code that this asyncpg does not know": state("57P99"),
    "while connecting, wrapped": wrapped(asyncpg.CannotConnectNowError("the database system is starting up")),
    "too many connections, wrapped twice": caused(ValueError("x"), wrapped(asyncpg.TooManyConnectionsError("no slot"))),
    "deadlock, wrapped": wrapped(asyncpg.DeadlockDetectedError("x")),
    "closed by the server": asyncpg.ConnectionDoesNotExistError("x"),
    "closed before it was used": asyncpg.InterfaceError("connection is closed"),
    "closed, as SQLAlchemy has it": InterfaceError("x", {}, asyncpg.InterfaceError("connection is closed")),
    "invalidated": wrapped(ValueError("x"), invalidated=True),
    "no connection of the pool's came free": PoolTimeout("x"),
    "no host that can be written to": asyncpg.TargetServerAttributeNotMatched("x"),
    "its last words came between two statements": asyncpg.InternalClientError("cannot switch to state 15"),
    "no socket": FileNotFoundError(2, "x"),
    "nobody listens": ConnectionRefusedError(111, "x"),
    "no answer": TimeoutError(),
    "migrated under a prepared statement": asyncpg.InvalidCachedStatementError("x"),
    "several": ExceptionGroup("x", [TimeoutError(), state("57P01")]),
}
NOT_AWAY = {
    **{code: state(code) for code in ("22001", "23505", "28P01", "3D000", "40002", "42601", "42P01", "0A000", "XX000")},
    "a constraint, wrapped": wrapped(asyncpg.UniqueViolationError("x")),
    "bad SQL, wrapped": ProgrammingError("x", {}, asyncpg.PostgresSyntaxError("x")),
    "an argument of the wrong type": asyncpg.DataError("x"),
    "a mistake of ours": ValueError("x"),
    "a mistake of ours while the database was away": while_handling(KeyError("x"), TimeoutError()),
    "one of several": ExceptionGroup("x", [TimeoutError(), ValueError("x")]),
    "a cancellation": asyncio.CancelledError(),
}


@pytest.mark.parametrize("error", AWAY.values(), ids=AWAY)
def test_away(error: BaseException) -> None:
    assert is_away(error)


@pytest.mark.parametrize("error", NOT_AWAY.values(), ids=NOT_AWAY)
def test_not_away(error: BaseException) -> None:
    assert not is_away(error)


def test_a_connection_is_lost_only_where_another_may_fare_better() -> None:
    lost = {name for name, error in AWAY.items() if is_lost(error)}
    assert {"08006", "25006", "57P01", "57P02", "57P03", "no answer"} <= lost
    assert not lost & {"40001", "40P01", "53100", "55P03", "57014"}


@pytest.fixture
async def database(own_server: EmbeddedPostgres, sealer: Sealer) -> AsyncIterator[Database]:
    engine = make_engine(own_server.url, pool_size=3, application_name="tests")
    yield Database(own_server.url, engine, sealer)
    await engine.dispose()


async def errors_until_it_works(database: Database, seconds: float = 30) -> list[Exception]:
    """Of work that goes on all the time, as a worker's does."""
    errors: list[Exception] = []
    async with asyncio.timeout(seconds):
        while True:
            try:
                async with database.transaction() as db:
                    await ONE.run(db)
                return errors
            except Exception as error:
                errors.append(error)
                await asyncio.sleep(0.01)


async def taken_out(database: Database) -> list[Exception]:
    """Every connection of the pool at work in a transaction, until it fails."""

    async def work() -> Exception:
        try:
            async with database.transaction() as db:
                while True:
                    await ONE.run(db)
        except Exception as error:
            return error

    return await asyncio.gather(*(work() for _ in range(3)))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
async def test_a_server_that_is_stopped_and_started_again_is_away(
    database: Database, own_server: EmbeddedPostgres, how: signal.Signals
) -> None:
    working = asyncio.create_task(taken_out(database))
    cluster = own_server._cluster
    async with database.connection() as db:
        await ONE.run(db)
    os.kill(int((cluster.pgdata / "postmaster.pid").read_text().split()[0]), how)
    errors = await working
    starting = asyncio.create_task(asyncio.to_thread(bring_up, cluster, durable=False))
    errors += await errors_until_it_works(database)
    await starting
    assert len(errors) > 3
    assert [error for error in errors if not is_away(error)] == []


async def create_tables_for_ever(database: Database) -> None:
    while True:
        async with database.connection() as db:
            await Query("CREATE TABLE IF NOT EXISTS x (id int)").run(db)


async def test_a_server_that_became_a_standby_is_away(database: Database) -> None:
    async with database.connection() as db:
        await Query("ALTER SYSTEM SET default_transaction_read_only = on").run(db)
        await Query("SELECT pg_reload_conf()").run(db)
    try:
        with pytest.raises(asyncpg.PostgresError) as read_only:
            await create_tables_for_ever(database)
        assert is_away(read_only.value)
        assert is_lost(read_only.value)
        with pytest.raises(Exception, match="read_write") as refused:
            async with database.connection() as db:
                await ONE.run(db)
        assert is_away(refused.value)
    finally:
        raw = await asyncpg.connect(database.url)
        await raw.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await raw.execute("SELECT pg_reload_conf()")
        await raw.close()


async def test_a_server_without_a_free_connection_is_away(database: Database, sealer: Sealer) -> None:
    async with database.connection() as db:
        await Query("DROP ROLE IF EXISTS guest").run(db)
        await Query("CREATE ROLE guest LOGIN CONNECTION LIMIT 1").run(db)
    url = database.url.replace("postgres@", "guest@")
    engine = make_engine(url, pool_size=3, application_name="tests")
    guest = Database(url, engine, sealer)
    async with guest.connection() as db:
        await ONE.run(db)
        with pytest.raises(Exception, match="too many connections") as refused:
            async with guest.connection():
                pass
    assert is_away(refused.value)
    await engine.dispose()


async def test_a_pool_without_a_free_connection_is_away(own_server: EmbeddedPostgres, sealer: Sealer) -> None:
    engine = make_engine(own_server.url, pool_size=1, application_name="tests")
    engine.pool._timeout = 0.01  # type: ignore[attr-defined]
    single = Database(own_server.url, engine, sealer)
    async with single.connection():
        with pytest.raises(PoolTimeout) as waited:
            async with single.connection():
                pass
    assert is_away(waited.value)
    await engine.dispose()


@pytest.mark.parametrize("limit", ["idle_in_transaction_session_timeout", "statement_timeout"])
async def test_what_took_too_long_is_away(database: Database, limit: str) -> None:
    async def take_long() -> None:
        async with database.transaction() as db:
            await Query(f"SET LOCAL {limit} = '50ms'").run(db)
            raw = await driver_of(db)
            if limit.startswith("idle"):
                await eventually(raw.is_closed)
            await Query("SELECT pg_sleep(10)").run(db)

    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)) as ended:
        await take_long()
    assert is_away(ended.value)
    assert await errors_until_it_works(database) == []


async def test_a_bug_is_not_away(database: Database) -> None:
    for query, values in (("SELECT nothing_like_this", {}), ("SELECT :n + 1", {"n": "text"})):
        async with database.connection() as db:
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)) as mistake:
                await Query(query).run(db, values)
        assert not is_away(mistake.value)
