"""Families of service types: under which codes a payer may answer for the asked service (docs/x12.md#service-type-families).

A claim names a procedure, an inquiry a service type, and payers answer for the few service types that they must. So the
asked codes come first, then, in order, those under which payers answer for the procedure or the specialty.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from covergate.eligibility.inquiry import Service, Specialty
from covergate.eligibility.terms import ProviderKind
from covergate.eligibility.x12.codes import WHOLE_PLAN

_MENTAL_HEALTH = ("A6", "MH", "A8", "CF", "98")
_SUBSTANCE_USE = ("AI", "AJ", "AK", "CJ", "MH")
_PHYSICAL_THERAPY = ("PT", "AE", "AC")
_OCCUPATIONAL_THERAPY = ("AD", "AE", "AC")
_SPEECH_THERAPY = ("AF", "AC")
_OFFICE_VISIT = ("98", "BY", "BZ")

VISITS = frozenset(_OFFICE_VISIT)
DENTAL_CARE = "35"
"""The dental plan as a whole: what a payer states for one kind of dental care goes before it."""
PHYSICIAN = "96"
"""Physicians as a whole. Where a payer prices specialists there, its visit without a kind is none to a specialist."""


@dataclass(frozen=True, slots=True)
class Procedures:
    """A range of CPT or HCPCS codes, both ends included, and its family."""

    first: str
    last: str
    family: tuple[str, ...]


PROCEDURES: tuple[Procedures, ...] = (
    Procedures("70336", "70336", ("62",)),
    Procedures("70450", "70498", ("62",)),
    Procedures("70540", "70559", ("62",)),
    Procedures("71250", "71275", ("62",)),
    Procedures("71550", "71555", ("62",)),
    Procedures("72125", "72159", ("62",)),
    Procedures("72191", "72198", ("62",)),
    Procedures("73200", "73225", ("62",)),
    Procedures("73700", "73725", ("62",)),
    Procedures("74150", "74185", ("62",)),
    Procedures("80047", "89398", ("5",)),
    Procedures("90785", "90899", _MENTAL_HEALTH),
    Procedures("92507", "92508", _SPEECH_THERAPY),
    Procedures("92521", "92526", _SPEECH_THERAPY),
    Procedures("96105", "96171", ("MH", "A8", "CF", "A6", "98")),
    Procedures("97010", "97164", _PHYSICAL_THERAPY),
    Procedures("97151", "97158", ("MH", "A8", "CF", "A6")),
    Procedures("97165", "97168", _OCCUPATIONAL_THERAPY),
    Procedures("97530", "97542", _OCCUPATIONAL_THERAPY),
    Procedures("98940", "98943", ("33",)),
    Procedures("99202", "99215", _OFFICE_VISIT),
    Procedures("99281", "99285", ("86",)),
    Procedures("99381", "99397", ("81", "BZ", "98")),
    Procedures("D0100", "D0999", ("23", "35")),
    Procedures("D1000", "D1999", ("41", "35")),
    Procedures("D2000", "D2699", ("25", "35")),
    Procedures("D2700", "D2799", ("36", "35")),
    Procedures("D2800", "D2999", ("25", "35")),
    Procedures("D3000", "D3999", ("26", "35")),
    Procedures("D4000", "D4999", ("24", "35")),
    Procedures("D5000", "D5899", ("39", "35")),
    Procedures("D5900", "D5999", ("27", "35")),
    Procedures("D6000", "D6199", ("35",)),
    Procedures("D6200", "D6999", ("39", "35")),
    Procedures("D7000", "D7999", ("40", "35")),
    Procedures("D8000", "D8999", ("38", "35")),
    Procedures("D9000", "D9999", ("28", "35")),
    Procedures("H0001", "H0022", _SUBSTANCE_USE),
    Procedures("S9083", "S9088", ("UC",)),
)

SPECIALTIES: dict[Specialty, tuple[str, ...]] = {
    Specialty.ABA: ("MH", "A8", "CF", "A6"),
    Specialty.IOP: ("BB", "A8", "CF", "MH"),
    Specialty.OCT: _OCCUPATIONAL_THERAPY,
    Specialty.PHT: _PHYSICAL_THERAPY,
    Specialty.PRC: _OFFICE_VISIT,
    Specialty.PCH: ("A8", "MH", "CF", "A4", "98"),
    Specialty.PSY: _MENTAL_HEALTH,
    Specialty.SLP: _SPEECH_THERAPY,
    Specialty.SUD: _SUBSTANCE_USE,
    Specialty.UGC: ("UC",),
}
"""Without an entry payers have no service type of their own for the specialty."""

SERVICE_TYPES: dict[str, tuple[str, ...]] = {
    "A6": ("MH", "A8", "CF", "98"),
    "MH": ("A8", "CF", "A6"),
    "A8": ("MH", "CF", "A6"),
    "CF": ("MH", "A8", "A6"),
    "AI": ("AJ", "AK", "CJ", "MH"),
    "PT": ("AE", "AC"),
    "AE": ("PT", "AC"),
    "AD": ("AC",),
    "AF": ("AC",),
    "98": ("BY",),
    "BY": ("98",),
    "BZ": ("98",),
    **dict.fromkeys(("23", "24", "25", "26", "27", "28", "36", "38", "39", "40", "41"), (DENTAL_CARE,)),
}
"""By an asked service type. Mental health is not widened to an office visit: only psychotherapy is one."""


def family_of(service: Service, asked: Container[str]) -> tuple[str, ...]:
    """The service types beside the asked ones, the nearest first: those of procedures, of the specialty, of the asked codes."""
    return tuple(code for code in dict.fromkeys(_family(service)) if code not in asked)


def types_of_claim(service: Service) -> frozenset[str]:
    """Of the asked service types the one that the claim is for, by all its procedures, else by the specialty; else all.

    Who asks for an office visit, mental health and urgent care at once, with psychotherapy, asks what psychotherapy costs.
    Dental care as such is none of them beside a procedure of one kind of dental care.
    """
    asked = frozenset(service.service_type_codes) - {WHOLE_PLAN}
    families = [tuple(_of_claim((code,), None)) for code in service.procedure_codes] or [
        tuple(_of_claim((), service.specialty))
    ]
    claimed = {next((code for code in family if code in asked), None) for family in families}
    one = claimed.pop() if len(claimed) == 1 else None
    if one == DENTAL_CARE and all(family[0] != DENTAL_CARE for family in families):
        return frozenset()
    return asked if one is None else frozenset({one})


def asked_types(service: Service) -> frozenset[str]:
    """The asked service types; those of the claim if no service in particular was asked.

    A dental plan speaks of itself as dental care (35): any dental service is asked of that.
    """
    asked = frozenset(service.service_type_codes) - {WHOLE_PLAN}
    asked = asked or frozenset(code for codes in services_meant(service) for code in codes)
    return asked | {DENTAL_CARE} if any(DENTAL_CARE in SERVICE_TYPES.get(code, ()) for code in asked) else asked


def services_meant(service: Service) -> tuple[tuple[str, ...], ...]:
    """For each asked service type the codes under which another payer may have it, the nearest first.

    A visit, or the plan as such, is that of the procedure or the specialty. A family's office visit is no such code: it is
    anybody's.
    """
    return _meant(service.service_type_codes, service.procedure_codes, service.specialty)


@lru_cache(64)
def _meant(
    asked: tuple[str, ...], procedures: tuple[str, ...], specialty: Specialty | None
) -> tuple[tuple[str, ...], ...]:
    of_claim = tuple(code for code in dict.fromkeys(_of_claim(procedures, specialty)) if code not in VISITS)
    meant = tuple(
        tuple(dict.fromkeys((code, *(of_claim if code in VISITS else ()), *_wider(code))))
        for code in dict.fromkeys(asked)
        if code != WHOLE_PLAN
    )
    return meant or ((of_claim,) if of_claim else ())


def _wider(code: str) -> Iterator[str]:
    return (wider for wider in SERVICE_TYPES.get(code, ()) if wider not in VISITS)


def _family(service: Service) -> Iterator[str]:
    yield from _of_claim(service.procedure_codes, service.specialty)
    for code in service.service_type_codes:
        yield from SERVICE_TYPES.get(code, ())


def _of_claim(procedure_codes: Iterable[str], specialty: Specialty | None) -> Iterator[str]:
    for code in procedure_codes:
        yield from family_of_procedure(code)
    if specialty is not None:
        yield from SPECIALTIES.get(specialty, ())


def family_of_procedure(code: str) -> tuple[str, ...]:
    return next((one.family for one in PROCEDURES if one.first <= code <= one.last), ())


def provider_kind_of(specialty: Specialty | None) -> ProviderKind | None:
    """Plans tell the primary care provider from all others; urgent care is neither."""
    if specialty is None or specialty is Specialty.UGC:
        return None
    return ProviderKind.PCP if specialty is Specialty.PRC else ProviderKind.SPECIALIST
