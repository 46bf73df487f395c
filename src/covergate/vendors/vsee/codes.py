"""VSee's codes: users, responsible party, user types; the 271's own codes are in `eligibility.x12`."""

from __future__ import annotations

from covergate.eligibility.inquiry import CoverageOrder, Gender, Relationship

# User API, `gender`: 1 male, 2 female. It has no third.
GENDERS: dict[Gender, int] = {Gender.MALE: 1, Gender.FEMALE: 2}

# User API, `type`.
MEMBER = "200"

# "Insurance API (Draft)", Relationship to Insured: self, child, spouse, other.
SELF = "self"
RESPONSIBLE_PARTIES: dict[Relationship, str] = {
    Relationship.SPOUSE: "spouse",
    Relationship.CHILD: "child",
    Relationship.OTHER_ADULT: "other",
    Relationship.LIFE_PARTNER: "other",
    Relationship.EMPLOYEE: "other",
    Relationship.OTHER: "other",
}

# "Insurance API (Draft)", Raw Data in user_datas: where the result of a check can stand in `insurance`. The last is the
# page's older shape, which does not name the check.
UNNAMED = "eligibility"
SECTIONS: dict[CoverageOrder, tuple[str, ...]] = {
    CoverageOrder.PRIMARY: ("primary", "secondary", UNNAMED),
    CoverageOrder.SECONDARY: ("secondary", "primary", UNNAMED),
}

CHECKED = "eligibility.checked"
"""Webhook type of the page."""

CODE_LENGTH = 128
"""User API: the longest `code`, our own name for the user."""

ALWAYS_ASKED = "30"
"""The service type that every check has (`@eligibilitystc` of the sample); no way to choose another is documented."""
