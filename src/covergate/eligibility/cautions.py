"""Reasons for which an active coverage may not pay, or not all (docs/x12.md#limited-programs)."""

from __future__ import annotations

import re
from datetime import date

from covergate.eligibility.answer import Answer
from covergate.eligibility.bill_to import BILLING_WARNINGS
from covergate.eligibility.inquiry import Inquiry
from covergate.eligibility.plans import asked_line, holds, is_inpatient, messages_on_plan
from covergate.eligibility.programs import OTHER_LINES, limited_program_of
from covergate.eligibility.result import Benefit, BillTo, PlanPart, Warning_
from covergate.eligibility.sourced import pointers_at
from covergate.eligibility.terms import Kind, Program, Role, WarningCode
from covergate.eligibility.warning import warning
from covergate.eligibility.x12.codes import WHOLE_PLAN


def cautions_of(answer: Answer, inquiry: Inquiry, benefits: list[Benefit]) -> list[Warning_]:
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


_FACILITY, _HOSPICE = "X", "45"
"""EB01 and EB03 of the hospice that the patient has elected."""


_LEFT = ("remaining", "total", "amount")


def _is_open(row: Benefit) -> bool:
    """Something is left to spend, or nothing says that the stated amount is spent."""
    left = next((amount for amount in (row.remaining, row.total, row.amount) if amount is not None), None)
    return left is not None and left > 0


def limited_benefits(parts: list[PlanPart], inquiry: Inquiry, benefits: list[Benefit]) -> list[Warning_]:
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
    is_another = are_of_another_line([part], inquiry)
    return f"{part.program.value.replace('_', ' ')} plan" if is_another else None


_ENDED = re.compile(
    r"\b(coverage|policy|plan|eligibility|contract|membership|member) (has |was |is )?(been )?"
    r"(terminated|termed|cancell?ed|lapsed)\b(?! (provider|dependent|if|when|unless|for))"
)
_DAY = re.compile(r"\b([0-9]{1,2})[/-]([0-9]{1,2})[/-]([0-9]{4})\b")


def ended_in_words(rows: list[Benefit], day: date | None) -> list[Warning_]:
    """A message beside an active coverage of the plan says that it ended, on no day that is still to come."""
    saying = [
        row
        for row in rows
        if row.kind is Kind.COVERAGE
        and WHOLE_PLAN in row.service_type_codes
        and any(_says_ended(note, day) for note in row.notes)
    ]
    pointers = {at for row in saying for at in pointers_at(row.sources, "notes")}
    return [warning(WarningCode.COVERAGE_DATES_CONFLICT, *pointers, detail="in a message")] if saying else []


def _says_ended(note: str, day: date | None) -> bool:
    words = note.casefold()
    ended = _ENDED.search(words)
    stated = _DAY.search(words, ended.end()) if ended is not None else None
    if stated is None or day is None:
        return ended is not None
    month, of_month, year = (int(part) for part in stated.groups())
    return (year, month, of_month) < (day.year, day.month, day.day)


def are_of_another_line(parts: list[PlanPart], inquiry: Inquiry) -> bool:
    """Active are only plans that have nothing like the asked service: of vision, dental care or drugs."""
    others = OTHER_LINES - asked_line(inquiry.service)
    return bool(parts) and all(part.program in others for part in parts)


def billed_elsewhere(reasons: tuple[BillTo, ...]) -> list[Warning_]:
    return [
        warning(BILLING_WARNINGS[one.because], *pointers_at(one.sources, "because"))
        for one in reasons
        if one.because in BILLING_WARNINGS
    ]
