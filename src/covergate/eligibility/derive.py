"""From what a vendor stated to the result: plan dates, whether the service is covered, the outcome, the canonical order.

`derive` is the only maker of a `Result`. It depends on nothing but its arguments, so the order in which a vendor lists its
rows changes only `sources`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

import orjson

from covergate.eligibility.ages import of_the_age, without_other_ages
from covergate.eligibility.answer import Answer
from covergate.eligibility.bill_to import BILLING_WARNINGS, billing_of
from covergate.eligibility.cost_question import question_of
from covergate.eligibility.cost_shares import cost_shares_of
from covergate.eligibility.covered import asked_codes, service_covered
from covergate.eligibility.inquiry import Inquiry
from covergate.eligibility.members import differences
from covergate.eligibility.part import ResultPart
from covergate.eligibility.phrases import apply_phrases
from covergate.eligibility.plans import Plans, asked_line, covered_by, holds, is_inpatient, messages_on_plan, plans_in
from covergate.eligibility.programs import limited_program_of, program_of
from covergate.eligibility.result import Benefit, BillTo, Plan, PlanPart, Result, ServiceAnswer, Warning_
from covergate.eligibility.sentinels import without_sentinels
from covergate.eligibility.sourced import pointers_at
from covergate.eligibility.summary import summarize
from covergate.eligibility.terms import (
    CodeType,
    Coverage,
    Kind,
    Network,
    Outcome,
    OutcomeReason,
    Program,
    Role,
    WarningCode,
)
from covergate.eligibility.x12.codes import WHOLE_PLAN
from covergate.eligibility.x12.names import EB04_NAMES

_P = TypeVar("_P", bound=ResultPart)

MAPPING_VERSION = "2026-11-28.7"
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
    WarningCode.PAYER_NOT_IN_DIRECTORY: "The payer directory does not list this payer; it was asked for as it was named.",
    WarningCode.PAYER_MATCHED_BY_NAME: "The payer was found by its name alone; see inquiry.payer.directory_id.",
    WarningCode.PAYER_ID_AND_NAME_DIFFER: "The payer was asked by its id; what else the request names is of another payer.",
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


def request_warning(code: WarningCode, detail: str | None = None) -> Warning_:
    """A warning about the request itself, which no reply is the source of."""
    if code is WarningCode.UNKNOWN_CODE:
        return Warning_(code=code, message=f"The request has a service type code that is not known. ({detail})")
    return warning(code, detail=detail)


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
    of_the_patient = of_the_age(answer.benefits, inquiry.patient.date_of_birth, inquiry.service_date)
    benefits = in_order(of_the_patient)
    plans = plans_in(benefits, inquiry.service, answer.payer.name)
    answer = _of_the_plan(answer, benefits, plans)
    coverage, warnings = _coverage_on_the_day(answer, inquiry, today)
    covered = service_covered(answer, inquiry, not_asked)
    if coverage is Coverage.ACTIVE and covered is None:
        warnings.append(warning(WarningCode.SERVICE_NOT_CONFIRMED))
    differing = differences(inquiry, answer.patient, answer.subscriber)
    if differing is not None:
        warnings.append(warning(WarningCode.MEMBER_DATA_DIFFERS, *differing))
    parts = _parts(answer, benefits, coverage, plans)
    of_service = [parts[index] for index in plans.of_service] or parts
    programs = {part.program for part in of_service}
    program = programs.pop() if len(programs) == 1 else Program.UNKNOWN
    of_plan = [row for index, row in enumerate(benefits) if index not in plans.elsewhere]
    others = [row for index, row in enumerate(benefits) if index in plans.elsewhere]
    billing = billing_of(answer, inquiry, coverage, program, of_plan, others)
    rows = [row for row in of_plan if holds(row.starts_on, row.ends_on, inquiry.service_date)]
    warnings += [*_cautions(answer, inquiry, benefits), *_billed_elsewhere(billing.reasons)]
    is_other_line = _are_of_another_line(of_service, inquiry)
    if coverage is Coverage.ACTIVE or (is_other_line and any(part.coverage is Coverage.ACTIVE for part in parts)):
        warnings += _limits(of_service, inquiry, benefits)
    if coverage is Coverage.ACTIVE:
        warnings += _ended_in_words(of_plan, inquiry.service_date)
    if billing.sent_elsewhere:
        warnings.append(warning(WarningCode.CONTACT_OTHER_ENTITY, *billing.sent_elsewhere, detail="in a message"))
    if plans.disagree is not None:
        warnings.append(warning(WarningCode.SEVERAL_PLANS_DISAGREE, *plans.disagree))
    # A benefit names its codes itself: it is about the asked service even if the vendor had no place to ask for it.
    in_network = inquiry.provider.in_network if answer.provider_in_network is None else answer.provider_in_network
    codes, line = asked_codes(inquiry, frozenset()), _line_of(of_service, benefits)
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
    outcome, reason = _outcome(coverage, covered, answer.ineligible_without_reason)
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


def _of_the_plan(answer: Answer, benefits: list[Benefit], plans: Plans) -> Answer:
    """The answer as that of the plan of the asked service: its coverage, its plan, what it says of services."""
    if plans.coverage is None:
        return answer
    of_service = [plans.parts[index] for index in plans.of_service]
    changes: dict[str, object] = {"coverage": plans.coverage, "plan": _plan(answer.plan, benefits, of_service)}
    if plans.elsewhere:
        rows = [row for index, row in enumerate(benefits) if index not in plans.elsewhere]
        others = [benefits[index] for index in sorted(plans.elsewhere)]
        changes["services"] = [_of_these(service, rows, others) for service in answer.services]
    return answer.model_copy(update=changes)


def _of_these(service: ServiceAnswer, rows: list[Benefit], others: list[Benefit]) -> ServiceAnswer:
    """A service that rows of other plans speak of too, as the plan's own rows have it."""
    if service.code_type is not CodeType.SERVICE_TYPE or covered_by(others, service.code) is None:
        return service
    covered = covered_by(rows, service.code)
    if covered is None and service.code != WHOLE_PLAN:
        return service
    sources = {name: at for name, at in service.sources.items() if name != "covered" or covered is not None}
    return service.model_copy(update={"covered": covered, "sources": sources})


def _plan(stated: Plan, benefits: list[Benefit], parts: list[PlanPart]) -> Plan:
    """The fields that these plans agree on; what is stated outside of their coverage rows stands."""
    fields: dict[str, object] = {}
    sources = dict(stated.sources)
    for name in _OF_PLANS:
        values = {value for part in parts if (value := getattr(part, name)) is not None}
        pointers = pointers_at(stated.sources, name)
        if not values and pointers and _stand_outside(pointers, benefits):
            continue
        sources.pop(name, None)
        fields[name] = values.pop() if len(values) == 1 else None
        if fields[name] is not None and (at := {at for part in parts for at in pointers_at(part.sources, name)}):
            sources[name] = sorted(at)
    if "type" in fields:
        sources.pop("type_name", None)
        fields["type_name"] = EB04_NAMES.get(str(fields["type"]))
        if fields["type_name"] is not None and "type" in sources:
            sources["type_name"] = sources["type"]
    return stated.model_copy(update={**fields, "sources": sources})


def _stand_outside(pointers: list[str], benefits: list[Benefit]) -> bool:
    """Whether what a field of the plan was read from is none of the plan's fields in the rows."""
    of_rows = {at for row in benefits for name in _OF_PLANS.values() for at in pointers_at(row.sources, name)}
    return of_rows.isdisjoint(pointers)


_OF_PLANS = {"name": "plan_name", "type": "insurance_type", "starts_on": "starts_on", "ends_on": "ends_on"}
"""Fields of a plan, and where its rows have them."""


def _parts(answer: Answer, benefits: list[Benefit], coverage: Coverage, plans: Plans) -> list[PlanPart]:
    """The plans of the rows. An answer that has none, or one, speaks of it outside of its rows too."""
    if len(plans.parts) > 1:
        return [_on_the_day(part, index in plans.of_service, coverage) for index, part in enumerate(plans.parts)]
    stated = answer.plan
    if not plans.parts and stated == Plan() and coverage is Coverage.UNKNOWN:
        return []
    part = plans.parts[0] if plans.parts else PlanPart(benefits=list(range(len(benefits))), coverage=coverage)
    names = [name for name in ("name", "type", "starts_on", "ends_on", "group_number") if getattr(part, name) is None]
    added = {name: getattr(stated, name) for name in names if getattr(stated, name) is not None}
    sources = {**part.sources, **{name: stated.sources[name] for name in added if name in stated.sources}}
    program = part.program
    if program is Program.UNKNOWN:
        program = program_of(added.get("type"), added.get("name"), (), payer_name=answer.payer.name)
    update = {**added, "sources": sources, "program": program, "open_ended": part.open_ended or stated.open_ended}
    return [_on_the_day(part.model_copy(update=update), True, coverage)]


def _on_the_day(part: PlanPart, is_of_service: bool, coverage: Coverage) -> PlanPart:
    """A plan of the asked service whose dates made the coverage inactive is not shown as active."""
    if is_of_service and coverage is Coverage.INACTIVE and part.coverage is Coverage.ACTIVE:
        return part.model_copy(update={"coverage": Coverage.INACTIVE})
    return part


def _cautions(answer: Answer, inquiry: Inquiry, benefits: list[Benefit]) -> list[Warning_]:
    """Reasons for which an active coverage may not pay, or not all (docs/x12.md#limited-programs)."""
    day = inquiry.service_date
    now = [row for row in benefits if holds(row.starts_on, row.ends_on, day)]
    open_rows = [row for row in now if row.kind is Kind.SPEND_DOWN and _is_open(row)]
    elected = [row for row in benefits if row.code == _FACILITY and _HOSPICE in row.service_type_codes]
    hospice = [
        *(pointers_at(row.sources, "kind") for row in elected if holds(row.starts_on, row.ends_on, day)),
        *(
            pointers_at(one.sources, "role")
            for one in answer.related_entities
            if one.role is Role.HOSPICE and not elected
        ),
    ]
    paid_through = answer.plan.paid_through
    warnings = []
    if open_rows:
        pointers = {at for row in open_rows for name in _LEFT for at in pointers_at(row.sources, name)}
        warnings.append(warning(WarningCode.SPEND_DOWN_OPEN, *pointers))
    if hospice:
        warnings.append(warning(WarningCode.HOSPICE_ELECTION, *{at for pointers in hospice for at in pointers}))
    if paid_through is not None and paid_through < day:
        pointers_of_day = pointers_at(answer.plan.sources, "paid_through")
        warnings.append(warning(WarningCode.PREMIUM_GRACE_PERIOD, *pointers_of_day))
    return warnings


_ENDED = re.compile(
    r"\b(coverage|policy|plan|eligibility|contract|membership|member) (has |was |is )?(been )?"
    r"(terminated|termed|cancell?ed|lapsed)\b(?! (provider|dependent|if|when|unless|for))"
)
_DAY = re.compile(r"\b([0-9]{1,2})[/-]([0-9]{1,2})[/-]([0-9]{4})\b")


def _ended_in_words(rows: list[Benefit], day: date | None) -> list[Warning_]:
    """A message beside an active coverage of the plan says that it ended, on no day that is still to come."""
    saying = [
        row
        for row in rows
        if row.kind is Kind.COVERAGE and WHOLE_PLAN in row.service_type_codes and any(_ends(n, day) for n in row.notes)
    ]
    pointers = {at for row in saying for at in pointers_at(row.sources, "notes")}
    return [warning(WarningCode.COVERAGE_DATES_CONFLICT, *pointers, detail="in a message")] if saying else []


def _ends(note: str, day: date | None) -> bool:
    words = note.casefold()
    ended = _ENDED.search(words)
    stated = _DAY.search(words, ended.end()) if ended is not None else None
    if stated is None or day is None:
        return ended is not None
    month, of_month, year = (int(part) for part in stated.groups())
    return (year, month, of_month) < (day.year, day.month, day.day)


_FACILITY, _HOSPICE = "X", "45"
"""EB01 and EB03 of the hospice that the patient has elected."""
_LEFT = ("remaining", "total", "amount")


def _is_open(row: Benefit) -> bool:
    """Something is left to spend, or nothing says that the stated amount is spent."""
    left = next((amount for amount in (row.remaining, row.total, row.amount) if amount is not None), None)
    return left is not None and left > 0


def _limits(parts: list[PlanPart], inquiry: Inquiry, benefits: list[Benefit]) -> list[Warning_]:
    """A limited program, Medicare's other part, or a plan of another line, if no plan of the service is more than that."""
    limits = {_limit_of(part, inquiry, [benefits[index] for index in part.benefits]) for part in parts}
    if not limits or None in limits:
        return []
    pointers = {at for part in parts for name in ("type", "name") for at in pointers_at(part.sources, name)}
    return [warning(WarningCode.LIMITED_BENEFIT, *pointers, detail=", ".join(sorted(str(limit) for limit in limits)))]


def _limit_of(part: PlanPart, inquiry: Inquiry, rows: list[Benefit]) -> str | None:
    program = limited_program_of(part.type, part.name, messages_on_plan(rows))
    if program is not None:
        if program.inpatient is not None and is_inpatient(inquiry.service) is program.inpatient:
            return None
        return None if program.pays >= set(inquiry.service.service_type_codes) else program.name
    if part.program is Program.MEDICARE_A and not is_inpatient(inquiry.service):
        return "Medicare Part A"
    if part.program is Program.MEDICARE_B and is_inpatient(inquiry.service):
        return "Medicare Part B"
    is_another = _are_of_another_line([part], inquiry)
    return f"{part.program.value.replace('_', ' ')} plan" if is_another else None


def _are_of_another_line(parts: list[PlanPart], inquiry: Inquiry) -> bool:
    """Active are only plans that have nothing like the asked service: of vision, dental care or drugs."""
    others = _OTHER_LINES - asked_line(inquiry.service)
    return bool(parts) and all(part.program in others for part in parts)


def _line_of(parts: list[PlanPart], benefits: list[Benefit]) -> Program | None:
    """The line of the plans of the asked service, if they have nothing but dental care, vision or drugs."""
    lines = {_line_by_rows(part, benefits) for part in parts}
    line = lines.pop() if len(lines) == 1 else None
    return line if line in _OTHER_LINES else None


def _line_by_rows(part: PlanPart, benefits: list[Benefit]) -> Program:
    """Also of a Medicaid programme that is for dental care: its insurance type is Medicaid's."""
    rows = [benefits[index] for index in part.benefits if benefits[index].kind is Kind.COVERAGE]
    codes = {code for row in rows for code in row.service_type_codes} - {WHOLE_PLAN, _GENERAL_BENEFITS}
    return part.program if part.program in _OTHER_LINES else program_of(None, part.name, codes)


_GENERAL_BENEFITS = "60"

_OTHER_LINES = frozenset({Program.DENTAL, Program.VISION, Program.PHARMACY, Program.PART_D})


def _billed_elsewhere(reasons: tuple[BillTo, ...]) -> list[Warning_]:
    return [
        warning(BILLING_WARNINGS[one.because], *pointers_at(one.sources, "because"))
        for one in reasons
        if one.because in BILLING_WARNINGS
    ]


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
