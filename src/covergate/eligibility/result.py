"""The normalized answer (api.md section 4), and `Statement`, what translators build.

A translator states what the vendor stated; everything that follows from it – the outcome, the summary, the
effect of plan dates, the canonical order – is derived in `conclusion.py` and nowhere else. Unknown is never zero: what the vendor
did not state stays `None`, `[]` or `unknown`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

CENT = Decimal("0.01")


def money(value: str | int | float | Decimal | None) -> Decimal | None:
    """US dollars with two decimals, from what vendors write (`$1,234.5`, `30`); None for blank, unreadable or negative."""
    if value is None or isinstance(value, bool):
        return None
    try:
        amount = Decimal(str(value).replace("$", "").replace(",", "").replace(" ", ""))
    except InvalidOperation:
        return None
    if not amount.is_finite() or amount < 0 or amount >= Decimal(10) ** 10:
        return None
    return amount.quantize(CENT, rounding=ROUND_HALF_UP)


def percent(value: str | int | float | Decimal | None, *, fraction: bool = False) -> Decimal | None:
    """The patient's share 0-100, exact; `fraction` where the vendor writes 0.1 for ten percent. None for anything else."""
    if value is None or isinstance(value, bool):
        return None
    try:
        share = Decimal(str(value).replace("%", "").replace(" ", ""))
    except InvalidOperation:
        return None
    if not share.is_finite():
        return None
    share = share * 100 if fraction else share
    return share.normalize() if 0 <= share <= 100 else None


def _percent_number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


Money = Annotated[Decimal, PlainSerializer(lambda value: f"{value:.2f}", return_type=str)]
Percent = Annotated[Decimal, PlainSerializer(_percent_number, return_type=int | float)]
Quantity_ = Annotated[Decimal, PlainSerializer(_percent_number, return_type=int | float)]
Sources = dict[str, list[str]]


class Coverage(StrEnum):
    ACTIVE = "active"
    INACTIVE = "inactive"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    ELIGIBLE = "eligible"
    INELIGIBLE = "ineligible"
    UNKNOWN = "unknown"


class OutcomeReason(StrEnum):
    INACTIVE = "inactive"
    NOT_COVERED = "not_covered"
    UNSPECIFIED = "unspecified"


class Kind(StrEnum):
    COVERAGE = "coverage"
    COINSURANCE = "coinsurance"
    COPAY = "copay"
    DEDUCTIBLE = "deductible"
    OUT_OF_POCKET_MAX = "out_of_pocket_max"
    LIMITATION = "limitation"
    NON_COVERED = "non_covered"
    SPEND_DOWN = "spend_down"
    COST_CONTAINMENT = "cost_containment"
    OTHER = "other"


class AppliesTo(StrEnum):
    """Whose benefit a row is: the vendor's notion of the asked service, the row's own codes, the whole plan, or not said."""

    ASKED_SERVICE = "asked_service"
    CODES = "codes"
    PLAN = "plan"
    UNKNOWN = "unknown"


class Network(StrEnum):
    IN = "in"
    OUT = "out"
    BOTH = "both"
    UNKNOWN = "unknown"


class Level(StrEnum):
    INDIVIDUAL = "individual"
    FAMILY = "family"
    EMPLOYEE_ONLY = "employee_only"
    EMPLOYEE_AND_SPOUSE = "employee_and_spouse"
    EMPLOYEE_AND_CHILDREN = "employee_and_children"
    SPOUSE_ONLY = "spouse_only"
    SPOUSE_AND_CHILDREN = "spouse_and_children"
    CHILDREN_ONLY = "children_only"
    DEPENDENTS_ONLY = "dependents_only"
    UNKNOWN = "unknown"


class Period(StrEnum):
    VISIT = "visit"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    CALENDAR_YEAR = "calendar_year"
    SERVICE_YEAR = "service_year"
    CONTRACT = "contract"
    YEAR = "year"
    LIFETIME = "lifetime"
    EPISODE = "episode"
    ADMISSION = "admission"
    OTHER = "other"
    UNKNOWN = "unknown"


class Unit(StrEnum):
    VISITS = "visits"
    DAYS = "days"
    HOURS = "hours"
    UNITS = "units"
    YEARS = "years"
    MONTHS = "months"
    OTHER = "other"


class Role(StrEnum):
    PRIMARY_CARE_PROVIDER = "primary_care_provider"
    FACILITY = "facility"
    MANAGED_CARE = "managed_care"
    THIRD_PARTY_ADMINISTRATOR = "third_party_administrator"
    CARVE_OUT = "carve_out"
    OTHER = "other"


class PatientRelationship(StrEnum):
    SELF = "self"
    SPOUSE = "spouse"
    CHILD = "child"
    OTHER_ADULT = "other_adult"
    LIFE_PARTNER = "life_partner"
    EMPLOYEE = "employee"
    OTHER = "other"
    UNKNOWN = "unknown"


class CodeType(StrEnum):
    PROCEDURE = "procedure"
    SERVICE_TYPE = "service_type"


class WarningCode(StrEnum):
    SERVICE_NOT_CONFIRMED = "service_not_confirmed"
    COVERAGE_DATES_CONFLICT = "coverage_dates_conflict"
    COVERAGE_MAY_END = "coverage_may_end"
    CONFLICTING_AMOUNTS = "conflicting_amounts"
    UNKNOWN_CODE = "unknown_code"
    PENDING_INVESTIGATION = "pending_investigation"
    PAYER_CHANGED = "payer_changed"
    MEMBER_DATA_DIFFERS = "member_data_differs"
    CONTACT_OTHER_ENTITY = "contact_other_entity"
    RAW_UNPARSABLE = "raw_unparsable"


class Row(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, json_schema_serialization_defaults_required=True
    )


class Warning_(Row):
    """`message` is a constant of the gateway, except that it may name a vendor's code; never PHI."""

    code: WarningCode
    message: str
    sources: list[str] = []


class ServiceAnswer(Row):
    code: str
    code_type: CodeType
    name: str | None = None
    covered: bool | None = None
    authorization_required: bool | None = None
    authorization_note: str | None = None
    deductible_waived: bool | None = None
    sources: Sources = {}


class PostalAddress(Row):
    line1: str | None = None
    line2: str | None = None
    city: str | None = None
    state: str | None = None
    zip: str | None = None


class Plan(Row):
    """`type` is an X12 EB04 code, `type_name` its name (or the vendor's own word)."""

    name: str | None = None
    number: str | None = None
    type: str | None = None
    type_name: str | None = None
    description: str | None = None
    group_number: str | None = None
    group_name: str | None = None
    network_id: str | None = None
    coverage_level: str | None = None
    is_calendar_year: bool | None = None
    is_primary: bool | None = None
    starts_on: date | None = None
    ends_on: date | None = None
    sources: Sources = {}


class AlternatePayer(Row):
    id: str | None = None
    name: str | None = None
    category: str | None = None
    type: str | None = None
    address: str | None = None
    phone: str | None = None


class PayerAnswer(Row):
    id: str | None = None
    name: str | None = None
    alternate: AlternatePayer | None = None
    is_tpa: bool | None = None
    phone: str | None = None
    fax: str | None = None
    website: str | None = None
    address: PostalAddress | None = None
    sources: Sources = {}


class Member(Row):
    """The patient or the subscriber as the vendor has them. `address.line1` holds the whole where the vendor gives one string."""

    first_name: str | None = None
    middle_name: str | None = None
    last_name: str | None = None
    date_of_birth: date | None = None
    gender: str | None = None
    member_id: str | None = None
    relationship: PatientRelationship = PatientRelationship.UNKNOWN
    address: PostalAddress | None = None
    sources: Sources = {}


class Quantity(Row):
    unit: Unit
    total: Quantity_ | None = None
    used: Quantity_ | None = None
    remaining: Quantity_ | None = None


class Benefit(Row):
    """One stated benefit. `code` keeps EB01 where there was one; `notes` keeps MSG text."""

    kind: Kind
    code: str | None = None
    description: str | None = None
    applies_to: AppliesTo = AppliesTo.UNKNOWN
    service_type_codes: list[str] = []
    procedure_codes: list[str] = []
    network: Network = Network.UNKNOWN
    level: Level = Level.UNKNOWN
    period: Period = Period.UNKNOWN
    tier: str | None = None
    insurance_type: str | None = None
    plan_name: str | None = None
    place_of_service: str | None = None
    starts_on: date | None = None
    ends_on: date | None = None
    amount: Money | None = None
    percent: Percent | None = None
    total: Money | None = None
    used: Money | None = None
    remaining: Money | None = None
    quantity: Quantity | None = None
    authorization_required: bool | None = None
    deductible_waived: bool | None = None
    accuracy: float | None = None
    notes: list[str] = []
    sources: Sources = {}


class NamedPayer(Row):
    id: str | None = None
    name: str | None = None


class OtherCoverage(Row):
    order: str | None = None
    payer: NamedPayer = NamedPayer()
    member_id: str | None = None
    qualifier: str | None = None
    starts_on: date | None = None
    ends_on: date | None = None
    sources: Sources = {}


class RelatedEntity(Row):
    role: Role = Role.OTHER
    entity_code: str | None = None
    name: str | None = None
    npi: str | None = None
    id: str | None = None
    category: str | None = None
    type: str | None = None
    address: PostalAddress | None = None
    phone: str | None = None
    fax: str | None = None
    sources: Sources = {}


class Authorization(Row):
    number: str | None = None
    starts_on: date | None = None
    ends_on: date | None = None
    unit: str | None = None
    authorized: str | None = None
    used: str | None = None
    remaining: str | None = None


class References(Row):
    vendor_id: str | None = None
    trace_number: str | None = None
    call_reference: str | None = None
    representative: str | None = None


class PayerStatus(Row):
    code: str | None = None
    text: str | None = None


class Accumulator(Row):
    total: Money | None = None
    used: Money | None = None
    remaining: Money | None = None


class ByLevel(Row):
    individual: Accumulator | None = None
    family: Accumulator | None = None
    unknown_level: Accumulator | None = None


class NetworkSummary(Row):
    copay: Money | None = None
    coinsurance_percent: Percent | None = None
    deductible: ByLevel = ByLevel()
    out_of_pocket_max: ByLevel = ByLevel()
    authorization_required: bool | None = None


class Summary(Row):
    """Per network; a network of which nothing was stated is null."""

    in_: NetworkSummary | None = Field(default=None, alias="in")
    out: NetworkSummary | None = None
    unknown: NetworkSummary | None = None

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)


class Statement(Row):
    """What a vendor stated, before anything is derived. Translators build this and nothing more."""

    coverage: Coverage
    service_covered: bool | None = None
    """Set only where the vendor answers for its own notion of the service (Sohar); else left to `services`."""
    provider_in_network: bool | None = None
    as_of: date
    answered_at: datetime
    services: list[ServiceAnswer] = []
    plan: Plan = Plan()
    payer: PayerAnswer = PayerAnswer()
    patient: Member = Member()
    subscriber: Member | None = None
    benefits: list[Benefit] = []
    other_coverage: list[OtherCoverage] = []
    related_entities: list[RelatedEntity] = []
    authorizations: list[Authorization] = []
    referral_required: bool | None = None
    references: References = References()
    payer_status: PayerStatus = PayerStatus()
    notes: list[str] = []
    warnings: list[Warning_] = []
    ineligible_without_reason: bool = False
    """The vendor said "not eligible" and not why: outcome `ineligible`/`unspecified`."""


class Result(Row):
    """The answer as the API shows it. Made by `conclusion.conclude`."""

    coverage: Coverage
    service_covered: bool | None
    provider_in_network: bool | None
    as_of: date
    answered_at: datetime
    services: list[ServiceAnswer]
    plan: Plan
    payer: PayerAnswer
    patient: Member
    subscriber: Member | None
    summary: Summary
    benefits: list[Benefit]
    other_coverage: list[OtherCoverage]
    related_entities: list[RelatedEntity]
    authorizations: list[Authorization]
    referral_required: bool | None
    references: References
    payer_status: PayerStatus
    notes: list[str]
    warnings: list[Warning_]


def pointers(prefix: str, **fields: Iterable[Any] | str | None) -> Sources:
    """`sources` from field → path below `prefix` (one path or several); fields given as None are left out.

    >>> pointers("/exchanges/0/body", total=("benefits", 0, "copay"))
    {'total': ['/exchanges/0/body/benefits/0/copay']}
    """
    found: Sources = {}
    for field, path in fields.items():
        if path is not None:
            found[field] = [pointer(prefix, *([path] if isinstance(path, str) else path))]
    return found


def pointer(prefix: str, *path: Any) -> str:
    """A JSON pointer (RFC 6901) below `prefix`."""
    return prefix + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
