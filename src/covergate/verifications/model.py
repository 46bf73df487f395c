"""The state machine as data: a verification with its current attempt, the news that a step brings, the change that follows.

Everything is frozen. `lifecycle.py` makes changes, `policy.py` chooses them, `save.py` writes them.
All instants come from the database's clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from covergate.eligibility.derive import Derived
from covergate.eligibility.failure import Failure
from covergate.eligibility.inquiry import Inquiry
from covergate.eligibility.result import Warning_
from covergate.states import OPEN_STATUSES, AttemptState, EventType, Status, TimelineType, WaitingFor
from covergate.vendor_health.circuit_breaker import Admission
from covergate.vendors.account import VendorAccount
from covergate.vendors.errors import VendorError
from covergate.vendors.flow import NotFound, NotYet, Progress, Question
from covergate.vendors.vendor import Vendor


@dataclass(frozen=True, slots=True)
class Attempt:
    """One vendor's try. `account` is that whose credentials it uses, from its beginning to its end.

    `failure_code` is the last error's until the attempt ends, then the reason. `same_errors_in_row`: the last of
    `errors_in_row`, as far as they are of one kind. `look_ups` could not tell whether the vendor has the submission.
    """

    id: str
    vendor: str
    account: str
    vendor_ref: str | None
    state: AttemptState
    created_at: datetime
    intent_at: datetime | None
    lookup_after: datetime | None
    submitted_at: datetime | None
    ended_at: datetime | None
    failure_code: str | None
    checks: int
    errors_in_row: int
    same_errors_in_row: int
    look_ups: int

    @property
    def submission_unknown(self) -> bool:
        """An intent was stored, and nothing came back yet."""
        return self.intent_at is not None and self.submitted_at is None


@dataclass(frozen=True, slots=True)
class Successor:
    """The attempt that follows the current one, at the same vendor or another; `not_asked` is that vendor's.

    `account` None: that which the tenant has at the vendor when the change is written.
    """

    id: str
    vendor: str
    not_asked: list[str]
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """One question and its life, as the locked row says. `now` is the database's clock when it was read.

    `result` is opened only for what has ended: a late answer is compared with it. `inquiry_with_ssn` is the sealed inquiry, as
    long as an SSN may be in it. `erased_at`: nothing is written to it any more. `late_tries`: how often a late answer has been
    looked at in vain; None unless it is to be looked at.
    """

    id: str
    tenant_id: str
    mode: str
    external_id: str | None
    metadata: dict[str, str]
    not_asked: list[str]
    status: Status
    outcome: str | None
    outcome_reason: str | None
    failure_code: str | None
    route: list[str]
    allow_second_submission: bool
    payer_retries: int
    follows: str | None
    reused_from: str | None
    step: int
    wake_requested: bool
    waiting_for: WaitingFor | None
    waiting_since: datetime | None
    next_check_at: datetime | None
    created_at: datetime
    deadline: datetime
    completed_at: datetime | None
    raw_erased_at: datetime | None
    erased_at: datetime | None
    history_count: int
    exchange_count: int
    late_tries: int | None
    answered_late: bool
    refused_late: bool
    now: datetime
    attempt: Attempt
    result: bytes | None = field(default=None, repr=False)
    inquiry_with_ssn: bytes | None = field(default=None, repr=False)

    @property
    def open(self) -> bool:
        return self.status in OPEN_STATUSES

    @property
    def late(self) -> bool:
        return self.open and self.deadline <= self.now

    @property
    def due(self) -> bool:
        """The next step is due at the instant of the last one."""
        return self.next_check_at is not None and self.next_check_at <= self.now


@dataclass(frozen=True, slots=True)
class Exchange:
    """One call and its reply, secrets redacted, not yet sealed."""

    id: str
    at: datetime
    call: str
    status: int
    content_type: str | None
    content: bytes = field(repr=False)
    duration_ms: int | None = None
    """From when the gateway was ready to send it until the reply was complete."""


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """A timeline row. `message` is a constant of ours, with numbers and vendor words at most: never PHI."""

    type: TimelineType
    message: str
    waiting_for: WaitingFor | None = None
    next_check_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Everything that one step works with, made from the verification as it was claimed."""

    vendor: Vendor
    account: VendorAccount
    question: Question
    not_asked: frozenset[str]
    warnings: tuple[Warning_, ...] = ()
    """About the request itself."""


# --- what a step can bring besides what a flow returns --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeadlineCame:
    """The deadline is over."""


@dataclass(frozen=True, slots=True)
class NotEnabled:
    """The attempt's vendor is not enabled (any more); another one may be asked."""

    inquiry: Inquiry


@dataclass(frozen=True, slots=True)
class InquiryUnreadable:
    """The inquiry does not open, for this tenant, in this place: nothing can be asked for it."""


@dataclass(frozen=True, slots=True)
class AccountRemoved:
    """The account that the attempt began with was removed, and no other may take its place."""

    inquiry: Inquiry


@dataclass(frozen=True, slots=True)
class OurFault:
    """Our own code failed, perhaps on a reply that is kept with the report."""


@dataclass(frozen=True, slots=True)
class NotItsTurn:
    """Another check of the same patient is open at a vendor that bears only one; what it waits for, and since when."""

    waiting_for: WaitingFor | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class BeingSubmitted:
    """Another worker is making the submission, or died while it did."""


@dataclass(frozen=True, slots=True)
class RefKnown:
    """The vendor named the submission in an event before its reply was recorded."""


@dataclass(frozen=True, slots=True)
class NoLookUp:
    """The vendor has no way to look a submission up."""


@dataclass(frozen=True, slots=True)
class Leader:
    """The followed verification as it stands; None if it is gone. `result` and `failure` are its end's, opened."""

    verification: Verification | None
    result: bytes | None = field(default=None, repr=False)
    failure: Failure | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Unheard:
    """An answer after the end could not be fetched, `tries` times by now; `again_in` None: for the last time.

    `waiting_for`: the vendor may not be called.
    """

    again_in: timedelta | None
    tries: int
    waiting_for: WaitingFor | None = None


StepOutcome: TypeAlias = (
    Progress
    | NotFound
    | NotYet
    | VendorError
    | Admission
    | DeadlineCame
    | NotEnabled
    | InquiryUnreadable
    | AccountRemoved
    | OurFault
    | NotItsTurn
    | BeingSubmitted
    | RefKnown
    | NoLookUp
    | Leader
    | Unheard
)


@dataclass(frozen=True, slots=True)
class Submission:
    """The submission is known to have worked, under `ref` if the vendor gave one."""

    ref: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Report:
    """What one step brought back. Written down in one transaction, whatever became of the verification meanwhile.

    `replied`: the outcome came in reply to our own committing call, so it holds even if another worker rescheduled the
    attempt meanwhile. `maybe_submitted`: a committing call of this step went out and may have had an effect.
    `looked_up`: the vendor was asked whether it has the submission. `account_held`: the vendor refused the credentials, and
    nothing more is sent with them. `keeps`: the worker makes the next step itself if that is due at once.
    """

    seen: Verification
    outcome: StepOutcome
    step: Step | None = None
    conclusion: Derived | None = None
    exchanges: tuple[Exchange, ...] = ()
    submission: Submission | None = None
    replied: bool = False
    maybe_submitted: bool = False
    checked: bool = False
    looked_up: bool = False
    account_held: bool = False
    keeps: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What follows from a report, an event or a person's word: data that `commit.apply` writes down.

    `verification` is the row as it shall be. `result` and `late_result` are JSON documents, sealed when written, as is
    `late_failure`.
    `rescheduled`: its next step is due at `next_check_at`; `kept`: the worker makes it itself. `stray`:
    `verification.attempt` is an earlier one. `late_look_in`: an answer after the end is to be fetched, as try `late_tries`;
    `late_look_of`: the step of the look that this comes of, which is the last one if no other follows.
    """

    verification: Verification
    entries: tuple[TimelineRow, ...] = ()
    events: tuple[EventType, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    successor: Successor | None = None
    result: bytes | None = field(default=None, repr=False)
    late_result: bytes | None = field(default=None, repr=False)
    late_failure: Failure | None = field(default=None, repr=False)
    failure: Failure | None = field(default=None, repr=False)
    rescheduled: bool = False
    kept: bool = False
    ended: bool = False
    stray: bool = False
    late_look_in: timedelta | None = None
    late_tries: int = 0
    late_waits_for: WaitingFor | None = None
    late_look_of: int | None = None
