"""Who is to be billed, is the provider in network, is there other insurance?"""

from __future__ import annotations

from collections.abc import Callable

from covergate.eligibility.answers.result_reading import Found, ResultReading, pointers_in
from covergate.eligibility.answers.rule import AnswerRule, always, stated_field
from covergate.eligibility.terms import BillToReason, Confidence, QuestionName


def _bill_to(*reasons: BillToReason) -> Callable[[ResultReading], Found | None]:
    def read(reading: ResultReading) -> Found | None:
        bill_to = reading.bill_to
        if not bill_to or bill_to["because"] not in reasons:
            return None
        return Found({"payer": bill_to["payer"], "because": bill_to["because"]}, pointers_in(bill_to))

    return read


def _other_insurance(reading: ResultReading) -> Found | None:
    others = reading.result["other_coverage"]
    if not others:
        return None
    answer = [{name: other[name] for name in ("order", "kind", "payer", "member_id")} for other in others]
    return Found(answer, sorted({pointer for other in others for pointer in pointers_in(other)}))


_Q, _C = QuestionName, Confidence
PAYER_RULES: tuple[AnswerRule, ...] = (
    AnswerRule(
        _Q.WHO_TO_BILL,
        "`bill_to` names this payer",
        _C.DERIVED,
        "Nothing in the answer says that another payer pays first.",
        _bill_to(BillToReason.THIS_PAYER),
    ),
    AnswerRule(
        _Q.WHO_TO_BILL,
        "`bill_to` names another",
        _C.STATED,
        "The payer says that another one is to be billed for this service.",
        _bill_to(*(reason for reason in BillToReason if reason is not BillToReason.THIS_PAYER)),
    ),
    AnswerRule(_Q.WHO_TO_BILL, "otherwise", _C.NOT_STATED, "The answer does not tell who pays.", always),
    AnswerRule(
        _Q.IN_NETWORK,
        "`provider_in_network` is stated",
        _C.STATED,
        "The payer says so of this provider.",
        stated_field("provider_in_network", by_phrase=False),
    ),
    AnswerRule(
        _Q.IN_NETWORK,
        "`provider_in_network` was read from a phrase",
        _C.DERIVED,
        "A message of the payer says so of this provider.",
        stated_field("provider_in_network", by_phrase=True),
    ),
    AnswerRule(
        _Q.IN_NETWORK,
        "otherwise",
        _C.NOT_STATED,
        "The payer did not say whether this provider is in network.",
        always,
    ),
    AnswerRule(
        _Q.OTHER_INSURANCE, "`other_coverage` is stated", _C.STATED, "The payer names other coverage.", _other_insurance
    ),
    AnswerRule(
        _Q.OTHER_INSURANCE,
        "otherwise",
        _C.NOT_STATED,
        "The payer names no other coverage, which does not mean that there is none.",
        always,
    ),
)
