"""From an inquiry to the body of "Create Verification" v2 (docs.soharhealth.com)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

from covergate.eligibility.inquiry import Inquiry
from covergate.vendors.flow import Question

_PAYER_DOWN = timedelta(hours=30)
"""Sohar says `error.payer` when a payer has been down "for at least 24 hours"; a deadline of 24 hours would come before it."""


def default_deadline(question: Question) -> datetime:
    return question.now + _PAYER_DOWN


def request_of(question: Question) -> dict[str, Any]:
    """`id` is our reference, which the event carries back."""
    inquiry = question.inquiry
    patient, subscriber, service = inquiry.patient, inquiry.subscriber, inquiry.service
    request: dict[str, Any] = {
        "id": question.attempt_id,
        "patient": {
            "firstName": patient.first_name,
            "lastName": patient.last_name,
            "dateOfBirth": _american(patient.date_of_birth),
            "state": patient.address.state if patient.address else None,
            "memberId": patient.member_id,
        },
        "payerId": sohar_payer_id(inquiry, question.payer_codes),
        "placeOfServiceCode": service.place_of_service_code,
        "specialtyCode": service.specialty.value if service.specialty else None,
    }
    if subscriber is not None:
        request["subscriber"] = {
            "firstName": subscriber.first_name,
            "lastName": subscriber.last_name,
            "dateOfBirth": _american(subscriber.date_of_birth),
        }
    return request


def sohar_payer_id(inquiry: Inquiry, payer_codes: Mapping[str, str]) -> str | None:
    """Sohar's own id if the directory knows it, else the electronic id."""
    return payer_codes.get("payer_id", inquiry.payer.id)


def _american(day: date) -> str:
    return f"{day:%m/%d/%Y}"
