"""Connections to PostgreSQL with the settings that all of ours have, and SQLAlchemy's pool of them.

asyncpg itself reads the URL, so every form that it knows works (`?host=/socket/dir`, `?sslmode=…`). Invariants: neither
the engine's repr nor a statement's error holds the URL's password or a parameter's value; nothing waits for ever on a
connection that died without a word; the pool hands out no connection that is closed, in a transaction, or on a server
that has become a standby.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import orjson
from sqlalchemy import event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from covergate.db.notify import Herald
from covergate.db.sql import Record

CONNECT_SECONDS = 10
POOL_WAIT_SECONDS = 20
STATEMENT_SECONDS = 30
LOCK_SECONDS = 3
"""How long a statement waits for a lock that somebody holds; then it fails as one whose database is away, and is tried again."""
REPLY_SECONDS = 2
"""The wait for PostgreSQL's word that a statement was canceled, after its own time limit."""
IDLE_IN_TRANSACTION_SECONDS = 60  # a process that was paused inside a transaction gives its locks back
RECYCLE_SECONDS = 1800  # a name in the URL may mean another server by then

_SAME_SESSION = "CG001"

KEEPALIVE = {"SO_KEEPALIVE": 1, "TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}
"""Socket options: a peer that vanished is noticed after 20 to 30 s, whether we wait for it or write to it."""


def asyncpg_dsn(url: str) -> str:
    """The URL as asyncpg itself takes it."""
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)


def unverified_hosts(url: str) -> list[str]:
    """The hosts on other machines whose certificate the URL does not have checked, so that anybody on the way may read along."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    if (query.get("sslmode") or [os.environ.get("PGSSLMODE", "")])[-1] == "verify-full":
        return []
    named = [host for given in query.get("host", ()) for host in given.split(",")]
    hosts = named or [host_of(host) for host in parts.netloc.rpartition("@")[2].split(",")]
    return [host for host in hosts if host and not host.startswith("/") and not is_this_machine(host)]


def host_of(netloc: str) -> str:
    """Without port and brackets."""
    return urlsplit(f"//{netloc}").hostname or ""


def is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def connect(
    url: str, *, application_name: str, statement_timeout_seconds: int = STATEMENT_SECONDS, **settings: str
) -> asyncpg.Connection:
    """A connection outside any pool, e.g. for LISTEN; `settings` are PostgreSQL's, for this session.

    Only to a server that can be written to, unless the URL has a `target_session_attrs` of its own. Each of several hosts
    gets its share of the time: one that does not answer cannot keep the others from being asked.
    """
    dsns = _each_host(asyncpg_dsn(url))
    attributes = None if "target_session_attrs" in parse_qs(urlsplit(dsns[0]).query) else "read-write"
    ours = {
        "jit": "off",
        # To plan a statement of many arrays anew costs as much as to run it.
        "plan_cache_mode": "force_generic_plan",
        # A plan is made once, perhaps while its table was empty, and has to be good when it is not: it goes by an index,
        # as every statement of ours can. A plain index scan also forgets dead entries on its way, a bitmap scan does not.
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
        "max_parallel_workers_per_gather": "0",
        "statement_timeout": f"{statement_timeout_seconds}s",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_SECONDS}s",
    }
    for dsn in dsns:
        try:
            raw = await asyncpg.connect(
                dsn,
                timeout=CONNECT_SECONDS / len(dsns),
                command_timeout=statement_timeout_seconds + REPLY_SECONDS if statement_timeout_seconds else None,
                target_session_attrs=attributes,
                # PgBouncer takes these two at start-up and refuses the rest, so that is set afterwards.
                server_settings={"application_name": application_name, "timezone": "UTC"},
                connection_class=_KeptAlive,
                record_class=Record,
            )
            break
        except (OSError, asyncpg.PostgresError, asyncpg.TargetServerAttributeNotMatched):
            if dsn == dsns[-1]:
                raise
    with _ended_on_failure(raw):
        await raw.execute("; ".join(f"SET {name} = '{value}'" for name, value in (ours | settings).items()))
    return raw


async def shares_sessions(url: str) -> bool:
    """True if a pooler lets several clients take turns on one session, as PgBouncer does when it pools by transaction.

    Settings, LISTEN and the migrations' lock would then be other clients' too, or lost. Two connections at once show it;
    a pooler that is busy at that moment may hide it.
    """
    mark = secrets.token_hex(8)
    look = f"""
DO $$ BEGIN
  IF current_setting('covergate.mark', true) = '{mark}' THEN RAISE SQLSTATE '{_SAME_SESSION}'; END IF;
END $$"""
    both: list[asyncpg.Connection] = []
    try:
        both.append(await connect(url, application_name="covergate"))
        both.append(await connect(url, application_name="covergate"))
        await both[0].execute(f"SET covergate.mark = '{mark}'")
        await both[1].execute(look)
    except asyncpg.DuplicatePreparedStatementError:
        return True  # an older PgBouncer: the other connection's statement
    except asyncpg.PostgresError as error:
        if error.sqlstate != _SAME_SESSION:
            raise
        return True
    finally:
        for raw in both:
            await raw.close()
    return False


@contextlib.contextmanager
def _ended_on_failure(raw: asyncpg.Connection) -> Iterator[None]:
    try:
        yield
    # Broad on purpose: nothing else knows of the connection yet; a cancellation must end it, too.
    except BaseException:
        raw.terminate()
        raise


class _KeptAlive(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    __slots__ = ()

    def __init__(self, protocol: Any, transport: Any, *rest: Any) -> None:
        super().__init__(protocol, transport, *rest)
        sock = transport.get_extra_info("socket")
        if sock.family == socket.AF_UNIX:
            return
        for name, value in KEEPALIVE.items():
            if option := getattr(socket, name, None):  # not every system has each
                level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
                with contextlib.suppress(OSError):
                    sock.setsockopt(level, option, value)


def _each_host(dsn: str) -> list[str]:
    """`postgresql://user@one:5432,two/name` → one URL for each host."""
    netloc = urlsplit(dsn).netloc
    login, at, hosts = netloc.rpartition("@")
    return [dsn.replace(netloc, f"{login}{at}{host}", 1) for host in hosts.split(",")]


def make_engine(
    url: str,
    *,
    pool_size: int,
    application_name: str,
    statement_timeout_seconds: int = STATEMENT_SECONDS,
    lock_timeout_seconds: float = LOCK_SECONDS,
) -> AsyncEngine:
    """0 seconds: no limit."""

    async def connect_for_pool(**_: Any) -> asyncpg.Connection:
        raw = await connect(
            url,
            application_name=application_name,
            statement_timeout_seconds=statement_timeout_seconds,
            lock_timeout=f"{round(lock_timeout_seconds * 1000)}ms",
        )
        with _ended_on_failure(raw):
            await _speak_json(raw)
        return raw

    async def connect_for_news() -> asyncpg.Connection:
        return await connect(
            url,
            application_name=f"{application_name} news",
            statement_timeout_seconds=CONNECT_SECONDS,
            synchronous_commit="off",
        )

    engine = create_async_engine(
        "postgresql+asyncpg://",
        connect_args={"async_creator_fn": connect_for_pool, "prepared_statement_cache_size": 500},
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_recycle=RECYCLE_SECONDS,
        pool_use_lifo=True,
        pool_pre_ping=False,
        hide_parameters=True,
        json_serializer=lambda value: orjson.dumps(value).decode(),
    )
    # Set by `connect_for_pool` already, both ways.
    engine.dialect.setup_asyncpg_json_codec = _leave_as_it_is  # type: ignore[attr-defined]
    engine.dialect.setup_asyncpg_jsonb_codec = _leave_as_it_is  # type: ignore[attr-defined]
    event.listen(engine.sync_engine, "checkout", _discard_if_dead)
    event.listen(engine.sync_engine, "checkin", _end_if_in_transaction)
    Herald(engine, connect_for_news)
    return engine


def _discard_if_dead(dbapi_connection: Any, *_: Any) -> None:
    """SQLAlchemy notices only what its own statements meet. If one connection died, the others are made anew, too."""
    if dbapi_connection.driver_connection.is_closed():
        raise InvalidatePoolError


def _end_if_in_transaction(dbapi_connection: Any, _: Any) -> None:
    """Else the next user's work would be committed, or lost, together with what a user left behind."""
    raw = dbapi_connection and dbapi_connection.driver_connection
    if raw and not raw.is_closed() and raw.is_in_transaction():
        raw.terminate()


async def _speak_json(raw: asyncpg.Connection) -> None:
    """Python values both ways; a `str` is JSON that is text already, as SQLAlchemy's JSON types give it."""
    for name, encode, decode in (
        ("json", _json_of, orjson.loads),
        ("jsonb", lambda value: b"\x01" + _json_of(value), lambda data: orjson.loads(data[1:])),
    ):
        await raw.set_type_codec(name, encoder=encode, decoder=decode, schema="pg_catalog", format="binary")


def _json_of(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else orjson.dumps(value)


async def _leave_as_it_is(_: Any) -> None:
    return None
