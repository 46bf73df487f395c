"""Reads an X12 271: EB rows, from whichever vendor's JSON, to coverage, services, benefits and warnings (docs/x12.md).

A vendor's adapter makes `EbRow`s and `Aaa`s, calls `read_271`, and puts the `Reading` into its `Answer`, or refuses with the
`Failure`.

Invariant: nothing is inferred that no row says. A reject (AAA) never means inactive, EB12 never means that this provider is in
the network, an unknown code is `unknown` with a warning and never an exception; the order of the rows decides only `sources`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from covergate.eligibility.derive import warning
from covergate.eligibility.failure import Aaa, Failure, FailureCode, failure
from covergate.eligibility.inquiry import Service
from covergate.eligibility.result import (
    Benefit,
    NamedPayer,
    OtherCoverage,
    Plan,
    RelatedEntity,
    ServiceAnswer,
    Warning_,
)
from covergate.eligibility.sourced import NOT_STATED, Sourced, pointers_of, row
from covergate.eligibility.terms import Coverage, Role, WarningCode
from covergate.eligibility.x12.benefits import (
    benefits_of,
    count_figure_of,
    figure_of,
    read_count,
    read_money,
    read_percent,
)
from covergate.eligibility.x12.codes import (
    ACTIVE,
    AUTHORIZATION,
    CANNOT_PROCESS,
    CONTACT_OTHER_ENTITY,
    ENTITY_ROLES,
    INACTIVE,
    KINDS,
    LEVELS,
    NETWORKS,
    NON_COVERED,
    OTHER_PAYER,
    PAYER_ORDERS,
    PENDING_INVESTIGATION,
    PERIODS,
    ROW_ROLES,
    UNITS,
    WHOLE_PLAN,
    aaa_failure,
)
from covergate.eligibility.x12.names import AAA03_NAMES, EB03_NAMES, EB04_NAMES
from covergate.eligibility.x12.rows import (
    BENEFIT_DAYS,
    ELIGIBILITY_DAYS,
    OTHER_COVERAGE_DAYS,
    PLAN_DAYS,
    Days,
    EbRow,
    Entity,
    date_range,
    texts,
)
from covergate.eligibility.x12.services import services_of

_SPEAK_OF_COVERAGE = ACTIVE | INACTIVE | {NON_COVERED}


@dataclass(frozen=True, slots=True)
class Reading:
    """The fields of `Answer` that the rows fill. `plan` has what coverage rows and `plan_days` state of it."""

    coverage: Coverage
    plan: Plan
    services: list[ServiceAnswer] = field(default_factory=list)
    benefits: list[Benefit] = field(default_factory=list)
    other_coverage: list[OtherCoverage] = field(default_factory=list)
    related_entities: list[RelatedEntity] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[Warning_] = field(default_factory=list)


def read_271(
    rows: Sequence[EbRow],
    service: Service,
    aaas: Sequence[Aaa] = (),
    *,
    plan_days: tuple[Days, ...] = (),
    vendor_code: str | None = None,
    vendor_message: str | None = None,
) -> Reading | Failure:
    """`rows` are those about the patient (a dependent's own if there are any); `plan_days` stand outside of any row.

    `service` is the one asked about, whether or not the vendor had a place for it. A failure if rows state no coverage and
    there is an AAA, or if they say only "cannot process" (EB01 = V). No rows and no AAA is a reading with coverage unknown.
    """
    if aaas and not any(row.code in _SPEAK_OF_COVERAGE for row in rows):
        return aaa_failure(aaas, vendor_code=vendor_code, vendor_message=vendor_message)
    if rows and all(row.code == CANNOT_PROCESS for row in rows):
        words = " ".join(texts(msg for row in rows for msg in row.msgs))
        return failure(
            FailureCode.PAYER_MANUAL_CHECK_REQUIRED,
            vendor_code=vendor_code or CANNOT_PROCESS,
            vendor_message=vendor_message or words or None,
        )
    coverage_rows = [row for row in rows if row.code in ACTIVE | INACTIVE and _concerns(row, service)]
    coverage = _coverage(coverage_rows)
    plan_rows = [row for row in coverage_rows if coverage is not Coverage.ACTIVE or row.code in ACTIVE]
    return Reading(
        coverage=coverage,
        plan=_plan(plan_rows, plan_days),
        services=services_of(rows, service.place_of_service_code),
        benefits=benefits_of(rows),
        other_coverage=[other for row in rows if row.code == OTHER_PAYER for other in _other_coverage(row)],
        related_entities=[entity for row in rows if row.code != OTHER_PAYER for entity in _related(row)],
        notes=sorted({f"AAA {aaa.code} {AAA03_NAMES.get(aaa.code, '')}".strip() for aaa in aaas}),
        warnings=_warnings(rows, coverage_rows),
    )


def _concerns(row: EbRow, service: Service) -> bool:
    """Whether a coverage row is about the plan or the asked service (docs/x12.md#coverage)."""
    if row.procedures and not row.eb03:
        return not row.procedure_codes.isdisjoint(service.procedure_codes)
    codes = row.service_types
    return not codes or WHOLE_PLAN in codes or not codes.isdisjoint(service.service_type_codes)


def _coverage(coverage_rows: list[EbRow]) -> Coverage:
    if any(row.code in ACTIVE for row in coverage_rows):
        return Coverage.ACTIVE
    return Coverage.INACTIVE if coverage_rows else Coverage.UNKNOWN


def _plan(rows: list[EbRow], plan_days: tuple[Days, ...]) -> Plan:
    """Name, type and dates as far as all rows that state them agree."""
    insurance_type = _agreed(eb.eb04 for eb in rows)
    dates = date_range(tuple(day for eb in rows for day in eb.days) or plan_days, PLAN_DAYS, ELIGIBILITY_DAYS)
    return Plan(
        **row(
            name=_agreed(eb.eb05 for eb in rows),
            type=insurance_type,
            type_name=insurance_type.then(EB04_NAMES.get),
            starts_on=dates.starts_on,
            ends_on=dates.ends_on,
        )
    )


def _agreed(elements: Iterable[Sourced[str]]) -> Sourced[str]:
    """The one text of those that are stated, with all their pointers; not stated if they differ."""
    stated = [element for element in elements if element]
    if len({element.value for element in stated}) != 1:
        return NOT_STATED
    return Sourced(stated[0].value, tuple(sorted(pointer for element in stated for pointer in element.pointers)))


def _other_coverage(eb: EbRow) -> list[OtherCoverage]:
    dates = date_range(eb.days, OTHER_COVERAGE_DAYS, BENEFIT_DAYS, PLAN_DAYS, ELIGIBILITY_DAYS)
    return [
        OtherCoverage(
            **row(
                order=payer.code.then(PAYER_ORDERS.get),
                payer=_named(payer),
                member_id=eb.member_id,
                qualifier=eb.eb04.then(lambda code: EB04_NAMES.get(code, code)),
                starts_on=dates.starts_on,
                ends_on=dates.ends_on,
            )
        )
        for payer in eb.entities or (Entity(),)
    ]


def _named(payer: Entity) -> Sourced[NamedPayer]:
    number = payer.id | payer.npi
    return Sourced(NamedPayer(id=number.value, name=payer.name.value), payer.name.pointers + number.pointers)


def _related(eb: EbRow) -> list[RelatedEntity]:
    """The entities that a row names; "contact another entity" is one even if it names none."""
    if not eb.entities and eb.code == CONTACT_OTHER_ENTITY:
        return [RelatedEntity(**row(role=eb.eb01.then(lambda _: Role.OTHER)))]
    return [
        RelatedEntity(
            **row(
                role=eb.eb01.then(ROW_ROLES.get) | entity.code.then(lambda code: ENTITY_ROLES.get(code, Role.OTHER)),
                entity_code=entity.code,
                name=entity.name,
                npi=entity.npi,
                id=entity.id,
                phone=entity.phone,
                fax=entity.fax,
                address=entity.address,
            )
        )
        for entity in eb.entities
    ]


def _warnings(rows: Sequence[EbRow], coverage_rows: list[EbRow]) -> list[Warning_]:
    warnings = [
        *_flag(WarningCode.PENDING_INVESTIGATION, [row for row in coverage_rows if row.code in PENDING_INVESTIGATION]),
        *_flag(WarningCode.CONTACT_OTHER_ENTITY, [row for row in rows if row.code == CONTACT_OTHER_ENTITY]),
    ]
    unknown: defaultdict[str, list[Sourced[Any]]] = defaultdict(list)
    unreadable: defaultdict[str, list[Sourced[Any]]] = defaultdict(list)
    for eb in rows:
        for name, element in _unknown_codes(eb):
            code = element.value if _looks_like_a_code(element) else ""
            unknown[f"{name} {code}".strip()].append(element)
        for name, element in _unreadable(eb):
            unreadable[name].append(element)
    for code, problems in ((WarningCode.UNKNOWN_CODE, unknown), (WarningCode.RAW_UNPARSABLE, unreadable)):
        warnings += [warning(code, *pointers_of(elements), detail=detail) for detail, elements in problems.items()]
    return warnings


def _flag(code: WarningCode, rows: list[EbRow]) -> list[Warning_]:
    return [warning(code, *pointers_of(row.eb01 for row in rows))] if rows else []


def _unknown_codes(row: EbRow) -> list[tuple[str, Sourced[str]]]:
    elements: list[tuple[str, Sourced[str], Container[str]]] = [
        ("EB01", row.eb01, KINDS),
        ("EB02", row.eb02, LEVELS),
        ("EB04", row.eb04, EB04_NAMES),
        ("EB06", row.eb06, PERIODS),
        ("EB09", row.eb09, UNITS),
        ("EB11", row.eb11, AUTHORIZATION),
        ("EB12", row.eb12, NETWORKS),
        *(("EB03", code, EB03_NAMES) for code in row.eb03),
    ]
    return [
        (name, element) for name, element, table in elements if element.value is not None and element.value not in table
    ]


def _looks_like_a_code(element: Sourced[str]) -> bool:
    """Only then is a code repeated in the warning: free text in its place could be about a person."""
    text = element.value or ""
    return len(text) <= 3 and text.isascii() and text.isalnum()


def _unreadable(row: EbRow) -> list[tuple[str, Sourced[str]]]:
    numbers = (
        ("EB07", row.eb07, read_money(row.eb07, figure_of(row))),
        ("EB08", row.eb08, read_percent(row.eb08, row.eb08_is_fraction)),
        ("EB10", row.eb10, read_count(row.eb10, count_figure_of(row))),
    )
    return [(name, element) for name, element, number in numbers if element and not number]
