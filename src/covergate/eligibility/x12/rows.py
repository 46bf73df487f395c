"""One EB loop of an X12 271, normalized: what any vendor's dialect is turned into before `reading.read` reads it.

Invariant: nothing is interpreted here. Every element keeps the vendor's text and the JSON pointer to where it stands in the
raw document; a blank or absent element is None, so "stated" and "not stated" are never confused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from covergate.eligibility.result import PostalAddress


@dataclass(frozen=True, slots=True)
class Element:
    """One element as the vendor wrote it (trimmed), and the JSON pointer to it."""

    text: str
    at: str


def element(value: Any, at: str) -> Element | None:
    """None for what is absent, blank or no scalar; numbers are taken as vendors mix them with strings."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    text = str(value).strip()
    return Element(text, at) if text else None


@dataclass(frozen=True, slots=True)
class Days:
    """A DTP segment: its qualifier (DTP01) and the days it names; a single day is both first and last.

    `is_range` tells "from … to …" (RD8) from one day (D8), which for 291 and 307 does not say whether it begins or ends.
    """

    qualifier: str
    first: date | None
    last: date | None
    at: str
    is_range: bool = False


def dtp(qualifier: Any, text: Any, at: str) -> Days | None:
    """From DTP01 and DTP03 (`CCYYMMDD` or `CCYYMMDD-CCYYMMDD`); None where either cannot be read."""
    name, value = element(qualifier, at), element(text, at)
    match = re.fullmatch(r"([0-9]{8})(?:\s*-\s*([0-9]{8}))?", value.text) if value else None
    if name is None or match is None:
        return None
    first, last = _day(match[1]), _day(match[2] or match[1])
    return Days(name.text, first, last, at, is_range=match[2] is not None) if first and last else None


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Entity:
    """The entity of a benefit (loop 2120): `code` is NM101, `npi` NM109 where NM108 is XX, `id` any other NM109."""

    code: Element | None = None
    name: Element | None = None
    npi: Element | None = None
    id: Element | None = None
    phone: Element | None = None
    fax: Element | None = None
    address: PostalAddress | None = None
    address_at: str | None = None


@dataclass(frozen=True, slots=True)
class EbRow:
    """The EB segment and what hangs on it. `eb03` and `procedures` (from EB13) are already split into single codes.

    `eb08_is_fraction` is false for a dialect that writes 20 for twenty percent. `member_id` is a REF of the row that gives
    the number at another payer (with EB01 = R). `places` are III02 codes.
    """

    eb01: Element | None = None
    eb02: Element | None = None
    eb03: tuple[Element, ...] = ()
    eb04: Element | None = None
    eb05: Element | None = None
    eb06: Element | None = None
    eb07: Element | None = None
    eb08: Element | None = None
    eb09: Element | None = None
    eb10: Element | None = None
    eb11: Element | None = None
    eb12: Element | None = None
    eb08_is_fraction: bool = True
    procedures: tuple[Element, ...] = ()
    msgs: tuple[Element, ...] = ()
    places: tuple[Element, ...] = ()
    days: tuple[Days, ...] = ()
    entities: tuple[Entity, ...] = ()
    member_id: Element | None = None

    @property
    def code(self) -> str:
        """EB01, "" where there is none."""
        return self.eb01.text if self.eb01 else ""

    @property
    def service_types(self) -> frozenset[str]:
        return frozenset(code.text for code in self.eb03)

    @property
    def procedure_codes(self) -> frozenset[str]:
        return frozenset(code.text for code in self.procedures)


# DTP01 (general knowledge of the 271; vendors.md 6.8): range qualifier, begin, end.
BENEFIT_DAYS = ("292", "348", "349")
PLAN_DAYS = ("291", "346", "347")
ELIGIBILITY_DAYS = ("307", "356", "357")


@dataclass(frozen=True, slots=True)
class Span:
    starts_on: date | None = None
    ends_on: date | None = None
    starts_at: tuple[str, ...] = ()
    ends_at: tuple[str, ...] = ()


def span(days: tuple[Days, ...], *families: tuple[str, str, str]) -> Span:
    """Begin and end by the first family that states any; several different days for one of them are none at all."""
    for whole, begin, end in families:
        starts = [
            day for day in days if day.first and (day.qualifier == begin or (day.qualifier == whole and day.is_range))
        ]
        ends = [day for day in days if day.last and (day.qualifier == end or (day.qualifier == whole and day.is_range))]
        if starts or ends:
            first, last = {day.first for day in starts}, {day.last for day in ends}
            return Span(
                starts_on=first.pop() if len(first) == 1 else None,
                ends_on=last.pop() if len(last) == 1 else None,
                starts_at=tuple(sorted(day.at for day in starts)),
                ends_at=tuple(sorted(day.at for day in ends)),
            )
    return Span()
