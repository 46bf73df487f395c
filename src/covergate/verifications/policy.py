"""The failover policy: what follows from a report. Pure; asked under the row lock.

A payer's refusal, a patient-correctable one included, is an answer and ends the verification: asking elsewhere would cost
a second fee for the same no. Vendor trouble before the submission goes to the next vendor at once; after it, a second
vendor is paid only if the request allows it. `REMEDIES` is the whole table; `RETRIES` is the retry schedule.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson

from covergate import ids
from covergate.eligibility.derive import Derived
from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.eligibility.inquiry import Inquiry, today_eastern
from covergate.states import AttemptState, WaitingFor
from covergate.vendor_health.circuit_breaker import Admission, Verdict
from covergate.vendors import VENDORS
from covergate.vendors.errors import (
    VendorAuthFailed,
    VendorBroken,
    VendorError,
    VendorRateLimited,
    VendorUnavailable,
)
from covergate.vendors.flow import Answered, NotFound, NotYet, Pending, Refused
from covergate.verifications import lifecycle
from covergate.verifications.model import (
    AccountRemoved,
    BeingSubmitted,
    Change,
    DeadlineCame,
    InquiryUnreadable,
    Leader,
    NoLookUp,
    NotEnabled,
    NotItsTurn,
    OurFault,
    RefKnown,
    Report,
    Successor,
    Unheard,
    Verification,
)

# --- the retry schedule ----------------------------------------------------------------------------------------------

RETRIES = (1, 5, 30, 120, 600, 1800)
"""Seconds before the first, second, … retry after technical errors in a row; then hourly. Each ± 20 %."""
HOURLY = 3600
RETRY_JITTER = 0.2
LONGEST_RETRY_AFTER = 86_400.0
FEW_ERRORS = 3
"""So many unreadable replies in a row, with no other error between them, end a verification: `vendor_protocol_error`."""
A_WHILE_ERRORS = len(RETRIES)
"""So many errors of one kind in a row, about 13 minutes, before a second vendor is paid. Its own number: not the schedule's
length."""
LATE_LOOKS = 3
"""How often an answer that came after the end is asked for."""
LATE_LOOK_PAUSE = timedelta(seconds=30)
LATE_HOLD_PAUSE = timedelta(hours=1)
"""How often it is looked at while its vendor is held; the end of the hold wakes it."""
PAYER_REST = timedelta(minutes=1)
"""Before a submission is made again because the payer could not respond."""
TURN_PATIENCE = timedelta(minutes=5)
"""A check of the same patient that has waited for longer holds up no other that has another vendor to ask."""
UNEXPLAINED_PATIENCE = timedelta(hours=1)
"""After the submission a person hears of a status that no document explains. The vendor is looked at as before."""
CIRCUIT_SPREAD = timedelta(seconds=2)
"""Work that waits for a circuit comes back spread over as long as it rested, and at least so long: thousands must not come
at once. When the circuit closes, the sweep wakes them all the same."""


def retry_delay(errors_in_row: int, retry_after: float | None = None) -> timedelta:
    """`errors_in_row` counts the error just met, from 1. A vendor's Retry-After wins."""
    if retry_after is not None:
        return timedelta(seconds=min(retry_after, LONGEST_RETRY_AFTER) + random.uniform(0, 0.5))
    seconds = RETRIES[errors_in_row - 1] if errors_in_row <= len(RETRIES) else HOURLY
    return timedelta(seconds=seconds * random.uniform(1 - RETRY_JITTER, 1 + RETRY_JITTER))


# --- the table of failures -------------------------------------------------------------------------------------------


class Remedy(StrEnum):
    STOP = "stop"
    """The verification fails with this code."""
    RETRY = "retry"
    """Here, on the schedule, until the deadline."""
    RETRY_FEW = "retry_few"
    """Here, on the schedule, a few times (`FEW_ERRORS`)."""
    RETRY_A_WHILE = "retry_a_while"
    """Here, on the schedule, for its first minutes (`A_WHILE_ERRORS`)."""
    NEXT = "next"
    """The next vendor of the route, if there is one."""
    NEXT_IF_ALLOWED = "next_if_allowed"
    """The same, if the request allows a second submission."""
    RESUBMIT_IF_ALLOWED = "resubmit_if_allowed"
    """To the same vendor, as often as `routing.payer_retries` says."""
    OPERATOR = "operator"
    """A person decides."""


_ANSWER = ((Remedy.STOP,), (Remedy.STOP,))
_C, _R = FailureCode, Remedy

REMEDIES: dict[FailureCode, tuple[tuple[Remedy, ...], tuple[Remedy, ...]]] = {
    # code: (nothing was submitted, something was or may have been)
    _C.PAYER_UNAVAILABLE: ((_R.STOP,), (_R.RESUBMIT_IF_ALLOWED, _R.STOP)),
    _C.MEMBER_ID_INVALID: _ANSWER,
    _C.MEMBER_NAME_MISMATCH: _ANSWER,
    _C.MEMBER_DOB_MISMATCH: _ANSWER,
    _C.MEMBER_GENDER_MISMATCH: _ANSWER,
    _C.MEMBER_NOT_FOUND: _ANSWER,
    _C.DEPENDENT_NOT_FOUND: _ANSWER,
    _C.MEMBER_AMBIGUOUS: _ANSWER,
    _C.MEMBER_NOT_IN_PLAN: _ANSWER,
    _C.MEMBER_DECEASED: _ANSWER,
    _C.SERVICE_DATE_REJECTED: _ANSWER,
    _C.PROVIDER_NOT_RECOGNIZED: _ANSWER,
    _C.PROVIDER_NOT_ELIGIBLE: _ANSWER,
    _C.PAYER_ENROLLMENT_REQUIRED: _ANSWER,
    _C.PAYER_MANUAL_CHECK_REQUIRED: _ANSWER,
    _C.REQUEST_REJECTED: _ANSWER,
    # Not the payer speaking but the vendor, of its own reach: another vendor may reach the payer.
    _C.PAYER_NOT_RECOGNIZED: ((_R.NEXT, _R.STOP), (_R.NEXT_IF_ALLOWED, _R.STOP)),
    _C.PAYER_NOT_SUPPORTED: ((_R.NEXT, _R.STOP), (_R.NEXT_IF_ALLOWED, _R.STOP)),
    _C.VENDOR_COULD_NOT_ANSWER: ((_R.NEXT, _R.STOP), (_R.NEXT_IF_ALLOWED, _R.STOP)),
    _C.VENDOR_UNAVAILABLE: ((_R.NEXT, _R.RETRY), (_R.RETRY_A_WHILE, _R.NEXT_IF_ALLOWED, _R.RETRY)),
    _C.VENDOR_RATE_LIMITED: ((_R.NEXT, _R.RETRY), (_R.RETRY,)),
    _C.VENDOR_PROTOCOL_ERROR: ((_R.NEXT, _R.RETRY_FEW, _R.STOP), (_R.RETRY_FEW, _R.NEXT_IF_ALLOWED, _R.STOP)),
    # The account is held until the credentials are mended: then it goes on, and an answer that was paid for is fetched.
    _C.VENDOR_AUTH_FAILED: ((_R.NEXT, _R.RETRY), (_R.RETRY,)),
    _C.SUBMISSION_UNKNOWN: ((_R.STOP,), (_R.NEXT_IF_ALLOWED, _R.OPERATOR)),
    _C.INTERNAL_ERROR: ((_R.RETRY,), (_R.RETRY,)),
    _C.DEADLINE_EXCEEDED: _ANSWER,
}

FAILURE_OF: Mapping[type[VendorError], FailureCode] = {
    VendorRateLimited: FailureCode.VENDOR_RATE_LIMITED,
    VendorAuthFailed: FailureCode.VENDOR_AUTH_FAILED,
    VendorBroken: FailureCode.VENDOR_PROTOCOL_ERROR,
    VendorUnavailable: FailureCode.VENDOR_UNAVAILABLE,
}


def remedy(code: FailureCode, v: Verification, *, submitted: bool, counted_as: FailureCode | None = None) -> Remedy:
    """The first way out that this verification has.

    Errors in a row are counted by kind: a 503 is no step towards giving up on unreadable replies. `counted_as` is the
    kind of the error just met, if the table is asked about another.
    """
    errors = lifecycle.same_errors(v.attempt, counted_as or code)
    possible = {
        Remedy.NEXT: bool(_left_of_route(v)),
        Remedy.NEXT_IF_ALLOWED: bool(_left_of_route(v)) and v.allow_second_submission,
        Remedy.RESUBMIT_IF_ALLOWED: v.payer_retries > 0,
        Remedy.RETRY_FEW: errors < FEW_ERRORS,
        Remedy.RETRY_A_WHILE: errors < A_WHILE_ERRORS,
    }
    return next(way for way in REMEDIES[code][submitted] if possible.get(way, True))


def _left_of_route(v: Verification) -> list[str]:
    """The vendors that may still be asked. One that was taken out of the registry meanwhile is not."""
    return [name for name in v.route if name in VENDORS]


# --- what follows ----------------------------------------------------------------------------------------------------


def is_unexplained(report: Report, v: Verification) -> bool:
    """For so long that a person should hear of it."""
    match report.outcome:
        case Pending(unexplained=str()):
            return v.now >= _unexplained_until(v)
        case _:
            return False


def _unexplained_until(v: Verification) -> datetime:
    return (v.attempt.submitted_at or v.attempt.created_at) + UNEXPLAINED_PATIENCE


def follow_up(report: Report, v: Verification, *, told: bool = False) -> Change:
    """What follows from a step's report for the open verification that it was made for.

    `told`: a person has heard of a status of this attempt that no document explains.
    """
    match report.outcome:
        case Answered():
            return _completed(report.conclusion, v)
        case Refused(why):
            return _refused(report, v, why)
        case Pending(_, again_in, unexplained):
            change = lifecycle.pending(v, _in_time(report, v, again_in), checked=report.checked)
            if unexplained is not None and is_unexplained(report, v) and not told:
                return lifecycle.with_unexplained(change, unexplained)
            return change
        case NotYet(again_in):
            return lifecycle.look_again(v, again_in)
        case NotFound(proven) if proven and report.looked_up and v.attempt.state is AttemptState.SUBMITTING:
            said = "the vendor has no trace of the submission; it is made again"
            return _same_vendor(v, FailureCode.SUBMISSION_UNKNOWN, said)
        case NotFound() | NoLookUp():
            return _fate_unknown(report, v)
        case VendorError() as error if report.maybe_submitted and not isinstance(
            error, VendorRateLimited | VendorAuthFailed
        ):
            find_delay = report.step.vendor.find_delay if report.step is not None else timedelta(0)
            return lifecycle.reply_lost(v, error.reason, find_delay)
        case VendorError() as error if report.looked_up:
            return _look_up_failed(report, v, error)
        case VendorError() as error:
            return _call_failed(report, v, error)
        case Admission() as admission:
            return _not_admitted(report, v, admission)
        case NotItsTurn(waiting_for, since):
            stuck = waiting_for is WaitingFor.OPERATOR or (since is not None and v.now - since > TURN_PATIENCE)
            if stuck and _may_go_elsewhere(v):
                return _next_vendor(_inquiry(report), v, FailureCode.VENDOR_UNAVAILABLE)
            return lifecycle.wait_for_turn(v)
        case BeingSubmitted():
            return lifecycle.wait_for_lookup(v)
        case RefKnown():
            return lifecycle.go_on_waiting(v)
        case NotEnabled(inquiry):
            return _not_enabled(v, inquiry)
        case InquiryUnreadable():
            return lifecycle.failed(v, failure(FailureCode.INTERNAL_ERROR), "its inquiry cannot be opened")
        case AccountRemoved(inquiry):
            return _account_removed(v, inquiry)
        case OurFault():
            # A reply that worked is kept, to be interpreted again; one that refused the submission had no effect.
            refused = report.replied and not report.maybe_submitted
            return _retry(v, FailureCode.INTERNAL_ERROR, "internal_error", nothing_submitted=refused)
        case DeadlineCame():
            return lifecycle.deadline_passed(v)
        case Leader(leader, result, why):
            return _following(v, leader, result, why)
        case Unheard():
            return Change(v)


def follow_up_late(report: Report, v: Verification) -> Change:
    """The verification is not the one that the report was made for any more: only what comes after its end matters."""
    match report.outcome:
        case Answered() if not v.open and report.conclusion is not None:
            late_result = _document(report.conclusion)
            if v.result is not None and _gist(v.result) == _gist(late_result):
                return Change(v)
            return lifecycle.answered_late(v, late_result)
        case Refused(why) if not v.open:
            return lifecycle.refused_late(v, why)
        case Unheard(again_in, tries, waiting_for) if not v.open:
            return Change(v, late_look_in=again_in, late_tries=tries, late_waits_for=waiting_for)
        case _:
            return Change(v)


def _in_time(report: Report, v: Verification, again_in: timedelta) -> timedelta:
    """A status that nobody explains is looked at again when a person is to hear of it, if that is earlier."""
    match report.outcome:
        case Pending(unexplained=str()) if not is_unexplained(report, v):
            return min(again_in, _unexplained_until(v) - v.now)
        case _:
            return again_in


def _completed(conclusion: Derived | None, v: Verification) -> Change:
    assert conclusion is not None, "an answer comes with its conclusion"
    reason = conclusion.reason.value if conclusion.reason is not None else None
    return lifecycle.completed(v, conclusion.outcome.value, reason, _document(conclusion))


def _refused(report: Report, v: Verification, why: Failure) -> Change:
    match remedy(why.code, v, submitted=report.checked or report.maybe_submitted or report.looked_up):
        case Remedy.NEXT | Remedy.NEXT_IF_ALLOWED:
            return _next_vendor(_inquiry(report), v, why.code)
        case Remedy.RESUBMIT_IF_ALLOWED:
            v = lifecycle.one_payer_retry_less(v)
            return _same_vendor(v, why.code, "the payer could not respond; submitted again", PAYER_REST)
        case _:
            return lifecycle.refused(v, why)


def _call_failed(report: Report, v: Verification, error: VendorError) -> Change:
    """A technical error. Unless it met a check, it is certain that nothing came of it."""
    code = _code_of(error)
    match remedy(code, v, submitted=report.checked):
        case Remedy.NEXT | Remedy.NEXT_IF_ALLOWED:
            return _next_vendor(_inquiry(report), v, code)
        case Remedy.STOP:
            return lifecycle.failed(v, failure(code), error.reason)
        case _ if report.account_held:
            return lifecycle.credentials_refused(v, error.reason, nothing_submitted=not report.checked)
        case _:
            retry_after = error.retry_after if isinstance(error, VendorRateLimited) else None
            return _retry(v, code, error.reason, retry_after, nothing_submitted=not report.checked)


def _look_up_failed(report: Report, v: Verification, error: VendorError) -> Change:
    """Nothing is known yet: again on the schedule, or after a while the next vendor if it may be paid.

    A look-up that is unreadable again and again will not tell: then a person decides.
    """
    if report.account_held:
        return lifecycle.credentials_refused(v, f"look-up: {error.reason}", nothing_submitted=False)
    code = FailureCode.VENDOR_PROTOCOL_ERROR if isinstance(error, VendorBroken) else FailureCode.VENDOR_UNAVAILABLE
    match remedy(code, v, submitted=True, counted_as=_code_of(error)):
        case Remedy.NEXT_IF_ALLOWED:
            return _next_vendor(_inquiry(report), v, FailureCode.SUBMISSION_UNKNOWN)
        case Remedy.STOP:
            return lifecycle.wait_for_operator(v)
        case _:
            return _retry(v, _code_of(error), f"look-up: {error.reason}")


def _fate_unknown(report: Report, v: Verification) -> Change:
    """Nothing can tell whether the vendor has the submission."""
    if remedy(FailureCode.SUBMISSION_UNKNOWN, v, submitted=True) is Remedy.NEXT_IF_ALLOWED:
        return _next_vendor(_inquiry(report), v, FailureCode.SUBMISSION_UNKNOWN)
    return lifecycle.wait_for_operator(v)


def _not_admitted(report: Report, v: Verification, admission: Admission) -> Change:
    """An open circuit, or refused credentials, send what was not submitted yet to the next vendor; everything else waits."""
    if admission.verdict is Verdict.HOLD:
        return lifecycle.held_back(v, WaitingFor.HOLD, admission.until)
    if admission.verdict is Verdict.CREDENTIALS:
        if _may_go_elsewhere(v, FailureCode.VENDOR_AUTH_FAILED):
            return _next_vendor(_inquiry(report), v, FailureCode.VENDOR_AUTH_FAILED)
        return lifecycle.held_back(v, WaitingFor.CREDENTIALS, admission.until)
    if _may_go_elsewhere(v):
        return _next_vendor(_inquiry(report), v, FailureCode.VENDOR_UNAVAILABLE)
    until = admission.until
    if until is not None:
        until += max(until - v.now, CIRCUIT_SPREAD) * random.uniform(0, 1)
    return lifecycle.held_back(v, WaitingFor.CIRCUIT, until)


def _may_go_elsewhere(v: Verification, code: FailureCode = FailureCode.VENDOR_UNAVAILABLE) -> bool:
    """Nothing was submitted, and there is another vendor."""
    preparing = v.attempt.state is AttemptState.PREPARING
    return preparing and remedy(code, v, submitted=False) is Remedy.NEXT


def _not_enabled(v: Verification, inquiry: Inquiry) -> Change:
    if _may_go_elsewhere(v):
        return _next_vendor(inquiry, v, FailureCode.VENDOR_UNAVAILABLE)
    return _retry(v, FailureCode.VENDOR_UNAVAILABLE, "the vendor is not enabled")


def _account_removed(v: Verification, inquiry: Inquiry) -> Change:
    """Final, unlike refused credentials: nobody can fetch the answer any more. A second fee only if the request allows it."""
    submitted = v.attempt.intent_at is not None
    if _left_of_route(v) and (v.allow_second_submission or not submitted):
        return _next_vendor(inquiry, v, FailureCode.VENDOR_AUTH_FAILED)
    return lifecycle.failed(v, failure(FailureCode.VENDOR_AUTH_FAILED), "its account at the vendor was removed")


def _following(v: Verification, leader: Verification | None, result: bytes | None, why: Failure | None) -> Change:
    if leader is None:
        return lifecycle.ask_itself(v)
    if leader.open:
        return lifecycle.follow_on(v, leader)
    if leader.erased_at is not None:
        return lifecycle.ask_itself(v)
    if lifecycle.leaves_it_open(leader):
        if leader.follows is not None:
            return lifecycle.follow(v, leader.follows)
        return lifecycle.wait_in_doubt(v, leader) if lifecycle.in_doubt(leader) else lifecycle.ask_itself(v)
    return lifecycle.taken_over(v, leader, result, why)


def _retry(
    v: Verification,
    code: FailureCode,
    said: str,
    retry_after: float | None = None,
    *,
    nothing_submitted: bool = False,
) -> Change:
    after = retry_delay(v.attempt.errors_in_row + 1, retry_after)
    return lifecycle.try_again(v, code, said, after, nothing_submitted=nothing_submitted)


def _inquiry(report: Report) -> Inquiry:
    assert report.step is not None, "only a step that asks a vendor leads to another one"
    return report.step.question.inquiry


def _next_vendor(inquiry: Inquiry, v: Verification, reason: FailureCode) -> Change:
    left = _left_of_route(v)
    vendor = VENDORS[left[0]]
    successor = Successor(
        ids.new(ids.ATTEMPT), vendor.name, sorted(vendor.asked_nothing_of(inquiry, today_eastern(v.now)))
    )
    said = f"{reason.value} at {v.attempt.vendor}; asking {vendor.name}"
    v = lifecycle.with_route(v, left[1:])
    return lifecycle.next_attempt(v, successor, reason, timedelta(0), said)


def _same_vendor(v: Verification, reason: FailureCode, said: str, after: timedelta = timedelta(0)) -> Change:
    """Another attempt at the same vendor, with an id of its own, so that the vendor can tell it from the first."""
    successor = Successor(ids.new(ids.ATTEMPT), v.attempt.vendor, v.not_asked, v.attempt.account)
    return lifecycle.next_attempt(v, successor, reason, after, said)


def resubmitted(v: Verification, removed: Collection[str] = ()) -> Change:
    """An operator had the submission made again. `removed`: pointers to SSNs that are kept no more, and so are not asked."""
    said = "an operator had it submitted again"
    if removed:
        said += ", without the SSN: it is not kept once it was submitted"
        v = replace(v, not_asked=sorted({*v.not_asked, *removed}))
    return _same_vendor(v, FailureCode.SUBMISSION_UNKNOWN, said)


def _code_of(error: VendorError) -> FailureCode:
    return next(code for kind, code in FAILURE_OF.items() if isinstance(error, kind))


def _document(conclusion: Derived) -> bytes:
    return conclusion.result.model_dump_json().encode()


def _gist(result: bytes) -> Any:
    """A result without the keys that differ between two readings of the same answer."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(item) for key, item in value.items() if key not in ("sources", "answered_at")}
        return [bare(item) for item in value] if isinstance(value, list) else value

    return bare(orjson.loads(result))
