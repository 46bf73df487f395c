"""Healthie's words and ours, and the error codes of Claim.MD, which answers for them."""

from __future__ import annotations

from covergate.eligibility.failure import FailureCode
from covergate.eligibility.inquiry import CoverageOrder, Gender, Relationship

# `gender` and `holder_gender` are words ("Ex. Male").
GENDER_WORDS: dict[Gender | None, str | None] = {
    Gender.MALE: "Male",
    Gender.FEMALE: "Female",
    Gender.UNKNOWN: None,
    None: None,
}

# `holder_relationship` is a free string without documented values: what the patient is to the policy holder. None: both are
# one person.
HOLDER_RELATIONSHIPS: dict[Relationship | None, str] = {
    None: "Self",
    Relationship.SPOUSE: "Spouse",
    Relationship.CHILD: "Child",
    Relationship.OTHER_ADULT: "Other",
    Relationship.LIFE_PARTNER: "Other",
    Relationship.EMPLOYEE: "Other",
    Relationship.OTHER: "Other",
}

# `priority_type`; a patient has at most one Primary.
PRIORITY_TYPES: dict[CoverageOrder, str] = {CoverageOrder.PRIMARY: "Primary", CoverageOrder.SECONDARY: "Secondary"}

# Claim.MD's own error codes (docs.claim.md); codes of AAA03 are read as such.
CLAIM_MD_ERRORS: dict[str, FailureCode] = {"410": FailureCode.PAYER_NOT_SUPPORTED}
