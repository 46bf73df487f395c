"""Compares the member in the answer with the person asked about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TypeVar

from covergate.eligibility.inquiry import Inquiry, Patient, Subscriber
from covergate.eligibility.result import Member
from covergate.eligibility.sourced import pointers_at

_K = TypeVar("_K")


def differences(inquiry: Inquiry, patient: Member, subscriber: Member | None) -> list[str] | None:
    """Pointers to the member data that differs from the inquiry; None if nothing differs.

    Compared are birth date, last name and member id, ignoring case, blanks and punctuation; first names vary too much
    (nicknames). Either person may carry the number on the card.
    """
    numbers = {_plain(inquiry.patient.member_id), _plain(inquiry.insured.member_id or inquiry.patient.member_id)}
    differing = _differing(patient, inquiry.patient, numbers)
    if subscriber is not None and inquiry.subscriber is not None:
        differing += _differing(subscriber, inquiry.subscriber, numbers)
    if not differing:
        return None
    return sorted(pointer for member, field in differing for pointer in pointers_at(member.sources, field))


def is_somebody_else(inquiry: Inquiry, patient: Member) -> bool:
    """Whether the answer may be about another patient: of birth date, last name and member id two differ.

    A new name and a new number are still the patient's if birth date and first name are.
    """
    person = inquiry.patient
    numbers = {_plain(person.member_id), _plain(inquiry.insured.member_id or person.member_id)}
    same_first_name = _plain(patient.first_name or "") == _plain(person.first_name)
    if same_first_name and patient.date_of_birth == person.date_of_birth:
        return False
    return len(_differing(patient, person, numbers)) > 1


def _differing(member: Member, person: Patient | Subscriber, numbers: set[str]) -> list[tuple[Member, str]]:
    fields = []
    if member.date_of_birth is not None and member.date_of_birth != person.date_of_birth:
        fields.append((member, "date_of_birth"))
    if member.last_name and _plain(member.last_name) != _plain(person.last_name):
        fields.append((member, "last_name"))
    if member.member_id and _plain(member.member_id) not in numbers:
        fields.append((member, "member_id"))
    return fields


def asked_about(persons: Mapping[_K, tuple[date | None, str | None]], patient: Patient) -> _K | None:
    """Of several persons, by birth date and first name, the one born on the patient's day; of twins the patient's namesake.

    None if that is nobody, or still more than one.
    """
    born = [key for key, (day, _) in persons.items() if day == patient.date_of_birth]
    if len(born) > 1:
        born = [key for key in born if _plain(persons[key][1] or "") == _plain(patient.first_name)]
    return born[0] if len(born) == 1 else None


def _plain(words: str) -> str:
    return "".join(filter(str.isalnum, words.casefold()))
