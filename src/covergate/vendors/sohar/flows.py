"""The calls to Sohar: one creates a verification, one reads it. There is no search, so a lost reply waits for the event.

Sources: "Create Verification" and "Get Verification" v2 (docs.soharhealth.com).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any
from urllib.parse import quote

from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.vendors.document import Node, token
from covergate.vendors.errors import VendorBroken
from covergate.vendors.flow import Answered, Call, Flow, ListedPayer, PayersFlow, Pending, Question, Refused, Reply
from covergate.vendors.sohar import codes
from covergate.vendors.sohar.statement import statement_of

VERIFICATIONS = "/v2/verifications"
PAYERS = "/v1/payers"

PACE = (1, 2, 4, 7.5, 15, 30, 60, 120, 300)
"""Multiples of the first wait: 2, 4, 8, 15, 30 s, then 1, 2, 4 and 10 minutes; after these `SLOWEST`."""
SLOWEST = timedelta(minutes=30)
LEAST_BASE = 0.1
"""What the later waits grow from where the first wait is set to less, so that polling never spins."""


def submit(question: Question) -> Flow:
    reply = yield Call("POST", VERIFICATIONS, json=request_of(question), commits=True)
    if not reply.ok:
        return Refused(_rejection(reply))
    ref = Node(reply.body, reply.body_pointer).read("verificationId", token).value
    if ref is None:
        raise VendorBroken("no_verification_id", sent=True, reply=reply)
    return Pending(ref, again_in=_wait(question, 0))


def check(question: Question, ref: str) -> Flow:
    reply = yield Call("GET", f"{VERIFICATIONS}/{quote(ref, safe='')}")
    still_pending = Pending(ref, again_in=_wait(question, question.checks + 1))
    if not reply.ok:
        # Sohar took the verification on, so a 404 here is its delay or our wrong credentials, not an answer.
        return still_pending
    body = Node(reply.body, reply.body_pointer)
    status = body.read("status", token).value
    if status is None:
        raise VendorBroken("no_status", sent=True, reply=reply)
    if status in (codes.ELIGIBLE, codes.INELIGIBLE):
        return Answered(statement_of(body, question, reply.at))
    if status in codes.ERRORS or status.startswith("error."):
        return Refused(_refusal(status, body.read("statusReason", token).value))
    return still_pending


def list_payers(connection: Any) -> PayersFlow:
    """The path is a guess (the page is known by name only); a payer is known by its id and by each alias."""
    reply = yield Call("GET", PAYERS)
    if not isinstance(reply.body, list):
        raise VendorBroken("no_payer_list", sent=True, reply=reply)
    listed = []
    for payer in Node({"payers": reply.body}, reply.pointer).rows("payers"):
        id_, name, aliases = (
            payer.read("payerId", token).value,
            payer.text("payerName").value,
            payer.at("aliasPayerNames"),
        )
        if id_ is not None and name is not None:
            names = aliases.value if isinstance(aliases.value, list) else []
            listed.append(
                ListedPayer(
                    name=name,
                    codes={"payer_id": id_},
                    electronic_id=id_,
                    aliases=tuple(alias for alias in names if isinstance(alias, str)),
                )
            )
    return listed


def request_of(question: Question) -> dict[str, Any]:
    inquiry = question.inquiry
    patient, subscriber, service = inquiry.patient, inquiry.subscriber, inquiry.service
    request: dict[str, Any] = {
        "id": question.attempt_id,
        "patient": {
            "firstName": patient.first_name,
            "lastName": patient.last_name,
            "dateOfBirth": american(patient.date_of_birth),
            "state": patient.address.state if patient.address else None,
            "memberId": patient.member_id,
        },
        "payerId": payer_id(inquiry.payer.id, question.payer_codes),
        "placeOfServiceCode": service.place_of_service_code,
        "specialtyCode": service.specialty.value if service.specialty else None,
    }
    if subscriber is not None:
        request["subscriber"] = {
            "firstName": subscriber.first_name,
            "lastName": subscriber.last_name,
            "dateOfBirth": american(subscriber.date_of_birth),
        }
    return request


def payer_id(asked: str | None, payer_codes: Mapping[str, str]) -> str | None:
    """Sohar's own id where the directory knows it, else the electronic id."""
    return payer_codes.get("payer_id", asked)


def american(day: date) -> str:
    return f"{day:%m/%d/%Y}"


def _wait(question: Question, number: int) -> timedelta:
    """The wait before check `number`, the first being 0."""
    first: float = question.connection.poll_seconds
    if number == 0:
        return timedelta(seconds=first)
    if number >= len(PACE):
        return SLOWEST
    return min(timedelta(seconds=max(first, LEAST_BASE) * PACE[number]), SLOWEST)


def _rejection(reply: Reply) -> Failure:
    body = Node(reply.body, reply.body_pointer)
    param = body.read("param", token).value
    if param is not None and param.rpartition(".")[2] == "payerId":
        return failure(FailureCode.PAYER_NOT_RECOGNIZED, vendor_code=param)
    error = param or body.read("error", token).value or f"http_{reply.status}"
    return failure(FailureCode.REQUEST_REJECTED, vendor_code=error)


def _refusal(status: str, reason: str | None) -> Failure:
    if reason == codes.CONTACT_PAYER:
        return failure(FailureCode.PAYER_MANUAL_CHECK_REQUIRED, vendor_code=reason)
    code = codes.ERRORS.get(status, FailureCode.REQUEST_REJECTED)
    return failure(code, vendor_code=status, vendor_message=reason)
