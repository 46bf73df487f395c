"""The calls to Integrex: POST gives a ticket, GET asks for its answer every 15 seconds.

Source: "Integrex Health Enhanced Eligibility V2" (PDF). There is neither a search nor a webhook: a ticket whose reply was
lost is lost. Version 1 drops an answer 5,000 seconds after the request; version 2 is taken to do the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta

from covergate.eligibility.failure import Aaa, Failure, FailureCode, failure
from covergate.eligibility.inquiry import Inquiry
from covergate.eligibility.x12.codes import CANNOT_PROCESS, aaa_code_of_text, aaa_failure
from covergate.eligibility.x12.names import AAA03_NAMES
from covergate.vendors.document import Node, token
from covergate.vendors.errors import VendorBroken
from covergate.vendors.flow import Answered, Call, Flow, Pending, Progress, Question, Refused, Reply
from covergate.vendors.integrex.fields import Fields
from covergate.vendors.integrex.statement import coverage_of, statement_of

PATH = "/api/v2/enhanced-eligibility"
ANSWER_KEPT = timedelta(seconds=5000)
DEFAULT_SERVICE_TYPE = "30"


def submit(question: Question) -> Flow:
    reply = yield Call("POST", PATH, json=request_of(question), headers=_headers(question), commits=True)
    if not reply.ok:
        return Refused(_rejection(reply))
    ticket = Node(reply.body, reply.body_pointer).read("id", token).value
    if ticket is None:
        raise VendorBroken("no_ticket", sent=True, reply=reply)
    return _pending(question, ticket)


def check(question: Question, ref: str) -> Flow:
    reply = yield Call("GET", PATH, params={"id": ref}, headers=_headers(question))
    if reply.status in (202, 404):
        # An unknown ticket is not documented; ours was given out, so it is waited for until it would have expired.
        return _pending(question, ref)
    if not reply.ok:
        return Refused(_rejection(reply))
    fields = Fields.of(reply)
    if not fields.is_answer:
        raise VendorBroken("no_documented_field", sent=True, reply=reply)
    return _progress(fields, question, reply)


def _progress(fields: Fields, question: Question, reply: Reply) -> Progress:
    """Coverage that is stated is the answer; only without it can the request's status be a reason why there is none."""
    reading = coverage_of(fields)
    if not reading.is_stated:
        refusal = _refusal(fields)
        if refusal is not None:
            return Refused(refusal)
        if fields.text("coverageStatusCode").value == CANNOT_PROCESS:
            said = fields.text("coverageStatusDesc").value
            return Refused(
                failure(FailureCode.PAYER_MANUAL_CHECK_REQUIRED, vendor_code=CANNOT_PROCESS, vendor_message=said)
            )
    return Answered(statement_of(fields, question, reply.at))


def request_of(question: Question) -> dict[str, str]:
    """All strings; what was not given is left out. The subscriber's fields only when the patient is not the subscriber."""
    inquiry, options = question.inquiry, question.options
    patient, subscriber, service = inquiry.patient, inquiry.subscriber, inquiry.service
    fields = {
        "patientFirstName": patient.first_name,
        "patientLastName": patient.last_name,
        "patientDob": patient.date_of_birth.isoformat(),
        "patientGender": _gender(patient.gender),
        "patientSsn": patient.ssn,
        "memberId": patient.member_id,
        "billingProviderNpi": inquiry.provider.npi,
        "beginDos": inquiry.service_date.isoformat(),
        "endDos": (service.end_date or inquiry.service_date).isoformat(),
        "serviceType": service_type(inquiry),
        "payerId": question.payer_codes.get("payer_id", inquiry.payer.id),
        "payerName": inquiry.payer.name,
        "employerName": inquiry.insured.employer_name or patient.employer_name,
        "internalAccountNumber1": options.account_number_1 or question.attempt_id,
        "internalAccountNumber2": options.account_number_2,
    }
    if subscriber is not None:
        fields |= {
            "subscriberFirstName": subscriber.first_name,
            "subscriberLastName": subscriber.last_name,
            "subscriberDob": subscriber.date_of_birth.isoformat(),
            "subscriberGender": _gender(subscriber.gender),
            "subscriberSsn": subscriber.ssn,
        }
    return {name: value for name, value in fields.items() if value is not None}


def service_type(inquiry: Inquiry) -> str:
    """ "2 numerical digit service type identifier": the first of the asked ones that is, else 30, the whole plan."""
    index = _sent_service_type(inquiry)
    return DEFAULT_SERVICE_TYPE if index is None else inquiry.service.service_type_codes[index]


def other_service_types(inquiry: Inquiry, today: date) -> frozenset[str]:
    """Pointers to the service types that were not sent: one request has room for one."""
    sent = _sent_service_type(inquiry)
    asked = range(len(inquiry.service.service_type_codes))
    return frozenset(f"/service/service_type_codes/{index}" for index in asked if index != sent)


def _sent_service_type(inquiry: Inquiry) -> int | None:
    for index, code in enumerate(inquiry.service.service_type_codes):
        if re.fullmatch(r"[0-9]{2}", code):
            return index
    return None


def _gender(gender: str | None) -> str | None:
    """ "Single character gender identifier ("F" or "M")"; nothing else is sent."""
    return str(gender) if gender in ("F", "M") else None


def _headers(question: Question) -> Mapping[str, str] | None:
    return {"env": "T"} if question.connection.env == "T" else None


def _pending(question: Question, ticket: str) -> Pending:
    return Pending(ticket, again_in=timedelta(seconds=question.connection.poll_seconds), expires_in=ANSWER_KEPT)


def _refusal(fields: Fields) -> Failure | None:
    """A `requestStatusCode` that is an AAA03 code, or a `requestStatus` with the words of one."""
    code, said = fields.text("requestStatusCode"), fields.text("requestStatus")
    if code.value in AAA03_NAMES:
        rejected = Aaa(code=code.value, sources=list(code.pointers))
    elif said.value is not None and (meant := aaa_code_of_text(said.value)) is not None:
        rejected = Aaa(code=meant, sources=list(said.pointers))
    else:
        return None
    return aaa_failure([rejected], vendor_message=said.value)


def _rejection(reply: Reply) -> Failure:
    """A 4xx. Its body is not documented, so the usual names of a message are tried."""
    body = Node(reply.body, reply.body_pointer)
    said = next(
        (found for key in ("message", "error", "error_description", "detail") if (found := body.text(key))), None
    )
    if said is not None and said.value is not None and (meant := aaa_code_of_text(said.value)) is not None:
        return aaa_failure([Aaa(code=meant, sources=list(said.pointers))], vendor_message=said.value)
    message = said.value if said is not None else reply.content[:500].decode(errors="replace") or None
    return failure(FailureCode.REQUEST_REJECTED, vendor_code=f"http_{reply.status}", vendor_message=message)
