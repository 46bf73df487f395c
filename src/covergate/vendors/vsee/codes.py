"""VSee's codes: users, responsible party, user types; the 271's own codes are in `eligibility.x12`."""

from __future__ import annotations

from covergate.eligibility.inquiry import CoverageOrder, Gender, Relationship

# User API, `gender`: 1 male, 2 female. It has no third.
GENDER_NUMBERS: dict[Gender, int] = {Gender.MALE: 1, Gender.FEMALE: 2}

# User API, `type`.
MEMBER = "200"

# "Insurance API (Draft)", Relationship to Insured: self, child, spouse, other. None: the patient is the subscriber.
RESPONSIBLE_PARTY_OF: dict[Relationship | None, str] = {
    None: "self",
    Relationship.SPOUSE: "spouse",
    Relationship.CHILD: "child",
    Relationship.OTHER_ADULT: "other",
    Relationship.LIFE_PARTNER: "other",
    Relationship.EMPLOYEE: "other",
    Relationship.OTHER: "other",
}

# "Insurance API (Draft)", Raw Data in user_datas: the places in `insurance` where the result of a check can stand. The last
# is the page's older shape, which does not name the check.
UNNAMED_SECTION = "eligibility"
SECTIONS: dict[CoverageOrder, tuple[str, ...]] = {
    CoverageOrder.PRIMARY: ("primary", "secondary", UNNAMED_SECTION),
    CoverageOrder.SECONDARY: ("secondary", "primary", UNNAMED_SECTION),
}

CHECKED = "eligibility.checked"
"""The webhook type that the page documents."""

USER_CODE_LENGTH = 128
"""User API: the greatest length of `code`, our own name for the user."""

CHECKED_SERVICE_TYPE = "30"
"""The service type of every check (`@eligibilitystc` of the sample); no way to choose another is documented."""
