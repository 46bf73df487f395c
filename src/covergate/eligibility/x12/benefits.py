"""EB rows to benefits: total, used and remaining of one benefit stand in rows of their own and are joined here.

Invariant: rows are joined only where nothing has to be guessed. Rows of one (kind, service types, procedures, network, level,
insurance type, plan name, place of service, period, dates, MSG text) whose numbers agree become one benefit; where two rows
state different numbers for the same thing, each stays a benefit of its own and the summary reports the conflict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from covergate.eligibility.result import Benefit, Quantity
from covergate.eligibility.sourced import Sources, money, percent
from covergate.eligibility.terms import AppliesTo, Kind, Level, Network, Period, Unit
from covergate.eligibility.x12.codes import (
    ACCUMULATING,
    AUTHORIZATION,
    KINDS,
    LEVELS,
    NETWORKS,
    PERIODS,
    QUANTITY_USED,
    UNITS,
    Part,
)
from covergate.eligibility.x12.names import EB01_NAMES, EB09_NAMES
from covergate.eligibility.x12.rows import BENEFIT_DAYS, ELIGIBILITY_DAYS, PLAN_DAYS, EbRow, Element, Span, span

ZERO = Decimal(0)

YEAR_LIKE = frozenset({Period.YEAR, Period.SERVICE_YEAR, Period.CALENDAR_YEAR, Period.CONTRACT, Period.UNKNOWN})
MAY_REMAIN = YEAR_LIKE | {Period.DAY, Period.WEEK, Period.MONTH, Period.EPISODE, Period.ADMISSION}

# EB06 24 (year to date) and 29 (remaining) name no period: the periods of totals that they can belong to.
ANCHORS: dict[Part, frozenset[Period]] = {Part.USED: YEAR_LIKE, Part.REMAINING: MAY_REMAIN, Part.TOTAL: frozenset()}


@dataclass(frozen=True, slots=True)
class Number:
    value: Decimal
    at: str


@dataclass(frozen=True, slots=True)
class Facts:
    """One EB row in our words. `period` None: the row names a part (24, 29) and no period."""

    row: EbRow
    dates: Span
    period: Period | None
    amount: Number | None
    percent: Number | None
    money: dict[Part, Number]
    unit: Unit | None
    counts: dict[Part, Number]
    authorization: bool | None

    @property
    def totals(self) -> bool:
        return Part.TOTAL in self.money or Part.TOTAL in self.counts

    @property
    def numbers(self) -> tuple[frozenset[tuple[Part, Decimal]], frozenset[tuple[Part, Decimal]]]:
        return (
            frozenset((part, number.value) for part, number in self.money.items()),
            frozenset((part, number.value) for part, number in self.counts.items()),
        )


def benefits_of(rows: Sequence[EbRow]) -> list[Benefit]:
    """Every row is in exactly one benefit (identical rows share one); the order of `rows` decides only `sources`."""
    found: list[Benefit] = []
    for alike in _grouped(map(_facts, rows), _identity):
        for same_unit in _grouped(_with_unit(alike), lambda facts: facts.unit):
            found += [_benefit(joined, period) for period, joined in _by_period(same_unit)]
    return found


def read_money(text: Element | None, part: Part | None) -> Number | None:
    """EB07 in dollars; what remains is never below zero. None for what is no amount."""
    if text is None:
        return None
    value = money(text.text)
    if value is None and part is Part.REMAINING and text.text.startswith("-") and money(text.text[1:]) is not None:
        value = Decimal("0.00")
    return None if value is None else Number(value, text.at)


def read_percent(text: Element | None, fraction: bool) -> Number | None:
    value = percent(text.text, fraction=fraction) if text else None
    return Number(value, text.at) if text and value is not None else None


def read_count(text: Element | None, part: Part | None) -> Number | None:
    """EB10; what remains is never below zero. None for what is no count."""
    if text is None:
        return None
    try:
        value = Decimal(text.text.replace(",", ""))
    except InvalidOperation:
        return None
    if value.is_finite() and value < 0 and part is Part.REMAINING:
        value = ZERO
    return Number(value, text.at) if value.is_finite() and ZERO <= value < 10**10 else None


def part_of(row: EbRow) -> Part | None:
    """Which number EB06 makes of EB07 and EB10; None for a code that is not known. No EB06 is a total (vendors.md 6.6)."""
    if row.eb06 is None:
        return Part.TOTAL
    return PERIODS[row.eb06.text][1] if row.eb06.text in PERIODS else None


def count_part_of(row: EbRow) -> Part | None:
    """The same of EB10 alone, where EB09 can say "used" itself."""
    return Part.USED if row.eb09 and row.eb09.text == QUANTITY_USED else part_of(row)


def kind_of(row: EbRow) -> Kind:
    return KINDS.get(row.code, Kind.OTHER)


def network_of(row: EbRow) -> Network:
    return NETWORKS.get(row.eb12.text, Network.UNKNOWN) if row.eb12 else Network.UNKNOWN


def authorization_of(row: EbRow) -> bool | None:
    return AUTHORIZATION.get(row.eb11.text) if row.eb11 else None


def _facts(row: EbRow) -> Facts:
    part = part_of(row)
    dollars = read_money(row.eb07, part)
    plain = part is None or (part is Part.TOTAL and kind_of(row) not in ACCUMULATING)
    count_part = count_part_of(row)
    count = read_count(row.eb10, count_part)
    counts = {count_part: count} if count is not None and count_part is not None else {}
    return Facts(
        row=row,
        dates=span(row.days, BENEFIT_DAYS, PLAN_DAYS, ELIGIBILITY_DAYS),
        period=PERIODS[row.eb06.text][0] if row.eb06 and row.eb06.text in PERIODS else Period.UNKNOWN,
        amount=dollars if plain else None,
        percent=read_percent(row.eb08, row.eb08_is_fraction),
        money={part: dollars} if dollars is not None and part is not None and not plain else {},
        unit=(UNITS.get(row.eb09.text, Unit.OTHER) if row.eb09 else Unit.OTHER) if counts else None,
        counts=counts,
        authorization=authorization_of(row),
    )


T = TypeVar("T")


def _grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    groups: defaultdict[Hashable, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.values())


def _identity(facts: Facts) -> Hashable:
    """What rows of one benefit have in common, unit and period apart. Amount and percent are a row's identity too: two
    different copays are two benefits."""
    row = facts.row
    return (
        row.code,
        row.service_types,
        row.procedure_codes,
        network_of(row),
        _level(row),
        row.eb04 and row.eb04.text,
        row.eb05 and row.eb05.text,
        _texts(row.places),
        _texts(row.msgs),
        (facts.dates.starts_on, facts.dates.ends_on),
        facts.amount and facts.amount.value,
        facts.percent and facts.percent.value,
        _named_quantity(row),
    )


def _with_unit(alike: list[Facts]) -> list[Facts]:
    """EB09 99 ("quantity used") names no unit: it takes that of the other rows where there is only one."""
    units = {facts.unit for facts in alike if facts.unit and not _only_says_used(facts)}
    if len(units) != 1:
        return alike
    (unit,) = units
    return [replace(facts, unit=unit) if _only_says_used(facts) else facts for facts in alike]


def _only_says_used(facts: Facts) -> bool:
    return bool(facts.counts) and facts.row.eb09 is not None and facts.row.eb09.text == QUANTITY_USED


def _by_period(rows: list[Facts]) -> list[tuple[Period, list[Facts]]]:
    """Rows to be joined, by period; a part without a period joins the one period whose total it can belong to."""
    anchors = {facts.period for facts in rows if facts.totals and facts.period}
    periods: defaultdict[Period, list[Facts]] = defaultdict(list)
    ambiguous: list[Facts] = []
    for facts in rows:
        candidates = {facts.period} if facts.period else anchors & ANCHORS[part_of(facts.row) or Part.TOTAL]
        if len(candidates) > 1:
            ambiguous.append(facts)
        else:
            periods[next(iter(candidates), Period.UNKNOWN)].append(facts)
    return [
        *((period, joined) for period, group in periods.items() for joined in _agreeing(group)),
        *((Period.UNKNOWN, same) for same in _grouped(ambiguous, lambda facts: (facts.numbers, facts.authorization))),
    ]


def _agreeing(rows: list[Facts]) -> list[list[Facts]]:
    """All rows as one where no two state different numbers; otherwise each different row apart."""
    parts: list[list[Facts]] = [rows]
    if len({facts.authorization for facts in rows} - {None}) > 1:
        parts = _grouped(rows, lambda facts: facts.authorization)
    joined: list[list[Facts]] = []
    for part in parts:
        agree = all(
            len({numbers[name].value for numbers in stated if name in numbers}) <= 1
            for stated in ([facts.money for facts in part], [facts.counts for facts in part])
            for name in Part
        )
        joined += [part] if agree else _grouped(part, lambda facts: facts.numbers)
    return joined


def _benefit(rows: list[Facts], period: Period) -> Benefit:
    first = rows[0].row
    dates = rows[0].dates
    dollars, dollars_at = _parts([facts.money for facts in rows])
    counts, counts_at = _parts([facts.counts for facts in rows])
    unit = next((facts.unit for facts in rows if facts.unit), None)
    authorization = next((facts.authorization for facts in rows if facts.authorization is not None), None)
    has_codes = bool(first.eb03 or first.procedures)
    return Benefit(
        kind=kind_of(first),
        code=first.code or None,
        description=_named_quantity(first) or (EB01_NAMES.get(first.code) if kind_of(first) is Kind.OTHER else None),
        applies_to=AppliesTo.CODES if has_codes else AppliesTo.UNKNOWN,
        service_type_codes=sorted(first.service_types),
        procedure_codes=sorted(first.procedure_codes),
        network=network_of(first),
        level=_level(first),
        period=period,
        insurance_type=first.eb04.text if first.eb04 else None,
        plan_name=first.eb05.text if first.eb05 else None,
        place_of_service=",".join(_texts(first.places)) or None,
        starts_on=dates.starts_on,
        ends_on=dates.ends_on,
        amount=rows[0].amount.value if rows[0].amount else None,
        percent=rows[0].percent.value if rows[0].percent else None,
        total=dollars.get(Part.TOTAL),
        used=dollars.get(Part.USED),
        remaining=dollars.get(Part.REMAINING),
        quantity=Quantity(unit=unit, **{part.value: value for part, value in counts.items()}) if unit else None,
        authorization_required=authorization,
        notes=list(_texts(first.msgs)),
        sources=_sources(rows, dates, authorization)
        | {part.value: at for part, at in dollars_at.items()}
        | ({"quantity": sorted({pointer for at in counts_at.values() for pointer in at})} if counts_at else {}),
    )


def _parts(stated: list[dict[Part, Number]]) -> tuple[dict[Part, Decimal], dict[Part, list[str]]]:
    """The agreed numbers and where they stand; remaining is total − used, never below zero, where it is not stated."""
    values = {part: number.value for numbers in stated for part, number in numbers.items()}
    at = {part: sorted({numbers[part].at for numbers in stated if part in numbers}) for part in values}
    if Part.TOTAL in values and Part.USED in values and Part.REMAINING not in values:
        values[Part.REMAINING] = max(values[Part.TOTAL] - values[Part.USED], ZERO)
        at[Part.REMAINING] = [at[Part.TOTAL][0], at[Part.USED][0]]
    return values, at


def _sources(rows: list[Facts], dates: Span, authorization: bool | None) -> Sources:
    """Where everything that is stated stands, the joined numbers apart."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for facts in rows:
        row = facts.row
        for name, elements in {
            "kind": (row.eb01,),
            "code": (row.eb01,),
            "level": (row.eb02,),
            "service_type_codes": row.eb03,
            "insurance_type": (row.eb04,),
            "plan_name": (row.eb05,),
            "period": (row.eb06,),
            "authorization_required": (row.eb11,) if authorization is not None else (),
            "network": (row.eb12,),
            "procedure_codes": row.procedures,
            "place_of_service": row.places,
            "notes": row.msgs,
            "amount": (facts.amount,),
            "percent": (facts.percent,),
        }.items():
            found[name] |= {element.at for element in elements if element is not None}
        found["starts_on"] |= set(facts.dates.starts_at) if dates.starts_on else set()
        found["ends_on"] |= set(facts.dates.ends_at) if dates.ends_on else set()
    return {name: sorted(at) for name, at in found.items() if at}


def _level(row: EbRow) -> Level:
    return LEVELS.get(row.eb02.text, Level.UNKNOWN) if row.eb02 else Level.UNKNOWN


def _texts(elements: tuple[Element, ...]) -> tuple[str, ...]:
    return tuple(sorted({element.text for element in elements}))


def _named_quantity(row: EbRow) -> str | None:
    """The name of an EB09 that is no unit of ours ("Age, High Value"): without it the number would say nothing."""
    if row.eb09 is None or row.eb09.text == QUANTITY_USED or UNITS.get(row.eb09.text, Unit.OTHER) is not Unit.OTHER:
        return None
    return EB09_NAMES.get(row.eb09.text)
