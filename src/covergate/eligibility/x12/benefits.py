"""EB rows to benefits: total, used and remaining of one benefit stand in rows of their own and are joined here.

Invariant: rows are joined only if nothing has to be guessed. Rows of one (kind, service types, procedures, network, level,
insurance type, plan name, place of service, period, dates, MSG text) whose numbers agree become one benefit; if two rows
state different numbers for the same thing, each stays a benefit of its own and the summary reports the conflict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from covergate.eligibility.result import Benefit, Quantity
from covergate.eligibility.sourced import NOT_STATED, Sourced, Sources, money, percent, pointers_of
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
    Figure,
)
from covergate.eligibility.x12.names import EB01_NAMES, EB09_NAMES
from covergate.eligibility.x12.rows import (
    BENEFIT_DAYS,
    ELIGIBILITY_DAYS,
    PLAN_DAYS,
    DateRange,
    EbRow,
    date_range,
    texts,
)

_T = TypeVar("_T")

_ZERO = Decimal(0)

_YEAR_LIKE = frozenset({Period.YEAR, Period.SERVICE_YEAR, Period.CALENDAR_YEAR, Period.CONTRACT, Period.UNKNOWN})
_MAY_REMAIN = _YEAR_LIKE | {Period.DAY, Period.WEEK, Period.MONTH, Period.EPISODE, Period.ADMISSION}

# EB06 24 (year to date) and 29 (remaining) name no period: the periods of totals that they can belong to.
_ANCHORS: dict[Figure, frozenset[Period]] = {
    Figure.USED: _YEAR_LIKE,
    Figure.REMAINING: _MAY_REMAIN,
    Figure.TOTAL: frozenset(),
}


@dataclass(frozen=True, slots=True)
class _Facts:
    """One EB row in our words. `period` None: the row names a figure (24, 29) and no period."""

    row: EbRow
    kind: Kind
    network: Network
    level: Level
    dates: DateRange
    period: Period | None
    amount: Sourced[Decimal]
    percent: Sourced[Decimal]
    money: dict[Figure, Sourced[Decimal]]
    unit: Unit | None
    counts: dict[Figure, Sourced[Decimal]]
    authorization: bool | None

    @property
    def has_total(self) -> bool:
        return Figure.TOTAL in self.money or Figure.TOTAL in self.counts

    @property
    def numbers(self) -> Hashable:
        return (
            frozenset((figure, number.value) for figure, number in self.money.items()),
            frozenset((figure, number.value) for figure, number in self.counts.items()),
        )


def benefits_of(rows: Sequence[EbRow]) -> list[Benefit]:
    """Every row is in exactly one benefit (identical rows share one); the order of `rows` decides only `sources`."""
    benefits: list[Benefit] = []
    for alike in _grouped(map(_facts, rows), _identity):
        for same_unit in _grouped(_with_unit(alike), lambda facts: facts.unit):
            benefits += [_benefit(joined, period) for period, joined in _by_period(same_unit)]
    return benefits


def read_money(text: Sourced[str], figure: Figure | None) -> Sourced[Decimal]:
    """EB07 in dollars; what remains is never below zero. Not stated if it is no amount."""

    def read(written: str) -> Decimal | None:
        amount = money(written)
        overdrawn = amount is None and figure is Figure.REMAINING and written.startswith("-")
        return Decimal("0.00") if overdrawn and money(written[1:]) is not None else amount

    return text.then(read)


def read_percent(text: Sourced[str], fraction: bool) -> Sourced[Decimal]:
    """EB08 as the patient's share in percent. Not stated if it is no share."""
    return text.then(lambda written: percent(written, fraction=fraction))


def read_count(text: Sourced[str], figure: Figure | None) -> Sourced[Decimal]:
    """EB10; what remains is never below zero. Not stated if it is no count."""

    def read(written: str) -> Decimal | None:
        try:
            count = Decimal(written.replace(",", ""))
        except InvalidOperation:
            return None
        if not count.is_finite() or count >= 10**10:
            return None
        if count < 0:
            return _ZERO if figure is Figure.REMAINING else None
        return count

    return text.then(read)


def figure_of(row: EbRow) -> Figure | None:
    """Which figure EB06 makes of EB07 and EB10; None for an unknown code. Without EB06 it is the total (docs/x12.md#eb06)."""
    if row.eb06.value is None:
        return Figure.TOTAL
    return PERIODS[row.eb06.value][1] if row.eb06.value in PERIODS else None


def count_figure_of(row: EbRow) -> Figure | None:
    """The same of EB10 alone: there EB09 can say "used" itself (docs/x12.md#eb09)."""
    return Figure.USED if row.eb09.value == QUANTITY_USED else figure_of(row)


def _facts(row: EbRow) -> _Facts:
    kind = KINDS.get(row.code, Kind.OTHER)
    figure, count_figure = figure_of(row), count_figure_of(row)
    dollars, count = read_money(row.eb07, figure), read_count(row.eb10, count_figure)
    is_amount = figure is None or (figure is Figure.TOTAL and kind not in ACCUMULATING)
    counts = {count_figure: count} if count and count_figure is not None else {}
    return _Facts(
        row=row,
        kind=kind,
        network=row.eb12.meaning(NETWORKS, Network.UNKNOWN),
        level=row.eb02.meaning(LEVELS, Level.UNKNOWN),
        dates=date_range(row.days, BENEFIT_DAYS, PLAN_DAYS, ELIGIBILITY_DAYS),
        period=PERIODS[row.eb06.value][0] if row.eb06.value in PERIODS else Period.UNKNOWN,
        amount=dollars if is_amount else NOT_STATED,
        percent=read_percent(row.eb08, row.eb08_is_fraction),
        money={figure: dollars} if dollars and figure is not None and not is_amount else {},
        unit=row.eb09.meaning(UNITS, Unit.OTHER) if counts else None,
        counts=counts,
        authorization=row.eb11.meaning(AUTHORIZATION, None),
    )


def _grouped(items: Iterable[_T], key: Callable[[_T], Hashable]) -> list[list[_T]]:
    groups: defaultdict[Hashable, list[_T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.values())


def _identity(facts: _Facts) -> Hashable:
    """Everything that rows of one benefit have in common, except unit and period.

    Amount and percent count: two different copays are two benefits.
    """
    row = facts.row
    return (
        row.code,
        row.service_types,
        row.procedure_codes,
        facts.network,
        facts.level,
        row.eb04.value,
        row.eb05.value,
        tuple(texts(row.places)),
        tuple(texts(row.msgs)),
        facts.dates.starts_on.value,
        facts.dates.ends_on.value,
        facts.amount.value,
        facts.percent.value,
        _named_quantity(row),
    )


def _with_unit(alike: list[_Facts]) -> list[_Facts]:
    """EB09 99 ("quantity used") names no unit: it takes that of the other rows if they have only one."""
    if not any(_only_says_used(facts) for facts in alike):
        return alike
    units = {facts.unit for facts in alike if facts.unit and not _only_says_used(facts)}
    if len(units) != 1:
        return alike
    (unit,) = units
    return [replace(facts, unit=unit) if _only_says_used(facts) else facts for facts in alike]


def _only_says_used(facts: _Facts) -> bool:
    return bool(facts.counts) and facts.row.eb09.value == QUANTITY_USED


def _by_period(rows: list[_Facts]) -> list[tuple[Period, list[_Facts]]]:
    """Rows to be joined, by period; a figure without a period joins the one period whose total it can belong to."""
    anchors = {facts.period for facts in rows if facts.has_total and facts.period}
    periods: defaultdict[Period, list[_Facts]] = defaultdict(list)
    ambiguous: list[_Facts] = []
    for facts in rows:
        candidates = {facts.period} if facts.period else anchors & _ANCHORS[figure_of(facts.row) or Figure.TOTAL]
        if len(candidates) > 1:
            ambiguous.append(facts)
        else:
            periods[next(iter(candidates), Period.UNKNOWN)].append(facts)
    return [
        *((period, joined) for period, group in periods.items() for joined in _agreeing(group)),
        *((Period.UNKNOWN, same) for same in _grouped(ambiguous, lambda facts: (facts.numbers, facts.authorization))),
    ]


def _agreeing(rows: list[_Facts]) -> list[list[_Facts]]:
    """All rows as one if no two state different numbers; otherwise each different row apart."""
    if len(rows) == 1:
        return [rows]
    groups: list[list[_Facts]] = [rows]
    if len({facts.authorization for facts in rows} - {None}) > 1:
        groups = _grouped(rows, lambda facts: facts.authorization)
    joined: list[list[_Facts]] = []
    for group in groups:
        agree = all(
            len({numbers[figure].value for numbers in stated if figure in numbers}) <= 1
            for stated in ([facts.money for facts in group], [facts.counts for facts in group])
            for figure in Figure
        )
        joined += [group] if agree else _grouped(group, lambda facts: facts.numbers)
    return joined


def _benefit(rows: list[_Facts], period: Period) -> Benefit:
    first = rows[0]
    row, dates = first.row, first.dates
    dollars = _figures([facts.money for facts in rows])
    counts = _figures([facts.counts for facts in rows])
    unit = next((facts.unit for facts in rows if facts.unit), None)
    authorization = next((facts.authorization for facts in rows if facts.authorization is not None), None)
    return Benefit(
        kind=first.kind,
        code=row.code or None,
        description=_named_quantity(row) or (EB01_NAMES.get(row.code) if first.kind is Kind.OTHER else None),
        applies_to=AppliesTo.CODES if row.eb03 or row.procedures else AppliesTo.UNKNOWN,
        service_type_codes=texts(row.eb03),
        procedure_codes=texts(row.procedures),
        network=first.network,
        level=first.level,
        period=period,
        insurance_type=row.eb04.value,
        plan_name=row.eb05.value,
        place_of_service=",".join(texts(row.places)) or None,
        starts_on=dates.starts_on.value,
        ends_on=dates.ends_on.value,
        amount=first.amount.value,
        percent=first.percent.value,
        total=dollars.get(Figure.TOTAL, NOT_STATED).value,
        used=dollars.get(Figure.USED, NOT_STATED).value,
        remaining=dollars.get(Figure.REMAINING, NOT_STATED).value,
        quantity=Quantity(unit=unit, **{figure.value: count.value for figure, count in counts.items()})
        if unit
        else None,
        authorization_required=authorization,
        notes=texts(row.msgs),
        sources=_sources(rows, dollars, counts, has_authorization=authorization is not None),
    )


def _figures(stated: list[dict[Figure, Sourced[Decimal]]]) -> dict[Figure, Sourced[Decimal]]:
    """The agreed numbers with all their pointers; remaining is total - used, never below zero, if it is not stated."""
    figures = {figure: number for numbers in stated for figure, number in numbers.items()}
    if len(stated) > 1:
        for figure, number in figures.items():
            figures[figure] = Sourced(
                number.value, tuple(pointers_of(numbers.get(figure, NOT_STATED) for numbers in stated))
            )
    total, used = figures.get(Figure.TOTAL, NOT_STATED), figures.get(Figure.USED, NOT_STATED)
    if total.value is not None and used.value is not None and Figure.REMAINING not in figures:
        left = max(total.value - used.value, _ZERO)
        figures[Figure.REMAINING] = Sourced(left, total.pointers[:1] + used.pointers[:1])
    return figures


def _sources(
    facts: list[_Facts],
    dollars: dict[Figure, Sourced[Decimal]],
    counts: dict[Figure, Sourced[Decimal]],
    *,
    has_authorization: bool,
) -> Sources:
    rows = [one.row for one in facts]
    stated: dict[str, Iterable[Sourced[Any]]] = {
        "kind": [row.eb01 for row in rows],
        "code": [row.eb01 for row in rows],
        "level": [row.eb02 for row in rows],
        "service_type_codes": [code for row in rows for code in row.eb03],
        "insurance_type": [row.eb04 for row in rows],
        "plan_name": [row.eb05 for row in rows],
        "period": [row.eb06 for row in rows],
        "authorization_required": [row.eb11 for row in rows] if has_authorization else [],
        "network": [row.eb12 for row in rows],
        "procedure_codes": [code for row in rows for code in row.procedures],
        "place_of_service": [place for row in rows for place in row.places],
        "notes": [msg for row in rows for msg in row.msgs],
        "amount": [one.amount for one in facts],
        "percent": [one.percent for one in facts],
        "starts_on": [one.dates.starts_on for one in facts],
        "ends_on": [one.dates.ends_on for one in facts],
    }
    sources: Sources = {name: at for name, elements in stated.items() if (at := pointers_of(elements))}
    sources |= {figure.value: list(number.pointers) for figure, number in dollars.items()}
    if counts:
        sources["quantity"] = pointers_of(counts.values())
    return sources


def _named_quantity(row: EbRow) -> str | None:
    """The name of an EB09 that is no unit of ours ("Age, High Value"): without it the number would say nothing."""
    code = row.eb09.value
    if code is None or code == QUANTITY_USED or UNITS.get(code, Unit.OTHER) is not Unit.OTHER:
        return None
    return EB09_NAMES.get(code)
