"""`max_age`: equal questions of one tenant share one vendor call."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from covergate.verifications import lifecycle, store
from covergate.verifications.cancel import cancel
from covergate.verifications.commit import apply, commit
from covergate.verifications.model import Leader, OurFault, Report
from covergate.verifications.operator import Resolution, resolve
from tests.support.engine import Engine
from tests.support.gateways import CALLER
from tests.support.requests import PATIENT
from tests.support.sweeps import sweep
from tests.support.wire import ACTIVE, POLL, SUBMIT, Wire


async def test_an_answer_young_enough_is_taken_over(engine: Engine, wire: Wire) -> None:
    first = await engine.create()
    await engine.run_all()
    second = await engine.create(max_age=60)
    await engine.run_all()
    shown = await engine.view(second)
    assert (shown["status"], shown["reused_from"]) == ("completed", first)
    assert shown["result"] == (await engine.view(first))["result"]
    assert wire.calls.count(SUBMIT) == 1
    assert await engine.events() == ["verification.completed"] * 2
    await engine.run_sql("UPDATE verifications SET completed_at = completed_at - interval '61 s'")
    third = await engine.create(max_age=60)
    await engine.run_all()
    assert ((await engine.view(third))["reused_from"], wire.calls.count(SUBMIT)) == (None, 2)


async def test_off_unless_asked_for(engine: Engine, wire: Wire) -> None:
    for _ in range(2):
        await engine.create()
    await engine.run_all()
    assert wire.calls.count(SUBMIT) == 2


async def test_another_question_is_another_question(engine: Engine, wire: Wire) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"patient": {**PATIENT, "member_id": "W000000001"}},
        {"payer": {"id": "62308"}},
        {"provider": {"npi": "1000000004"}},
        {"service": {"service_type_codes": ["98"]}},
        {"coverage_order": "secondary"},
    ]
    for change in changes:
        await engine.create(max_age=60, **change)
    await engine.run_all()
    assert wire.calls.count(SUBMIT) == len(changes)


async def test_equal_inquiries_at_the_same_moment_share_one_call(engine: Engine, wire: Wire) -> None:
    ids = await asyncio.gather(*(engine.create(max_age=60) for _ in range(8)))
    await engine.run_all()
    shown = [await engine.view(id_) for id_ in ids]
    assert {view["status"] for view in shown} == {"completed"}
    assert sum(view["reused_from"] is None for view in shown) == 1
    assert wire.calls.count(SUBMIT) == 1


async def test_followers_share_a_failure_too(engine: Engine, wire: Wire) -> None:
    wire.on(POLL, (200, {"requestStatusCode": "72"}))
    ids = [await engine.create(max_age=60) for _ in range(3)]
    await engine.run_all()
    assert {(await engine.view(id_))["failure"]["code"] for id_ in ids} == {"member_id_invalid"}
    assert wire.calls.count(SUBMIT) == 1


async def expire(engine: Engine, *ids: str) -> None:
    await engine.run_sql(
        "UPDATE work SET deadline = now(), next_check_at = now(), due_at = now() WHERE verification_id = ANY(:ids)",
        ids=list(ids),
    )
    while await sweep(engine.gateway):
        pass


@pytest.mark.parametrize("submitted", [False, True])
async def test_when_the_leaders_deadline_comes_who_has_more_time_asks(
    engine: Engine, wire: Wire, submitted: bool
) -> None:
    """The payer said nothing, so there is nothing to take over; the oldest with time left asks for the others, too."""
    wire.on(POLL, (202, {}), (200, ACTIVE))
    leader, late, *followers = [await engine.create(max_age=60) for _ in range(5)]
    if submitted:
        await engine.step()
    await expire(engine, leader, late)
    for id_ in (leader, late):
        assert (await engine.view(id_))["failure"]["code"] == "deadline_exceeded"
    await engine.run_all()
    shown = [await engine.view(id_) for id_ in followers]
    assert {view["status"] for view in shown} == {"completed"}
    assert [view["reused_from"] for view in shown] == [None, followers[0], followers[0]]
    assert wire.calls.count(SUBMIT) == 1 + submitted


@pytest.mark.parametrize("decided", [False, True])
async def test_a_submission_whose_fate_is_unknown_is_not_made_again_by_a_follower(
    engine: Engine, wire: Wire, decided: bool
) -> None:
    """Neither when the leader's deadline comes, nor when an operator gives it up."""
    wire.on(SUBMIT, httpx.RemoteProtocolError("cut"))
    leader, follower = [await engine.create(max_age=60) for _ in range(2)]
    await engine.run_all()
    assert (await engine.view(leader))["waiting_for"]["kind"] == "operator"
    if decided:
        await resolve(engine.gateway, CALLER, leader, Resolution.GIVE_UP)
    else:
        await expire(engine, leader)
    await engine.run_all()
    view = await engine.view(follower)
    assert (view["failure"]["code"], view["reused_from"]) == ("submission_unknown", leader)
    assert wire.calls.count(SUBMIT) == 1


async def test_a_deadline_while_the_submission_is_under_way_makes_no_second_one(engine: Engine, wire: Wire) -> None:
    """The leader ends as unanswered, but its call is on the line."""

    async def submitting(request: httpx.Request) -> httpx.Response:
        await expire(engine, leader)
        return httpx.Response(200, json={"id": "1"})

    wire.on(SUBMIT, submitting)
    leader, follower = [await engine.create(max_age=60) for _ in range(2)]
    await engine.step()
    assert (await engine.view(leader))["failure"]["code"] == "deadline_exceeded"
    await engine.run_sql("UPDATE attempts SET submitted_at = NULL WHERE verification_id = :id", id=leader)
    await engine.run_all()
    assert (await engine.view(follower))["reused_from"] == leader
    assert wire.calls.count(SUBMIT) == 1


async def test_when_the_leader_is_canceled_one_follower_leads(engine: Engine, wire: Wire) -> None:
    leader, *followers = [await engine.create(max_age=60) for _ in range(4)]
    claimed = await engine.take()
    assert claimed.key == leader
    await cancel(engine.gateway, CALLER, leader)
    await engine.run_all()
    shown = [await engine.view(id_) for id_ in followers]
    assert {view["status"] for view in shown} == {"completed"}
    assert [view["reused_from"] for view in shown] == [None, followers[0], followers[0]]
    assert wire.calls.count(SUBMIT) == 1


async def canceled_in_doubt(engine: Engine, wire: Wire) -> list[str]:
    """Three followers of a verification that was canceled after the reply to its submission was lost."""
    wire.on(SUBMIT, httpx.RemoteProtocolError("cut"), (200, {"id": "1"}))
    leader, *followers = [await engine.create(max_age=60) for _ in range(4)]
    await engine.step()
    await cancel(engine.gateway, CALLER, leader)
    return followers


async def test_no_follower_asks_beside_a_canceled_submission_whose_fate_is_unknown(engine: Engine, wire: Wire) -> None:
    """A person decides for the oldest of them, whose answer the others take over."""
    oldest, *others = await canceled_in_doubt(engine, wire)
    await engine.run_all()
    assert (await engine.view(oldest))["waiting_for"]["kind"] == "operator"
    assert {(await engine.view(id_))["waiting_for"]["kind"] for id_ in others} == {"vendor"}
    assert (await engine.events()).count("verification.needs_attention") == 2  # the leader's, and the oldest one's
    assert wire.calls.count(SUBMIT) == 1
    await resolve(engine.gateway, CALLER, oldest, Resolution.RESUBMIT)
    await engine.run_all()
    shown = [await engine.view(id_) for id_ in (oldest, *others)]
    assert [(view["status"], view["reused_from"]) for view in shown] == [
        ("completed", None),
        ("completed", oldest),
        ("completed", oldest),
    ]
    assert wire.calls.count(SUBMIT) == 2


@pytest.mark.parametrize("decided", [False, True])
async def test_the_doubt_outlives_the_follower_that_waits_for_the_operator(
    engine: Engine, wire: Wire, decided: bool
) -> None:
    """It is canceled, before or after its step: the next one waits in its place."""
    first, second, third = await canceled_in_doubt(engine, wire)
    if decided:
        await engine.run_all()
    await cancel(engine.gateway, CALLER, first)
    await engine.run_all()
    kinds = [(await engine.view(id_))["waiting_for"]["kind"] for id_ in (second, third)]
    assert kinds == ["operator", "vendor"]
    assert wire.calls.count(SUBMIT) == 1


async def test_while_the_canceled_call_is_on_the_line_its_followers_wait(engine: Engine, wire: Wire) -> None:
    """Then it is known that the vendor has it, and the oldest asks for the others."""

    async def submitting(request: httpx.Request) -> httpx.Response:
        wire.on(SUBMIT, (200, {"id": "2"}))
        await cancel(engine.gateway, CALLER, leader)
        await engine.run_all()
        assert (await engine.timeline(follower))[-1] == "submission_in_flight"
        return httpx.Response(200, json={"id": "1"})

    wire.on(SUBMIT, submitting)
    leader, follower = [await engine.create(max_age=60) for _ in range(2)]
    await engine.step()
    assert wire.calls.count(SUBMIT) == 1
    await engine.step()
    await engine.run_all()
    assert (await engine.view(follower))["status"] == "completed"
    assert "verification.needs_attention" not in await engine.events()


async def test_leader_and_oldest_follower_canceled_at_once_leave_one_that_asks(engine: Engine, wire: Wire) -> None:
    leader, *followers = [await engine.create(max_age=60) for _ in range(6)]
    await engine.take()
    await asyncio.gather(cancel(engine.gateway, CALLER, leader), cancel(engine.gateway, CALLER, followers[0]))
    claims = [await engine.take(id_) for id_ in await engine.due()]
    await asyncio.gather(*(engine.advance(claimed) for claimed in claims))
    await engine.run_all()
    shown = [await engine.view(id_) for id_ in followers[1:]]
    assert {view["status"] for view in shown} == {"completed"}
    assert wire.calls.count(SUBMIT) == 1


async def test_followers_that_the_end_of_their_leader_missed_choose_one_that_asks(engine: Engine, wire: Wire) -> None:
    """As if they had been committed at that very moment; each looks again within a minute."""
    leader, *followers = [await engine.create(max_age=60) for _ in range(5)]
    await engine.take()
    await engine.step()
    [row] = await engine.rows(
        "SELECT extract(epoch FROM next_check_at - clock_timestamp()) AS wait FROM work WHERE verification_id = :id",
        id=followers[0],
    )
    assert 50 < row.wait <= 60
    await engine.run_sql("UPDATE work SET follows = NULL WHERE verification_id <> :id", id=leader)
    await cancel(engine.gateway, CALLER, leader)
    await engine.run_sql("UPDATE work SET follows = :id WHERE verification_id <> :id", id=leader)
    claims = [await engine.take(id_) for id_ in await engine.due()]
    await asyncio.gather(*(engine.advance(claimed) for claimed in claims))
    await engine.run_all()
    shown = [await engine.view(id_) for id_ in followers]
    assert {view["status"] for view in shown} == {"completed"}
    assert [view["reused_from"] for view in shown] == [None, *[followers[0]] * 3]
    assert wire.calls.count(SUBMIT) == 1


async def test_followers_that_choose_lock_in_the_order_of_ids(engine: Engine) -> None:
    """Another has locked the first row of their group; it does not wait for one of theirs."""
    other = await engine.create(patient={**PATIENT, "member_id": "OTHER"})
    leader, *followers = [await engine.create(max_age=60) for _ in range(4)]
    await engine.run_sql("UPDATE work SET follows = NULL WHERE verification_id <> :id", id=leader)
    await cancel(engine.gateway, CALLER, leader)
    await engine.run_sql("UPDATE work SET follows = :id WHERE verification_id <> :other", id=leader, other=other)
    async with engine.gateway.connection() as db:
        ended = await store.read_claimed(db, engine.gateway.sealer, leader)
    assert ended is not None
    reports = [Report((await engine.take(other)).verification, OurFault())]
    reports.append(Report((await engine.take(followers[0])).verification, Leader(ended.verification)))
    lock = "SELECT FROM work WHERE verification_id = :id FOR NO KEY UPDATE"
    async with engine.gateway.transaction() as db:
        await db.execute(text(lock), {"id": other})
        choosing = asyncio.create_task(commit(engine.gateway, None, reports))
        await engine.waiting_for_locks(1)
        await db.execute(text(f"{lock} NOWAIT"), {"id": followers[-1]})
    await choosing


async def test_other_options_are_another_question(engine: Engine, wire: Wire) -> None:
    """None and an empty block are equal."""
    blocks: list[dict[str, Any]] = [{}, {"integrex": {}}, {"integrex": {"account_number_2": "7"}}]
    for options in blocks:
        await engine.create(max_age=60, vendor_options=options)
    await engine.run_all()
    assert wire.calls.count(SUBMIT) == 2


@pytest.mark.parametrize("answered", [False, True])
async def test_an_answer_is_taken_over_only_from_a_vendor_on_the_route(
    engine: Engine, wire: Wire, answered: bool
) -> None:
    """An open one must not go to such a vendor later, either."""
    if answered:
        await engine.create(max_age=60)
        await engine.run_all()
    else:
        await engine.create(vendor=None, routing={"vendors": ["sohar", "integrex"]}, max_age=60)
    await engine.create(vendor="sohar", max_age=60)
    rows = await engine.rows("SELECT follows FROM work ORDER BY verification_id")
    assert rows[-1].follows is None
    await engine.create(vendor=None, routing={"vendors": ["integrex", "sohar"]}, max_age=60)
    rows = await engine.rows("SELECT follows FROM work ORDER BY verification_id")
    assert rows[-1].follows is not None


@pytest.mark.parametrize(
    ("waiting_for", "followed"), [("vendor", False), ("hold", False), ("circuit", False), ("operator", True)]
)
async def test_a_leader_that_rests_past_the_deadline_is_followed_only_if_a_person_decides_about_it(
    engine: Engine, waiting_for: str, followed: bool
) -> None:
    leader = await engine.create(max_age=60)
    await engine.run_sql(
        "UPDATE work SET waiting_for = :w, next_check_at = now() + interval '1 hour', due_at = now() + interval '1 hour'",
        w=waiting_for,
    )
    soon = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
    late = (datetime.now(UTC) + timedelta(minutes=90)).isoformat()
    hurried, patient = [await engine.create(max_age=60, deadline=deadline) for deadline in (soon, late)]
    rows = await engine.rows("SELECT verification_id, follows FROM work")
    follows = {row.verification_id: row.follows for row in rows}
    assert follows[hurried] == (leader if followed else None)
    assert follows[patient] is not None


async def test_a_leader_ends_only_when_its_new_follower_is_committed(engine: Engine, wire: Wire) -> None:
    """So that its end wakes it."""
    leader = await engine.create(max_age=60)
    async with engine.gateway.transaction() as db:
        await db.execute(text("LOCK TABLE idempotency_keys IN SHARE MODE"))  # only a create writes to it
        coming = asyncio.create_task(engine.create(max_age=60))
        await engine.waiting_for_locks(1)
        ending = asyncio.create_task(cancel(engine.gateway, CALLER, leader))
        await engine.waiting_for_locks(2)
    follower = await coming
    await ending
    [row] = await engine.rows("SELECT follows, step FROM work")
    assert (row.follows, row.step) == (leader, 1)
    await engine.run_all()
    assert (await engine.view(follower))["status"] == "completed"
    assert wire.calls.count(SUBMIT) == 1


async def test_a_follower_that_comes_while_its_leader_ends_sees_that_end(engine: Engine) -> None:
    leader = await engine.create(max_age=60)
    async with engine.gateway.transaction() as db:
        locked = await store.lock(db, engine.gateway.sealer, [leader])
        await apply(db, engine.gateway.sealer, [lifecycle.canceled(locked[leader])])
        coming = asyncio.create_task(engine.create(max_age=60))
        await engine.waiting_for_locks(1)
    follower = await coming
    rows = await engine.rows("SELECT follows FROM work WHERE verification_id = :id", id=follower)
    assert rows[0].follows is None
