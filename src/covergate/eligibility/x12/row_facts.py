"""One EB row in our words: which figure of what its amount, its share and its count are (docs/x12.md#eb06)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from covergate.eligibility.sourced import NOT_STATED, Sourced, money, percent
from covergate.eligibility.terms import AuthorizationNeed, Kind, Level, Network, Period, Unit
from covergate.eligibility.x12.codes import (
    ACCUMULATING,
    ACTIVE,
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
from covergate.eligibility.x12.names import EB06_NAMES, EB09_NAMES
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

_ZERO = Decimal(0)
_OF_A_FACILITY = ACCUMULATING | {Kind.COPAY, Kind.COINSURANCE}

_FIGURE_IN_WORDS = re.compile(
    r"(?:(?:individual|family) )?(?:(?:deductible|out[- ]of[- ]pocket|benefits?|visits?) )?(?:(?:maximum|amounts?) )?"
    r"(?:(?P<remaining>remaining|left)|(?P<used>used|accumulated))(?: to[- ]date| year[- ]to[- ]date)?\.?",
    re.IGNORECASE,
)
"""The groups are figures."""

_NO_PERIOD = (Period.UNKNOWN, None)


class RowFacts(NamedTuple):
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


def all_facts(row: EbRow) -> list[RowFacts]:
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


def _facts(row: EbRow, delivery: DeliveryPattern | None = None) -> RowFacts:
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
    return RowFacts(
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


def by_plan_network(rows: Sequence[EbRow]) -> Sequence[EbRow]:
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


def _facility(row: EbRow) -> Sourced[str]:
    """The facility that what the patient pays, or a limit, is for."""
    if not row.entities or KINDS.get(row.code) not in _OF_A_FACILITY:
        return NOT_STATED
    return next((one.name for one in row.entities if one.code.value == FACILITY and one.name), NOT_STATED)


def _named_quantity(row: EbRow) -> str | None:
    """The name of an EB09 that is no unit of ours ("Age, High Value"): without it the number would say nothing."""
    code = row.eb09.value
    if code is None or code == QUANTITY_USED or UNITS.get(code, Unit.OTHER) is not Unit.OTHER:
        return None
    return EB09_NAMES.get(code)


def is_known(facts: RowFacts) -> bool:
    return facts.authorization is not AuthorizationNeed.UNKNOWN
