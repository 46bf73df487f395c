"""The calls to Health Harbor: one inquiry is one phone call, so it is created once, looked up after a lost reply, and read.

Sources: the OpenAPI document of `POST …/batch_inquiries`; the API reference for reading and listing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

from covergate.eligibility.failure import FailureCode, failure
from covergate.vendors.errors import VendorBroken
from covergate.vendors.flow import (
    Call,
    FindFlow,
    Flow,
    NotFound,
    NotYet,
    Pending,
    ProbeFlow,
    Question,
    Refused,
    ended,
)
from covergate.vendors.health_harbor.answer import answer_of, rejection_of
from covergate.vendors.health_harbor.batch import BATCH_PATH
from covergate.vendors.health_harbor.request import dashed, request_of
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


def check(question: Question, ref: str) -> Flow:
    """A 4xx on an inquiry that was created is no answer: the call may go on, and the deadline rules."""
    reply = yield Call("GET", f"{_INQUIRIES}/{quote(ref, safe='')}")
    if not reply.ok:
        return Pending(ref=ref, again_in=_wait(question))
    if not isinstance(reply.body, dict) or reply.body.get("id", ref) != ref:
        raise VendorBroken("the reply is not the inquiry asked for", sent=True, reply=reply)
    outcome = answer_of(question.inquiry, reply)
    return Pending(ref=ref, again_in=_wait(question)) if outcome is None else ended(outcome)


def find(question: Question) -> FindFlow:
    """The list of inquiries by `external_id`, which is the attempt's id.

    The filter is known only from a client of the dental API, so it is not trusted: a list of other inquiries shows
    that the filter was ignored, as it will be the next time. An empty list proves that there is no such inquiry if an
    earlier one was empty, too, and the last one is late enough: a second inquiry is a second phone call.
    """
    reply = yield Call("GET", _INQUIRIES, params={"external_id": question.attempt_id, "limit": _LIST_LIMIT})
    if not reply.ok:
        return NotFound()
    if not isinstance(reply.body, list):
        raise VendorBroken("the reply is not a list of inquiries", sent=True, reply=reply)
    for row in reply.body:
        if _is_ours(row, question):
            return Pending(ref=row["id"], again_in=timedelta(0))
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


def _is_ours(row: Any, question: Question) -> bool:
    patient = question.inquiry.patient
    match row:
        case {"id": str(), "request": {"external_id": external_id, "member_id": member_id, "dob": dob}}:
            ours = (question.attempt_id, patient.member_id, dashed(patient.date_of_birth))
            return (external_id, member_id, dob) == ours
    return False


def _wait(question: Question) -> timedelta:
    return _PACE.wait(question.checks, question.connection.poll_seconds)
