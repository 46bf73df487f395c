"""The only way to SQL: a `Query` is written once, at import, and runs on its caller's connection, in its transaction.

It goes straight to asyncpg, which prepares it once per connection: a third of what SQLAlchemy's `text()` costs.
Parameters are `:name`. JSON goes in and comes out as Python values; a `str` is taken for JSON that is text already.
Within a `jsonb[]` parameter give JSON lists as text: asyncpg takes nested lists for another dimension of the array.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.outage import DATABASE_ERRORS, is_lost

_PARAMETER = re.compile(r"(?<!:):([a-z_][a-z0-9_]*)")
_BEGIN = text("SELECT")
_NO_VALUES: Mapping[str, Any] = MappingProxyType({})


LONGEST_TURN_SECONDS = 2
"""A process that is silent for so long in its turn, e.g. because it was paused, loses it before the others give up waiting."""


class Record(asyncpg.Record):  # type: ignore[misc]  # asyncpg has no types
    """One row: `row.name`, or `row["name"]` if the column has a method's name (`items`, `keys`, `values`, `get`)."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the row has no column {name}") from None


class Query:
    """`types` names the type of each parameter that PostgreSQL cannot tell from its place, e.g. `key="text"`."""

    __slots__ = ("names", "sql")

    def __init__(self, sql: str, **types: str) -> None:
        self.names = tuple(dict.fromkeys(_PARAMETER.findall(sql)))
        numbers = {name: f"${number}" for number, name in enumerate(self.names, start=1)}
        for name, type_ in types.items():
            numbers[name] = f"CAST({numbers[name]} AS {type_})"
        self.sql = _PARAMETER.sub(lambda match: numbers[match[1]], sql)

    def all(self, db: AsyncConnection, values: Mapping[str, Any] = _NO_VALUES) -> Awaitable[list[Record]]:
        return self._send(db, asyncpg.Connection.fetch, values)

    def one(self, db: AsyncConnection, values: Mapping[str, Any] = _NO_VALUES) -> Awaitable[Record | None]:
        """The first row; None if there is none."""
        return self._send(db, asyncpg.Connection.fetchrow, values)

    def scalar(self, db: AsyncConnection, values: Mapping[str, Any] = _NO_VALUES) -> Awaitable[Any]:
        """The first column of the first row; None if there is no row."""
        return self._send(db, asyncpg.Connection.fetchval, values)

    async def run(self, db: AsyncConnection, values: Mapping[str, Any] = _NO_VALUES) -> int:
        """The number of rows that it changed; 0 for statements that change none, such as `SET`."""
        status: str = await self._send(db, asyncpg.Connection.execute, values)
        number = status.rpartition(" ")[2]
        return int(number) if number.isdigit() else 0

    async def _send(self, db: AsyncConnection, how: Callable[..., Awaitable[Any]], values: Mapping[str, Any]) -> Any:
        raw = await driver_of(db)
        try:
            return await how(raw, self.sql, *self._arguments(values))
        except DATABASE_ERRORS as error:
            if is_lost(error):
                raw.terminate()  # the pool makes a new one in its place
            raise

    def _arguments(self, values: Mapping[str, Any]) -> list[Any]:
        try:
            return [values[name] for name in self.names]
        except KeyError as missing:
            beginning = " ".join(self.sql.split())[:80]
            raise TypeError(f"no value for :{missing.args[0]} in {beginning!r}") from None

    def __repr__(self) -> str:
        return f"Query({' '.join(self.sql.split())[:80]!r})"


def turn(name: str) -> Query:
    """Takes turns with other processes, for the rest of the caller's transaction, which must wait for nothing but PostgreSQL."""
    return Query(
        f"SELECT pg_advisory_xact_lock(hashtextextended('{name}', 0)),"
        f" set_config('idle_in_transaction_session_timeout', '{LONGEST_TURN_SECONDS}s', true)"
    )


async def driver_of(db: AsyncConnection) -> asyncpg.Connection:
    """asyncpg's own connection, in the caller's transaction: SQLAlchemy sends BEGIN with its first statement only."""
    connection = db.sync_connection
    assert connection is not None
    raw: asyncpg.Connection = connection.connection.driver_connection
    if raw.is_closed():
        raise asyncpg.InterfaceError("the connection is closed")
    if not raw.is_in_transaction() and connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        await db.execute(_BEGIN)
    return raw
