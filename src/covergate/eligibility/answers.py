"""The fixed questions that a front desk asks of a result, each answered by the first rule that fits (docs/answers.md).

Everything here is read from the result as it is shown, its outcome and the outcome's reason, and from nothing else; `because` is
the rule's own sentence and holds no PHI. A rule never turns "not stated" into a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from covergate.eligibility.part import ResultPart
from covergate.eligibility.result import Money, NamedPayer, PayerToBill, Percent, Quantity
from covergate.eligibility.sourced import pointers_at
from covergate.eligibility.terms import (
    AuthorizationNeed,
    BillToReason,
    Confidence,
    Coverage,
    Network,
    OtherCoverageKind,
    Outcome,
    OutcomeReason,
    QuestionName,
    WarningCode,
    WhyNull,
)

_Row = Mapping[str, Any]
_NONE: _Row = {}


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


class _Found(NamedTuple):
    answer: Any
    sources: list[str]


_NOTHING = _Found(None, [])


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    question: QuestionName
    answer: Any
    confidence: Confidence
    because: str
    sources: list[str]

    def shown(self) -> dict[str, Any]:
        return {
            "question": self.question,
            "answer": self.answer,
            "confidence": self.confidence,
            "because": self.because,
            "sources": self.sources,
        }


class ResultReading:
    """A result with every key, as JSON, and what several rules need of it."""

    def __init__(self, result: _Row, outcome: str | None, reason: str | None) -> None:
        self.result, self.outcome, self.reason = result, outcome, reason
        self.summary: _Row = result["summary"]
        self.service: _Row = self.summary["service"]
        self.why_null: _Row = self.summary["why_null"]
        self.provider_network = _network_of_provider(result)
        """`in` or `out`; None if nobody said."""
        self.network = self.provider_network or self._stated_network()
        """The network whose amounts are shown; None if there are none."""
        self.cell: _Row = self.summary[self.network] or _NONE if self.network else _NONE
        self.bill_to: _Row = result["bill_to"] or _NONE

    def _stated_network(self) -> str | None:
        if self.service["network"] in (Network.IN, Network.OUT):
            return str(self.service["network"])
        return next((name for name in (Network.IN, Network.UNKNOWN, Network.OUT) if self.summary[name]), None)

    def warned(self, code: WarningCode) -> list[str] | None:
        """The warning's sources; None if there is no such warning."""
        return next((warning["sources"] for warning in self.result["warnings"] if warning["code"] == code), None)

    def why(self, *paths: str) -> set[str]:
        """The reasons for which these cells of the summary, or those below them, are null."""
        return {
            reason
            for path, reason in self.why_null.items()
            if any(path == one or path.startswith(f"{one}.") for one in paths)
        }

    def rows(self, kind: str) -> Iterator[_Row]:
        """The benefits of a kind that feed the network whose amounts are shown."""
        networks = {self.network, Network.BOTH if self.network in (Network.IN, Network.OUT) else self.network}
        return (row for row in self.result["benefits"] if row["kind"] == kind and row["network"] in networks)

    @property
    def visit_cost(self) -> _Found | None:
        """The share of the asked service; that of the network only if nothing was concluded of the service."""
        if self._states_cost(self.service):
            return _Found(_cost(self.service, self.service["network"]), _pointers(self.service, *_COST))
        if self.why("service") or not self._states_cost(self.cell):
            return None
        cost = {**self.cell, "deductible_applies": None}
        pointers = [
            *self.pointers("copay", "amount", self.cell["copay"]),
            *self.pointers("coinsurance", "percent", self.cell["coinsurance_percent"]),
        ]
        return _Found(_cost(cost, self.network), sorted(pointers))

    @staticmethod
    def _states_cost(cell: _Row) -> bool:
        return bool(cell) and (cell["copay"] is not None or cell["coinsurance_percent"] is not None)

    def pointers(self, kind: str, field: str, value: Any) -> list[str]:
        """Where the benefits of a kind state this value."""
        found = [
            pointers_at(row["sources"], field) for row in self.rows(kind) if value is not None and row[field] == value
        ]
        return sorted({pointer for pointers in found for pointer in pointers})

    def left(self, kind: str) -> dict[str, str | None]:
        """Level → what is left of the accumulator in the network whose amounts are shown."""
        levels: _Row = self.cell.get(kind) or _NONE
        return {level: left_of(levels.get(level)) for level in _LEVELS}

    def effective_left(self, kind: str) -> str | None:
        """What this patient's bill can still meet, as far as it is stated."""
        levels, left = self.cell.get(kind) or _NONE, self.left(kind)
        if levels.get("effective_remaining") is not None:
            return str(levels["effective_remaining"])
        return min((amount for amount in left.values() if amount is not None), key=Decimal, default=None)


_COST = ("copay", "coinsurance_percent", "deductible_applies")
_LEVELS = ("individual", "family", "unknown_level")


def _network_of_provider(result: _Row) -> str | None:
    named = result["summary"]["this_provider"]
    if named in (Network.IN, Network.OUT):
        return str(named)
    inside = result["provider_in_network"]
    return None if inside is None else Network.IN.value if inside else Network.OUT.value


def _cost(share: _Row, network: str | None) -> dict[str, Any]:
    return {
        "network": network or Network.UNKNOWN.value,
        "copay": share["copay"],
        "coinsurance_percent": share["coinsurance_percent"],
        "deductible_applies": share["deductible_applies"],
    }


def left_of(accumulator: _Row | None) -> str | None:
    """Of a deductible or a maximum: as stated, or the total less what is used, never below zero; nothing of a total of zero."""
    if accumulator is None or accumulator["remaining"] is not None:
        return None if accumulator is None else str(accumulator["remaining"])
    total, used = accumulator["total"], accumulator["used"]
    if total is None or (used is None and Decimal(total)):
        return None
    return f"{max(Decimal(total) - Decimal(used or 0), Decimal(0)):.2f}"


def _pointers(row: _Row, *fields: str) -> list[str]:
    """Of these fields of a row, of all if none is named."""
    named = fields or tuple(row["sources"])
    return sorted({pointer for field in named for pointer in pointers_at(row["sources"], field)})


def _is_phrase(row: _Row, field: str) -> bool:
    return not isinstance(row["sources"].get(field, []), list)


# --- active ----------------------------------------------------------------------------------------------------------


def _coverage(reading: ResultReading, answer: bool | None) -> _Found:
    result = reading.result
    stating = [row for row in result["benefits"] if row["kind"] == "coverage"]
    pointers = {pointer for row in stating for pointer in _pointers(row)}
    return _Found(answer, sorted(pointers | set(pointers_at(result["sources"], "coverage"))))


def _disagreeing(reading: ResultReading) -> _Found | None:
    sources = reading.warned(WarningCode.SEVERAL_PLANS_DISAGREE)
    return None if sources is None else _Found(None, sources)


def _excluded(reading: ResultReading) -> _Found | None:
    sources = reading.warned(WarningCode.COVERAGE_DATES_CONFLICT)
    return None if sources is None else _Found(False, sources)


def _active_with(code: WarningCode) -> Callable[[ResultReading], _Found | None]:
    def read(reading: ResultReading) -> _Found | None:
        sources = reading.warned(code)
        if sources is None or reading.result["coverage"] != Coverage.ACTIVE:
            return None
        return _Found(True, sources or _coverage(reading, True).sources)

    return read


def _active(reading: ResultReading) -> _Found | None:
    return _coverage(reading, True) if reading.result["coverage"] == Coverage.ACTIVE else None


def _inactive(reading: ResultReading) -> _Found | None:
    return _coverage(reading, False) if reading.result["coverage"] == Coverage.INACTIVE else None


def _not_eligible(reading: ResultReading) -> _Found | None:
    return _Found(False, []) if reading.reason == OutcomeReason.UNSPECIFIED else None


# --- the others ------------------------------------------------------------------------------------------------------


def _bill_to(*reasons: BillToReason) -> Callable[[ResultReading], _Found | None]:
    def read(reading: ResultReading) -> _Found | None:
        bill_to = reading.bill_to
        if not bill_to or bill_to["because"] not in reasons:
            return None
        return _Found({"payer": bill_to["payer"], "because": bill_to["because"]}, _pointers(bill_to))

    return read


def _field(field: str, *, by_phrase: bool) -> Callable[[ResultReading], _Found | None]:
    def read(reading: ResultReading) -> _Found | None:
        result = reading.result
        if result[field] is None or _is_phrase(result, field) is not by_phrase:
            return None
        return _Found(result[field], pointers_at(result["sources"], field))

    return read


def _cost_by_code(reading: ResultReading) -> _Found | None:
    return reading.visit_cost if reading.service["matched_by"] == "code" else None


def _cost_of_visit(reading: ResultReading) -> _Found | None:
    return reading.visit_cost


def _cost_is_null(reason: WhyNull) -> Callable[[ResultReading], _Found | None]:
    def read(reading: ResultReading) -> _Found | None:
        return _NOTHING if reason in reading.why("service.copay", "service.coinsurance_percent") else None

    return read


def _deductible(reading: ResultReading) -> _Found | None:
    left = reading.left("deductible")
    if not any(left.values()):
        return None
    answer = {"network": reading.network, **left, "effective": reading.effective_left("deductible")}
    levels = [reading.cell["deductible"][level] or _NONE for level in _LEVELS]
    pointers = {
        pointer
        for accumulator in levels
        for field in ("remaining", "total", "used")
        if accumulator.get("remaining") is None or field == "remaining"
        for pointer in reading.pointers("deductible", field, accumulator.get(field))
    }
    return _Found(answer, sorted(pointers))


def _deductible_as_stated(reading: ResultReading) -> _Found | None:
    known = reading.provider_network or reading.network == Network.UNKNOWN
    return _deductible(reading) if known and not _is_counted(reading) else None


def _deductible_counted(reading: ResultReading) -> _Found | None:
    return _deductible(reading) if _is_counted(reading) else None


def _is_counted(reading: ResultReading) -> bool:
    levels = reading.cell.get("deductible") or _NONE
    return any(levels[level] and levels[level]["remaining"] is None for level in _LEVELS) if levels else False


def _deductible_in_conflict(reading: ResultReading) -> _Found | None:
    return _NOTHING if WhyNull.CONFLICT in reading.why(f"{reading.network}.deductible") else None


def _visits(reading: ResultReading) -> _Found | None:
    visits = reading.service["visits"]
    return None if visits is None else _Found(visits, _pointers(reading.service, "visits"))


def _authorization_of_service(reading: ResultReading) -> _Found | None:
    need = reading.service["authorization"]
    if need == AuthorizationNeed.UNKNOWN or reading.service["matched_by"] != "code":
        return None
    return _Found(need, _pointers(reading.service, "authorization"))


def _authorization_beside(reading: ResultReading) -> _Found | None:
    for part in (reading.service, reading.cell):
        if part and part["authorization"] != AuthorizationNeed.UNKNOWN:
            stating = [row for row in reading.result["benefits"] if row["authorization"] == part["authorization"]]
            pointers = {
                pointer for row in stating for field in _AUTHORIZATION for pointer in pointers_at(row["sources"], field)
            }
            return _Found(part["authorization"], sorted(pointers))
    return None


_AUTHORIZATION = ("authorization", "authorization_required")


def _authorization_in_conflict(reading: ResultReading) -> _Found | None:
    paths = ("service.authorization", f"{reading.network}.authorization", f"{reading.network}.authorization_required")
    return _NOTHING if WhyNull.CONFLICT in reading.why(*paths) else None


def _telehealth_shares(reading: ResultReading) -> list[_Row]:
    networks = {reading.network or Network.IN.value, Network.BOTH.value, Network.UNKNOWN.value}
    return [
        share
        for share in reading.result["cost_shares"]
        if share["place"] == "telehealth" and not share["limited_to"] and share["network"] in networks
    ]


def _telehealth_costs(shares: Iterable[_Row]) -> list[dict[str, Any]]:
    fields = ("copay", "coinsurance_percent", "deductible_applies")
    costs = {tuple(share[field] for field in fields) for share in shares}
    return [dict(zip(fields, cost, strict=True)) for cost in costs if cost[:2] != (None, None)]


def _telehealth_denied(reading: ResultReading) -> _Found | None:
    denying = [row for row in reading.rows("non_covered") if row["place"] == "telehealth" and not row["limited_to"]]
    if not denying:
        return None
    answer = {"covered": False, **dict.fromkeys(("copay", "coinsurance_percent", "deductible_applies"))}
    return _Found(answer, sorted({pointer for row in denying for pointer in _pointers(row)}))


def _telehealth(reading: ResultReading) -> _Found | None:
    shares = _telehealth_shares(reading)
    costs = _telehealth_costs(shares)
    if len(costs) != 1:
        return None
    return _Found({"covered": True, **costs[0]}, sorted({pointer for share in shares for pointer in _pointers(share)}))


def _telehealth_varies(reading: ResultReading) -> _Found | None:
    return _NOTHING if len(_telehealth_costs(_telehealth_shares(reading))) > 1 else None


def _other_insurance(reading: ResultReading) -> _Found | None:
    others = reading.result["other_coverage"]
    if not others:
        return None
    answer = [{name: other[name] for name in ("order", "kind", "payer", "member_id")} for other in others]
    return _Found(answer, sorted({pointer for other in others for pointer in _pointers(other)}))


# --- what to collect -------------------------------------------------------------------------------------------------

_PAYS_INSTEAD = frozenset(BillToReason) - {BillToReason.THIS_PAYER, BillToReason.TPA}
"""The benefits are another payer's."""


def _nothing_is_paid(reading: ResultReading) -> _Found | None:
    return _NOTHING if reading.outcome == Outcome.INELIGIBLE else None


def _another_pays(reading: ResultReading) -> _Found | None:
    return _NOTHING if reading.bill_to.get("because") in _PAYS_INSTEAD else None


def _spend_down(reading: ResultReading) -> _Found | None:
    sources = reading.warned(WarningCode.SPEND_DOWN_OPEN)
    return None if sources is None else _Found(None, sources)


def _outcome_unknown(reading: ResultReading) -> _Found | None:
    return _NOTHING if reading.outcome != Outcome.ELIGIBLE else None


def _limit_met(reading: ResultReading) -> _Found | None:
    left = reading.effective_left("out_of_pocket_max")
    if reading.visit_cost is None or left is None or Decimal(left):
        return None
    return _Found(None, reading.pointers("out_of_pocket_max", "remaining", left))


def _collected(reading: ResultReading, amount: str | None) -> _Found:
    cost = reading.visit_cost
    assert cost is not None
    applies = cost.answer["deductible_applies"]
    left = None if applies is False else reading.effective_left("deductible")
    answer = {"amount": amount, "coinsurance_percent": cost.answer["coinsurance_percent"], "deductible_left": left}
    return _Found(answer, cost.sources)


def _deductible_first(reading: ResultReading) -> _Found | None:
    cost = reading.visit_cost
    if cost is None or cost.answer["deductible_applies"] is not True:
        return None
    left = reading.effective_left("deductible")
    return None if left is not None and not Decimal(left) else _collected(reading, None)


def _copay_alone(reading: ResultReading) -> _Found | None:
    cost = reading.visit_cost
    if cost is None or cost.answer["copay"] is None or cost.answer["coinsurance_percent"]:
        return None
    return _collected(reading, cost.answer["copay"])


def _copay_and_share(reading: ResultReading) -> _Found | None:
    cost = reading.visit_cost
    if cost is None or cost.answer["copay"] is None:
        return None
    return _collected(reading, cost.answer["copay"])


def _nothing_due(reading: ResultReading) -> _Found | None:
    cost = reading.visit_cost
    if cost is None or cost.answer["copay"] is not None or cost.answer["coinsurance_percent"] != 0:
        return None
    left = reading.effective_left("deductible")
    met = left is not None and not Decimal(left)
    return _collected(reading, "0.00") if met or cost.answer["deductible_applies"] is False else None


def _share_alone(reading: ResultReading) -> _Found | None:
    return None if reading.visit_cost is None else _collected(reading, None)


def _always(reading: ResultReading) -> _Found:
    return _NOTHING


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """`when` says in words what `read` looks for; it returns None if the rule does not fit."""

    question: QuestionName
    when: str
    confidence: Confidence
    because: str
    read: Callable[[ResultReading], _Found | None]


_Q, _C = QuestionName, Confidence
RULES: tuple[AnswerRule, ...] = (
    AnswerRule(
        _Q.ACTIVE,
        "warning `several_plans_disagree`",
        _C.CONFLICT,
        "The answer has several plans that disagree, and none is that of the service.",
        _disagreeing,
    ),
    AnswerRule(
        _Q.ACTIVE,
        "warning `coverage_dates_conflict`",
        _C.DERIVED,
        "The payer says active, but the plan's dates do not include the service date.",
        _excluded,
    ),
    AnswerRule(
        _Q.ACTIVE,
        "active, with warning `coverage_may_end`",
        _C.DERIVED,
        "Active today, but the plan's dates do not include the service date, which is still to come.",
        _active_with(WarningCode.COVERAGE_MAY_END),
    ),
    AnswerRule(
        _Q.ACTIVE,
        "active, with warning `limited_benefit`",
        _C.STATED,
        "Active, but limited to a part of what a medical plan covers.",
        _active_with(WarningCode.LIMITED_BENEFIT),
    ),
    AnswerRule(
        _Q.ACTIVE,
        "active, with warning `spend_down_open`",
        _C.STATED,
        "Active, but it begins to pay only when the spend-down has been met.",
        _active_with(WarningCode.SPEND_DOWN_OPEN),
    ),
    AnswerRule(
        _Q.ACTIVE,
        "active, with warning `premium_grace_period`",
        _C.STATED,
        "Active, but premiums are not paid through the service date.",
        _active_with(WarningCode.PREMIUM_GRACE_PERIOD),
    ),
    AnswerRule(_Q.ACTIVE, "`coverage` is `active`", _C.STATED, "The payer says that the coverage is active.", _active),
    AnswerRule(
        _Q.ACTIVE, "`coverage` is `inactive`", _C.STATED, "The payer says that the coverage is not active.", _inactive
    ),
    AnswerRule(
        _Q.ACTIVE,
        "outcome `ineligible`, `unspecified`",
        _C.DERIVED,
        "The vendor says not eligible, without a reason.",
        _not_eligible,
    ),
    AnswerRule(_Q.ACTIVE, "otherwise", _C.NOT_STATED, "The payer did not say whether the coverage is active.", _always),
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
    AnswerRule(_Q.WHO_TO_BILL, "otherwise", _C.NOT_STATED, "The answer does not tell who pays.", _always),
    AnswerRule(
        _Q.IN_NETWORK,
        "`provider_in_network` is stated",
        _C.STATED,
        "The payer says so of this provider.",
        _field("provider_in_network", by_phrase=False),
    ),
    AnswerRule(
        _Q.IN_NETWORK,
        "`provider_in_network` was read from a phrase",
        _C.DERIVED,
        "A message of the payer says so of this provider.",
        _field("provider_in_network", by_phrase=True),
    ),
    AnswerRule(
        _Q.IN_NETWORK,
        "otherwise",
        _C.NOT_STATED,
        "The payer did not say whether this provider is in network.",
        _always,
    ),
    AnswerRule(
        _Q.COPAY_FOR_THIS_VISIT,
        "`summary.service` has a copay or coinsurance, matched by code",
        _C.STATED,
        "The payer states it for the asked service.",
        _cost_by_code,
    ),
    AnswerRule(
        _Q.COPAY_FOR_THIS_VISIT,
        "it has one, matched otherwise; or the network has one and nothing was concluded of the service",
        _C.DERIVED,
        "The payer states it for the service's family or for the whole plan, not for the asked code.",
        _cost_of_visit,
    ),
    AnswerRule(
        _Q.COPAY_FOR_THIS_VISIT,
        "`why_null`: `conflict`",
        _C.CONFLICT,
        "The payer states several different amounts for the same service.",
        _cost_is_null(WhyNull.CONFLICT),
    ),
    AnswerRule(
        _Q.COPAY_FOR_THIS_VISIT,
        "`why_null`: `several_shares`",
        _C.NOT_STATED,
        "Several amounts hold under different conditions, and none is known to be that of this visit; see cost_shares.",
        _cost_is_null(WhyNull.SEVERAL_SHARES),
    ),
    AnswerRule(
        _Q.COPAY_FOR_THIS_VISIT,
        "`why_null`: `limited_rows_only`",
        _C.NOT_STATED,
        "The amounts stated are limited to something narrower than this visit; see cost_shares.",
        _cost_is_null(WhyNull.LIMITED_ROWS_ONLY),
    ),
    AnswerRule(
        _Q.COPAY_FOR_THIS_VISIT, "otherwise", _C.NOT_STATED, "The payer states no amount for this visit.", _always
    ),
    AnswerRule(
        _Q.DEDUCTIBLE_LEFT,
        "what is left is stated, for the provider's network or for none in particular",
        _C.STATED,
        "The payer states what is left.",
        _deductible_as_stated,
    ),
    AnswerRule(
        _Q.DEDUCTIBLE_LEFT,
        "it was counted",
        _C.DERIVED,
        "Counted from total and used.",
        _deductible_counted,
    ),
    AnswerRule(
        _Q.DEDUCTIBLE_LEFT,
        "it is stated, but the provider's network is not known",
        _C.DERIVED,
        "Stated for the network named here; whether the provider is in it was not stated.",
        _deductible,
    ),
    AnswerRule(
        _Q.DEDUCTIBLE_LEFT,
        "`why_null`: `conflict`",
        _C.CONFLICT,
        "The payer states several different deductibles; see benefits.",
        _deductible_in_conflict,
    ),
    AnswerRule(
        _Q.DEDUCTIBLE_LEFT,
        "otherwise",
        _C.NOT_STATED,
        "The payer does not state what is left of the deductible.",
        _always,
    ),
    AnswerRule(
        _Q.VISITS_LEFT,
        "`summary.service.visits` is stated",
        _C.STATED,
        "The payer states a limit for the asked service.",
        _visits,
    ),
    AnswerRule(_Q.VISITS_LEFT, "otherwise", _C.NOT_STATED, "The payer states no limit of visits.", _always),
    AnswerRule(
        _Q.AUTHORIZATION,
        "stated of the asked service",
        _C.STATED,
        "The payer says so of the asked service.",
        _authorization_of_service,
    ),
    AnswerRule(
        _Q.AUTHORIZATION,
        "stated of its family, of the plan or of the network",
        _C.DERIVED,
        "The payer says so of a wider group of services or of the network, not of the asked code.",
        _authorization_beside,
    ),
    AnswerRule(
        _Q.AUTHORIZATION,
        "`why_null`: `conflict`",
        _C.CONFLICT,
        "The payer says both; see benefits.",
        _authorization_in_conflict,
    ),
    AnswerRule(
        _Q.AUTHORIZATION,
        "otherwise",
        _C.NOT_STATED,
        "The payer did not say whether an authorization is needed.",
        _always,
    ),
    AnswerRule(
        _Q.REFERRAL,
        "`referral_required` is stated",
        _C.STATED,
        "The payer says so.",
        _field("referral_required", by_phrase=False),
    ),
    AnswerRule(
        _Q.REFERRAL,
        "`referral_required` was read from a phrase",
        _C.DERIVED,
        "A message of the payer says so.",
        _field("referral_required", by_phrase=True),
    ),
    AnswerRule(_Q.REFERRAL, "otherwise", _C.NOT_STATED, "The payer did not say whether a referral is needed.", _always),
    AnswerRule(
        _Q.TELEHEALTH,
        "a `non_covered` benefit for telehealth",
        _C.STATED,
        "The payer says that telehealth is not covered.",
        _telehealth_denied,
    ),
    AnswerRule(
        _Q.TELEHEALTH,
        "one cost share for telehealth",
        _C.DERIVED,
        "The payer states a cost share for telehealth, so that it is covered.",
        _telehealth,
    ),
    AnswerRule(
        _Q.TELEHEALTH,
        "several cost shares for telehealth",
        _C.NOT_STATED,
        "Several cost shares for telehealth hold under different conditions; see cost_shares.",
        _telehealth_varies,
    ),
    AnswerRule(_Q.TELEHEALTH, "otherwise", _C.NOT_STATED, "The payer states nothing for telehealth.", _always),
    AnswerRule(
        _Q.OTHER_INSURANCE, "`other_coverage` is stated", _C.STATED, "The payer names other coverage.", _other_insurance
    ),
    AnswerRule(
        _Q.OTHER_INSURANCE,
        "otherwise",
        _C.NOT_STATED,
        "The payer names no other coverage, which does not mean that there is none.",
        _always,
    ),
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
        "nothing is left of the out-of-pocket maximum",
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
    AnswerRule(_Q.WHAT_TO_COLLECT, "otherwise", _C.NOT_STATED, "The payer states no amount for this visit.", _always),
)

NO_RESULT: dict[str, str] = {
    "queued": "The verification has not ended yet.",
    "in_progress": "The verification has not ended yet.",
    "canceled": "The verification was canceled.",
    "failed": "The verification failed, and there is no result; its failure says why.",
    "completed": "The result was erased, or does not open.",
}
"""Status → why nothing is known where there is no result."""
ANSWERED_LATE = "The answer came after the verification had failed; see late_result."
"""Why nothing is known of a failed one that was answered after its end."""

_RULES_OF = {question: [rule for rule in RULES if rule.question is question] for question in QuestionName}


def answers_of(result: _Row, outcome: str | None, reason: str | None) -> list[GivenAnswer]:
    """`result` is JSON with every key (`stored.with_every_key`). One answer for each question, in the fixed order."""
    reading = ResultReading(result, outcome, reason)
    return [_first_fitting(rules, reading) for rules in _RULES_OF.values()]


def _first_fitting(rules: list[AnswerRule], reading: ResultReading) -> GivenAnswer:
    for rule in rules:
        found = rule.read(reading)
        if found is not None:
            return GivenAnswer(rule.question, found.answer, rule.confidence, rule.because, found.sources)
    raise AssertionError("the last rule of each question fits always")


def no_answers(status: str, *, answered_late: bool) -> list[GivenAnswer]:
    """Where there is no result to read."""
    because = ANSWERED_LATE if answered_late else NO_RESULT[status]
    return [GivenAnswer(question, None, Confidence.NOT_STATED, because, []) for question in QuestionName]
