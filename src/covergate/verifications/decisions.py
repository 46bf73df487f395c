"""What to make of what a step brought: each function here returns the decision that `record` applies to the locked state.

No I/O. Which failure leads where is the table in `remedies.py`; how a state changes is in `transitions.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta

from covergate import ids
from covergate.eligibility.derive import conclude
from covergate.eligibility.failure import Failure, FailureCode
from covergate.vendor_health.circuit_breaker import Admission, Verdict
from covergate.vendors import VENDORS
from covergate.vendors.errors import VendorAuthFailed, VendorBroken, VendorError, VendorRateLimited, VendorUnavailable
from covergate.vendors.flow import Answered, Pending, Progress, Refused
from covergate.verifications import transitions
from covergate.verifications.record import answer_late, complete, fail, refuse
from covergate.verifications.remedies import Remedy, remedy
from covergate.verifications.run import Run
from covergate.verifications.state import Change, State, Successor
from covergate.verifications.step import Step

Decision = Callable[[State], Change]

PAYER_REST = timedelta(minutes=1)
"""Before a submission is made again because the payer could not respond."""

CIRCUIT_SPREAD = timedelta(seconds=2)
"""What waits for a circuit comes back spread over as long as it rested, and at least so long: a crowd of thousands must not
come all at once. When the circuit closes, the sweep wakes them all the same."""

FAILURE_OF: dict[type[VendorError], FailureCode] = {
    VendorRateLimited: FailureCode.VENDOR_RATE_LIMITED,
    VendorAuthFailed: FailureCode.VENDOR_AUTH_FAILED,
    VendorBroken: FailureCode.VENDOR_PROTOCOL_ERROR,
    VendorUnavailable: FailureCode.VENDOR_UNAVAILABLE,
}


def after_progress(step: Step, run: Run, progress: Progress, *, checked: bool) -> Decision:
    """A flow returned. `checked`: it asked for the answer to a submission made before."""
    if isinstance(progress, Pending):
        return lambda state: (
            fail(step.sealer, state, FailureCode.DEADLINE_EXCEEDED, "the vendor no longer keeps the answer")
            if transitions.answer_is_gone(state)
            else transitions.pending(state, progress.again_in, progress.expires_in, checked=checked)
        )
    if isinstance(progress, Refused):
        return _after_refusal(step, run, progress.failure, submitted=checked or run.maybe_submitted)
    conclusion = conclude(progress.answer, step.question.inquiry, step.not_asked, step.question.today)
    return lambda state: complete(step.sealer, state, conclusion, run.exchanges)


def _after_refusal(step: Step, run: Run, why: Failure, *, submitted: bool) -> Decision:
    def decide(state: State) -> Change:
        way = remedy(why.code, state, submitted=submitted)
        if way in (Remedy.NEXT, Remedy.NEXT_IF_ALLOWED):
            return _next_vendor(step, state, why.code)
        if way is Remedy.RESUBMIT_IF_ALLOWED:
            state.payer_retries -= 1
            return _again(step, state, why.code, "the payer could not respond; submitted again", PAYER_REST)
        return refuse(step.sealer, state, why, run.exchanges)

    return decide


def after_the_end(step: Step, run: Run, progress: object) -> Decision | None:
    """For a verification that has ended meanwhile: an answer is kept beside its end."""
    if not isinstance(progress, Answered):
        return None

    def decide(state: State) -> Change:
        if state.open:
            return Change()
        conclusion = conclude(progress.answer, step.question.inquiry, step.not_asked, step.question.today)
        return answer_late(step.sealer, state, conclusion, run.exchanges)

    return decide


def after_error(step: Step, error: VendorError, *, submitted: bool) -> Decision:
    """A technical error. Not `submitted`: it is certain that nothing came of it."""
    code = _code_of(error)

    def decide(state: State) -> Change:
        way = remedy(code, state, submitted=submitted)
        if way in (Remedy.NEXT, Remedy.NEXT_IF_ALLOWED):
            return _next_vendor(step, state, code)
        if way is Remedy.STOP:
            return fail(step.sealer, state, code, error.reason)
        retry_after = error.retry_after if isinstance(error, VendorRateLimited) else None
        return transitions.try_again(state, code, error.reason, retry_after, nothing_submitted=not submitted)

    return decide


def after_lost_reply(step: Step, error: VendorError) -> Decision:
    """The committing call was sent and nobody knows what came of it."""
    return lambda state: transitions.not_known_whether_submitted(state, error.reason, step.vendor.find_delay)


def after_failed_look_up(step: Step, error: VendorError) -> Decision:
    """Whatever it was, nothing is known yet: again on the schedule, or after a while the next vendor if it may be paid.

    What is unreadable again and again will not tell: then a person decides.
    """
    code = FailureCode.VENDOR_PROTOCOL_ERROR if isinstance(error, VendorBroken) else FailureCode.VENDOR_UNAVAILABLE

    def decide(state: State) -> Change:
        way = remedy(code, state, submitted=True)
        if way is Remedy.NEXT_IF_ALLOWED:
            return _next_vendor(step, state, FailureCode.SUBMISSION_UNKNOWN)
        if way is Remedy.STOP:
            return transitions.wait_for_operator(state)
        return transitions.try_again(state, _code_of(error), f"look-up: {error.reason}", nothing_submitted=False)

    return decide


def submit_again(step: Step) -> Decision:
    """The vendor proved that it has no such submission."""
    message = "the vendor has no trace of the submission; it is made again"
    return lambda state: _again(step, state, FailureCode.SUBMISSION_UNKNOWN, message)


def fate_unknown(step: Step) -> Decision:
    """Nothing can tell whether the vendor has the submission."""

    def decide(state: State) -> Change:
        if remedy(FailureCode.SUBMISSION_UNKNOWN, state, submitted=True) is Remedy.NEXT_IF_ALLOWED:
            return _next_vendor(step, state, FailureCode.SUBMISSION_UNKNOWN)
        return transitions.wait_for_operator(state)

    return decide


def not_admitted(step: Step, admission: Admission) -> Decision:
    """An open circuit sends what was not submitted yet to the next vendor; everything else waits."""

    def decide(state: State) -> Change:
        if (
            admission.verdict is Verdict.CIRCUIT
            and state.attempt.state == "preparing"
            and remedy(FailureCode.VENDOR_UNAVAILABLE, state, submitted=False) is Remedy.NEXT
        ):
            return _next_vendor(step, state, FailureCode.VENDOR_UNAVAILABLE)
        until = admission.until
        if until is not None:
            until += max(until - state.now, CIRCUIT_SPREAD) * random.uniform(0, 1)
        return transitions.held_back(state, admission.verdict.value, until)

    return decide


def _next_vendor(step: Step, state: State, reason: FailureCode) -> Change:
    vendor = VENDORS[state.route.pop(0)]
    not_asked = sorted(vendor.asked_nothing_of(step.question.inquiry, step.question.today))
    successor = Successor(ids.new(ids.ATTEMPT), vendor.name, not_asked)
    message = f"{reason.value} at {state.attempt.vendor}; asking {vendor.name}"
    return transitions.next_attempt(state, successor, reason, timedelta(0), message)


def _again(step: Step, state: State, reason: FailureCode, message: str, after: timedelta = timedelta(0)) -> Change:
    """Another attempt at the same vendor: with a name of its own, so that the vendor can tell it from the first."""
    successor = Successor(ids.new(ids.ATTEMPT), step.vendor.name, sorted(step.not_asked))
    return transitions.next_attempt(state, successor, reason, after, message)


def _code_of(error: VendorError) -> FailureCode:
    return next(code for kind, code in FAILURE_OF.items() if isinstance(error, kind))
