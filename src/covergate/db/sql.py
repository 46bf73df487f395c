"""SQL for the paths that run for every verification, sent straight to asyncpg: a third of what SQLAlchemy's `text()` costs.

A statement is written as for `text()`, with `:name` parameters, and runs on the connection and in the transaction that the
caller holds. Rows are asyncpg's records (`row["name"]`); JSON is given as text and comes decoded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_PARAMETER = re.compile(r"(?<!:):([a-z_][a-z0-9_]*)")
_BEGIN = text("SELECT")


class Query:
    """`types` names the type of each parameter whose type PostgreSQL cannot tell from where it stands, e.g. `key="text"`."""

    def __init__(self, sql: str, **types: str) -> None:
        self.names = tuple(dict.fromkeys(_PARAMETER.findall(sql)))
        numbers = {name: f"${number}" for number, name in enumerate(self.names, start=1)}
        for name, type_ in types.items():
            numbers[name] = f"CAST({numbers[name]} AS {type_})"
        self.sql = _PARAMETER.sub(lambda found: numbers[found[1]], sql)

    async def all(self, db: AsyncConnection, values: Mapping[str, Any]) -> list[asyncpg.Record]:
        raw = await driver_of(db)
        rows: list[asyncpg.Record] = await raw.fetch(self.sql, *[values[name] for name in self.names])
        return rows

    async def one(self, db: AsyncConnection, values: Mapping[str, Any]) -> asyncpg.Record | None:
        """The first row."""
        raw = await driver_of(db)
        return await raw.fetchrow(self.sql, *[values[name] for name in self.names])


async def driver_of(db: AsyncConnection) -> asyncpg.Connection:
    """asyncpg's own connection, in the caller's transaction: SQLAlchemy sends BEGIN with its first statement only."""
    connection = db.sync_connection
    assert connection is not None
    raw: asyncpg.Connection = connection.connection.driver_connection
    if not raw.is_in_transaction() and connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        await db.execute(_BEGIN)
    return raw
