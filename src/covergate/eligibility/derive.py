"""From what a vendor stated to the result: each rule has a file of its own, and here they follow one another.

`derive` is the only maker of a `Result`. It depends on nothing but its arguments, so the order in which a vendor lists its
rows changes only `sources`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

import orjson

from covergate.eligibility.ages import of_the_age, without_other_ages
from covergate.eligibility.answer import Answer
from covergate.eligibility.bill_to import billing_of
from covergate.eligibility.cautions import (
    are_of_another_line,
    billed_elsewhere,
    cautions_of,
    ended_in_words,
    limited_benefits,
)
from covergate.eligibility.cost_shares import cost_shares_of
from covergate.eligibility.covered import service_covered
from covergate.eligibility.group_therapy import of_the_session
from covergate.eligibility.inquiry import Inquiry
from covergate.eligibility.members import differences, is_somebody_else
from covergate.eligibility.outcome import asked_codes, coverage_on_the_day, outcome_of
from covergate.eligibility.part import ResultPart
from covergate.eligibility.phrases import apply_phrases
from covergate.eligibility.plan_of_service import answer_of_plan, line_of_plans, plan_parts
from covergate.eligibility.plans import holds, plans_in
from covergate.eligibility.result import Result, Warning_
from covergate.eligibility.sentinels import without_sentinels
from covergate.eligibility.summary.cost_question import question_of
from covergate.eligibility.summary.summarize import summarize
from covergate.eligibility.terms import Coverage, Network, Outcome, OutcomeReason, Program, WarningCode
from covergate.eligibility.warning import warning

_P = TypeVar("_P", bound=ResultPart)

MAPPING_VERSION = "2026-11-28.6"
"""Of the rules that make a result of a reply; another one wherever the same reply can give another result."""


@dataclass(frozen=True, slots=True)
class Derived:
    result: Result
    outcome: Outcome
    reason: OutcomeReason | None


def derive(
    answer: Answer,
    inquiry: Inquiry,
    not_asked: frozenset[str],
    today: date,
    of_request: Sequence[Warning_] = (),
) -> Derived:
    """The result and its outcome (docs/api.md#3-the-verification, docs/api.md#4-the-result).

    `not_asked` is the vendor's fixed list of JSON pointers into the inquiry that it had no place for; `today` is the date in
    America/New_York on which the answer is read. `of_request`: warnings about the request.
    """
    answer = apply_phrases(without_sentinels(answer))
    rows = of_the_session(answer.benefits, inquiry.service.procedure_codes)
    benefits = in_order(of_the_age(rows, inquiry.patient.date_of_birth, inquiry.service_date))
    plans = plans_in(benefits, inquiry.service, answer.payer.name)
    answer = answer_of_plan(answer, benefits, plans)
    coverage, warnings = coverage_on_the_day(answer, inquiry, today)
    covered = service_covered(answer, inquiry, not_asked, coverage)
    if coverage is Coverage.ACTIVE and covered is None:
        warnings.append(warning(WarningCode.SERVICE_NOT_CONFIRMED))
    differing = differences(inquiry, answer.patient, answer.subscriber)
    if differing is not None:
        detail = "the answer may be about somebody else" if is_somebody_else(inquiry, answer.patient) else None
        warnings.append(warning(WarningCode.MEMBER_DATA_DIFFERS, *differing, detail=detail))
    parts = plan_parts(answer, benefits, coverage, plans)
    of_service = [parts[index] for index in plans.of_service] or parts
    programs = {part.program for part in of_service}
    program = programs.pop() if len(programs) == 1 else Program.UNKNOWN
    of_plan = [row for index, row in enumerate(benefits) if index not in plans.elsewhere]
    others = [row for index, row in enumerate(benefits) if index in plans.elsewhere]
    billing = billing_of(answer, inquiry, coverage, program, of_plan, others)
    rows = [row for row in of_plan if holds(row.starts_on, row.ends_on, inquiry.service_date)]
    warnings += [*cautions_of(answer, inquiry, benefits), *billed_elsewhere(billing.reasons)]
    is_other_line = are_of_another_line(of_service, inquiry)
    if coverage is Coverage.ACTIVE or (is_other_line and any(part.coverage is Coverage.ACTIVE for part in parts)):
        warnings += limited_benefits(of_service, inquiry, benefits)
    if coverage is Coverage.ACTIVE:
        warnings += ended_in_words(of_plan, inquiry.service_date)
    if billing.sent_elsewhere:
        warnings.append(warning(WarningCode.CONTACT_OTHER_ENTITY, *billing.sent_elsewhere, detail="in a message"))
    if plans.disagree is not None:
        warnings.append(warning(WarningCode.SEVERAL_PLANS_DISAGREE, *plans.disagree))
    # A benefit names its codes itself: it is about the asked service even if the vendor had no place to ask for it.
    in_network = inquiry.provider.in_network if answer.provider_in_network is None else answer.provider_in_network
    codes, line = asked_codes(inquiry, frozenset()), line_of_plans(of_service, benefits)
    question = question_of(inquiry.service, codes, in_network, billing.service_types_elsewhere, line)
    summary, conflicts = summarize(without_other_ages(rows), question, _network_of(answer.provider_in_network))
    warnings += conflicts
    # Of plans that contradict each other, or of what another payer has, this payer confirms nothing.
    if covered and (plans.disagree is not None or billing.is_carved_out):
        covered = None
    unsaid = {"service_covered"} if covered is None else set()
    result = Result(
        **{name: getattr(answer, name) for name in _TAKEN_OVER},
        sources={name: at for name, at in answer.sources.items() if name not in unsaid},
        coverage=coverage,
        service_covered=covered,
        plans=parts,
        bill_to=None if is_other_line and not billing.reasons else billing.bill_to,
        summary=summary,
        cost_shares=in_order(cost_shares_of(rows)),
        mapping_version=MAPPING_VERSION,
        services=in_order(answer.services),
        benefits=benefits,
        other_coverage=in_order(answer.other_coverage),
        related_entities=in_order(answer.related_entities),
        authorizations=in_order(answer.authorizations),
        notes=sorted(set(answer.notes)),
        warnings=in_order([*answer.warnings, *warnings, *of_request]),
    )
    outcome, reason = outcome_of(coverage, covered, answer.ineligible_without_reason)
    if plans.disagree is not None or (outcome is Outcome.ELIGIBLE and is_other_line):
        outcome, reason = Outcome.UNKNOWN, None
    elif billing.is_carved_out and coverage is not Coverage.INACTIVE:
        outcome, reason = Outcome.UNKNOWN, OutcomeReason.CARVED_OUT
    return Derived(result, outcome, reason)


def _network_of(in_network: bool | None) -> Network | None:
    return None if in_network is None else Network.IN if in_network else Network.OUT


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
)


def in_order(parts: list[_P]) -> list[_P]:
    """Sorted by content; `sources` only break ties, so that equal parts stay in a fixed order too."""
    if len(parts) < 2:
        return parts
    contents = [part.model_dump_json(exclude=_SOURCES) for part in parts]
    order = sorted(range(len(parts)), key=contents.__getitem__)
    if len(set(contents)) < len(parts):
        order.sort(key=lambda index: (contents[index], _sources(parts[index])))
    return [parts[index] for index in order]


_SOURCES = {"sources"}


def _sources(part: ResultPart) -> bytes:
    return orjson.dumps(part.model_dump(mode="json", include=_SOURCES), option=orjson.OPT_SORT_KEYS)
