"""The other payers of an answer (EB01 is R; U of an Advantage plan): who they are, in whose name, what coverage they give.

Invariant: the policyholder (NM1*IL) is never the payer. A row that names only the payer and one that names only the
policyholder are one coverage if they state the same policy (docs/x12.md#other-coverage).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from covergate.eligibility.result import Member, NamedPayer, OtherCoverage
from covergate.eligibility.sourced import NOT_STATED, Sourced, row
from covergate.eligibility.terms import OtherCoverageKind
from covergate.eligibility.x12.codes import (
    ACTIVE,
    CONTACT_OTHER_ENTITY,
    GROUP_NUMBERS,
    INSURED,
    MEDICARE_PARTS,
    MEMBER_NUMBERS,
    NO_PAYERS,
    OTHER_COVERAGE_KINDS,
    OTHER_PAYER,
    PAYER_ORDERS,
    PHARMACY,
    PLAN_REFERENCE,
    WHOLE_PLAN,
)
from covergate.eligibility.x12.names import EB04_NAMES
from covergate.eligibility.x12.rows import (
    BENEFIT_DAYS,
    ELIGIBILITY_DAYS,
    OTHER_COVERAGE_DAYS,
    PLAN_DAYS,
    DateRange,
    EbRow,
    Entity,
    date_range,
    texts,
)

_MEDICARE_CONTRACT = re.compile(r"([HRES])[0-9]{4}\b.*")
"""CMS's contract number: H and R are Medicare Advantage, S and E drug plans."""


@dataclass(frozen=True, slots=True)
class _Coverage:
    """A row on another payer, with one of its payers and its policyholder."""

    row: EbRow
    payer: Entity | None
    subscriber: Entity | None


def other_coverage_of(rows: Sequence[EbRow]) -> list[OtherCoverage]:
    from_medicare = any(eb.code in ACTIVE and eb.eb04.value in MEDICARE_PARTS for eb in rows)
    found = [
        coverage
        for eb in rows
        if eb.code == OTHER_PAYER or (from_medicare and _is_of_an_advantage_plan(eb))
        for coverage in _coverages(eb)
    ]
    return [_stated(coverages, from_medicare=from_medicare) for coverages in _of_one_policy(found)]


def _is_of_an_advantage_plan(eb: EbRow) -> bool:
    """Medicare says "contact the following entity" of an Advantage plan that pays all its member's claims."""
    if eb.code != CONTACT_OTHER_ENTITY or (eb.eb03 and WHOLE_PLAN not in eb.service_types):
        return False
    kind = eb.eb04.meaning(OTHER_COVERAGE_KINDS, OtherCoverageKind.OTHER)
    contract = _MEDICARE_CONTRACT.fullmatch(number_of(eb, (PLAN_REFERENCE,)).value or "")
    return kind is OtherCoverageKind.MEDICARE_ADVANTAGE or _is_of_advantage(contract)


def _is_of_advantage(contract: re.Match[str] | None) -> bool:
    return contract is not None and contract[1] in "HR"


def is_payer(entity: Entity) -> bool:
    """Whether the entity of a row on another payer is one: not the insured person, nor a provider."""
    return entity.code.value not in NO_PAYERS


def full_name(entity: Entity) -> Sourced[str]:
    if not entity.first_name or not entity.name:
        return entity.name | entity.first_name
    pointers = entity.first_name.pointers + entity.name.pointers
    return Sourced(f"{entity.first_name.value} {entity.name.value}", pointers)


def number_of(eb: EbRow, qualifiers: Iterable[str]) -> Sourced[str]:
    """The number of the first qualifier that is stated, not stated if that has several numbers."""
    for qualifier in qualifiers:
        numbers = [one.number for one in eb.references if one.qualifier == qualifier and one.number]
        if numbers:
            return numbers[0] if len(set(texts(numbers))) == 1 else NOT_STATED
    return NOT_STATED


def _coverages(eb: EbRow) -> list[_Coverage]:
    subscribers = [entity for entity in eb.entities if entity.code.value == INSURED]
    subscriber = subscribers[0] if len(subscribers) == 1 else None
    payers = [entity for entity in eb.entities if is_payer(entity)]
    if not payers and len(subscribers) > 1:
        return [_Coverage(eb, None, one) for one in subscribers]
    return [_Coverage(eb, payer, subscriber) for payer in payers or (None,)]


def _of_one_policy(found: list[_Coverage]) -> list[list[_Coverage]]:
    """Two rows of one policy, of which only one names the payer and only the other the policyholder, together."""
    policies: defaultdict[Hashable, list[_Coverage]] = defaultdict(list)
    alone: list[list[_Coverage]] = []
    for coverage in found:
        group = number_of(coverage.row, GROUP_NUMBERS)
        if group and (coverage.payer is None) != (coverage.subscriber is None):
            dates = _dates(coverage.row)
            policy = (group.value, coverage.row.service_types, coverage.row.eb04.value, coverage.row.eb05.value)
            policies[policy, dates.starts_on.value, dates.ends_on.value].append(coverage)
        else:
            alone.append([coverage])
    for coverages in policies.values():
        is_pair = len(coverages) == 2 and len([one for one in coverages if one.payer]) == 1
        alone += [sorted(coverages, key=lambda one: one.payer is None)] if is_pair else [[one] for one in coverages]
    return alone


def _stated(coverages: list[_Coverage], *, from_medicare: bool) -> OtherCoverage:
    eb, dates = coverages[0].row, _dates(coverages[0].row)
    payer = next((one.payer for one in coverages if one.payer), None) or Entity()
    subscriber = next((one.subscriber for one in coverages if one.subscriber), None)
    plan_number, codes = number_of(eb, (PLAN_REFERENCE,)), texts(eb.eb03)
    member_id = next((one.row.member_id for one in coverages if one.row.member_id), NOT_STATED)
    kind = _kind(eb, plan_number.value, from_medicare=from_medicare)
    return OtherCoverage(
        **row(
            order=payer.code.then(PAYER_ORDERS.get),
            kind=Sourced(kind, eb.eb04.pointers or plan_number.pointers) if kind else NOT_STATED,
            payer=_named(payer),
            member_id=member_id | number_of(eb, MEMBER_NUMBERS) | (subscriber.id if subscriber else NOT_STATED),
            qualifier=eb.eb04.then(lambda code: EB04_NAMES.get(code, code)),
            service_type_codes=Sourced(codes or None, tuple(at for code in eb.eb03 for at in code.pointers)),
            plan_number=plan_number,
            group_number=number_of(eb, GROUP_NUMBERS),
            phone=payer.phone,
            address=payer.address,
            subscriber=_member(subscriber) if subscriber else NOT_STATED,
            starts_on=dates.starts_on,
            ends_on=dates.ends_on,
        )
    )


def _dates(eb: EbRow) -> DateRange:
    own = date_range(eb.days, OTHER_COVERAGE_DAYS, one_day_begins=True)
    return own if own.starts_on or own.ends_on else date_range(eb.days, BENEFIT_DAYS, PLAN_DAYS, ELIGIBILITY_DAYS)


def _kind(eb: EbRow, plan_number: str | None, *, from_medicare: bool) -> OtherCoverageKind | None:
    contract = _MEDICARE_CONTRACT.fullmatch(plan_number or "")
    is_of_medicare = from_medicare and contract is not None
    if eb.service_types and eb.service_types <= PHARMACY and is_of_medicare:
        return OtherCoverageKind.PART_D
    if is_of_medicare and _is_of_advantage(contract):
        return OtherCoverageKind.MEDICARE_ADVANTAGE
    return eb.eb04.meaning(OTHER_COVERAGE_KINDS, OtherCoverageKind.OTHER) if eb.eb04 else None


def _named(payer: Entity) -> Sourced[NamedPayer]:
    number, name = payer.id | payer.npi, full_name(payer)
    stated = NamedPayer(id=number.value, name=name.value) if number or name else None
    return Sourced(stated, name.pointers + number.pointers)


def _member(person: Entity) -> Sourced[Member]:
    stated = Member(
        **row(first_name=person.first_name, last_name=person.name, member_id=person.id, address=person.address)
    )
    pointers = person.first_name.pointers + person.name.pointers + person.id.pointers + person.address.pointers
    return Sourced(stated, pointers or person.code.pointers)
