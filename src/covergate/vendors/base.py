"""What a vendor is: facts, plus generators that yield HTTP calls and return progress (design.md section 6).

Nothing in a vendor's folder does I/O, sees a session, a row or a client. The engine drives a flow: it sends each `Call`
through `transport.py`, hands the `Reply` back, and records the `Progress`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

import httpx
import orjson
from pydantic import BaseModel, ConfigDict
from pydantic_settings import BaseSettings, SettingsConfigDict

from covergate.eligibility.failure import Failure
from covergate.eligibility.inquiry import Inquiry, today_eastern
from covergate.eligibility.result import Statement


@dataclass(frozen=True, slots=True)
class Call:
    """One request as data. `path` is below the connection's base URL; PHI belongs in `json`, `form` or `files`, never in it.

    `commits` marks the call that costs money or starts work: the engine stores the intent right before it and the reply
    right after. `timeout` is for the whole call, in seconds. `multipart` sends `form` as multipart form data.
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

    @property
    def label(self) -> str:
        """What the stored exchange is called, e.g. `POST /v2/verifications`."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Reply:
    """A 2xx, or a 4xx that may explain itself. `pointer` is where this exchange stands in the raw document.

    `headers` has lower-case names. `at` is when the reply was complete.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    pointer: str
    at: datetime

    @cached_property
    def body(self) -> Any:
        """The parsed JSON, or None where the content is not JSON."""
        try:
            return orjson.loads(self.content)
        except orjson.JSONDecodeError:
            return None

    @property
    def body_pointer(self) -> str:
        """What `sources` into this reply's body begin with."""
        return f"{self.pointer}/body"

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Answered:
    """The vendor answered; the engine derives the result with `conclude`.

    `ref` is set where a vendor that answers at once later sends events about the submission.
    """

    statement: Statement
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """There is a definite reason why no answer will come. A payer's refusal is an answer too."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Pending:
    """The vendor works on it under `ref`; look again after `again_in`.

    `expires_in`, counted from the submission, is set where the vendor drops the answer sooner than our deadline.
    """

    ref: str
    again_in: timedelta
    expires_in: timedelta | None = None


@dataclass(frozen=True, slots=True)
class NotFound:
    """A look-up showed no trace of the submission, and another one would show no more: a person decides.

    `proven`: it is certain that nothing was submitted. Then the submission is made again instead.
    """

    proven: bool = False


@dataclass(frozen=True, slots=True)
class NotYet:
    """A look-up cannot tell yet: the submission may still show. Look again after `again_in`, which is longer than nothing."""

    again_in: timedelta


Progress: TypeAlias = Answered | Refused | Pending
Flow: TypeAlias = Generator[Call, Reply, Progress]
CheckFlow: TypeAlias = Generator[Call, Reply, Progress | NotFound]
FindFlow: TypeAlias = Generator[Call, Reply, Progress | NotFound | NotYet]


class Connection(BaseSettings):
    """How one vendor is reached. Subclasses set `model_config = SettingsConfigDict(env_prefix="COVERGATE_<NAME>_")` (pydantic
    merges it with this one) and add credential fields that default to "".
    """

    model_config = SettingsConfigDict(
        extra="ignore", frozen=True, env_file=".env", env_ignore_empty=True, hide_input_in_errors=True
    )
    required: ClassVar[tuple[str, ...]] = ()
    """Names of the fields without which the vendor is not enabled for live mode."""

    base_url: str = ""

    @classmethod
    def sandbox(cls, url: str, secret: str) -> Connection:
        """The connection of test mode. `url` is the sandbox's address, `secret` what its credentials derive from."""
        raise NotImplementedError

    @property
    def complete(self) -> bool:
        return bool(self.base_url) and all(getattr(self, name) for name in self.required)


class Options(BaseModel):
    """A vendor's block in `vendor_options`; subclasses list the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True)
class Question:
    """What a flow is told: the resolved inquiry and the few facts around it that a flow may use."""

    inquiry: Inquiry
    options: Any
    """The vendor's own options block (an instance of `Vendor.options`)."""
    connection: Any
    """The vendor's own connection (an instance of `Vendor.connection`)."""
    attempt_id: str
    """What the vendor is given as our reference, so that a resubmission is told from the first."""
    patient_key: str
    """Keyed digest of (tenant, mode, patient), hex: for vendors that keep patients, so that tenants never meet there."""
    now: datetime
    submitted_at: datetime | None = None
    """When the committing call was made; None before."""
    checks: int = 0
    """How many checks of this attempt came back pending."""
    payer_codes: Mapping[str, str] = field(default_factory=dict)
    """This vendor's own codes for the payer, from the directory, e.g. {"carrier_code": "car7551"}."""

    @property
    def today(self) -> date:
        return today_eastern(self.now)


class AnswersBy(StrEnum):
    AT_ONCE = "at_once"
    POLL = "poll"
    EVENT = "event"
    PHONE_CALL = "phone_call"


class ServiceDates(StrEnum):
    ANY = "any"
    TODAY = "today"


class Recovery(StrEnum):
    """How a submission whose reply was lost is found again."""

    LOOKUP = "lookup"
    EVENT = "event"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Facts that `GET /v1/vendors` and docs/vendors.md show. `typical_wait_seconds` is (median, slow)."""

    answers_by: tuple[AnswersBy, ...]
    typical_wait_seconds: tuple[float, float]
    required_fields: tuple[str, ...]
    """JSON pointers into the inquiry, beyond what every verification needs; in words where a rule is conditional."""
    service_dates: ServiceDates
    dependents: bool
    secondary_coverage: bool
    benefits_detail: str
    """One line: what of the benefits this vendor states."""
    batch: bool
    recovery: Recovery


@dataclass(frozen=True, slots=True)
class Missing:
    """Something this vendor needs (`code` "required") or cannot take; `pointer` into the request."""

    pointer: str
    message: str
    code: str = "required"


@dataclass(frozen=True, slots=True)
class VendorEvent:
    """One thing an inbound webhook told. `dedupe_key` is the same for resends of the same message.

    It names the submission by the vendor's reference, by the echo of our attempt id, or both. `kind` is the vendor's own word
    for the timeline. `wakes` is false for events that only belong in the timeline.
    """

    dedupe_key: str
    kind: str
    ref: str | None = None
    echo: str | None = None
    wakes: bool = True


class ForgedEvent(Exception):
    """The event's signature does not verify, or it is too old. Answered 401; nothing is stored."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """An inbound webhook as it came over the wire: `headers` with lower-case names, `query` decoded."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Batching:
    """For vendors that take many submissions in one call.

    Committing calls to `path` that are ready within `wait` of each other are joined (at most `limit`) and the one reply is
    split again: element i belongs to calls[i]; None means that this row was not to blame for a refusal of the whole
    and is to be sent again.
    """

    path: str
    limit: int
    wait: timedelta
    join: Callable[[Sequence[Call]], Call]
    split: Callable[[Reply, int], Sequence[Reply | None]]


@dataclass(frozen=True, slots=True)
class ListedPayer:
    """One row of a vendor's own payer list; `codes` as in `Question.payer_codes`."""

    name: str
    codes: Mapping[str, str]
    electronic_id: str | None = None
    aliases: tuple[str, ...] = ()


PayersFlow: TypeAlias = Generator[Call, Reply, Sequence[ListedPayer]]


@dataclass(frozen=True)
class Vendor:
    """One vendor as one value. Only the registry in `vendors/__init__.py` lists them; core code never names one."""

    name: str
    title: str
    docs_url: str
    capabilities: Capabilities
    connection: type[Connection]
    authenticate: Callable[[Any], httpx.Auth]
    """The auth flow for a connection; see `vendors/auth.py`."""
    submit: Callable[[Question], Flow]
    check: Callable[[Question, str], CheckFlow] | None = None
    """`NotFound` when looking further is of no use: then a person decides, whether it is proven or not."""
    find: Callable[[Question], FindFlow] | None = None
    find_delay: timedelta = timedelta(seconds=0)
    """How long after a submission a look-up can miss it."""
    options: type[Options] = Options
    not_asked: frozenset[str] = frozenset()
    """JSON pointers into the inquiry of what this vendor has no place for."""
    not_asked_of: Callable[[Inquiry, date], frozenset[str]] = lambda inquiry, today: frozenset()
    """What depends on the inquiry, e.g. `/service/service_type_codes/1`; added to `not_asked`."""
    missing_fields: Callable[[Inquiry, Any, Mapping[str, str]], Sequence[Missing]] = lambda inquiry, options, codes: ()
    """What this vendor needs beyond the common rules, from inquiry, options and payer codes: checked before anything is sent."""
    default_deadline: Callable[[Question], datetime] | None = None
    """The deadline where the request names none; 24 hours for None."""
    secrets: frozenset[str] = frozenset({"access_token", "refresh_token", "token", "api_key", "client_secret"})
    """JSON keys whose values are redacted before an exchange is stored."""
    verify_event: Callable[[Inbound, Any], None] | None = None
    """Raises `ForgedEvent`; given the raw bytes and the connection."""
    read_event: Callable[[Inbound], Sequence[VendorEvent]] | None = None
    batching: Batching | None = None
    exclusive_per_patient: bool = False
    """The vendor keeps one record of a patient, which a check reads: a second open check would overwrite the first's data."""
    calls_per_second: float | None = None
    """What the vendor allows, all our processes together; None where it states nothing."""
    concurrent_steps: int = 100
    """Steps of its verifications that are worked on at once, all our processes together."""
    list_payers: Callable[[Any], PayersFlow] | None = None

    def asked_nothing_of(self, inquiry: Inquiry, today: date) -> frozenset[str]:
        """The complete `not_asked` of a verification."""
        return self.not_asked | self.not_asked_of(inquiry, today)


def drive(flow: Generator[Call, Reply, Any], replies: Sequence[Reply]) -> tuple[list[Call], Any]:
    """Run a flow over recorded replies: the calls it made and what it returned; a further call it would make ends it.

    Returns (calls, progress), with progress None when the replies ran out.
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
