"""The words of each warning; never PHI."""

from __future__ import annotations

from covergate.eligibility.result import Warning_
from covergate.eligibility.terms import WarningCode

_MESSAGES: dict[WarningCode, str] = {
    WarningCode.SERVICE_NOT_CONFIRMED: "Coverage is active, but the vendor did not say whether the asked service is covered.",
    WarningCode.COVERAGE_DATES_CONFLICT: "What the vendor says of the coverage and the plan's dates differ on the service date.",
    WarningCode.COVERAGE_MAY_END: "The plan's dates do not include the service date, which is still to come.",
    WarningCode.CONFLICTING_AMOUNTS: "Several different amounts were stated; see benefits.",
    WarningCode.UNKNOWN_CODE: "The vendor used a code that is not known; it was kept and not interpreted.",
    WarningCode.PENDING_INVESTIGATION: "The payer reports coverage as pending.",
    WarningCode.PAYER_CHANGED: "The vendor answered for another payer than the one asked.",
    WarningCode.MEMBER_DATA_DIFFERS: "The member data in the answer differs from what was asked.",
    WarningCode.CONTACT_OTHER_ENTITY: "The payer refers to another entity for this benefit; see related_entities.",
    WarningCode.RAW_UNPARSABLE: "The vendor's reply could not be read; it is kept in raw.",
    WarningCode.PAYER_NOT_IN_DIRECTORY: "The payer directory does not list this payer; it was asked for as it was named.",
    WarningCode.PAYER_MATCHED_BY_NAME: "The payer was found by its name alone; see inquiry.payer.directory_id.",
    WarningCode.PAYER_ID_AND_NAME_DIFFER: "The payer was asked by its id; what else the request names is of another payer.",
    WarningCode.OTHER_PAYER_PRIMARY: "Another payer pays first; see bill_to and other_coverage.",
    WarningCode.MANAGED_CARE_PLAN_PAYS: "A managed care plan pays for this service; see bill_to.",
    WarningCode.CARVED_OUT: "The asked service is carved out to another entity; see bill_to.",
    WarningCode.LIMITED_BENEFIT: "The coverage is limited to a part of what a medical plan covers.",
    WarningCode.SPEND_DOWN_OPEN: "Coverage begins to pay only when the spend-down has been met.",
    WarningCode.PREMIUM_GRACE_PERIOD: "Premiums are not paid through the service date; the payer may take payments back.",
    WarningCode.HOSPICE_ELECTION: "The patient has elected hospice; care for the terminal illness is billed to it.",
    WarningCode.SEVERAL_PLANS_DISAGREE: "The answer has several plans that disagree, and none is that of the service.",
}


def warning(code: WarningCode, *sources: str, detail: str | None = None) -> Warning_:
    """`detail` may name a vendor's code, never a person."""
    message = _MESSAGES[code] if detail is None else f"{_MESSAGES[code]} ({detail})"
    return Warning_(code=code, message=message, sources=sorted(sources))


def request_warning(code: WarningCode, detail: str | None = None) -> Warning_:
    """A warning about the request itself, which no reply is the source of."""
    if code is WarningCode.UNKNOWN_CODE:
        return Warning_(code=code, message=f"The request has a service type code that is not known. ({detail})")
    return warning(code, detail=detail)
