"""The calls to VSee: make the user known, store the insurance, run one check, read the user until the answer is there.

Sources: VSee's API overview, User API and "Insurance API (Draft)". The reference of a check is `<user id>:<eligibility id>`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from covergate.eligibility.inquiry import CoverageOrder
from covergate.vendors.document import Node, token
from covergate.vendors.errors import VendorBroken
from covergate.vendors.flow import (
    Call,
    FindFlow,
    Flow,
    ListedPayer,
    NotFound,
    NotYet,
    PayersFlow,
    Pending,
    ProbeFlow,
    Question,
    Refused,
    Reply,
    ended,
)
from covergate.vendors.pace import Pace
from covergate.vendors.vsee.answer import answer_of, rejection_of
from covergate.vendors.vsee.codes import SECTIONS, UNNAMED_SECTION
from covergate.vendors.vsee.request import carrier_code, is_stored, me_json, sso_form

_USUAL = timedelta(minutes=3)
"""A check takes 5 s to 1 min, 2 in older texts; past this it is polled ever more slowly, and no longer looked up."""
_PACE = Pace(multiples=(*(1,) * 18, *(2**n for n in range(1, 14))), slowest=10 * 60, least_first=0.1)
"""Three minutes at the first pace of ten seconds, then doubling to ten minutes."""
_CLOCK_SLACK = 5
"""Seconds that VSee's clock may be behind ours; a check's answer has its id besides."""
_LEAST_LOOK = timedelta(seconds=1)
"""The wait before the next look-up if the first wait is set to less."""


def submit(question: Question) -> Flow:
    sso = yield _sso(question)
    if not sso.ok:
        return Refused(rejection_of(sso))
    user = Node(sso.body, sso.body_pointer).at("data")
    user_id = _user_id(sso)
    user_token = user.at("token").read("token", token).value
    if user_token is None:
        raise VendorBroken("the reply to sso has no token", sent=True, reply=sso)
    me = yield Call("POST", "/me", json=me_json(question), headers={"X-ApiToken": user_token})
    if not me.ok:
        return Refused(rejection_of(me))
    if not is_stored(Node(me.body, me.body_pointer).at("data"), question):
        record = yield _read_user(user_id)
        if not is_stored(Node(record.body, record.body_pointer).at("data"), question):
            # The check would be about another insurance, or none, and it costs.
            raise VendorBroken("the user's record has another insurance than was stored", sent=False, reply=record)
    carrier = carrier_code(question.options, question.payer_codes) or ""
    path = f"/users/{quote(user_id, safe='')}/{quote(carrier, safe='')}/eligibility"
    check_ = yield Call("POST", path, commits=True)
    if not check_.ok:
        return Refused(rejection_of(check_))
    body = Node(check_.body, check_.body_pointer)
    eligibility_id = (body.at("data").read("eligibility_id", token) | body.read("eligibility_id", token)).value
    if eligibility_id is None:
        raise VendorBroken("the reply to a new check has no eligibility_id", sent=True, reply=check_)
    return Pending(f"{user_id}:{eligibility_id}", again_in=_wait(question, 0))


def check(question: Question, ref: str) -> Flow:
    user_id, _, eligibility_id = ref.partition(":")
    reply = yield _read_user(user_id)
    still_pending = Pending(ref, again_in=_wait(question, question.checks + 1))
    if not reply.ok:
        # VSee took the check on, so a 404 here is its delay or our wrong account, not an answer.
        return still_pending
    for name, section in _sections(reply, question.inquiry.coverage_order):
        checked_id = section.read("eligibility_id", token).value
        is_ours = checked_id == eligibility_id or (checked_id is None and name == UNNAMED_SECTION)
        if is_ours and _is_new(section, question, eligibility_id):
            return ended(answer_of(section, question.inquiry, eligibility_id, reply.at))
    return still_pending


def find(question: Question) -> FindFlow:
    """Looks in the user's record for a check that ended after the intent.

    A running check shows nowhere: within the usual time it may still come, and after that its absence proves nothing.
    """
    sso = yield _sso(question)
    if not sso.ok:
        raise VendorBroken("the reply to sso is not a user", sent=True, reply=sso)
    user_id = _user_id(sso)
    reply = yield _read_user(user_id)
    if not reply.ok:
        raise VendorBroken("the user cannot be read", sent=True, reply=reply)
    carrier = carrier_code(question.options, question.payer_codes)
    for _, section in _sections(reply, question.inquiry.coverage_order):
        eligibility_id = section.read("eligibility_id", token).value
        checked_carrier = section.read("carrier_code", token).value
        if eligibility_id and checked_carrier in (carrier, None) and _last_checked(section) >= _since(question):
            return Pending(f"{user_id}:{eligibility_id}", again_in=timedelta(0))
    if question.submitted_at is None or question.now >= question.submitted_at + _USUAL:
        return NotFound()
    return NotYet(again_in=max(_wait(question, 0), _LEAST_LOOK))


def probe(connection: Any) -> ProbeFlow:
    """The clinic's carriers, which the administrator's token opens. Key and secret open only what makes a patient."""
    reply = yield Call("GET", connection.insurances_path)
    if not reply.ok:
        raise VendorBroken("no_carriers", sent=True, reply=reply)


def list_payers(connection: Any) -> PayersFlow:
    """The carriers that VSee set up for the clinic; its page spells the path in two ways."""
    reply = yield Call("GET", connection.insurances_path)
    insurers = Node(reply.body, reply.body_pointer).at("data")
    if not isinstance(insurers.at("insurers").value, list):
        raise VendorBroken("the list of insurers is not a list", sent=True, reply=reply)
    listed = []
    for insurer in insurers.rows("insurers"):
        code, name = insurer.read("id", token).value, insurer.text("name").value
        if code is not None and name is not None:
            listed.append(ListedPayer(name=name, codes={"carrier_code": code}))
    return listed


def _sso(question: Question) -> Call:
    return Call("POST", "/users/sso", form=sso_form(question), multipart=True)


def _read_user(user_id: str) -> Call:
    return Call("GET", f"/users/{quote(user_id, safe='')}")


def _user_id(reply: Reply) -> str:
    user_id = Node(reply.body, reply.body_pointer).at("data").read("id", token).value
    if user_id is None or ":" in user_id:
        raise VendorBroken("the user has no id", sent=True, reply=reply)
    return user_id


def _sections(reply: Reply, order: CoverageOrder) -> Iterator[tuple[str, Node]]:
    """The places where the answer can stand, the asked coverage first. `data` is a list in the page's older shape."""
    data = Node(reply.body, reply.body_pointer).at("data")
    users = Node(reply.body, reply.body_pointer).rows("data") if isinstance(data.value, list) else [data]
    if not users or not isinstance(users[0].value, dict):
        raise VendorBroken("the reply is not a user", sent=True, reply=reply)
    for user in users:
        for name in SECTIONS[order]:
            section = user.at("insurance").at(name)
            if isinstance(section.value, dict):
                yield name, section


def _is_new(section: Node, question: Question, eligibility_id: str) -> bool:
    """Checked since the submission. The 271's own id of the check says the same, whatever the clocks show."""
    results = section.at("raw_response").at("PPMDResults").at("Results")
    is_named = results.read("@eligibilityid", token).value == eligibility_id
    return is_named or _last_checked(section) >= _since(question) - _CLOCK_SLACK


def _last_checked(section: Node) -> int:
    """Unix seconds; 0 if there was no check."""
    return section.read("last_checked", _seconds).value or 0


def _since(question: Question) -> int:
    """Unix seconds of the submission, rounded down as VSee's are."""
    return int(question.submitted_at.timestamp()) if question.submitted_at is not None else 1


def _seconds(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _wait(question: Question, look: int) -> timedelta:
    return _PACE.wait(look, question.connection.poll_seconds)
