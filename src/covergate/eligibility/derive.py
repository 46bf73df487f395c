"""From what a vendor stated to the result: plan dates, whether the service is covered, the outcome, the canonical order.

`derive` is the only maker of a `Result`. It depends on nothing but its arguments, so the order in which a vendor lists its
rows changes only `sources`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TypeVar

import orjson

from covergate.eligibility.answer import Answer
from covergate.eligibility.inquiry import Inquiry
from covergate.eligibility.members import differences
from covergate.eligibility.result import Result, ResultPart, Warning_
from covergate.eligibility.sentinels import without_sentinels
from covergate.eligibility.sourced import pointers_at
from covergate.eligibility.summary import ServiceCodes, summarize
from covergate.eligibility.terms import CodeType, Coverage, Outcome, OutcomeReason, WarningCode

_P = TypeVar("_P", bound=ResultPart)

MAPPING_VERSION = "2026-11-28"
"""Of the rules that make a result of a reply; another one wherever the same reply can give another result."""

_MESSAGES: dict[WarningCode, str] = {
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
    WarningCode.PAYER_NOT_IN_DIRECTORY: "The payer id is not in the payer directory; it was sent as it is.",
    WarningCode.PAYER_MATCHED_BY_NAME: "The payer was found by its name alone; see inquiry.payer.directory_id.",
    WarningCode.OTHER_PAYER_PRIMARY: "Another payer pays first; see bill_to and other_coverage.",
    WarningCode.MANAGED_CARE_PLAN_PAYS: "A managed care plan pays for this service; see bill_to.",
    WarningCode.CARVED_OUT: "The asked service is carved out to another entity; see bill_to.",
    WarningCode.LIMITED_BENEFIT: "The coverage is limited to a part of what a medical plan covers.",
    WarningCode.SPEND_DOWN_OPEN: "Coverage begins to pay only when the spend-down has been met.",
    WarningCode.PREMIUM_GRACE_PERIOD: "Premiums are not paid through the service date; the payer may take payments back.",
    WarningCode.HOSPICE_ELECTION: "The patient has elected hospice; care for the terminal illness is billed to it.",
    WarningCode.SEVERAL_PLANS_DISAGREE: "The answer has several plans that disagree, and none is that of the service.",
}


def warning(code: WarningCode, *sources: str, detail: str | None = None) -> Warning_:
    """`detail` may name a vendor's code, never a person."""
    message = _MESSAGES[code] if detail is None else f"{_MESSAGES[code]} ({detail})"
    return Warning_(code=code, message=message, sources=sorted(sources))


@dataclass(frozen=True, slots=True)
class Derived:
    result: Result
    outcome: Outcome
    reason: OutcomeReason | None


def derive(answer: Answer, inquiry: Inquiry, not_asked: frozenset[str], today: date) -> Derived:
    """The result and its outcome (docs/api.md#3-the-verification, docs/api.md#4-the-result).

    `not_asked` is the vendor's fixed list of JSON pointers into the inquiry that it had no place for; `today` is the date in
    America/New_York on which the answer is read.
    """
    answer = without_sentinels(answer)
    coverage, warnings = _coverage_on_the_day(answer, inquiry, today)
    covered = _service_covered(answer, inquiry, not_asked)
    if coverage is Coverage.ACTIVE and covered is None:
        warnings.append(warning(WarningCode.SERVICE_NOT_CONFIRMED))
    differing = differences(inquiry, answer.patient, answer.subscriber)
    if differing is not None:
        warnings.append(warning(WarningCode.MEMBER_DATA_DIFFERS, *differing))
    # A benefit names its codes itself: it is about the asked service even if the vendor had no place to ask for it.
    summary, conflicts = summarize(answer.benefits, asked_codes(inquiry, frozenset()))
    warnings += conflicts
    result = Result(
        **{name: getattr(answer, name) for name in _TAKEN_OVER},
        coverage=coverage,
        service_covered=covered,
        plans=[],
        bill_to=None,
        summary=summary,
        cost_shares=[],
        mapping_version=MAPPING_VERSION,
        services=in_order(answer.services),
        benefits=in_order(answer.benefits),
        other_coverage=in_order(answer.other_coverage),
        related_entities=in_order(answer.related_entities),
        authorizations=in_order(answer.authorizations),
        notes=sorted(set(answer.notes)),
        warnings=in_order([*answer.warnings, *warnings]),
    )
    outcome, reason = _outcome(coverage, covered, answer.ineligible_without_reason)
    return Derived(result, outcome, reason)


_TAKEN_OVER = (
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
    "sources",
)


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


def _coverage_on_the_day(answer: Answer, inquiry: Inquiry, today: date) -> tuple[Coverage, list[Warning_]]:
    """An "active" whose plan dates exclude the service date is inactive, unless that day is still to come."""
    day, plan = inquiry.service_date, answer.plan
    ended = plan.ends_on is not None and plan.ends_on < day
    not_begun = plan.starts_on is not None and plan.starts_on > day
    if answer.coverage is not Coverage.ACTIVE or not (ended or not_begun):
        return answer.coverage, []
    sources = pointers_at(plan.sources, "ends_on" if ended else "starts_on")
    if day <= today:
        return Coverage.INACTIVE, [warning(WarningCode.COVERAGE_DATES_CONFLICT, *sources)]
    return Coverage.ACTIVE, [warning(WarningCode.COVERAGE_MAY_END, *sources)]


def _service_covered(answer: Answer, inquiry: Inquiry, not_asked: frozenset[str]) -> bool | None:
    """False if the vendor denies any asked code, True only if it confirms all of them."""
    if answer.service_covered is not None:
        return answer.service_covered
    answers: dict[tuple[CodeType, str], set[bool | None]] = {code: set() for code in asked_codes(inquiry, not_asked)}
    for service in answer.services:
        if (service.code_type, service.code) in answers:
            answers[service.code_type, service.code].add(service.covered)
    if any(False in covered for covered in answers.values()):
        return False
    return True if answers and all(True in covered for covered in answers.values()) else None


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


def _outcome(
    coverage: Coverage, covered: bool | None, ineligible_without_reason: bool
) -> tuple[Outcome, OutcomeReason | None]:
    if coverage is Coverage.UNKNOWN and covered is None and ineligible_without_reason:
        return Outcome.INELIGIBLE, OutcomeReason.UNSPECIFIED
    return _OUTCOMES[coverage, covered]


def in_order(parts: list[_P]) -> list[_P]:
    """Sorted by content; `sources` only break ties, so that equal parts stay in a fixed order too."""
    return sorted(parts, key=_content) if len(parts) > 1 else parts


def _content(part: ResultPart) -> tuple[bytes, bytes]:
    fields = part.model_dump(mode="json")
    sources = fields.pop("sources", None)
    return orjson.dumps(fields), orjson.dumps(sources, option=orjson.OPT_SORT_KEYS)
