"""Events of a vendor: forged, twice, before the answer to their own submit, racing a poll, after the end."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.sealing import GATEWAY, Place
from covergate.db.sql import Query
from covergate.vendor_health.circuit_breaker import begin_hold
from covergate.vendors.errors import VendorUnavailable
from covergate.vendors.event import ForgedEvent, Inbound
from covergate.verifications import lifecycle, store
from covergate.verifications.cancel import cancel
from covergate.verifications.commit import apply
from covergate.verifications.model import Change, Submission
from covergate.verifications.operator import resume
from covergate.verifications.policy import LATE_LOOKS
from covergate.verifications.sweep import WAKE_SPREAD_SECONDS
from covergate.verifications.vendor_events import MOST_EVENTS, TooManyEvents, UnknownVendor, receive
from tests.support.engine import Engine
from tests.support.gateways import CALLER
from tests.support.requests import FOR_HARBOR, PATIENT
from tests.support.sohar import READ, REF, SUBMIT, event
from tests.support.sweeps import sweep
from tests.support.wire import Answer, Wire

PENDING = {"verificationId": REF, "status": "pending"}


def answer(status: str = "complete.eligible", reason: str | None = None) -> dict[str, Any]:
    return {"verificationId": REF, "status": status, "statusReason": reason, "benefits": []}


@pytest.fixture
def wire() -> Wire:
    return Wire().on(SUBMIT, (201, {"verificationId": REF, "id": None})).on(READ, (200, answer()))


async def test_an_event_brings_the_answer_at_once(engine: Engine) -> None:
    id_ = await engine.create(vendor="sohar")
    await engine.step()
    assert await engine.work.steps(within_seconds=0) == []
    assert await receive(engine.gateway, "sohar", event()) == 1
    assert await engine.work.steps(within_seconds=0) == [id_]
    await engine.step()
    assert (await engine.view(id_))["status"] == "completed"
    assert await engine.timeline(id_) == ["created", "submitted", "vendor_event", "completed"]


async def test_an_event_counts_once(engine: Engine) -> None:
    id_ = await engine.create(vendor="sohar")
    await engine.step()
    stored = await asyncio.gather(*(receive(engine.gateway, "sohar", event()) for _ in range(5)))
    assert sorted(stored) == [0, 0, 0, 0, 1]
    assert (await engine.timeline(id_)).count("vendor_event") == 1


@pytest.mark.parametrize("named_by", ["echo", "reference"])
async def test_an_event_that_overtakes_the_answer_to_its_own_submit(engine: Engine, wire: Wire, named_by: str) -> None:
    async def submitting(request: httpx.Request) -> httpx.Response:
        echo = json.loads(request.content)["id"] if named_by == "echo" else None
        assert await receive(engine.gateway, "sohar", event(echo)) == 1
        return httpx.Response(201, json={"verificationId": REF, "id": echo})

    wire.on(SUBMIT, submitting)
    id_ = await engine.create(vendor="sohar")
    await engine.step()
    assert (await engine.view(id_))["status"] == "completed"
    assert wire.calls == [SUBMIT, READ]


async def test_event_and_reference_stored_at_the_same_moment(engine: Engine, wire: Wire) -> None:
    """Whichever is second sees the first, in twenty tries of the race."""
    for turn in range(20):
        await engine.run_sql("DELETE FROM vendor_events")
        id_ = await engine.create(vendor="sohar")
        for table in ("work", "attempts"):
            await engine.run_sql(f"UPDATE {table} SET vendor_ref = NULL WHERE verification_id <> :id", id=id_)
        claimed = await engine.take(id_)
        await asyncio.gather(engine.advance(claimed), receive(engine.gateway, "sohar", event(message_id=f"msg_{turn}")))
        rows = await engine.rows(
            "SELECT v.status IS NOT DISTINCT FROM 'completed' OR w.next_check_at <= clock_timestamp() AS seen"
            " FROM verifications v LEFT JOIN work w ON w.verification_id = v.id WHERE v.id = :id",
            id=id_,
        )
        assert rows[0].seen, turn


async def test_a_lost_reply_is_found_by_its_event(engine: Engine, wire: Wire) -> None:
    echoes: list[str] = []

    def cut(request: httpx.Request) -> httpx.Response:
        echoes.append(json.loads(request.content)["id"])
        raise httpx.RemoteProtocolError("cut")

    wire.on(SUBMIT, cut)
    id_ = await engine.create(vendor="sohar")
    await engine.step()
    assert (await engine.view(id_))["attempts"][0]["state"] == "submitting"
    assert await receive(engine.gateway, "sohar", event(echoes[0])) == 1
    view = await engine.view(id_)
    assert (view["attempts"][0]["state"], view["attempts"][0]["vendor_ref"]) == ("waiting", REF)
    assert await engine.work.steps(within_seconds=0) == [id_]  # not at the look-up that was planned
    await engine.step()
    assert (await engine.view(id_))["status"] == "completed"
    assert wire.calls == [SUBMIT, READ]


HARBOR = "/health_harbor/api/v0/mental_health"


def under_way(inquiry_id: str, echo: str) -> dict[str, Any]:
    return {"id": inquiry_id, "status": "IN_PROGRESS", "request": {"external_id": echo}}


def call_begins(*echoes: str) -> Inbound:
    inquiries = [under_way(f"i{number}", echo) for number, echo in enumerate(echoes, 1)]
    body = json.dumps({"inquiries": inquiries}).encode()
    secret = hashlib.sha256(b"sandbox:health_harbor").hexdigest()
    headers = {"x-healthharbor-signature": hmac.digest(secret.encode(), body, "sha256").hex()}
    return Inbound("POST", "/v1/vendor-events/health_harbor", "", headers, body)


@pytest.mark.parametrize("parked", [False, True])
async def test_an_event_that_brings_nothing_settles_a_lost_reply(engine: Engine, wire: Wire, parked: bool) -> None:
    """That the call begins says that there is an inquiry, and which. Parked: a person was to find that out."""
    wire.on(f"POST {HARBOR}/batch_inquiries", httpx.RemoteProtocolError("cut"))
    wire.on(f"GET {HARBOR}/inquiries", (200, [{"id": "another"}]))
    id_ = await engine.create(**FOR_HARBOR)
    await engine.step()
    attempt_id = (await engine.view(id_))["attempts"][0]["id"]
    wire.on(f"GET {HARBOR}/inquiries/i1", (200, under_way("i1", attempt_id)))
    if parked:
        await engine.run_sql("UPDATE work SET lookup_after = clock_timestamp()")
        await engine.step()
        assert (await engine.view(id_))["waiting_for"]["kind"] == "operator"
    await receive(engine.gateway, "health_harbor", call_begins(attempt_id))
    assert await engine.work.steps(within_seconds=0) == [id_]  # not at the look-up that was planned, or the deadline
    view = await engine.view(id_)
    assert (view["attempts"][0]["state"], view["attempts"][0]["vendor_ref"]) == ("waiting", "i1")
    assert view["waiting_for"]["kind"] == "vendor"
    await engine.step()
    assert (await engine.timeline(id_))[-3:] == ["submission_found", "vendor_event", "checked"]
    assert wire.calls.count(f"POST {HARBOR}/batch_inquiries") == 1


async def test_an_event_that_brings_nothing_while_the_submission_is_under_way(engine: Engine, wire: Wire) -> None:
    """The reply is lost afterwards: then its look-up is not needed."""

    async def submitting(request: httpx.Request) -> httpx.Response:
        echo = json.loads(request.content)[0]["external_id"]
        wire.on(f"GET {HARBOR}/inquiries/i1", (200, under_way("i1", echo)))
        await receive(engine.gateway, "health_harbor", call_begins(echo))
        raise httpx.RemoteProtocolError("cut")

    wire.on(f"POST {HARBOR}/batch_inquiries", submitting)
    id_ = await engine.create(**FOR_HARBOR)
    await engine.step()
    for _ in range(2):
        if "checked" not in await engine.timeline(id_):
            await engine.step()
    assert await engine.timeline(id_) == ["created", "vendor_event", "reply_lost", "submission_found", "checked"]
    assert f"GET {HARBOR}/inquiries" not in wire.calls


async def test_an_event_that_brings_nothing_wakes_nobody(engine: Engine, wire: Wire) -> None:
    wire.on(f"POST {HARBOR}/batch_inquiries", (200, [{"success": True, "inquiry_id": "i1"}]))
    id_ = await engine.create(**FOR_HARBOR)
    await engine.step()
    scheduled = "SELECT step, due_at, next_check_at FROM work"
    before = await engine.rows(scheduled)
    await receive(engine.gateway, "health_harbor", call_begins((await engine.view(id_))["attempts"][0]["id"]))
    assert await engine.rows(scheduled) == before
    assert await engine.timeline(id_) == ["created", "submitted", "vendor_event"]


async def test_what_the_event_itself_tells_is_in_the_timeline_as_the_vendors_word(engine: Engine) -> None:
    id_ = await engine.create(vendor="sohar")
    await engine.step()
    await receive(engine.gateway, "sohar", event())
    told = [entry["message"] for entry in await engine.entries(id_) if entry["type"] == "vendor_event"]
    assert told == ["the vendor sent verification.updated: complete.eligible"]


async def test_an_event_closes_what_waits_for_an_operator(engine: Engine, wire: Wire) -> None:
    wire.on(SUBMIT, httpx.RemoteProtocolError("cut"))
    id_ = await engine.create(vendor="sohar")
    await engine.step()
    await engine.run_sql("UPDATE work SET lookup_after = clock_timestamp()")
    await engine.step()
    view = await engine.view(id_)
    assert view["waiting_for"]["kind"] == "operator"
    await receive(engine.gateway, "sohar", event(view["attempts"][0]["id"]))
    assert await engine.work.steps(within_seconds=0) == [id_]
    await engine.step()
    assert (await engine.view(id_))["status"] == "completed"


async def test_poll_and_event_race_closes_once(engine: Engine) -> None:
    id_ = await engine.create(vendor="sohar")
    await engine.step()
    poll = await engine.take()
    await asyncio.gather(engine.advance(poll), receive(engine.gateway, "sohar", event()))
    while await engine.due():
        await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["late_result"]) == ("completed", None)
    assert await engine.events() == ["verification.completed"]


async def test_an_answer_after_the_deadline_is_late(engine: Engine) -> None:
    id_ = await engine.create(vendor="sohar")
    await engine.step()
    await engine.run_sql("UPDATE work SET due_at = now(), next_check_at = now(), deadline = now()")
    await engine.step()
    assert (await engine.view(id_))["failure"]["code"] == "deadline_exceeded"
    await receive(engine.gateway, "sohar", event())
    await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["result"], view["late_result"]["coverage"]) == ("failed", None, "active")
    assert await engine.events() == ["verification.failed", "verification.answered_late"]


async def test_a_refusal_after_the_deadline_is_kept_beside_the_end(engine: Engine, wire: Wire) -> None:
    """The payer was away for longer than the verification had time."""
    refusal = {"verificationId": REF, "status": "error.payer", "statusReason": "TRY_TOMORROW"}
    wire.on(READ, (200, refusal))
    id_ = await too_late(engine)
    await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["failure"]["code"], view["result"]) == ("failed", "deadline_exceeded", None)
    assert {name: view["late_failure"][name] for name in ("code", "vendor_code", "vendor_message")} == {
        "code": "payer_unavailable",
        "vendor_code": "error.payer",
        "vendor_message": "TRY_TOMORROW",
    }
    assert view["late_result"] is None
    assert await engine.events() == ["verification.failed", "verification.answered_late"]
    told = [entry["message"] for entry in await engine.entries(id_) if entry["type"] == "answered_late"]
    assert told == ["a refusal (payer_unavailable) came after the end; see late_failure"]


async def test_a_late_refusal_that_is_repeated_is_announced_once(engine: Engine, wire: Wire) -> None:
    wire.on(READ, (200, answer("error.payer")), (200, answer("error.payer")), (200, answer()))
    id_ = await too_late(engine)
    await engine.step()
    await receive(engine.gateway, "sohar", event(message_id="msg_2"))
    await engine.step()
    assert await engine.events() == ["verification.failed", "verification.answered_late"]
    await receive(engine.gateway, "sohar", event(message_id="msg_3"))
    await engine.step()
    view = await engine.view(id_)
    assert (view["late_failure"]["code"], view["late_result"]["coverage"]) == ("payer_unavailable", "active")
    assert await engine.events() == ["verification.failed", *["verification.answered_late"] * 2]


async def test_the_refusal_that_ended_it_is_no_late_one(engine: Engine, wire: Wire) -> None:
    wire.on(READ, (200, answer("error.member.id")))
    id_ = await engine.create(vendor="sohar")
    for _ in range(2):
        await engine.step()
    await receive(engine.gateway, "sohar", event(message_id="msg_2"))
    await engine.step()
    view = await engine.view(id_)
    assert (view["failure"]["code"], view["late_failure"]) == ("member_id_invalid", None)
    assert await engine.events() == ["verification.failed"]


async def test_a_refusal_after_the_cancellation_is_in_timeline_and_raw_only(engine: Engine, wire: Wire) -> None:
    wire.on(READ, (200, answer("error.payer")))
    id_ = await engine.create(vendor="sohar")
    await engine.step()
    await cancel(engine.gateway, CALLER, id_)
    await receive(engine.gateway, "sohar", event())
    await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["late_failure"]) == ("canceled", None)
    assert await engine.events() == ["verification.canceled"]
    assert "answered_late" in await engine.timeline(id_)


async def too_late(engine: Engine) -> str:
    """A verification whose deadline came, and then an event: there is an answer to be fetched."""
    id_ = await engine.create(vendor="sohar")
    await engine.step()
    await engine.run_sql("UPDATE work SET due_at = now(), next_check_at = now(), deadline = now()")
    await engine.step()
    await receive(engine.gateway, "sohar", event())
    return id_


async def held(engine: Engine) -> None:
    async with engine.gateway.transaction() as db:
        await begin_hold(db, "sohar", "test")
    await engine.breakers.flush()


async def released(engine: Engine) -> None:
    await resume(engine.gateway, "sohar", "test")
    await engine.breakers.flush()


async def resting(engine: Engine) -> None:
    for _ in range(10):
        engine.breakers.count("sohar", "test", VendorUnavailable("down", sent=True))
    await engine.breakers.flush()
    await engine.run_sql("UPDATE vendor_standing SET rests_until = clock_timestamp() + interval '5 min'")
    await engine.breakers.flush()


async def rested(engine: Engine) -> None:
    await engine.run_sql("UPDATE vendor_standing SET rests_until = clock_timestamp()")
    await engine.breakers.flush()


@pytest.mark.parametrize(
    ("begins", "ends", "waiting_for"), [(held, released, "hold"), (resting, rested, "circuit")], ids=["hold", "circuit"]
)
async def test_an_answer_after_the_end_waits_for_a_vendor_that_may_not_be_called(
    engine: Engine,
    wire: Wire,
    begins: Callable[[Engine], Awaitable[None]],
    ends: Callable[[Engine], Awaitable[None]],
    waiting_for: str,
) -> None:
    """For however many minutes, and however often somebody looks meanwhile: that is no try."""
    id_ = await too_late(engine)
    await begins(engine)
    for _ in range(LATE_LOOKS + 2):
        await engine.step(id_)
        [row] = await engine.rows("SELECT late_tries, waiting_for FROM work")
        assert (row.late_tries, row.waiting_for) == (0, waiting_for)
        assert await engine.work.seconds_to(id_) > 60
    assert wire.calls == [SUBMIT]
    await ends(engine)
    if waiting_for == "hold":
        assert await engine.work.steps(within_seconds=WAKE_SPREAD_SECONDS) == [id_]
    await engine.step(id_)
    assert (await engine.view(id_))["late_result"]["coverage"] == "active"
    assert wire.calls == [SUBMIT, READ]
    assert await engine.due() == []


async def test_a_look_at_a_late_answer_whose_worker_died_is_made_by_another(engine: Engine, wire: Wire) -> None:
    id_ = await too_late(engine)
    lost = await engine.take()
    assert await engine.due() == []  # it may still be under way
    await engine.end_leases()
    assert await engine.due() == [id_]
    await engine.step()
    assert (await engine.view(id_))["late_result"]["coverage"] == "active"
    assert wire.calls == [SUBMIT, READ]
    assert lost.verification.late_tries == 0
    assert await engine.due() == []
    await engine.advance(lost)  # it was only paused: the same answer again is nothing new
    assert await engine.events() == ["verification.failed", "verification.answered_late"]
    assert await engine.due() == []


async def test_a_late_answer_that_cannot_be_fetched_is_asked_for_a_few_times(engine: Engine, wire: Wire) -> None:
    wire.on(READ, (503, {}))
    id_ = await too_late(engine)
    for tries in range(1, LATE_LOOKS):
        await engine.step()
        assert (await engine.rows("SELECT late_tries FROM work"))[0].late_tries == tries
        assert 20 < await engine.work.seconds_to(id_) <= 30
    await engine.step()
    assert await engine.rows("SELECT 1 FROM work") == []
    assert wire.calls == [SUBMIT, *[READ] * LATE_LOOKS]


@pytest.mark.parametrize("found", [(503, {}), (200, answer())], ids=["put off", "over"])
async def test_a_look_that_is_put_off_or_over_gives_way_to_a_newer_event(
    engine: Engine, wire: Wire, found: Answer
) -> None:
    wire.on(READ, found)
    id_ = await too_late(engine)
    look = await engine.take()
    await receive(engine.gateway, "sohar", event(message_id="msg_newer"))
    await engine.advance(look)
    assert await engine.work.seconds_to(id_) <= 0


async def test_a_late_answer_is_not_waited_for_for_ever(engine: Engine) -> None:
    """Its vendor is held for a month."""
    id_ = await too_late(engine)
    await held(engine)
    await engine.step(id_)
    assert await engine.due() == [id_]
    passed = "interval '30 days' - interval '5 minutes'"
    await engine.run_sql(f"UPDATE verifications SET completed_at = completed_at - ({passed})")
    await engine.run_sql(f"UPDATE work SET next_check_at = now(), due_at = now(), deadline = deadline - ({passed})")
    await engine.step(id_)
    assert await engine.rows("SELECT 1 FROM work") == []


async def test_another_answer_after_the_answer(engine: Engine, wire: Wire) -> None:
    """The same again is nothing new; a different one is told."""
    wire.on(READ, (200, answer()), (200, answer()), (200, answer("complete.ineligible", "INACTIVE")))
    id_ = await engine.create(vendor="sohar")
    for _ in range(2):
        await engine.step()
    await receive(engine.gateway, "sohar", event(message_id="msg_2"))
    await engine.step()
    assert (await engine.view(id_))["late_result"] is None
    await receive(engine.gateway, "sohar", event(message_id="msg_3"))
    await engine.step()
    view = await engine.view(id_)
    assert (view["outcome"], view["late_result"]["coverage"]) == ("eligible", "inactive")
    assert await engine.events() == ["verification.completed", "verification.answered_late"]


async def test_an_answer_after_the_cancellation_is_in_timeline_and_raw_only(engine: Engine) -> None:
    id_ = await engine.create(vendor="sohar")
    await engine.step()
    await cancel(engine.gateway, CALLER, id_)
    assert await engine.due() == []
    await receive(engine.gateway, "sohar", event())
    await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["result"], view["late_result"]) == ("canceled", None, None)
    assert await engine.events() == ["verification.canceled"]
    assert "answered_late" in await engine.timeline(id_)


async def test_a_cancellation_while_the_submission_is_under_way(engine: Engine, wire: Wire) -> None:
    """The reply and the reference are kept on the attempt all the same."""

    async def submitting(request: httpx.Request) -> httpx.Response:
        await cancel(engine.gateway, CALLER, id_)
        return httpx.Response(201, json={"verificationId": REF})

    wire.on(SUBMIT, submitting)
    id_ = await engine.create(vendor="sohar")
    await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["attempts"][0]["vendor_ref"]) == ("canceled", REF)
    assert view["attempts"][0]["submitted_at"] is not None
    assert await engine.due() == []


@pytest.mark.parametrize("forged", [{"key": b"another key"}, {"age": 310}, {"age": -310}])
async def test_a_forged_or_old_event_stores_nothing(engine: Engine, forged: dict[str, Any]) -> None:
    with pytest.raises(ForgedEvent):
        await receive(engine.gateway, "sohar", event(**forged))
    assert (await engine.rows("SELECT count(*) FROM vendor_events"))[0][0] == 0


async def test_an_event_of_nobody_we_know(engine: Engine) -> None:
    for vendor in ("nobody", "integrex"):
        with pytest.raises(UnknownVendor):
            await receive(engine.gateway, vendor, event())


async def test_an_unmatched_event_is_kept_and_answered(engine: Engine) -> None:
    assert await receive(engine.gateway, "sohar", event("att_of_somebody_else")) == 1


async def test_the_body_of_a_message_with_many_events_is_stored_once(engine: Engine) -> None:
    message = call_begins(*(f"att_of_somebody_{number}" for number in range(MOST_EVENTS)))
    assert await receive(engine.gateway, "health_harbor", message) == MOST_EVENTS
    [stored] = await engine.rows("SELECT id, body_sealed FROM vendor_messages")
    assert (
        engine.gateway.sealer.open(Place(GATEWAY, "", "vendor_messages", "body", stored.id), stored.body_sealed)
        == message.body
    )
    events = await engine.rows("SELECT message_id, body_sealed FROM vendor_events")
    assert [tuple(event) for event in events] == [(stored.id, None)] * MOST_EVENTS
    assert await receive(engine.gateway, "health_harbor", message) == 0
    assert len(await engine.rows("SELECT 1 FROM vendor_messages")) == 1


async def test_a_message_with_too_many_events_stores_nothing(engine: Engine) -> None:
    with pytest.raises(TooManyEvents):
        await receive(engine.gateway, "health_harbor", call_begins(*map(str, range(MOST_EVENTS + 1))))
    assert await engine.rows("SELECT 1 FROM vendor_events") == []


async def test_an_event_that_waits_for_the_late_reply_forgets_none_of_it(engine: Engine) -> None:
    """It locks the verification that has ended, and reads the attempt as it was before it had to wait."""
    id_ = await engine.create(vendor="sohar")
    await cancel(engine.gateway, CALLER, id_)
    [attempt] = await engine.rows("SELECT id FROM attempts")
    async with engine.gateway.transaction() as db:
        v = (await store.lock(db, engine.gateway.sealer, [id_]))[id_]
        coming = asyncio.create_task(receive(engine.gateway, "sohar", event(attempt.id)))
        await engine.waiting_for_locks(1)
        await apply(db, engine.gateway.sealer, [Change(lifecycle.submitted(v, Submission(None, v.now)))])
    assert await coming == 1
    [row] = await engine.rows("SELECT vendor_ref, submitted_at FROM attempts")
    assert (row.vendor_ref, row.submitted_at) == (REF, v.now)


async def test_an_event_that_overtakes_a_reply_after_the_end_brings_the_late_answer(engine: Engine, wire: Wire) -> None:
    async def submitting(request: httpx.Request) -> httpx.Response:
        assert await receive(engine.gateway, "sohar", event()) == 1
        await engine.run_sql("UPDATE work SET due_at = now(), next_check_at = now(), deadline = now()")
        assert await sweep(engine.gateway) == 1
        return httpx.Response(201, json={"verificationId": REF, "id": None})

    wire.on(SUBMIT, submitting)
    id_ = await engine.create(vendor="sohar")
    await engine.step()
    assert await engine.work.steps(within_seconds=0) == [id_]
    await engine.step()
    assert await engine.timeline(id_) == ["created", "failed", "answered_late"]
    assert (await engine.view(id_))["late_result"]["coverage"] == "active"


async def test_events_that_overtook_many_replies_are_matched_together(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many replies are written at once: one statement for their locks, one for their events."""
    sent: list[str] = []
    send = Query._send

    async def counted(self: Query, db: AsyncConnection, how: Any, values: Any) -> Any:
        sent.append(self.sql)
        return await send(self, db, how, values)

    ids = [await engine.create(vendor="sohar", patient={**PATIENT, "member_id": f"W{number}"}) for number in range(8)]
    claims = [await engine.take(id_) for id_ in ids]
    monkeypatch.setattr(Query, "_send", counted)
    await asyncio.gather(*(engine.advance(claimed) for claimed in claims))
    locks = sum("pg_advisory_xact_lock(name)" in sql for sql in sent)
    matches = sum("UPDATE vendor_events" in sql for sql in sent)
    saves = sum("UPDATE work SET vendor" in sql for sql in sent)
    assert (locks, matches) == (saves, saves)
    assert saves < len(ids)
