"""Which EB rows are one benefit: its total, used and remaining stand in rows of their own.

Invariant: rows are joined only if nothing has to be guessed (docs/x12.md#joining-rows). Rows with the same codes, network,
level, plan, place, dates and texts whose numbers agree become one benefit; a row that states only what is used or left joins
the one total whose texts include its own. If two rows state different numbers for the same thing, each stays a benefit of its
own and the summary reports the conflict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeVar

from covergate.eligibility.sentinels import means_no_limit
from covergate.eligibility.sourced import NOT_STATED, Sourced, pointers_of
from covergate.eligibility.terms import Network, Period
from covergate.eligibility.x12.codes import ACCUMULATING, QUANTITY_USED, Figure
from covergate.eligibility.x12.row_facts import RowFacts, figure_of, is_known
from covergate.eligibility.x12.rows import DateRange

_T = TypeVar("_T")

_YEAR_LIKE = frozenset({Period.YEAR, Period.SERVICE_YEAR, Period.CALENDAR_YEAR, Period.CONTRACT, Period.UNKNOWN})
_MAY_REMAIN = _YEAR_LIKE | {Period.DAY, Period.WEEK, Period.MONTH, Period.EPISODE, Period.ADMISSION}

# EB06 24 (year to date) and 29 (remaining) name no period: the periods of totals that they can belong to.
_ANCHORS: dict[Figure, frozenset[Period]] = {
    Figure.USED: _YEAR_LIKE,
    Figure.REMAINING: _MAY_REMAIN,
    Figure.TOTAL: frozenset(),
}


@dataclass(frozen=True, slots=True)
class JoinedRows:
    """The rows of one benefit, those with a total first."""

    period: Period
    facts: list[RowFacts]

    @property
    def money(self) -> dict[Figure, Sourced[Decimal]]:
        return _figures([facts.money for facts in self.facts])

    @property
    def counts(self) -> dict[Figure, Sourced[Decimal]]:
        return _figures([facts.counts for facts in self.facts])


def joined_rows(every: list[RowFacts]) -> list[JoinedRows]:
    """Each row is in one of them; the order of `every` decides only the order of what is joined."""
    joined = [
        JoinedRows(period, together)
        for alike in _grouped(_with_their_totals(every), lambda pair: pair[0])
        for same_unit in _grouped(_with_unit([one for _, one in alike]), lambda one: one.unit)
        for period, together in _by_period(same_unit)
    ]
    return _with_used_of_both(joined)


def _grouped(items: Iterable[_T], key: Callable[[_T], Hashable]) -> list[list[_T]]:
    groups: defaultdict[Hashable, list[_T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.values())


def _with_their_totals(every: list[RowFacts]) -> list[tuple[Hashable, RowFacts]]:
    """The identity of the benefit that each row belongs to: its own, or that of the one total that it is a part of."""
    totals: defaultdict[Hashable, dict[Hashable, list[RowFacts]]] = defaultdict(dict)
    for facts in every:
        if facts.kind in ACCUMULATING and facts.has_total:
            totals[facts.subject, facts.network].setdefault(facts.identity, []).append(facts)
    return [
        (_joins(facts, totals[facts.subject, facts.network]) if facts.is_part else facts.identity, facts)
        for facts in every
    ]


def _joins(part: RowFacts, totals: dict[Hashable, list[RowFacts]]) -> Hashable:
    if part.identity in totals:
        return part.identity
    fitting = [(identity, total) for identity, group in totals.items() if (total := _total_of(part, group)) is not None]
    exact = [identity for identity, total in fitting if total.texts == part.texts]
    candidates = exact or [identity for identity, _ in fitting]
    return candidates[0] if len(candidates) == 1 else part.identity


def _total_of(part: RowFacts, group: list[RowFacts]) -> RowFacts | None:
    """The first of the totals (they differ in nothing but period and unit) that the part can belong to."""
    first = group[0]
    if not part.texts <= first.texts or not _same_days(part.dates, first.dates):
        return None
    return next((total for total in group if _same_measure(part, total) and _same_period(part, total)), None)


def _same_days(one: DateRange, other: DateRange) -> bool:
    """A row that states no dates speaks of the same time."""
    return all(
        first.value == second.value
        for first, second in ((one.starts_on, other.starts_on), (one.ends_on, other.ends_on))
        if first and second
    )


def _same_measure(part: RowFacts, total: RowFacts) -> bool:
    if part.money:
        return Figure.TOTAL in total.money
    return Figure.TOTAL in total.counts and (part.unit is total.unit or _only_says_used(part))


def _same_period(part: RowFacts, total: RowFacts) -> bool:
    if part.period is not None:
        return part.period is total.period
    return total.period in _ANCHORS[figure_of(part.row) or Figure.TOTAL]


def _with_used_of_both(joined: list[JoinedRows]) -> list[JoinedRows]:
    """Payers state what is used once, for both networks: it joins the totals of each whose remaining it explains."""
    once = [one for one in joined if _states_only_used(one)]
    if not once:
        return joined
    totals: defaultdict[Hashable, list[JoinedRows]] = defaultdict(list)
    for one in joined:
        if one.facts[0].network in (Network.IN, Network.OUT) and one.facts[0].has_total:
            totals[one.facts[0].subject, one.facts[0].network].append(one)
    taken: set[int] = set()
    added: defaultdict[int, list[RowFacts]] = defaultdict(list)
    for used in once:
        for network in (Network.IN, Network.OUT):
            fitting = [one for one in totals[used.facts[0].subject, network] if _explains(used, one)]
            if len(fitting) == 1:
                added[id(fitting[0])] += used.facts
                taken.add(id(used))
    return [
        replace(one, facts=[*one.facts, *added[id(one)]]) if id(one) in added else one
        for one in joined
        if id(one) not in taken
    ]


def _states_only_used(one: JoinedRows) -> bool:
    return all(
        facts.network is Network.BOTH and facts.is_part and {*facts.money, *facts.counts} == {Figure.USED}
        for facts in one.facts
    )


def _explains(used: JoinedRows, one: JoinedRows) -> bool:
    first, total = used.facts[0], one.facts[0]
    if not first.texts <= total.texts or not _same_days(first.dates, total.dates) or not _same_measure(first, total):
        return False
    numbers = (used.money, one.money) if first.money else (used.counts, one.counts)
    spent, of = (
        {figure: number.value for figure, number in figures.items() if number.value is not None} for figures in numbers
    )
    return (
        Figure.USED not in of
        and Figure.REMAINING in of
        and of[Figure.TOTAL] - spent[Figure.USED] == of[Figure.REMAINING]
    )


def _with_unit(alike: list[RowFacts]) -> list[RowFacts]:
    """EB09 99 ("quantity used") names no unit: it takes that of the other rows if they have only one."""
    if not any(_only_says_used(facts) for facts in alike):
        return alike
    units = {facts.unit for facts in alike if facts.unit and not _only_says_used(facts)}
    if len(units) != 1:
        return alike
    (unit,) = units
    return [facts._replace(unit=unit) if _only_says_used(facts) else facts for facts in alike]


def _only_says_used(facts: RowFacts) -> bool:
    return bool(facts.counts) and facts.row.eb09.value == QUANTITY_USED


def _by_period(rows: list[RowFacts]) -> list[tuple[Period, list[RowFacts]]]:
    """Rows to be joined, by period; a figure without a period joins the one period whose total it can belong to."""
    if len(rows) == 1:
        return [(rows[0].period or Period.UNKNOWN, rows)]
    anchors = {facts.period for facts in rows if facts.has_total and facts.period}
    periods: defaultdict[Period, list[RowFacts]] = defaultdict(list)
    ambiguous: list[RowFacts] = []
    for facts in rows:
        candidates = {facts.period} if facts.period else anchors & _ANCHORS[figure_of(facts.row) or Figure.TOTAL]
        if len(candidates) > 1:
            ambiguous.append(facts)
        else:
            periods[next(iter(candidates), Period.UNKNOWN)].append(facts)
    return [
        *((period, joined) for period, group in periods.items() for joined in _agreeing(group)),
        *(
            (Period.UNKNOWN, same)
            for same in _grouped(ambiguous, lambda facts: (facts.numbers, facts.authorization, facts.identity))
        ),
    ]


def _agreeing(rows: list[RowFacts]) -> list[list[RowFacts]]:
    """All rows as one if no two state different numbers or dates; otherwise each different row apart."""
    if len(rows) == 1:
        return [rows]
    groups: list[list[RowFacts]] = [rows]
    if rows[0].kind not in ACCUMULATING and len({facts.authorization for facts in rows if is_known(facts)}) > 1:
        groups = _grouped(rows, lambda facts: facts.authorization)
    joined: list[list[RowFacts]] = []
    for group in groups:
        agree = all(
            len({numbers[figure].value for numbers in stated if figure in numbers}) <= 1
            for stated in ([facts.money for facts in group], [facts.counts for facts in group])
            for figure in Figure
        ) and all(
            len({day.value for day in days if day}) <= 1
            for days in ([facts.dates.starts_on for facts in group], [facts.dates.ends_on for facts in group])
        )
        joined += [group] if agree else _grouped(group, lambda facts: (facts.numbers, facts.identity))
    return [sorted(group, key=lambda facts: not facts.has_total) for group in joined]


def _figures(stated: list[dict[Figure, Sourced[Decimal]]]) -> dict[Figure, Sourced[Decimal]]:
    """The agreed numbers with all their pointers; remaining is total - used, never below zero, if it is not stated."""
    figures = {figure: number for numbers in stated for figure, number in numbers.items()}
    if len(stated) > 1:
        for figure, number in figures.items():
            figures[figure] = Sourced(
                number.value, tuple(pointers_of(numbers[figure] for numbers in stated if figure in numbers))
            )
    total, used = figures.get(Figure.TOTAL, NOT_STATED), figures.get(Figure.USED, NOT_STATED)
    is_limited = total.value is not None and not means_no_limit(total.value)
    if total.value is not None and is_limited and used.value is not None and Figure.REMAINING not in figures:
        left = max(total.value - used.value, Decimal(0))
        figures[Figure.REMAINING] = Sourced(left, total.pointers[:1] + used.pointers[:1])
    return figures
