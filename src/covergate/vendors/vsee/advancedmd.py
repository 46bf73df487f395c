"""AdvancedMD's 271 in our words: EB rows, AAA rejects, the persons. Its meaning is left to `eligibility/x12/reader.py`.

Invariant: of subscriber and dependents, only the patient's own segments are about the patient.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from covergate.eligibility.failure import Aaa
from covergate.eligibility.inquiry import Patient
from covergate.eligibility.members import asked_about
from covergate.eligibility.result import PostalAddress
from covergate.eligibility.sourced import NOT_STATED, Sourced
from covergate.eligibility.x12.rows import Days, DeliveryPattern, EbRow, Entity, Reference, dtp
from covergate.vendors.vsee.segments import ABSENT, LoopLevel, Segment, segments

_PLACE_OF_SERVICE = "ZZ"
_NPI = "XX"
_MEMBER = ("1W", "IG")
_PHONES, _FAX, _WEBSITE = ("TE", "WP"), ("FX",), ("UR",)
_VERIFICATION_NUMBER = "NQ"
"""REF01 of a Medicaid recipient's number; with the description below it is the payer's number of this inquiry instead."""
_EVC = "EVC"

# Segments of a person that are said of no benefit and have no field: kept as notes.
_OTHER_SEGMENTS: dict[str, str] = {"HI": "Diagnosis (HI)", "MPI": "Military service (MPI)"}


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
    """`references` are the persons' REF; `plan_days` and `notes` are the patient's own; all outside EB loops.

    `is_ambiguous`: there are several dependents, and none can be told to be the patient.
    """

    rows: list[EbRow]
    aaas: list[Aaa]
    payer_name: Sourced[str]
    payer_id: Sourced[str]
    subscriber: InsuredPerson | None
    dependent: InsuredPerson | None
    references: tuple[Reference, ...]
    plan_days: tuple[Days, ...]
    notes: tuple[Sourced[str], ...]
    trace_number: Sourced[str]
    verification_number: Sourced[str]
    is_ambiguous: bool = False

    @property
    def is_empty(self) -> bool:
        return not (self.rows or self.aaas or self.subscriber or self.dependent)


def read_response(raw: Any, at: str, patient: Patient | None = None) -> Response:
    """Reads `raw_response`, which stands at the JSON pointer `at`."""
    every = segments(raw, at)
    dependents = _dependents(every)
    born = {party: (birth_date(person), person.first_name.value) for party, person in dependents.items()}
    asked = asked_about(born, patient) if patient is not None else None
    if len(dependents) > 1:
        every = [segment for segment in every if segment.level is not LoopLevel.DEPENDENT or segment.party == asked]
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
        notes=(
            *(text for segment in own if segment.name == "MSG" for text in segment.all("01")),
            *(_as_note(segment) for segment in own if segment.name in _OTHER_SEGMENTS),
        ),
        trace_number=_first(own, "TRN", "02") | _first(outside, "BHT", "03"),
        verification_number=_verification_number(group),
        is_ambiguous=len(dependents) > 1 and asked is None,
    )


def _dependents(every: Sequence[Segment]) -> dict[str, InsuredPerson]:
    """By their parties."""
    own: dict[str, list[Segment]] = {}
    for segment in every:
        if segment.level is LoopLevel.DEPENDENT and segment.loop is None:
            own.setdefault(segment.party, []).append(segment)
    persons = {party: _person(around, LoopLevel.DEPENDENT) for party, around in own.items()}
    return {party: person for party, person in persons.items() if person is not None}


def _as_note(segment: Segment) -> Sourced[str]:
    elements = [element for position in sorted(segment.elements) for element in segment.elements[position]]
    words = " ".join(element.value for element in elements if element.value)
    pointers = tuple(at for element in elements for at in element.pointers)
    return Sourced(f"{_OTHER_SEGMENTS[segment.name]}: {words}", pointers)


def _verification_number(around: Sequence[Segment]) -> Sourced[str]:
    return next(
        (
            one.number
            for one in _references(around)
            if one.qualifier == _VERIFICATION_NUMBER and _EVC in (one.description.value or "").upper().split()
        ),
        NOT_STATED,
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
    if not any("01" in part.elements for part in parts):
        return []
    if len(parts) == 1:
        return [_row(parts[0], loop)]
    together = {position: elements for part in reversed(parts) for position, elements in part.elements.items()}
    return [_row(Segment("EB", together, parts[0].level, parts[0].loop), loop)]


def _row(eb: Segment, around: list[Segment]) -> EbRow:
    of: dict[str, list[Segment]] = {}
    for segment in around:
        of.setdefault(segment.name, []).append(segment)
    stated, places = eb.elements.get, of.get("III", ())
    references = _references(of["REF"]) if "REF" in of else ()
    return EbRow(
        eb01=stated("01", ABSENT)[0],
        eb02=stated("02", ABSENT)[0],
        eb03=tuple(code for element in stated("03", ()) for code in _codes(element)),
        eb04=stated("04", ABSENT)[0],
        eb05=stated("05", ABSENT)[0],
        eb06=stated("06", ABSENT)[0],
        eb07=stated("07", ABSENT)[0],
        eb08=stated("08", ABSENT)[0],
        eb09=stated("09", ABSENT)[0],
        eb10=stated("10", ABSENT)[0],
        eb11=stated("11", ABSENT)[0],
        eb12=stated("12", ABSENT)[0],
        procedures=_procedures(eb) if "13" in eb.elements or "13.02" in eb.elements else (),
        msgs=tuple([text for segment in of["MSG"] for text in segment.all("01")]) if "MSG" in of else (),
        places=tuple([place for segment in places if _is_place(segment) for place in segment.all("02")]),
        limits=tuple([limit for segment in places for limit in _limits(segment)]),
        days=_days(of["DTP"]) if "DTP" in of else (),
        deliveries=tuple(_delivery(segment) for segment in of["HSD"]) if "HSD" in of else (),
        references=references,
        entities=_entities(of["NM1"], around) if "NM1" in of else (),
        member_id=_member_id(references) if references else NOT_STATED,
    )


def _member_id(references: tuple[Reference, ...]) -> Sourced[str]:
    return next((one.number for name in _MEMBER for one in references if one.qualifier == name), NOT_STATED)


def _limits(iii: Segment) -> tuple[Sourced[str], ...]:
    """What narrows the row beside a place, or without one."""
    return iii.all("04") if _is_place(iii) else iii.all("04") or iii.all("02")


def _is_place(segment: Segment) -> bool:
    """III names a place of service, or by another qualifier or in words what else narrows the row."""
    return segment.text("01") in (_PLACE_OF_SERVICE, None)


def _delivery(hsd: Segment) -> DeliveryPattern:
    return DeliveryPattern(
        hsd01=hsd.one("01"),
        hsd02=hsd.one("02"),
        hsd03=hsd.one("03"),
        hsd04=hsd.one("04"),
        hsd05=hsd.one("05"),
        hsd06=hsd.one("06"),
    )


def _codes(element: Sourced[str]) -> list[Sourced[str]]:
    """Repeated codes in one string: the separator is named in ISA11 and differs (`^`, `|`), codes are letters and digits."""
    codes = re.findall(r"[0-9A-Z]+", (element.value or "").upper())
    return [element] if codes == [element.value] else [Sourced(code, element.pointers) for code in codes]


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


def _entities(named: list[Segment], around: list[Segment]) -> tuple[Entity, ...]:
    parts = _parts_of(named, around)
    return tuple(_entity(segment, own) for segment, own in zip(named, parts, strict=True))


def _entity(named: Segment, parts: list[Segment]) -> Entity:
    is_npi = named.text("08") == _NPI
    return Entity(
        code=named.one("01"),
        name=named.one("03"),
        first_name=named.one("04"),
        npi=named.one("09") if is_npi else NOT_STATED,
        id=named.one("09") if not is_npi else NOT_STATED,
        phone=_number(parts, _PHONES),
        fax=_number(parts, _FAX),
        website=_number(parts, _WEBSITE),
        address=_address(parts),
    )


def _parts_of(named: list[Segment], around: list[Segment]) -> list[list[Segment]]:
    """For each NM1 the N3, N4 and PER beside it: those that stand nearer to it than to any other.

    In a list of segments one belongs to the NM1 before it. One that stands as near to several is nobody's.
    """
    parts: list[list[Segment]] = [[] for _ in named]
    for segment in around:
        if segment.name in ("N3", "N4", "PER") and (owner := _owner(segment, named)) is not None:
            parts[owner].append(segment)
    return parts


def _owner(segment: Segment, named: list[Segment]) -> int | None:
    own = segment.at.split("/")
    paths = [one.at.split("/") for one in named]
    shared = [_shared(own, path) for path in paths]
    nearest = [index for index, steps in enumerate(shared) if steps == max(shared)]
    if len(nearest) <= 1:
        return next(iter(nearest), None)
    depth = max(shared)
    numbers = [(path[depth], index) for index in nearest if len(path := paths[index]) > depth]
    if len(own) <= depth or not all(step.isdecimal() for step in (own[depth], *(step for step, _ in numbers))):
        return None
    before = [(int(step), index) for step, index in numbers if int(step) < int(own[depth])]
    return max(before)[1] if before else None


def _shared(one: list[str], other: list[str]) -> int:
    """How many steps two pointers have in common."""
    return next(
        (index for index, (step, step_) in enumerate(zip(one, other, strict=False)) if step != step_),
        min(len(one), len(other)),
    )


def _number(parts: list[Segment], kinds: tuple[str, ...]) -> Sourced[str]:
    """PER holds up to three pairs of qualifier and number."""
    for kind in kinds:
        for contact in (segment for segment in parts if segment.name == "PER"):
            for qualifier, number in (("03", "04"), ("05", "06"), ("07", "08")):
                if contact.text(qualifier) == kind and contact.one(number):
                    return contact.one(number)
    return NOT_STATED


def _address(streets: list[Segment]) -> Sourced[PostalAddress]:
    line1, line2 = _first(streets, "N3", "01"), _first(streets, "N3", "02")
    city, state, zip_code = (_first(streets, "N4", position) for position in ("01", "02", "03"))
    parts = {"line1": line1, "line2": line2, "city": city, "state": state, "zip": zip_code}
    stated = {name: part.value for name, part in parts.items() if part}
    if not stated:
        return NOT_STATED
    return Sourced(PostalAddress(**stated), tuple(at for part in parts.values() if part for at in part.pointers))


def _references(around: Sequence[Segment]) -> tuple[Reference, ...]:
    return tuple(
        Reference(qualifier, number, segment.one("03"))
        for segment in around
        if segment.name == "REF" and (qualifier := segment.text("01")) and (number := segment.one("02"))
    )


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
