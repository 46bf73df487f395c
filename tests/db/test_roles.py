"""Owner and runtime role: what a process of the gateway can do to its database, and what it cannot."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url
from structlog.testing import capture_logs

from covergate.access.api_keys import create_key
from covergate.access.audit_chain import Chain, verify_chain
from covergate.access.credential_cache import CredentialCache
from covergate.access.credentials import digest
from covergate.access.quotas import QuotaPolicy, Quotas
from covergate.access.vendor_accounts import Owner, put_account, remove_account
from covergate.db import data_keys
from covergate.db.data_keys import GATEWAY
from covergate.db.database import Database
from covergate.db.migrate import migrate
from covergate.db.partitions import Partitions
from covergate.db.roles import append_only
from covergate.db.sql import Query
from covergate.db.tables import metadata
from covergate.erasure import erase_patient, erase_tenant
from covergate.errors import ConfigurationError
from covergate.gateway import Gateway
from covergate.reseal import reseal
from covergate.retention import prune
from covergate.verifications.queries import read_one
from covergate.worker import Worker, _name_of
from tests.support.due import due_in
from tests.support.engine import accept, running_engine, view
from tests.support.gateways import CALLER, OTHER_TENANT, TENANT, make_gateway
from tests.support.hooks import Hooks
from tests.support.partner import partner_server
from tests.support.postgres import make_sealer, opened_database
from tests.support.requests import PATIENT
from tests.support.waiting import eventually
from tests.support.wire import ACTIVE, POLL, SUBMIT, SUBMITTED, Wire
from tests.support.workers import running_worker, working


@pytest.fixture
async def role(database_url: str) -> AsyncIterator[str]:
    """A role that owns nothing; roles belong to the server, so this one goes with the test."""
    name = f"runtime_{secrets.token_hex(6)}"
    owner = await asyncpg.connect(database_url)
    await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'runtime'")
    yield name
    await owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
    await owner.close()


@pytest.fixture
async def runtime(database_url: str, role: str) -> AsyncIterator[Database]:
    """The migrated database as API and workers open it."""
    await migrate(database_url, runtime_role=role)
    url = make_url(database_url).set(username=role, password="runtime").render_as_string(hide_password=False)
    async with opened_database(url, make_sealer()) as database:
        yield database


async def test_a_worker_and_its_webhooks_run_as_the_runtime_role(runtime: Database) -> None:
    gateway = await make_gateway(runtime, allow_private_network=True)
    wire = Wire().on(SUBMIT, SUBMITTED).on(POLL, (200, ACTIVE))
    async with partner_server() as partner, working(gateway, wire):
        await Hooks(gateway).endpoint(partner.url())
        with capture_logs() as lines:
            verification = await accept(gateway)

            async def told() -> bool:
                await due_in(gateway).hasten()
                return bool(partner.received)

            await eventually(told)
    assert (await view(gateway, verification))["status"] == "completed"
    assert not [line for line in lines if line["event"] == "background_task_failed"]


async def test_each_of_a_workers_periodic_tasks_runs_as_the_runtime_role(
    runtime: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await make_gateway(runtime, raw_days=1, content_days=10, history_months=3)
    done: dict[str, object] = {}

    async def once(self: Worker, seconds: float, action: Any, limit_seconds: float, *, at_once: bool = True) -> None:
        try:
            done[_name_of(action)] = await action()
        except Exception as error:
            done[_name_of(action)] = error

    wire = Wire().on(SUBMIT, SUBMITTED).on(POLL, (200, ACTIVE))
    async with running_engine(gateway, wire) as engine:
        for days in (3, 30, 0):
            id_ = await engine.create()
            await engine.run_all()
            aged = "created_at = created_at - make_interval(days => :days)"
            await engine.run_sql(
                f"UPDATE verifications SET {aged}, completed_at = completed_at - make_interval(days => :days)"
                " WHERE id = :id",
                days=days,
                id=id_,
            )
        late = await engine.create()
        await engine.run_sql("UPDATE work SET deadline = now(), next_check_at = now()")
        gone = await accept(gateway, vendor="sohar")
        await engine.run_sql("UPDATE verifications SET tenant_id = :other WHERE id = :id", other=OTHER_TENANT, id=gone)
        await engine.run_sql("DELETE FROM work WHERE verification_id = :id", id=gone)
        for table in ("tenants", "verifications"):
            key = "id" if table == "tenants" else "tenant_id"
            await engine.run_sql(
                f"UPDATE {table} SET erased_at = now() - interval '40 days' WHERE {key} = :other", other=OTHER_TENANT
            )
        monkeypatch.setattr(Worker, "_regularly", once)
        async with running_worker(gateway, wire):
            await eventually(lambda: len(done) >= 10)
        # What it could not close because a transaction was under way that might still add a row, the next look closes.
        closed = done["close"] or await Chain(gateway).close()
        assert {name: error for name, error in done.items() if isinstance(error, Exception)} == {}
        assert done["erase_old"] == 2 and done["close_late"] == 1 and closed == 1
        assert set(done) == {
            "close_late",
            "wake_held_back",
            "prune",
            "erase_old",
            "close",
            "meet_others",
            "tell_of_health",
            "flush",
            "sync_if_due",
            "wake_for_trials",
            "count_ended",
        }
        assert (await engine.view(late))["status"] == "failed"
        assert await engine.rows("SELECT 1 FROM verifications WHERE id = :id", id=gone) == []


async def test_what_operators_and_the_api_do_is_done_as_the_runtime_role(runtime: Database) -> None:
    gateway = await make_gateway(runtime)
    wire = Wire().on(SUBMIT, SUBMITTED).on(POLL, (200, ACTIVE))
    async with running_engine(gateway, wire) as engine:
        key = await create_key(gateway, tenant="Test clinic", mode="test")
        keys = CredentialCache(gateway)
        caller = await keys.authenticate(key)
        assert caller is not None
        keys.note_use(caller)
        await keys.write_uses()
        policy = QuotaPolicy("test", "things", 10, 60)
        quotas = Quotas(gateway)
        quotas.take(policy, caller.id)
        await quotas.sync()
        owner = Owner(TENANT, "test", "healthie")
        await put_account(gateway, owner, None, {"api_key": "one"})
        await put_account(gateway, owner, None, {"api_key": "other"})
        id_ = await engine.create()
        await engine.run_all()
        await read_one(gateway, CALLER, id_)
        assert (await reseal(gateway, [GATEWAY, TENANT], known_to_all=0.0, linger=0.0)).destroyed == 2
        await remove_account(gateway, owner)
        await Chain(gateway).close()
        assert (await verify_chain(gateway)).faults == []
        async with gateway.connection() as db:
            await data_keys.rewrap_all(db, gateway.sealer.ring)
        await erase_patient(gateway, CALLER, PATIENT["member_id"], date(1990, 1, 1), dry_run=False)
        assert (await erase_tenant(gateway, "Test clinic", dry_run=False)).counts["verifications"] == 1
        assert await keys.existing([digest(key)]) == frozenset()
    assert await engine.rows("SELECT 1 FROM audit_events") != []


@pytest.mark.parametrize("table", append_only())
@pytest.mark.parametrize("statement", ["UPDATE {} SET count = 2", "DELETE FROM {}", "TRUNCATE {}", "DROP TABLE {}"])
async def test_the_runtime_role_cannot_rewrite_what_is_append_only(
    runtime: Database, table: str, statement: str
) -> None:
    async with runtime.connection() as db:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await Query(statement.format(table)).run(db)


async def test_the_runtime_role_has_what_it_needs_and_no_more(runtime: Database) -> None:
    rights = Query(
        """SELECT tablename AS name, has_table_privilege(tablename, 'DELETE') AS changes,
                  has_table_privilege(tablename, 'INSERT') AS adds, has_table_privilege(tablename, 'TRUNCATE') AS empties
           FROM pg_tables WHERE schemaname = 'public' AND tablename !~ '^(history|audit_events)_'""",
    )
    async with runtime.connection() as db:
        rows = await rights.all(db)
    changed = {table.name for table in metadata.sorted_tables} - set(append_only())
    assert {row.name for row in rows if row.changes} == changed
    assert {row.name for row in rows if row.adds} == changed | set(append_only())
    assert not [row.name for row in rows if row.empties]


async def test_partitions_are_left_to_the_owner_with_one_warning(runtime: Database, database_url: str) -> None:
    owner = await asyncpg.connect(database_url)
    await owner.execute(
        "DROP TABLE " + await owner.fetchval("SELECT max(relname) FROM pg_class WHERE relname ~ '^history_[0-9_]+$'")
    )
    await owner.close()
    gateway = Gateway((await make_gateway(runtime)).settings.model_copy(update={"history_months": 3}), runtime)
    partitions = Partitions(gateway.transaction)
    with capture_logs() as lines:
        await prune(gateway, partitions)
        await prune(gateway, partitions)
    assert [line["reason"] for line in lines if line["event"] == "partition_not_changed"] == [
        "this role may not: run `covergate migrate` as the owner of the tables"
    ]


async def test_a_role_that_is_not_there_is_named(database_url: str) -> None:
    with pytest.raises(ConfigurationError, match="no role nobody_here; CREATE ROLE nobody_here"):
        await migrate(database_url, runtime_role="nobody_here")
