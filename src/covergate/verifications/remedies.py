"""What to do about a failure: one table from its code, and from whether anything was submitted, to the ways out in order.

A payer's refusal, a patient-correctable one included, is an answer and ends the verification: asking elsewhere would cost
a second fee for the same no. Vendor trouble before the submission goes to the next vendor at once; after it, a second
vendor is paid only where the request allows it.
"""

from __future__ import annotations

from enum import StrEnum

from covergate.eligibility.failure import FailureCode
from covergate.verifications.retry import SCHEDULE, UNREADABLE_REPLIES
from covergate.verifications.state import State


class Remedy(StrEnum):
    STOP = "stop"
    """The verification fails with this code."""
    RETRY = "retry"
    """Here, on the schedule, until the deadline."""
    RETRY_FEW = "retry_few"
    """Here, on the schedule, a few times."""
    RETRY_A_WHILE = "retry_a_while"
    """Here, on the schedule, for its first minutes."""
    NEXT = "next"
    """The next vendor of the route, if there is one."""
    NEXT_IF_ALLOWED = "next_if_allowed"
    """The same, where the request allows a second submission."""
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
    # Once submitted, the answer is there to be fetched when the credentials are mended.
    _C.VENDOR_AUTH_FAILED: ((_R.NEXT, _R.STOP), (_R.RETRY,)),
    _C.SUBMISSION_UNKNOWN: ((_R.STOP,), (_R.NEXT_IF_ALLOWED, _R.OPERATOR)),
    _C.INTERNAL_ERROR: ((_R.RETRY,), (_R.RETRY,)),
    _C.DEADLINE_EXCEEDED: _ANSWER,
}


def remedy(code: FailureCode, state: State, *, submitted: bool) -> Remedy:
    """The first way out that this verification has."""
    possible = {
        Remedy.NEXT: bool(state.route),
        Remedy.NEXT_IF_ALLOWED: bool(state.route) and state.allow_second_submission,
        Remedy.RESUBMIT_IF_ALLOWED: state.payer_retries > 0,
        Remedy.RETRY_FEW: state.attempt.errors_in_row + 1 < UNREADABLE_REPLIES,
        Remedy.RETRY_A_WHILE: state.attempt.errors_in_row + 1 < len(SCHEDULE),
    }
    return next(way for way in REMEDIES[code][submitted] if possible.get(way, True))
