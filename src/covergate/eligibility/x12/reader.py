"""Reads an X12 271: EB rows, from whichever vendor's JSON, to coverage, services, benefits and warnings (docs/x12.md).

A vendor's adapter makes `EbRow`s and `Aaa`s, calls `read_271`, and puts the `Reading` into its `Answer`, or refuses with the
`Failure`.

Invariant: nothing is inferred that no row says. A reject (AAA) never means inactive, EB12 never means that this provider is in
the network, an unknown code is `unknown` with a warning and never an exception; the order of the rows decides only `sources`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any

from covergate.eligibility.failure import Aaa, Failure, FailureCode, failure
from covergate.eligibility.inquiry import Service
from covergate.eligibility.result import (
    Authorization,
    Benefit,
    OtherCoverage,
    Plan,
    RelatedEntity,
    ServiceAnswer,
    Warning_,
)
from covergate.eligibility.sentinels import means_no_limit
from covergate.eligibility.service_types import services_meant
from covergate.eligibility.sourced import NOT_STATED, Sourced, pointers_at, pointers_of, row
from covergate.eligibility.summary.accumulators import is_impossible
from covergate.eligibility.terms import Coverage, WarningCode
from covergate.eligibility.warning import warning
from covergate.eligibility.x12.authorizations import authorizations_of
from covergate.eligibility.x12.benefits import benefits_of
from covergate.eligibility.x12.codes import (
    AAA_FAILURES,
    ACTIVE,
    AUTHORIZATION,
    CANNOT_PROCESS,
    CONTACT_OTHER_ENTITY,
    DELIVERY_UNITS,
    INACTIVE,
    KINDS,
    LEVELS,
    MEMBER_FAILURES,
    NETWORKS,
    NON_COVERED,
    PENDING_INVESTIGATION,
    PERIODS,
    PRIMARY_CARE_AUTHORIZATION,
    RATE_PERIODS,
    RESTRICTED,
    UNITS,
    WHOLE_PLAN,
    Figure,
    aaa_failure,
)
from covergate.eligibility.x12.entities import is_note, related_entities_of
from covergate.eligibility.x12.names import AAA03_NAMES, EB03_NAMES, EB04_NAMES
from covergate.eligibility.x12.payers import other_coverage_of
from covergate.eligibility.x12.row_facts import (
    count_figure_of,
    is_entitlement,
    money_figure_of,
    read_count,
    read_money,
    read_percent,
)
from covergate.eligibility.x12.rows import (
    ELIGIBILITY_DAYS,
    ELIGIBILITY_SPAN,
    PAID_THROUGH,
    PLAN_DAYS,
    DateRange,
    Days,
    EbRow,
    date_range,
    is_inquiry_span,
    last_day,
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
    authorizations: list[Authorization] = field(default_factory=list)
    referral: Sourced[bool] = NOT_STATED
    notes: list[str] = field(default_factory=list)
    warnings: list[Warning_] = field(default_factory=list)


def read_271(
    rows: Sequence[EbRow],
    service: Service,
    aaas: Sequence[Aaa] = (),
    *,
    plan_days: tuple[Days, ...] = (),
    answered_on: date | None = None,
    asking_npi: str | None = None,
    answering_payer: Iterable[Sourced[str]] = (),
    vendor_code: str | None = None,
    vendor_message: str | None = None,
) -> Reading | Failure:
    """`rows` are those about the patient (a dependent's own if there are any); `plan_days` stand outside of any row.

    `service` is the one asked about, whether or not the vendor had a place for it; `asking_npi` is the provider's, and
    `answering_payer` are id and name of the payer that answers, as far as they are known. A failure if rows state no coverage and
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
    known = [day for day in (service.date, service.end_date, answered_on) if day is not None]
    rows = [_without_inquiry_span(row, known) for row in rows]
    coverage_rows = [row for row in rows if row.code in ACTIVE | INACTIVE and _concerns(row, service)]
    coverage = _coverage(coverage_rows)
    plan_rows = [row for row in coverage_rows if coverage is not Coverage.ACTIVE or row.code in ACTIVE]
    benefits = benefits_of(rows)
    answering = [text.value for text in answering_payer if text.value]
    return Reading(
        coverage=coverage,
        plan=_plan(plan_rows, tuple(day for day in plan_days if not _is_of_inquiry(day, known))),
        services=services_of(rows, service.place_of_service_code),
        benefits=benefits,
        other_coverage=other_coverage_of(rows),
        related_entities=related_entities_of(rows, service, asking_npi, answering),
        authorizations=authorizations_of(rows),
        referral=_referral(aaas),
        notes=sorted({f"AAA {aaa.code} {AAA03_NAMES.get(aaa.code, '')}".strip() for aaa in aaas}),
        warnings=[
            *_warnings(rows, coverage_rows, service, answering),
            *_restricted(rows, service, asking_npi),
            *_doubted(aaas),
            *_impossible(benefits),
        ],
    )


def _referral(aaas: Sequence[Aaa]) -> Sourced[bool]:
    """Beside a coverage, "requires primary care physician authorization" is no refusal: a referral is needed."""
    asking = [pointer for aaa in aaas if aaa.code == PRIMARY_CARE_AUTHORIZATION for pointer in aaa.sources]
    return Sourced(True, tuple(sorted(asking))) if asking else NOT_STATED


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


def _without_inquiry_span(eb: EbRow, known: list[date]) -> EbRow:
    if not any(is_inquiry_span(day, known) for day in eb.days):
        return eb
    return replace(eb, days=tuple(day for day in eb.days if not is_inquiry_span(day, known)))


def _is_of_inquiry(day: Days, known: list[date]) -> bool:
    """Outside of any row the span of eligibility is always the one asked about (docs/x12.md#dates)."""
    return day.qualifier == ELIGIBILITY_SPAN or is_inquiry_span(day, known)


def _plan(rows: list[EbRow], plan_days: tuple[Days, ...]) -> Plan:
    """Name, type and dates as far as all rows that state them agree; a service's dates only if the plan has none."""
    insurance_type = _agreed(eb.eb04 for eb in rows)
    of_plan = [eb for eb in rows if not eb.eb03 or WHOLE_PLAN in eb.service_types]
    dates = _plan_dates(of_plan)
    if not (dates.starts_on or dates.ends_on):
        dates = date_range(plan_days, PLAN_DAYS, ELIGIBILITY_DAYS)
    if not (dates.starts_on or dates.ends_on):
        dates = _plan_dates(rows)
    return Plan(
        **row(
            name=_agreed(eb.eb05 for eb in rows),
            type=insurance_type,
            type_name=insurance_type.then(EB04_NAMES.get),
            starts_on=dates.starts_on,
            ends_on=dates.ends_on,
            paid_through=last_day((*(day for eb in rows for day in eb.days), *plan_days), PAID_THROUGH),
        )
    )


def _plan_dates(rows: list[EbRow]) -> DateRange:
    days = tuple(day for eb in rows for day in eb.days)
    begins = bool(rows) and all(is_entitlement(eb) for eb in rows)
    return date_range(days, PLAN_DAYS, ELIGIBILITY_DAYS, one_day_begins=begins)


def _agreed(elements: Iterable[Sourced[str]]) -> Sourced[str]:
    """The one text of those that are stated, with all their pointers; not stated if they differ."""
    stated = [element for element in elements if element]
    if len({element.value for element in stated}) != 1:
        return NOT_STATED
    return Sourced(stated[0].value, tuple(sorted(pointer for element in stated for pointer in element.pointers)))


def _warnings(
    rows: Sequence[EbRow], coverage_rows: list[EbRow], service: Service, answering: list[str]
) -> list[Warning_]:
    elsewhere = [row for row in rows if row.code == CONTACT_OTHER_ENTITY and not is_note(row, answering)]
    if any(row.code in _SPEAK_OF_COVERAGE for row in rows):
        meant = {code for codes in services_meant(service) for code in codes}
        elsewhere = [row for row in elsewhere if _concerns(row, service) or not row.service_types.isdisjoint(meant)]
    warnings = [
        *_flag(WarningCode.PENDING_INVESTIGATION, [row for row in coverage_rows if row.code in PENDING_INVESTIGATION]),
        *_flag(WarningCode.CONTACT_OTHER_ENTITY, elsewhere),
    ]
    unknown: defaultdict[str, list[Sourced[Any]]] = defaultdict(list)
    unreadable: defaultdict[str, list[Sourced[Any]]] = defaultdict(list)
    for name, element in _unknown_codes(rows):
        code = element.value if _looks_like_a_code(element) else ""
        unknown[f"{name} {code}".strip()].append(element)
    for eb in rows:
        for name, element in _unreadable(eb):
            unreadable[name].append(element)
    for code, problems in ((WarningCode.UNKNOWN_CODE, unknown), (WarningCode.RAW_UNPARSABLE, unreadable)):
        warnings += [warning(code, *pointers_of(elements), detail=detail) for detail, elements in problems.items()]
    return warnings


def _restricted(rows: Sequence[EbRow], service: Service, asking_npi: str | None) -> list[Warning_]:
    """The plan pays one provider alone, and that is not the one who asks."""
    if asking_npi is None:
        return []
    restricted = [row for row in rows if row.code == RESTRICTED and _concerns(row, service)]
    npis = {entity.npi.value: entity.npi for row in restricted for entity in row.entities if entity.npi}
    if not npis or asking_npi in npis:
        return []
    detail = "services are restricted to another provider"
    return [warning(WarningCode.LIMITED_BENEFIT, *pointers_of(npis.values()), detail=detail)]


def _doubted(aaas: Sequence[Aaa]) -> list[Warning_]:
    """Beside a coverage, a reject of the member's data says that it may be another's."""
    sources = {at for aaa in aaas if AAA_FAILURES.get(aaa.code) in MEMBER_FAILURES for at in aaa.sources}
    codes = sorted({aaa.code for aaa in aaas if AAA_FAILURES.get(aaa.code) in MEMBER_FAILURES})
    return [warning(WarningCode.MEMBER_DATA_DIFFERS, *sources, detail=f"AAA {', '.join(codes)}")] if codes else []


def _flag(code: WarningCode, rows: list[EbRow]) -> list[Warning_]:
    return [warning(code, *pointers_of(row.eb01 for row in rows))] if rows else []


def _impossible(benefits: list[Benefit]) -> list[Warning_]:
    """More left than there is: the figures stand as stated, and are not to be trusted. "No limit" is no figure."""
    return [
        warning(
            WarningCode.CONFLICTING_AMOUNTS,
            *{pointer for name in names for pointer in pointers_at(benefit.sources, name)},
            detail="more remains than the total",
        )
        for benefit in benefits
        for figures, names in _figures_of(benefit)
        if is_impossible(*figures) and not means_no_limit(figures[2])
    ]


_Figures = tuple[Decimal | None, Decimal | None, Decimal | None]


def _figures_of(benefit: Benefit) -> list[tuple[_Figures, tuple[str, ...]]]:
    quantity = benefit.quantity
    dollars = ((benefit.total, benefit.used, benefit.remaining), ("total", "used", "remaining"))
    counts = [((quantity.total, quantity.used, quantity.remaining), ("quantity",))] if quantity else []
    return [dollars, *counts]


def _unknown_codes(rows: Sequence[EbRow]) -> list[tuple[str, Sourced[str]]]:
    elements: list[tuple[str, Container[str], list[Sourced[str]]]] = [
        (name, table, [getattr(row, attribute) for row in rows]) for name, attribute, table in _CODED
    ]
    elements.append(("EB03", EB03_NAMES, [code for row in rows for code in row.eb03]))
    deliveries = [one for row in rows for one in row.deliveries]
    elements += [
        (name, table, [getattr(one, attribute) for one in deliveries]) for name, attribute, table in _HSD_CODED
    ]
    return [
        (name, element)
        for name, table, stated in elements
        for element in stated
        if element.value is not None and element.value not in table
    ]


_CODED: tuple[tuple[str, str, Container[str]], ...] = (
    ("EB01", "eb01", KINDS),
    ("EB02", "eb02", LEVELS),
    ("EB04", "eb04", EB04_NAMES),
    ("EB06", "eb06", PERIODS),
    ("EB09", "eb09", UNITS),
    ("EB11", "eb11", AUTHORIZATION),
    ("EB12", "eb12", NETWORKS),
)
_HSD_CODED: tuple[tuple[str, str, Container[str]], ...] = (
    ("HSD01", "hsd01", DELIVERY_UNITS),
    ("HSD03", "hsd03", RATE_PERIODS),
    ("HSD05", "hsd05", PERIODS),
)


def _looks_like_a_code(element: Sourced[str]) -> bool:
    """Only then is a code repeated in the warning: free text in its place could be about a person."""
    text = element.value or ""
    return len(text) <= 3 and text.isascii() and text.isalnum()


def _unreadable(row: EbRow) -> list[tuple[str, Sourced[str]]]:
    found = [("HSD02", one.hsd02) for one in row.deliveries if not read_count(one.hsd02, Figure.REMAINING)]
    if row.eb07 and not read_money(row.eb07, money_figure_of(row)):
        found.append(("EB07", row.eb07))
    if row.eb08 and not read_percent(row.eb08, row.eb08_is_fraction):
        found.append(("EB08", row.eb08))
    if row.eb10 and not read_count(row.eb10, count_figure_of(row)):
        found.append(("EB10", row.eb10))
    return [(name, element) for name, element in found if element]
