"""The shapes of answers, for the OpenAPI document.

No answer is validated with these at run time; a test holds every answer to them. `title` is a class's name in the document if
it differs from its own. Clients are made from these names, so they stay.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from functools import reduce
from operator import or_
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model

from covergate import states
from covergate.eligibility.answers.questions import QUESTIONS
from covergate.eligibility.failure import Failure, FailureCode
from covergate.eligibility.inquiry import Address, Inquiry, Patient, Payer, Provider, Service, Subscriber
from covergate.eligibility.result import Result
from covergate.eligibility.terms import Confidence, NextStepCode, Outcome, OutcomeReason, StepBy
from covergate.states import (
    ActorKind,
    AttemptState,
    AuditOutcome,
    BulkAction,
    BulkStatus,
    CircuitState,
    DeliveryStatus,
    EndpointStatus,
    Environment,
    EventType,
    Status,
    SubjectKind,
    VendorAccountState,
)
from covergate.vendor_health.statistics import ENOUGH, MOST_PAYERS, Trouble
from covergate.vendors.vendor import AnswersBy, Recovery, ServiceDates
from covergate.verifications.bulk_jobs import REPORTED

Mode = Literal["test", "live"]
Unreadable = Literal["inquiry", "result", "late_result", "late_failure", "renormalized", "failure", "outcome"]


class Shown(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)


def _shown(model: type[BaseModel], title: str, **changed: Any) -> type[BaseModel]:
    """The request's fields without the write-only one; all are always present."""
    fields: dict[str, Any] = {
        field: (info.annotation, info) for field, info in model.model_fields.items() if field != "ssn"
    }
    shown = create_model(title, __base__=Shown, __doc__=model.__doc__, **{**fields, **changed})
    shown.model_config["title"] = title
    return shown


AddressShown = _shown(Address, "InquiryAddress")
PatientShown = _shown(Patient, "InquiryPatient", address=(AddressShown | None, None))
SubscriberShown = _shown(Subscriber, "InquirySubscriber", address=(AddressShown | None, None))
ProviderShown = _shown(Provider, "InquiryProvider", address=(AddressShown | None, None))
InquiryShown = _shown(
    Inquiry,
    "Inquiry",
    payer=(_shown(Payer, "InquiryPayer"), ...),
    patient=(PatientShown, ...),
    subscriber=(SubscriberShown | None, None),
    provider=(ProviderShown, ...),
    service=(_shown(Service, "InquiryService"), ...),
)


class Waiting(Shown):
    kind: states.WaitingFor
    since: datetime


class AttemptShown(Shown, title="Attempt"):
    """One vendor's try at a verification."""

    id: str
    vendor: str
    vendor_ref: str | None
    state: AttemptState
    submitted_at: datetime | None
    expires_at: datetime | None
    ended_at: datetime | None
    failure_code: FailureCode | None


class NextStep(Shown):
    """What somebody is to do next."""

    code: NextStepCode
    message: Annotated[str, Field(description="A constant of the gateway, without PHI")]
    who: StepBy
    request: Annotated[
        dict[str, Any] | None,
        Field(
            description="Of `verify_with_other_payer`: the body of `POST /v1/verifications` for the payer that is to be"
            " billed, if it is known; `patient.member_id` is null if nobody stated the one that this payer knows"
        ),
    ]


class VerificationRow(Shown):
    """A verification in a list: without `inquiry` and `result`."""

    id: Annotated[str, Field(pattern="^ver_")]
    object: Literal["verification"]
    mode: Mode
    external_id: str | None
    retry_of: str | None
    reused_from: str | None
    status: Status
    outcome: Outcome | None
    outcome_reason: OutcomeReason | None
    vendor: str
    waiting_for: Waiting | None
    next_check_at: datetime | None
    created_at: datetime
    completed_at: datetime | None
    deadline: datetime
    erased_at: Annotated[
        datetime | None,
        Field(
            description="When what tells of the patient was erased: `inquiry`, `result`, `late_result` and `late_failure`"
            " are null then"
        ),
    ]
    attempts: list[AttemptShown]
    next_steps: Annotated[
        list[NextStep],
        Field(
            description="Empty until it has ended. In lists, and for a caller that may not see PHI, only those that outcome,"
            " reason and failure code tell"
        ),
    ]
    not_asked: Annotated[
        list[str], Field(description="JSON pointers into the inquiry: the fields that the vendor has no place for")
    ]
    late_result: Annotated[Result | None, Field(description="An answer that came after the end")]
    late_failure: Annotated[Failure | None, Field(description="A refusal that came after the end")]
    failure: Failure | None
    unreadable: Annotated[
        list[Unreadable],
        Field(
            description="What could not be shown as it was stored, normally none. A value that does not open is null;"
            " `outcome`: it is not the one that was stored with the answer, so it and its reason are null"
        ),
    ]
    metadata: dict[str, str]


class Renormalized(Shown):
    """The same replies, read again by later rules. The verification's own end stays as it is."""

    mapping_version: str
    at: datetime
    outcome: Outcome
    outcome_reason: OutcomeReason | None
    result: Result


class VerificationShown(VerificationRow, title="Verification"):
    """A question about one patient and its answer. An end never changes. Null, [] and "unknown" mean *not stated*, never zero."""

    inquiry: Annotated[
        InquiryShown | None,  # type: ignore[valid-type]
        Field(description="Null if it is `unreadable`, and for a caller that may not see PHI"),
    ]
    result: Result | None
    renormalized: Annotated[
        Renormalized | None,
        Field(description="What later rules read differently; null if nothing, or nobody had it read"),
    ]


class _AnswerShown(Shown):
    """One answer. It can be read from the result alone."""

    confidence: Confidence
    because: Annotated[str, Field(description="A constant of the gateway, without PHI")]
    sources: Annotated[list[str], Field(description="JSON pointers into the raw replies")]


_any_answer: Any = reduce(
    or_,
    (
        create_model(
            f"{''.join(word.capitalize() for word in question.split('_'))}Answer",
            __base__=_AnswerShown,
            __doc__=words,
            question=(Literal[question.value], ...),  # type: ignore[arg-type]
            answer=(kind | None, ...),
        )
        for question, (words, kind) in QUESTIONS.items()
    ),
)
AnswerShown: Any = create_model(
    "NamedAnswer",
    __base__=RootModel[Annotated[_any_answer, Field(discriminator="question")]],
    __doc__="`question` tells which.",
)


class Answers(Shown):
    """The fixed questions, answered from the result alone, in their fixed order."""

    object: Literal["answers"]
    verification_id: Annotated[str, Field(pattern="^ver_")]
    status: Status
    outcome: Outcome | None
    outcome_reason: OutcomeReason | None
    as_of: Annotated[date | None, Field(description="Of the result; null if there is none")]
    answered_at: datetime | None
    mapping_version: str | None
    answers: Annotated[list[AnswerShown] | None, Field(description="Null for a caller that may not see PHI")]
    next_steps: list[NextStep]


class TimelineEntry(Shown):
    at: datetime
    type: str
    attempt_id: str | None
    vendor: str | None
    message: str
    waiting_for: str | None
    next_check_at: datetime | None


class RawExchange(Shown):
    """`body` is the parsed JSON or null; `text` a reply that was not JSON. Both are null if it is `unreadable`, or was erased."""

    id: str
    attempt_id: str
    at: datetime
    call: str
    status: int
    content_type: str | None
    body: Any
    text: str | None
    unreadable: Annotated[bool, Field(description="The stored reply does not open")]


class Raw(Shown):
    object: Literal["raw"]
    erased_at: Annotated[datetime | None, Field(description="When the replies were erased")]
    exchanges: list[RawExchange]


class Erased(Shown):
    """How much of each kind. `canceled`: verifications that were open; `raw_replies` and `event_bodies` are the vendors',
    `readings` those of results by later rules, `full_payloads` those of webhooks, `partner_answers` what endpoints answered."""

    verifications: int
    canceled: int
    inquiries: int
    results: int
    readings: int
    late_results: int
    failures: int
    raw_replies: int
    event_bodies: int
    full_payloads: int
    partner_answers: int
    idempotency_keys: int


class ErasureShown(Shown, title="Erasure"):
    object: Literal["erasure"]
    dry_run: bool
    complete: Annotated[bool, Field(description="`false`: there is more; send it again")]
    until: Annotated[datetime, Field(description="It concerns what was accepted up to then, by `created_at`")]
    counts: Annotated[Erased, Field(description="What was erased; of a dry run what would be")]


class BulkSample(Shown):
    """A verification that matched, as it is now, without PHI."""

    id: str
    tenant_id: str
    tenant: Annotated[str, Field(description="Its name")]
    mode: Mode
    external_id: str | None
    status: Status
    outcome: Outcome | None
    failure_code: FailureCode | None
    vendor: str
    waiting_for: states.WaitingFor | None
    created_at: datetime


class BulkReason(Shown):
    reason: Annotated[
        str, Field(description="A code: that of the single action's problem, or why there was nothing to do")
    ]
    count: int
    sample: Annotated[list[str], Field(description=f"Ids, {REPORTED} at most")]


class BulkReport(Shown):
    count: int
    reasons: list[BulkReason]


class Orderer(Shown):
    kind: ActorKind
    id: str


class BulkJobRow(Shown):
    id: str
    object: Literal["bulk_job"]
    action: BulkAction
    filter: Annotated[dict[str, Any], Field(description="As it was given")]
    resolution: Literal["resubmit", "give_up"] | None
    again: bool
    dry_run: bool
    status: BulkStatus
    tenant_id: Annotated[str | None, Field(description="null: of every tenant")]
    mode: Annotated[Mode | None, Field(description="null: of both")]
    ordered_by: Orderer
    matched: Annotated[int, Field(description="Verifications when it was ordered")]
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class BulkJobShown(BulkJobRow, title="BulkJob"):
    sample: list[BulkSample]
    left: Annotated[int, Field(description="Still to be done, or for ever if it was stopped")]
    done: int
    skipped: BulkReport
    failed: BulkReport


class TypicalWait(Shown):
    median: float
    slow: float


class CapabilitiesShown(Shown, title="Capabilities"):
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
    """Open: the vendor failed too often and is not called before `rests_until`. Half open: one trial call decides."""

    state: CircuitState
    since: Annotated[datetime | None, Field(description="Null if it was never anything but closed")]
    rests_until: datetime | None


class Waits(Shown):
    """Seconds from submission to answer."""

    p50: float | None
    p95: float | None


class VendorNumbers(Shown):
    """Counts the attempts that ended in the span. A payer's refusal is an answer, and so a success."""

    attempts: int
    success_rate: Annotated[float | None, Field(ge=0, le=1)]
    wait_seconds: Waits


class PayerNumbers(Shown):
    """A payer as this vendor reaches it; null if too few attempts ended in the span."""

    payer_id: str
    last_hour: VendorNumbers | None
    last_day: VendorNumbers | None
    verdict: Annotated[Trouble, Field(description="Who is to blame for the last hour's trouble at this payer")]


class HeldBy(Shown):
    """The operator that holds a vendor."""

    id: Annotated[str, Field(pattern="^opr_")]
    name: str


class VendorShown(Shown, title="Vendor"):
    """A vendor and how it fares: the verdict by all tenants in the key's mode, the numbers of the key's tenant alone."""

    name: str
    title: str
    enabled: bool
    account: Annotated[
        Literal["own", "shared"] | None,
        Field(description="Whose account the tenant's verifications use: its own, or the gateway's; null: none"),
    ]
    capabilities: CapabilitiesShown
    circuit: Circuit
    held: Annotated[bool, Field(description="An operator holds it: nothing is sent to it and its work waits")]
    held_since: datetime | None
    held_by: Annotated[HeldBy | None, Field(description="The operator; shown to operators only")]
    held_reason: Annotated[str | None, Field(description="The operator's words; shown to operators only")]
    held_until: Annotated[datetime | None, Field(description="When the hold ends by itself; null: when it is resumed")]
    credentials_refused_since: Annotated[
        datetime | None,
        Field(description="Since when the vendor refuses the credentials of `account`; null: it does not"),
    ]
    verdict: Annotated[Trouble, Field(description="Who is to blame for the last hour's trouble")]
    verdict_reason: str
    verdict_payer_id: str | None
    last_hour: VendorNumbers
    last_day: VendorNumbers
    payers: Annotated[
        list[PayerNumbers],
        Field(description=f"The busiest of those with {ENOUGH} ended attempts or more, at most {MOST_PAYERS}"),
    ]
    docs_url: str


class VendorAccountShown(Shown, title="VendorAccount"):
    """A tenant's own account at a vendor. `hint` is the end of its secret, empty if that is short."""

    id: Annotated[str, Field(pattern="^acc_")]
    object: Literal["vendor_account"]
    vendor: str
    mode: Mode
    environment: Environment
    hint: str
    fingerprint: Annotated[str, Field(description="Tells whether the credentials are the same as before")]
    state: VendorAccountState
    tested_at: datetime | None
    created_at: datetime
    changed_at: datetime
    events_url: Annotated[
        str | None, Field(description="Where the vendor is to send its events; null if it sends none")
    ]


class TestedVendorAccount(VendorAccountShown, title="TestedVendorAccount"):
    message: Annotated[str, Field(description="What came back, in the gateway's words")]


class PayerShown(Shown, title="DirectoryPayer"):
    """A payer of the directory. `vendors` has the codes that each vendor is known to have for it in this mode."""

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
    status: EndpointStatus
    disabled_reason: str | None
    previous_secret_until: Annotated[datetime | None, Field(description="Until then the previous secret signs too")]
    failing_since: Annotated[
        datetime | None, Field(description="Since then it takes nothing, as `endpoint.failing` told; null: it is well")
    ]
    failures_in_row: Annotated[int, Field(description="Tries that failed since the last one that did not")]
    last_delivered_at: Annotated[
        datetime | None,
        Field(description="When it took the newest event that it has taken; null: none of the last 30 days"),
    ]
    created_at: datetime
    updated_at: datetime


class WebhookEndpointWithSecret(WebhookEndpoint):
    secret: Annotated[str, Field(pattern="^whsec_")]


class PortalLinkShown(Shown, title="PortalLink"):
    """A one-time entry to the webhook pages."""

    object: Literal["portal_link"]
    url: Annotated[str, Field(description="A secret: whoever opens it first is let in")]
    expires_at: datetime


class EndpointRecovery(Shown):
    """Deliveries that are made anew."""

    object: Literal["recovery"]
    endpoint_id: Annotated[str, Field(pattern="^whe_")]
    since: datetime
    status: Literal["exhausted", "pending", "all"]
    count: int


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
    status: DeliveryStatus
    attempts: list[DeliveryAttempt]
    next_attempt_at: datetime | None
    created_at: datetime


class AuditActor(Shown):
    """Who did it."""

    kind: ActorKind
    id: Annotated[str | None, Field(description="Null: a key that is not valid")]


class AuditSubject(Shown):
    """What it was done to."""

    kind: Annotated[SubjectKind | None, Field(description="Null: nothing in particular")]
    id: Annotated[str | None, Field(description="Null: none, or the path named none that could be")]


class AuditEvent(Shown):
    """Something that was done, or refused. Ids only."""

    id: Annotated[str, Field(pattern="^aud_")]
    object: Literal["audit_event"]
    at: datetime
    action: Annotated[str, Field(description="E.g. `verification.read`; more may come")]
    actor: AuditActor
    acting_user: Annotated[str | None, Field(description="The caller's word: `X-Acting-User`")]
    address: Annotated[str | None, Field(description="The client's")]
    request_id: Annotated[str | None, Field(description="`req_…`; of a delivery the event, `evt_…`")]
    subject: AuditSubject
    outcome: AuditOutcome
    count: Annotated[int, Field(description="So many alike are summed up in it")]
    reason: Annotated[
        str | None, Field(description="Why a person looked at PHI in the console: one of a few fixed words")
    ]


class _Sampled(Shown):
    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    test: Annotated[Literal[True], Field(description="Only in a sample that was asked for: all of it is synthetic")] = (
        True
    )


class ThinData(_Sampled):
    """A verification in a webhook whose endpoint has `payload` "thin": no PHI."""

    id: str
    external_id: str | None
    status: Status
    outcome: Outcome | None
    outcome_reason: OutcomeReason | None
    failure_code: FailureCode | None
    metadata: dict[str, str]


# The whole verification comes first: generated clients take the first class that fits, and thin data never fit it.
class VerificationData(RootModel[VerificationShown | ThinData]):
    """By the endpoint's `payload`: "full" or "thin"."""


class TestData(Shown):
    """The endpoint that is tested."""

    __test__ = False

    id: str


class EndpointData(_Sampled):
    """An endpoint that fails, was disabled, or takes events again."""

    id: Annotated[str, Field(pattern="^whe_")]
    state: Literal["failing", "disabled", "enabled"]
    reason: Annotated[str | None, Field(description="Why it is disabled, if the gateway did it")]
    failing_since: Annotated[datetime | None, Field(description="Of `endpoint.failing`: the first try that failed")]
    failures_in_row: Annotated[int, Field(description="Of `endpoint.failing`: the tries that failed")]


class VendorData(_Sampled):
    """A vendor whose circuit opened or closed, that refused or took credentials, or whose hold began or ended."""

    vendor: str
    mode: Mode
    state: Literal["open", "closed", "refused", "taken", "held", "resumed"]
    reason: Annotated[
        Literal["circuit", "credentials", "hold"], Field(description="The `waiting_for.kind` of what waits or waited")
    ]
    account: Annotated[Literal["own", "shared"], Field(description="Of the tenant's own account, or the gateway's")]


class _Typed(Shown):
    type: str
    timestamp: datetime


class _Stored(_Typed):
    id: Annotated[str, Field(pattern="^evt_")]


def _by_type(base: type[Shown], suffix: str, of_verification: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """A class for each event type, so that its `type` tells what its `data` is."""

    def data(type_: str) -> type[BaseModel]:
        if type_ == EventType.ENDPOINT_TEST:
            return TestData
        if type_.startswith("endpoint."):
            return EndpointData
        return VendorData if type_.startswith("vendor.") else of_verification

    return {
        type_: create_model(
            "".join(word.capitalize() for word in re.split("[._]", type_)) + suffix,
            __base__=base,
            __doc__=sentence,
            type=(Literal[type_], ...),  # type: ignore[arg-type]
            data=(data(type_), ...),
        )
        for type_, sentence in ((member.value, member.sentence) for member in EventType)
    }


WEBHOOK_MESSAGES = _by_type(_Typed, "Message", VerificationData)
"""Event type → what is POSTed to an endpoint."""


_any_event: Any = reduce(or_, _by_type(_Stored, "Event", ThinData).values())
Event: Any = create_model(
    "Event", __base__=RootModel[Annotated[_any_event, Field(discriminator="type")]], __doc__="`type` tells which."
)


class Received(Shown):
    received: Literal[True]


class Health(Shown):
    status: Literal["ok"]


class Readiness(Health):
    workers: Annotated[
        int, Field(description="Workers that were heard of in the last 30 seconds, of the whole gateway")
    ]


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


Item = TypeVar("Item")


class _List(Shown, Generic[Item]):
    object: Literal["list"]
    data: list[Item]
    has_more: bool
    next_cursor: Annotated[str | None, Field(description="For `after`; null on the last page")]


class VerificationList(_List[VerificationRow]):
    """Newest first."""


class Timeline(_List[TimelineEntry]):
    """Oldest first."""


class BulkJobList(_List[BulkJobRow]):
    """Newest first."""


class VendorList(_List[VendorShown]):
    """In a fixed order."""


class VendorAccountList(_List[VendorAccountShown]):
    """By the vendors' names."""


class PayerList(_List[PayerShown]):
    """By name, or with `q` the best match first."""


class WebhookEndpointList(_List[WebhookEndpoint]):
    """Newest first."""


class DeliveryList(_List[Delivery]):
    """Newest first."""


class AuditEventList(_List[AuditEvent]):
    """Newest first."""


class EventList(_List[Event]):
    """Oldest first."""


ANSWERS: tuple[type[BaseModel], ...] = (
    VerificationShown,
    VerificationList,
    Answers,
    Timeline,
    Raw,
    ErasureShown,
    BulkJobShown,
    BulkJobList,
    VendorList,
    VendorShown,
    VendorAccountShown,
    VendorAccountList,
    TestedVendorAccount,
    PayerList,
    WebhookEndpoint,
    WebhookEndpointWithSecret,
    WebhookEndpointList,
    EndpointRecovery,
    PortalLinkShown,
    Delivery,
    DeliveryList,
    AuditEventList,
    EventList,
    *WEBHOOK_MESSAGES.values(),
    Received,
    Health,
    Readiness,
    ProblemDetails,
)
