"""From an inquiry to the body of "[POST] Enhanced Eligibility Request" ("Integrex Health Enhanced Eligibility V2", PDF)."""

from __future__ import annotations

import re
from datetime import date

from covergate.eligibility.inquiry import Inquiry
from covergate.vendors.flow import Question

_DEFAULT_SERVICE_TYPE = "30"


def request_of(question: Question) -> dict[str, str]:
    """All strings; a field that is not given is left out. The subscriber's only if the patient is not the subscriber."""
    inquiry, options = question.inquiry, question.options
    patient, subscriber, service = inquiry.patient, inquiry.subscriber, inquiry.service
    fields = {
        "patientFirstName": patient.first_name,
        "patientLastName": patient.last_name,
        "patientDob": patient.date_of_birth.isoformat(),
        "patientGender": _gender(patient.gender),
        "patientSsn": patient.ssn,
        "memberId": patient.member_id,
        "billingProviderNpi": inquiry.provider.npi,
        "beginDos": inquiry.service_date.isoformat(),
        "endDos": (service.end_date or inquiry.service_date).isoformat(),
        "serviceType": sent_service_type(inquiry),
        "payerId": question.payer_codes.get("payer_id", inquiry.payer.id),
        "payerName": inquiry.payer.name,
        "employerName": _employer_name(inquiry),
        "internalAccountNumber1": options.account_number_1 or question.attempt_id,
        "internalAccountNumber2": options.account_number_2,
    }
    if subscriber is not None:
        fields |= {
            "subscriberFirstName": subscriber.first_name,
            "subscriberLastName": subscriber.last_name,
            "subscriberDob": subscriber.date_of_birth.isoformat(),
            "subscriberGender": _gender(subscriber.gender),
            "subscriberSsn": subscriber.ssn,
        }
    return {name: value for name, value in fields.items() if value is not None}


def not_asked_of(inquiry: Inquiry, today: date) -> frozenset[str]:
    """One request has room for one service type and one employer, and for a gender of F or M."""
    sent = _place_of_sent(inquiry)
    count = len(inquiry.service.service_type_codes)
    left_out = {f"/service/service_type_codes/{index}" for index in range(count) if index != sent}
    if inquiry.patient.employer_name not in (None, _employer_name(inquiry)):
        left_out.add("/patient/employer_name")
    for person, pointer in ((inquiry.patient, "/patient/gender"), (inquiry.subscriber, "/subscriber/gender")):
        if person is not None and person.gender is not None and _gender(person.gender) is None:
            left_out.add(pointer)
    return frozenset(left_out)


def sent_service_type(inquiry: Inquiry) -> str:
    """ "2 numerical digit service type identifier": the first of the asked ones that is one, else 30, the whole plan."""
    index = _place_of_sent(inquiry)
    return _DEFAULT_SERVICE_TYPE if index is None else inquiry.service.service_type_codes[index]


def _place_of_sent(inquiry: Inquiry) -> int | None:
    for index, code in enumerate(inquiry.service.service_type_codes):
        if re.fullmatch(r"[0-9]{2}", code):
            return index
    return None


def _employer_name(inquiry: Inquiry) -> str | None:
    return inquiry.insured.employer_name or inquiry.patient.employer_name


def _gender(gender: str | None) -> str | None:
    """ "Single character gender identifier ("F" or "M")"; nothing else is sent."""
    return str(gender) if gender in ("F", "M") else None
