"""VSee's patients: the fields that a form or a JSON body may set, the data a check needs, the record as it is read back.

Source: VSee's User API and "Insurance API (Draft)" pages. Formats are checked when data is stored, completeness when a
check is run, as the page has it: "This assumes all required insurance data is saved for this user."

Invariant: a message names fields, never their values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

_Json = dict[str, Any]

_USER_FIELDS = ("first_name", "last_name", "dob", "gender", "street_addr", "city", "state", "zip", "email", "username")
_COVERAGE_FIELDS = ("carrier_code", "group_number", "subscriber_num", "card_front", "card_back")
_GUARANTOR_FIELDS = (
    "guarantor_name",
    "guarantor_dob",
    "guarantor_address",
    "guarantor_city",
    "guarantor_state",
    "guarantor_zip",
)
_INSURANCE_FIELDS = {
    "primary": _COVERAGE_FIELDS,
    "secondary": _COVERAGE_FIELDS,
    "patient": ("respparty", *_GUARANTOR_FIELDS),
}
_FLAT = {
    name if section == "patient" else f"{section}_{name}": (section, name)
    for section, names in _INSURANCE_FIELDS.items()
    for name in names
}
"""The page's flat names, each with the place in the record where it is read back."""
_RESPONSIBLE_PARTIES = ("self", "child", "spouse", "other")

# User API: 200 Member, 400 Provider, 600 Guest. The first two need a code.
_USER_TYPES = {"200": True, "400": True, "600": False}
_CODE_LENGTH = 128

_NEEDED_FOR_A_CHECK = ("first_name", "last_name", "dob", "gender", "street_addr", "city", "state", "zip")


@dataclass
class ApiError(Exception):
    """An error of VSee's API: `{"code": status, "message": message}`."""

    status: int
    message: str


@dataclass
class User:
    id: str
    code: str
    type: str
    created: int
    amd_member_id: str
    """AdvancedMD's number of the patient, `external_member_id` in events."""
    fields: _Json = field(default_factory=dict)
    insurance: dict[str, _Json] = field(default_factory=dict)

    def coverage(self, carrier_code: str) -> tuple[str, _Json] | None:
        """`primary` or `secondary` and its section, whichever has this carrier."""
        for order in ("primary", "secondary"):
            section = self.insurance.get(order)
            if section is not None and section.get("carrier_code") == carrier_code:
                return order, section
        return None

    def as_json(self, account_code: str) -> _Json:
        return {
            "id": self.id,
            "code": self.code,
            **{name: self.fields.get(name, "") for name in _USER_FIELDS},
            "full_name": f"{self.fields['first_name']} {self.fields['last_name']}",
            "vseeid": f"sandbox+{self.id}",
            "active": True,
            "tos": False,
            "status": 20,
            "subtype": "",
            "timezone": "America/Los_Angeles",
            "email_verified": True,
            "insurance": self.insurance,
            "account_code": account_code,
            "clinics": [account_code],
            "created": self.created,
        }


def read_sso(form: Mapping[str, str]) -> tuple[str, str, _Json]:
    """(code, type, user fields) of an sso form; raises VSee's 400 if it breaks the page's rules."""
    fields: _Json = {name: form[name] for name in _USER_FIELDS if name in form}
    for name in ("first_name", "last_name"):
        if not fields.get(name):
            raise ApiError(400, f"{name} is required")
    user_type, code = form.get("type", "200"), form.get("code", "")
    if user_type not in _USER_TYPES:
        raise ApiError(400, "type must be 200, 400 or 600")
    if (_USER_TYPES[user_type] and not code) or len(code) > _CODE_LENGTH:
        raise ApiError(400, f"code is required and may have {_CODE_LENGTH} characters")
    if "gender" in fields:
        if fields["gender"] not in ("1", "2"):
            raise ApiError(400, "gender must be 1 or 2")
        fields["gender"] = int(fields["gender"])
    _check_user_fields(fields)
    return code, user_type, fields


def store_profile(user: User, body: _Json, spelling: str) -> None:
    """`POST /me`: overwrite the named user fields and insurance fields; nothing is stored if anything is wrong.

    `spelling`: `flat` (`insurance.primary_carrier_code`) or `nested` (`insurance.primary.carrier_code`); the other one is passed
    over, as an unknown field is.
    """
    fields = {name: body[name] for name in _USER_FIELDS if name in body}
    _check_user_fields(fields)
    insurance = body.get("insurance", {})
    if not isinstance(insurance, dict):
        raise ApiError(400, "insurance must be an object")
    flat = {name: value for name, value in insurance.items() if name in _FLAT}
    nested = {name: value for name, value in insurance.items() if name not in _FLAT}
    if not all(isinstance(section, dict) for section in nested.values()):
        raise ApiError(400, f"insurance takes {', '.join(_FLAT)}, or the objects primary, secondary and patient")
    spelt = {"flat": _in_sections(flat), "nested": nested}
    for sections in spelt.values():
        for section, values in sections.items():
            _check_insurance(section, values)
    user.fields.update(fields)
    for section, values in spelt[spelling].items():
        user.insurance.setdefault(section, {}).update(values)
        if section != "patient":
            user.insurance[section]["insurance_order"] = 1 if section == "primary" else 2
    if "patient" in spelt[spelling]:
        user.insurance["patient"].update(member_id=user.amd_member_id, response_party_id=f"6{user.amd_member_id}")


def _in_sections(flat: _Json) -> dict[str, _Json]:
    sections: dict[str, _Json] = {}
    for name, value in flat.items():
        section, field_name = _FLAT[name]
        sections.setdefault(section, {})[field_name] = value
    return sections


def missing_for_check(user: User, coverage: _Json) -> list[str]:
    """The fields that a check needs and the user lacks."""
    patient = user.insurance.get("patient", {})
    missing = [name for name in _NEEDED_FOR_A_CHECK if user.fields.get(name) in (None, "")]
    missing += [name for name in ("carrier_code", "subscriber_num") if not coverage.get(name)]
    if not patient.get("respparty"):
        missing.append("respparty")
    elif patient["respparty"] != "self":
        missing += [name for name in _GUARANTOR_FIELDS if not patient.get(name)]
    return missing


def _check_user_fields(fields: _Json) -> None:
    for name, value in fields.items():
        if name == "gender":
            if value not in (1, 2) or isinstance(value, bool):
                raise ApiError(400, "gender must be 1 or 2")
        elif not isinstance(value, str):
            raise ApiError(400, f"{name} must be a string")
    if "dob" in fields:
        _check_date("dob", fields["dob"])
    if fields.get("state") and not re.fullmatch(r"[A-Z]{2}", fields["state"]):
        raise ApiError(400, "state must be two letters")


def _check_insurance(section: str, values: _Json) -> None:
    allowed = _INSURANCE_FIELDS.get(section)
    if allowed is None:
        raise ApiError(400, "insurance has the parts primary, secondary and patient")
    for name, value in values.items():
        if name not in allowed or not isinstance(value, str):
            raise ApiError(400, f"insurance.{section} takes {', '.join(allowed)} as strings")
    if "respparty" in values and values["respparty"] not in _RESPONSIBLE_PARTIES:
        raise ApiError(400, f"insurance.patient.respparty must be one of {', '.join(_RESPONSIBLE_PARTIES)}")
    if "guarantor_dob" in values:
        _check_date("insurance.patient.guarantor_dob", values["guarantor_dob"])


def _check_date(name: str, value: str) -> None:
    try:
        is_date = len(value) == 10 and date.fromisoformat(value).isoformat() == value
    except ValueError:
        is_date = False
    if not is_date:
        raise ApiError(400, f"{name} must be a date in YYYY-MM-DD format")
