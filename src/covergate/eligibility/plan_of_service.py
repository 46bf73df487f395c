"""The answer as that of the plan of the asked service, and the plans as the result shows them (docs/x12.md#plans)."""

from __future__ import annotations

from covergate.eligibility.answer import Answer
from covergate.eligibility.plans import Plans, covered_by
from covergate.eligibility.programs import OTHER_LINES, program_of
from covergate.eligibility.result import Benefit, Plan, PlanPart, ServiceAnswer
from covergate.eligibility.sourced import pointers_at
from covergate.eligibility.terms import CodeType, Coverage, Kind, Program
from covergate.eligibility.x12.codes import WHOLE_PLAN
from covergate.eligibility.x12.names import EB04_NAMES


def answer_of_plan(answer: Answer, benefits: list[Benefit], plans: Plans) -> Answer:
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


def line_of_plans(parts: list[PlanPart], benefits: list[Benefit]) -> Program | None:
    """The line of the plans of the asked service, if they have nothing but dental care, vision or drugs."""
    lines = {_line_by_rows(part, benefits) for part in parts}
    line = lines.pop() if len(lines) == 1 else None
    return line if line in OTHER_LINES else None


def _line_by_rows(part: PlanPart, benefits: list[Benefit]) -> Program:
    """Also of a Medicaid programme that is for dental care: its insurance type is Medicaid's."""
    rows = [benefits[index] for index in part.benefits if benefits[index].kind is Kind.COVERAGE]
    codes = {code for row in rows for code in row.service_type_codes} - {WHOLE_PLAN, _GENERAL_BENEFITS}
    return part.program if part.program in OTHER_LINES else program_of(None, part.name, codes)


_GENERAL_BENEFITS = "60"


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
    for name in _FIELDS_OF_ROWS:
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
    of_rows = {at for row in benefits for name in _FIELDS_OF_ROWS.values() for at in pointers_at(row.sources, name)}
    return of_rows.isdisjoint(pointers)


_FIELDS_OF_ROWS = {"name": "plan_name", "type": "insurance_type", "starts_on": "starts_on", "ends_on": "ends_on"}
"""Fields of a plan, and where its rows have them."""


def plan_parts(answer: Answer, benefits: list[Benefit], coverage: Coverage, plans: Plans) -> list[PlanPart]:
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
