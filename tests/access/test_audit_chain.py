"""The chain: whatever is changed in a closed batch is found, and nothing that comes late breaks it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import asyncpg
import orjson
import pytest
from sqlalchemy import make_url
from structlog.testing import capture_logs

from covergate.access import audit, audit_chain
from covergate.access.audit import Actor
from covergate.access.audit_chain import Chain, Inspection, exported, noted, verify_chain, verify_export
from covergate.access.caller import Caller, Origin
from covergate.db.database import asyncpg_dsn
from covergate.db.sealing import KeyRing, Sealer
from covergate.gateway import Gateway
from covergate.states import ActorKind, AuditOutcome, SubjectKind
from tests.support.gateways import CALLER
from tests.support.sql import run_sql

BY = replace(CALLER, origin=Origin("req_1", "192.0.2.7", 'staff "4711"'))
NEW_KEY = "new:" + base64.b64encode(bytes(range(32))).decode()


@asynccontextmanager
async def connected(gateway: Gateway) -> AsyncIterator[asyncpg.Connection]:
    """A connection of its own, e.g. of somebody who has the database."""
    raw = await asyncpg.connect(asyncpg_dsn(gateway.database.url))
    try:
        yield raw
    finally:
        await raw.close()


async def write(gateway: Gateway, *subjects: str, by: Caller | Actor = BY) -> None:
    async with gateway.connection() as db:
        await audit.record(db, by, "verification.read", SubjectKind.VERIFICATION, subjects)


async def closed(gateway: Gateway, *batches: tuple[str, ...]) -> Chain:
    chain = Chain(gateway)
    for subjects in batches:
        await write(gateway, *subjects)
        assert await chain.close() == 1
    return chain


async def tamper(gateway: Gateway, *statements: str) -> None:
    """As a superuser who knows how to switch the triggers off."""
    async with connected(gateway) as raw:
        await raw.execute("SET session_replication_role = replica")
        for statement in statements:
            await raw.execute(statement)


async def faults(gateway: Gateway, expected: tuple[int, str] | None = None) -> list[str]:
    return (await verify_chain(gateway, expected)).faults


async def test_a_whole_chain_is_sound(gateway: Gateway) -> None:
    await closed(gateway, ("ver_1", "ver_2"), ("ver_3",), ("ver_4", "ver_5", "ver_6"))
    await write(gateway, "ver_7")
    verdict = await verify_chain(gateway)
    assert verdict.faults == []
    assert (verdict.batches, verdict.rows, verdict.not_closed, verdict.expired) == (3, 6, 1, 0)
    assert verdict.head is not None and await faults(gateway, verdict.head) == []


async def test_nothing_new_makes_no_batch(gateway: Gateway) -> None:
    chain = await closed(gateway, ("ver_1",))
    before = await run_sql(gateway, "SELECT CAST(pg_current_xact_id() AS text) AS number")
    assert await chain.close() == 0 and await Chain(gateway).close() == 0
    after = await run_sql(gateway, "SELECT CAST(pg_current_xact_id() AS text) AS number")
    assert int(after[0].number) == int(before[0].number) + 1  # not even a transaction's number was used
    assert (await verify_chain(gateway)).batches == 1


async def test_a_crowd_of_rows_becomes_several_batches(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_chain, "MOST_IN_BATCH", 3)
    await write(gateway, *(f"ver_{number}" for number in range(8)))
    assert await Chain(gateway).close() == 3
    assert (await verify_chain(gateway)).rows == 8


TAMPERED = {
    "altered": ("UPDATE audit_events SET actor_id = 'key_other' WHERE subject_id = 'ver_3'", "altered or moved"),
    "altered by a millisecond": (
        "UPDATE audit_events SET at = at - interval '1 ms' WHERE subject_id = 'ver_3'",
        "altered",
    ),
    "null instead of nothing": ("UPDATE audit_events SET address = '' WHERE subject_id = 'ver_8'", "altered"),
    "removed": ("DELETE FROM audit_events WHERE subject_id = 'ver_3'", "has 2 rows and was closed with 3"),
    "swapped": (
        """UPDATE audit_events a SET position = b.position FROM audit_events b
           WHERE (a.subject_id, b.subject_id) IN (('ver_3', 'ver_4'), ('ver_4', 'ver_3'))""",
        "altered or moved",
    ),
    "moved into another batch": (
        "UPDATE audit_events SET position = (SELECT max(position) + 1 FROM audit_events) WHERE subject_id = 'ver_3'",
        "has 2 rows",
    ),
    "slipped in": (
        """INSERT INTO audit_events (position, id, at, action, actor_kind, outcome)
           SELECT position, 'aud_x', '2020-01-01', 'x', 'key', 'allowed' FROM audit_events WHERE subject_id = 'ver_3'""",
        "has 4 rows and was closed with 3",
    ),
    "slipped in before all": (
        """ALTER TABLE audit_events DROP CONSTRAINT ck_audit_events_position;
           INSERT INTO audit_events (position, id, action, actor_kind, outcome) VALUES (-1, 'aud_x', 'x', 'key', 'allowed')""",
        "batch 1 has 3 rows and was closed with 2",
    ),
    "a batch's count": ("UPDATE audit_batches SET count = 2 WHERE number = 2", "batch 2 was altered"),
    "a batch's bounds": (
        "UPDATE audit_batches SET last_position = last_position - 1 WHERE number = 2",
        "batch 2 was altered",
    ),
    "a batch's time": ("UPDATE audit_batches SET first_at = '2001-01-01' WHERE number = 2", "batch 2 was altered"),
    "a batch's number": ("UPDATE audit_batches SET number = 9 WHERE number = 3", "batches are missing"),
    "a batch in the middle removed": ("DELETE FROM audit_batches WHERE number = 2", "batches are missing"),
    "the first batch removed": ("DELETE FROM audit_batches WHERE number = 1", "batches are missing"),
    "a batch's MAC": ("UPDATE audit_batches SET mac = digest WHERE number = 2", "was not signed under key test"),
    "all of the chain": ("DELETE FROM audit_batches", "batch 3 was noted and is missing"),
    "the end cut off": (
        "DELETE FROM audit_batches WHERE number = 3; DELETE FROM audit_events WHERE subject_id IN ('ver_6', 'ver_7')",
        "batch 3 was noted and is missing",
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
async def test_what_was_changed_is_found(gateway: Gateway, how: str) -> None:
    nowhere = replace(CALLER, origin=Origin())
    await closed(gateway, ("ver_1", "ver_2"), ("ver_3", "ver_4", "ver_5"))
    await write(gateway, "ver_6", "ver_7")
    await write(gateway, "ver_8", by=nowhere)
    assert await Chain(gateway).close() == 1
    before = await verify_chain(gateway)
    assert before.faults == []
    statements, fault = TAMPERED[how]
    await tamper(gateway, *statements.split(";"))
    found = await faults(gateway, before.head)
    assert any(fault in one for one in found), found


async def test_who_has_the_database_alone_cannot_make_the_chain_anew(gateway: Gateway) -> None:
    """Every digest is made anew, as it should be; the MACs cannot be, and another key is not in the ring."""
    await closed(gateway, ("ver_1",), ("ver_2",))
    await tamper(
        gateway,
        "UPDATE audit_events SET actor_id = 'key_other' WHERE subject_id = 'ver_1'",
        "DELETE FROM audit_batches",
    )
    stranger = replace(gateway, database=replace(gateway.database, sealer=Sealer(KeyRing.parse(NEW_KEY))))
    assert await Chain(stranger).close() == 1
    assert await faults(gateway) == ["the last 1 batches are signed under no key of the ring"]
    await tamper(gateway, "UPDATE audit_batches SET key_id = 'test'")
    assert await faults(gateway) == [
        "batch 1 was not signed under key test",
        "the last 1 batches are signed under no key of the ring",
    ]


async def test_a_retired_key_leaves_the_chain_provable(gateway: Gateway) -> None:
    """A later batch under a key that is still there vouches for those before it."""
    await closed(gateway, ("ver_1",), ("ver_2",))
    rotated = replace(gateway, database=replace(gateway.database, sealer=Sealer(KeyRing.parse(NEW_KEY))))
    assert await faults(rotated) == ["the last 2 batches are signed under no key of the ring"]
    await write(gateway, "ver_3")
    assert await Chain(rotated).close() == 1
    assert await faults(rotated) == []
    await tamper(gateway, "UPDATE audit_batches SET count = 2 WHERE number = 1")
    assert len(await faults(rotated)) == 2


async def test_a_late_commit_waits_for_its_batch(gateway: Gateway) -> None:
    """Of a transaction that is open everything after its position stays open too, and then is closed in order."""
    chain = Chain(gateway)
    await write(gateway, "ver_0")
    async with connected(gateway) as late:
        transaction = late.transaction()
        await transaction.start()
        await late.execute(
            "INSERT INTO audit_events (id, action, actor_kind, outcome) VALUES ('aud_late', 'x', 'key', 'allowed')"
        )
        # Its number is the highest that there is: no later one is over.
        assert await chain.close() == 0 and await Chain(gateway).close() == 0 and await chain.close() == 0
        await write(gateway, "ver_1")
        assert await chain.close() == 0 and await Chain(gateway).close() == 0 and await chain.close() == 0
        await transaction.commit()
    assert await chain.close() + await chain.close() > 0
    await write(gateway, "ver_2")
    assert await chain.close() == 1
    verdict = await verify_chain(gateway)
    assert (verdict.faults, verdict.rows) == ([], 4)


async def test_a_transaction_that_began_later_holds_nothing_back(gateway: Gateway) -> None:
    chain = Chain(gateway)
    async with connected(gateway) as early, connected(gateway) as later:
        for raw in (early, later):
            await raw.execute("BEGIN")
        await early.execute("SELECT pg_current_xact_id()")
        await write(gateway, "ver_1")
        assert await chain.close() == 0
        await later.execute("SELECT pg_current_xact_id()")
        await early.execute("ROLLBACK")
        assert await chain.close() == 1
    assert await faults(gateway) == []


async def test_positions_that_were_rolled_back_are_no_gap(gateway: Gateway) -> None:
    chain = await closed(gateway, ("ver_1",))
    async with connected(gateway) as raw:
        await raw.execute("BEGIN")
        await raw.execute(
            "INSERT INTO audit_events (id, action, actor_kind, outcome) VALUES ('aud_x', 'x', 'key', 'allowed')"
        )
        await raw.execute("ROLLBACK")
    assert await chain.close() == 0
    await write(gateway, "ver_2")
    assert await chain.close() == 1
    assert await faults(gateway) == []


async def test_who_draws_a_position_has_a_transactions_number_before(gateway: Gateway) -> None:
    """Else a batch could be closed over a row that is still to come: the default's argument is evaluated first."""
    [default] = await run_sql(
        gateway,
        "SELECT pg_get_expr(adbin, adrelid) AS text FROM pg_attrdef WHERE adrelid = CAST('audit_events' AS regclass)"
        " AND pg_get_expr(adbin, adrelid) LIKE 'nextval%'",
    )
    assert " ".join(default.text.split()).startswith(
        "nextval( CASE WHEN (pg_current_xact_id() IS NOT NULL) THEN 'audit_events_position_seq'"
    )


async def test_a_chain_that_is_held_back_for_long_is_warned_of(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_chain, "HELD_BACK_AFTER", timedelta(0))
    chain = Chain(gateway)
    async with connected(gateway) as late:
        await late.execute("BEGIN")
        await late.execute("SELECT pg_current_xact_id()")
        await write(gateway, "ver_1")
        with capture_logs() as logs:
            await chain.close()
            await chain.close()
    assert [entry["event"] for entry in logs] == ["audit_chain_waits"]


async def test_several_workers_make_one_chain(gateway: Gateway) -> None:
    chains = [Chain(gateway) for _ in range(3)]
    for number in range(9):
        await write(gateway, f"ver_{number}")
        assert sum([await chain.close() for chain in chains]) == 1
    verdict = await verify_chain(gateway)
    assert (verdict.faults, verdict.batches, verdict.rows) == ([], 9, 9)


@pytest.mark.parametrize("statement", ["UPDATE {} SET count = 2", "DELETE FROM {}", "TRUNCATE {}"])
@pytest.mark.parametrize("table", ["audit_events", "audit_batches", "audit_events_rest", "a month's partition"])
async def test_nobody_changes_a_row(gateway: Gateway, table: str, statement: str) -> None:
    """Not even the owner, nor through a partition, unless the triggers are taken away."""
    await closed(gateway, ("ver_1",))
    async with connected(gateway) as raw:
        if table == "audit_events_rest":
            await raw.execute(
                "INSERT INTO audit_events (id, at, action, actor_kind, outcome) VALUES ('a', '2001-01-01', 'x', 'key', 'allowed')"
            )
        elif table == "a month's partition":
            table = await raw.fetchval("SELECT 'audit_events_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="are only added"):
            await raw.execute(statement.format(table))


async def test_a_role_with_rights_to_add_and_read_does_all_of_the_work(gateway: Gateway) -> None:
    """What the gateway's processes need is no more than that; changing, removing and dropping are refused to them."""
    async with connected(gateway) as owner:
        role = await owner.fetchval("SELECT 'auditor_' || md5(random()::text)")
        await owner.execute(f"CREATE ROLE {role} LOGIN")
        try:
            await owner.execute(f"GRANT SELECT, INSERT ON audit_events, audit_batches TO {role}")
            await owner.execute(f"GRANT SELECT, USAGE ON SEQUENCE audit_events_position_seq TO {role}")
            url = make_url(gateway.database.url).set(username=role).render_as_string(hide_password=False)
            limited = replace(gateway, database=replace(gateway.database, url=url))
            async with connected(limited) as raw:
                await raw.execute(
                    "INSERT INTO audit_events (id, action, actor_kind, outcome) VALUES ('aud_x', 'x', 'key', 'allowed')"
                )
                for statement in (
                    "UPDATE audit_events SET action = 'y'",
                    "DELETE FROM audit_events",
                    "TRUNCATE audit_events",
                    "DELETE FROM audit_batches",
                    "UPDATE audit_batches SET count = 0",
                    "DROP TABLE audit_events_rest",
                    "ALTER TABLE audit_events DISABLE TRIGGER ALL",
                    "SET session_replication_role = replica",
                ):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=r"permission denied|must be owner"):
                        await raw.execute(statement)
        finally:
            await owner.execute(f"DROP OWNED BY {role}")
            await owner.execute(f"DROP ROLE {role}")


async def test_a_look_may_go_on_where_the_one_before_ended(gateway: Gateway) -> None:
    await closed(gateway, ("ver_1",), ("ver_2",), ("ver_3", "ver_4"))
    later = await verify_chain(gateway, after=2)
    assert (later.faults, later.batches, later.rows, later.head) == ([], 2, 2, (await verify_chain(gateway)).head)
    assert (await verify_chain(gateway, after=3)).rows == 0
    await tamper(gateway, "DELETE FROM audit_events WHERE subject_id IN ('ver_1', 'ver_3')")
    assert (await verify_chain(gateway, after=2)).faults == ["batch 3 has 1 rows and was closed with 2"]
    await tamper(gateway, "UPDATE audit_batches SET mac = digest WHERE number = 2")
    assert "was not signed" in (await verify_chain(gateway, after=2)).faults[0]


async def test_months_past_their_six_years_are_no_fault(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    await closed(gateway, ("ver_1", "ver_2"))
    async with connected(gateway) as raw:
        name = await raw.fetchval("SELECT 'audit_events_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')")
        await raw.execute(f"DROP TABLE {name}")
    assert await faults(gateway) == ["batch 1 has 0 rows and was closed with 2"]
    monkeypatch.setattr(audit_chain, "AUDIT_MONTHS", -1)
    verdict = await verify_chain(gateway)
    assert (verdict.faults, verdict.expired) == ([], 1)


# --- exports -----------------------------------------------------------------------------------------------------------


async def lines(gateway: Gateway, after: int = 0) -> list[bytes]:
    return [line.encode() async for line in exported(gateway, after)]


def offline(found: list[bytes], gateway: Gateway, expected: tuple[int, str] | None = None) -> Inspection:
    return verify_export(found, gateway.sealer.ring, expected)


async def test_an_export_is_proved_without_the_database(gateway: Gateway) -> None:
    await closed(gateway, ("ver_1", "ver_2"), ("ver_3",))
    await write(gateway, "ver_4")
    found = await lines(gateway)
    rows = [orjson.loads(line) for line in found]
    assert [row.get("subject_id", row.get("batch")) for row in rows] == ["ver_1", "ver_2", 1, "ver_3", 2]
    assert {
        name: rows[0][name] for name in ("action", "actor_kind", "actor_id", "acting_user", "address", "count")
    } == {
        "action": "verification.read",
        "actor_kind": "key",
        "actor_id": "key_test",
        "acting_user": 'staff "4711"',
        "address": "192.0.2.7",
        "count": 1,
    }
    assert hashlib.sha256(b"".join(found[:2])).hexdigest() == rows[2]["rows_digest"]  # as `sha256sum` would have it
    verdict = offline(found, gateway)
    assert (verdict.faults, verdict.batches, verdict.rows) == ([], 2, 3)
    assert verdict.head == (await verify_chain(gateway)).head
    assert verify_export(found, None).faults == []


async def test_a_later_export_goes_on_where_the_one_before_ended(gateway: Gateway) -> None:
    await closed(gateway, ("ver_1",), ("ver_2",), ("ver_3",))
    later = await lines(gateway, after=1)
    assert offline(later, gateway).faults == []
    assert offline((await lines(gateway))[:2] + later, gateway).faults == []
    assert "batches are missing" in offline((await lines(gateway))[:2] + later[2:], gateway).faults[0]


async def test_a_change_in_an_export_is_found(gateway: Gateway) -> None:
    await closed(gateway, ("ver_1", "ver_2"), ("ver_3",))
    found = await lines(gateway)
    head = offline(found, gateway).head
    changed = {
        "altered": [found[0].replace(b"ver_1", b"ver_9"), *found[1:]],
        "removed": [*found[:1], *found[2:]],
        "reordered": [found[1], found[0], *found[2:]],
        "slipped in": [found[0], found[0], *found[1:]],
        "a batch": [*found[:2], found[2].replace(b'"count":2', b'"count":3'), *found[3:]],
        "nonsense": [*found[:2], b"x\n", *found[2:]],
        "the end": found[:3],
    }
    assert {how: bool(offline(lines, gateway, head).faults) for how, lines in changed.items()} == dict.fromkeys(
        changed, True
    )


@pytest.mark.parametrize("text", ["", "1", "x:00", "1:00", "1:" + "g" * 64])
def test_a_noted_batch_must_be_one(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # int's and bytes' own words
        noted(text)


async def test_an_actor_of_each_kind_and_every_outcome_can_be_written(gateway: Gateway) -> None:
    async with gateway.connection() as db:
        for kind in ActorKind:
            for outcome in AuditOutcome:
                await audit.record(db, Actor(kind, None), "x", outcome=outcome, count=3)
    assert len(await run_sql(gateway, "SELECT id FROM audit_events")) == len(ActorKind) * len(AuditOutcome)
