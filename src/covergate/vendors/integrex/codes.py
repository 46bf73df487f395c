"""Integrex's words and ours. Source: "Integrex Health Enhanced Eligibility V2" (PDF).

The document gives names of fields and no values of codes; if it says or suggests X12, the X12 tables are used. Words are
compared by `fold`: case, blanks and punctuation do not count.
"""

from __future__ import annotations

import re

from covergate.eligibility.failure import FailureCode
from covergate.eligibility.terms import Kind, Level, Network, PatientRelationship, ProviderKind, Role


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.casefold())


def fold(words: str) -> str:
    return re.sub(r"[^a-z0-9($%]", "", words.casefold())


# `coverageStatusDesc`, for answers without a code of X12's EB01. Its words are read in this order: something is not covered,
# something has ended, something is (not) active.
COVERED_WORD = "covered"
INACTIVE_WORDS = frozenset({"inactive", "termed", "terminated", "cancelled", "canceled", "expired", "lapsed"})
ACTIVE_WORD = "active"
NEGATIONS = frozenset({"no", "not", "non", "never"})
"""They stand before the word that they negate: "not covered", "no longer active"."""

# `requestStatus` beside a `requestStatusCode` that is no AAA03 code. The document names no values, so only plain words count:
# a row holds if all of its words are there, and the first that holds counts.
STATUS_WORDS: tuple[tuple[frozenset[str], FailureCode], ...] = (
    (frozenset({"payer", "not", "supported"}), FailureCode.PAYER_NOT_SUPPORTED),
    (frozenset({"payer", "unsupported"}), FailureCode.PAYER_NOT_SUPPORTED),
    (frozenset({"rejected"}), FailureCode.REQUEST_REJECTED),
    (frozenset({"invalid", "request"}), FailureCode.REQUEST_REJECTED),
    (frozenset({"failed"}), FailureCode.REQUEST_REJECTED),
)
SUCCESS_WORDS = frozenset({"success", "successful", "complete", "completed"})

# `relationshipDesc`, for answers without a code of X12's INS02.
RELATIONSHIP_WORDS: dict[str, PatientRelationship] = {
    "self": PatientRelationship.SELF,
    "subscriber": PatientRelationship.SELF,
    "spouse": PatientRelationship.SPOUSE,
    "child": PatientRelationship.CHILD,
    "dependent": PatientRelationship.OTHER,
    "otheradult": PatientRelationship.OTHER_ADULT,
    "lifepartner": PatientRelationship.LIFE_PARTNER,
    "employee": PatientRelationship.EMPLOYEE,
    "other": PatientRelationship.OTHER,
    "otherrelationship": PatientRelationship.OTHER,
}

# `patientGender`, `subscriberGender`: F or M in version 2's requests, words in version 1.
GENDER_LETTERS: dict[str, str] = {"f": "F", "female": "F", "m": "M", "male": "M", "u": "U", "unknown": "U"}

# `payerTPA`: "True/False indicator for a Third Party Administrator (TPA)".
INDICATORS: dict[str, bool] = {"true": True, "false": False}

# `altName`: "IPAs, TPAs, Managed Care Plans, etc."; the words stand in altCategory or altType.
ALTERNATE_ROLES: dict[str, Role] = {
    "tpa": Role.THIRD_PARTY_ADMINISTRATOR,
    "thirdpartyadministrator": Role.THIRD_PARTY_ADMINISTRATOR,
    "ipa": Role.MANAGED_CARE,
    "independentpracticeassociation": Role.MANAGED_CARE,
    "managedcare": Role.MANAGED_CARE,
    "managedcareplan": Role.MANAGED_CARE,
    "managedcareorganization": Role.MANAGED_CARE,
    "mco": Role.MANAGED_CARE,
    "carveout": Role.CARVE_OUT,
}

# `altCategory` and `altType` may say for which service the alternate payer is the one: X12's EB03 by its word.
_SERVICES: dict[str, str] = {
    "behavioral": "MH",
    "mental": "MH",
    "psychiatric": "MH",
    "pharmacy": "88",
    "prescription": "88",
    "dental": "35",
    "vision": "AL",
}


def services_named(words: str) -> set[str]:
    return {_SERVICES[word] for word in words_of(words) if word in _SERVICES}


# The limits: key of the total, as the document spells it; the key of what is left is the same with `Remaining`.
LIMITS: dict[str, tuple[Kind, Level, Network]] = {
    f"{prefix}{person}{network}": (kind, level, where)
    for prefix, kind in (("oop($)", Kind.OUT_OF_POCKET_MAX), ("ded($)", Kind.DEDUCTIBLE))
    for person, level in (("Indiv", Level.INDIVIDUAL), ("Family", Level.FAMILY))
    for network, where in (("InNetwork", Network.IN), ("OutOfNetwork", Network.OUT))
}

# Coinsurance by network. The copays carry no network in the document, so theirs is unknown.
SHARES: dict[str, Network] = {"coins(%)InNetwork": Network.IN, "coins(%)OutOfNetwork": Network.OUT}
COPAYS: dict[str, tuple[str | None, ProviderKind | None]] = {
    "copay($)": (None, None),
    "copay($)Specialist": ("Specialist", ProviderKind.SPECIALIST),
}
"""The description of each, and the kind of provider that it is limited to."""
