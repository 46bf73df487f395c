"""The shapes of answers, for the OpenAPI document: what `verifications.view` and its neighbours show, in words.

Nothing is validated with these when a request is answered; a test holds every answer to them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, create_model

from covergate.eligibility.failure import Failure, FailureCode
from covergate.eligibility.inquiry import Inquiry, Patient, Subscriber
from covergate.eligibility.result import Result
from covergate.eligibility.terms import Outcome, OutcomeReason
from covergate.vendor_health.statistics import ENOUGH, MOST_PAYERS, Trouble
from covergate.vendors.vendor import AnswersBy, Recovery, ServiceDates

Mode = Literal["test", "live"]


class Shown(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)


def _without(model: type[BaseModel], name: str, doc: str, **changed: Any) -> type[BaseModel]:
    """The same fields without the one that is write-only."""
    fields: dict[str, Any] = {
        field: (info.annotation, info) for field, info in model.model_fields.items() if field != "ssn"
    }
    return create_model(name, __base__=Shown, __doc__=doc, **{**fields, **changed})


PatientShown = _without(Patient, "PatientShown", "The patient as asked, without the SSN.")
SubscriberShown = _without(Subscriber, "SubscriberShown", "The subscriber as asked, without the SSN.")
InquiryShown = _without(
    Inquiry,
    "InquiryShown",
    "What was asked, with its defaults resolved.",
    patient=(PatientShown, ...),
    subscriber=(SubscriberShown | None, None),
)


class WaitingFor(Shown):
    kind: Literal["vendor", "vendor_retry", "rate_limit", "circuit", "hold", "operator"]
    since: datetime


class Attempt(Shown):
    """One vendor's try at a verification."""

    id: str
    vendor: str
    vendor_ref: str | None
    state: Literal["preparing", "submitting", "waiting", "answered", "refused", "failed", "abandoned"]
    submitted_at: datetime | None
    expires_at: datetime | None
    ended_at: datetime | None
    failure_code: FailureCode | None


class VerificationRow(Shown):
    """A verification in a list: without `inquiry` and `result`."""

    id: Annotated[str, Field(pattern="^ver_")]
    object: Literal["verification"]
    mode: Mode
    external_id: str | None
    retry_of: str | None
    reused_from: str | None
    status: Literal["queued", "in_progress", "completed", "failed", "canceled"]
    outcome: Outcome | None
    outcome_reason: OutcomeReason | None
    vendor: str
    waiting_for: WaitingFor | None
    next_check_at: datetime | None
    created_at: datetime
    completed_at: datetime | None
    deadline: datetime
    attempts: list[Attempt]
    not_asked: Annotated[
        list[str], Field(description="JSON pointers into the inquiry of what the vendor had no place for")
    ]
    late_result: Annotated[Result | None, Field(description="An answer that came after the end")]
    failure: Failure | None
    metadata: dict[str, str]


class Verification(VerificationRow):
    """One question and its life. An end never changes. Null, [] and "unknown" mean *not stated*, never zero."""

    inquiry: InquiryShown  # type: ignore[valid-type]
    result: Result | None


class TimelineEntry(Shown):
    at: datetime
    type: str
    attempt_id: str | None
    vendor: str | None
    message: str
    waiting_for: str | None
    next_check_at: datetime | None


class RawExchange(Shown):
    """`body` is parsed JSON or null; `text` is what was no JSON."""

    id: str
    attempt_id: str
    at: datetime
    call: str
    status: int
    content_type: str | None
    body: Any
    text: str | None


class Raw(Shown):
    object: Literal["raw"]
    exchanges: list[RawExchange]


class TypicalWait(Shown):
    median: float
    slow: float


class Capabilities(Shown):
    answers_by: list[AnswersBy]
    typical_wait_seconds: TypicalWait
    required_fields: list[str]
    service_dates: ServiceDates
    dependents: bool
    secondary_coverage: bool
    benefits_detail: str
    batch: bool
    recovery: Recovery
    events: bool
    not_asked: list[str]


class Circuit(Shown):
    """Open: it failed too often and is not called before `rests_until`. Half open: one trial call decides."""

    state: Literal["closed", "open", "half_open"]
    since: Annotated[datetime | None, Field(description="Null where it was never anything but closed")]
    rests_until: datetime | None


class Waits(Shown):
    """Seconds from submission to answer."""

    p50: float | None
    p95: float | None


class VendorNumbers(Shown):
    """Of the attempts that ended in the span. A payer's refusal of the request is an answer, and so a success."""

    attempts: int
    success_rate: Annotated[float | None, Field(ge=0, le=1)]
    wait_seconds: Waits


class PayerNumbers(Shown):
    """A payer as this vendor reaches it; null where too few attempts ended in the span."""

    payer_id: str
    last_hour: VendorNumbers | None
    last_day: VendorNumbers | None


class VendorShown(Shown):
    """The numbers are of all tenants in the key's mode; they tell nothing about who asked."""

    name: str
    title: str
    enabled: bool
    capabilities: Capabilities
    circuit: Circuit
    held: Annotated[bool, Field(description="An operator holds it: nothing is sent to it, its work waits")]
    held_since: datetime | None
    verdict: Annotated[Trouble, Field(description="Whose the trouble of the last hour is")]
    verdict_reason: str
    verdict_payer_id: str | None
    last_hour: VendorNumbers
    last_day: VendorNumbers
    payers: Annotated[
        list[PayerNumbers],
        Field(description=f"The busiest of those with {ENOUGH} ended attempts or more, at most {MOST_PAYERS}"),
    ]
    docs_url: str


class PayerShown(Shown):
    """A payer of the directory. `vendors` has each vendor's own codes for it, as far as they are known in this mode."""

    id: Annotated[str, Field(pattern="^pyr_")]
    object: Literal["payer"]
    name: str
    electronic_id: str | None
    aliases: list[str]
    vendors: dict[str, dict[str, str]]


class WebhookEndpoint(Shown):
    id: Annotated[str, Field(pattern="^whe_")]
    object: Literal["webhook_endpoint"]
    url: str
    event_types: list[str]
    payload: Literal["thin", "full"]
    description: str | None
    status: Literal["enabled", "disabled"]
    disabled_reason: str | None
    previous_secret_until: Annotated[datetime | None, Field(description="Until then the secret before signs too")]
    created_at: datetime
    updated_at: datetime


class WebhookEndpointWithSecret(WebhookEndpoint):
    secret: Annotated[str, Field(pattern="^whsec_")]


class DeliveryAttempt(Shown):
    at: datetime
    status: Annotated[int | None, Field(description="The HTTP status; null when no answer came")]
    duration_ms: int
    error: str | None


class Delivery(Shown):
    id: Annotated[str, Field(pattern="^dlv_")]
    object: Literal["delivery"]
    event_id: Annotated[str, Field(pattern="^evt_")]
    event_type: str
    endpoint_id: str
    status: Literal["pending", "delivered", "exhausted"]
    attempts: list[DeliveryAttempt]
    next_attempt_at: datetime | None
    created_at: datetime


class ThinData(Shown):
    """What a thin webhook tells about a verification: no PHI."""

    id: str
    external_id: str | None
    status: str
    outcome: Outcome | None
    outcome_reason: OutcomeReason | None
    failure_code: FailureCode | None
    metadata: dict[str, str]


class TestData(Shown):
    """What `endpoint.test` tells: the endpoint."""

    __test__ = False

    id: str


class VendorData(Shown):
    """What `vendor.degraded` and `vendor.recovered` tell: a vendor's circuit opened or closed, or its hold began or ended."""

    vendor: str
    mode: Mode
    state: Literal["open", "closed", "held", "resumed"]


class Event(Shown):
    id: Annotated[str, Field(pattern="^evt_")]
    type: str
    timestamp: datetime
    data: ThinData | VendorData | TestData


class WebhookMessage(Shown):
    """What is POSTed to an endpoint. `data` is the whole verification where the endpoint's `payload` is "full"."""

    type: str
    timestamp: datetime
    data: ThinData | VendorData | TestData | Verification


class Received(Shown):
    received: Literal[True]


class Health(Shown):
    status: Literal["ok"]


class ProblemError(Shown):
    """One thing wrong. `pointer` is a JSON pointer into the body, `parameter` a query parameter or header."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    pointer: str = ""
    parameter: str = ""
    code: str
    vendor: str = ""
    message: str


class ProblemDetails(Shown):
    """`application/problem+json` (RFC 9457). Values that were sent are never repeated."""

    type: Annotated[str, Field(pattern="^urn:covergate:problem:")]
    title: str
    status: int
    code: str
    detail: str
    request_id: Annotated[str, Field(pattern="^req_")]
    errors: list[ProblemError]


Row = TypeVar("Row")


class _List(Shown, Generic[Row]):
    object: Literal["list"]
    data: list[Row]
    has_more: bool
    next_cursor: Annotated[str | None, Field(description="For `after`; null on the last page")]


class VerificationList(_List[VerificationRow]):
    """Newest first."""


class Timeline(_List[TimelineEntry]):
    """Oldest first."""


class VendorList(_List[VendorShown]):
    """In a fixed order."""


class PayerList(_List[PayerShown]):
    """By name, or with `q` the best match first."""


class WebhookEndpointList(_List[WebhookEndpoint]):
    """Newest first."""


class DeliveryList(_List[Delivery]):
    """Newest first."""


class EventList(_List[Event]):
    """Oldest first."""


ANSWERS: tuple[type[BaseModel], ...] = (
    Verification,
    VerificationList,
    Timeline,
    Raw,
    VendorList,
    VendorShown,
    PayerList,
    WebhookEndpoint,
    WebhookEndpointWithSecret,
    WebhookEndpointList,
    Delivery,
    DeliveryList,
    EventList,
    WebhookMessage,
    Received,
    Health,
    ProblemDetails,
)
