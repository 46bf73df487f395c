"""The list that must not take long: what cannot be is empty at once, and what no index finds is looked for among the newest."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from covergate import ids
from covergate.access.caller import Caller, CallerKind
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.states import Status, WaitingFor
from covergate.verifications import standings
from covergate.verifications.queries import Filters
from covergate.verifications.standings import Standings, count_matching, list_standings
from covergate.verifications.view import JOINED
from tests.support.engine import accept
from tests.support.gateways import CALLER, OTHER_TENANT, TENANT
from tests.support.sql import run_sql

OPERATOR = Caller(None, "test", "opr_test", frozenset({"operations"}), kind=CallerKind.OPERATOR)
NOW = datetime.now(UTC)
ENDED, OPEN = 6000, 3000


def made_id(minutes_ago: int) -> str:
    return f"{ids.first_at(ids.VERIFICATION, NOW - timedelta(minutes=minutes_ago))[:20]}{minutes_ago:010d}"


async def fill(gateway: Gateway) -> None:
    """Copies of one verification: the tenant's, one a minute; the oldest are open and wait for their vendor, three of them for
    a person. The fifth that ended failed.
    """
    id_ = await accept(gateway)
    columns = (
        "mode, vendor, payer_id, deadline, metadata, not_asked, inquiry_sealed, member_digest, birth_digest,"
        " inquiry_digest, digest_key_id"
    )
    work = "vendor, mode, payer, due_at, deadline, status, next_check_at, route, not_asked, attempt_id, state"
    made = [made_id(number) for number in range(1, ENDED + OPEN + 1)]
    await run_sql(
        gateway,
        f"""
INSERT INTO verifications (id, tenant_id, status, outcome, failure_code, attempt_id, completed_at, created_at, {columns})
SELECT made.id, '{TENANT}',
  CASE WHEN n <= {ENDED} THEN CASE WHEN n = 5 THEN 'failed' ELSE 'completed' END END,
  CASE WHEN n <= {ENDED} AND n <> 5 THEN 'eligible' END, CASE WHEN n = 5 THEN 'member_id_invalid' END,
  CASE WHEN n <= {ENDED} THEN 'att_x' END, CASE WHEN n <= {ENDED} THEN now() END,
  CAST(:now AS timestamptz) - n * interval '1 minute', {columns}
FROM verifications v, unnest(CAST(:ids AS text[])) WITH ORDINALITY AS made(id, n) WHERE v.id = :id""",
        ids=made,
        id=id_,
        now=NOW,
    )
    await run_sql(
        gateway,
        f"""
INSERT INTO work (verification_id, waiting_for, waiting_since, {work})
SELECT made.id, CASE WHEN n > {ENDED + OPEN - 3} THEN 'operator' ELSE 'vendor' END, now(),
  {work.replace("status", "'in_progress'")}
FROM work w, unnest(CAST(:ids AS text[])) WITH ORDINALITY AS made(id, n) WHERE w.verification_id = :id AND n > {ENDED}""",
        ids=made,
        id=id_,
    )
    await run_sql(gateway, "DELETE FROM verifications WHERE id = :id", id=id_)
    await run_sql(gateway, "ANALYZE verifications, work")


@pytest.fixture
async def one(gateway: Gateway) -> AsyncIterator[Gateway]:
    """With a single connection, whose reads are counted."""
    async with gateway.database.apart(pool_size=1, application_name="standings") as database:
        yield replace(gateway, database=database)


async def rows_read(gateway: Gateway) -> int:
    await run_sql(gateway, "SELECT pg_stat_force_next_flush()")
    [row] = await run_sql(
        gateway,
        "SELECT sum(t.seq_tup_read + i.read)::int AS read FROM pg_stat_user_tables t JOIN ("
        " SELECT relid, sum(idx_tup_read) AS read FROM pg_stat_user_indexes GROUP BY relid) AS i USING (relid)"
        " WHERE relname IN ('verifications', 'work')",
    )
    return int(row.read)


CANNOT_BE = [
    Filters(status=[Status.FAILED], waiting_for=WaitingFor.VENDOR),
    Filters(status=[Status.COMPLETED, Status.CANCELED], waiting_for=WaitingFor.OPERATOR),
    Filters(status=[Status.IN_PROGRESS], waiting_for=WaitingFor.WORKER),
    Filters(status=[Status.QUEUED], completed_after=NOW),
    Filters(status=[Status.FAILED], outcome="eligible"),
    Filters(status=[Status.COMPLETED], failure_code="member_id_invalid"),
    Filters(outcome="eligible", failure_code="member_id_invalid"),
    Filters(outcome="eligible", waiting_for=WaitingFor.VENDOR),
    Filters(waiting_for=WaitingFor.HOLD, completed_after=NOW),
    Filters(created_after=NOW, created_before=NOW - timedelta(hours=1)),
]


async def test_what_cannot_be_is_empty_without_a_look(one: Gateway) -> None:
    await fill(one)
    for filters in CANNOT_BE:
        before = await rows_read(one)
        assert await list_standings(one, OPERATOR, filters, None, 50) == Standings([], None)
        assert await count_matching(one, OPERATOR, filters) == 0
        assert await rows_read(one) - before < 20, filters


async def test_what_waits_for_a_person_is_found_among_many_that_wait(one: Gateway) -> None:
    await fill(one)
    before = await rows_read(one)
    found = await list_standings(one, OPERATOR, Filters(waiting_for=WaitingFor.OPERATOR), None, 50)
    assert len(found.data) == 3 and found.looked_at is None
    assert await rows_read(one) - before < 300


@pytest.mark.parametrize("caller", [OPERATOR, CALLER], ids=["operator", "tenant"])
async def test_what_takes_too_long_is_looked_for_among_the_newest(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caller: Caller
) -> None:
    await fill(gateway)
    failed = Filters(status=[Status.FAILED])
    whole = await list_standings(gateway, caller, failed, None, 50)
    assert [row["id"] for row in whole.data] == [made_id(5)] and whole.looked_at is None
    slowly(monkeypatch)
    found = await list_standings(gateway, caller, failed, None, 50)
    assert found == replace(whole, next_after=made_id(100), looked_at=100)
    # The next look goes on from there.
    older = await list_standings(gateway, caller, failed, found.next_after, 50)
    assert older == Standings([], made_id(200), 100)
    # More of them than a page shows: its own last one.
    many = await list_standings(gateway, caller, Filters(status=[Status.COMPLETED]), None, 50)
    assert [row["id"] for row in many.data][-1] == many.next_after == made_id(51) and many.looked_at is None
    # At the end nothing is left to look at.
    end = await list_standings(gateway, caller, failed, made_id(ENDED + OPEN - 10), 50)
    assert end == Standings([], None)
    # The time bounds what is looked at.
    early = replace(failed, created_before=NOW - timedelta(minutes=30))
    bounded = await list_standings(gateway, caller, early, None, 50)
    assert bounded.next_after is not None and made_id(125) < bounded.next_after <= made_id(115)
    late = replace(failed, created_after=NOW - timedelta(minutes=30))
    assert (await list_standings(gateway, caller, late, None, 50)).next_after is None


async def test_of_what_must_be_open_the_newest_open_ones_are_looked_at(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(gateway)
    slowly(monkeypatch)
    waits = Filters(waiting_for=WaitingFor.VENDOR)
    found = await list_standings(gateway, OPERATOR, waits, None, 50)
    assert [row["id"] for row in found.data] == [made_id(ENDED + 1 + number) for number in range(50)]
    assert found.looked_at is None
    rare = await list_standings(gateway, OPERATOR, replace(waits, vendor="vsee"), None, 50)
    assert rare == Standings([], made_id(ENDED + 100), 100)
    # Those of another tenant are none of them.
    other = replace(OPERATOR, within_tenant=OTHER_TENANT)
    assert await list_standings(gateway, other, waits, None, 50) == Standings([], None)


async def test_clocks_that_are_apart_hide_nothing(gateway: Gateway) -> None:
    await fill(gateway)
    moved = "UPDATE verifications SET created_at = created_at + :apart WHERE id = :id"
    for minutes in (5, -5):
        await run_sql(gateway, moved, id=made_id(1000), apart=timedelta(minutes=minutes))
        around = NOW - timedelta(minutes=1000 - minutes)
        since, until = around - timedelta(minutes=2), around + timedelta(minutes=2)
        found = await list_standings(gateway, OPERATOR, Filters(created_after=since, created_before=until), None, 50)
        assert made_id(1000) in [row["id"] for row in found.data], minutes
        await run_sql(gateway, moved, id=made_id(1000), apart=timedelta(minutes=-minutes))


def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at all of them takes longer than it may; at the newest hundred it does not."""
    canceled = Query("DO $$ BEGIN RAISE EXCEPTION 'canceled' USING ERRCODE = 'query_canceled'; END $$")
    monkeypatch.setattr(standings, "_LISTED_BRIEFLY", canceled)
    monkeypatch.setattr(standings, "MOST_LOOKED_AT", 100)


async def test_a_look_at_all_of_them_is_given_up(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = await accept(gateway)
    monkeypatch.setattr(standings, "JOINED", f"{JOINED} CROSS JOIN pg_sleep(5)")
    begun = time.monotonic()
    found = await list_standings(gateway, OPERATOR, Filters(), None, 50)
    assert [row["id"] for row in found.data] == [id_]
    assert await count_matching(gateway, OPERATOR, Filters()) is None
    assert time.monotonic() - begun < 4


def test_ids_bound_the_time_at_which_they_were_made() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    made = ids.new(ids.VERIFICATION)
    after = datetime.now(UTC) + timedelta(milliseconds=1)
    assert ids.first_at(ids.VERIFICATION, before) < made < ids.first_at(ids.VERIFICATION, after)
    assert ids.is_id(ids.VERIFICATION, ids.first_at(ids.VERIFICATION, datetime(1900, 1, 1, tzinfo=UTC)))
    assert ids.is_id(ids.VERIFICATION, ids.first_at(ids.VERIFICATION, datetime(9001, 1, 1, tzinfo=UTC)))
