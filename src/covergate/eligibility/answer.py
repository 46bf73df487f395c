"""A vendor's answer as stated: the parts of a result, before anything is derived from them."""

from __future__ import annotations

from datetime import date, datetime

from pydantic import Field

from covergate.eligibility.part import ResultPart
from covergate.eligibility.result import (
    Authorization,
    Benefit,
    Member,
    OtherCoverage,
    PayerAnswer,
    PayerStatus,
    Plan,
    References,
    RelatedEntity,
    ServiceAnswer,
    Warning_,
)
from covergate.eligibility.sourced import Sources
from covergate.eligibility.terms import Coverage


class Answer(ResultPart):
    """A vendor's statement. Translators build this and nothing more."""

    coverage: Coverage
    service_covered: bool | None = None
    """Set only if the vendor answers for its own notion of the service; otherwise left to `services`."""
    provider_in_network: bool | None = None
    as_of: date
    answered_at: datetime
    services: list[ServiceAnswer] = Field(default_factory=list)
    plan: Plan = Plan()
    payer: PayerAnswer = PayerAnswer()
    patient: Member = Member()
    subscriber: Member | None = None
    benefits: list[Benefit] = Field(default_factory=list)
    other_coverage: list[OtherCoverage] = Field(default_factory=list)
    related_entities: list[RelatedEntity] = Field(default_factory=list)
    authorizations: list[Authorization] = Field(default_factory=list)
    referral_required: bool | None = None
    references: References = References()
    payer_status: PayerStatus = PayerStatus()
    notes: list[str] = Field(default_factory=list)
    warnings: list[Warning_] = Field(default_factory=list)
    sources: Sources = Field(default_factory=dict)
    """Of `provider_in_network` and `referral_required`; of `coverage` and `service_covered`, if no row says them."""
    ineligible_without_reason: bool = False
    """The vendor said "not eligible" without a reason: outcome `ineligible`/`unspecified`."""
