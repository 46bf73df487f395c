"""What does the visit cost, what is left of the deductible and of the visits, what does telehealth cost?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from covergate.eligibility.answers.result_reading import (
    LEVELS_LEFT,
    NO_FIELDS,
    NOTHING_FOUND,
    Found,
    ResultPartJson,
    ResultReading,
    pointers_in,
)
from covergate.eligibility.answers.rule import AnswerRule, always
from covergate.eligibility.sourced import pointers_at
from covergate.eligibility.terms import Confidence, Network, QuestionName, WhyNull


def _cost_by_code(reading: ResultReading) -> Found | None:
    return reading.visit_cost if reading.service["matched_by"] == "code" and not _is_one_of_several(reading) else None


def _cost_beside_others(reading: ResultReading) -> Found | None:
    return reading.visit_cost if _is_one_of_several(reading) else None


def _is_one_of_several(reading: ResultReading) -> bool:
    """Whether the payer has another amount for the same service, under words that nobody here understands."""
    return any(_is_beside_others(reading, name) for name in _AMOUNTS)


def _is_beside_others(reading: ResultReading, name: str) -> bool:
    pointers = set(pointers_at(reading.service["sources"], name))
    shares = [share for share in reading.result["cost_shares"] if share[name] is not None]
    general = [
        (share["network"], code, share[name])
        for share in shares
        if not share["limited_to"] and not pointers.isdisjoint(pointers_at(share["sources"], name))
        for code in share["service_type_codes"]
    ]
    given = {(network, code): amount for network, code, amount in general}
    return any(
        given.get((share["network"], code), share[name]) != share[name]
        for share in shares
        if share["limited_to"]
        for code in share["service_type_codes"]
    )


_AMOUNTS = ("copay", "coinsurance_percent")


def _cost_of_visit(reading: ResultReading) -> Found | None:
    return reading.visit_cost


def _cost_is_null(reason: WhyNull) -> Callable[[ResultReading], Found | None]:
    def read(reading: ResultReading) -> Found | None:
        return NOTHING_FOUND if reason in reading.why("service.copay", "service.coinsurance_percent") else None

    return read


def _deductible(reading: ResultReading) -> Found | None:
    left = reading.left("deductible")
    if not any(left.values()):
        return None
    answer = {"network": reading.network, **left, "effective": reading.effective_left("deductible")}
    levels = [reading.cell["deductible"][level] or NO_FIELDS for level in LEVELS_LEFT]
    pointers = {
        pointer
        for accumulator in levels
        for field in ("remaining", "total", "used")
        if accumulator.get("remaining") is None or field == "remaining"
        for pointer in reading.pointers("deductible", field, accumulator.get(field))
    }
    return Found(answer, sorted(pointers))


def _deductible_as_stated(reading: ResultReading) -> Found | None:
    known = reading.provider_network or reading.network == Network.UNKNOWN
    return _deductible(reading) if known and not _is_counted(reading) else None


def _deductible_counted(reading: ResultReading) -> Found | None:
    return _deductible(reading) if _is_counted(reading) else None


def _is_counted(reading: ResultReading) -> bool:
    levels = reading.cell.get("deductible") or NO_FIELDS
    return any(levels[level] and levels[level]["remaining"] is None for level in LEVELS_LEFT) if levels else False


def _deductible_in_conflict(reading: ResultReading) -> Found | None:
    return NOTHING_FOUND if WhyNull.CONFLICT in reading.why(f"{reading.network}.deductible") else None


def _visits(reading: ResultReading) -> Found | None:
    visits = reading.service["visits"]
    return None if visits is None else Found(visits, pointers_in(reading.service, "visits"))


def _telehealth_shares(reading: ResultReading) -> list[ResultPartJson]:
    networks = {reading.network or Network.IN.value, Network.BOTH.value, Network.UNKNOWN.value}
    return [
        share
        for share in reading.result["cost_shares"]
        if share["place"] == "telehealth" and not share["limited_to"] and share["network"] in networks
    ]


def _telehealth_costs(shares: Iterable[ResultPartJson]) -> list[dict[str, Any]]:
    fields = ("copay", "coinsurance_percent", "deductible_applies")
    costs = {tuple(share[field] for field in fields) for share in shares}
    return [dict(zip(fields, cost, strict=True)) for cost in costs if cost[:2] != (None, None)]


def _telehealth_denied(reading: ResultReading) -> Found | None:
    denying = [row for row in reading.rows("non_covered") if row["place"] == "telehealth" and not row["limited_to"]]
    if not denying:
        return None
    answer = {"covered": False, **dict.fromkeys(("copay", "coinsurance_percent", "deductible_applies"))}
    return Found(answer, sorted({pointer for row in denying for pointer in pointers_in(row)}))


def _telehealth(reading: ResultReading) -> Found | None:
    shares = _telehealth_shares(reading)
    costs = _telehealth_costs(shares)
    if len(costs) != 1:
        return None
    return Found({"covered": True, **costs[0]}, sorted({pointer for share in shares for pointer in pointers_in(share)}))


def _telehealth_varies(reading: ResultReading) -> Found | None:
    return NOTHING_FOUND if len(_telehealth_costs(_telehealth_shares(reading))) > 1 else None


_Q, _C = QuestionName, Confidence
COST_RULES: tuple[AnswerRule, ...] = (
    AnswerRule(
        _Q.COPAY_FOR_THIS_VISIT,
        "`summary.service` has a copay or coinsurance, matched by code",
        _C.STATED,
        "The payer states it for the asked service.",
        _cost_by_code,
    ),
    AnswerRule(
        _Q.COPAY_FOR_THIS_VISIT,
        "it has one, and a share of the same service has another amount under the payer's own words (`limited_to`)",
        _C.DERIVED,
        "The general amount: others hold under conditions in the payer's own words; see cost_shares.",
        _cost_beside_others,
    ),
    AnswerRule(
        _Q.COPAY_FOR_THIS_VISIT,
        "it has one otherwise; or the network has one and nothing was concluded of the service",
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
        _Q.COPAY_FOR_THIS_VISIT, "otherwise", _C.NOT_STATED, "The payer states no amount for this visit.", always
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
        always,
    ),
    AnswerRule(
        _Q.VISITS_LEFT,
        "`summary.service.visits` is stated",
        _C.STATED,
        "The payer states a limit for the asked service.",
        _visits,
    ),
    AnswerRule(_Q.VISITS_LEFT, "otherwise", _C.NOT_STATED, "The payer states no limit of visits.", always),
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
    AnswerRule(_Q.TELEHEALTH, "otherwise", _C.NOT_STATED, "The payer states nothing for telehealth.", always),
)
