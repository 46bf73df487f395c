"""The state machine: every way in which a verification and its current attempt may change, as functions without I/O.

    queued → in_progress → completed | failed | canceled        (an end never changes)
    attempt: preparing → submitting → waiting → answered | refused | failed | abandoned

Each function changes the locked `State` in place and returns the `Change` it brings about. Every open verification keeps a
`next_check_at`, never past its deadline, and every rescheduling increments `step`, so that older jobs do nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from covergate.db import jobs
from covergate.eligibility.failure import FailureCode
from covergate.verifications import retry
from covergate.verifications.state import Change, Entry, State, Successor, soonest, until

COMPLETED = "verification.completed"
FAILED = "verification.failed"
CANCELED = "verification.canceled"
ANSWERED_LATE = "verification.answered_late"
NEEDS_ATTENTION = "verification.needs_attention"

TURN = timedelta(seconds=3)
"""How often a check that waits for another of the same patient looks whether that is over."""


def _reschedule(state: State, at: datetime, waiting_for: str) -> Change:
    """The next step, at `at` or at the deadline, whichever is first; at once if something asked to be woken."""
    if state.wake_requested:
        state.wake_requested = False
        at = state.now
    state.status = "in_progress"
    state.step += 1
    state.next_check_at = soonest(max(at, state.now), state.deadline)
    if state.waiting_for != waiting_for:
        state.waiting_for, state.waiting_since = waiting_for, state.now
    vendor = state.successor.vendor if state.successor is not None else state.attempt.vendor
    return Change(jobs=[jobs.advance(vendor, state.id, state.step, until(state.next_check_at, state.now))])


def is_due(state: State) -> bool:
    """The current attempt's next step is due at the instant of the last one."""
    return state.successor is None and state.next_check_at is not None and state.next_check_at <= state.now


def _said(change: Change, state: State, type_: str, message: str) -> Change:
    change.entries.append(
        Entry(type_, message, waiting_for=state.waiting_for, next_check_at=state.next_check_at if state.open else None)
    )
    return change


def _end(state: State, status: str, attempt_state: str, event: str, message: str) -> Change:
    state.status = status
    state.completed_at = state.now
    state.waiting_for = state.waiting_since = state.next_check_at = None
    state.wake_requested = False
    state.step += 1
    attempt = state.attempt
    attempt.state = attempt_state
    attempt.ended_at = state.now
    if status != "failed":
        attempt.failure_code = None
    return Change(entries=[Entry(event.removeprefix("verification."), message)], events=[event], ended=True)


def submitted(state: State, ref: str | None, at: datetime) -> None:
    """The committing call is known to have worked. Holds for the attempt whatever became of the verification."""
    attempt = state.attempt
    attempt.submitted_at = attempt.submitted_at or at
    attempt.lookup_after = None
    if ref is not None:
        attempt.vendor_ref = ref
    if attempt.state in ("preparing", "submitting"):
        attempt.state = "waiting"


def pending(state: State, again_in: timedelta, expires_in: timedelta | None, *, checked: bool) -> Change:
    """The vendor works on it."""
    attempt = state.attempt
    attempt.errors_in_row = 0
    attempt.checks += checked
    if expires_in is not None and attempt.expires_at is None and attempt.submitted_at is not None:
        attempt.expires_at = attempt.submitted_at + expires_in
    at = state.now + again_in
    if attempt.expires_at is not None:
        at = min(at, attempt.expires_at)
    change = _reschedule(state, at, "vendor")
    return _said(change, state, "checked" if checked else "submitted", "the vendor works on it")


def answer_is_gone(state: State) -> bool:
    """The vendor drops answers, and the time it keeps this one is over."""
    return state.attempt.expires_at is not None and state.attempt.expires_at <= state.now


def completed(state: State, outcome: str, reason: str | None, result_sealed: bytes) -> Change:
    state.outcome, state.outcome_reason, state.result_sealed = outcome, reason, result_sealed
    return _end(state, "completed", "answered", COMPLETED, f"the vendor answered: {outcome}")


def taken_over(state: State, leader: State, result_sealed: bytes | None, failure_sealed: bytes | None) -> Change:
    """The end of the verification that was followed is the end of this one too; no vendor was asked for it."""
    state.follows, state.reused_from = None, leader.id
    if result_sealed is not None:
        change = completed(state, leader.outcome or "unknown", leader.outcome_reason, result_sealed)
    else:
        state.failure_sealed = failure_sealed
        code = FailureCode(leader.failure_code or FailureCode.INTERNAL_ERROR)
        change = failed(state, code, "taken over with the verification it followed")
    state.attempt.state = "abandoned"
    state.attempt.failure_code = None  # nobody was asked, so nobody failed
    return change


def leaves_it_open(leader: State) -> bool:
    """It ended and nobody gave an answer or a refusal: it was canceled, or its deadline came. Who followed it asks for itself.

    Not where nobody knows whether the vendor has its submission: that one may be under way, and to send an equal one beside
    it is for a person to decide. The followers take its `submission_unknown` over, which says so.
    """
    if leader.status == "canceled":
        return True
    attempt = leader.attempt
    unknown = attempt.intent_at is not None and attempt.submitted_at is None
    timed_out = leader.status == "failed" and attempt.state == "abandoned"
    return timed_out and not unknown and leader.failure_code != FailureCode.SUBMISSION_UNKNOWN


def follow_on(state: State) -> Change:
    """The followed verification is still open; its end wakes this one."""
    return _said(
        _reschedule(state, state.deadline, "vendor"), state, "following", f"waits for the answer to {state.follows}"
    )


def ask_itself(state: State) -> Change:
    """What it followed is no longer there to be followed."""
    state.follows = None
    return _said(_reschedule(state, state.now, "vendor"), state, "not_following", "asks the vendor itself")


def failed(state: State, code: FailureCode, message: str, attempt_state: str = "failed") -> Change:
    """The caller seals the failure into `failure_sealed` afterwards."""
    state.failure_code = state.attempt.failure_code = code.value
    return _end(state, "failed", attempt_state, FAILED, f"{code.value}: {message}")


def refused(state: State, code: FailureCode) -> Change:
    return failed(state, code, "there will be no answer", "refused")


def canceled(state: State) -> Change:
    return _end(state, "canceled", "abandoned", CANCELED, "canceled on request; vendor work is not recalled")


def try_again(
    state: State, code: FailureCode, reason: str, retry_after: float | None = None, *, nothing_submitted: bool
) -> Change:
    """A technical error. `nothing_submitted`: it met our own committing call, and it is certain that it had no effect.

    Until the attempt ends its `failure_code` is that of the last error: the one to end with at the deadline.
    """
    attempt = state.attempt
    attempt.errors_in_row += 1
    attempt.failure_code = code.value
    if nothing_submitted and attempt.state == "submitting":
        attempt.state = "preparing"
        attempt.intent_at = attempt.lookup_after = None
    waiting_for = "rate_limit" if code is FailureCode.VENDOR_RATE_LIMITED else "vendor_retry"
    change = _reschedule(state, state.now + retry.delay(attempt.errors_in_row, retry_after), waiting_for)
    return _said(change, state, "retry_scheduled", f"{reason} (error {attempt.errors_in_row} in a row)")


def held_back(state: State, waiting_for: str, until: datetime | None) -> Change:
    """The vendor may not be called now: its circuit is open until then, or an operator holds it (no end known)."""
    reasons = {"hold": "an operator holds the vendor", "circuit": "the vendor is resting after failures"}
    known = state.waiting_for == waiting_for
    change = _reschedule(state, until or state.deadline, waiting_for)
    return change if known else _said(change, state, "held_back", reasons[waiting_for])


def wait_for_turn(state: State) -> Change:
    """Another check of the same patient is open at this vendor, which can bear only one."""
    known = state.waiting_for == "vendor"
    change = _reschedule(state, state.now + TURN, "vendor")
    return change if known else _said(change, state, "waiting_for_turn", "another check of this patient is open there")


def not_known_whether_submitted(state: State, reason: str, find_delay: timedelta) -> Change:
    """The committing call was sent and its reply is lost: look it up, from when on a look-up can find it."""
    attempt = state.attempt
    attempt.lookup_after = state.now + find_delay
    change = _reschedule(state, attempt.lookup_after, "vendor")
    return _said(change, state, "reply_lost", f"{reason}: it is not known whether the vendor received the submission")


def wait_for_lookup(state: State) -> Change:
    """Another worker is sending, or died while sending: look again when its call must be over."""
    change = _reschedule(state, state.attempt.lookup_after or state.now, "vendor")
    return _said(change, state, "submission_in_flight", "a submission is being made or was interrupted")


def look_again(state: State, again_in: timedelta) -> Change:
    """The vendor was asked for the submission and cannot tell yet."""
    state.attempt.errors_in_row = 0
    change = _reschedule(state, state.now + again_in, "vendor")
    return _said(change, state, "looked_up", "the vendor cannot tell yet whether it has the submission")


def next_attempt(state: State, successor: Successor, reason: FailureCode, after: timedelta, message: str) -> Change:
    """This attempt is over; another one begins, at the next vendor or at the same. Late news of this one is only noted."""
    attempt = state.attempt
    attempt.state = "failed"
    attempt.failure_code = reason.value
    attempt.ended_at = state.now
    state.successor = successor
    state.wake_requested = False
    change = _reschedule(state, state.now + after, "vendor_retry" if after else "vendor")
    return _said(change, state, "next_attempt", message)


def wait_for_operator(state: State) -> Change:
    """Nothing can tell whether the vendor has the submission: a person decides, an answer may still come."""
    known = state.waiting_for == "operator"
    change = _reschedule(state, state.deadline, "operator")
    if known:
        return change
    change.events.append(NEEDS_ATTENTION)
    return _said(change, state, "needs_attention", "an operator has to decide whether to submit again")


def go_on_waiting(state: State) -> Change:
    """The submission is known to the vendor after all (an event named it): check it now."""
    submitted(state, state.attempt.vendor_ref, state.attempt.intent_at or state.now)
    return _said(_reschedule(state, state.now, "vendor"), state, "submission_found", "the vendor has the submission")


def vendor_event(state: State, kind: str, ref: str | None, *, wakes: bool) -> Change:
    """The vendor told us something: look now, or as soon as the running step is done.

    What does not wake may still settle an interrupted submission: whatever the vendor tells of it, it has it.
    """
    attempt = state.attempt
    if attempt.vendor_ref is None and ref is not None:
        attempt.vendor_ref = ref
    parked = state.waiting_for == "operator" or (attempt.state == "submitting" and state.waiting_for is not None)
    if not wakes and not (state.open and attempt.state == "submitting"):
        change = Change()
    elif not state.open:
        change = (
            Change(jobs=[jobs.advance_late(attempt.vendor, state.id)]) if attempt.vendor_ref is not None else Change()
        )
    elif attempt.state == "waiting":
        change = _reschedule(state, state.now, "vendor")
    elif parked and attempt.vendor_ref is not None:
        change = go_on_waiting(state)
    else:
        state.wake_requested = state.wake_requested or wakes
        change = Change()
    return _said(change, state, "vendor_event", f"the vendor sent {kind}")


def reason_of_timeout(state: State) -> FailureCode:
    """What a verification waits for when its deadline comes, and the last error if it is that, say why there is no answer."""
    reasons = {
        "vendor_retry": FailureCode.VENDOR_UNAVAILABLE,
        "circuit": FailureCode.VENDOR_UNAVAILABLE,
        "rate_limit": FailureCode.VENDOR_RATE_LIMITED,
        "operator": FailureCode.SUBMISSION_UNKNOWN,
    }
    if state.attempt.state == "submitting":
        # While its first call can still be under way nothing is lost: the vendor just says nothing.
        settled = state.attempt.lookup_after is None or state.attempt.lookup_after <= state.now
        if state.waiting_for is not None or settled:
            return FailureCode.SUBMISSION_UNKNOWN
    if state.waiting_for == "vendor_retry" and state.attempt.failure_code is not None:
        return FailureCode(state.attempt.failure_code)
    return reasons.get(state.waiting_for or "", FailureCode.DEADLINE_EXCEEDED)


def answered_late(state: State, late_result_sealed: bytes) -> Change:
    """An answer after the end: kept beside it, announced, except for what the partner canceled."""
    if state.status == "canceled":
        return Change(entries=[Entry("answered_late", "an answer came after the cancellation; see raw")])
    if state.late_result_sealed is not None:
        return Change(entries=[Entry("answered_late", "another answer came after the end; see raw")])
    state.late_result_sealed = late_result_sealed
    return Change(
        entries=[Entry("answered_late", "an answer came after the end; see late_result")], events=[ANSWERED_LATE]
    )
