"""A database that older code has filled: open verifications keep their place, ended ones all that was kept of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from alembic import command

from covergate.access.api_keys import create_key
from covergate.access.caller import Caller
from covergate.access.vendor_accounts import Owner, put_account
from covergate.db import migrate as migrating
from covergate.db.migrate import downgrade, migrate
from covergate.db.sealing import Sealer
from covergate.erasure import erase_tenant
from covergate.gateway import Gateway, connections_of
from covergate.settings import Settings
from covergate.verifications.create import Acceptance
from covergate.verifications.queries import read_one, read_raw, read_timeline
from covergate.verifications.request import CreateVerification
from tests.support.engine import Engine, running_engine
from tests.support.gateways import CALLER, SANDBOX_SECRET, TENANT
from tests.support.hooks import Hooks
from tests.support.postgres import opened_database
from tests.support.requests import REQUEST
from tests.support.sql import run_sql
from tests.support.wire import ACTIVE, POLL, SUBMIT, Wire

SETTINGS = Settings(_env_file=None, sandbox_url="http://sandbox.invalid", sandbox_secret=SANDBOX_SECRET)
ROWS = Path(__file__).parent / "rows" / "attempt_truth.sql"
QUEUE = """
CREATE TYPE pgqueuer_status AS ENUM ('queued', 'picked', 'successful', 'exception', 'canceled', 'deleted');
CREATE TABLE pgqueuer (
  id bigserial PRIMARY KEY, priority int NOT NULL, entrypoint text NOT NULL, payload bytea, execute_after timestamptz,
  dedupe_key text, status pgqueuer_status NOT NULL);
CREATE TABLE pgqueuer_log (id bigserial PRIMARY KEY);
"""
"""As much of the queue of that time as held work."""


@pytest.fixture
async def old_url(empty_database_url: str, sealer: Sealer) -> str:
    async with migrating._alone(empty_database_url) as connection:
        await migrating._run(connection, command.upgrade, "attempt_truth")
    raw = await asyncpg.connect(empty_database_url)
    await raw.execute(QUEUE)
    await raw.execute(ROWS.read_text())
    known = "INSERT INTO encryption_keys (id, fingerprint) VALUES ($1, $2)"
    for key_id in sealer.ring.keys:
        await raw.execute(known, key_id, sealer.ring.fingerprint(key_id))
    # As if it had been written today.
    await raw.execute("UPDATE verifications SET deadline = now() + interval '1 day' WHERE completed_at IS NULL")
    await raw.close()
    return empty_database_url


@pytest.fixture
async def carried(old_url: str, sealer: Sealer) -> AsyncIterator[Gateway]:
    """A gateway on that database, migrated."""
    await migrate(old_url)
    async with opened_database(old_url, sealer) as database:
        yield Gateway(SETTINGS, database, connections_of(SETTINGS))


async def named(engine: Engine) -> dict[str, str]:
    """External id → verification."""
    return {row.external_id: row.id for row in await engine.rows("SELECT external_id, id FROM verifications")}


async def test_open_verifications_keep_their_place(old_url: str, sealer: Sealer) -> None:
    raw = await asyncpg.connect(old_url)
    places = """
SELECT v.id, v.step, v.next_check_at, v.waiting_for, v.waiting_since, v.follows, v.exchange_count, a.id AS attempt_id, a.state,
  a.vendor_ref, a.intent_at, a.lookup_after, a.submitted_at, a.checks, a.errors_in_row
FROM verifications v JOIN attempts a ON a.id = v.attempt_id WHERE v.completed_at IS NULL ORDER BY v.id"""
    before = await raw.fetch(places)
    await migrate(old_url)
    after = await raw.fetch("""
SELECT verification_id AS id, step, next_check_at, waiting_for, waiting_since, follows, exchange_count, attempt_id, state,
  vendor_ref, intent_at, lookup_after, submitted_at, checks, errors_in_row
FROM work WHERE late_tries IS NULL AND due_at = next_check_at ORDER BY verification_id""")
    await raw.close()
    assert [tuple(row) for row in after] == [tuple(row) for row in before]
    assert len(after) == 6


async def test_everything_goes_on_where_it_was(carried: Gateway) -> None:
    wire = Wire().on(POLL, (200, ACTIVE)).on(SUBMIT, (200, {"id": "9"}))
    async with running_engine(carried, wire) as engine:
        ids = await named(engine)
        await engine.step(ids["waiting"])
        assert wire.calls == [POLL]  # it was submitted before
        assert (await engine.view(ids["waiting"]))["outcome"] == "eligible"
        await engine.run_sql("UPDATE work SET lookup_after = now()")
        await engine.step(ids["died"])
        assert (await engine.view(ids["died"]))["waiting_for"]["kind"] == "operator"
        assert (await engine.view(ids["operator"]))["waiting_for"]["kind"] == "operator"
        assert wire.calls == [POLL]  # an intent on disk is not made again
        for name in ("queued", "leader"):
            await engine.step(ids[name])
            await engine.step(ids[name])
            assert (await engine.view(ids[name]))["outcome"] == "eligible"
        await engine.step(ids["follower"])
        assert (await engine.view(ids["follower"]))["reused_from"] == ids["leader"]
        assert wire.calls.count(SUBMIT) == 2
        await engine.step(ids["late"])
        assert (await engine.view(ids["late"]))["status"] == "canceled"
        assert (await engine.timeline(ids["late"]))[-1] == "answered_late"
        assert sorted(await engine.due()) == sorted([ids["died"], ids["operator"]])


async def test_what_ended_is_read_as_before(carried: Gateway) -> None:
    async with running_engine(carried, Wire()) as engine:
        ids = await named(engine)
        shown = await engine.view(ids["completed"])
    assert (shown["status"], shown["outcome"], shown["attempts"][0]["state"]) == ("completed", "eligible", "answered")
    assert "/exchanges/2/" in str(shown["result"])
    raw = await read_raw(carried, CALLER, ids["completed"])
    assert [exchange["status"] for exchange in raw["exchanges"]] == [200, 202, 200]
    assert raw["exchanges"][0]["call"].startswith("POST ")
    page = await read_timeline(carried, CALLER, ids["completed"], 0, 10)
    assert [entry["type"] for entry in page.data] == ["created", "submitted", "checked", "completed"]
    assert all(entry["at"].endswith("Z") and entry["attempt_id"] for entry in page.data)


async def test_history_lies_in_the_months_of_its_rows(carried: Gateway) -> None:
    month = "'history_' || to_char(at AT TIME ZONE 'UTC', 'YYYY_MM')"
    async with carried.connection() as db:
        rows = await db.exec_driver_sql(f"SELECT DISTINCT tableoid::regclass::text = {month} FROM history")
        assert [row[0] for row in rows] == [True]


async def test_nothing_of_the_old_queue_is_left(carried: Gateway) -> None:
    async with carried.connection() as db:
        rows = await db.exec_driver_sql("SELECT relname FROM pg_class WHERE relname LIKE 'pgqueuer%'")
        assert rows.all() == []


OF_TENANT = """
SELECT v.*, w.* FROM verifications v LEFT JOIN work w ON w.verification_id = v.id WHERE v.tenant_id = :id ORDER BY v.id"""


async def test_it_goes_back_as_far_as_older_code_can_read_and_forth_again(old_url: str, sealer: Sealer) -> None:
    """With rows of the kinds that newer code adds: those are lost, the rest is as it was."""
    await migrate(old_url)
    async with opened_database(old_url, sealer) as database:
        gateway = Gateway(SETTINGS, database, connections_of(SETTINGS))
        await create_key(gateway, tenant="Newer clinic", mode="test")
        [newer] = await run_sql(gateway, "SELECT id FROM tenants WHERE name = 'Newer clinic'")
        for owner in (TENANT, newer.id):
            await put_account(gateway, Owner(owner, "test", "healthie"), None, {"api_key": "one"})
        caller = Caller(newer.id, "test", "key_1", frozenset({"verifications:read"}))
        created = await Acceptance(gateway).create(caller, CreateVerification.model_validate(REQUEST), "again")
        await read_one(gateway, caller, created.id)
        standing = "INSERT INTO vendor_standing (vendor, mode, account) VALUES ('healthie', 'test', '')"
        await run_sql(gateway, f"{standing}, ('healthie', 'test', 'acc_1')")
        await Hooks(gateway).endpoint("https://clinic.example/", tenant=newer.id)
        await erase_tenant(gateway, "Newer clinic", dry_run=False)
        before = await run_sql(gateway, OF_TENANT, id=TENANT)
    await downgrade(old_url, "data_keys")
    await migrate(old_url)
    async with opened_database(old_url, sealer) as database:
        gateway = Gateway(SETTINGS, database, connections_of(SETTINGS))
        assert await run_sql(gateway, OF_TENANT, id=TENANT) == before != []
        assert await run_sql(gateway, OF_TENANT, id=newer.id) == []
        actions = [row.action for row in await run_sql(gateway, "SELECT action FROM audit_events ORDER BY position")]
    assert actions == ["verification.create", "verification.read", "tenant.erase"]
