"""The calls to Health Harbor: one inquiry is one phone call, so it is created once, looked up after a lost reply, and read.

`POST …/batch_inquiries` is their OpenAPI document; reading and listing are their API reference.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.vendors.errors import VendorBroken
from covergate.vendors.flow import Answered, Call, FindFlow, Flow, NotFound, Pending, Progress, Question, Refused, Reply
from covergate.vendors.health_harbor import batch
from covergate.vendors.health_harbor.codes import CallState, call_state
from covergate.vendors.health_harbor.request import american, request_of
from covergate.vendors.health_harbor.results import statement_of

INQUIRIES = "/api/v0/mental_health/inquiries"

SUBMIT_TIMEOUT = 60.0
"""Seconds. Longer than a batch should take them, so that a call given up is not one that they are still working on."""

LIST_LIMIT = "5"
"""Few, since a list that ignored the filter would show other people's inquiries."""

SLOWEST_PACE = 12
"""Waits double from the first to this many times it: 5, 10, 20, 40, 60, 60, … minutes."""


def submit(question: Question) -> Flow:
    reply = yield Call("POST", batch.PATH, json=[request_of(question)], commits=True, timeout=SUBMIT_TIMEOUT)
    if not reply.ok:
        return Refused(_rejection(reply))
    match reply.body:
        case [{"success": True, "inquiry_id": str(ref)}] if ref:
            return Pending(ref=ref, again_in=_wait(question))
        case [{"success": False}]:
            return Refused(failure(FailureCode.REQUEST_REJECTED, vendor_code="success:false"))
    raise VendorBroken("the reply to a new inquiry is not one row with an id", sent=True, reply=reply)


def check(question: Question, ref: str) -> Flow:
    """A 4xx on an inquiry that was created is no answer: the call may go on, and the deadline rules."""
    reply = yield Call("GET", f"{INQUIRIES}/{quote(ref, safe='')}")
    if not reply.ok:
        return Pending(ref=ref, again_in=_wait(question))
    if not isinstance(reply.body, dict) or reply.body.get("id", ref) != ref:
        raise VendorBroken("the reply is not the inquiry asked for", sent=True, reply=reply)
    return _progress(question, ref, reply)


def find(question: Question) -> FindFlow:
    """Their list by `external_id`, which is the attempt's id.

    The filter is known only from a client of their dental API. So it is not trusted: an empty list proves that there is
    no such inquiry, but a list of other inquiries shows that the filter was ignored, and it will be the next time, too.
    """
    reply = yield Call("GET", INQUIRIES, params={"external_id": question.attempt_id, "limit": LIST_LIMIT})
    if not reply.ok:
        return NotFound()
    if not isinstance(reply.body, list):
        raise VendorBroken("the reply is not a list of inquiries", sent=True, reply=reply)
    for row in reply.body:
        if _is_ours(row, question):
            return Pending(ref=row["id"], again_in=timedelta(0))
    return NotFound(proven=not reply.body)


def _is_ours(row: Any, question: Question) -> bool:
    patient = question.inquiry.patient
    match row:
        case {"id": str(), "request": {"external_id": external_id, "member_id": member_id, "dob": dob}}:
            given = (question.attempt_id, patient.member_id, american(patient.date_of_birth))
            return (external_id, member_id, dob) == given
    return False


def _progress(question: Question, ref: str, reply: Reply) -> Progress:
    body = reply.body
    state = call_state(body.get("status"))
    if state is CallState.FAILED:
        words = body.get("summary")
        return Refused(
            failure(
                FailureCode.VENDOR_COULD_NOT_ANSWER,
                vendor_code=body["status"],
                vendor_message=words if isinstance(words, str) and words else None,
            )
        )
    if state is CallState.FINISHED and body.get("results") is not None:
        return Answered(statement_of(question.inquiry, reply))
    return Pending(ref=ref, again_in=_wait(question))


def _wait(question: Question) -> timedelta:
    return timedelta(seconds=question.connection.poll_seconds * min(2 ** min(question.checks, 10), SLOWEST_PACE))


def _rejection(reply: Reply) -> Failure:
    """A 422 names the fields that were not accepted: `tax_id, dob`; other refusals have only their status."""
    errors = reply.body.get("detail") if isinstance(reply.body, dict) else None
    if isinstance(errors, str):
        return failure(FailureCode.REQUEST_REJECTED, vendor_code=str(reply.status), vendor_message=errors)
    rows = [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    fields = [str(error["loc"][-1]) for error in rows if isinstance(error.get("loc"), list) and error["loc"]]
    words = [str(error["msg"]) for error in rows if "msg" in error]
    return failure(
        FailureCode.REQUEST_REJECTED,
        vendor_code=", ".join(dict.fromkeys(fields)) or str(reply.status),
        vendor_message="; ".join(words) or None,
    )
