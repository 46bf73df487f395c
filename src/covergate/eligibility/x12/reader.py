"""The one reader of an X12 271: EB rows, from whichever vendor's JSON, to coverage, services, benefits and warnings.

A vendor's adapter makes `EbRow`s (eb.py) and `Aaa`s, calls `read`, and puts the `Reading` into its `Statement`, or refuses with
the `Failure`. Rules: vendors.md 6.2, 6.6, 6.7.

Invariant: nothing is inferred that no row says. A reject (AAA) never means inactive, EB12 never means that this provider is in
the network, an unknown code is `unknown` with a warning and never an exception; the order of the rows decides only `sources`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

from covergate.eligibility.derive import MESSAGES, warning
from covergate.eligibility.failure import Aaa, Failure, FailureCode, failure
from covergate.eligibility.result import (
    Benefit,
    NamedPayer,
    OtherCoverage,
    Plan,
    RelatedEntity,
    ServiceAnswer,
    Warning_,
)
from covergate.eligibility.sourced import Sources
from covergate.eligibility.terms import Coverage, Role, WarningCode
from covergate.eligibility.x12.benefits import benefits_of, count_part_of, part_of, read_count, read_money, read_percent
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
    aaa_failure,
)
from covergate.eligibility.x12.names import AAA03_NAMES, EB03_NAMES, EB04_NAMES
from covergate.eligibility.x12.rows import BENEFIT_DAYS, ELIGIBILITY_DAYS, PLAN_DAYS, Days, EbRow, Element, Entity, span
from covergate.eligibility.x12.services import Asked, services_of

WHOLE_PLAN = "30"
"""EB03 of the health benefit plan as such."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the rows say; the fields are those of `Statement`. `plan` has what coverage rows and `plan_days` state of it."""

    coverage: Coverage
    plan: Plan
    services: list[ServiceAnswer] = field(default_factory=list)
    benefits: list[Benefit] = field(default_factory=list)
    other_coverage: list[OtherCoverage] = field(default_factory=list)
    related_entities: list[RelatedEntity] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[Warning_] = field(default_factory=list)


def read(
    rows: Sequence[EbRow],
    asked: Asked,
    aaas: Sequence[Aaa] = (),
    *,
    plan_days: tuple[Days, ...] = (),
    vendor_code: str | None = None,
    vendor_message: str | None = None,
) -> Reading | Failure:
    """`rows` are those about the patient (a dependent's own where there are any); `plan_days` stand outside of any row.

    A failure where rows state no coverage and there is an AAA, or where they say only "cannot process" (EB01 = V).
    No rows and no AAA is a reading with coverage unknown.
    """
    speaks_of_coverage = any(row.code in ACTIVE | INACTIVE | {NON_COVERED} for row in rows)
    if aaas and not speaks_of_coverage:
        return aaa_failure(aaas, vendor_code=vendor_code, vendor_message=vendor_message)
    if rows and all(row.code == CANNOT_PROCESS for row in rows):
        texts = sorted({msg.text for row in rows for msg in row.msgs})
        return failure(
            FailureCode.PAYER_MANUAL_CHECK_REQUIRED,
            vendor_code=vendor_code or CANNOT_PROCESS,
            vendor_message=vendor_message or " ".join(texts) or None,
        )
    about = [row for row in rows if row.code in ACTIVE | INACTIVE and _concerns(row, asked)]
    coverage = _coverage(about)
    return Reading(
        coverage=coverage,
        plan=_plan([row for row in about if coverage is not Coverage.ACTIVE or row.code in ACTIVE], plan_days),
        services=services_of(rows, asked),
        benefits=benefits_of(rows),
        other_coverage=[other for row in rows if row.code == OTHER_PAYER for other in _other_coverage(row)],
        related_entities=[entity for row in rows if row.code != OTHER_PAYER for entity in _related(row)],
        notes=sorted({f"AAA {aaa.code} {AAA03_NAMES.get(aaa.code, '')}".strip() for aaa in aaas}),
        warnings=_warnings(rows, about),
    )


def _concerns(row: EbRow, asked: Asked) -> bool:
    """Whether a coverage row is about the plan or the asked service (vendors.md 6.2)."""
    if row.procedures and not row.eb03:
        return bool(row.procedure_codes & asked.procedures)
    return not row.eb03 or WHOLE_PLAN in row.service_types or bool(row.service_types & asked.service_types)


def _coverage(about: list[EbRow]) -> Coverage:
    if any(row.code in ACTIVE for row in about):
        return Coverage.ACTIVE
    return Coverage.INACTIVE if about else Coverage.UNKNOWN


def _plan(about: list[EbRow], plan_days: tuple[Days, ...]) -> Plan:
    """Name, type and dates as far as all rows that state them agree."""
    name, name_at = _agreed(row.eb05 for row in about)
    kind, kind_at = _agreed(row.eb04 for row in about)
    dates = span(tuple(day for row in about for day in row.days) or plan_days, PLAN_DAYS, ELIGIBILITY_DAYS)
    sources: Sources = {
        "name": name_at,
        "type": kind_at,
        "type_name": kind_at if kind in EB04_NAMES else [],
        "starts_on": list(dates.starts_at) if dates.starts_on else [],
        "ends_on": list(dates.ends_at) if dates.ends_on else [],
    }
    return Plan(
        name=name,
        type=kind,
        type_name=EB04_NAMES.get(kind) if kind else None,
        starts_on=dates.starts_on,
        ends_on=dates.ends_on,
        sources={field: at for field, at in sources.items() if at},
    )


def _agreed(elements: Iterable[Element | None]) -> tuple[str | None, list[str]]:
    found = [element for element in elements if element is not None]
    if len({element.text for element in found}) != 1:
        return None, []
    return found[0].text, sorted(element.at for element in found)


def _other_coverage(row: EbRow) -> list[OtherCoverage]:
    dates = span(row.days, *_ANY_DAYS)
    found: list[OtherCoverage] = []
    for payer in row.entities or (Entity(),):
        order = PAYER_ORDERS.get(payer.code.text) if payer.code else None
        number = payer.id or payer.npi
        sources: Sources = {
            "order": [payer.code.at] if payer.code and order else [],
            "payer": [part.at for part in (payer.name, number) if part],
            "member_id": [row.member_id.at] if row.member_id else [],
            "qualifier": [row.eb04.at] if row.eb04 else [],
            "starts_on": list(dates.starts_at) if dates.starts_on else [],
            "ends_on": list(dates.ends_at) if dates.ends_on else [],
        }
        found.append(
            OtherCoverage(
                order=order,
                payer=NamedPayer(id=_text(number), name=_text(payer.name)),
                member_id=_text(row.member_id),
                qualifier=EB04_NAMES.get(row.eb04.text, row.eb04.text) if row.eb04 else None,
                starts_on=dates.starts_on,
                ends_on=dates.ends_on,
                sources={name: at for name, at in sources.items() if at},
            )
        )
    return found


_ANY_DAYS = (("290", "", ""), BENEFIT_DAYS, PLAN_DAYS, ELIGIBILITY_DAYS)
"""290 is the coordination of benefits' own qualifier."""


def _related(row: EbRow) -> list[RelatedEntity]:
    """The entities that a row names; "contact another entity" is one even where it names none."""
    if not row.entities and row.code == CONTACT_OTHER_ENTITY:
        return [RelatedEntity(role=Role.OTHER, sources=_at(role=row.eb01))]
    return [
        RelatedEntity(
            role=ROW_ROLES.get(row.code) or ENTITY_ROLES.get(entity.code.text if entity.code else "", Role.OTHER),
            entity_code=_text(entity.code),
            name=_text(entity.name),
            npi=_text(entity.npi),
            id=_text(entity.id),
            address=entity.address,
            phone=_text(entity.phone),
            fax=_text(entity.fax),
            sources=_at(
                role=row.eb01 if row.code in ROW_ROLES else entity.code,
                entity_code=entity.code,
                name=entity.name,
                npi=entity.npi,
                id=entity.id,
                phone=entity.phone,
                fax=entity.fax,
            )
            | ({"address": [entity.address_at]} if entity.address and entity.address_at else {}),
        )
        for entity in row.entities
    ]


def _warnings(rows: Sequence[EbRow], about: list[EbRow]) -> list[Warning_]:
    found = [
        *_flag(WarningCode.PENDING_INVESTIGATION, (row for row in about if row.code in PENDING_INVESTIGATION)),
        *_flag(WarningCode.CONTACT_OTHER_ENTITY, (row for row in rows if row.code == CONTACT_OTHER_ENTITY)),
    ]
    unknown: defaultdict[str, set[str]] = defaultdict(set)
    unreadable: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        for name, element in _unknown_codes(row):
            unknown[f"{name} {element.text}".strip()].add(element.at)
        for name, element in _unreadable(row):
            unreadable[name].add(element.at)
    found += [warning(WarningCode.UNKNOWN_CODE, *at, detail=what) for what, at in unknown.items()]
    found += [
        Warning_(
            code=WarningCode.RAW_UNPARSABLE,
            message=f"{MESSAGES[WarningCode.RAW_UNPARSABLE]} ({what})",
            sources=sorted(at),
        )
        for what, at in unreadable.items()
    ]
    return found


def _flag(code: WarningCode, rows: Iterable[EbRow]) -> list[Warning_]:
    at = {row.eb01.at for row in rows if row.eb01}
    return [warning(code, *at)] if at else []


def _unknown_codes(row: EbRow) -> list[tuple[str, Element]]:
    """A code is repeated in the warning only if it looks like one: free text in its place could be about a person."""
    elements: list[tuple[str, Element | None, Container[str]]] = [
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
        (name, element if _looks_like_a_code(element) else Element("", element.at))
        for name, element, known in elements
        if element is not None and element.text not in known
    ]


def _looks_like_a_code(element: Element) -> bool:
    return len(element.text) <= 3 and element.text.isascii() and element.text.isalnum()


def _unreadable(row: EbRow) -> list[tuple[str, Element]]:
    numbers = [
        ("EB07", row.eb07, read_money(row.eb07, part_of(row))),
        ("EB08", row.eb08, read_percent(row.eb08, row.eb08_is_fraction)),
        ("EB10", row.eb10, read_count(row.eb10, count_part_of(row))),
    ]
    return [(name, element) for name, element, number in numbers if element is not None and number is None]


def _text(element: Element | None) -> str | None:
    return element.text if element else None


def _at(**elements: Element | None) -> Sources:
    return {name: [element.at] for name, element in elements.items() if element is not None}
