"""Every way in which a verification and its current attempt may change. Pure: (Verification, …) → Change.

    queued → in_progress → completed | failed | canceled        (an end never changes)
    attempt: preparing → submitting → waiting → answered | refused | failed | abandoned

Every open verification keeps a `next_check_at`, never past its deadline, and every rescheduling increments `step`, so
that what an earlier claimer brings is known to be old. docs/architecture.md#state-machines draws both machines.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.states import AttemptState, EventType, Status, TimelineType, WaitingFor
from covergate.verifications.model import Attempt, Change, Submission, Successor, TimelineRow, Verification

TURN = timedelta(seconds=3)
"""How often a check that waits for another of the same patient looks whether that is over."""

FIRST_LATE_LOOK = timedelta(0)

FOLLOW_AGAIN = timedelta(minutes=1)
"""How often a follower looks at its leader, whose end wakes it as a rule."""


def _with_attempt(v: Verification, **changes: Any) -> Verification:
    return replace(v, attempt=replace(v.attempt, **changes))


def _reschedule(
    v: Verification, at: datetime, waiting_for: WaitingFor, type_: TimelineType | None, said: str
) -> Change:
    """The next step, at `at` or at the deadline, whichever is first; at once if something asked to be woken.

    `type_` None: nothing new to say in the timeline.
    """
    if v.wake_requested:
        at = v.now
    since = v.waiting_since if v.waiting_for == waiting_for else v.now
    v = replace(
        v,
        status=Status.IN_PROGRESS,
        step=v.step + 1,
        wake_requested=False,
        next_check_at=min(max(at, v.now), v.deadline),
        waiting_for=waiting_for,
        waiting_since=since,
    )
    entries = () if type_ is None else (TimelineRow(type_, said, v.waiting_for, v.next_check_at),)
    return Change(v, entries, rescheduled=True)


def _end(v: Verification, status: Status, state: AttemptState, said: str, **brings: Any) -> Change:
    v = replace(
        v,
        status=status,
        completed_at=v.now,
        waiting_for=None,
        waiting_since=None,
        next_check_at=None,
        wake_requested=False,
        step=v.step + 1,
    )
    code = v.attempt.failure_code if status is Status.FAILED else None
    if status is Status.CANCELED and v.attempt.failure_code == FailureCode.SUBMISSION_UNKNOWN:
        code = v.attempt.failure_code  # for its followers: see `in_doubt`
    v = _with_attempt(v, state=state, ended_at=v.now, failure_code=code)
    event = EventType(f"verification.{status}")
    return Change(v, (TimelineRow(TimelineType(status), said),), (event,), ended=True, **brings)


def submitted(v: Verification, submission: Submission) -> Verification:
    """The committing call is known to have worked. Holds for the attempt whatever became of the verification."""
    attempt = v.attempt
    sending = attempt.state in (AttemptState.PREPARING, AttemptState.SUBMITTING)
    return _with_attempt(
        v,
        submitted_at=attempt.submitted_at or submission.at,
        lookup_after=None,
        vendor_ref=submission.ref if submission.ref is not None else attempt.vendor_ref,
        state=AttemptState.WAITING if sending else attempt.state,
    )


def pending(v: Verification, again_in: timedelta, *, checked: bool) -> Change:
    """The vendor works on it."""
    attempt = v.attempt
    at = v.now + again_in
    v = _with_attempt(v, errors_in_row=0, same_errors_in_row=0, checks=attempt.checks + checked)
    type_ = TimelineType.CHECKED if checked else TimelineType.SUBMITTED
    return _reschedule(v, at, WaitingFor.VENDOR, type_, "the vendor works on it")


def woken(v: Verification) -> Change:
    """Somebody wants to know now: the next look is due."""
    return _reschedule(v, v.now, WaitingFor.VENDOR, None, "")


def with_unexplained(change: Change, status: str) -> Change:
    """A person hears of the vendor's status; the vendor is waited for as before."""
    said = f"the vendor's status is {status}, which no document explains: a person should ask the vendor"
    (row,) = change.entries
    row = TimelineRow(TimelineType.NEEDS_ATTENTION, said, row.waiting_for, row.next_check_at)
    return replace(change, entries=(*change.entries, row), events=(EventType.VERIFICATION_NEEDS_ATTENTION,))


def completed(v: Verification, outcome: str, reason: str | None, result: bytes) -> Change:
    v = replace(v, outcome=outcome, outcome_reason=reason)
    return _end(v, Status.COMPLETED, AttemptState.ANSWERED, f"the vendor answered: {outcome}", result=result)


def failed(v: Verification, why: Failure, said: str, state: AttemptState = AttemptState.FAILED) -> Change:
    v = _with_attempt(replace(v, failure_code=why.code.value), failure_code=why.code.value)
    return _end(v, Status.FAILED, state, f"{why.code.value}: {said}", failure=why)


def refused(v: Verification, why: Failure) -> Change:
    return failed(v, why, "there will be no answer", AttemptState.REFUSED)


def deadline_passed(v: Verification) -> Change:
    return failed(v, failure(_reason_of_timeout(v)), "the deadline came", AttemptState.ABANDONED)


def canceled(v: Verification) -> Change:
    said = "canceled on request; vendor work is not recalled"
    return _end(v, Status.CANCELED, AttemptState.ABANDONED, said)


def _reason_of_timeout(v: Verification) -> FailureCode:
    """The reason for the wait when the deadline comes, and the last error if it waits after one, say why it failed."""
    attempt = v.attempt
    if attempt.state is AttemptState.SUBMITTING:
        # While its first call can still be under way nothing is lost: the vendor just says nothing.
        settled = attempt.lookup_after is None or attempt.lookup_after <= v.now
        if v.waiting_for is not None or settled:
            return FailureCode.SUBMISSION_UNKNOWN
    if v.waiting_for is WaitingFor.VENDOR_RETRY and attempt.failure_code is not None:
        return FailureCode(attempt.failure_code)
    return _TIMEOUTS.get(v.waiting_for, FailureCode.DEADLINE_EXCEEDED)


_TIMEOUTS: dict[WaitingFor | None, FailureCode] = {
    WaitingFor.VENDOR_RETRY: FailureCode.VENDOR_UNAVAILABLE,
    WaitingFor.CIRCUIT: FailureCode.VENDOR_UNAVAILABLE,
    WaitingFor.CREDENTIALS: FailureCode.VENDOR_AUTH_FAILED,
    WaitingFor.RATE_LIMIT: FailureCode.VENDOR_RATE_LIMITED,
    WaitingFor.OPERATOR: FailureCode.SUBMISSION_UNKNOWN,
}


# --- following another verification (`max_age`) ----------------------------------------------------------------------


def taken_over(v: Verification, leader: Verification, result: bytes | None, why: Failure | None) -> Change:
    """The end of the followed verification is the end of this one too; no vendor was asked for it."""
    v = replace(v, follows=None, reused_from=leader.id)
    if result is not None:
        change = completed(v, leader.outcome or "unknown", leader.outcome_reason, result)
    else:
        why = why or failure(FailureCode.INTERNAL_ERROR)
        change = failed(v, why, "taken over with the verification it followed")
    # Nobody was asked, so nobody failed.
    bare = _with_attempt(change.verification, state=AttemptState.ABANDONED, failure_code=None)
    return replace(change, verification=bare)


def leaves_it_open(leader: Verification) -> bool:
    """It ended without an answer or a refusal: canceled, or timed out. The oldest of its followers decides what follows.

    Not if it timed out and the fate of its submission is unknown: that may be under way, and to send an equal one beside it
    is for a person to decide. The followers take its `submission_unknown` over, which says so.
    """
    if leader.status is Status.CANCELED:
        return True
    deadline_passed = leader.status is Status.FAILED and leader.attempt.state is AttemptState.ABANDONED
    return deadline_passed and leader.reused_from is None and not in_doubt(leader)


def in_doubt(leader: Verification) -> bool:
    """Its submission, or that of the one it followed, may be under way."""
    unknown = FailureCode.SUBMISSION_UNKNOWN
    return leader.attempt.submission_unknown or unknown in (leader.failure_code, leader.attempt.failure_code)


def follow_on(v: Verification, leader: Verification) -> Change:
    """The followed verification is still open; its end wakes this one, which waits as it does for credentials."""
    refused = leader.waiting_for is WaitingFor.CREDENTIALS
    waiting_for = WaitingFor.CREDENTIALS if refused else WaitingFor.VENDOR
    type_ = None if v.waiting_for is waiting_for else TimelineType.FOLLOWING
    said = f"waits for the answer to {v.follows}"
    return _reschedule(v, v.now + FOLLOW_AGAIN, waiting_for, type_, said)


def follow(v: Verification, leader_id: str) -> Change:
    """The followed verification ended while it followed another one itself: this one takes its place."""
    v = replace(v, follows=leader_id)
    return _reschedule(v, v.now, WaitingFor.VENDOR, None, "")


def wait_in_doubt(v: Verification, leader: Verification) -> Change:
    """The followed verification was canceled and the fate of its submission is unknown: a person decides about another one.

    While its call may be on the line, that is soon known.
    """
    lookup_after = leader.attempt.lookup_after
    if leader.attempt.submission_unknown and lookup_after is not None and lookup_after > v.now:
        said = f"the submission of {leader.id}, which was canceled, is being made"
        return _reschedule(v, lookup_after, WaitingFor.VENDOR, TimelineType.SUBMISSION_IN_FLIGHT, said)
    v = _with_attempt(replace(v, follows=None), failure_code=FailureCode.SUBMISSION_UNKNOWN.value)
    return wait_for_operator(v)


def ask_itself(v: Verification) -> Change:
    """The followed verification is no longer there to be followed."""
    v = replace(v, follows=None)
    return _reschedule(v, v.now, WaitingFor.VENDOR, TimelineType.NOT_FOLLOWING, "asks the vendor itself")


# --- errors and waits ------------------------------------------------------------------------------------------------


def try_again(v: Verification, code: FailureCode, said: str, after: timedelta, *, nothing_submitted: bool) -> Change:
    """A technical error. `nothing_submitted`: it met our own committing call, and certainly had no effect."""
    attempt = v.attempt
    errors = attempt.errors_in_row + 1
    v = _with_attempt(v, errors_in_row=errors, same_errors_in_row=same_errors(attempt, code), failure_code=code.value)
    if nothing_submitted:
        v = _nothing_submitted(v)
    waiting_for = WaitingFor.RATE_LIMIT if code is FailureCode.VENDOR_RATE_LIMITED else WaitingFor.VENDOR_RETRY
    said = f"{said} (error {errors} in a row)"
    return _reschedule(v, v.now + after, waiting_for, TimelineType.RETRY_SCHEDULED, said)


def _nothing_submitted(v: Verification) -> Verification:
    if v.attempt.state is not AttemptState.SUBMITTING:
        return v
    return _with_attempt(v, state=AttemptState.PREPARING, intent_at=None, lookup_after=None, look_ups=0)


def same_errors(attempt: Attempt, code: FailureCode) -> int:
    """How many errors in a row are of this kind, the one just met included."""
    return attempt.same_errors_in_row + 1 if attempt.failure_code == code else 1


def held_back(v: Verification, waiting_for: WaitingFor, until: datetime | None) -> Change:
    """The vendor may not be called now: its circuit is open until then, or it is held for the operator's or its own reasons
    (no end known).
    """
    type_ = None if v.waiting_for is waiting_for else TimelineType.HELD_BACK
    return _reschedule(v, until or v.deadline, waiting_for, type_, _HELD_BACK[waiting_for])


_HELD_BACK = {
    WaitingFor.HOLD: "an operator holds the vendor",
    WaitingFor.CIRCUIT: "the vendor is resting after failures",
    WaitingFor.CREDENTIALS: "the vendor refuses the credentials",
}


def credentials_refused(v: Verification, said: str, *, nothing_submitted: bool) -> Change:
    """The vendor refused the credentials of this call: it waits until they are mended, or to its deadline."""
    attempt, code = v.attempt, FailureCode.VENDOR_AUTH_FAILED
    v = _with_attempt(
        v,
        errors_in_row=attempt.errors_in_row + 1,
        same_errors_in_row=same_errors(attempt, code),
        failure_code=code.value,
    )
    if nothing_submitted:
        v = _nothing_submitted(v)
    said = f"the vendor refused the credentials: {said}"
    return _reschedule(v, v.deadline, WaitingFor.CREDENTIALS, TimelineType.HELD_BACK, said)


def wait_for_turn(v: Verification) -> Change:
    """Another check of the same patient is open at this vendor, which bears only one."""
    type_ = None if v.waiting_for is WaitingFor.VENDOR else TimelineType.WAITING_FOR_TURN
    return _reschedule(v, v.now + TURN, WaitingFor.VENDOR, type_, "another check of this patient is open there")


def reply_lost(v: Verification, reason: str, find_delay: timedelta) -> Change:
    """The committing call was sent and its reply is lost: look it up as soon as a look-up can find it."""
    lookup_after = v.now + find_delay
    v = _with_attempt(v, lookup_after=lookup_after)
    said = f"{reason}: it is not known whether the vendor received the submission"
    return _reschedule(v, lookup_after, WaitingFor.VENDOR, TimelineType.REPLY_LOST, said)


def wait_for_lookup(v: Verification) -> Change:
    """Another worker is submitting, or died while it did: look again when its call must be over."""
    said = "a submission is being made or was interrupted"
    at = v.attempt.lookup_after or v.now
    return _reschedule(v, at, WaitingFor.VENDOR, TimelineType.SUBMISSION_IN_FLIGHT, said)


def look_again(v: Verification, again_in: timedelta) -> Change:
    """The vendor was asked for the submission and cannot tell yet."""
    v = _with_attempt(v, errors_in_row=0, same_errors_in_row=0, look_ups=v.attempt.look_ups + 1)
    said = "the vendor cannot tell yet whether it has the submission"
    return _reschedule(v, v.now + again_in, WaitingFor.VENDOR, TimelineType.LOOKED_UP, said)


def with_route(v: Verification, vendors: list[str]) -> Verification:
    """These are left to be asked after the next one."""
    return replace(v, route=vendors)


def one_payer_retry_less(v: Verification) -> Verification:
    """One of `routing.payer_retries` is used up."""
    return replace(v, payer_retries=v.payer_retries - 1)


def next_attempt(v: Verification, successor: Successor, reason: FailureCode, after: timedelta, said: str) -> Change:
    """This attempt is over; another one begins, at the next vendor or the same. Late news of this one is only noted."""
    v = _with_attempt(v, state=AttemptState.FAILED, failure_code=reason.value, ended_at=v.now)
    waiting_for = WaitingFor.VENDOR_RETRY if after else WaitingFor.VENDOR
    change = _reschedule(replace(v, wake_requested=False), v.now + after, waiting_for, TimelineType.NEXT_ATTEMPT, said)
    return replace(change, successor=successor)


def wait_for_operator(v: Verification) -> Change:
    """Nothing can tell whether the vendor has the submission: a person decides; an answer may still come."""
    if v.waiting_for is WaitingFor.OPERATOR:
        return _reschedule(v, v.deadline, WaitingFor.OPERATOR, None, "")
    said = "an operator has to decide whether to submit again"
    change = _reschedule(v, v.deadline, WaitingFor.OPERATOR, TimelineType.NEEDS_ATTENTION, said)
    return replace(change, events=(EventType.VERIFICATION_NEEDS_ATTENTION,))


def go_on_waiting(v: Verification) -> Change:
    """The vendor has the submission after all (an event named it): check it now."""
    v = submitted(v, Submission(v.attempt.vendor_ref, v.attempt.intent_at or v.now))
    return _reschedule(v, v.now, WaitingFor.VENDOR, TimelineType.SUBMISSION_FOUND, "the vendor has the submission")


def found(v: Verification, ref: str) -> Change:
    """A person saw the submission at the vendor: its answer is asked for under the reference that it has there."""
    v = submitted(v, Submission(ref, v.attempt.intent_at or v.now))
    said = "an operator found the submission at the vendor"
    return _reschedule(v, v.now, WaitingFor.VENDOR, TimelineType.SUBMISSION_FOUND, said)


def vendor_event(v: Verification, kind: str, ref: str | None, *, wakes: bool, said: str | None = None) -> Change:
    """The vendor told us something: look now, or as soon as the running step is done.

    An event that does not wake may still settle an interrupted submission: the vendor has it.
    """
    if v.attempt.vendor_ref is None and ref is not None:
        v = _with_attempt(v, vendor_ref=ref)
    change = _after_event(v, wakes=wakes)
    v = change.verification
    at = v.next_check_at if v.open else None
    return replace(change, entries=(*change.entries, event_row(kind, said, v.waiting_for, at)))


def event_row(
    kind: str, said: str | None, waiting_for: WaitingFor | None = None, at: datetime | None = None
) -> TimelineRow:
    """What the vendor sent, and its own word for how the work stands."""
    sent = f"the vendor sent {kind}"
    return TimelineRow(TimelineType.VENDOR_EVENT, sent if said is None else f"{sent}: {said}", waiting_for, at)


def _after_event(v: Verification, *, wakes: bool) -> Change:
    attempt = v.attempt
    submitting = attempt.state is AttemptState.SUBMITTING
    parked = v.waiting_for is WaitingFor.OPERATOR or (submitting and v.waiting_for is not None)
    if not wakes and not (v.open and submitting):
        return Change(v)
    if not v.open:
        return Change(v, late_look_in=FIRST_LATE_LOOK if attempt.vendor_ref is not None else None)
    if attempt.state is AttemptState.WAITING:
        return _reschedule(v, v.now, WaitingFor.VENDOR, None, "")
    if parked and attempt.vendor_ref is not None:
        return go_on_waiting(v)
    return Change(replace(v, wake_requested=v.wake_requested or wakes))


# --- after the end ---------------------------------------------------------------------------------------------------


def answered_late(v: Verification, late_result: bytes) -> Change:
    """An answer after the end: kept beside it and announced, except for what the partner canceled."""
    if v.status is Status.CANCELED or v.answered_late:
        return _late_in_raw_only(v, "answer")
    return _kept_beside(replace(v, answered_late=True), "an answer", "late_result", late_result=late_result)


def refused_late(v: Verification, why: Failure) -> Change:
    """A refusal after the end, kept and announced like a late answer; one that the end or a late answer settles is not news."""
    if v.answered_late or v.failure_code == why.code:
        return Change(v)
    if v.status is Status.CANCELED or v.refused_late:
        return _late_in_raw_only(v, "refusal")
    kept = replace(v, refused_late=True)
    return _kept_beside(kept, f"a refusal ({why.code.value})", "late_failure", late_failure=why)


def _late_in_raw_only(v: Verification, what: str) -> Change:
    canceled = v.status is Status.CANCELED
    article = "an" if what[0] in "aeiou" else "a"
    said = f"{article} {what} came after the cancellation" if canceled else f"another {what} came after the end"
    return Change(v, (TimelineRow(TimelineType.ANSWERED_LATE, f"{said}; see raw"),))


def _kept_beside(v: Verification, what: str, where: str, **brings: Any) -> Change:
    entry = TimelineRow(TimelineType.ANSWERED_LATE, f"{what} came after the end; see {where}")
    return Change(v, (entry,), (EventType.VERIFICATION_ANSWERED_LATE,), **brings)


def stray(v: Verification, submission: Submission | None, *, replied: bool) -> Change:
    """An attempt that was given up meanwhile brought something: kept with that attempt, and nothing follows from it.

    `v.attempt` is that attempt.
    """
    if submission is not None:
        attempt = v.attempt
        v = _with_attempt(
            v,
            vendor_ref=attempt.vendor_ref or submission.ref,
            submitted_at=attempt.submitted_at or submission.at,
        )
    if replied:
        entry = TimelineRow(TimelineType.STRAY_REPLY, "an earlier attempt was answered; see raw")
    else:
        said = "a worker that was held up stopped an earlier attempt without a reply"
        entry = TimelineRow(TimelineType.STRAY_END, said)
    return Change(v, (entry,), stray=True)
