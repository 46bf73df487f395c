"""The plans of an answer: which rows are of which plan, and which plan has the asked service (docs/x12.md#plans).

Pure. Rows are told apart by insurance type and plan name (EB04, EB05) and by the line (medical, dental …) that names and
service types tell, never by their order. A row that could be of several plans is of none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

from covergate.eligibility.inquiry import Service
from covergate.eligibility.programs import (
    LINES,
    MEDICAL_LINE,
    folded,
    limited_program_of,
    line_of,
    program_of,
)
from covergate.eligibility.result import Benefit, PlanPart
from covergate.eligibility.service_types import asked_types
from covergate.eligibility.sourced import Sources, pointers_at
from covergate.eligibility.terms import Coverage, Kind, Network, Program
from covergate.eligibility.x12.codes import (
    ACTIVE,
    CONTACT_OTHER_ENTITY,
    INACTIVE,
    MEDICARE_PARTS,
    NON_COVERED,
    OTHER_PAYER,
    WHOLE_PLAN,
)

_COVERAGE = ACTIVE | INACTIVE
_INPATIENT_PLACES = frozenset({"21", "31", "34", "51", "55", "56", "61"})
_INPATIENT_SERVICES = frozenset({"48", "49", "54", "A7", "AB", "AG"})


@dataclass(frozen=True, slots=True)
class Plans:
    """`of_service` are the places in `parts` of the plans that can have the asked service, one if it is known which.

    `coverage` is theirs, None if the rows tell no plans apart; `disagree` are pointers to the rows that contradict each
    other. `elsewhere` are the indexes of the benefits of all other plans: they say nothing of the asked service.
    """

    parts: list[PlanPart]
    of_service: tuple[int, ...] = ()
    coverage: Coverage | None = None
    disagree: list[str] | None = None
    elsewhere: frozenset[int] = frozenset()

    @property
    def plan(self) -> PlanPart | None:
        """The plan of the asked service, if it is known which."""
        return self.parts[self.of_service[0]] if len(self.of_service) == 1 else None


def plans_in(benefits: Sequence[Benefit], service: Service, payer_name: str | None = None) -> Plans:
    """The plans that coverage rows (EB01 is 1 to 8) found. `service` has a date."""
    groups = [part for group in _groups(benefits, payer_name) for part in _by_years(group, service.date)]
    groups.sort(key=_Group.order)
    if not groups:
        return Plans(parts=[])
    stated = [_coverage(group, service) for group in groups]
    chosen = _of_service(groups, stated, service)
    coverages = {stated[index] if _speaks(groups[index], service) else Coverage.UNKNOWN for index in chosen}
    # One that has ended and one that has not begun do not contradict each other.
    if len(coverages) > 1 and not any(_holds(groups[index], service.date) for index in chosen):
        coverages = {Coverage.INACTIVE}
    clashing = [index for index in chosen if len(coverages) > 1 or _contradicts(groups[index], service)]
    elsewhere = {index for place, group in enumerate(groups) if place not in chosen for index in group.indexes}
    elsewhere |= _of_other_part(benefits, [groups[index] for index in chosen])
    parts = [_part(group, coverage, service) for group, coverage in zip(groups, stated, strict=True)]
    return Plans(
        parts=parts,
        of_service=tuple(chosen),
        coverage=coverages.pop() if chosen and not clashing else Coverage.UNKNOWN,
        disagree=sorted({at for index in clashing for at in _kinds(groups[index].founders)}) if clashing else None,
        elsewhere=frozenset(elsewhere),
    )


def _of_other_part(benefits: Sequence[Benefit], chosen: Sequence[_Group]) -> set[int]:
    """The rows of the part of Medicare that does not have the service: payers state them without a coverage row, too."""
    types = {group.insurance_type for group in chosen}
    other = MEDICARE_PARTS - types if types and types <= MEDICARE_PARTS else frozenset()
    return {index for index, row in enumerate(benefits) if row.insurance_type in other and row.code != OTHER_PAYER}


def holds(starts_on: date | None, ends_on: date | None, day: date | None) -> bool:
    """Whether the day is not outside of the stated days."""
    return day is None or not ((starts_on is not None and starts_on > day) or (ends_on is not None and ends_on < day))


def is_inpatient(service: Service) -> bool | None:
    """By place of service or service type; None if the inquiry does not tell."""
    if service.place_of_service_code is not None:
        return service.place_of_service_code in _INPATIENT_PLACES
    if not _INPATIENT_SERVICES.isdisjoint(service.service_type_codes):
        return True
    return False if set(service.service_type_codes) != {WHOLE_PLAN} or service.procedure_codes else None


def asked_line(service: Service) -> frozenset[Program]:
    """The programs that can have the asked service."""
    line = line_of(asked_types(service))
    if line is None:
        return MEDICAL_LINE
    return frozenset({line, Program.PART_D} if line is Program.PHARMACY else {line})


@dataclass(slots=True)
class _Group:
    """The rows of one plan. `founders` are its coverage rows, `indexes` the places of all its rows."""

    insurance_type: str | None
    name: str | None
    payer_name: str | None
    founders: list[Benefit] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    benefits: list[Benefit] = field(default_factory=list)
    _program: Program | None = None

    @property
    def program(self) -> Program:
        if self._program is None:
            types = {code for row in self.founders for code in row.service_type_codes}
            codes = {row.code or "" for row in self.founders}
            self._program = program_of(self.insurance_type, self.name, types, codes, self.payer_name)
        return self._program

    @property
    def line(self) -> Program:
        return _line(self.program)

    def add(self, index: int, row: Benefit) -> None:
        self.indexes.append(index)
        self.benefits.append(row)
        if _founds(row):
            self.founders.append(row)
        self._program = None
        self.insurance_type = self.insurance_type or row.insurance_type
        self.name = self.name or row.plan_name

    def speaks_of_plan(self) -> list[Benefit]:
        return [row for row in self.founders if _is_whole_plan(row)]

    def order(self) -> tuple[str, str, str, str, list[int]]:
        days = (
            _only(row.starts_on for row in self.speaks_of_plan()),
            _only(row.ends_on for row in self.speaks_of_plan()),
        )
        return (self.name or "", self.insurance_type or "", str(days[0] or ""), str(days[1] or ""), self.indexes)


def _line(program: Program) -> Program:
    if program is Program.PART_D:
        return Program.PHARMACY
    return program if program in LINES or program is Program.OTHER else Program.MEDICAL


def _founds(row: Benefit) -> bool:
    return row.kind is Kind.COVERAGE and row.code in _COVERAGE


def messages_on_plan(rows: Iterable[Benefit]) -> list[str]:
    """What the payer says beside the coverage of the plan as such."""
    return [text for row in rows if _founds(row) and _is_whole_plan(row) for text in row.notes]


def _is_whole_plan(row: Benefit) -> bool:
    return WHOLE_PLAN in row.service_type_codes or not (row.service_type_codes or row.procedure_codes)


def _row_line(row: Benefit) -> Program:
    types = row.service_type_codes
    if row.plan_name is None:
        return line_of(types) or Program.MEDICAL
    return _line(program_of(row.insurance_type, row.plan_name, types))


def _key(row: Benefit) -> tuple[str, str]:
    return row.insurance_type or "", folded(row.plan_name)


def _groups(benefits: Sequence[Benefit], payer_name: str | None) -> list[_Group]:
    """Rows with a full key first, then those with half a one, then the rest: each joins the one plan that it fits."""
    rows = [(index, row) for index, row in enumerate(benefits) if row.code not in (OTHER_PAYER, CONTACT_OTHER_ENTITY)]
    founding = [(index, row) for index, row in rows if _founds(row)]
    groups: dict[tuple[str, str], list[tuple[int, Benefit]]] = defaultdict(list)
    for index, row in founding:
        groups[_key(row)].append((index, row))
    found: list[_Group] = []
    for rank in (2, 1):
        known = list(found)
        for key, members in groups.items():
            if sum(map(bool, key)) == rank:
                candidate = _group(members, payer_name)
                fitting = [one for one in known if rank == 1 and _shares(one, candidate) and one.line is candidate.line]
                _join(fitting[0], members) if len(fitting) == 1 else found.append(candidate)
    unnamed: dict[Program, list[tuple[int, Benefit]]] = {line: [] for line in (Program.MEDICAL, *LINES)}
    for index, row in groups.get(("", ""), []):
        unnamed[_row_line(row)].append((index, row))
    for line, members in unnamed.items():
        fitting = _of_line([(group, group.line) for group in found], line) if members else []
        if members and not fitting:
            found.append(_group(members, payer_name))
        elif len(fitting) == 1:
            _join(fitting[0], members)
    lines = [(group, group.line) for group in found]
    plan_of: dict[tuple[tuple[str, str], frozenset[str]], _Group | None] = {}
    for index, row in rows:
        if not _founds(row):
            like = _key(row), frozenset(row.service_type_codes)
            if like not in plan_of:
                plan_of[like] = _plan_of(row, lines)
            if (one := plan_of[like]) is not None:
                one.indexes.append(index)
                one.benefits.append(row)
    return found


def _group(members: list[tuple[int, Benefit]], payer_name: str | None) -> _Group:
    group = _Group(None, None, payer_name)
    _join(group, members)
    return group


def _join(group: _Group, members: list[tuple[int, Benefit]]) -> None:
    for index, row in members:
        group.add(index, row)


def _shares(one: _Group, other: _Group) -> bool:
    """One states all of what the other states."""
    return other.insurance_type in (None, one.insurance_type) and folded(other.name) in ("", folded(one.name))


def _of_line(groups: list[tuple[_Group, Program]], line: Program) -> list[_Group]:
    """The plans of a line; a service of another line is the medical plan's where nothing else has it."""
    return [group for group, of in groups if of is line] or [group for group, of in groups if of is Program.MEDICAL]


def _plan_of(row: Benefit, groups: list[tuple[_Group, Program]]) -> _Group | None:
    key = _key(row)
    exact = [one for one, _ in groups if key == (one.insurance_type or "", folded(one.name)) != ("", "")]
    fitting = exact or _of_line([one for one in groups if _agrees(row, one[0])], _row_line(row))
    return fitting[0] if len(fitting) == 1 else None


def _agrees(row: Benefit, group: _Group) -> bool:
    types = {row.insurance_type, group.insurance_type} - {None}
    names = {folded(row.plan_name), folded(group.name)} - {""}
    return len(types) <= 1 and len(names) <= 1


def _by_years(group: _Group, day: date | None) -> list[_Group]:
    """One plan with separate terms (this year's and the next) as several; undated coverage rows are of the asked day's."""
    spans = sorted({_span(row) for row in group.speaks_of_plan() if row.starts_on or row.ends_on})
    terms: list[tuple[date, date]] = []
    for first, last in spans:
        if terms and first <= terms[-1][1]:
            terms[-1] = (terms[-1][0], max(last, terms[-1][1]))
        else:
            terms.append((first, last))
    if len(terms) < 2:
        return [group]
    parts = [_Group(group.insurance_type, group.name, group.payer_name) for _ in terms]
    for index, row in zip(group.indexes, group.benefits, strict=True):
        if row.starts_on or row.ends_on:
            within = [part for part, term in zip(parts, terms, strict=True) if _overlap(_span(row), term)]
        else:
            within = [part for part, (first, last) in zip(parts, terms, strict=True) if day and first <= day <= last]
        if len(within) == 1 and (_founds(row) or row.starts_on or row.ends_on):
            within[0].add(index, row)
    return parts


def _span(row: Benefit) -> tuple[date, date]:
    return row.starts_on or date.min, row.ends_on or date.max


def _overlap(one: tuple[date, date], other: tuple[date, date]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _telling(group: _Group, asked: Service) -> tuple[list[Benefit], list[Benefit]]:
    """The coverage rows on the plan, and those on the asked service; without either, all of them. Not what is only out."""
    inside = [row for row in group.founders if row.network is not Network.OUT] or group.founders
    plan = [row for row in inside if _is_whole_plan(row)]
    service = [row for row in inside if not _is_whole_plan(row) and _names(row, asked)]
    return (plan, service) if plan or service else ([], inside)


def _coverage(group: _Group, asked: Service) -> Coverage:
    if _contradicts(group, asked):
        return Coverage.UNKNOWN
    plan, service = _telling(group, asked)
    return Coverage.ACTIVE if any(row.code in ACTIVE for row in plan or service) else Coverage.INACTIVE


def _speaks(group: _Group, asked: Service) -> bool:
    """Whether a coverage row is on the plan or on the asked service, and not only on others."""
    return any(_is_whole_plan(row) or _names(row, asked) for row in group.founders)


def _contradicts(group: _Group, asked: Service) -> bool:
    """The plan is said to be active and terminated, or to be terminated beside an active asked service."""
    plan, service = _telling(group, asked)
    is_ended = any(row.code in INACTIVE for row in plan)
    return is_ended and any(row.code in ACTIVE for row in [*plan, *service])


def _of_service(groups: list[_Group], stated: list[Coverage], service: Service) -> list[int]:
    """The plans that can have the asked service, narrowed as long as some are left."""
    candidates = _of_asked_line(groups, service)
    # A plan that speaks of other services alone tells nothing of this one beside a plan that speaks of all.
    candidates = [index for index in candidates if _speaks(groups[index], service)] or candidates
    part = _medicare_part(service)
    # The part that has the service decides even if it has ended: the other one never pays for it.
    if any(groups[index].program is part for index in candidates):
        other = {Program.MEDICARE_A, Program.MEDICARE_B} - {part}
        candidates = [index for index in candidates if groups[index].program not in other]
    candidates = [index for index in candidates if _holds(groups[index], service.date)] or candidates
    full = [index for index in candidates if not _is_limited(groups[index])]
    if any(stated[index] is Coverage.ACTIVE for index in full):
        candidates = full
    named = [index for index in candidates if any(_names(row, service) for row in groups[index].founders)]
    if len({stated[index] for index in candidates}) == 1:
        return named or candidates
    if named:
        # A service whose own plan ended, beside a plan that is active, is not told by either.
        return named if any(stated[index] is Coverage.ACTIVE for index in named) else candidates
    medical = [index for index in candidates if _names_services(groups[index])]
    return medical if len(medical) == 1 else candidates


def _of_asked_line(groups: list[_Group], service: Service) -> list[int]:
    """Plans of other lines alone (dental, vision) have what was asked only if that is no service in particular."""
    programs = asked_line(service)
    every = range(len(groups))
    fitting = [index for index in every if groups[index].program in programs]
    fitting = fitting or [index for index in every if groups[index].line is Program.MEDICAL]
    of_no_service = WHOLE_PLAN in service.service_type_codes and not service.procedure_codes
    return fitting or (list(every) if of_no_service else [])


def _medicare_part(service: Service) -> Program | None:
    inpatient = is_inpatient(service)
    return None if inpatient is None else Program.MEDICARE_A if inpatient else Program.MEDICARE_B


def _holds(group: _Group, day: date | None) -> bool:
    rows = group.speaks_of_plan()
    return holds(_only(row.starts_on for row in rows), _only(row.ends_on for row in rows), day)


def _is_limited(group: _Group) -> bool:
    return limited_program_of(group.insurance_type, group.name, messages_on_plan(group.founders)) is not None


def _names(row: Benefit, asked: Service) -> bool:
    if row.procedure_codes and not row.service_type_codes:
        return not set(row.procedure_codes).isdisjoint(asked.procedure_codes)
    return not asked_types(asked).isdisjoint(row.service_type_codes)


def covered_by(rows: Iterable[Benefit], code: str) -> bool | None:
    """Whether these rows of one plan say that a service type is covered, as docs/x12.md#covered-services has it."""
    naming = [row for row in rows if code in row.service_type_codes or (code == WHOLE_PLAN and _is_whole_plan(row))]
    stated = {row.code for row in naming if _founds(row) and not row.procedure_codes}
    excluded = [
        row
        for row in naming
        if row.code == NON_COVERED
        and row.network is not Network.OUT
        and not (row.place_of_service or row.procedure_codes)
    ]
    if excluded:
        return False
    return True if stated & ACTIVE else False if stated & INACTIVE else None


def _names_services(group: _Group) -> bool:
    """Whether its coverage rows name services beside the plan itself."""
    return any(set(row.service_type_codes) - {WHOLE_PLAN} for row in group.founders)


def _part(group: _Group, coverage: Coverage, asked: Service) -> PlanPart:
    """Its dates are those of the rows on the plan, a service's only if these have none."""
    plan, service = _telling(group, asked)
    rows = plan if any(row.starts_on or row.ends_on for row in plan) else [*plan, *service]
    starts_on, ends_on = _only(row.starts_on for row in rows), _only(row.ends_on for row in rows)
    sources: Sources = {
        name: pointers
        for name, field_of_row, is_stated in (
            ("name", "plan_name", group.name is not None),
            ("type", "insurance_type", group.insurance_type is not None),
            ("coverage", "kind", True),
            ("starts_on", "starts_on", starts_on is not None),
            ("ends_on", "ends_on", ends_on is not None),
        )
        if is_stated and (pointers := _pointers(rows, field_of_row))
    }
    return PlanPart(
        name=group.name,
        type=group.insurance_type,
        program=group.program,
        coverage=coverage,
        starts_on=starts_on,
        ends_on=ends_on,
        open_ended=ends_on is None and any(row.open_ended for row in rows),
        benefits=sorted(group.indexes),
        sources=sources,
    )


def _kinds(rows: Iterable[Benefit]) -> list[str]:
    return _pointers(rows, "kind") or _pointers(rows, "code")


def _pointers(rows: Iterable[Benefit], name: str) -> list[str]:
    return sorted({at for row in rows for at in pointers_at(row.sources, name)})


def _only(days: Iterable[date | None]) -> date | None:
    """The one day that is stated, None if there are several."""
    stated = set(days) - {None}
    return stated.pop() if len(stated) == 1 else None
