"""What is to be collected at the visit?"""

from __future__ import annotations

from decimal import Decimal

from covergate.eligibility.answers.result_reading import NOTHING_FOUND, Found, ResultReading
from covergate.eligibility.answers.rule import AnswerRule, always
from covergate.eligibility.terms import BillToReason, Confidence, Outcome, QuestionName, WarningCode

_PAYS_INSTEAD = frozenset(BillToReason) - {BillToReason.THIS_PAYER, BillToReason.TPA}
"""The benefits are another payer's."""


def _nothing_is_paid(reading: ResultReading) -> Found | None:
    return NOTHING_FOUND if reading.outcome == Outcome.INELIGIBLE else None


def _another_pays(reading: ResultReading) -> Found | None:
    return NOTHING_FOUND if reading.bill_to.get("because") in _PAYS_INSTEAD else None


def _spend_down(reading: ResultReading) -> Found | None:
    sources = reading.warned(WarningCode.SPEND_DOWN_OPEN)
    return None if sources is None else Found(None, sources)


def _outcome_unknown(reading: ResultReading) -> Found | None:
    return NOTHING_FOUND if reading.outcome != Outcome.ELIGIBLE else None


def _limit_met(reading: ResultReading) -> Found | None:
    cost, left = reading.visit_cost, reading.effective_left("out_of_pocket_max")
    if cost is None or left is None or Decimal(left):
        return None
    if not Decimal(cost.answer["copay"] or 1) and not cost.answer["coinsurance_percent"]:
        return None
    return Found(None, reading.pointers("out_of_pocket_max", "remaining", left))


def _collected(reading: ResultReading, amount: str | None) -> Found:
    cost = reading.visit_cost
    assert cost is not None
    applies = cost.answer["deductible_applies"]
    left = None if applies is False else reading.effective_left("deductible")
    answer = {"amount": amount, "coinsurance_percent": cost.answer["coinsurance_percent"], "deductible_left": left}
    return Found(answer, cost.sources)


def _deductible_first(reading: ResultReading) -> Found | None:
    cost = reading.visit_cost
    if cost is None or cost.answer["deductible_applies"] is not True:
        return None
    left = reading.effective_left("deductible")
    return None if left is not None and not Decimal(left) else _collected(reading, None)


def _copay_alone(reading: ResultReading) -> Found | None:
    cost = reading.visit_cost
    if cost is None or cost.answer["copay"] is None or cost.answer["coinsurance_percent"]:
        return None
    return _collected(reading, cost.answer["copay"])


def _copay_and_share(reading: ResultReading) -> Found | None:
    cost = reading.visit_cost
    if cost is None or cost.answer["copay"] is None:
        return None
    return _collected(reading, cost.answer["copay"])


def _nothing_due(reading: ResultReading) -> Found | None:
    cost = reading.visit_cost
    if cost is None or cost.answer["copay"] is not None or cost.answer["coinsurance_percent"] != 0:
        return None
    left = reading.effective_left("deductible")
    met = left is not None and not Decimal(left)
    return _collected(reading, "0.00") if met or cost.answer["deductible_applies"] is False else None


def _share_alone(reading: ResultReading) -> Found | None:
    return None if reading.visit_cost is None else _collected(reading, None)


_Q, _C = QuestionName, Confidence
COLLECTION_RULES: tuple[AnswerRule, ...] = (
    AnswerRule(
        _Q.WHAT_TO_COLLECT,
        "outcome `ineligible`",
        _C.DERIVED,
        "This coverage does not pay for the visit: the patient is to be told the self-pay price.",
        _nothing_is_paid,
    ),
    AnswerRule(
        _Q.WHAT_TO_COLLECT,
        "`bill_to` names a payer whose benefits are others",
        _C.DERIVED,
        "Another payer is to be billed, and its benefits say what the patient pays.",
        _another_pays,
    ),
    AnswerRule(
        _Q.WHAT_TO_COLLECT,
        "warning `spend_down_open`",
        _C.DERIVED,
        "The coverage begins to pay only when the spend-down has been met.",
        _spend_down,
    ),
    AnswerRule(
        _Q.WHAT_TO_COLLECT,
        "outcome not `eligible`",
        _C.NOT_STATED,
        "It is not known whether the coverage pays for the visit.",
        _outcome_unknown,
    ),
    AnswerRule(
        _Q.WHAT_TO_COLLECT,
        "nothing is left of the out-of-pocket maximum, and the copay is not nothing",
        _C.DERIVED,
        "The out-of-pocket maximum has been met: ask the payer whether the copay is still due.",
        _limit_met,
    ),
    AnswerRule(
        _Q.WHAT_TO_COLLECT,
        "the deductible comes first, and something of it is or may be left",
        _C.DERIVED,
        "The deductible comes first: the amount that the payer allows decides.",
        _deductible_first,
    ),
    AnswerRule(_Q.WHAT_TO_COLLECT, "a copay and no coinsurance", _C.DERIVED, "The copay of this visit.", _copay_alone),
    AnswerRule(
        _Q.WHAT_TO_COLLECT,
        "a copay and coinsurance",
        _C.DERIVED,
        "The copay now; the coinsurance depends on the amount that the payer allows.",
        _copay_and_share,
    ),
    AnswerRule(
        _Q.WHAT_TO_COLLECT,
        "a coinsurance of 0 alone, and no deductible before it",
        _C.DERIVED,
        "The plan pays the whole of the allowed amount.",
        _nothing_due,
    ),
    AnswerRule(
        _Q.WHAT_TO_COLLECT,
        "coinsurance alone",
        _C.DERIVED,
        "The coinsurance depends on the amount that the payer allows.",
        _share_alone,
    ),
    AnswerRule(_Q.WHAT_TO_COLLECT, "otherwise", _C.NOT_STATED, "The payer states no amount for this visit.", always),
)
