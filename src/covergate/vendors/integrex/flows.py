"""The calls to Integrex: POST gives a ticket, GET asks for its answer every 15 seconds.

Source: "Integrex Health Enhanced Eligibility V2" (PDF). There is neither a search nor an event: a ticket whose reply was
lost is lost. Version 1 dropped an answer 5,000 seconds after the request; version 2 states no limit, so a ticket is asked for
until the deadline, or until Integrex says that it is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from covergate.eligibility.failure import FailureCode, failure
from covergate.vendors.document import Node, token
from covergate.vendors.errors import VendorBroken
from covergate.vendors.flow import Call, Flow, Pending, ProbeFlow, Question, Refused, ended
from covergate.vendors.integrex.answer import answer_of, rejection_of
from covergate.vendors.integrex.fields import Fields
from covergate.vendors.integrex.request import request_of
from covergate.vendors.pace import Pace

_PATH = "/api/v2/enhanced-eligibility"
_GONE = 410
_PACE = Pace(multiples=(1,))


def submit(question: Question) -> Flow:
    reply = yield Call("POST", _PATH, json=request_of(question), headers=_headers(question), commits=True)
    if not reply.ok:
        return Refused(rejection_of(reply))
    ticket = Node(reply.body, reply.body_pointer).read("id", token).value
    if ticket is None:
        raise VendorBroken("no_ticket", sent=True, reply=reply)
    return _pending(question, ticket)


def check(question: Question, ref: str) -> Flow:
    reply = yield Call("GET", _PATH, params={"id": ref}, headers=_headers(question))
    if reply.status in (202, 404):
        # An unknown ticket is not documented; ours was given out, so it is waited for.
        return _pending(question, ref)
    if reply.status == _GONE:
        return Refused(failure(FailureCode.VENDOR_COULD_NOT_ANSWER, vendor_code=f"http_{reply.status}"))
    if not reply.ok:
        return Refused(rejection_of(reply))
    fields = Fields.of(reply)
    if not fields.is_answer:
        raise VendorBroken("no_documented_field", sent=True, reply=reply)
    return ended(answer_of(fields, question, reply.at))


def probe(connection: Any) -> ProbeFlow:
    """A ticket that was never given out: it takes a token to be told so."""
    yield Call("GET", _PATH, params={"id": "0"}, headers=_environment(connection))


def _headers(question: Question) -> Mapping[str, str] | None:
    return _environment(question.connection)


def _environment(connection: Any) -> Mapping[str, str] | None:
    return {"env": "T"} if connection.env == "T" else None


def _pending(question: Question, ticket: str) -> Pending:
    again_in = _PACE.wait(question.checks, question.connection.poll_seconds)
    return Pending(ticket, again_in=again_in)
