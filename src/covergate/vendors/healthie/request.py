"""From an inquiry to the fields of Healthie's inputs: the patient of `createClient`, the policy of `updateClient`.

Source: `ClientInput` and `ClientPolicyInput` of the generated types of Healthie's schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from covergate.eligibility.inquiry import Inquiry
from covergate.vendors.flow import Question
from covergate.vendors.healthie.codes import GENDER_WORDS, HOLDER_RELATIONSHIPS
from covergate.vendors.healthie.options import HealthieOptions


def patient_fields(question: Question) -> dict[str, Any]:
    """`record_identifier` is our own name for the record, a digest of tenant and patient."""
    patient = question.inquiry.patient
    return {
        "first_name": patient.first_name,
        "last_name": patient.last_name,
        "dob": patient.date_of_birth.isoformat(),
        "gender": GENDER_WORDS[patient.gender],
        "dietitian_id": provider_of(question),
        "record_identifier": question.person_key,
    }


def provider_of(question: Question) -> str | None:
    """Whose patient it is at Healthie; None: the API key's own user's."""
    return question.options.dietitian_id or question.connection.provider_id or None


def policy_fields(question: Question) -> dict[str, Any]:
    """The fields of `ClientPolicyInput` that the inquiry states. The holder is the insured person."""
    inquiry = question.inquiry
    holder, subscriber = inquiry.insured, inquiry.subscriber
    fields = {
        "num": inquiry.patient.member_id,
        "group_num": inquiry.patient.group_number,
        "holder_first": holder.first_name,
        "holder_mi": holder.middle_name[:1] if holder.middle_name else None,
        "holder_last": holder.last_name,
        "holder_dob": holder.date_of_birth.isoformat(),
        "holder_gender": GENDER_WORDS[holder.gender],
        "holder_relationship": HOLDER_RELATIONSHIPS[
            subscriber.patient_relationship if subscriber is not None else None
        ],
        "holder_phone": subscriber.phone if subscriber is not None else None,
        "holder_location": _location(question),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _location(question: Question) -> dict[str, str] | None:
    subscriber = question.inquiry.subscriber
    if subscriber is None or subscriber.address is None:
        return None
    return {name: value for name, value in subscriber.address.model_dump().items() if value is not None} or None


def lacks_plan(inquiry: Inquiry, options: HealthieOptions, payer_codes: Mapping[str, str]) -> bool:
    """Whether nothing in the request leads to an insurance plan."""
    named = (
        options.insurance_plan_id,
        options.policy_id,
        payer_codes.get("insurance_plan_id"),
        payer_codes.get("payer_id"),
        inquiry.payer.id,
        inquiry.payer.name,
    )
    return not any(named)


def not_asked_of(inquiry: Inquiry, today: date) -> frozenset[str]:
    """A policy has a place for the middle initial of its holder only."""
    return frozenset() if inquiry.subscriber is None else frozenset({"/patient/middle_name"})
