"""From what a vendor stated to the result: plan dates, whether the service is covered, the outcome, the canonical order.

`conclude` is the only maker of a `Result`. It depends on nothing but its arguments, so the order in which a vendor lists
its rows changes only `sources`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TypeVar

import orjson

from covergate.eligibility.answer import Answer
from covergate.eligibility.inquiry import Inquiry
from covergate.eligibility.members import differences
from covergate.eligibility.result import Result, Row, Warning_
from covergate.eligibility.summary import summarize
from covergate.eligibility.terms import CodeType, Coverage, Outcome, OutcomeReason, WarningCode

MESSAGES: dict[WarningCode, str] = {
    WarningCode.SERVICE_NOT_CONFIRMED: "Coverage is active, but the vendor did not say whether the asked service is covered.",
    WarningCode.COVERAGE_DATES_CONFLICT: "The vendor says active, but the plan's dates do not include the service date.",
    WarningCode.COVERAGE_MAY_END: "The plan's dates do not include the service date, which is still to come.",
    WarningCode.CONFLICTING_AMOUNTS: "Several different amounts were stated; see benefits.",
    WarningCode.UNKNOWN_CODE: "The vendor used a code that is not known; it was kept and not interpreted.",
    WarningCode.PENDING_INVESTIGATION: "The payer reports coverage as pending.",
    WarningCode.PAYER_CHANGED: "The vendor answered for another payer than the one asked.",
    WarningCode.MEMBER_DATA_DIFFERS: "The member data in the answer differs from what was asked.",
    WarningCode.CONTACT_OTHER_ENTITY: "The payer refers to another entity for this benefit; see related_entities.",
    WarningCode.RAW_UNPARSABLE: "The vendor's reply could not be read; it is kept in raw.",
}


def warning(code: WarningCode, *sources: str, detail: str | None = None) -> Warning_:
    """`detail` may name a vendor's code, never a person."""
    message = MESSAGES[code] if detail is None else f"{MESSAGES[code]} ({detail})"
    return Warning_(code=code, message=message, sources=sorted(sources))


@dataclass(frozen=True, slots=True)
class Conclusion:
    result: Result
    outcome: Outcome
    reason: OutcomeReason | None


def conclude(statement: Answer, inquiry: Inquiry, not_asked: frozenset[str], today: date) -> Conclusion:
    """The result and its outcome.

    `not_asked` is the vendor's fixed list of JSON pointers into the inquiry that it had no place for; `today` is the date in
    America/New_York on which the answer is read.
    """
    coverage, warnings = _coverage_on_the_day(statement, inquiry, today)
    covered = _service_covered(statement, inquiry, not_asked)
    if coverage is Coverage.ACTIVE and covered is None:
        warnings.append(warning(WarningCode.SERVICE_NOT_CONFIRMED))
    differing = differences(inquiry, statement.patient, statement.subscriber)
    if differing is not None:
        warnings.append(warning(WarningCode.MEMBER_DATA_DIFFERS, *differing))
    # A benefit names its codes itself, so it is about the asked service even where the vendor had no place to ask for it.
    summary, conflicts = summarize(statement.benefits, asked_codes(inquiry, frozenset()))
    warnings += conflicts
    result = Result(
        **{name: getattr(statement, name) for name in _CARRIED},
        coverage=coverage,
        service_covered=covered,
        summary=summary,
        services=in_order(statement.services),
        benefits=in_order(statement.benefits),
        other_coverage=in_order(statement.other_coverage),
        related_entities=in_order(statement.related_entities),
        authorizations=in_order(statement.authorizations),
        notes=sorted(set(statement.notes)),
        warnings=in_order([*statement.warnings, *warnings]),
    )
    outcome, reason = _outcome(coverage, covered, statement.ineligible_without_reason)
    return Conclusion(result, outcome, reason)


_CARRIED = (
    "provider_in_network",
    "as_of",
    "answered_at",
    "plan",
    "payer",
    "patient",
    "subscriber",
    "referral_required",
    "references",
    "payer_status",
)


def asked_codes(inquiry: Inquiry, not_asked: frozenset[str]) -> frozenset[tuple[CodeType, str]]:
    """The procedure and service type codes that this vendor was really asked about."""
    codes: set[tuple[CodeType, str]] = set()
    for pointer, kind, values in (
        ("/service/procedure_codes", CodeType.PROCEDURE, inquiry.service.procedure_codes),
        ("/service/service_type_codes", CodeType.SERVICE_TYPE, inquiry.service.service_type_codes),
    ):
        if pointer not in not_asked:
            codes |= {(kind, code) for index, code in enumerate(values) if f"{pointer}/{index}" not in not_asked}
    return frozenset(codes)


def _coverage_on_the_day(statement: Answer, inquiry: Inquiry, today: date) -> tuple[Coverage, list[Warning_]]:
    """api.md section 3: an "active" whose plan dates exclude the service date is inactive, unless that day is to come."""
    day, plan = inquiry.service_date, statement.plan
    ended = plan.ends_on is not None and plan.ends_on < day
    not_begun = plan.starts_on is not None and plan.starts_on > day
    if statement.coverage is not Coverage.ACTIVE or not (ended or not_begun):
        return statement.coverage, []
    sources = plan.sources.get("ends_on" if ended else "starts_on", [])
    if day <= today:
        return Coverage.INACTIVE, [warning(WarningCode.COVERAGE_DATES_CONFLICT, *sources)]
    return Coverage.ACTIVE, [warning(WarningCode.COVERAGE_MAY_END, *sources)]


def _service_covered(statement: Answer, inquiry: Inquiry, not_asked: frozenset[str]) -> bool | None:
    if statement.service_covered is not None:
        return statement.service_covered
    asked = asked_codes(inquiry, not_asked)
    said = {code: {row.covered for row in statement.services if (row.code_type, row.code) == code} for code in asked}
    if any(False in answers for answers in said.values()):
        return False
    return True if said and all(True in answers for answers in said.values()) else None


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


def _outcome(
    coverage: Coverage, covered: bool | None, ineligible_without_reason: bool
) -> tuple[Outcome, OutcomeReason | None]:
    if coverage is Coverage.UNKNOWN and covered is None and ineligible_without_reason:
        return Outcome.INELIGIBLE, OutcomeReason.UNSPECIFIED
    return _OUTCOMES[coverage, covered]


R = TypeVar("R", bound=Row)


def in_order(rows: list[R]) -> list[R]:
    """Sorted by content; `sources` only break ties, so that equal rows stay in a fixed order too."""
    return sorted(rows, key=_content)


def _content(row: Row) -> tuple[bytes, bytes]:
    shown = row.model_dump(mode="json")
    sources = shown.pop("sources", None)
    return orjson.dumps(shown), orjson.dumps(sources, option=orjson.OPT_SORT_KEYS)
