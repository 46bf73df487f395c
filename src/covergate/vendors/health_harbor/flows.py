"""The calls to Health Harbor: one inquiry is one phone call, so it is created once, looked up after a lost reply, and read.

Sources: the OpenAPI document of `POST …/batch_inquiries`; the API reference for reading and listing.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from covergate.eligibility.answer import Answer
from covergate.eligibility.failure import FailureCode, failure
from covergate.vendors.document import unexplained_word
from covergate.vendors.errors import VendorBroken
from covergate.vendors.flow import (
    Call,
    CheckFlow,
    FindFlow,
    Flow,
    NotFound,
    NotYet,
    Pending,
    ProbeFlow,
    Question,
    Refused,
    Reply,
    ended,
)
from covergate.vendors.health_harbor.answer import answer_of, rejection_of
from covergate.vendors.health_harbor.batch import BATCH_PATH
from covergate.vendors.health_harbor.codes import call_state
from covergate.vendors.health_harbor.request import dashed, note_of_date, request_of
from covergate.vendors.pace import Pace

_INQUIRIES = "/api/v0/mental_health/inquiries"

_SUBMIT_TIMEOUT = 60.0
"""Seconds. Longer than a batch should take, so that no call is given up while it is still being worked on."""

_LIST_LIMIT = "5"
"""Few, since a list that ignores the filter shows other people's inquiries."""

_LISTED_WITHIN = timedelta(minutes=15)
"""How long after the intent an inquiry may still come to be listed: a guess, for nothing is promised."""

_BETWEEN_LOOK_UPS = timedelta(minutes=5)
"""The two empty lists that prove something are at least so far apart."""

_PACE = Pace(multiples=(1, 2, 4, 8, 12))
"""5 minutes twice, after the submission and after the first check, then 10, 20, 40 and every 60."""


def submit(question: Question) -> Flow:
    reply = yield Call("POST", BATCH_PATH, json=[request_of(question)], commits=True, timeout=_SUBMIT_TIMEOUT)
    if not reply.ok:
        return Refused(rejection_of(reply))
    match reply.body:
        case [{"success": True, "inquiry_id": str(ref)}] if ref:
            return Pending(ref=ref, again_in=_wait(question))
        case [{"success": False}]:
            return Refused(failure(FailureCode.REQUEST_REJECTED, vendor_code="success:false"))
    raise VendorBroken("the reply to a new inquiry is not one row with an id", sent=True, reply=reply)


def check(question: Question, ref: str) -> CheckFlow:
    """A 4xx on an inquiry that was created is no answer: the call may go on, and the deadline rules.

    The rows that answer a batch name no request, so an id may be another inquiry's of that batch. The inquiry echoes its request:
    one that is not ours is never answered from, and ours is looked for by its `external_id`.
    """
    reply = yield _read(question, ref)
    if reply.ok and not _is_inquiry(reply, ref):
        raise VendorBroken("the reply is not the inquiry asked for", sent=True, reply=reply)
    if reply.ok and not _is_ours(reply.body, question):
        listed = yield _list(question)
        own = _own_id(listed, question)
        if own is None:
            return NotFound()
        reply = yield _read(question, own)
        if reply.ok and not (_is_inquiry(reply, own) and _is_ours(reply.body, question)):
            raise VendorBroken("the reply is not the inquiry asked for", sent=True, reply=reply)
    outcome = answer_of(question.inquiry, reply) if reply.ok else None
    if isinstance(outcome, Answer) and (note := note_of_date(question)) is not None:
        outcome = outcome.model_copy(update={"notes": [*outcome.notes, note]})
    if outcome is not None:
        return ended(outcome)
    still_pending = Pending(ref=ref, again_in=_wait(question))
    if not reply.ok or call_state(reply.body.get("status")) is not None:
        return still_pending
    return replace(still_pending, unexplained=unexplained_word(reply.body.get("status")))


def find(question: Question) -> FindFlow:
    """The list of inquiries by `external_id`, which is the attempt's id.

    The filter is known only from a client of the dental API, so it is not trusted: a list of other inquiries shows
    that the filter was ignored, as it will be the next time. An empty list proves that there is no such inquiry if an
    earlier one was empty, too, and the last one is late enough: a second inquiry is a second phone call.
    """
    reply = yield _list(question)
    if not reply.ok:
        return NotFound()
    own = _own_id(reply, question)
    if own is not None:
        return Pending(ref=own, again_in=timedelta(0))
    if reply.body:
        return NotFound()
    submitted_at = question.submitted_at or question.now
    settles_in = submitted_at + _LISTED_WITHIN - question.now
    if question.look_ups == 0 or settles_in > timedelta(0):
        return NotYet(max(settles_in, _BETWEEN_LOOK_UPS))
    return NotFound(proven=True)


def probe(connection: Any) -> ProbeFlow:
    """An inquiry that cannot be; the list would hold other people's."""
    yield Call("GET", f"{_INQUIRIES}/00000000-0000-4000-8000-000000000000")


def _read(question: Question, ref: str) -> Call:
    def about(reply: Reply) -> bool:
        return not reply.ok or _is_ours(reply.body, question)

    return Call("GET", f"{_INQUIRIES}/{quote(ref, safe='')}", is_about_patient=about)


def _list(question: Question) -> Call:
    def about(reply: Reply) -> bool:
        rows = reply.body if isinstance(reply.body, list) else [reply.body]
        return not reply.ok or all(_is_ours(row, question) for row in rows)

    params = {"external_id": question.attempt_id, "limit": _LIST_LIMIT}
    return Call("GET", _INQUIRIES, params=params, is_about_patient=about)


def _own_id(reply: Reply, question: Question) -> str | None:
    """The id of our inquiry among the listed ones."""
    if not reply.ok:
        return None
    if not isinstance(reply.body, list):
        raise VendorBroken("the reply is not a list of inquiries", sent=True, reply=reply)
    return next((str(row["id"]) for row in reply.body if _is_ours(row, question) and row.get("id")), None)


def _is_inquiry(reply: Reply, ref: str) -> bool:
    return isinstance(reply.body, dict) and reply.body.get("id", ref) == ref


def _is_ours(row: Any, question: Question) -> bool:
    """Whether the inquiry echoes our id, and no other patient's number or birth date."""
    patient = question.inquiry.patient
    ours = {"member_id": patient.member_id, "dob": dashed(patient.date_of_birth)}
    match row:
        case {"request": {"external_id": question.attempt_id, **echo}}:
            return all(echo.get(name, value) == value for name, value in ours.items())
    return False


def _wait(question: Question) -> timedelta:
    return _PACE.wait(question.checks, question.connection.poll_seconds)
