"""The calls to VSee: make the user known, store the insurance, run one check, read the user's record until it holds the answer.

Sources: VSee's API overview, User API and "Insurance API (Draft)". The reference of a check is `<user id>:<eligibility id>`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from covergate.eligibility.failure import Failure, FailureCode, failure
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
    Question,
    Refused,
    Reply,
)
from covergate.vendors.vsee.codes import SECTIONS, UNNAMED
from covergate.vendors.vsee.request import carrier_code, me_json, sso_form
from covergate.vendors.vsee.statement import progress_of

USUAL = timedelta(minutes=3)
"""A check takes 5 s to 1 min, 2 in older texts; past this it is polled ever more slowly, and no longer looked up."""
BRISK_CHECKS = 18
"""So many checks at the first pace: three minutes of ten seconds."""
SLOWEST = timedelta(minutes=10)
CLOCK_SLACK = 5
"""Seconds that VSee's clock may be behind ours; a check's answer has its id besides."""
LEAST_BASE = 0.1
"""What the later waits grow from where the first is set to less, so that polling never spins."""
LEAST_LOOK = timedelta(seconds=1)
"""The wait before the next look-up where the first wait is set to less."""


def submit(question: Question) -> Flow:
    sso = yield _sso(question)
    if not sso.ok:
        return Refused(_rejection(sso))
    user = Node(sso.body, sso.body_pointer).at("data")
    user_id = _user_id(sso)
    user_token = user.at("token").read("token", token).value
    if user_token is None:
        raise VendorBroken("the reply to sso has no token", sent=True, reply=sso)
    me = yield Call("POST", "/me", json=me_json(question), headers={"X-ApiToken": user_token})
    if not me.ok:
        return Refused(_rejection(me))
    carrier = carrier_code(question.options, question.payer_codes) or ""
    path = f"/users/{quote(user_id, safe='')}/{quote(carrier, safe='')}/eligibility"
    check_ = yield Call("POST", path, commits=True)
    if not check_.ok:
        return Refused(_rejection(check_))
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
        theirs = section.read("eligibility_id", token).value
        is_ours = theirs == eligibility_id or (theirs is None and name == UNNAMED)
        if is_ours and _is_new(section, question, eligibility_id):
            return progress_of(section, question.inquiry, eligibility_id, reply.at)
    return still_pending


def find(question: Question) -> FindFlow:
    """The user by our code, and in its record a check that ended after the intent.

    A running check shows nowhere: within the usual time it may still come, and after it "not there" proves nothing.
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
        theirs = section.read("carrier_code", token).value
        if eligibility_id and theirs in (carrier, None) and _last_checked(section) >= _since(question):
            return Pending(f"{user_id}:{eligibility_id}", again_in=timedelta(0))
    if question.submitted_at is None or question.now >= question.submitted_at + USUAL:
        return NotFound()
    return NotYet(again_in=max(_wait(question, 0), LEAST_LOOK))


def list_payers(connection: Any) -> PayersFlow:
    """The carriers that VSee set up for the clinic; the path has two spellings in its page."""
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
    """Where the answer can stand, the asked coverage first. `data` is a list in the page's older shape."""
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
    same = results.read("@eligibilityid", token).value == eligibility_id
    return same or _last_checked(section) >= _since(question) - CLOCK_SLACK


def _last_checked(section: Node) -> int:
    """Unix seconds; 0 where there was no check."""
    return section.read("last_checked", _seconds).value or 0


def _since(question: Question) -> int:
    """Seconds of the submission, rounded down as theirs are."""
    return int(question.submitted_at.timestamp()) if question.submitted_at is not None else 1


def _seconds(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _wait(question: Question, number: int) -> timedelta:
    """The wait before check `number`, the first being 0: even for the usual time, then doubling."""
    first: float = question.connection.poll_seconds
    if number < BRISK_CHECKS:
        return timedelta(seconds=first)
    return min(timedelta(seconds=max(first, LEAST_BASE) * 2 ** min(number - BRISK_CHECKS + 1, 20)), SLOWEST)


def _rejection(reply: Reply) -> Failure:
    """`{"code", "message"}`; a check's own error was never documented."""
    body = Node(reply.body, reply.body_pointer)
    return failure(
        FailureCode.REQUEST_REJECTED,
        vendor_code=body.read("code", token).value or str(reply.status),
        vendor_message=body.text("message").value,
    )
