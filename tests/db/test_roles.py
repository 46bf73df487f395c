"""Owner and runtime role: what a process of the gateway can do to its database, and what it cannot."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import make_url
from structlog.testing import capture_logs

from covergate.db.database import Database
from covergate.db.migrate import migrate
from covergate.db.partitions import Partitions
from covergate.db.roles import append_only
from covergate.db.sql import Query
from covergate.db.tables import metadata
from covergate.errors import ConfigurationError
from covergate.gateway import Gateway
from covergate.retention import prune
from tests.support.due import due_in
from tests.support.engine import accept, view
from tests.support.gateways import make_gateway
from tests.support.hooks import Hooks
from tests.support.partner import partner_server
from tests.support.postgres import make_sealer, opened_database
from tests.support.waiting import eventually
from tests.support.wire import ACTIVE, POLL, SUBMIT, SUBMITTED, Wire
from tests.support.workers import working


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
