"""Statements run in the caller's transaction, and a connection that died under one is not given out again."""

from __future__ import annotations

from contextlib import suppress

import asyncpg
import pytest

from covergate.db.database import Database
from covergate.db.sql import Query, driver_of

ADD = Query("INSERT INTO tenants (id, name) VALUES (:id, coalesce(:name, :id)) RETURNING id, name", name="text")
ALL = Query("SELECT name FROM tenants ORDER BY name")


def test_a_name_is_one_parameter_and_a_cast_is_none() -> None:
    statement = Query("SELECT :one::text, :two, :one, now()::date", two="int")
    assert statement.sql == "SELECT $1::text, CAST($2 AS int), $1, now()::date"
    assert statement.names == ("one", "two")


async def test_a_statement_belongs_to_the_transaction_also_as_its_first(database: Database) -> None:
    for transaction in (database.engine.begin, database.transaction):
        with suppress(LookupError):
            async with transaction() as db:
                row = await ADD.one(db, {"id": "ten_1", "name": None})
                assert row is not None
                assert dict(row) == {"id": "ten_1", "name": "ten_1"}
                raise LookupError
        async with database.connection() as db:
            assert await ALL.all(db, {}) == []


async def test_both_kinds_of_transaction_commit(database: Database) -> None:
    async with database.transaction() as db:
        await ADD.one(db, {"id": "ten_1", "name": "first"})
    async with database.transaction() as db:
        await ADD.one(db, {"id": "ten_2", "name": "second"})
    async with database.connection() as db:
        assert [row["name"] for row in await ALL.all(db, {})] == ["first", "second"]


async def test_a_dead_connection_is_not_given_out_again(database: Database) -> None:
    other = await asyncpg.connect(database.url)

    async def die_in_a_transaction() -> None:
        async with database.transaction() as db:
            await other.execute("SELECT pg_terminate_backend($1, 5000)", (await driver_of(db)).get_server_pid())
            await ALL.all(db, {})

    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await die_in_a_transaction()
    await other.close()
    for _ in range(3):
        async with database.connection() as db:
            assert await ALL.all(db, {}) == []
