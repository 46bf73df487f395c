"""One EB loop of an X12 271, normalized: every vendor's dialect is turned into these rows before `reader.read_271` reads them.

Invariant: nothing is interpreted here. Every element keeps the vendor's text and the JSON pointer to where it stands in the
raw document; a blank or absent element is `NOT_STATED`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from covergate.eligibility.result import PostalAddress
from covergate.eligibility.sourced import NOT_STATED, Sourced


def element(value: Any, at: str) -> Sourced[str]:
    """An element's text, trimmed; not stated if absent, blank or no scalar. Vendors mix numbers with strings: both count."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return NOT_STATED
    text = str(value).strip()
    return Sourced(text, (at,)) if text else NOT_STATED


@dataclass(frozen=True, slots=True)
class Days:
    """A DTP segment: its qualifier (DTP01) and the days it names; a single day is both first and last.

    `is_range` tells "from … to …" (RD8) from one day (D8), which for 291 and 307 does not say whether it begins or ends.
    """

    qualifier: str
    first: date
    last: date
    at: str
    is_range: bool = False


_FIRST_YEAR = 1900
_DTP03 = re.compile(r"([0-9]{8})(?:\s*-\s*([0-9]{8}))?")


def dtp(qualifier: Any, text: Any, at: str) -> Days | None:
    """From DTP01 and DTP03 (`CCYYMMDD` or `CCYYMMDD-CCYYMMDD`); None if either cannot be read."""
    name, value = element(qualifier, at).value, element(text, at).value
    match = _DTP03.fullmatch(value) if value else None
    if name is None or match is None:
        return None
    first, last = _day(match[1]), _day(match[2] or match[1])
    # A range that ends before it begins says nothing, nor does the first day of a calendar, which stands for none.
    if first is None or last is None or first.year < _FIRST_YEAR or first > last:
        return None
    return Days(name, first, last, at, is_range=match[2] is not None)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Reference:
    """A REF segment: its qualifier (REF01), the number (REF02) and its description (REF03)."""

    qualifier: str
    number: Sourced[str] = NOT_STATED
    description: Sourced[str] = NOT_STATED


@dataclass(frozen=True, slots=True)
class DeliveryPattern:
    """An HSD segment: a number (`hsd02`) of a unit (`hsd01`) in so many (`hsd06`) of a period (`hsd05`)."""

    hsd01: Sourced[str] = NOT_STATED
    hsd02: Sourced[str] = NOT_STATED
    hsd03: Sourced[str] = NOT_STATED
    hsd04: Sourced[str] = NOT_STATED
    hsd05: Sourced[str] = NOT_STATED
    hsd06: Sourced[str] = NOT_STATED


@dataclass(frozen=True, slots=True)
class Entity:
    """The entity of a benefit (loop 2120): `code` is NM101, `npi` NM109 if NM108 is XX, `id` any other NM109.

    `name` is NM103; a person has a `first_name` (NM104) too.
    """

    code: Sourced[str] = NOT_STATED
    name: Sourced[str] = NOT_STATED
    first_name: Sourced[str] = NOT_STATED
    npi: Sourced[str] = NOT_STATED
    id: Sourced[str] = NOT_STATED
    phone: Sourced[str] = NOT_STATED
    fax: Sourced[str] = NOT_STATED
    website: Sourced[str] = NOT_STATED
    address: Sourced[PostalAddress] = NOT_STATED


@dataclass(slots=True)
class EbRow:
    """The EB segment and its loop. `eb03` and `procedures` (from EB13) are already split into single codes.

    Nobody changes a row (a frozen one would take five times as long to make). `code` is EB01, "" if the row has none.
    `eb08_is_fraction` is false for a dialect that writes 20 for twenty percent. `member_id` is a REF of the row that gives
    the number at another payer (with EB01 = R); `references` are all REF of the row. `places` are III02 codes of a place of
    service, `limits` other codes and texts of III, which narrow the row. `plan_network` is set where rows of several
    networks of one plan stand side by side.
    """

    eb01: Sourced[str] = NOT_STATED
    eb02: Sourced[str] = NOT_STATED
    eb03: tuple[Sourced[str], ...] = ()
    eb04: Sourced[str] = NOT_STATED
    eb05: Sourced[str] = NOT_STATED
    eb06: Sourced[str] = NOT_STATED
    eb07: Sourced[str] = NOT_STATED
    eb08: Sourced[str] = NOT_STATED
    eb09: Sourced[str] = NOT_STATED
    eb10: Sourced[str] = NOT_STATED
    eb11: Sourced[str] = NOT_STATED
    eb12: Sourced[str] = NOT_STATED
    eb08_is_fraction: bool = True
    procedures: tuple[Sourced[str], ...] = ()
    msgs: tuple[Sourced[str], ...] = ()
    places: tuple[Sourced[str], ...] = ()
    limits: tuple[Sourced[str], ...] = ()
    days: tuple[Days, ...] = ()
    deliveries: tuple[DeliveryPattern, ...] = ()
    references: tuple[Reference, ...] = ()
    entities: tuple[Entity, ...] = ()
    plan_network: Sourced[str] = NOT_STATED
    member_id: Sourced[str] = NOT_STATED

    code: str = field(init=False)
    service_types: frozenset[str] = field(init=False)
    procedure_codes: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.code = self.eb01.value or ""
        self.service_types = frozenset(texts(self.eb03))
        self.procedure_codes = frozenset(texts(self.procedures))


def texts(elements: Iterable[Sourced[str]]) -> list[str]:
    """The different texts of the elements, sorted."""
    if isinstance(elements, tuple) and len(elements) < 2:
        return [element.value for element in elements if element.value is not None]
    found = {element.value for element in elements if element.value is not None}
    return sorted(found) if len(found) > 1 else [*found]


# DTP01: the qualifiers of a whole range, its begin and its end (docs/x12.md#dates).
BENEFIT_DAYS = ("292", "348", "349")
PLAN_DAYS = ("291", "346", "347")
ELIGIBILITY_DAYS = ("307", "356", "357")
OTHER_COVERAGE_DAYS = ("290", "193", "194")
PAID_THROUGH = "343"

# The qualifiers in which payers repeat the day or the span that was asked about.
PLAN_SPAN, ELIGIBILITY_SPAN = "291", "307"


@dataclass(frozen=True, slots=True)
class DateRange:
    starts_on: Sourced[date] = NOT_STATED
    ends_on: Sourced[date] = NOT_STATED


_NO_DATES = DateRange()


def date_range(days: tuple[Days, ...], *families: tuple[str, str, str], one_day_begins: bool = False) -> DateRange:
    """Begin and end by the first family that states any; several different days for one of them are none at all.

    A begin that is a range states the end too. One day under the qualifier of a whole range says neither, unless by
    `one_day_begins`.
    """
    for whole, begin, end in families if days else ():
        starts = [
            (day.first, day.at)
            for day in days
            if day.qualifier == begin or (day.qualifier == whole and (day.is_range or one_day_begins))
        ]
        ends = [
            (day.last, day.at)
            for day in days
            if day.qualifier == end or (day.is_range and day.qualifier in (whole, begin))
        ]
        if starts or ends:
            return DateRange(_only(starts), _only(ends))
    return _NO_DATES


def last_day(days: Iterable[Days], qualifier: str) -> Sourced[date]:
    """The one day that every DTP with this qualifier states (the last of a range)."""
    return _only([(day.last, day.at) for day in days if day.qualifier == qualifier])


def _only(days: list[tuple[date, str]]) -> Sourced[date]:
    """The one day that all of these name, with all their pointers."""
    if len({day for day, _ in days}) != 1:
        return NOT_STATED
    return Sourced(days[0][0], tuple(sorted(at for _, at in days)))


def is_inquiry_span(day: Days, known: Iterable[date]) -> bool:
    """Whether a plan's or eligibility's DTP begins and ends on one of the `known` days of the inquiry, give or take one.

    Payers repeat there the day (or the span) that was asked about, by their own clock (docs/x12.md#dates).
    """
    if day.qualifier not in (PLAN_SPAN, ELIGIBILITY_SPAN):
        return False
    begins = any(abs((day.first - one).days) <= 1 for one in known)
    return begins and any(abs((day.last - one).days) <= 1 for one in known)
