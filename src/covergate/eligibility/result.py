"""The result: the normalized answer to an inquiry (docs/api.md#4-the-result), made by `derive.derive` and nowhere else.

Unknown is never zero: a value that the vendor did not state stays `None`, `[]` or `unknown`.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from covergate.eligibility.sourced import Sources
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


def _plain(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


Money = Annotated[Decimal, PlainSerializer(lambda value: f"{value:.2f}", return_type=str)]
_Number = WithJsonSchema({"type": "number"}, mode="serialization")
Percent = Annotated[Decimal, PlainSerializer(_plain, return_type=int | float), _Number]
Count = Annotated[Decimal, PlainSerializer(_plain, return_type=int | float), _Number]


class ResultPart(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, json_schema_serialization_defaults_required=True
    )


class Warning_(ResultPart, title="Warning"):
    """`message` is a constant of the gateway, except that it may name a vendor's code; never PHI."""

    code: WarningCode
    message: str
    sources: list[str] = Field(default_factory=list)


class ServiceAnswer(ResultPart):
    code: str
    code_type: CodeType
    name: str | None = None
    covered: bool | None = None
    authorization_required: bool | None = None
    authorization_note: str | None = None
    deductible_waived: bool | None = None
    sources: Sources = Field(default_factory=dict)


class PostalAddress(ResultPart):
    line1: str | None = None
    line2: str | None = None
    city: str | None = None
    state: str | None = None
    zip: str | None = None


class Plan(ResultPart):
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
    sources: Sources = Field(default_factory=dict)


class AlternatePayer(ResultPart):
    id: str | None = None
    name: str | None = None
    category: str | None = None
    type: str | None = None
    address: str | None = None
    phone: str | None = None


class PayerAnswer(ResultPart):
    id: str | None = None
    name: str | None = None
    alternate: AlternatePayer | None = None
    is_tpa: bool | None = None
    phone: str | None = None
    fax: str | None = None
    website: str | None = None
    address: PostalAddress | None = None
    sources: Sources = Field(default_factory=dict)


class Member(ResultPart):
    """The patient or the subscriber by the vendor's records. `address.line1` holds an address given as one string."""

    first_name: str | None = None
    middle_name: str | None = None
    last_name: str | None = None
    date_of_birth: date | None = None
    gender: str | None = None
    member_id: str | None = None
    relationship: PatientRelationship = PatientRelationship.UNKNOWN
    address: PostalAddress | None = None
    sources: Sources = Field(default_factory=dict)


class Quantity(ResultPart):
    unit: Unit
    total: Count | None = None
    used: Count | None = None
    remaining: Count | None = None


class Benefit(ResultPart):
    """One stated benefit. `code` keeps EB01 if there was one; `notes` keeps MSG text."""

    kind: Kind
    code: str | None = None
    description: str | None = None
    applies_to: AppliesTo = AppliesTo.UNKNOWN
    service_type_codes: list[str] = Field(default_factory=list)
    procedure_codes: list[str] = Field(default_factory=list)
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
    notes: list[str] = Field(default_factory=list)
    sources: Sources = Field(default_factory=dict)


class NamedPayer(ResultPart):
    id: str | None = None
    name: str | None = None


class OtherCoverage(ResultPart):
    order: str | None = None
    payer: NamedPayer = NamedPayer()
    member_id: str | None = None
    qualifier: str | None = None
    starts_on: date | None = None
    ends_on: date | None = None
    sources: Sources = Field(default_factory=dict)


class RelatedEntity(ResultPart):
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
    sources: Sources = Field(default_factory=dict)


class Authorization(ResultPart):
    number: str | None = None
    starts_on: date | None = None
    ends_on: date | None = None
    unit: str | None = None
    authorized: str | None = None
    used: str | None = None
    remaining: str | None = None


class References(ResultPart):
    vendor_id: str | None = None
    trace_number: str | None = None
    call_reference: str | None = None
    representative: str | None = None


class PayerStatus(ResultPart):
    code: str | None = None
    text: str | None = None


class Accumulator(ResultPart):
    total: Money | None = None
    used: Money | None = None
    remaining: Money | None = None


class ByLevel(ResultPart):
    individual: Accumulator | None = None
    family: Accumulator | None = None
    unknown_level: Accumulator | None = None


class NetworkSummary(ResultPart):
    copay: Money | None = None
    coinsurance_percent: Percent | None = None
    deductible: ByLevel = ByLevel()
    out_of_pocket_max: ByLevel = ByLevel()
    authorization_required: bool | None = None


class Summary(ResultPart):
    """By network; null for a network of which nothing was stated."""

    in_: NetworkSummary | None = Field(default=None, alias="in")
    out: NetworkSummary | None = None
    unknown: NetworkSummary | None = None

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)


class Result(ResultPart):
    """The answer as the API shows it."""

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
