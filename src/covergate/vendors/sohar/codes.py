"""Sohar's words and ours. Sources: "Patient Intake" and the pages on verifications v2 (docs.soharhealth.com)."""

from __future__ import annotations

from covergate.eligibility.failure import FailureCode
from covergate.eligibility.terms import Coverage, Network

PENDING = "pending"
COMPLETE_ELIGIBLE = "complete.eligible"
COMPLETE_INELIGIBLE = "complete.ineligible"
CONTACT_PAYER = "CONTACT_PAYER_REQUIRED"

# "Verification guide": the reasons of `complete.ineligible`, as (coverage, service_covered).
INELIGIBLE_REASONS: dict[str, tuple[Coverage, bool | None]] = {
    "INACTIVE": (Coverage.INACTIVE, None),
    "NON_COVERED": (Coverage.ACTIVE, False),
}

# "Patient Intake", "Patient Routing". Any other `error.*` is "any other unexpected response", which a person handles.
ERROR_STATUSES: dict[str, FailureCode] = {
    "error.member.id": FailureCode.MEMBER_ID_INVALID,
    "error.member.name": FailureCode.MEMBER_NAME_MISMATCH,
    "error.member.dob": FailureCode.MEMBER_DOB_MISMATCH,
    "error.payer": FailureCode.PAYER_UNAVAILABLE,
    "error.payer.npi": FailureCode.PROVIDER_NOT_RECOGNIZED,
}

# "Get Verification" v2, `benefits[].networkStatus`; `pending` is a value of Get Network Status and names no network.
NETWORK_STATUSES: dict[str, Network] = {"inn": Network.IN, "oon": Network.OUT, "pending": Network.UNKNOWN}

# "Webhooks": the events about a verification, and whether there is something new to fetch.
EVENT_WAKES: dict[str, bool] = {"verification.updated": True, "verification.pending": False}
SANDBOX_PREFIX = "sandbox."
