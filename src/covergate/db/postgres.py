"""SQLAlchemy's engine on asyncpg, with the settings that every connection of ours has.

asyncpg itself reads the URL, so every form that it knows works (`?host=/socket/dir`, `?sslmode=…`). Invariant: neither
the engine's repr nor a statement's error holds the URL's password or a parameter's value.
"""

from __future__ import annotations

from typing import Any

import asyncpg
import orjson
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

CONNECT_SECONDS = 10
POOL_WAIT_SECONDS = 20
STATEMENT_SECONDS = 30
IDLE_IN_TRANSACTION_SECONDS = 60  # a process that was paused inside a transaction gives its locks back


def asyncpg_dsn(url: str) -> str:
    """The URL as asyncpg itself takes it, for connections that SQLAlchemy does not own (LISTEN, the job queue)."""
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)


def make_engine(
    url: str, *, pool_size: int, application_name: str, statement_timeout_seconds: int = STATEMENT_SECONDS
) -> AsyncEngine:
    async def connect(**_: Any) -> asyncpg.Connection:
        return await asyncpg.connect(
            asyncpg_dsn(url),
            timeout=CONNECT_SECONDS,
            server_settings={
                "application_name": application_name,
                "timezone": "UTC",
                "jit": "off",
                "statement_timeout": f"{statement_timeout_seconds}s",
                "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_SECONDS}s",
            },
        )

    return create_async_engine(
        "postgresql+asyncpg://",
        connect_args={"async_creator_fn": connect, "prepared_statement_cache_size": 500},
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_SECONDS,
        pool_use_lifo=True,
        pool_pre_ping=False,
        hide_parameters=True,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
    )
