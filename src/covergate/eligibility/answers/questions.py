"""The fixed questions of a front desk, and the form of the answer to each (docs/answers.md)."""

from __future__ import annotations

from typing import Any

from covergate.eligibility.part import ResultPart
from covergate.eligibility.result import Money, NamedPayer, PayerToBill, Percent, Quantity
from covergate.eligibility.terms import AuthorizationNeed, BillToReason, Network, OtherCoverageKind, QuestionName


class WhoToBill(ResultPart):
    payer: PayerToBill
    because: BillToReason


class VisitCost(ResultPart):
    network: Network
    copay: Money | None
    coinsurance_percent: Percent | None
    deductible_applies: bool | None


class DeductibleLeft(ResultPart):
    """`effective` is what this patient's bill can still meet: the least of the person's and the family's."""

    network: Network
    individual: Money | None
    family: Money | None
    unknown_level: Money | None
    effective: Money | None


class Telehealth(ResultPart):
    covered: bool | None
    copay: Money | None
    coinsurance_percent: Percent | None
    deductible_applies: bool | None


class OtherInsurance(ResultPart):
    order: str | None
    kind: OtherCoverageKind
    payer: NamedPayer
    member_id: str | None


class ToCollect(ResultPart):
    """`amount` is null if it depends on what the payer allows for the service; then the other two say how."""

    amount: Money | None
    coinsurance_percent: Percent | None
    deductible_left: Money | None


QUESTIONS: dict[QuestionName, tuple[str, Any]] = {
    QuestionName.ACTIVE: ("Is the coverage active on the service date?", bool),
    QuestionName.WHO_TO_BILL: ("Who is to be billed?", WhoToBill),
    QuestionName.IN_NETWORK: ("Is the provider in network?", bool),
    QuestionName.COPAY_FOR_THIS_VISIT: ("What does the patient pay for this visit?", VisitCost),
    QuestionName.DEDUCTIBLE_LEFT: ("How much of the deductible is left?", DeductibleLeft),
    QuestionName.VISITS_LEFT: ("How many visits are left?", Quantity),
    QuestionName.AUTHORIZATION: ("Is an authorization needed?", AuthorizationNeed),
    QuestionName.REFERRAL: ("Is a referral needed?", bool),
    QuestionName.TELEHEALTH: ("Is telehealth covered, and at what cost?", Telehealth),
    QuestionName.OTHER_INSURANCE: ("Is there other insurance?", list[OtherInsurance]),
    QuestionName.WHAT_TO_COLLECT: ("What is to be collected at the visit?", ToCollect),
}
"""Question → its words, and the form of its answer; the answer is null if it is not known."""
