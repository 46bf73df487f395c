"""The normalized answer (api.md section 4), and `Statement`, what translators build.

A translator states what the vendor stated; everything that follows from it – the outcome, the summary, the
effect of plan dates, the canonical order – is derived in `conclusion.py` and nowhere else. Unknown is never zero: what the vendor
did not state stays `None`, `[]` or `unknown`.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from covergate.eligibility.sourced import Sources, _percent_number
from covergate.eligibility.terms import (
    AppliesTo,
    CodeType,
    Coverage,
    Kind,
    Level,
    Network,
    PatientRelationship,
    Period,
    Role,
    Unit,
    WarningCode,
)

Money = Annotated[Decimal, PlainSerializer(lambda value: f"{value:.2f}", return_type=str)]


_Number = WithJsonSchema({"type": "number"}, mode="serialization")
Percent = Annotated[Decimal, PlainSerializer(_percent_number, return_type=int | float), _Number]


Quantity_ = Annotated[Decimal, PlainSerializer(_percent_number, return_type=int | float), _Number]


class Row(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, json_schema_serialization_defaults_required=True
    )


class Warning_(Row, title="Warning"):
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
