"""Health Harbor's words and ours: which questions a service calls for, places of service, call states, plan types."""

from __future__ import annotations

from enum import StrEnum

from covergate.eligibility.terms import Kind, Level
from covergate.vendors.health_harbor.options import BenefitsQuery

_Q = BenefitsQuery

ALWAYS_QUERIED: tuple[BenefitsQuery, ...] = (_Q.PLAN_INFO, _Q.DEDUCTIBLES_AND_MAXIMUMS, _Q.NETWORK_STATUS)
"""Without these the answer would not say whether the plan is active or what it costs."""

QUERIED_FOR_CODES: tuple[BenefitsQuery, ...] = (_Q.CODE_LOOKUP_BENEFITS, _Q.CODE_LOOKUP_PRIOR_AUTH)

_OFFICE_VISITS = (_Q.OFFICE_VISIT_NEW_PATIENT, _Q.OFFICE_VISIT_RETURNING_PATIENT)

# Service type codes: X12 EB03. Facility and inpatient types have no query of their own.
QUERIES_OF_SERVICE_TYPE: dict[str, tuple[BenefitsQuery, ...]] = {
    "MH": (_Q.PSYCHOTHERAPY,),
    "A4": (_Q.PSYCHOTHERAPY,),
    "A6": (_Q.PSYCHOTHERAPY,),
    "A8": (_Q.PSYCHOTHERAPY,),
    "CF": (_Q.PSYCHOTHERAPY,),
    "AF": (_Q.SPEECH_THERAPY,),
    "AD": (_Q.OCCUPATIONAL_THERAPY,),
    "AE": (_Q.PHYSICAL_THERAPY,),
    "PT": (_Q.PHYSICAL_THERAPY,),
    "96": _OFFICE_VISITS,
    "98": _OFFICE_VISITS,
    "A0": _OFFICE_VISITS,
    "BY": _OFFICE_VISITS,
    "BZ": _OFFICE_VISITS,
}

# Procedure codes: CPT. Only those that are plainly the subject of one of the vendor's queries; every procedure code is
# asked about by CODE_LOOKUP_* as well.
QUERIES_OF_PROCEDURE: dict[str, BenefitsQuery] = {
    **dict.fromkeys(("90832", "90834", "90837"), _Q.PSYCHOTHERAPY),
    **dict.fromkeys(("90846", "90847"), _Q.FAMILY_PSYCHOTHERAPY),
    **dict.fromkeys(("90849", "90853"), _Q.GROUP_PSYCHOTHERAPY),
    **dict.fromkeys(("99202", "99203", "99204", "99205"), _Q.OFFICE_VISIT_NEW_PATIENT),
    **dict.fromkeys(("99211", "99212", "99213", "99214", "99215"), _Q.OFFICE_VISIT_RETURNING_PATIENT),
    **dict.fromkeys(("97151", "97152", "97153", "97154", "97155", "97156", "97157", "97158"), _Q.ABA_COVERAGE),
    **dict.fromkeys(("92507", "92508", "92521", "92522", "92523", "92524"), _Q.SPEECH_THERAPY),
    **dict.fromkeys(("97165", "97166", "97167", "97168"), _Q.OCCUPATIONAL_THERAPY),
    **dict.fromkeys(("97161", "97162", "97163", "97164"), _Q.PHYSICAL_THERAPY),
    **dict.fromkeys(("96116", "96132", "96133", "96136", "96137", "96138", "96139"), _Q.NEURO_PSYCH),
}

# CMS place of service code set: the phrase of the vendor's own examples for the three that it has, else CMS's name.
PLACES_OF_SERVICE: dict[str, str] = {
    "01": "pharmacy",
    "02": "telehealth",
    "03": "school",
    "04": "homeless shelter",
    "05": "indian health service free-standing facility",
    "06": "indian health service provider-based facility",
    "07": "tribal 638 free-standing facility",
    "08": "tribal 638 provider-based facility",
    "09": "prison or correctional facility",
    "10": "telehealth",
    "11": "doctors office",
    "12": "home",
    "13": "assisted living facility",
    "14": "group home",
    "15": "mobile unit",
    "16": "temporary lodging",
    "17": "walk-in retail health clinic",
    "18": "place of employment or worksite",
    "19": "off campus outpatient hospital",
    "20": "urgent care facility",
    "21": "inpatient hospital",
    "22": "on campus outpatient hospital",
    "23": "emergency room hospital",
    "24": "ambulatory surgical center",
    "25": "birthing center",
    "26": "military treatment facility",
    "27": "outreach site or street",
    "31": "skilled nursing facility",
    "32": "nursing facility",
    "33": "custodial care facility",
    "34": "hospice",
    "41": "ambulance, land",
    "42": "ambulance, air or water",
    "49": "independent clinic",
    "50": "federally qualified health center",
    "51": "inpatient psychiatric facility",
    "52": "psychiatric facility, partial hospitalization",
    "53": "community mental health center",
    "54": "intermediate care facility for individuals with intellectual disabilities",
    "55": "residential substance abuse treatment facility",
    "56": "psychiatric residential treatment center",
    "57": "non-residential substance abuse treatment facility",
    "58": "non-residential opioid treatment facility",
    "60": "mass immunization center",
    "61": "comprehensive inpatient rehabilitation facility",
    "62": "comprehensive outpatient rehabilitation facility",
    "65": "end-stage renal disease treatment facility",
    "66": "programs of all-inclusive care for the elderly (PACE) center",
    "71": "public health clinic",
    "72": "rural health clinic",
    "81": "independent laboratory",
    "99": "other place of service",
}


class CallState(StrEnum):
    WORKING = "working"
    FINISHED = "finished"
    FAILED = "failed"


# The pages on reading an inquiry and on webhooks; PENDING was seen once in a public note. No page lists them all.
_CALL_STATES: dict[str, CallState] = {
    "PENDING": CallState.WORKING,
    "IN_PROGRESS": CallState.WORKING,
    "SUCCESS": CallState.FINISHED,
}
_FAILURE_WORDS = ("FAIL", "ERROR", "CANCEL")
"""The name of the failed state is not documented: a status with one of these words in it is taken for it."""


def call_state(status: object) -> CallState | None:
    """None for a status that is not known: it stays pending until the deadline."""
    if not isinstance(status, str):
        return None
    if any(word in status.upper() for word in _FAILURE_WORDS):
        return CallState.FAILED
    return _CALL_STATES.get(status.upper())


# Its plan types are the words on insurance cards (`PPO` in the example); ours are X12 EB04.
PLAN_TYPES: dict[str, str] = {
    "PPO": "PR",
    "HMO": "HM",
    "EPO": "EP",
    "POS": "PS",
    "INDEMNITY": "IN",
    "MEDICAID": "MC",
    "COMMERCIAL": "C1",
    "COBRA": "CO",
}

# `results.maximums` of the page on reading an inquiry: <field> is the total, <field>_used what is used up.
MAXIMUMS: dict[str, tuple[Kind, Level]] = {
    "individual_deductible": (Kind.DEDUCTIBLE, Level.INDIVIDUAL),
    "family_deductible": (Kind.DEDUCTIBLE, Level.FAMILY),
    "individual_out_of_pocket_maximum": (Kind.OUT_OF_POCKET_MAX, Level.INDIVIDUAL),
    "family_out_of_pocket_maximum": (Kind.OUT_OF_POCKET_MAX, Level.FAMILY),
}
