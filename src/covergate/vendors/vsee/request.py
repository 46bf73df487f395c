"""From an inquiry to what VSee stores of a user, and the fields that it needs before a check can run.

Sources: VSee's User API (`POST /users/sso`) and "Insurance API (Draft)" (required insurance information). The page lists flat
fields (`insurance.primary_carrier_code`) and shows a record that is nested (`insurance.primary.carrier_code`): which of the two
`POST /me` takes is a setting, and what it stored is read back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from covergate.eligibility.inquiry import Address, Inquiry
from covergate.vendors.document import Node, token
from covergate.vendors.flow import Question
from covergate.vendors.vsee.codes import (
    CHECKED_SERVICE_TYPE,
    GENDER_NUMBERS,
    MEMBER,
    RESPONSIBLE_PARTY_OF,
    USER_CODE_LENGTH,
)

ADDRESS_PARTS = ("line1", "city", "state", "zip")
"""The parts of an address that VSee requires."""


def not_asked_of(inquiry: Inquiry, today: date) -> frozenset[str]:
    """Every check is about service type 30, and no other can be chosen. There is one member id: the subscriber's, if given."""
    service_types = {
        f"/service/service_type_codes/{index}"
        for index, code in enumerate(inquiry.service.service_type_codes)
        if code != CHECKED_SERVICE_TYPE
    }
    is_own = _subscriber_number(inquiry) == inquiry.patient.member_id
    return frozenset(service_types if is_own else {*service_types, "/patient/member_id"})


def carrier_code(options: Any, payer_codes: Mapping[str, str]) -> str | None:
    """AdvancedMD's id of the carrier, from the request or the payer directory."""
    code: str | None = options.carrier_code or payer_codes.get("carrier_code")
    return code


def lacks_gender(inquiry: Inquiry, options: Any, payer_codes: Mapping[str, str]) -> bool:
    return inquiry.patient.gender not in GENDER_NUMBERS


def lacks_subscriber(part: str) -> Callable[[Inquiry, Any, Mapping[str, str]], bool]:
    """Whether there is a subscriber whose address lacks the part."""
    return lambda inquiry, options, payer_codes: (
        inquiry.subscriber is not None and getattr(inquiry.subscriber.address, part, None) is None
    )


def lacks_carrier_code(inquiry: Inquiry, options: Any, payer_codes: Mapping[str, str]) -> bool:
    return carrier_code(options, payer_codes) is None


def sso_form(question: Question) -> dict[str, str]:
    """`code` is our own name for the user, a digest of tenant and patient. VSee must not write to patients."""
    profile = {name: str(value) for name, value in _profile(question.inquiry).items()}
    return {"type": MEMBER, "code": question.patient_key[:USER_CODE_LENGTH], "disable_emails": "1", **profile}


def me_json(question: Question) -> dict[str, Any]:
    """The whole profile again, since sso leaves a known user as it is; blank if an earlier value must not stay."""
    inquiry, options = question.inquiry, question.options
    coverage = {
        "carrier_code": carrier_code(options, question.payer_codes),
        "group_number": inquiry.patient.group_number or "",
        "subscriber_num": _subscriber_number(inquiry),
        "card_front": options.card_front,
        "card_back": options.card_back,
    }
    coverage = {name: value for name, value in coverage.items() if value is not None}
    order, patient = inquiry.coverage_order.value, _patient(inquiry)
    nested = {order: coverage, "patient": patient}
    flat = {f"{order}_{name}": value for name, value in coverage.items()} | patient
    return {**_profile(inquiry), "insurance": nested if question.connection.insurance_fields == "nested" else flat}


def is_stored(record: Node, question: Question) -> bool:
    """Whether the user's record has the insurance that was sent. What it does not show of the patient is not compared."""
    inquiry, insurance = question.inquiry, record.at("insurance")
    coverage = insurance.at(inquiry.coverage_order.value)
    sent = {
        "carrier_code": carrier_code(question.options, question.payer_codes),
        "subscriber_num": _subscriber_number(inquiry),
    }
    party = insurance.at("patient").text("respparty").value
    return all(coverage.read(name, token).value == value for name, value in sent.items()) and party in (
        None,
        _patient(inquiry)["respparty"],
    )


def _subscriber_number(inquiry: Inquiry) -> str:
    return inquiry.insured.member_id or inquiry.patient.member_id


def _profile(inquiry: Inquiry) -> dict[str, Any]:
    patient = inquiry.patient
    address = patient.address or Address()
    profile = {
        "first_name": patient.first_name,
        "last_name": patient.last_name,
        "dob": patient.date_of_birth.isoformat(),
        "gender": GENDER_NUMBERS.get(patient.gender) if patient.gender else None,
        "street_addr": _street(address),
        "city": address.city,
        "state": address.state,
        "zip": address.zip,
    }
    return {name: value for name, value in profile.items() if value is not None}


def _patient(inquiry: Inquiry) -> dict[str, str]:
    subscriber = inquiry.subscriber
    if subscriber is None:
        return {"respparty": RESPONSIBLE_PARTY_OF[None]}
    address = subscriber.address or Address()
    guarantor = {
        "guarantor_name": f"{subscriber.first_name} {subscriber.last_name}",
        "guarantor_dob": subscriber.date_of_birth.isoformat(),
        "guarantor_address": _street(address),
        "guarantor_city": address.city,
        "guarantor_state": address.state,
        "guarantor_zip": address.zip,
    }
    return {
        "respparty": RESPONSIBLE_PARTY_OF[subscriber.patient_relationship],
        **{name: value for name, value in guarantor.items() if value is not None},
    }


def _street(address: Address) -> str | None:
    return " ".join(line for line in (address.line1, address.line2) if line) or None
