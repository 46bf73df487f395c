"""One verification through the engine: every way a step can end, and every point where a process can die around a submission."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from typing import Any

import httpx
import pytest

from covergate.eligibility.failure import FailureCode
from covergate.verifications.engine import STEPS_IN_ROW
from tests.support.engine import Engine
from tests.support.requests import FOR_HARBOR, FOR_VSEE, VSEE_STORED
from tests.support.waiting import eventually
from tests.support.wire import ACTIVE, POLL, SUBMIT, Answer, Handler, Wire, never_connected


async def test_submit_poll_answer(engine: Engine, wire: Wire) -> None:
    id_ = await engine.create()
    assert await engine.due() == [id_]
    await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["waiting_for"]["kind"]) == ("in_progress", "vendor")
    assert view["attempts"][0]["vendor_ref"] == "1234567890987654321"
    assert engine.steps.submitting == {}  # else its task would be spared at the worker's end
    await engine.step()
    await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["outcome"], view["next_check_at"]) == ("completed", "eligible", None)
    assert view["attempts"][0]["state"] == "answered"
    assert await engine.due() == []
    assert await engine.timeline(id_) == ["created", "submitted", "checked", "completed"]
    assert await engine.events() == ["verification.completed"]
    assert wire.calls == [SUBMIT, POLL, POLL]


NOTING_COMMITS = (
    "CREATE TABLE noted (n int GENERATED ALWAYS AS IDENTITY, entry text, set_by text)",
    """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         INSERT INTO noted (entry, set_by) SELECT NEW.entries->0->>'type', source FROM pg_settings
         WHERE name = 'synchronous_commit';
         RETURN NULL;
       END $$""",
    "CREATE CONSTRAINT TRIGGER note AFTER INSERT ON history DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note()",
)
"""Notes of each commit whether its own session said how it waits for the disk. Deferred, so the last statement counts, too."""


async def test_only_a_look_that_found_nothing_new_waits_for_no_disk(engine: Engine, wire: Wire) -> None:
    """A crash that forgets it costs the same look once more; everything else is a promise."""
    for statement in NOTING_COMMITS:
        await engine.run_sql(statement)
    wire.on(POLL, (202, {}), (503, {}), (202, {}), (200, ACTIVE))
    await engine.create()
    for _ in range(5):
        await engine.step()
    noted = await engine.rows("SELECT entry, set_by = 'session' AS set FROM noted ORDER BY n")
    assert [(row.entry, row.set) for row in noted] == [
        ("created", False),
        ("submitted", False),
        ("checked", True),
        ("retry_scheduled", False),
        ("checked", True),
        ("completed", False),
    ]


async def test_sources_point_into_the_raw_document(engine: Engine) -> None:
    """The third exchange (position 2) is the one that the answer came in."""
    id_ = await engine.create()
    for _ in range(3):
        await engine.step()
    view = await engine.view(id_)
    pointers = re.findall(r"/exchanges/([^/]+)/", str(view["result"]))
    assert pointers
    assert set(pointers) == {"2"}
    rows = await engine.rows("SELECT exchanges FROM history WHERE exchanges IS NOT NULL ORDER BY n")
    assert [exchange["status"] for row in rows for exchange in row.exchanges] == [200, 202, 200]


async def test_steps_that_are_due_at_once_need_no_other_claim(engine: Engine, wire: Wire) -> None:
    """But a vendor that never answers does not keep its lane: after a while the others get their turn."""
    wire.on(POLL, (202, {}))
    eager = engine.asking_again_at_once("integrex")
    id_ = await eager.create()
    await eager.step()
    assert wire.calls == [SUBMIT, *[POLL] * (STEPS_IN_ROW - 1)]
    assert await eager.due() == [id_]
    wire.on(POLL, (200, ACTIVE))
    await eager.step()
    assert (await eager.view(id_))["status"] == "completed"


async def test_a_worker_that_dies_between_two_steps_leaves_the_next_one_to_another(engine: Engine, wire: Wire) -> None:
    def killed(_: httpx.Request) -> httpx.Response:
        raise SystemExit

    wire.on(POLL, killed, (200, ACTIVE))
    eager = engine.asking_again_at_once("integrex")
    id_ = await eager.create()
    with pytest.raises(SystemExit):
        await eager.step()
    assert await eager.due() == []  # its lease has not ended
    await eager.end_leases()
    await eager.step()
    assert (await eager.view(id_))["status"] == "completed"
    assert wire.calls == [SUBMIT, POLL, POLL]


async def test_a_stale_claim_changes_nothing(engine: Engine, wire: Wire) -> None:
    """Its worker was paused for longer than its lease."""
    id_ = await engine.create()
    stale = await engine.step()
    before, told = await engine.view(id_), await engine.timeline(id_)
    await engine.advance(stale)
    assert (await engine.view(id_), await engine.timeline(id_)) == (before, told)
    assert wire.calls == [SUBMIT]


async def test_a_stale_claim_submits_nothing(engine: Engine, wire: Wire) -> None:
    """Another was told to come later, and that holds for this one, too."""
    wire.on(SUBMIT, (429, {}, {"Retry-After": "60"}), (200, {"id": "1"}))
    id_ = await engine.create()
    stale = await engine.take()
    await engine.end_leases()
    await engine.step()
    await engine.advance(stale)
    view = await engine.view(id_)
    assert (view["waiting_for"]["kind"], view["attempts"][0]["state"]) == ("rate_limit", "preparing")
    assert wire.calls == [SUBMIT]


async def test_a_stale_look_changes_nothing(engine: Engine, wire: Wire) -> None:
    """Another looked after this one's lease had ended: what that one found stands."""
    wire.on(POLL, (202, {}), (503, {}))
    id_ = await engine.create()
    await engine.step()
    stale = await engine.take()
    await engine.end_leases()
    await engine.step()
    before, told = await engine.view(id_), await engine.timeline(id_)
    await engine.advance(stale)
    assert (await engine.view(id_), await engine.timeline(id_)) == (before, told)
    assert (told, wire.calls) == (["created", "submitted", "checked"], [SUBMIT, POLL, POLL])


async def test_two_workers_with_one_claim_submit_once(engine: Engine, wire: Wire) -> None:
    """A step that is claimed again while its paused owner still runs."""
    gate = asyncio.Event()

    async def slow(request: httpx.Request) -> httpx.Response:
        await gate.wait()
        return httpx.Response(200, json={"id": "7"})

    wire.on(SUBMIT, slow)
    id_ = await engine.create()
    claimed = await engine.take()
    both = [asyncio.create_task(engine.advance(claimed)) for _ in range(5)]
    await eventually(lambda: wire.calls == [SUBMIT])
    gate.set()
    await asyncio.gather(*both)
    assert wire.calls == [SUBMIT]
    assert (await engine.view(id_))["attempts"][0]["vendor_ref"] == "7"


async def test_two_checks_of_one_step_close_once(engine: Engine, wire: Wire) -> None:
    wire.on(POLL, (200, ACTIVE))
    id_ = await engine.create()
    await engine.step()
    claimed = await engine.take()
    await asyncio.gather(*(engine.advance(claimed) for _ in range(4)))
    assert (await engine.view(id_))["status"] == "completed"
    assert await engine.events() == ["verification.completed"]
    assert (await engine.timeline(id_)).count("completed") == 1


async def test_no_transaction_is_open_during_a_call(engine: Engine, wire: Wire) -> None:
    seen: list[int] = []

    def answering(status: int, body: dict[str, str]) -> Handler:
        async def answer(request: httpx.Request) -> httpx.Response:
            rows = await engine.rows(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND backend_type = 'client backend' AND application_name NOT LIKE '% news' AND xact_start IS NOT NULL"
            )
            seen.append(rows[0][0])
            return httpx.Response(status, json=body)

        return answer

    wire.on(SUBMIT, answering(200, {"id": "1"})).on(POLL, answering(202, {}), answering(200, ACTIVE))
    await engine.create()
    for _ in range(3):
        await engine.step()
    assert seen == [0, 0, 0]


@pytest.mark.parametrize(
    ("answer", "waiting_for"),
    [(never_connected(), "vendor_retry"), ((429, {}, {"Retry-After": "7"}), "rate_limit")],
)
async def test_nothing_was_submitted_so_it_is_tried_again(
    engine: Engine, wire: Wire, answer: Answer, waiting_for: str
) -> None:
    wire.on(SUBMIT, *[answer] * (3 if isinstance(answer, Exception) else 1), (200, {"id": "1"}))
    id_ = await engine.create()
    await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["waiting_for"]["kind"]) == ("in_progress", waiting_for)
    assert view["attempts"][0]["state"] == "preparing"
    await engine.step()
    assert (await engine.view(id_))["attempts"][0]["state"] == "waiting"
    if waiting_for == "rate_limit":
        [wait] = await waits(engine, "retry_scheduled")
        assert 6.9 <= wait <= 7.6


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ReadTimeout("no reply"),
        httpx.RemoteProtocolError("cut"),
        (500, {}),
        (503, {}),
        (200, {"unexpected": True}),
        httpx.Response(200, content=b"{cut"),
    ],
)
async def test_a_lost_reply_waits_for_the_operator_and_is_never_sent_again(
    engine: Engine, wire: Wire, answer: Answer
) -> None:
    """Integrex has no look-up: a reply that did not come, or that says nothing, leaves the submission's fate open."""
    wire.on(SUBMIT, answer)
    id_ = await engine.create()
    for _ in range(2):
        await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["waiting_for"]["kind"]) == ("in_progress", "operator")
    assert view["attempts"][0]["state"] == "submitting"
    assert await engine.events() == ["verification.needs_attention"]
    assert wire.calls.count(SUBMIT) == 1
    await engine.run_sql("UPDATE work SET due_at = now(), next_check_at = now(), deadline = now()")
    await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["failure"]["code"]) == ("failed", "submission_unknown")
    assert wire.calls.count(SUBMIT) == 1


async def waits(engine: Engine, type_: str) -> list[float]:
    """How long each such row of the timeline, of the only verification, said that it would wait; seconds."""
    rows = await engine.rows("SELECT at, entries FROM history ORDER BY n")
    return [
        (datetime.fromisoformat(entry["next_check_at"]) - row.at).total_seconds()
        for row in rows
        for entry in row.entries
        if entry["type"] == type_
    ]


VSEE = "/vsee/api_v3/users"
VSEE_CHECK = f"POST {VSEE}/7/car7551/eligibility"
HARBOR = "/health_harbor/api/v0/mental_health"
HARBOR_SUBMIT = f"POST {HARBOR}/batch_inquiries"
HARBOR_LIST = f"GET {HARBOR}/inquiries"


async def lost(engine: Engine, asked: dict[str, Any]) -> str:
    """A verification the reply to whose submission is lost, when a look-up can find it."""
    id_ = await engine.create(**asked)
    await engine.step()
    await engine.run_sql("UPDATE work SET lookup_after = clock_timestamp()")
    return id_


async def test_a_look_up_that_cannot_tell_yet_is_no_error(engine: Engine, wire: Wire) -> None:
    """VSee shows a check when it has ended, within three minutes as a rule; then a person decides."""
    wire.on(f"POST {VSEE}/sso", (200, {"data": {"id": "7", "token": {"token": "t"}}}))
    wire.on("POST /vsee/api_v3/me", (200, VSEE_STORED))
    wire.on(VSEE_CHECK, httpx.RemoteProtocolError("cut"))
    wire.on(f"GET {VSEE}/7", (200, {"data": {"id": "7", "insurance": {}}}))
    id_ = await lost(engine, FOR_VSEE)
    for _ in range(3):
        await engine.step()
        view = await engine.view(id_)
        assert (view["waiting_for"]["kind"], view["attempts"][0]["state"]) == ("vendor", "submitting")
    assert await engine.timeline(id_) == ["created", "reply_lost", *["looked_up"] * 3]
    assert all(0.9 <= wait <= 1.1 for wait in await waits(engine, "looked_up"))
    assert (await engine.rows("SELECT errors_in_row FROM work"))[0].errors_in_row == 0
    assert await engine.events() == []
    await engine.run_sql("UPDATE work SET intent_at = intent_at - interval '3 min'")
    await engine.step()
    assert (await engine.view(id_))["waiting_for"]["kind"] == "operator"
    assert await engine.events() == ["verification.needs_attention"]
    assert wire.calls.count(VSEE_CHECK) == 1


@pytest.mark.parametrize(
    ("listed", "looks", "submissions", "waiting_for"),
    [
        ((200, [{"id": "other"}]), 1, 1, "operator"),  # the filter is ignored, and will be the next time
        ((400, {"detail": "unknown parameter"}), 1, 1, "operator"),
        ((200, {"unexpected": True}), 3, 1, "operator"),
    ],
)
async def test_what_a_look_up_can_tell(
    engine: Engine, wire: Wire, listed: Answer, looks: int, submissions: int, waiting_for: str
) -> None:
    wire.on(HARBOR_SUBMIT, httpx.RemoteProtocolError("cut"), (200, [{"success": True, "inquiry_id": "i1"}]))
    wire.on(HARBOR_LIST, listed)
    id_ = await lost(engine, FOR_HARBOR)
    for _ in range(looks - 1):
        await engine.step()
        assert (await engine.view(id_))["waiting_for"]["kind"] == "vendor_retry"
    for _ in range(submissions):
        await engine.step()
    view = await engine.view(id_)
    assert (view["waiting_for"]["kind"], len(view["attempts"])) == (waiting_for, submissions)
    assert (wire.calls.count(HARBOR_LIST), wire.calls.count(HARBOR_SUBMIT)) == (looks, submissions)


async def test_only_two_empty_lists_a_quarter_of_an_hour_apart_make_a_second_phone_call(
    engine: Engine, wire: Wire
) -> None:
    """An inquiry that they took on may come to be listed late."""
    wire.on(HARBOR_SUBMIT, httpx.RemoteProtocolError("cut"), (200, [{"success": True, "inquiry_id": "i1"}]))
    wire.on(HARBOR_LIST, (200, []))
    id_ = await lost(engine, FOR_HARBOR)
    await engine.step()
    await engine.step()  # too early, as if something had woken it
    assert wire.calls == [HARBOR_SUBMIT, HARBOR_LIST, HARBOR_LIST]
    rows = await engine.rows(
        "SELECT extract(epoch FROM next_check_at - attempt_created_at) AS wait FROM work WHERE next_check_at < deadline"
    )
    assert 890 <= rows[0].wait <= 910
    assert await engine.timeline(id_) == ["created", "reply_lost", "looked_up", "looked_up"]
    await engine.run_sql("UPDATE work SET intent_at = intent_at - interval '15 min'")
    for _ in range(2):
        await engine.step()
    view = await engine.view(id_)
    assert [row["state"] for row in view["attempts"]] == ["failed", "waiting"]
    assert wire.calls.count(HARBOR_SUBMIT) == 2


async def test_one_empty_list_makes_no_second_phone_call_however_late_it_is(engine: Engine, wire: Wire) -> None:
    """No worker ran for an hour: the first look is late enough, and alone."""
    wire.on(HARBOR_SUBMIT, httpx.RemoteProtocolError("cut"))
    wire.on(HARBOR_LIST, (200, []))
    id_ = await lost(engine, FOR_HARBOR)
    await engine.run_sql("UPDATE work SET intent_at = intent_at - interval '1 hour'")
    await engine.step()
    assert await engine.timeline(id_) == ["created", "reply_lost", "looked_up"]
    assert wire.calls == [HARBOR_SUBMIT, HARBOR_LIST]


async def test_a_worker_that_died_while_sending(engine: Engine, wire: Wire) -> None:
    """The intent is on disk, nobody knows more: the next worker waits until the call must be over, then does not send."""

    class Died(BaseException):
        pass

    wire.on(SUBMIT, Died())
    id_ = await engine.create()
    claimed = await engine.take()
    with pytest.raises(Died):
        await engine.advance(claimed)
    wire.on(SUBMIT, (200, {"id": "2"}))
    assert (await engine.view(id_))["attempts"][0]["state"] == "submitting"
    await engine.end_leases()
    await engine.step()
    assert (await engine.timeline(id_))[-1] == "submission_in_flight"
    await engine.run_sql("UPDATE work SET lookup_after = clock_timestamp()")
    await engine.step()
    assert (await engine.view(id_))["waiting_for"]["kind"] == "operator"
    assert wire.calls == [SUBMIT]


async def _given_up_while_it_sends(engine: Engine, wire: Wire, id_: str, gate: asyncio.Event) -> None:
    """A worker is held up with its submission under way; another one comes, learns nothing and calls an operator; the first
    goes on."""
    claimed = await engine.take()
    owner = asyncio.create_task(engine.advance(claimed))
    await eventually(lambda: wire.calls)
    await engine.run_sql("UPDATE work SET lookup_after = clock_timestamp() - interval '1 s'")
    await engine.end_leases()
    await engine.step()
    assert (await engine.view(id_))["waiting_for"]["kind"] == "operator"
    gate.set()
    await owner


async def test_a_paused_worker_brings_its_answer_after_others_gave_up_waiting(engine: Engine, wire: Wire) -> None:
    """What the reply to our own committing call tells is true whatever happened to the step meanwhile."""
    gate = asyncio.Event()

    async def paused(request: httpx.Request) -> httpx.Response:
        await gate.wait()
        return httpx.Response(200, json={"id": "9"})

    wire.on(SUBMIT, paused)
    id_ = await engine.create()
    await _given_up_while_it_sends(engine, wire, id_, gate)
    view = await engine.view(id_)
    assert (view["waiting_for"]["kind"], view["attempts"][0]["vendor_ref"]) == ("vendor", "9")
    assert wire.calls == [SUBMIT]


async def test_a_paused_worker_that_never_sent_says_so_after_others_gave_up_waiting(engine: Engine, wire: Wire) -> None:
    """It alone knows that there is no submission: without its word a person would have to find that out."""
    gate = asyncio.Event()

    async def paused(request: httpx.Request) -> httpx.Response:
        await gate.wait()
        raise never_connected()

    wire.on(SUBMIT, paused, paused, paused, (200, {"id": "9"}))
    id_ = await engine.create()
    await _given_up_while_it_sends(engine, wire, id_, gate)
    view = await engine.view(id_)
    assert (view["waiting_for"]["kind"], view["attempts"][0]["state"]) == ("vendor_retry", "preparing")
    await engine.step()
    assert (await engine.view(id_))["attempts"][0]["state"] == "waiting"


async def test_refused_credentials_end_nothing_before_the_deadline(engine: Engine, wire: Wire) -> None:
    wire.on(SUBMIT, (401, {}))
    id_ = await engine.create()
    await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["waiting_for"]["kind"]) == ("in_progress", "credentials")
    assert (view["next_check_at"], view["attempts"][0]["state"]) == (view["deadline"], "preparing")
    await engine.run_sql("UPDATE work SET due_at = now(), next_check_at = now(), deadline = now()")
    await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["failure"]["code"]) == ("failed", "vendor_auth_failed")


async def test_a_rejected_request_ends_it(engine: Engine, wire: Wire) -> None:
    wire.on(SUBMIT, (400, {"message": "bad data"}))
    id_ = await engine.create()
    await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["failure"]["code"]) == ("failed", "request_rejected")
    assert view["attempts"][0]["submitted_at"] is None


async def test_unreadable_answers_end_it_after_three(engine: Engine, wire: Wire) -> None:
    wire.on(POLL, httpx.Response(200, content=b"<html>"))
    id_ = await engine.create()
    for _ in range(4):
        await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["failure"]["code"]) == ("failed", "vendor_protocol_error")
    rows = await engine.rows("SELECT sum(cardinality(contents_sealed)) FROM history")
    assert rows[0][0] == 4  # the unreadable ones are kept too


async def test_only_unreadable_answers_count_as_unreadable(engine: Engine, wire: Wire) -> None:
    """Two 503s and a proxy's page are no three unreadable replies, and one good reply is enough to complete it."""
    page = httpx.Response(200, content=b"<html>")
    wire.on(POLL, (503, {}), (503, {}), page, (503, {}), page, page, (200, ACTIVE))
    id_ = await engine.create()
    for _ in range(8):
        assert (await engine.view(id_))["status"] != "failed"
        await engine.step()
    assert (await engine.view(id_))["status"] == "completed"
    entries = [entry for entry in await engine.entries(id_) if entry["type"] == "retry_scheduled"]
    assert entries[-1]["message"].endswith("(error 6 in a row)")  # the pauses go on growing


async def test_a_failing_poll_is_retried_on_the_schedule(engine: Engine, wire: Wire) -> None:
    wire.on(POLL, *[(503, {})] * 3, (200, ACTIVE))
    id_ = await engine.create()
    for _ in range(4):
        await engine.step()
    for wait, seconds in zip(
        await waits(engine, "retry_scheduled"), (1, 5, 30), strict=True
    ):  # 1 s, 5 s, 30 s, each ± 20 %
        assert 0.75 * seconds <= wait <= 1.25 * seconds
    await engine.step()
    assert (await engine.view(id_))["status"] == "completed"


@pytest.mark.parametrize(
    ("waiting_for", "code"),
    [
        ("vendor", FailureCode.DEADLINE_EXCEEDED),
        ("vendor_retry", FailureCode.VENDOR_UNAVAILABLE),
        ("rate_limit", FailureCode.VENDOR_RATE_LIMITED),
    ],
)
async def test_the_deadline_says_what_it_waited_for(engine: Engine, waiting_for: str, code: FailureCode) -> None:
    id_ = await engine.create()
    await engine.step()
    await engine.run_sql(
        "UPDATE work SET waiting_for = :w, next_check_at = now(), due_at = now(), deadline = now()",
        w=waiting_for,
    )
    await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["failure"]["code"]) == ("failed", code.value)
    assert view["attempts"][0]["state"] == "abandoned"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (None, FailureCode.INTERNAL_ERROR),
        ((503, {}), FailureCode.VENDOR_UNAVAILABLE),
        ((401, {}), FailureCode.VENDOR_AUTH_FAILED),
        ((429, {}), FailureCode.VENDOR_RATE_LIMITED),
        ((202, {}), FailureCode.DEADLINE_EXCEEDED),
    ],
)
async def test_the_deadline_says_what_the_last_error_was(
    engine: Engine, wire: Wire, answer: Answer | None, code: FailureCode
) -> None:
    """After an error of our own. None: there were only such."""
    if answer is not None:
        wire.on(POLL, answer)
    id_ = await engine.create()
    await engine.step()
    await engine.failed_inside(await engine.take())
    if answer is not None:
        await engine.step()
    view = await engine.view(id_)
    assert view["attempts"][0]["failure_code"] is None  # nothing has failed yet
    await engine.run_sql("UPDATE work SET due_at = now(), next_check_at = now(), deadline = now()")
    await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["failure"]["code"]) == ("failed", code.value)
    assert view["attempts"][0]["failure_code"] == code.value


async def test_an_error_that_passed_leaves_no_trace_on_what_was_answered(engine: Engine, wire: Wire) -> None:
    wire.on(POLL, (503, {}), (200, ACTIVE))
    id_ = await engine.create()
    for _ in range(3):
        await engine.step()
    view = await engine.view(id_)
    assert (view["status"], view["attempts"][0]["failure_code"]) == ("completed", None)


async def test_no_vendor_tells_how_long_it_keeps_an_answer(engine: Engine, wire: Wire) -> None:
    wire.on(POLL, (202, {}), (200, ACTIVE))
    id_ = await engine.create()
    for _ in range(3):
        await engine.step()
        assert [attempt["expires_at"] for attempt in (await engine.view(id_))["attempts"]] == [None]


async def test_next_check_is_never_past_the_deadline(engine: Engine) -> None:
    await engine.create()
    await engine.run_sql("UPDATE work SET deadline = clock_timestamp() + interval '0.5 s'")
    await engine.step()
    [row] = await engine.rows("SELECT next_check_at, due_at, deadline FROM work")
    assert row.next_check_at == row.due_at == row.deadline


async def test_a_reply_in_hand_survives_the_loss_of_all_connections(engine: Engine, wire: Wire) -> None:
    """The vendor has taken the submission on; at that moment every backend is terminated."""

    async def cut(request: httpx.Request) -> httpx.Response:
        await engine.rows(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return httpx.Response(200, json={"id": "5"})

    wire.on(SUBMIT, cut)
    id_ = await engine.create()
    warm = [asyncio.create_task(engine.view(id_)) for _ in range(8)]  # so that the pool holds connections to be cut
    await asyncio.gather(*warm)
    await engine.step()
    view = await engine.view(id_)
    assert (view["attempts"][0]["state"], view["attempts"][0]["vendor_ref"]) == ("waiting", "5")
    assert wire.calls == [SUBMIT]
