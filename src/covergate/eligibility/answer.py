"""What a vendor stated: the rows of a result, before anything is derived from them."""

from __future__ import annotations

from datetime import date, datetime

from pydantic import Field

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
    Row,
    ServiceAnswer,
    Warning_,
)
from covergate.eligibility.terms import Coverage


class Answer(Row):
    """What a vendor stated, before anything is derived. Translators build this and nothing more."""

    coverage: Coverage
    service_covered: bool | None = None
    """Set only where the vendor answers for its own notion of the service (Sohar); else left to `services`."""
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
    ineligible_without_reason: bool = False
    """The vendor said "not eligible" and not why: outcome `ineligible`/`unspecified`."""
