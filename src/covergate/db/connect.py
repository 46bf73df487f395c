"""SQLAlchemy's engine on asyncpg, with the settings that every connection of ours has.

asyncpg itself reads the URL, so every form that it knows works (`?host=/socket/dir`, `?sslmode=…`). Invariant: neither
the engine's repr nor a statement's error holds the URL's password or a parameter's value.
"""

from __future__ import annotations

from typing import Any

import asyncpg
import orjson
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from covergate.db.notify import Herald
from covergate.db.sql import Record

CONNECT_SECONDS = 10
POOL_WAIT_SECONDS = 20
STATEMENT_SECONDS = 30
IDLE_IN_TRANSACTION_SECONDS = 60  # a process that was paused inside a transaction gives its locks back


def asyncpg_dsn(url: str) -> str:
    """The URL as asyncpg itself takes it, for connections that SQLAlchemy does not own (LISTEN, the job queue)."""
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)


def _discard_if_dead(dbapi_connection: Any, *_: Any) -> None:
    """SQLAlchemy itself learns of a dead connection only from a statement that went through it; then the pool makes a new one."""
    if dbapi_connection.driver_connection.is_closed():
        raise DisconnectionError


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


def make_engine(
    url: str, *, pool_size: int, application_name: str, statement_timeout_seconds: int = STATEMENT_SECONDS
) -> AsyncEngine:
    async def connect(**_: Any) -> asyncpg.Connection:
        raw = await asyncpg.connect(
            asyncpg_dsn(url),
            timeout=CONNECT_SECONDS,
            record_class=Record,
            server_settings={
                "application_name": application_name,
                "timezone": "UTC",
                "jit": "off",
                "statement_timeout": f"{statement_timeout_seconds}s",
                "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_SECONDS}s",
            },
        )
        await _speak_json(raw)
        return raw

    async def connect_for_news() -> asyncpg.Connection:
        return await asyncpg.connect(
            asyncpg_dsn(url),
            timeout=CONNECT_SECONDS,
            command_timeout=CONNECT_SECONDS,
            server_settings={"application_name": f"{application_name} news", "synchronous_commit": "off"},
        )

    engine = create_async_engine(
        "postgresql+asyncpg://",
        connect_args={"async_creator_fn": connect, "prepared_statement_cache_size": 500},
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_use_lifo=True,
        pool_pre_ping=False,
        hide_parameters=True,
        json_serializer=lambda value: orjson.dumps(value).decode(),
    )
    # Set by `connect` already, both ways.
    engine.dialect.setup_asyncpg_json_codec = _leave_as_it_is  # type: ignore[attr-defined]
    engine.dialect.setup_asyncpg_jsonb_codec = _leave_as_it_is  # type: ignore[attr-defined]
    event.listen(engine.sync_engine, "checkout", _discard_if_dead)
    Herald(engine, connect_for_news)
    return engine
