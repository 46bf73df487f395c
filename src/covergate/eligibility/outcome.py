"""Coverage on the service date, and the outcome (docs/api.md#3-the-verification)."""

from __future__ import annotations

from datetime import date

from covergate.eligibility.answer import Answer
from covergate.eligibility.inquiry import Inquiry
from covergate.eligibility.result import Warning_
from covergate.eligibility.sourced import pointers_at
from covergate.eligibility.summary.cost_question import ServiceCodes
from covergate.eligibility.terms import CodeType, Coverage, Outcome, OutcomeReason, WarningCode
from covergate.eligibility.warning import warning


def asked_codes(inquiry: Inquiry, not_asked: frozenset[str]) -> ServiceCodes:
    """The procedure and service type codes that this vendor was really asked about."""
    codes: set[tuple[CodeType, str]] = set()
    for pointer, kind, values in (
        ("/service/procedure_codes", CodeType.PROCEDURE, inquiry.service.procedure_codes),
        ("/service/service_type_codes", CodeType.SERVICE_TYPE, inquiry.service.service_type_codes),
    ):
        if pointer not in not_asked:
            codes |= {(kind, code) for index, code in enumerate(values) if f"{pointer}/{index}" not in not_asked}
    return frozenset(codes)


def coverage_on_the_day(answer: Answer, inquiry: Inquiry, today: date) -> tuple[Coverage, list[Warning_]]:
    """An "active" whose plan dates exclude the service date is inactive, unless that day is still to come.

    An "inactive" of a plan that has ended since is no answer about a service date before its end.
    """
    day, plan = inquiry.service_date, answer.plan
    if answer.coverage is Coverage.INACTIVE and plan.starts_on is not None and plan.ends_on is not None:
        if not plan.starts_on <= day <= plan.ends_on < today:
            return Coverage.INACTIVE, []
        dates = {at for name in ("starts_on", "ends_on") for at in pointers_at(plan.sources, name)}
        return Coverage.UNKNOWN, [warning(WarningCode.COVERAGE_DATES_CONFLICT, *dates)]
    ended = plan.ends_on is not None and plan.ends_on < day
    not_begun = plan.starts_on is not None and plan.starts_on > day
    if answer.coverage is not Coverage.ACTIVE or not (ended or not_begun):
        return answer.coverage, []
    sources = pointers_at(plan.sources, "ends_on" if ended else "starts_on")
    if day <= today:
        return Coverage.INACTIVE, [warning(WarningCode.COVERAGE_DATES_CONFLICT, *sources)]
    return Coverage.ACTIVE, [warning(WarningCode.COVERAGE_MAY_END, *sources)]


# The table of outcomes in docs/api.md#3-the-verification.
_OUTCOMES: dict[tuple[Coverage, bool | None], tuple[Outcome, OutcomeReason | None]] = {
    (Coverage.ACTIVE, True): (Outcome.ELIGIBLE, None),
    (Coverage.ACTIVE, None): (Outcome.ELIGIBLE, None),
    (Coverage.ACTIVE, False): (Outcome.INELIGIBLE, OutcomeReason.NOT_COVERED),
    (Coverage.INACTIVE, True): (Outcome.INELIGIBLE, OutcomeReason.INACTIVE),
    (Coverage.INACTIVE, None): (Outcome.INELIGIBLE, OutcomeReason.INACTIVE),
    (Coverage.INACTIVE, False): (Outcome.INELIGIBLE, OutcomeReason.INACTIVE),
    (Coverage.UNKNOWN, True): (Outcome.UNKNOWN, None),
    (Coverage.UNKNOWN, None): (Outcome.UNKNOWN, None),
    (Coverage.UNKNOWN, False): (Outcome.INELIGIBLE, OutcomeReason.NOT_COVERED),
}


def outcome_of(
    coverage: Coverage, covered: bool | None, ineligible_without_reason: bool
) -> tuple[Outcome, OutcomeReason | None]:
    if coverage is Coverage.UNKNOWN and covered is None and ineligible_without_reason:
        return Outcome.INELIGIBLE, OutcomeReason.UNSPECIFIED
    return _OUTCOMES[coverage, covered]
