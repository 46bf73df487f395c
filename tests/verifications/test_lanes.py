"""Claims of verifications: the longest due first, one claimer each, for as long as the lease is renewed."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy import text

from covergate import ids
from covergate.access.caller import Caller
from covergate.access.vendor_accounts import Owner, put_account
from covergate.db.sql import Query
from covergate.eligibility.failure import FailureCode
from covergate.verifications import lanes, lifecycle, store
from covergate.verifications.commit import apply
from covergate.verifications.create import Acceptance
from covergate.verifications.lanes import Lanes, claim, release
from covergate.verifications.model import Successor
from covergate.verifications.request import CreateVerification
from covergate.verifications.store import Claimed
from tests.support.engine import Engine
from tests.support.gateways import CALLER, OTHER_TENANT, TENANT
from tests.support.requests import REQUEST
from tests.support.waiting import eventually

PLACES = {"integrex": 10}
WIDE = {"integrex": 100}
OTHER = Caller(OTHER_TENANT, "test", "key_other", frozenset())


async def claimed(engine: Engine, number: int, places: dict[str, int] = WIDE) -> list[Claimed]:
    async with engine.gateway.connection() as db:
        return await claim(db, engine.gateway.sealer, {"integrex": number}, places)


async def test_the_longest_due_come_first_and_only_once(engine: Engine) -> None:
    ids = [await engine.create() for _ in range(4)]
    first, second = await asyncio.gather(claimed(engine, 2), claimed(engine, 2))
    assert sorted(one.key for one in (*first, *second)) == sorted(ids)
    assert await claimed(engine, 2) == []


async def test_what_is_not_due_is_not_claimed(engine: Engine) -> None:
    await engine.create()
    await engine.step()
    assert await claimed(engine, 2) == []


async def test_what_somebody_has_locked_is_left_out_and_not_waited_for(engine: Engine) -> None:
    """A dozen rows that a paused process has locked would keep all vendors waiting."""
    locked, other = await engine.create(), await engine.create()
    async with engine.gateway.transaction() as db:
        await db.execute(text("SELECT FROM work WHERE verification_id = :id FOR UPDATE"), {"id": locked})
        assert [one.key for one in await claimed(engine, 2)] == [other]
    assert [one.key for one in await claimed(engine, 2)] == [locked]


async def test_a_lane_has_so_many_places_in_all(engine: Engine) -> None:
    for number in range(12):
        await engine.create(payer={"id": f"P{number}"})
    assert [len(await claimed(engine, 8, PLACES)) for _ in range(3)] == [8, 2, 0]


async def test_a_payer_has_what_nobody_else_wants_but_the_reserve(engine: Engine) -> None:
    """Of ten places two are a share, and three are for payers that do not have theirs."""
    for _ in range(9):
        await engine.create()
    assert [len(await claimed(engine, 2, PLACES)) for _ in range(5)] == [2, 2, 2, 1, 0]
    other = await engine.create(payer={"id": "P1"})
    assert [one.key for one in await claimed(engine, 2, PLACES)] == [other]
    assert await claimed(engine, 2, PLACES) == []


async def test_who_has_no_share_yet_comes_first(engine: Engine) -> None:
    for _ in range(4):
        await engine.create()
    await claimed(engine, 2, PLACES)
    other = await engine.create(payer={"id": "P1"})
    assert other in [one.key for one in await claimed(engine, 1, PLACES)]
    assert len(await claimed(engine, 10, PLACES)) == 2


async def test_payers_that_are_only_named_are_told_apart(engine: Engine) -> None:
    for _ in range(8):
        await engine.create(payer={"name": "Acme Health"})
    for _ in range(2):
        await engine.create(payer={"name": "Blue Plan"})
    first = await claimed(engine, 2, PLACES)
    second = await claimed(engine, 2, PLACES)
    assert len({one.payer for one in first}) == 1
    assert {one.payer for one in first}.isdisjoint(one.payer for one in second)
    assert all("acme" not in one.payer.casefold() for one in first)


async def accept(engine: Engine, caller: Caller, payer: str, vendor: str = "integrex") -> str:
    request = CreateVerification.model_validate({**REQUEST, "vendor": vendor, "payer": {"id": payer}})
    return (await Acceptance(engine.gateway).create(caller, request, None)).id


async def own_account(engine: Engine, tenant: str, vendor: str = "integrex") -> str:
    given = {"client_id": tenant, "client_secret": "s"}
    shown, _ = await put_account(engine.gateway, Owner(tenant, "test", vendor), None, given)
    return str(shown["id"])


async def test_a_payer_that_hangs_on_one_account_has_its_share_on_the_others(engine: Engine) -> None:
    await own_account(engine, TENANT)
    for _ in range(9):
        await accept(engine, CALLER, "P1")
    assert [len(await claimed(engine, 2, PLACES)) for _ in range(5)] == [2, 2, 2, 1, 0]
    other = await accept(engine, OTHER, "P1")
    assert [one.key for one in await claimed(engine, 2, PLACES)] == [other]


async def test_an_account_on_which_everything_hangs_leaves_the_reserve(engine: Engine) -> None:
    """Of ten places four are an account's share, whatever payers it asks, and three are for others."""
    await own_account(engine, TENANT)
    for number in range(12):
        await accept(engine, CALLER, f"P{number}")
    assert [len(await claimed(engine, 2, PLACES)) for _ in range(5)] == [2, 2, 2, 1, 0]
    for payer in ("P1", "P99"):
        other = await accept(engine, OTHER, payer)
        assert [one.key for one in await claimed(engine, 2, PLACES)] == [other]


async def test_a_payer_that_hangs_leaves_the_others_of_its_account_their_share(engine: Engine) -> None:
    await own_account(engine, TENANT)
    for _ in range(9):
        await accept(engine, CALLER, "P1")
    for _ in range(4):
        await claimed(engine, 2, PLACES)
    other = await accept(engine, CALLER, "P2")
    assert [one.key for one in await claimed(engine, 2, PLACES)] == [other]


@pytest.mark.parametrize("whose", ["own", "shared"])
async def test_the_share_follows_the_account_of_the_next_attempt(engine: Engine, whose: str) -> None:
    first = await own_account(engine, TENANT)
    id_ = await accept(engine, CALLER, "P1")
    second = await own_account(engine, TENANT, "sohar") if whose == "own" else ""
    [row] = await engine.rows("SELECT payer FROM work")
    assert row.payer == f"{first} P1"
    async with engine.gateway.transaction() as db:
        v = (await store.lock(db, engine.gateway.sealer, [id_]))[id_]
        successor = Successor(ids.new(ids.ATTEMPT), "sohar", [], second)
        why = FailureCode.VENDOR_UNAVAILABLE
        await apply(db, engine.gateway.sealer, [lifecycle.next_attempt(v, successor, why, timedelta(0), "for a test")])
    [row] = await engine.rows("SELECT vendor, account, payer FROM work")
    assert (row.vendor, row.account, row.payer) == ("sohar", second, f"{second} P1".strip())


_COPIES = """
INSERT INTO work (verification_id, vendor, mode, payer, due_at, next_check_at, deadline, status, route, not_asked, attempt_id,
  state)
SELECT verification_id || n, vendor, mode, payer, due_at, next_check_at, deadline, status, route, not_asked, attempt_id || n,
  state FROM work, generate_series(1, 3000) n"""


async def passed_over(engine: Engine, number: int) -> float:
    """How many rows of `work` the claim of so many reads and leaves. It is made."""
    values = {"lanes": ["integrex"], "rooms": [number], "places": [PLACES["integrex"]]}
    explain = Query(f"EXPLAIN (ANALYZE, FORMAT JSON) {lanes._CLAIM.sql}")
    explain.names = lanes._CLAIM.names
    async with engine.gateway.connection() as db:
        [document] = await explain.scalar(db, values)
    plans, left = [document["Plan"]], 0.0
    while plans:
        plan = plans.pop()
        plans += plan.get("Plans", [])
        if plan.get("Relation Name") == "work":
            left += (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return left - number


async def test_the_due_work_of_a_full_payer_is_passed_without_reading_it(engine: Engine) -> None:
    await engine.create()
    async with engine.gateway.transaction() as db:
        await db.execute(text("SET LOCAL session_replication_role = replica"))  # copies without their verifications
        await db.execute(text(_COPIES))
    await claimed(engine, 6, PLACES)
    other = await engine.create(payer={"id": "P1"})
    await engine.run_sql("ANALYZE work")
    assert await passed_over(engine, 1) < 300
    assert await engine.work.seconds_to(other) > 0


async def test_the_due_work_of_a_full_account_is_passed_without_reading_it(engine: Engine) -> None:
    account = await own_account(engine, TENANT)
    await accept(engine, CALLER, "P0")
    async with engine.gateway.transaction() as db:
        await db.execute(text("SET LOCAL session_replication_role = replica"))
        await db.execute(text(_COPIES))
        of_many = {"account": account}
        await db.execute(
            text("UPDATE work SET account = :account, payer = :account || ' P' || right(verification_id, 2)"), of_many
        )
    async with engine.gateway.connection() as db:
        await claim(db, engine.gateway.sealer, {"integrex": 6}, PLACES)
    other = await accept(engine, OTHER, "P1")
    await engine.run_sql("ANALYZE work")
    assert await passed_over(engine, 1) < 700
    assert await engine.work.seconds_to(other) > 0


async def test_a_lease_is_renewed_and_given_back(engine: Engine) -> None:
    id_ = await engine.create()
    [one] = await claimed(engine, 1)
    await engine.run_sql("UPDATE work SET due_at = clock_timestamp() + interval '1 s'")
    all_lanes = Lanes(engine.gateway, PLACES)
    await all_lanes.renew([one])
    assert 29 < await engine.work.seconds_to(id_) <= 30
    async with engine.gateway.connection() as db:
        await release(db, one)
    [again] = await claimed(engine, 1)
    assert (again.key, again.step) == (id_, one.step + 1)


async def test_a_lease_that_another_took_over_is_not_renewed(engine: Engine) -> None:
    id_ = await engine.create()
    [stale] = await claimed(engine, 1)
    await engine.end_leases()
    await claimed(engine, 1)
    await engine.run_sql("UPDATE work SET due_at = clock_timestamp() + interval '1 s'")
    await Lanes(engine.gateway, PLACES).renew([stale])
    assert await engine.work.seconds_to(id_) <= 1


async def test_the_last_places_of_one_lane_are_given_away_while_another_is_busy(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine others of this lane hang; the other lane is looked at all the time."""
    monkeypatch.setattr("covergate.verifications.lanes.LOOK_SECONDS", 0.2)
    for number in range(11):
        await engine.create(payer={"id": f"P{number}"})
    all_lanes = Lanes(engine.gateway, {**PLACES, "sohar": 10})
    hanging = [*await all_lanes.claim([]), *await claimed(engine, 7)]

    async def found() -> bool:
        return bool(await all_lanes.claim(hanging))

    await eventually(found, 2)


async def test_a_worker_that_is_paused_while_it_claims_stops_no_other(engine: Engine) -> None:
    """PostgreSQL ends its session before the others give up waiting."""
    await engine.create()
    came: list[Claimed] = []
    with contextlib.suppress(asyncpg.InterfaceError):
        async with engine.gateway.transaction() as paused:
            await lanes._TURN.run(paused)
            came += await Lanes(engine.gateway, PLACES).claim([])
    assert len(came) == 1
