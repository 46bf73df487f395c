"""EB rows to benefits: total, used and remaining of one benefit stand in rows of their own and are joined here.

Invariant: rows are joined only if nothing has to be guessed (docs/x12.md#joining-rows). Rows with the same codes, network,
level, plan, place, dates and texts whose numbers agree become one benefit; a row that states only what is used or left joins
the one total whose texts include its own. If two rows state different numbers for the same thing, each stays a benefit of its
own and the summary reports the conflict.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import NamedTuple, TypeVar

from covergate.eligibility.places import places_of
from covergate.eligibility.result import Benefit, Quantity
from covergate.eligibility.sentinels import means_no_limit
from covergate.eligibility.sourced import NOT_STATED, Sourced, Sources, money, percent, pointers_of
from covergate.eligibility.terms import AppliesTo, AuthorizationNeed, BenefitPlace, Kind, Level, Network, Period, Unit
from covergate.eligibility.x12.codes import (
    ACCUMULATING,
    ACTIVE,
    AUTHORIZATION_REQUIRED,
    DELIVERY_UNITS,
    FACILITY,
    KINDS,
    LEVELS,
    MEDICARE_PARTS,
    NETWORKS,
    PAID_EACH_TIME,
    PERIODS,
    PLAN_NETWORK,
    QUANTITY_USED,
    RATE_PERIODS,
    UNITS,
    Figure,
)
from covergate.eligibility.x12.names import EB01_NAMES, EB06_NAMES, EB09_NAMES
from covergate.eligibility.x12.rows import (
    BENEFIT_DAYS,
    ELIGIBILITY_DAYS,
    PLAN_DAYS,
    DateRange,
    DeliveryPattern,
    EbRow,
    date_range,
    texts,
)
from covergate.eligibility.x12.services import authorization_of

_T = TypeVar("_T")

_ZERO = Decimal(0)
_OF_A_FACILITY = ACCUMULATING | {Kind.COPAY, Kind.COINSURANCE}

_YEAR_LIKE = frozenset({Period.YEAR, Period.SERVICE_YEAR, Period.CALENDAR_YEAR, Period.CONTRACT, Period.UNKNOWN})
_MAY_REMAIN = _YEAR_LIKE | {Period.DAY, Period.WEEK, Period.MONTH, Period.EPISODE, Period.ADMISSION}

# EB06 24 (year to date) and 29 (remaining) name no period: the periods of totals that they can belong to.
_ANCHORS: dict[Figure, frozenset[Period]] = {
    Figure.USED: _YEAR_LIKE,
    Figure.REMAINING: _MAY_REMAIN,
    Figure.TOTAL: frozenset(),
}

_FIGURE_IN_WORDS = re.compile(
    r"(?:(?:individual|family) )?(?:(?:deductible|out[- ]of[- ]pocket|benefits?|visits?) )?(?:(?:maximum|amounts?) )?"
    r"(?:(?P<remaining>remaining|left)|(?P<used>used|accumulated))(?: to[- ]date| year[- ]to[- ]date)?\.?",
    re.IGNORECASE,
)
"""The groups are figures."""


class _Facts(NamedTuple):
    """One EB row in our words. `period` None: the row names a figure (24, 29) and no period.

    `within` is the time in which a count of HSD holds, if no period says it ("24 months").
    """

    row: EbRow
    kind: Kind
    network: Network
    level: Level
    dates: DateRange
    period: Period | None
    within: str | None
    amount: Sourced[Decimal]
    percent: Sourced[Decimal]
    money: dict[Figure, Sourced[Decimal]]
    unit: Unit | None
    counts: dict[Figure, Sourced[Decimal]]
    authorization: AuthorizationNeed
    facility: Sourced[str]
    named_quantity: str | None
    texts: frozenset[str]
    subject: Hashable
    """All that rows of one benefit have in common, except network, texts, dates, unit and period."""
    identity: Hashable
    """All that they have in common, except unit and period."""

    @property
    def has_total(self) -> bool:
        return Figure.TOTAL in self.money or Figure.TOTAL in self.counts

    @property
    def is_part(self) -> bool:
        """The row states what is used or left, and no total."""
        return self.kind in ACCUMULATING and not self.has_total and bool(self.money or self.counts)

    @property
    def numbers(self) -> Hashable:
        return (
            frozenset((figure, number.value) for figure, number in self.money.items()),
            frozenset((figure, number.value) for figure, number in self.counts.items()),
        )


@dataclass(frozen=True, slots=True)
class _Joined:
    """The rows of one benefit, those with a total first."""

    period: Period
    facts: list[_Facts]

    @property
    def money(self) -> dict[Figure, Sourced[Decimal]]:
        return _figures([facts.money for facts in self.facts])

    @property
    def counts(self) -> dict[Figure, Sourced[Decimal]]:
        return _figures([facts.counts for facts in self.facts])


def benefits_of(rows: Sequence[EbRow]) -> list[Benefit]:
    """Every row is in a benefit (identical rows share one); the order of `rows` decides only `sources`."""
    facts = _with_their_totals([facts for row in _by_plan_network(rows) for facts in _all_facts(row)])
    joined = [
        _Joined(period, together)
        for alike in _grouped(facts, lambda pair: pair[0])
        for same_unit in _grouped(_with_unit([one for _, one in alike]), lambda one: one.unit)
        for period, together in _by_period(same_unit)
    ]
    return [_benefit(one) for one in _with_used_of_both(joined)]


def _by_plan_network(rows: Sequence[EbRow]) -> Sequence[EbRow]:
    """The rows with the networks of the plan that they name (REF N6), if several of these count as in or as out."""
    named: defaultdict[str | None, set[str | None]] = defaultdict(set)
    for row in rows:
        if row.references and (network := _plan_network(row)):
            named[row.eb12.value].add(network.value)
    if not any(len(networks) > 1 for networks in named.values()):
        return rows
    return [replace(row, plan_network=_plan_network(row)) if row.references else row for row in rows]


def _plan_network(row: EbRow) -> Sourced[str]:
    """Of what the patient pays, by name, else by number; none if the row holds for several."""
    if KINDS.get(row.code) not in _OF_A_FACILITY:
        return NOT_STATED
    named = [one.description | one.number for one in row.references if one.qualifier == PLAN_NETWORK]
    return named[0] if len(named) == 1 else NOT_STATED


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
        if not count.is_finite() or count >= 10**9:
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


def money_figure_of(row: EbRow) -> Figure | None:
    """Which figure EB07 is; None if it is the amount itself."""
    kind, figure = KINDS.get(row.code, Kind.OTHER), figure_of(row)
    is_amount = kind in PAID_EACH_TIME or (figure is Figure.TOTAL and kind not in ACCUMULATING)
    return None if is_amount else figure


def count_figure_of(row: EbRow) -> Figure | None:
    """The same of EB10 alone: there EB09 can say "used" itself (docs/x12.md#eb09)."""
    return Figure.USED if row.eb09.value == QUANTITY_USED else figure_of(row)


def _all_facts(row: EbRow) -> list[_Facts]:
    """Of the row itself and of each HSD; one HSD without another number beside it is the row's own count."""
    deliveries = [one for one in row.deliveries if one.hsd02]
    if not deliveries:
        return [_facts(row)]
    counted = [_facts(_counted(row, one), one) for one in deliveries]
    is_the_rows = len(counted) == 1 and not row.eb07 and not row.eb10
    return counted if is_the_rows else [_facts(row), *counted]


def _counted(row: EbRow, delivery: DeliveryPattern) -> EbRow:
    """The row with the count of an HSD as its EB06, EB09 and EB10."""
    alone = replace(row, eb07=NOT_STATED, eb08=NOT_STATED) if row.eb07 or row.eb10 else row
    return replace(
        alone,
        eb06=NOT_STATED if delivery.hsd03 else delivery.hsd05 | row.eb06,
        eb09=delivery.hsd01,
        eb10=delivery.hsd02,
    )


def _facts(row: EbRow, delivery: DeliveryPattern | None = None) -> _Facts:
    """Of a row, or of what it says in one HSD."""
    kind = KINDS.get(row.code, Kind.OTHER)
    money_figure, count_figure = money_figure_of(row), count_figure_of(row)
    dollars, count = read_money(row.eb07, money_figure), read_count(row.eb10, count_figure)
    counts = {count_figure: count} if count and count_figure is not None else {}
    period, within = PERIODS.get(row.eb06.value or "", _NO_PERIOD)[0], None
    if delivery is not None:
        period, within = _period_of(delivery, period)
    network = NETWORKS.get(row.eb12.value or "", Network.UNKNOWN)
    level = LEVELS.get(row.eb02.value or "", Level.UNKNOWN)
    amount = dollars if money_figure is None else NOT_STATED
    share = read_percent(row.eb08, row.eb08_is_fraction)
    dates, facility, named_quantity = _dates(row), _facility(row), _named_quantity(row)
    words = frozenset(text for text in texts(row.msgs) if not _names_figure(text, count_figure))
    # Amount and percent count: two different copays are two benefits.
    subject = (
        row.code,
        row.service_types,
        row.procedure_codes,
        level,
        row.eb04.value,
        row.eb05.value,
        tuple(texts(row.places)),
        tuple(texts(row.limits)),
        amount.value,
        share.value,
        named_quantity,
        within,
        facility.value,
        row.plan_network.value,
    )
    return _Facts(
        row=row,
        kind=kind,
        network=network,
        level=level,
        dates=dates,
        period=period,
        within=within,
        amount=amount,
        percent=share,
        money={money_figure: dollars} if dollars and money_figure is not None else {},
        unit=row.eb09.meaning(UNITS if delivery is None else DELIVERY_UNITS, Unit.OTHER) if counts else None,
        counts=counts,
        authorization=authorization_of(row),
        facility=facility,
        named_quantity=named_quantity,
        texts=words,
        subject=subject,
        identity=(subject, network, words, dates.starts_on.value, dates.ends_on.value),
    )


_NO_PERIOD = (Period.UNKNOWN, None)


def _names_figure(text: str, figure: Figure | None) -> bool:
    """Whether a message says no more than EB06 does: "VISITS REMAINING" beside 29."""
    named = _FIGURE_IN_WORDS.fullmatch(text) if figure in (Figure.USED, Figure.REMAINING) else None
    return named is not None and named.lastgroup == figure


def _dates(row: EbRow) -> DateRange:
    begins = is_entitlement(row)
    return date_range(row.days, BENEFIT_DAYS, PLAN_DAYS, ELIGIBILITY_DAYS, one_day_begins=begins)


def is_entitlement(row: EbRow) -> bool:
    """Medicare gives the day on which a part begins, and no end, in one day under a range's qualifier."""
    return row.code in ACTIVE and row.eb04.value in MEDICARE_PARTS


def _period_of(delivery: DeliveryPattern, stated: Period | None) -> tuple[Period | None, str | None]:
    """The period of the count of an HSD, and in words the time in which it holds if that is more than one period.

    HSD03 and HSD04 make it a rate (3 visits a week), HSD05 and HSD06 a number of periods (12 months are a year).
    """
    if delivery.hsd03:
        every = delivery.hsd04.value
        period = delivery.hsd03.meaning(RATE_PERIODS, Period.OTHER)
        if every in (None, "1"):
            return period, None
        return Period.OTHER, f"{every} {period.value}s" if every.isdecimal() else None
    periods, name = delivery.hsd06.value, delivery.hsd05.value
    if periods in (None, "1") or stated is None:
        return stated, None
    if (name, periods) == ("34", "12"):
        return Period.YEAR, None
    counted = EB06_NAMES.get(name or "", "").lower().removesuffix("s")
    return Period.OTHER, f"{periods} {counted}s" if counted and periods.isdecimal() else None


def _grouped(items: Iterable[_T], key: Callable[[_T], Hashable]) -> list[list[_T]]:
    groups: defaultdict[Hashable, list[_T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.values())


def _with_their_totals(every: list[_Facts]) -> list[tuple[Hashable, _Facts]]:
    """The identity of the benefit that each row belongs to: its own, or that of the one total that it is a part of."""
    totals: defaultdict[Hashable, dict[Hashable, list[_Facts]]] = defaultdict(dict)
    for facts in every:
        if facts.kind in ACCUMULATING and facts.has_total:
            totals[facts.subject, facts.network].setdefault(facts.identity, []).append(facts)
    return [
        (_joins(facts, totals[facts.subject, facts.network]) if facts.is_part else facts.identity, facts)
        for facts in every
    ]


def _joins(part: _Facts, totals: dict[Hashable, list[_Facts]]) -> Hashable:
    if part.identity in totals:
        return part.identity
    fitting = [(identity, total) for identity, group in totals.items() if (total := _total_of(part, group)) is not None]
    exact = [identity for identity, total in fitting if total.texts == part.texts]
    candidates = exact or [identity for identity, _ in fitting]
    return candidates[0] if len(candidates) == 1 else part.identity


def _total_of(part: _Facts, group: list[_Facts]) -> _Facts | None:
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


def _same_measure(part: _Facts, total: _Facts) -> bool:
    if part.money:
        return Figure.TOTAL in total.money
    return Figure.TOTAL in total.counts and (part.unit is total.unit or _only_says_used(part))


def _same_period(part: _Facts, total: _Facts) -> bool:
    if part.period is not None:
        return part.period is total.period
    return total.period in _ANCHORS[figure_of(part.row) or Figure.TOTAL]


def _with_used_of_both(joined: list[_Joined]) -> list[_Joined]:
    """Payers state what is used once, for both networks: it joins the totals of each whose remaining it explains."""
    once = [one for one in joined if _states_only_used(one)]
    if not once:
        return joined
    totals: defaultdict[Hashable, list[_Joined]] = defaultdict(list)
    for one in joined:
        if one.facts[0].network in (Network.IN, Network.OUT) and one.facts[0].has_total:
            totals[one.facts[0].subject, one.facts[0].network].append(one)
    taken: set[int] = set()
    added: defaultdict[int, list[_Facts]] = defaultdict(list)
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


def _states_only_used(one: _Joined) -> bool:
    return all(
        facts.network is Network.BOTH and facts.is_part and {*facts.money, *facts.counts} == {Figure.USED}
        for facts in one.facts
    )


def _explains(used: _Joined, one: _Joined) -> bool:
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


def _with_unit(alike: list[_Facts]) -> list[_Facts]:
    """EB09 99 ("quantity used") names no unit: it takes that of the other rows if they have only one."""
    if not any(_only_says_used(facts) for facts in alike):
        return alike
    units = {facts.unit for facts in alike if facts.unit and not _only_says_used(facts)}
    if len(units) != 1:
        return alike
    (unit,) = units
    return [facts._replace(unit=unit) if _only_says_used(facts) else facts for facts in alike]


def _only_says_used(facts: _Facts) -> bool:
    return bool(facts.counts) and facts.row.eb09.value == QUANTITY_USED


def _by_period(rows: list[_Facts]) -> list[tuple[Period, list[_Facts]]]:
    """Rows to be joined, by period; a figure without a period joins the one period whose total it can belong to."""
    if len(rows) == 1:
        return [(rows[0].period or Period.UNKNOWN, rows)]
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
        *(
            (Period.UNKNOWN, same)
            for same in _grouped(ambiguous, lambda facts: (facts.numbers, facts.authorization, facts.identity))
        ),
    ]


def _agreeing(rows: list[_Facts]) -> list[list[_Facts]]:
    """All rows as one if no two state different numbers or dates; otherwise each different row apart."""
    if len(rows) == 1:
        return [rows]
    groups: list[list[_Facts]] = [rows]
    if rows[0].kind not in ACCUMULATING and len({facts.authorization for facts in rows if _is_known(facts)}) > 1:
        groups = _grouped(rows, lambda facts: facts.authorization)
    joined: list[list[_Facts]] = []
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


def _is_known(facts: _Facts) -> bool:
    return facts.authorization is not AuthorizationNeed.UNKNOWN


def _benefit(joined: _Joined) -> Benefit:
    rows, first = joined.facts, joined.facts[0]
    row = first.row
    starts_on = _first_stated([facts.dates.starts_on for facts in rows])
    ends_on = _first_stated([facts.dates.ends_on for facts in rows])
    dollars, counts = joined.money, joined.counts
    unit = next((facts.unit for facts in rows if facts.unit), None) if counts else None
    authorization = _agreed_need(rows)
    places, place = _places(row)
    return Benefit(
        kind=first.kind,
        code=row.code or None,
        description=_description(first),
        applies_to=AppliesTo.CODES if row.eb03 or row.procedures else AppliesTo.UNKNOWN,
        service_type_codes=texts(row.eb03),
        procedure_codes=texts(row.procedures),
        network=first.network,
        level=first.level,
        period=joined.period,
        insurance_type=row.eb04.value,
        plan_name=row.eb05.value,
        place_of_service=places,
        place=place,
        facility=first.facility.value,
        tier=row.plan_network.value,
        limited_to=texts(row.limits),
        starts_on=starts_on.value,
        ends_on=ends_on.value,
        amount=first.amount.value,
        percent=first.percent.value,
        total=dollars.get(Figure.TOTAL, NOT_STATED).value,
        used=dollars.get(Figure.USED, NOT_STATED).value,
        remaining=dollars.get(Figure.REMAINING, NOT_STATED).value,
        quantity=Quantity(unit=unit, **{figure.value: count.value for figure, count in counts.items()})
        if unit
        else None,
        authorization_required=AUTHORIZATION_REQUIRED.get(authorization),
        authorization=authorization,
        notes=texts([msg for facts in rows for msg in facts.row.msgs]),
        sources=_sources(rows, dollars, counts, authorization, place),
    )


def _first_stated(elements: list[Sourced[_T]]) -> Sourced[_T]:
    return next((element for element in elements if element.value is not None), NOT_STATED)


def _agreed_need(rows: list[_Facts]) -> AuthorizationNeed:
    """What all rows that know it say; if some need one and others do not, one may apply."""
    needs = {facts.authorization for facts in rows if _is_known(facts)}
    if len(needs) > 1:
        return AuthorizationNeed.MAY_APPLY
    return next(iter(needs), AuthorizationNeed.UNKNOWN)


def _places(row: EbRow) -> tuple[str | None, BenefitPlace | None]:
    """The codes of the places of service, and the one place that they are."""
    if not row.places:
        return None, None
    codes = ",".join(texts(row.places))
    places = places_of(codes)
    return codes, next(iter(places)) if len(places) == 1 else None


def _facility(row: EbRow) -> Sourced[str]:
    """The facility that what the patient pays, or a limit, is for."""
    if not row.entities or KINDS.get(row.code) not in _OF_A_FACILITY:
        return NOT_STATED
    return next((one.name for one in row.entities if one.code.value == FACILITY and one.name), NOT_STATED)


def _description(facts: _Facts) -> str | None:
    named = facts.named_quantity or (EB01_NAMES.get(facts.row.code) if facts.kind is Kind.OTHER else None)
    return named or (f"within {facts.within}" if facts.within else None)


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
        left = max(total.value - used.value, _ZERO)
        figures[Figure.REMAINING] = Sourced(left, total.pointers[:1] + used.pointers[:1])
    return figures


def _sources(
    facts: list[_Facts],
    dollars: dict[Figure, Sourced[Decimal]],
    counts: dict[Figure, Sourced[Decimal]],
    authorization: AuthorizationNeed,
    place: BenefitPlace | None,
) -> Sources:
    """The pointers of all rows, by the benefit's fields."""
    found: dict[str, list[str]] = {}
    for one in facts:
        row = one.row
        for name, element in (
            ("kind", row.eb01),
            ("code", row.eb01),
            ("level", row.eb02),
            ("insurance_type", row.eb04),
            ("plan_name", row.eb05),
            ("period", row.eb06),
            # Beside the rows of one network, what is used can come from a row for both.
            ("network", row.eb12 if one.network is facts[0].network else NOT_STATED),
            ("authorization", row.eb11 if _is_known(one) else NOT_STATED),
            ("amount", one.amount),
            ("percent", one.percent),
            ("starts_on", one.dates.starts_on),
            ("ends_on", one.dates.ends_on),
            ("facility", one.facility),
            ("tier", row.plan_network),
        ):
            if element.value is not None:
                found[name] = [*found[name], *element.pointers] if name in found else [*element.pointers]
        for name, elements in (
            ("service_type_codes", row.eb03),
            ("procedure_codes", row.procedures),
            ("place_of_service", row.places),
            ("limited_to", row.limits),
            ("notes", row.msgs),
        ):
            if elements:
                pointers = [at for element in elements if element.value is not None for at in element.pointers]
                found[name] = found[name] + pointers if name in found else pointers
    sources: Sources = {name: sorted(set(at)) if len(at) > 1 else at for name, at in found.items() if at}
    if place and "place_of_service" in sources:
        sources["place"] = sources["place_of_service"]
    if "authorization" in sources and authorization in AUTHORIZATION_REQUIRED:
        sources["authorization_required"] = sources["authorization"]
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
