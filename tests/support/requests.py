"""What the tests of the engine ask: one patient of Integrex, and what VSee and Health Harbor want beside that."""

from __future__ import annotations

from typing import Any

PATIENT: dict[str, Any] = {
    "first_name": "Jane",
    "last_name": "Sample",
    "date_of_birth": "1990-02-03",
    "member_id": "W123456789",
    "address": {"state": "CA"},
}
REQUEST: dict[str, Any] = {
    "vendor": "integrex",
    "payer": {"id": "60054", "name": "Aetna"},
    "patient": PATIENT,
    "provider": {"npi": "1234567893"},
    "service": {"place_of_service_code": "10", "specialty": "PSY"},
}

WHOLE_PATIENT: dict[str, Any] = {
    **PATIENT,
    "gender": "F",
    "address": {"line1": "1 Main St", "city": "Oakland", "state": "CA", "zip": "94601"},
}
FOR_VSEE: dict[str, Any] = {
    "vendor": "vsee",
    "vendor_options": {"vsee": {"carrier_code": "car7551"}},
    "patient": WHOLE_PATIENT,
}
VSEE_STORED: dict[str, Any] = {
    "data": {
        "id": "7",
        "insurance": {"primary": {"carrier_code": "car7551", "subscriber_num": WHOLE_PATIENT["member_id"]}},
    }
}
"""The reply to `POST /me` by which VSee shows what it stored of `FOR_VSEE`."""
FOR_HARBOR: dict[str, Any] = {
    "vendor": "health_harbor",
    "provider": {"npi": "1234567893", "tax_id": "123456789"},
}

_LETTERS = str.maketrans("0123456789", "abcdefghij", "-_")


def named_after(member_id: str) -> dict[str, str]:
    """A member id with a last name of its own: Healthie keeps one record of a person, whichever member ids that person has."""
    return {"member_id": member_id, "last_name": f"Sample {member_id.translate(_LETTERS)}"}
