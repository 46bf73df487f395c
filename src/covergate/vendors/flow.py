"""The language of a vendor's flow: it yields each `Call`, is sent its `Reply`, and returns its progress.

Nothing here does I/O. The engine drives a flow over the transport; a test drives it over recorded replies (`drive`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any, TypeAlias

import orjson

from covergate.eligibility.answer import Answer
from covergate.eligibility.failure import Failure
from covergate.eligibility.inquiry import Inquiry, today_eastern


@dataclass(frozen=True, slots=True)
class Call:
    """One request as data. `path` is below the connection's base URL and never holds PHI, which belongs in `json` or `form`.

    `commits` marks the call that costs money or starts work: the engine stores the intent right before it and the reply
    right after. `timeout` is for the whole call, in seconds. `multipart` sends `form` as multipart form data.

    `is_about_patient` tells of the reply whether it is about the asked patient and nobody else; of any other only the shape is
    stored. None: the vendor cannot answer about anybody else.
    """

    method: str
    path: str
    json: Any = None
    form: Mapping[str, str] | None = None
    multipart: bool = False
    params: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None
    commits: bool = False
    timeout: float = 30.0
    is_about_patient: Callable[[Reply], bool] | None = field(default=None, compare=False, repr=False)

    @property
    def label(self) -> str:
        """The name of the stored exchange, e.g. `POST /v2/verifications`."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Reply:
    """A 2xx, or a 4xx that may explain itself. `pointer` leads to this exchange in the raw document.

    `headers` has lower-case names. `at` is when the reply was complete.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    pointer: str
    at: datetime

    @cached_property
    def body(self) -> Any:
        """The parsed JSON, None for content that is not JSON."""
        try:
            return orjson.loads(self.content)
        except orjson.JSONDecodeError:
            return None

    @property
    def body_pointer(self) -> str:
        """The beginning of every `sources` pointer into this reply's body."""
        return f"{self.pointer}/body"

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Answered:
    """The vendor answered; the engine derives the result with `derive`.

    `ref` is set if a vendor that answers at once later sends events about the submission.
    """

    answer: Answer
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """No answer will come, for a definite reason. A payer's refusal is an answer too."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Pending:
    """The vendor works on it under `ref`; look again after `again_in`.

    `unexplained`: a status that no document explains, as a word fit for the timeline. A person hears of it after a while.
    """

    ref: str
    again_in: timedelta
    unexplained: str | None = None


@dataclass(frozen=True, slots=True)
class NotFound:
    """A look-up showed no trace of the submission, and another one would show no more: an operator decides.

    `proven`: it is certain that nothing was submitted, so the submission is made again instead.
    """

    proven: bool = False


@dataclass(frozen=True, slots=True)
class NotYet:
    """A look-up cannot tell yet, since the submission may still show. Look again after `again_in`, which is more than zero."""

    again_in: timedelta


def ended(outcome: Answer | Failure, ref: str | None = None) -> Answered | Refused:
    """The end that an answer, or the reason why there is none, makes of a flow."""
    return Refused(outcome) if isinstance(outcome, Failure) else Answered(outcome, ref)


Progress: TypeAlias = Answered | Refused | Pending


Flow: TypeAlias = Generator[Call, Reply, Progress]


CheckFlow: TypeAlias = Generator[Call, Reply, Progress | NotFound]


FindFlow: TypeAlias = Generator[Call, Reply, Progress | NotFound | NotYet]


@dataclass(frozen=True)
class Question:
    """All that a flow is told: the resolved inquiry and the few facts around it that a flow may use."""

    inquiry: Inquiry
    options: Any
    """The vendor's own options block (an instance of `Vendor.options`)."""
    connection: Any
    """The vendor's own connection (an instance of `Vendor.connection`)."""
    attempt_id: str
    """The reference we give the vendor; a resubmission has another."""
    patient_key: str
    """Keyed digest of (tenant, mode, patient) in hex, for vendors that keep patients: tenants never share a record there."""
    person_key: str
    """The same without the member id: a mistyped one, its correction and a second coverage are of one person."""
    now: datetime
    account_is_own: bool = False
    """Whether the vendor account is the tenant's own, so that every record in it may be the patient's."""
    submitted_at: datetime | None = None
    """When the committing call was made; None before."""
    checks: int = 0
    """How many checks of this attempt have come back pending so far."""
    look_ups: int = 0
    """How many look-ups of this submission could not tell yet."""
    payer_codes: Mapping[str, str] = field(default_factory=dict)
    """This vendor's own codes for the payer, from the directory, e.g. {"carrier_code": "car7551"}."""

    @property
    def today(self) -> date:
        return today_eastern(self.now)


@dataclass(frozen=True, slots=True)
class Missing:
    """Something this vendor needs and the request lacks; `pointer` is into the request."""

    pointer: str
    message: str
    code: str = "required"


@dataclass(frozen=True, slots=True)
class ListedPayer:
    """One row of a vendor's own payer list; `codes` come back as `Question.payer_codes`."""

    name: str
    codes: Mapping[str, str]
    electronic_id: str | None = None
    aliases: tuple[str, ...] = ()
    alias_ids: tuple[str, ...] = ()
    """Ids that the vendor takes for the payer beside its own; other vendors may mean another payer by them."""


PayersFlow: TypeAlias = Generator[Call, Reply, Sequence[ListedPayer]]


ProbeFlow: TypeAlias = Generator[Call, Reply, None]
"""Returns if the vendor took the credentials. Raises VendorAuthFailed if not, another VendorError if nobody can tell."""


def drive(flow: Generator[Call, Reply, Any], replies: Sequence[Reply]) -> tuple[list[Call], Any]:
    """Runs a flow over recorded replies and stops it at a call for which there is none.

    Returns (calls, progress); progress is None if the replies ran out.
    """
    calls: list[Call] = []
    try:
        call = next(flow)
        for reply in replies:
            calls.append(call)
            call = flow.send(reply)
        calls.append(call)
        flow.close()
    except StopIteration as stop:
        return calls, stop.value
    return calls, None
