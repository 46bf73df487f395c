"""Whether the member in the answer is the person that was asked about."""

from __future__ import annotations

from covergate.eligibility.inquiry import Inquiry, Patient, Subscriber
from covergate.eligibility.result import Member


def differences(inquiry: Inquiry, patient: Member, subscriber: Member | None) -> list[str] | None:
    """Pointers to what the vendor states otherwise than it was asked; None where nothing differs.

    Birth date, last name and member id count, without case, blanks and punctuation; first names vary too much (nicknames).
    Either person may carry the number on the card.
    """
    numbers = {_plain(inquiry.patient.member_id), _plain(inquiry.insured.member_id or inquiry.patient.member_id)}
    differing = _differing(patient, inquiry.patient, numbers)
    if subscriber is not None and inquiry.subscriber is not None:
        differing += _differing(subscriber, inquiry.subscriber, numbers)
    if not differing:
        return None
    return sorted(pointer for member, field in differing for pointer in member.sources.get(field, []))


def _differing(member: Member, asked: Patient | Subscriber, numbers: set[str]) -> list[tuple[Member, str]]:
    found = []
    if member.date_of_birth is not None and member.date_of_birth != asked.date_of_birth:
        found.append((member, "date_of_birth"))
    if member.last_name and _plain(member.last_name) != _plain(asked.last_name):
        found.append((member, "last_name"))
    if member.member_id and _plain(member.member_id) not in numbers:
        found.append((member, "member_id"))
    return found


def _plain(words: str) -> str:
    return "".join(character for character in words.casefold() if character.isalnum())
