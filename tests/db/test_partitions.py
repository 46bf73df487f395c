"""`history` by month: partitions come ahead of time, old ones go, and nobody who accepts or reads notices."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url
from structlog.testing import capture_logs

from covergate.db import partitions as months
from covergate.db.database import Database
from covergate.db.migrate import migrate
from covergate.db.partitions import MONTHS_AHEAD, Partitions
from covergate.db.sealing import Sealer
from covergate.db.sql import Query, driver_of
from covergate.gateway import Gateway
from covergate.retention import prune
from covergate.settings import Settings
from covergate.verifications import history, queries
from covergate.verifications.queries import read_one, read_raw, read_timeline
from tests.support.engine import Engine, accept
from tests.support.gateways import CALLER, SANDBOX_SECRET
from tests.support.postgres import opened_database
from tests.support.sql import run_sql

ROW = """
INSERT INTO history (verification_id, n, at, attempt_id, vendor, entries) VALUES ('{id}', {n}, '{at}', 'att_1', 'vsee', '[]')"""
OF_ITS_OWN = (
    "SELECT relname FROM pg_class JOIN pg_inherits ON inhrelid = oid WHERE inhparent = 'history'::regclass ORDER BY 1"
)


def month(ahead: int) -> date:
    """The first of this month, or of one before or after it."""
    today = datetime.now(UTC).date()
    years, number = divmod(today.year * 12 + today.month - 1 + ahead, 12)
    return date(years, number + 1, 1)


def name(ahead: int) -> str:
    return f"history_{month(ahead):%Y_%m}"


NEW = [name(ahead) for ahead in range(MONTHS_AHEAD + 1)]


async def names(gateway: Gateway) -> list[str]:
    """Of all partitions but the default one."""
    found = [row.relname for row in await run_sql(gateway, OF_ITS_OWN)]
    assert found[-1] == "history_rest"
    return found[:-1]


async def drop(gateway: Gateway, *tables: str) -> None:
    for table in tables:
        await run_sql(gateway, f"DROP TABLE {table}")


async def make_old(gateway: Gateway, back: int) -> None:
    await run_sql(
        gateway,
        f"CREATE TABLE {name(-back)} PARTITION OF history FOR VALUES FROM ('{month(-back)} UTC') TO ('{month(1 - back)} UTC')",
    )


async def write(gateway: Gateway, verification_id: str, n: int, ahead: int) -> None:
    at = f"{month(ahead)} 00:00:00 UTC"
    await run_sql(gateway, ROW.format(id=verification_id, n=n, at=at).replace(":00", "\\:00"))


async def places(gateway: Gateway) -> list[str]:
    """The partition of each row, in the order of its instants."""
    rows = await run_sql(
        gateway, "SELECT tableoid::regclass::text AS place FROM history ORDER BY at".replace("::", "\\:\\:")
    )
    return [row.place for row in rows]


def events(logs: Sequence[Any], event: str) -> list[str]:
    return [entry["partition"] for entry in logs if entry["event"] == event]


async def test_a_migrated_database_has_this_months_partition_and_the_next_ones(gateway: Gateway) -> None:
    assert await names(gateway) == NEW
    storage = await run_sql(
        gateway,
        "SELECT DISTINCT attstorage FROM pg_attribute JOIN pg_inherits ON inhrelid = attrelid"
        " WHERE inhparent = 'history'\\:\\:regclass AND attname = 'contents_sealed'",
    )
    assert [row.attstorage for row in storage] == [b"e"]
    bounds = await run_sql(
        gateway, f"SELECT pg_get_expr(relpartbound, oid) AS bounds FROM pg_class WHERE relname = '{NEW[1]}'"
    )
    assert f"FROM ('{month(1)} 00:00:00+00') TO ('{month(2)} 00:00:00+00')" in bounds[0].bounds


async def test_they_are_made_once_and_those_that_are_missing_are_made_again(gateway: Gateway) -> None:
    with capture_logs() as logs:
        await Partitions(gateway.transaction).make_ahead()
        await migrate(gateway.database.url)
        assert logs == []
        await drop(gateway, NEW[0], NEW[2])
        await Partitions(gateway.transaction).make_ahead()
        await drop(gateway, NEW[1])
        await migrate(gateway.database.url)
    assert events(logs, "partition_made") == [NEW[0], NEW[2], NEW[1]]
    assert await names(gateway) == NEW


async def test_several_processes_make_each_once(gateway: Gateway, sealer: Sealer) -> None:
    await drop(gateway, *NEW)
    async with AsyncExitStack() as stack:
        others = [await stack.enter_async_context(opened_database(gateway.database.url, sealer)) for _ in range(5)]
        with capture_logs() as logs:
            await asyncio.gather(*(Partitions(other.transaction).make_ahead() for other in others))
    assert sorted(events(logs, "partition_made")) == NEW
    assert events(logs, "partition_not_changed") == []
    assert await names(gateway) == NEW


async def test_a_row_lies_in_the_partition_of_its_month(gateway: Gateway) -> None:
    id_ = await accept(gateway)
    await run_sql(gateway, "DELETE FROM history")
    for ahead in range(-1, MONTHS_AHEAD + 2):
        await write(gateway, id_, ahead + 1, ahead)
    assert await places(gateway) == ["history_rest", *NEW, "history_rest"]


async def test_what_is_accepted_now_lies_in_this_months_partition(gateway: Gateway) -> None:
    await accept(gateway)
    assert await places(gateway) == [NEW[0]]


async def test_only_what_is_older_goes(gateway: Gateway) -> None:
    """A month is older when its last day is."""
    id_ = await accept(gateway)
    for back in range(1, 7):
        await make_old(gateway, back)
    for back in range(8):
        await write(gateway, id_, back + 1, -back)
    await write(gateway, id_, 9, -30)
    assert (await places(gateway)).count("history_rest") == 2
    await Partitions(gateway.transaction).drop_old(3)
    assert await names(gateway) == [name(-3), name(-2), name(-1), *NEW]
    rows = await run_sql(gateway, "SELECT n FROM history ORDER BY n")
    assert [row.n for row in rows] == [0, 1, 2, 3, 4]


async def test_a_month_goes_as_soon_as_all_of_it_is_old_enough(gateway: Gateway) -> None:
    for back in (4, 5):
        await make_old(gateway, back)
    await Partitions(gateway.transaction).drop_old(4)
    assert await names(gateway) == [name(-4), *NEW]


@pytest.mark.parametrize("setting", [None, 3])
async def test_pruning_makes_months_and_drops_them_only_if_it_is_set_to(
    database: Database, setting: int | None
) -> None:
    gateway = Gateway(Settings(_env_file=None, history_months=setting), database)
    await make_old(gateway, 30)
    await drop(gateway, NEW[3])
    await prune(gateway, Partitions(gateway.transaction))
    assert await names(gateway) == ([] if setting else [name(-30)]) + NEW


async def ended(engine: Engine, **changes: Any) -> str:
    id_ = await engine.create(**changes)
    await engine.run_all()
    return id_


async def age(engine: Engine, months: int, but_since: int = 1000) -> None:
    """Rows before the one of this number move into the partition of that time."""
    await engine.run_sql(f"UPDATE history SET at = at - interval '{months} months' WHERE n < {but_since}")


async def test_of_what_was_dropped_the_result_stays(engine: Engine) -> None:
    gateway = engine.gateway
    id_ = await ended(engine)
    follower = await ended(engine, max_age=3600)
    before = [await read_one(gateway, CALLER, one) for one in (id_, follower)]
    assert before[0]["outcome"] == "eligible" and before[1]["reused_from"] == id_
    assert len((await read_raw(gateway, CALLER, follower))["exchanges"]) == 3
    await make_old(gateway, 6)
    await age(engine, 6)
    await Partitions(gateway.transaction).drop_old(3)
    assert await places(gateway) == []
    for one, shown in zip((id_, follower), before, strict=True):
        assert await read_one(gateway, CALLER, one) == shown
        assert (await read_timeline(gateway, CALLER, one, 0, 10)).data == []
        assert await read_raw(gateway, CALLER, one) == {"object": "raw", "erased_at": None, "exchanges": []}


async def test_raw_replies_are_shown_all_or_not_at_all(engine: Engine) -> None:
    """Of a verification whose first steps were dropped the others would stand in the wrong places."""
    gateway = engine.gateway
    id_ = await ended(engine)
    whole = (await read_timeline(gateway, CALLER, id_, 0, 10)).data
    await make_old(gateway, 6)
    await age(engine, 6, but_since=2)
    await Partitions(gateway.transaction).drop_old(3)
    left = (await read_timeline(gateway, CALLER, id_, 0, 10)).data
    assert 0 < len(left) < len(whole) and left == whole[-len(left) :]
    assert (await read_raw(gateway, CALLER, id_))["exchanges"] == []


async def test_one_verification_is_read_from_each_partition_by_its_index(gateway: Gateway) -> None:
    id_ = await accept(gateway)
    for back in range(1, 7):
        await make_old(gateway, back)
    await run_sql(
        gateway,
        "INSERT INTO verifications SELECT (jsonb_populate_record(v, jsonb_build_object('id', 'ver_' || g))).*"
        " FROM verifications v, generate_series(1, 2000) AS g",
    )
    await run_sql(
        gateway,
        "INSERT INTO history (verification_id, n, at, attempt_id, vendor, entries)"
        " SELECT 'ver_' || g, m + 6, now() + make_interval(months => m), 'att_1', 'vsee', '[]'"
        f" FROM generate_series(1, 2000) AS g, generate_series(-7, {MONTHS_AHEAD}) AS m",
    )
    await run_sql(gateway, "ANALYZE history")
    values = {"id": id_, "ids": [id_], "after": 0, "limit": 10, "most": queries.MOST_ENTRIES}
    for query in (queries._TIMELINE, queries._RAW, history._REPLIES, history._STORED_EXCHANGES):
        async with gateway.connection() as db:
            raw = await driver_of(db)
            plan = "\n".join(
                row[0] for row in await raw.fetch(f"EXPLAIN {query.sql}", *(values[name] for name in query.names))
            )
        assert plan.count("_pkey on history_") + plan.count("_pkey  (cost") == 7 + MONTHS_AHEAD + 1, plan
        assert "Seq Scan" not in plan


async def test_rows_in_the_default_partition_stay_there(gateway: Gateway) -> None:
    await drop(gateway, NEW[0])
    id_ = await accept(gateway)
    await drop(gateway, NEW[1])
    partitions = Partitions(gateway.transaction)
    with capture_logs() as logs:
        await partitions.make_ahead()
        await partitions.make_ahead()
    [warning] = [entry for entry in logs if entry["event"] == "partition_not_changed"]
    assert (warning["partition"], warning["log_level"]) == (NEW[0], "warning")
    assert warning["reason"] == "the default partition has rows of this month, and goes on taking them"
    assert events(logs, "partition_made") == [NEW[1]]
    assert await names(gateway) == NEW[1:]
    assert [row["type"] for row in (await read_timeline(gateway, CALLER, id_, 0, 10)).data] == ["created"]
    await accept(gateway)
    assert await places(gateway) == ["history_rest", "history_rest"]


async def test_a_table_in_the_way_stays_as_it_is(gateway: Gateway) -> None:
    """Somebody detached a month to keep it elsewhere."""
    await run_sql(gateway, f"ALTER TABLE history DETACH PARTITION {NEW[1]}")
    with capture_logs() as logs:
        await Partitions(gateway.transaction).make_ahead()
    assert [entry["reason"] for entry in logs] == ["a table of this name is no partition"]
    assert await names(gateway) == [NEW[0], *NEW[2:]]


async def test_a_partition_of_somebody_elses_making_stays_as_it_is(gateway: Gateway) -> None:
    await drop(gateway, *NEW[1:])
    await run_sql(
        gateway,
        f"CREATE TABLE history_later PARTITION OF history FOR VALUES FROM ('{month(1)} UTC') TO ('{month(40)} UTC')",
    )
    with capture_logs() as logs:
        await Partitions(gateway.transaction).make_ahead()
    assert [entry["reason"] for entry in logs] == ["another partition has a part of this month"]
    await Partitions(gateway.transaction).drop_old(3)
    assert await names(gateway) == [NEW[0], "history_later"]


@pytest.fixture
async def role_url(gateway: Gateway) -> AsyncIterator[str]:
    """The address with a role that may read and write rows, and nothing else."""
    role = f"rows_only_{secrets.token_hex(4)}"
    await run_sql(gateway, f"CREATE ROLE {role} LOGIN")
    await run_sql(gateway, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    await run_sql(gateway, f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
    yield make_url(gateway.database.url).set(username=role).render_as_string(hide_password=False)
    await run_sql(gateway, f"DROP OWNED BY {role}")
    await run_sql(gateway, f"DROP ROLE {role}")


async def test_a_role_that_may_not_is_warned_once_and_works(gateway: Gateway, role_url: str, sealer: Sealer) -> None:
    await drop(gateway, *NEW)
    await make_old(gateway, 30)
    async with opened_database(role_url, sealer) as database:
        limited = Gateway(
            Settings(
                _env_file=None, sandbox_url="http://sandbox.invalid", sandbox_secret=SANDBOX_SECRET, history_months=3
            ),
            database,
            gateway.connections,
        )
        partitions = Partitions(limited.transaction)
        with capture_logs() as logs:
            for _ in range(2):
                await prune(limited, partitions)
        id_ = await accept(limited)
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("partition_not_changed", "warning")]
    assert logs[0]["reason"] == "this role may not: run `covergate migrate` as the owner of the tables"
    assert await names(gateway) == [name(-30)]
    assert await places(gateway) == ["history_rest"]
    assert (await read_one(gateway, CALLER, id_))["status"] == "queued"


HOLDING = {
    "reads history": "SELECT FROM history",
    "writes verifications": "UPDATE verifications SET external_id = 'x'",
}


@pytest.mark.parametrize("held", HOLDING)
@pytest.mark.parametrize("change", ["make", "drop"])
async def test_work_goes_on_beside_a_long_transaction(gateway: Gateway, change: str, held: str) -> None:
    """The change waits a moment for its locks, then gives way; when the transaction is over it is made."""
    await accept(gateway)
    if change == "make":
        await drop(gateway, *NEW[1:])
    else:
        await make_old(gateway, 30)
    partitions = Partitions(gateway.transaction)
    long = await asyncpg.connect(gateway.database.url)
    try:
        transaction = long.transaction()
        await transaction.start()
        await long.execute(HOLDING[held])
        with capture_logs() as logs:
            changing = asyncio.create_task(partitions.make_ahead() if change == "make" else partitions.drop_old(3))
            while not changing.done():
                async with asyncio.timeout(2):
                    await read_timeline(gateway, CALLER, await accept(gateway), 0, 10)
            await changing
        if (change, held) != ("drop", "writes verifications"):
            assert set(events(logs, "partition_waits")) == (set(NEW[1:]) if change == "make" else {name(-30)})
        await transaction.commit()
    finally:
        await long.close()
    await (partitions.make_ahead() if change == "make" else partitions.drop_old(3))
    assert await names(gateway) == NEW


async def test_a_default_partition_that_takes_long_to_search_is_left_alone(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(months, "TURN_SECONDS", 60)
    monkeypatch.setattr(months, "SEARCH_SECONDS", 0.1)
    await drop(gateway, NEW[3])
    locker = await asyncpg.connect(gateway.database.url)
    try:
        async with locker.transaction():
            await locker.execute("LOCK TABLE history_rest")
            with capture_logs() as logs:
                await Partitions(gateway.transaction).make_ahead()
    finally:
        await locker.close()
    assert [entry["reason"] for entry in logs] == ["the default partition takes too long to search"]


async def test_months_of_the_audit_are_dropped_after_six_years_and_no_row_before(gateway: Gateway) -> None:
    """Whatever COVERGATE_HISTORY_MONTHS says. In its default partition nothing is ever deleted."""
    for back in (72, 73, 74):
        await run_sql(
            gateway,
            f"CREATE TABLE audit_{name(-back).replace('history', 'events')} PARTITION OF audit_events"
            f" FOR VALUES FROM ('{month(-back)} UTC') TO ('{month(1 - back)} UTC')",
        )
    for back in (71, 72, 73, 74):
        await run_sql(
            gateway,
            "INSERT INTO audit_events (id, at, action, actor_kind, outcome)"
            f" VALUES ('aud_{back}', '{month(-back)} 00\\:00\\:00 UTC', 'x', 'key', 'allowed')",
        )
    await prune(gateway, Partitions(gateway.transaction))
    kept = await run_sql(gateway, "SELECT id FROM audit_events ORDER BY id")
    assert [row.id for row in kept] == ["aud_71", "aud_72"]
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only added"):
        async with gateway.connection() as db:
            await Query(f"TRUNCATE audit_events_{NEW[0][-7:]}").run(db)
