"""AdvancedMD's 271 in our words: EB rows, AAA rejects, the persons. Its meaning is left to `eligibility/x12/reader.py`.

Invariant: of subscriber and dependent, only segments at the patient's own level are about the patient.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from covergate.eligibility.failure import Aaa
from covergate.eligibility.result import PostalAddress
from covergate.eligibility.sourced import NOT_STATED, Sourced
from covergate.eligibility.x12.rows import Days, EbRow, Entity, dtp
from covergate.vendors.vsee.segments import LoopLevel, Segment, segments

_PLACE_OF_SERVICE = "ZZ"
_NPI = "XX"
_TELEPHONE, _FAX = "TE", "FX"


@dataclass(frozen=True, slots=True)
class InsuredPerson:
    """The subscriber or a dependent, as NM1, N3, N4, DMG and INS state them."""

    last_name: Sourced[str] = NOT_STATED
    first_name: Sourced[str] = NOT_STATED
    middle_name: Sourced[str] = NOT_STATED
    member_id: Sourced[str] = NOT_STATED
    born: Days | None = None
    gender: Sourced[str] = NOT_STATED
    relationship: Sourced[str] = NOT_STATED
    street: Sourced[str] = NOT_STATED
    city: Sourced[str] = NOT_STATED
    state: Sourced[str] = NOT_STATED
    zip: Sourced[str] = NOT_STATED


@dataclass(frozen=True, slots=True)
class Response:
    """`references` are REF values by qualifier; `plan_days` and `notes` are those of the patient's level, outside EB loops."""

    rows: list[EbRow]
    aaas: list[Aaa]
    payer_name: Sourced[str]
    payer_id: Sourced[str]
    subscriber: InsuredPerson | None
    dependent: InsuredPerson | None
    references: dict[str, Sourced[str]]
    plan_days: tuple[Days, ...]
    notes: tuple[Sourced[str], ...]
    trace_number: Sourced[str]

    @property
    def is_empty(self) -> bool:
        return not (self.rows or self.aaas or self.subscriber or self.dependent)


def read_response(raw: Any, at: str) -> Response:
    """Reads `raw_response`, which stands at the JSON pointer `at`."""
    every = segments(raw, at)
    level = (
        LoopLevel.DEPENDENT if any(segment.level is LoopLevel.DEPENDENT for segment in every) else LoopLevel.SUBSCRIBER
    )
    loops: dict[str, list[Segment]] = {}
    for segment in every:
        if segment.loop is not None and segment.level in (level, None):
            loops.setdefault(segment.loop, []).append(segment)
    outside = [segment for segment in every if segment.loop is None]
    own = [segment for segment in outside if segment.level is level]
    payer = next((segment for segment in outside if segment.text("01") == "PR" and segment.name == "NM1"), None)
    trace = next((segment for segment in own if segment.name == "TRN"), None)
    group = [segment for segment in outside if segment.level in (LoopLevel.SUBSCRIBER, LoopLevel.DEPENDENT)]
    return Response(
        rows=[row for loop in loops.values() for row in _rows(loop)],
        aaas=_aaas(every),
        payer_name=payer.one("03") if payer else NOT_STATED,
        payer_id=payer.one("09") if payer else NOT_STATED,
        subscriber=_person(outside, LoopLevel.SUBSCRIBER),
        dependent=_person(outside, LoopLevel.DEPENDENT),
        references=_references(group),
        plan_days=_days(own),
        notes=tuple(text for segment in own if segment.name == "MSG" for text in segment.all("01")),
        trace_number=trace.one("02") if trace else NOT_STATED,
    )


def _aaas(every: Sequence[Segment]) -> list[Aaa]:
    return [
        Aaa(
            code=reason,
            follow_up=segment.text("04"),
            loop=_loop_name(segment),
            sources=list(segment.one("03").pointers),
        )
        for segment in every
        if segment.name == "AAA" and (reason := segment.text("03")) is not None
    ]


def _loop_name(segment: Segment) -> str | None:
    if segment.level is None:
        return None
    return segment.level.value.replace("2100", "2110") if segment.loop is not None else segment.level.value


def _rows(loop: list[Segment]) -> list[EbRow]:
    """The one EB of a loop; elements of it that stand in an object of their own (a composite) are put together."""
    parts = [segment for segment in loop if segment.name == "EB"]
    if not any(part.one("01") for part in parts):
        return []
    together = {position: elements for part in reversed(parts) for position, elements in part.elements.items()}
    return [_row(Segment("EB", together, parts[0].level, parts[0].loop), loop)]


def _row(eb: Segment, around: list[Segment]) -> EbRow:
    references = _references(around)
    return EbRow(
        eb01=eb.one("01"),
        eb02=eb.one("02"),
        eb03=tuple(code for element in eb.all("03") for code in _codes(element)),
        eb04=eb.one("04"),
        eb05=eb.one("05"),
        eb06=eb.one("06"),
        eb07=eb.one("07"),
        eb08=eb.one("08"),
        eb09=eb.one("09"),
        eb10=eb.one("10"),
        eb11=eb.one("11"),
        eb12=eb.one("12"),
        procedures=_procedures(eb),
        msgs=tuple(text for segment in around if segment.name == "MSG" for text in segment.all("01")),
        places=tuple(
            place
            for segment in around
            if segment.name == "III" and segment.text("01") in (_PLACE_OF_SERVICE, None)
            for place in segment.all("02")
        ),
        days=_days(around),
        entities=_entities(around),
        member_id=references.get("1W") or references.get("IG") or NOT_STATED,
    )


def _codes(element: Sourced[str]) -> list[Sourced[str]]:
    """Repeated codes in one string: the separator is named in ISA11 and differs (`^`, `|`), codes are letters and digits."""
    return [Sourced(code, element.pointers) for code in re.findall(r"[0-9A-Z]+", (element.value or "").upper())]


def _procedures(eb: Segment) -> tuple[Sourced[str], ...]:
    """EB13 is qualifier and code (`HC:90837`), in one string or as elements of its own."""
    if code := eb.one("13.02"):
        return (code,)
    return tuple(
        parts[1]
        for element in eb.all("13")
        if len(parts := _codes(element)) > 1 and parts[0].value in ("HC", "CJ", "AD")
    )


def _days(around: Sequence[Segment]) -> tuple[Days, ...]:
    days = (
        dtp(segment.text("01"), text.value, text.pointers[0])
        for segment in around
        if segment.name == "DTP" and (text := segment.one("03"))
    )
    return tuple(day for day in days if day is not None)


def _entities(around: list[Segment]) -> tuple[Entity, ...]:
    named = [segment for segment in around if segment.name == "NM1"]
    contacts = [segment for segment in around if segment.name == "PER"]
    streets = [segment for segment in around if segment.name in ("N3", "N4")]
    is_only_one = len(named) == 1
    return tuple(
        Entity(
            code=segment.one("01"),
            name=segment.one("03"),
            npi=segment.one("09") if segment.text("08") == _NPI else NOT_STATED,
            id=segment.one("09") if segment.text("08") != _NPI else NOT_STATED,
            phone=_number(contacts, _TELEPHONE) if is_only_one else NOT_STATED,
            fax=_number(contacts, _FAX) if is_only_one else NOT_STATED,
            address=_address(streets) if is_only_one else NOT_STATED,
        )
        for segment in named
    )


def _number(contacts: list[Segment], kind: str) -> Sourced[str]:
    """PER holds up to three pairs of qualifier and number."""
    for contact in contacts:
        for qualifier, number in (("03", "04"), ("05", "06"), ("07", "08")):
            if contact.text(qualifier) == kind:
                return contact.one(number)
    return NOT_STATED


def _address(streets: list[Segment]) -> Sourced[PostalAddress]:
    line1, line2 = _first(streets, "N3", "01"), _first(streets, "N3", "02")
    city, state, zip_code = (_first(streets, "N4", position) for position in ("01", "02", "03"))
    parts = {"line1": line1, "line2": line2, "city": city, "state": state, "zip": zip_code}
    stated = {name: part.value for name, part in parts.items() if part}
    if not stated:
        return NOT_STATED
    first = next((part for street in streets for part in street.all("01")), NOT_STATED)
    return Sourced(PostalAddress(**stated), first.pointers)


def _references(around: Sequence[Segment]) -> dict[str, Sourced[str]]:
    return {
        qualifier: value
        for segment in reversed(around)
        if segment.name == "REF" and (qualifier := segment.text("01")) and (value := segment.one("02"))
    }


def _person(outside: list[Segment], level: LoopLevel) -> InsuredPerson | None:
    own = [segment for segment in outside if segment.level is level]
    if not any(segment.name == "NM1" for segment in own):
        return None
    birth = _first(own, "DMG", "02")
    return InsuredPerson(
        last_name=_first(own, "NM1", "03"),
        first_name=_first(own, "NM1", "04"),
        middle_name=_first(own, "NM1", "05"),
        member_id=_first(own, "NM1", "09"),
        born=dtp("DMG", birth.value, birth.pointers[0]) if birth else None,
        gender=_first(own, "DMG", "03"),
        relationship=_first(own, "INS", "02"),
        street=_first(own, "N3", "01"),
        city=_first(own, "N4", "01"),
        state=_first(own, "N4", "02"),
        zip=_first(own, "N4", "03"),
    )


def _first(around: Sequence[Segment], name: str, position: str) -> Sourced[str]:
    return next((value for segment in around if segment.name == name and (value := segment.one(position))), NOT_STATED)


def birth_date(person: InsuredPerson) -> date | None:
    return person.born.first if person.born else None
