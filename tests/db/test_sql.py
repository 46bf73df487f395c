"""Statements run in the caller's transaction, and a connection that died under one is not given out again."""

from __future__ import annotations

from contextlib import suppress

import asyncpg
import pytest
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from covergate.db.database import Database
from covergate.db.outage import DATABASE_ERRORS
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

    with pytest.raises(DATABASE_ERRORS):
        await die_in_a_transaction()
    await other.close()
    for _ in range(3):
        async with database.connection() as db:
            assert await ALL.all(db, {}) == []


async def test_a_row_has_its_columns_as_attributes(database: Database) -> None:
    async with database.transaction() as db:
        row = await Query("SELECT 1 AS number, 'x' AS name, 3 AS items").one(db)
    assert row is not None
    assert (row.number, row.name, row["items"]) == (1, "x", 3)
    with pytest.raises(AttributeError, match="no column nmae"):
        row.nmae  # noqa: B018


async def test_a_scalar_is_one_value_and_none_without_a_row(database: Database) -> None:
    async with database.connection() as db:
        assert await Query("SELECT 7").scalar(db) == 7
        assert await Query("SELECT 7 WHERE :yes", yes="bool").scalar(db, {"yes": False}) is None
        assert await Query("SELECT 7 WHERE false").one(db) is None


async def test_running_tells_how_many_rows_changed(database: Database) -> None:
    async with database.transaction() as db:
        insert = Query("INSERT INTO tenants (id, name) SELECT id, id FROM unnest(CAST(:ids AS text[])) AS r(id)")
        assert await insert.run(db, {"ids": ["ten_1", "ten_2", "ten_3"]}) == 3
        assert await Query("UPDATE tenants SET name = id || 'x' WHERE id <> :id").run(db, {"id": "ten_1"}) == 2
        assert await Query("DELETE FROM tenants WHERE false").run(db) == 0
        assert await Query("SET LOCAL statement_timeout = '1s'").run(db) == 0


@pytest.mark.parametrize("type_", ["json", "jsonb"])
@pytest.mark.parametrize("value", [{"a": [1, None, "ü"]}, [], 3, True, [{"b": {}}]])
async def test_json_is_values_both_ways(database: Database, type_: str, value: object) -> None:
    query = Query("SELECT :value AS value, :value::text AS text, :values AS many", value=type_, values=f"{type_}[]")
    async with database.connection() as db:
        row = await query.one(db, {"value": value, "values": [{"a": value}, "[1]"]})
        assert row is not None and (row.value, row.many) == (value, [{"a": value}, [1]])
        again = await query.one(db, {"value": row.text, "values": []})
        assert again is not None and again.value == value


async def test_sqlalchemys_json_types_still_work(database: Database) -> None:
    async with database.engine.connect() as db:
        sent = {"a": ["b"]}
        statement = text("SELECT :value AS value").bindparams(bindparam("value", sent, type_=JSONB))
        assert (await db.execute(statement.columns(value=JSONB))).scalar_one() == sent
        assert (await db.execute(text("SELECT '{\"a\": 1}'::jsonb"))).scalar_one() == {"a": 1}


async def test_a_missing_value_is_named(database: Database) -> None:
    async with database.connection() as db:
        with pytest.raises(TypeError, match=r"no value for :name in 'INSERT INTO tenants"):
            await ADD.one(db, {"id": "ten_1"})
