"""The result: the normalized answer to an inquiry (docs/api.md#4-the-result), made by `derive.derive` and nowhere else.

Unknown is never zero: a value that the vendor did not state stays `None`, `[]` or `unknown`.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated

from pydantic import ConfigDict, Field, PlainSerializer, WithJsonSchema

from covergate.eligibility.part import ResultPart
from covergate.eligibility.sourced import Sources
from covergate.eligibility.terms import (
    AppliesTo,
    AuthorizationNeed,
    BenefitPlace,
    BillToReason,
    CodeType,
    Coverage,
    Kind,
    Level,
    MatchedBy,
    Network,
    OtherCoverageKind,
    PatientRelationship,
    Period,
    Program,
    ProviderKind,
    Role,
    Unit,
    WarningCode,
    WhyNull,
)


def _plain(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _with_cents(value: Decimal) -> str:
    """Amounts have two decimals since they were read, and to write them out anew takes four times as long."""
    text = str(value)
    return text if text[-3:-2] == "." else f"{value:.2f}"


Money = Annotated[Decimal, PlainSerializer(_with_cents, return_type=str)]
_Number = WithJsonSchema({"type": "number"}, mode="serialization")
Percent = Annotated[Decimal, PlainSerializer(_plain, return_type=int | float), _Number]
Count = Annotated[Decimal, PlainSerializer(_plain, return_type=int | float), _Number]


class Warning_(ResultPart, title="Warning"):
    """`message` is a constant of the gateway, except that it may name a vendor's code; never PHI."""

    code: WarningCode
    message: str
    sources: list[str] = Field(default_factory=list)


class AuthorizationByNetwork(ResultPart):
    in_: AuthorizationNeed = Field(default=AuthorizationNeed.UNKNOWN, alias="in")
    out: AuthorizationNeed = AuthorizationNeed.UNKNOWN
    unknown: AuthorizationNeed = AuthorizationNeed.UNKNOWN

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)


class ServiceAnswer(ResultPart):
    """`authorization_required` is what holds in every network that was spoken of, null if they differ."""

    code: str
    code_type: CodeType
    name: str | None = None
    covered: bool | None = None
    authorization_required: bool | None = None
    authorization: AuthorizationByNetwork = AuthorizationByNetwork()
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
    open_ended: bool = False
    """The end is stated as a day that means "no end"."""
    paid_through: date | None = None
    """The last day for which premiums are paid."""
    sources: Sources = Field(default_factory=dict)


class PlanPart(ResultPart):
    """One of the plans of an answer. `benefits` are the indexes of its rows in `result.benefits`."""

    name: str | None = None
    type: str | None = None
    program: Program = Program.UNKNOWN
    coverage: Coverage = Coverage.UNKNOWN
    starts_on: date | None = None
    ends_on: date | None = None
    open_ended: bool = False
    group_number: str | None = None
    benefits: list[int] = Field(default_factory=list)
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
    """One stated benefit. `code` keeps EB01 if there was one; `notes` keeps MSG text.

    `limited_to` are the payer's words that narrow the row: it then never speaks of the service in general. `unlimited`: the
    amount or count stands for "no limit".
    """

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
    place: BenefitPlace | None = None
    provider_kind: ProviderKind | None = None
    facility: str | None = None
    limited_to: list[str] = Field(default_factory=list)
    starts_on: date | None = None
    ends_on: date | None = None
    open_ended: bool = False
    amount: Money | None = None
    percent: Percent | None = None
    total: Money | None = None
    used: Money | None = None
    remaining: Money | None = None
    unlimited: bool = False
    quantity: Quantity | None = None
    authorization_required: bool | None = None
    authorization: AuthorizationNeed = AuthorizationNeed.UNKNOWN
    deductible_waived: bool | None = None
    counts_to_out_of_pocket: bool | None = None
    includes_deductible: bool | None = None
    """Whether what is paid for the deductible counts to this out-of-pocket maximum."""
    shared_with: list[str] = Field(default_factory=list)
    """What draws on the same amount: networks (`in`, `out`) or service types."""
    accuracy: float | None = None
    notes: list[str] = Field(default_factory=list)
    sources: Sources = Field(default_factory=dict)


class NamedPayer(ResultPart):
    id: str | None = None
    name: str | None = None


class OtherCoverage(ResultPart):
    """Insurance of the patient beside the one asked. `subscriber` is the person in whose name it is."""

    order: str | None = None
    kind: OtherCoverageKind = OtherCoverageKind.UNKNOWN
    payer: NamedPayer = NamedPayer()
    member_id: str | None = None
    qualifier: str | None = None
    service_type_codes: list[str] = Field(default_factory=list)
    plan_number: str | None = None
    group_number: str | None = None
    phone: str | None = None
    address: PostalAddress | None = None
    subscriber: Member | None = None
    starts_on: date | None = None
    ends_on: date | None = None
    open_ended: bool = False
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
    website: str | None = None
    service_type_codes: list[str] = Field(default_factory=list)
    """Of the row that names the entity: for what it is the one to ask."""
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
    verification_number: str | None = None
    """The payer's number of this inquiry, its proof in an appeal."""
    call_reference: str | None = None
    representative: str | None = None


class PayerStatus(ResultPart):
    code: str | None = None
    text: str | None = None


class Accumulator(ResultPart):
    """`unlimited`: there is no limit, so that a total would be none. `shared_with`, `includes_deductible`: see `Benefit`."""

    total: Money | None = None
    used: Money | None = None
    remaining: Money | None = None
    unlimited: bool = False
    shared_with: list[str] = Field(default_factory=list)
    includes_deductible: bool | None = None


class ByLevel(ResultPart):
    """`embedded`: a person has a limit of their own within the family's; false if only the family has one.

    `effective_remaining` is the least of what is left for the person and for the family: what this patient's bill can meet.
    """

    individual: Accumulator | None = None
    family: Accumulator | None = None
    unknown_level: Accumulator | None = None
    embedded: bool | None = None
    effective_remaining: Money | None = None


class NetworkSummary(ResultPart):
    """`from_both` names the values that were stated for no network in particular (EB12 is W)."""

    covered: bool | None = None
    copay: Money | None = None
    coinsurance_percent: Percent | None = None
    deductible: ByLevel = ByLevel()
    out_of_pocket_max: ByLevel = ByLevel()
    authorization_required: bool | None = None
    authorization: AuthorizationNeed = AuthorizationNeed.UNKNOWN
    from_both: list[str] = Field(default_factory=list)


class CostShare(ResultPart):
    """What the patient pays for some services under some conditions. Null and `[]` are no condition."""

    network: Network = Network.UNKNOWN
    service_type_codes: list[str] = Field(default_factory=list)
    procedure_codes: list[str] = Field(default_factory=list)
    place: BenefitPlace | None = None
    provider_kind: ProviderKind | None = None
    tier: str | None = None
    facility: str | None = None
    limited_to: list[str] = Field(default_factory=list)
    copay: Money | None = None
    coinsurance_percent: Percent | None = None
    deductible_applies: bool | None = None
    counts_to_out_of_pocket: bool | None = None
    authorization: AuthorizationNeed = AuthorizationNeed.UNKNOWN
    sources: Sources = Field(default_factory=dict)


class ServiceShare(ResultPart):
    """The cost share that matches the asked service, place of service and specialty, and in one sentence why it does."""

    network: Network = Network.UNKNOWN
    copay: Money | None = None
    coinsurance_percent: Percent | None = None
    deductible_applies: bool | None = None
    visits: Quantity | None = None
    authorization: AuthorizationNeed = AuthorizationNeed.UNKNOWN
    matched_by: MatchedBy | None = None
    why: str | None = None
    sources: Sources = Field(default_factory=dict)


class Summary(ResultPart):
    """By network; null for a network of which nothing was stated.

    `this_provider` is the network that the asking provider is in. `why_null` gives for each null cell, by its path
    (`in.deductible.individual`, `service.copay`), the reason.
    """

    in_: NetworkSummary | None = Field(default=None, alias="in")
    out: NetworkSummary | None = None
    unknown: NetworkSummary | None = None
    this_provider: Network | None = None
    service: ServiceShare = ServiceShare()
    why_null: dict[str, WhyNull] = Field(default_factory=dict)

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)


class PayerToBill(ResultPart):
    """`directory_id` is that of the payer asked; null for any other, whom the directory is asked for when a request names it."""

    id: str | None = None
    name: str | None = None
    phone: str | None = None
    address: PostalAddress | None = None
    directory_id: str | None = None


class BillTo(ResultPart):
    """Whom to send the claim for the asked service, by what the payer said; `service_type_codes` are those it is said of."""

    payer: PayerToBill = PayerToBill()
    because: BillToReason
    service_type_codes: list[str] = Field(default_factory=list)
    sources: Sources = Field(default_factory=dict)


class Result(ResultPart):
    """The answer as the API shows it."""

    coverage: Coverage
    service_covered: bool | None
    provider_in_network: bool | None
    as_of: date
    answered_at: datetime
    services: list[ServiceAnswer]
    plan: Plan
    plans: list[PlanPart]
    payer: PayerAnswer
    bill_to: BillTo | None
    patient: Member
    subscriber: Member | None
    summary: Summary
    cost_shares: list[CostShare]
    benefits: list[Benefit]
    other_coverage: list[OtherCoverage]
    related_entities: list[RelatedEntity]
    authorizations: list[Authorization]
    referral_required: bool | None
    references: References
    payer_status: PayerStatus
    notes: list[str]
    warnings: list[Warning_]
    mapping_version: str
    sources: Sources
