"""Is the coverage active on the service date?"""

from __future__ import annotations

from collections.abc import Callable

from covergate.eligibility.answers.result_reading import Found, ResultReading, pointers_in
from covergate.eligibility.answers.rule import AnswerRule, always
from covergate.eligibility.sourced import pointers_at
from covergate.eligibility.terms import Confidence, Coverage, OutcomeReason, QuestionName, WarningCode


def _coverage(reading: ResultReading, answer: bool | None) -> Found:
    result = reading.result
    stating = [row for row in result["benefits"] if row["kind"] == "coverage"]
    pointers = {pointer for row in stating for pointer in pointers_in(row)}
    return Found(answer, sorted(pointers | set(pointers_at(result["sources"], "coverage"))))


def _disagreeing(reading: ResultReading) -> Found | None:
    sources = reading.warned(WarningCode.SEVERAL_PLANS_DISAGREE)
    return None if sources is None else Found(None, sources)


def _excluded(reading: ResultReading) -> Found | None:
    sources = reading.warned(WarningCode.COVERAGE_DATES_CONFLICT)
    return None if sources is None or reading.result["coverage"] == Coverage.UNKNOWN else Found(False, sources)


def _ended_since(reading: ResultReading) -> Found | None:
    sources = reading.warned(WarningCode.COVERAGE_DATES_CONFLICT)
    return None if sources is None else Found(None, sources)


def _active_with(code: WarningCode) -> Callable[[ResultReading], Found | None]:
    def read(reading: ResultReading) -> Found | None:
        sources = reading.warned(code)
        if sources is None or reading.result["coverage"] != Coverage.ACTIVE:
            return None
        return Found(True, sources or _coverage(reading, True).sources)

    return read


def _active(reading: ResultReading) -> Found | None:
    return _coverage(reading, True) if reading.result["coverage"] == Coverage.ACTIVE else None


def _inactive(reading: ResultReading) -> Found | None:
    return _coverage(reading, False) if reading.result["coverage"] == Coverage.INACTIVE else None


def _not_eligible(reading: ResultReading) -> Found | None:
    return Found(False, []) if reading.reason == OutcomeReason.UNSPECIFIED else None


_Q, _C = QuestionName, Confidence
ACTIVE_RULES: tuple[AnswerRule, ...] = (
    AnswerRule(
        _Q.ACTIVE,
        "warning `several_plans_disagree`",
        _C.CONFLICT,
        "The answer has several plans that disagree, and none is that of the service.",
        _disagreeing,
    ),
    AnswerRule(
        _Q.ACTIVE,
        "warning `coverage_dates_conflict`, and `coverage` is `inactive`",
        _C.DERIVED,
        "The payer says active, but the plan's dates do not include the service date.",
        _excluded,
    ),
    AnswerRule(
        _Q.ACTIVE,
        "`coverage` is `unknown`, with warning `coverage_dates_conflict`",
        _C.CONFLICT,
        "The payer says that the coverage is not active, but the plan ended only after the service date.",
        _ended_since,
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
    AnswerRule(_Q.ACTIVE, "otherwise", _C.NOT_STATED, "The payer did not say whether the coverage is active.", always),
)
