"""The reason why there is no answer: one table from code to blame, message and advice (docs/api.md#5-the-failure).

`message` and `suggestion` are the gateway's own constants, so a failure can be shown anywhere; the vendor's own words are
kept apart (`vendor_message`) and treated as PHI.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class FixBy(StrEnum):
    """Who can mend the cause of a failure."""

    PATIENT = "patient"
    PROVIDER = "provider"
    REQUESTER = "requester"
    PAYER = "payer"
    VENDOR = "vendor"
    GATEWAY = "gateway"


class FailureCode(StrEnum):
    PAYER_UNAVAILABLE = "payer_unavailable"
    MEMBER_ID_INVALID = "member_id_invalid"
    MEMBER_NAME_MISMATCH = "member_name_mismatch"
    MEMBER_DOB_MISMATCH = "member_dob_mismatch"
    MEMBER_GENDER_MISMATCH = "member_gender_mismatch"
    MEMBER_NOT_FOUND = "member_not_found"
    DEPENDENT_NOT_FOUND = "dependent_not_found"
    MEMBER_AMBIGUOUS = "member_ambiguous"
    MEMBER_NOT_IN_PLAN = "member_not_in_plan"
    MEMBER_DECEASED = "member_deceased"
    SERVICE_DATE_REJECTED = "service_date_rejected"
    PROVIDER_NOT_RECOGNIZED = "provider_not_recognized"
    PROVIDER_NOT_ELIGIBLE = "provider_not_eligible"
    PAYER_ENROLLMENT_REQUIRED = "payer_enrollment_required"
    PAYER_NOT_RECOGNIZED = "payer_not_recognized"
    PAYER_NOT_SUPPORTED = "payer_not_supported"
    PAYER_MANUAL_CHECK_REQUIRED = "payer_manual_check_required"
    VENDOR_COULD_NOT_ANSWER = "vendor_could_not_answer"
    REQUEST_REJECTED = "request_rejected"
    VENDOR_UNAVAILABLE = "vendor_unavailable"
    VENDOR_RATE_LIMITED = "vendor_rate_limited"
    VENDOR_PROTOCOL_ERROR = "vendor_protocol_error"
    VENDOR_AUTH_FAILED = "vendor_auth_failed"
    SUBMISSION_UNKNOWN = "submission_unknown"
    INTERNAL_ERROR = "internal_error"
    DEADLINE_EXCEEDED = "deadline_exceeded"


@dataclass(frozen=True, slots=True)
class Meaning:
    fix_by: FixBy
    retryable: bool
    message: str
    suggestion: str


_C = FailureCode
_RESEND = "Then send a new verification with retry_of set to this one."

MEANINGS: dict[FailureCode, Meaning] = {
    _C.PAYER_UNAVAILABLE: Meaning(
        FixBy.PAYER, True, "The payer could not respond.", "Try again later, or call the payer if the visit is soon."
    ),
    _C.MEMBER_ID_INVALID: Meaning(
        FixBy.PATIENT,
        False,
        "The payer does not accept the member id.",
        f"Compare the member id with the insurance card, letters and leading zeros included. {_RESEND}",
    ),
    _C.MEMBER_NAME_MISMATCH: Meaning(
        FixBy.PATIENT,
        False,
        "The name does not match the payer's record.",
        f"Use the name exactly as on the insurance card. {_RESEND}",
    ),
    _C.MEMBER_DOB_MISMATCH: Meaning(
        FixBy.PATIENT,
        False,
        "The birth date does not match the payer's record.",
        f"Ask the patient for the birth date again. {_RESEND}",
    ),
    _C.MEMBER_GENDER_MISMATCH: Meaning(
        FixBy.PATIENT,
        False,
        "The gender does not match the payer's record.",
        f"Use the gender on file with the payer. {_RESEND}",
    ),
    _C.MEMBER_NOT_FOUND: Meaning(
        FixBy.PATIENT,
        False,
        "The payer does not find this member.",
        f"Check member id, name, birth date and that this is the right payer. {_RESEND}",
    ),
    _C.DEPENDENT_NOT_FOUND: Meaning(
        FixBy.PATIENT,
        False,
        "The payer finds the subscriber but not the patient.",
        f"Check the patient's name and birth date and the relationship to the subscriber. {_RESEND}",
    ),
    _C.MEMBER_AMBIGUOUS: Meaning(
        FixBy.PATIENT,
        False,
        "The payer finds more than one member with this data.",
        f"Give more data: group number, middle name, address. {_RESEND}",
    ),
    _C.MEMBER_NOT_IN_PLAN: Meaning(
        FixBy.PATIENT,
        False,
        "The member is not in the group or plan named.",
        f"Check payer and group number on the insurance card. {_RESEND}",
    ),
    _C.MEMBER_DECEASED: Meaning(
        FixBy.REQUESTER,
        False,
        "The payer's record has a date of death before the service.",
        "Have a person look at this before anyone contacts the patient.",
    ),
    _C.SERVICE_DATE_REJECTED: Meaning(
        FixBy.REQUESTER,
        False,
        "The payer does not answer for this service date.",
        f"Use a service date of today or within the payer's inquiry period. {_RESEND}",
    ),
    _C.PROVIDER_NOT_RECOGNIZED: Meaning(
        FixBy.PROVIDER,
        False,
        "The payer does not know the provider.",
        "Check the NPI and that the provider is registered with this payer and with the vendor.",
    ),
    _C.PROVIDER_NOT_ELIGIBLE: Meaning(
        FixBy.PROVIDER,
        False,
        "The payer does not answer this provider for this inquiry.",
        "Check the provider's network status, type and enrollment with this payer.",
    ),
    _C.PAYER_ENROLLMENT_REQUIRED: Meaning(
        FixBy.PROVIDER,
        False,
        "The payer wants an enrollment or an authorization first.",
        "Enroll the provider for eligibility inquiries with this payer.",
    ),
    _C.PAYER_NOT_RECOGNIZED: Meaning(
        FixBy.REQUESTER, False, "The payer id is not known.", f"Check the payer id against GET /v1/payers. {_RESEND}"
    ),
    _C.PAYER_NOT_SUPPORTED: Meaning(
        FixBy.REQUESTER,
        False,
        "The payer does not answer electronic inquiries through this vendor.",
        "Choose another vendor, or call the payer.",
    ),
    _C.PAYER_MANUAL_CHECK_REQUIRED: Meaning(
        FixBy.PAYER, False, "The payer wants to be contacted directly.", "Call the payer with the patient's details."
    ),
    _C.VENDOR_COULD_NOT_ANSWER: Meaning(
        FixBy.VENDOR,
        True,
        "The vendor tried and did not get an answer.",
        "Send the verification again, or call the payer if the visit is soon.",
    ),
    _C.REQUEST_REJECTED: Meaning(
        FixBy.REQUESTER,
        False,
        "The inquiry was rejected.",
        "Look at vendor_code and the raw reply for the field that was not accepted.",
    ),
    _C.VENDOR_UNAVAILABLE: Meaning(
        FixBy.VENDOR, True, "The vendor could not be reached until the deadline.", "Send the verification again later."
    ),
    _C.VENDOR_RATE_LIMITED: Meaning(
        FixBy.VENDOR, True, "The vendor's rate limit held until the deadline.", "Send the verification again later."
    ),
    _C.VENDOR_PROTOCOL_ERROR: Meaning(
        FixBy.VENDOR,
        False,
        "The vendor's reply could not be read.",
        "Look at the raw reply and report it to the vendor.",
    ),
    _C.VENDOR_AUTH_FAILED: Meaning(
        FixBy.GATEWAY, False, "The vendor refused the gateway's credentials.", "Have an operator check the credentials."
    ),
    _C.SUBMISSION_UNKNOWN: Meaning(
        FixBy.GATEWAY,
        False,
        "It is not known whether the vendor received the submission.",
        "Have an operator look the submission up at the vendor before it is sent again.",
    ),
    _C.INTERNAL_ERROR: Meaning(
        FixBy.GATEWAY, False, "The gateway failed.", "Have an operator look at the timeline and the logs."
    ),
    _C.DEADLINE_EXCEEDED: Meaning(
        FixBy.VENDOR, True, "No answer came before the deadline.", "Send the verification again with a later deadline."
    ),
}


class Aaa(BaseModel):
    """One X12 AAA segment: reject reason (AAA03), follow-up action (AAA04) and its loop, if known."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, json_schema_serialization_defaults_required=True
    )

    code: str
    follow_up: str | None = None
    loop: str | None = None
    sources: list[str] = []


class Failure(BaseModel):
    """Made by `failure`; `vendor_code` is the vendor's own code, `vendor_message` its own words (PHI)."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, json_schema_serialization_defaults_required=True
    )

    code: FailureCode
    message: str
    fix_by: FixBy
    retryable: bool
    vendor_code: str | None = None
    vendor_message: str | None = None
    aaa: list[Aaa] = []
    suggestion: str


def failure(
    code: FailureCode,
    *,
    vendor_code: str | None = None,
    vendor_message: str | None = None,
    aaa: list[Aaa] | None = None,
) -> Failure:
    meaning = MEANINGS[code]
    return Failure(
        code=code,
        message=meaning.message,
        fix_by=meaning.fix_by,
        retryable=meaning.retryable,
        vendor_code=vendor_code,
        vendor_message=vendor_message,
        aaa=aaa or [],
        suggestion=meaning.suggestion,
    )
