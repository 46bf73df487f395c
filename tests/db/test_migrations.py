from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from pathlib import Path
from uuid import RFC_4122

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from structlog.testing import capture_logs
from typeid import TypeID

from covergate import ids
from covergate.db import migrate as migrating
from covergate.db.database import make_engine
from covergate.db.migrate import compatible_revisions, downgrade, migrate, ours, require_current
from covergate.db.tables import metadata
from covergate.errors import ConfigurationError

# Everything a migration could forget, as PostgreSQL itself spells it.
CATALOG = """
    SELECT 'column', c.relname, a.attname,
           format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
           || a.attidentity::text || coalesce(' ' || pg_get_expr(d.adbin, d.adrelid), '')
           || coalesce(' -- ' || col_description(c.oid, a.attnum), '')
      FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
     WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
      FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> 0
       AND conrelid::regclass::text !~ '^(history|audit_events)_'
    UNION ALL
    SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
       AND tablename !~ '^(history|audit_events)_'
    ORDER BY 1, 2, 3
"""


async def catalog(url: str) -> list[tuple[str, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(CATALOG)]
    finally:
        await connection.close()


def without_others(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [row for row in rows if not row[1].startswith("alembic_version")]


async def test_the_migrated_schema_is_the_metadata(database_url: str) -> None:
    def differences(connection: Connection) -> list[object]:
        options = {"include_name": ours, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    engine = make_engine(database_url, pool_size=1, application_name="tests")
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_down_to_the_last_check_and_comment(database_url: str, empty_database_url: str) -> None:
    # Alembic compares no CHECK constraints; PostgreSQL's catalog has them.
    engine = make_engine(empty_database_url, pool_size=1, application_name="tests")
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    await engine.dispose()
    assert without_others(await catalog(database_url)) == await catalog(empty_database_url)


async def test_downgrade_leaves_nothing_of_ours_and_upgrade_brings_it_back(database_url: str) -> None:
    before = await catalog(database_url)
    await downgrade(database_url, "base")
    assert without_others(await catalog(database_url)) == []
    await migrate(database_url)
    assert await catalog(database_url) == before


async def test_no_key_has_the_scope_of_operators_any_more(database_url: str) -> None:
    await downgrade(database_url, "data_keys")
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO tenants (id, name) VALUES ('ten_1', 'Clinic')")
    for id_, scopes in (
        ("a", ["verifications:read", "operations"]),
        ("b", ["operations"]),
        ("c", ["verifications:raw"]),
    ):
        await connection.execute(
            "INSERT INTO api_keys (id, tenant_id, mode, digest, hint, scopes) VALUES ($1, 'ten_1', 'live', $2, '', $3)",
            id_,
            id_.encode(),
            scopes,
        )
    await migrate(database_url)
    rows = await connection.fetch("SELECT id, scopes FROM api_keys ORDER BY id")
    await connection.close()
    assert [tuple(row) for row in rows] == [("a", ["verifications:read"]), ("b", []), ("c", ["verifications:raw"])]


async def test_migrating_again_changes_nothing(database_url: str) -> None:
    before = await catalog(database_url)
    await migrate(database_url)
    assert await catalog(database_url) == before


async def test_several_at_once_end_in_one_schema(empty_database_url: str, database_url: str) -> None:
    await asyncio.gather(*(migrate(empty_database_url) for _ in range(4)))
    assert await catalog(empty_database_url) == await catalog(database_url)


async def test_migrating_leaves_the_loggers_alone(empty_database_url: str) -> None:
    logger = logging.getLogger("covergate.anything")
    handlers, level = list(logging.root.handlers), logging.root.level
    await migrate(empty_database_url)
    assert not logger.disabled
    assert (logging.root.handlers, logging.root.level) == (handlers, level)


async def test_a_migration_that_fails_leaves_the_database_free_for_the_next(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE TABLE verifications (in_the_way int)")
    with pytest.raises(Exception, match="already exists"):
        await migrate(empty_database_url)
    await connection.execute("DROP TABLE verifications")
    await connection.close()
    await migrate(empty_database_url)


OTHER = """
revision = {revision!r}
down_revision = {before!r}
{compatible}
"""


def test_compatible_revisions_are_those_named_and_those_that_the_named_one_before_names(tmp_path: Path) -> None:
    versions = tmp_path / "versions"
    versions.mkdir()
    for revision, before, compatible in (
        ("a", None, ""),
        ("b", "a", "compatible_with = ('a',)"),
        ("c", "b", "compatible_with = ('b',)"),
        ("d", "c", ""),
        ("e", "d", "compatible_with = ('d',)"),
    ):
        content = OTHER.format(revision=revision, before=before, compatible=compatible)
        (versions / f"{revision}.py").write_text(content)
    known = ScriptDirectory(str(tmp_path))
    found = {revision: "".join(sorted(compatible_revisions(known, revision))) for revision in "abcde"}
    assert found == {"a": "a", "b": "ab", "c": "abc", "d": "d", "e": "de"}


async def head_and_comment(url: str) -> tuple[str, str]:
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow(
            "SELECT version_num, obj_description('alembic_version'::regclass) FROM alembic_version"
        )
    finally:
        await connection.close()
    return row[0], row[1]


async def test_the_database_says_whose_code_works_with_it(database_url: str) -> None:
    head, comment = await head_and_comment(database_url)
    assert head in comment.split()


@pytest.mark.parametrize("compatible", [True, False])
async def test_a_newer_schema_is_taken_if_it_says_that_it_works_with_this_version(
    database_url: str, compatible: bool
) -> None:
    head, _ = await head_and_comment(database_url)
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE alembic_version SET version_num = 'next_year'")
    await connection.execute(f"COMMENT ON TABLE alembic_version IS '{head if compatible else 'another'} next_year'")
    await connection.close()
    engine = make_engine(database_url, pool_size=1, application_name="tests")
    for _ in range(2):
        with nullcontext() if compatible else pytest.raises(ConfigurationError, match="newer version"):
            async with engine.connect() as db:
                await require_current(db)
        with nullcontext() if compatible else pytest.raises(ConfigurationError, match="newer version"):
            await migrate(database_url)
    await engine.dispose()
    assert (await head_and_comment(database_url))[0] == "next_year"


async def test_a_migration_behind_a_long_read_keeps_no_one_waiting(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "TABLE_LOCK_SECONDS", 0.1)
    monkeypatch.setattr(migrating, "MIGRATION_PAUSE_SECONDS", 0.1)
    reader = await asyncpg.connect(database_url)
    reading = reader.transaction()
    await reading.start()
    await reader.execute("SELECT FROM verifications")
    other = await asyncpg.connect(database_url)
    with capture_logs() as logs:
        downgrading = asyncio.create_task(downgrade(database_url, "base"))
        async with asyncio.timeout(20):
            while sum(entry["event"] == "migration_waits" for entry in logs) < 3:
                await other.execute("SELECT FROM verifications", timeout=5)
                await asyncio.sleep(0.01)
            await reading.rollback()
            await downgrading
    await reader.close()
    await other.close()
    assert without_others(await catalog(database_url)) == []


async def test_events_and_vendors_events_of_before_are_carried_over(database_url: str) -> None:
    """Listed in the order in which they were made, whatever their ids; what is new comes behind."""
    await downgrade(database_url, "foundation")
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("INSERT INTO tenants (id, name) VALUES ('ten_1', 'North')")
        for id_, age in (("evt_2", 1), ("evt_1", 2), ("evt_3", 3)):
            await connection.execute(
                "INSERT INTO events (id, tenant_id, mode, type, data, created_at)"
                " VALUES ($1, 'ten_1', 'test', 'x', '{}', now() - make_interval(hours => $2))",
                id_,
                age,
            )
        await connection.execute(
            "INSERT INTO vendor_events (id, vendor, mode, dedupe_key, kind, wakes, body_sealed)"
            " VALUES ('vev_1', 'sohar', 'test', 'k', 'x', false, 'sealed')"
        )
        await migrate(database_url)
        await connection.execute(
            "INSERT INTO events (id, tenant_id, mode, type, data) VALUES ('evt_0', 'ten_1', 'test', 'x', '{}')"
        )
        order = await connection.fetch("SELECT id, full_sealed FROM events ORDER BY position")
        kept = await connection.fetch("SELECT body_sealed, message_id FROM vendor_events")
    finally:
        await connection.close()
    assert [tuple(row) for row in order] == [("evt_3", None), ("evt_1", None), ("evt_2", None), ("evt_0", None)]
    assert [tuple(row) for row in kept] == [(b"sealed", None)]
    await downgrade(database_url, "foundation")
    await migrate(database_url)


async def test_deliveries_of_before_keep_their_place_and_their_attempts(database_url: str) -> None:
    """The last try goes into the delivery; if it failed it stays a row of its own, too. Down again all are rows."""
    await downgrade(database_url, "work")
    connection = await asyncpg.connect(database_url)
    tries: dict[str, list[int | None]] = {
        "dlv_new": [],
        "dlv_retried": [500, None],
        "dlv_done": [503, 200],
        "dlv_gone": [410],
        "dlv_at_once": [204],
    }
    try:
        await connection.execute("INSERT INTO tenants (id, name) VALUES ('ten_1', 'North')")
        await connection.execute(
            "INSERT INTO events (id, tenant_id, mode, type, data) VALUES ('evt_1', 'ten_1', 'test', 'x', '{}')"
        )
        for id_, statuses in tries.items():
            ended = {"dlv_done": "delivered", "dlv_at_once": "delivered", "dlv_gone": "exhausted"}.get(id_)
            await connection.execute(
                "INSERT INTO deliveries (id, event_id, endpoint_id, status, step, tries, postponed, next_attempt_at, ended_at)"
                " VALUES ($1, 'evt_1', 'whe_1', coalesce($2, 'pending'), 3, $3, 2,"
                " CASE WHEN $2::text IS NULL THEN '2031-02-03'::timestamptz END, CASE WHEN $2::text IS NOT NULL THEN now() END)",
                id_,
                ended,
                len(statuses),
            )
            for status in statuses:
                await connection.execute(
                    "INSERT INTO delivery_attempts (delivery_id, at, status, duration_ms, error, answer_sealed)"
                    " VALUES ($1, '2026-11-01', $2, 12, $3, 'sealed')",
                    id_,
                    status,
                    None if status in (200, 204) else "timeout",
                )
        before = await connection.fetch("SELECT delivery_id, status, error FROM delivery_attempts ORDER BY id")

        await migrate(database_url)
        rows = await connection.fetch("SELECT * FROM deliveries")
        assert {row["id"]: row["due_at"] == row["next_attempt_at"] for row in rows if row["status"] == "pending"} == {
            "dlv_new": True,
            "dlv_retried": True,
        }
        assert all((row["due_at"] is None) == (row["status"] != "pending") and row["step"] == 3 for row in rows)
        assert {row["id"]: (row["last_status"], row["last_error"], row["last_duration_ms"]) for row in rows} == {
            "dlv_new": (None, None, None),
            "dlv_retried": (None, "timeout", 12),
            "dlv_done": (200, None, 12),
            "dlv_gone": (410, "timeout", 12),
            "dlv_at_once": (204, None, 12),
        }
        assert {row["id"] for row in rows if row["last_answer_sealed"] != b"sealed"} == {"dlv_new"}
        left = await connection.fetch("SELECT delivery_id, status FROM delivery_attempts ORDER BY id")
        assert [tuple(row) for row in left] == [
            ("dlv_retried", 500),
            ("dlv_retried", None),
            ("dlv_done", 503),
            ("dlv_gone", 410),
        ]

        await downgrade(database_url, "work")
        after = await connection.fetch(
            "SELECT delivery_id, status, error FROM delivery_attempts ORDER BY delivery_id, id"
        )
        assert after == sorted(before, key=lambda row: row["delivery_id"])
        kept = await connection.fetch(
            "SELECT id FROM deliveries WHERE next_attempt_at = '2031-02-03' AND postponed = 0"
        )
        assert {row["id"] for row in kept} == {"dlv_new", "dlv_retried"}
        await migrate(database_url)
    finally:
        await connection.close()


async def test_the_audit_of_before_comes_along_and_goes_back(database_url: str) -> None:
    """In its order, with ids that sort by time among the new ones, each row in the partition of its month."""
    await downgrade(database_url, "erasure")
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("INSERT INTO tenants (id, name) VALUES ('ten_1', 'North')")
        await connection.execute(
            "INSERT INTO api_keys (id, tenant_id, mode, digest, hint, scopes)"
            " VALUES ('key_1', 'ten_1', 'live', 'x', 'abcd', '{}')"
        )
        for month, key, verification in (
            ("2026-05", "key_1", "ver_1"),
            ("2026-11", None, "ver_2"),
            ("2026-11", "key_0", "ver_1"),
        ):
            await connection.execute(
                "INSERT INTO audit_log (at, tenant_id, api_key_id, action, verification_id, request_id)"
                f" VALUES ('{month}-02 03:04:05.678901Z', 'ten_1', $1,"
                " CASE WHEN $1::text IS NULL THEN 'webhook.full' ELSE 'verification.read' END, $2, 'req_1')",
                key,
                verification,
            )
        before = await connection.fetch(
            "SELECT at, tenant_id, api_key_id, action, verification_id, request_id FROM audit_log"
        )
        await migrate(database_url)
        rows = await connection.fetch("SELECT *, tableoid::regclass::text AS place FROM audit_events ORDER BY position")
        assert [row["position"] for row in rows] == [1, 2, 3]
        assert [row["place"] for row in rows] == [
            "audit_events_2026_05",
            "audit_events_2026_11",
            "audit_events_2026_11",
        ]
        assert [(row["actor_kind"], row["actor_id"], row["subject_id"], row["mode"]) for row in rows] == [
            ("key", "key_1", "ver_1", "live"),
            ("worker", None, "ver_2", None),
            ("key", "key_0", "ver_1", None),
        ]
        assert {(row["subject_kind"], row["outcome"], row["count"]) for row in rows} == {("verification", "allowed", 1)}
        assert all(ids.is_id(ids.AUDIT_EVENT, row["id"]) for row in rows) and len({row["id"] for row in rows}) == 3
        uuids = [TypeID.from_string(row["id"]).uuid for row in rows]
        assert all(uuid.version == 7 and uuid.variant == RFC_4122 for uuid in uuids)
        assert [uuid.int >> 80 for uuid in uuids] == [int(row["at"].timestamp() * 1000) for row in rows]

        await downgrade(database_url, "erasure")
        assert before == await connection.fetch(
            "SELECT at, tenant_id, api_key_id, action, verification_id, request_id FROM audit_log ORDER BY id"
        )
        await migrate(database_url)
    finally:
        await connection.close()
