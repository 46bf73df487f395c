"""`max_age`: equal questions of one tenant share one vendor call."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from covergate.verifications.cancel import cancel
from covergate.verifications.operator import Resolution, resolve
from covergate.verifications.sweep import sweep
from tests.support.engine import Engine
from tests.support.gateways import CALLER
from tests.support.requests import PATIENT
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
        "UPDATE verifications SET deadline = clock_timestamp(), next_check_at = clock_timestamp() WHERE id = ANY(:ids)",
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
    key = await engine.take()
    assert key.startswith(leader)
    await cancel(engine.gateway, CALLER, leader)
    await engine.run_all()
    shown = [await engine.view(id_) for id_ in followers]
    assert {view["status"] for view in shown} == {"completed"}
    assert [view["reused_from"] for view in shown] == [None, followers[0], followers[0]]
    assert wire.calls.count(SUBMIT) == 1
