"""The calls to Sohar: one creates a verification, one reads it. There is no search, so a lost reply waits for the event.

Sources: "Create Verification" and "Get Verification" v2 (docs.soharhealth.com).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from covergate.vendors.document import Node, token, unexplained_word
from covergate.vendors.errors import VendorBroken
from covergate.vendors.flow import Call, Flow, ListedPayer, PayersFlow, Pending, ProbeFlow, Question, Refused, ended
from covergate.vendors.pace import Pace
from covergate.vendors.sohar.answer import answer_of, rejection_of
from covergate.vendors.sohar.codes import PENDING
from covergate.vendors.sohar.request import request_of

_VERIFICATIONS = "/v2/verifications"

_PACE = Pace(multiples=(1, 2, 4, 7.5, 15, 30, 60, 120, 300, 18_000), slowest=30 * 60, least_first=0.1)
"""2, 4, 8, 15, 30 s, then 1, 2, 4 and 10 minutes, then every 30 minutes whatever the first wait."""


def submit(question: Question) -> Flow:
    reply = yield Call("POST", _VERIFICATIONS, json=request_of(question), commits=True)
    if not reply.ok:
        return Refused(rejection_of(reply))
    ref = Node(reply.body, reply.body_pointer).read("verificationId", token).value
    if ref is None:
        raise VendorBroken("no_verification_id", sent=True, reply=reply)
    return Pending(ref, again_in=_wait(question, 0))


def check(question: Question, ref: str) -> Flow:
    reply = yield Call("GET", f"{_VERIFICATIONS}/{quote(ref, safe='')}")
    still_pending = Pending(ref, again_in=_wait(question, question.checks + 1))
    if not reply.ok:
        # Sohar took the verification on, so a 404 here is its delay or our wrong credentials, not an answer.
        return still_pending
    body = Node(reply.body, reply.body_pointer)
    if body.read("status", token).value is None:
        raise VendorBroken("no_status", sent=True, reply=reply)
    if body.read("verificationId", token).value not in (ref, None):
        raise VendorBroken("the reply is another verification", sent=True, reply=reply)
    outcome = answer_of(body, question, reply.at)
    if outcome is not None:
        return ended(outcome)
    status = body.at("status").value
    return still_pending if status == PENDING else replace(still_pending, unexplained=unexplained_word(status))


def probe(connection: Any) -> ProbeFlow:
    """A verification that cannot be: Sohar refuses wrong credentials before it looks for it."""
    yield Call("GET", f"{_VERIFICATIONS}/00000000-0000-4000-8000-000000000000")


def list_payers(connection: Any) -> PayersFlow:
    """The path is a setting, for the page is known by name only; a payer is known by its id and by each alias."""
    reply = yield Call("GET", connection.payers_path)
    if not isinstance(reply.body, list):
        raise VendorBroken("no_payer_list", sent=True, reply=reply)
    return [
        payer
        for row in Node({"payers": reply.body}, reply.pointer).rows("payers")
        if (payer := _listed_payer(row)) is not None
    ]


def _listed_payer(row: Node) -> ListedPayer | None:
    payer_id, name = row.read("payerId", token).value, row.text("payerName").value
    if payer_id is None or name is None:
        return None
    return ListedPayer(
        name=name,
        codes={"payer_id": payer_id},
        electronic_id=payer_id,
        aliases=_texts(row.at("aliasPayerNames").value),
        alias_ids=_texts(row.at("aliasPayerIds").value),
    )


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def _wait(question: Question, look: int) -> timedelta:
    return _PACE.wait(look, question.connection.poll_seconds)
