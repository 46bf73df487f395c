"""The meaning of X12 271 codes (005010X279A1) in a result: EB elements, relationships, entities, AAA rejects.

docs/x12.md has each table with its source. Invariant: every table is closed. A code that is not in it has no meaning here:
a reader makes it an explicit `unknown`, and an AAA that is not listed is `request_rejected`, never something better.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from covergate.eligibility.failure import Aaa, Failure, FailureCode, failure
from covergate.eligibility.terms import (
    AuthorizationNeed,
    Kind,
    Level,
    Network,
    OtherCoverageKind,
    PatientRelationship,
    Period,
    Role,
    Unit,
)
from covergate.eligibility.x12.names import AAA03_NAMES, EB01_NAMES

# docs/x12.md#eb01
ACTIVE = frozenset({"1", "2", "3", "4", "5"})
PLAIN_ACTIVE = "1"
CAPITATED = frozenset({"2", "3", "4"})
INACTIVE = frozenset({"6", "7", "8"})
PENDING_INVESTIGATION = frozenset({"5", "7", "8"})
NON_COVERED = "I"
EXCLUSION = "E"
HEALTH_CARE_FACILITY = "X"
OTHER_PAYER = "R"
CONTACT_OTHER_ENTITY = "U"
RESTRICTED = "N"
CANNOT_PROCESS = "V"

# docs/x12.md#eb01; listed codes without an entry are `other`.
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(ACTIVE | INACTIVE, Kind.COVERAGE),
    "A": Kind.COINSURANCE,
    "B": Kind.COPAY,
    "C": Kind.DEDUCTIBLE,
    "G": Kind.OUT_OF_POCKET_MAX,
    "F": Kind.LIMITATION,
    "E": Kind.NON_COVERED,
    "I": Kind.NON_COVERED,
    "Y": Kind.SPEND_DOWN,
    "J": Kind.COST_CONTAINMENT,
}
KINDS: dict[str, Kind] = {code: _KINDS.get(code, Kind.OTHER) for code in EB01_NAMES}

ACCUMULATING = frozenset({Kind.DEDUCTIBLE, Kind.OUT_OF_POCKET_MAX, Kind.LIMITATION, Kind.SPEND_DOWN})
"""Kinds whose EB07 is the total for the period; for the others it is the amount itself (a copay of 30)."""

WHOLE_PLAN = "30"
"""EB03 of the health benefit plan as such: to ask for it is to ask for nothing in particular."""

PAID_EACH_TIME = frozenset({Kind.COPAY, Kind.COINSURANCE, Kind.COST_CONTAINMENT})
"""Kinds whose EB07 is the amount itself even after an EB06 that speaks of what is used or left: that is the count's."""

# docs/x12.md#eb02
LEVELS: dict[str, Level] = {
    "CHD": Level.CHILDREN_ONLY,
    "DEP": Level.DEPENDENTS_ONLY,
    "ECH": Level.EMPLOYEE_AND_CHILDREN,
    "EMP": Level.EMPLOYEE_ONLY,
    "ESP": Level.EMPLOYEE_AND_SPOUSE,
    "FAM": Level.FAMILY,
    "IND": Level.INDIVIDUAL,
    "SPC": Level.SPOUSE_AND_CHILDREN,
    "SPO": Level.SPOUSE_ONLY,
}


class Figure(StrEnum):
    """The three numbers of one benefit, of which a row states one."""

    TOTAL = "total"
    USED = "used"
    REMAINING = "remaining"


# docs/x12.md#eb06; 24 and 29 name a figure and no period, 33 names both.
PERIODS: dict[str, tuple[Period | None, Figure]] = {
    "6": (Period.HOUR, Figure.TOTAL),
    "7": (Period.DAY, Figure.TOTAL),
    "13": (Period.DAY, Figure.TOTAL),
    "21": (Period.YEAR, Figure.TOTAL),
    "22": (Period.SERVICE_YEAR, Figure.TOTAL),
    "23": (Period.CALENDAR_YEAR, Figure.TOTAL),
    "24": (None, Figure.USED),
    "25": (Period.CONTRACT, Figure.TOTAL),
    "26": (Period.EPISODE, Figure.TOTAL),
    "27": (Period.VISIT, Figure.TOTAL),
    "28": (Period.OTHER, Figure.TOTAL),
    "29": (None, Figure.REMAINING),
    "30": (Period.OTHER, Figure.TOTAL),
    "31": (Period.OTHER, Figure.TOTAL),
    "32": (Period.LIFETIME, Figure.TOTAL),
    "33": (Period.LIFETIME, Figure.REMAINING),
    "34": (Period.MONTH, Figure.TOTAL),
    "35": (Period.WEEK, Figure.TOTAL),
    "36": (Period.ADMISSION, Figure.TOTAL),
}

# docs/x12.md#eb09; 99 says "used" and leaves the unit to the row that states the total.
QUANTITY_USED = "99"
UNITS: dict[str, Unit] = {
    "8H": Unit.OTHER,
    "99": Unit.OTHER,
    "CA": Unit.OTHER,
    "CE": Unit.OTHER,
    "D3": Unit.DAYS,
    "DB": Unit.UNITS,
    "DY": Unit.DAYS,
    "HS": Unit.HOURS,
    "LA": Unit.OTHER,
    "LE": Unit.OTHER,
    "M2": Unit.OTHER,
    "MN": Unit.MONTHS,
    "P6": Unit.UNITS,
    "QA": Unit.OTHER,
    "S7": Unit.OTHER,
    "S8": Unit.OTHER,
    "VS": Unit.VISITS,
    "YY": Unit.YEARS,
}

# HSD01, and HSD03 that makes the count a rate (docs/x12.md#hsd).
DELIVERY_UNITS: dict[str, Unit] = {
    "DY": Unit.DAYS,
    "FL": Unit.UNITS,
    "HS": Unit.HOURS,
    "MN": Unit.MONTHS,
    "VS": Unit.VISITS,
}
RATE_PERIODS: dict[str, Period] = {
    "DA": Period.DAY,
    "MO": Period.MONTH,
    "VS": Period.VISIT,
    "WK": Period.WEEK,
    "YR": Period.YEAR,
}

# docs/x12.md#eb11; U is a stated "unknown".
AUTHORIZATION: dict[str, AuthorizationNeed] = {
    "Y": AuthorizationNeed.REQUIRED,
    "N": AuthorizationNeed.NOT_REQUIRED,
    "U": AuthorizationNeed.UNKNOWN,
}
AUTHORIZATION_REQUIRED: dict[AuthorizationNeed, bool] = {
    AuthorizationNeed.REQUIRED: True,
    AuthorizationNeed.NOT_REQUIRED: False,
}
"""What the plain true or false beside it says; nothing of the other needs."""

# docs/x12.md#eb12; it speaks of the benefit, never of this provider.
NETWORKS: dict[str, Network] = {"Y": Network.IN, "N": Network.OUT, "W": Network.BOTH, "U": Network.UNKNOWN}


# docs/x12.md#ins02
RELATIONSHIPS: dict[str, PatientRelationship] = {
    "18": PatientRelationship.SELF,
    "01": PatientRelationship.SPOUSE,
    "19": PatientRelationship.CHILD,
    "34": PatientRelationship.OTHER_ADULT,
    "20": PatientRelationship.EMPLOYEE,
    "21": PatientRelationship.UNKNOWN,
    "39": PatientRelationship.OTHER,
    "40": PatientRelationship.OTHER,
    "53": PatientRelationship.LIFE_PARTNER,
    "G8": PatientRelationship.OTHER,
}

# NM101 of a benefit's related entity (docs/x12.md#entities); codes without an entry are `other`.
ENTITY_ROLES: dict[str, Role] = {
    "P3": Role.PRIMARY_CARE_PROVIDER,
    "FA": Role.FACILITY,
    "Y2": Role.MANAGED_CARE,
    "2B": Role.THIRD_PARTY_ADMINISTRATOR,
    "X3": Role.UTILIZATION_MANAGEMENT,
    "VER": Role.HOME_PLAN,
}

# EB01 of the entity's row, if that says more than NM101 (docs/x12.md#entities).
ROW_ROLES: dict[str, Role] = {
    "L": Role.PRIMARY_CARE_PROVIDER,
    "MC": Role.MANAGED_CARE,
    "X": Role.FACILITY,
}

# Entities that pay, by NM101: a row that is capitated, or whose EB04 is one of these, names with them a managed care plan.
PAYING_ENTITIES = frozenset({"PR", "PRP", "VN"})
MANAGED_CARE_TYPES = frozenset({"HM", "MC"})
CONTRACTED_VENDOR = "VN"
PROVIDER = "1P"
INSURED = "IL"
FACILITY = "FA"
NO_PAYERS = frozenset({INSURED, PROVIDER, "P3", FACILITY, "X3", "VER"})
"""Entities of a row on another payer that are not that payer; 2B administers it and stands for it."""

PHARMACY = frozenset({"88", "89", "90", "91", "92", "B2", "B3", "BW", "BX", "GF", "GN"})
HOSPICE = "45"
MEDICARE_PARTS = frozenset({"MA", "MB"})

# NM101 of another payer: its place in the order of payment (docs/x12.md#entities).
PAYER_ORDERS: dict[str, str] = {"PRP": "primary", "SEP": "secondary", "TTP": "tertiary"}

# EB04 of a row on another payer (docs/x12.md#other-coverage); codes without an entry are `other`.
OTHER_COVERAGE_KINDS: dict[str, OtherCoverageKind] = {
    **dict.fromkeys(("12", "13", "14", "15", "16", "41", "42", "43", "47"), OtherCoverageKind.MSP),
    "HN": OtherCoverageKind.MEDICARE_ADVANTAGE,
    **dict.fromkeys(("MA", "MB", "MP", "CP", "QM", "HS"), OtherCoverageKind.MEDICARE),
    "MC": OtherCoverageKind.MEDICAID,
    "HM": OtherCoverageKind.MANAGED_CARE,
    **dict.fromkeys(("MH", "MI", "SP"), OtherCoverageKind.SUPPLEMENTAL),
}

# REF01 of a row on another payer (docs/x12.md#other-coverage).
PLAN_REFERENCE = "18"
PLAN_NETWORK = "N6"
GROUP_NUMBERS = ("6P", "1L")
MEMBER_NUMBERS = ("1W", "IG")

# docs/x12.md#aaa03; a code that is not listed is `request_rejected`.
AAA_FAILURES: dict[str, FailureCode] = {
    **dict.fromkeys(("42", "80"), FailureCode.PAYER_UNAVAILABLE),
    **dict.fromkeys(("64", "72"), FailureCode.MEMBER_ID_INVALID),
    **dict.fromkeys(("65", "73"), FailureCode.MEMBER_NAME_MISMATCH),
    **dict.fromkeys(("58", "60", "71"), FailureCode.MEMBER_DOB_MISMATCH),
    **dict.fromkeys(("66", "74"), FailureCode.MEMBER_GENDER_MISMATCH),
    **dict.fromkeys(("67", "75"), FailureCode.MEMBER_NOT_FOUND),
    "77": FailureCode.DEPENDENT_NOT_FOUND,
    **dict.fromkeys(("68", "76"), FailureCode.MEMBER_AMBIGUOUS),
    "78": FailureCode.MEMBER_NOT_IN_PLAN,
    "61": FailureCode.MEMBER_DECEASED,
    **dict.fromkeys(("56", "57", "62", "63"), FailureCode.SERVICE_DATE_REJECTED),
    **dict.fromkeys(("43", "44", "45", "46", "47", "48", "51", "97"), FailureCode.PROVIDER_NOT_RECOGNIZED),
    **dict.fromkeys(("35", "49", "50", "52", "53"), FailureCode.PROVIDER_NOT_ELIGIBLE),
    "41": FailureCode.PAYER_ENROLLMENT_REQUIRED,
    **dict.fromkeys(("79", "T4"), FailureCode.PAYER_NOT_RECOGNIZED),
}

MEMBER_FAILURES = frozenset(
    {
        FailureCode.MEMBER_ID_INVALID,
        FailureCode.MEMBER_NAME_MISMATCH,
        FailureCode.MEMBER_DOB_MISMATCH,
        FailureCode.MEMBER_GENDER_MISMATCH,
        FailureCode.MEMBER_NOT_FOUND,
        FailureCode.DEPENDENT_NOT_FOUND,
        FailureCode.MEMBER_AMBIGUOUS,
        FailureCode.MEMBER_NOT_IN_PLAN,
    }
)
"""Rejects of who the member is."""

PRIMARY_CARE_AUTHORIZATION = "AE"
"""AAA03: Requires Primary Care Physician Authorization."""

# A third party inquires, wait 30 or 10 days, the payer will answer later: all outlive the request (docs/x12.md#aaa04).
_OUT_OF_OUR_HANDS = frozenset({"S", "W", "X", "Y"})

_TABLE_ORDER = {code: place for place, code in enumerate(FailureCode)}
"""`FailureCode` lists the codes in the order of docs/api.md#5-the-failure."""


def aaa_failure(aaas: Sequence[Aaa], *, vendor_code: str | None = None, vendor_message: str | None = None) -> Failure:
    """The one failure of several AAA segments: 42 or 80 first, then the order of docs/api.md#5-the-failure.

    `vendor_code` defaults to the deciding AAA03. The segments are listed in a fixed order, whatever order they came in.
    """
    ordered = sorted(aaas, key=lambda aaa: (aaa.code, aaa.follow_up or "", aaa.loop or "", aaa.sources))
    deciding = min(ordered, key=lambda aaa: _TABLE_ORDER[_failure_of(aaa)])
    return failure(
        _failure_of(deciding),
        vendor_code=vendor_code or deciding.code or None,
        vendor_message=vendor_message,
        aaa=ordered,
    )


def _failure_of(aaa: Aaa) -> FailureCode:
    code = AAA_FAILURES.get(aaa.code, FailureCode.REQUEST_REJECTED)
    if code is not FailureCode.PAYER_UNAVAILABLE and aaa.follow_up in _OUT_OF_OUR_HANDS:
        return FailureCode.PAYER_MANUAL_CHECK_REQUIRED
    return code


# VSee's wiki page "Insurance API (Draft)", "Rejection reason and codes", the newer of two interleaved maps; odd spellings
# are theirs. 71 is cut after "in the" in their list, so it is matched by that prefix (docs/x12.md#aaa03).
AAA_TEXTS: dict[str, str] = {
    "04": "Authorized quantity exceeded",
    "15": "Required application data missing",
    "33": "Input Errors",
    "35": "Out of Network",
    "41": "Authorization/Access restrictions",
    "42": "Unable to respond at current time.",
    "43": "Invalid/Missing provider information",
    "44": "Invalid/Missing provider name",
    "45": "Invalid/Missing provider speciality",
    "46": "Invalid/Missing provider phone number",
    "47": "Invalid/Missing provider state",
    "48": "Invalid/Missing referring provider identification number",
    "49": "Provider is not primary care physician",
    "50": "Provider ineligible for inquiries",
    "51": "Provider not on file",
    "52": "Service dates not within provider plan enrollment",
    "53": "Inquired benefit inconsistent with provider type",
    "56": "Inappropriate date",
    "57": "Invalid/Missing dates of service",
    "58": "Invalid/Missing date of birth",
    "60": "Date of birth follows date of service",
    "61": "Date of death preceeds dates of service",
    "62": "Date of service not within allowable inquiry period",
    "63": "Date of service in future",
    "64": "Invalid/Missing patient ID",
    "65": "Invalid/Missing patient name",
    "66": "Invalid/Missing patient gender code",
    "67": "Patient not found",
    "69": "Inconsistent with patient age.",
    "70": "Inconsistent with patient gender.",
    "71": "Patient birth date does not match that for the patient in the",
    "72": "Invalid/Missing subscriber/insured ID",
    "73": "Invalid/Missing subscriber/insured name",
    "74": "Invalid/Missing subscriber/insured gender code",
    "75": "Subscriber/Insured not found",
    "76": "Duplicate Subscriber/Insured ID number",
    "77": "Subscriber found, patient not found",
    "78": "Subscriber/Insured not in Group/Plan identified",
    "79": "Invalid participant identification",
    "80": "No response received by clearinghouse",
    "97": "invalid or missing provider address",
    "98": "Expiremental service or procedure.",
    "AA": "Authorization number not found.",
    "AE": "Requires primary care physician authorization.",
    "AF": "Invalid/Missing diagnosis codes.",
    "AG": "Invalid/Missing procedure codes.",
    "AO": "Additional patient condition information required.",
    "CI": "Certification information does not match patient.",
    "E8": "Requires medical review.",
    "IA": "Invalid authorization number format.",
    "MA": "Missing authorization number.",
    "T4": "Payer name or identifier missing",
    "T5": "Certification Information Missing",
}


def _folded(text: str) -> str:
    return " ".join(text.casefold().replace(".", " ").split())


_CODES_OF_TEXTS = {_folded(text): code for texts in (AAA03_NAMES, AAA_TEXTS) for code, text in texts.items()}
_PREFIX_71 = _folded(AAA_TEXTS["71"])


def aaa_code_of_text(text: str) -> str | None:
    """The AAA03 with this text, X12's or VSee's, ignoring case, full stops and white space; None if there is none."""
    folded = _folded(text)
    return "71" if folded.startswith(_PREFIX_71) else _CODES_OF_TEXTS.get(folded)
