"""Claim.MD's eligibility JSON, the string in Healthie's `EligibilityCheck.response`.

Source: Claim.MD's public field names (docs.claim.md and clients that read it); Healthie itself documents only "a JSON
object". Every value is a string, one benefit is an object and several are a list, and a refusal is an `error`, spelt
`error_mesg`, that carries the payer's AAA code. Errors come as an object or as a list, so the sandbox sends both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import orjson

from covergate.sandbox.sample_plan import IN_NETWORK, INSURANCE_TYPE, OUT_OF_NETWORK, PLAN_NUMBER, YearlyLimit
from covergate.sandbox.scenarios import Scenario

_Json = dict[str, Any]

UNSUPPORTED_PAYER = "NOELG"
"""The payer id of a plan that Claim.MD cannot ask in real time: error 410."""

_ERRORS = {
    Scenario.BADMEMBER: ("72", "Invalid/Missing Subscriber/Insured ID"),
    Scenario.BADNAME: ("73", "Invalid/Missing Subscriber/Insured Name"),
    Scenario.BADDOB: ("71", "Patient Birth Date Does Not Match That for the Patient on the Database"),
    Scenario.PAYERDOWN: ("42", "Unable to Respond at Current Time"),
    Scenario.BADNPI: ("51", "Provider Not on File"),
    Scenario.BADPAYER: ("79", "Invalid Participant Identification"),
}
_DEPENDENT_ERRORS = {Scenario.BADNAME: ("65", "Invalid/Missing Patient Name")}
_ERRORS_AS_A_LIST = frozenset({Scenario.BADNAME, Scenario.PAYERDOWN})

# X12 names that go with the codes of the rows below.
_COVERAGE_NAMES = {
    "1": "Active Coverage",
    "6": "Inactive",
    "A": "Co-Insurance",
    "B": "Co-Payment",
    "C": "Deductible",
    "F": "Limitations",
    "G": "Out of Pocket (Stop Loss)",
    "I": "Non-Covered",
}
_SERVICE_NAMES = {
    "30": "Health Benefit Plan Coverage",
    "98": "Professional (Physician) Visit - Office",
    "A4": "Psychiatric",
    "A6": "Psychotherapy",
    "A8": "Psychiatric - Outpatient",
    "MH": "Mental Health",
}
_LEVEL_NAMES = {"IND": "Individual", "FAM": "Family"}
_PERIOD_NAMES = {"23": "Calendar Year", "27": "Visit", "29": "Remaining"}


@dataclass(frozen=True, slots=True)
class Insured:
    first_name: str
    last_name: str
    born: str
    """`YYYY-MM-DD`."""
    gender: str
    """`M`, `F` or nothing."""


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """The data that Healthie sends to Claim.MD for a policy."""

    check_id: str
    payer_id: str
    insured: Insured
    is_dependent: bool
    member_id: str
    group_number: str
    service_codes: Sequence[str]
    scenario: Scenario
    at: datetime
    plan_begins: date
    plan_ends: date


def error_of(request: CheckRequest) -> tuple[str, str] | None:
    """Claim.MD's code and message if it refuses; None if it answers."""
    if request.payer_id == UNSUPPORTED_PAYER:
        return "410", "Payer does not support real-time eligibility"
    if request.is_dependent and request.scenario in _DEPENDENT_ERRORS:
        return _DEPENDENT_ERRORS[request.scenario]
    return _ERRORS.get(request.scenario)


def response(request: CheckRequest) -> str:
    """The JSON text; cut in the middle for the scenario of a broken answer."""
    text = orjson.dumps(_document(request)).decode()
    return text[: len(text) // 2] if request.scenario is Scenario.BROKENJSON else text


def _document(request: CheckRequest) -> _Json:
    error = error_of(request)
    if error is not None:
        described = {"error_code": error[0], "error_mesg": error[1]}
        return {"error": [described] if request.scenario in _ERRORS_AS_A_LIST else described}
    rows = _rows(request)
    insured = request.insured
    elig = {
        "eligid": request.check_id,
        "elig_result_date": f"{request.at:%Y%m%d}",
        "elig_result_time": f"{request.at:%H%M%S}",
        "ins_number": request.member_id,
        "ins_name_f": insured.first_name.upper(),
        "ins_name_m": "",
        "ins_name_l": insured.last_name.upper(),
        "ins_dob": insured.born.replace("-", ""),
        "ins_sex": insured.gender,
        "ins_addr_1": "",
        "ins_city": "",
        "ins_state": "",
        "ins_zip": "",
        "group_number": request.group_number,
        "plan_number": PLAN_NUMBER,
        "plan_begin_date": f"{request.plan_begins:%Y%m%d}",
        "benefit": rows[0] if len(rows) == 1 else rows,
    }
    return {"result": {"elig": elig}}


def _rows(request: CheckRequest) -> list[_Json]:
    inside, outside = IN_NETWORK, OUT_OF_NETWORK
    if request.scenario is Scenario.INACTIVE:
        return [_row("6", "30", notes=f"COVERAGE ENDED {request.plan_ends:%m/%d/%Y}")]
    codes = [code for code in dict.fromkeys(request.service_codes) if code != "30"]
    rows = [_row("1", "30")]
    if request.scenario is Scenario.NOTCOVERED:
        return rows + [_row("I", code, notes="EXCLUDED FROM THIS PLAN") for code in codes or ["MH"]]
    rows += [_row("1", code) for code in codes]
    for code in codes or ["30"]:
        rows += [
            _row("B", code, level="IND", period="27", amount=f"{inside.copay}", network="Y"),
            _row("A", code, percent=f"{inside.coinsurance_percent}", network="Y"),
            _row("A", code, percent=f"{outside.coinsurance_percent}", network="N"),
        ]
    return [
        *rows,
        *_limits("C", "IND", inside.deductible, "Y"),
        *_limits("C", "FAM", inside.family_deductible, "Y"),
        *_limits("C", "IND", outside.deductible, "N"),
        *_limits("G", "IND", inside.out_of_pocket, "Y"),
        *_limits("G", "FAM", inside.family_out_of_pocket, "Y"),
        _row("F", codes[0] if codes else "30", notes="LIMITED TO 20 OUTPATIENT VISITS PER CALENDAR YEAR"),
    ]


def _limits(kind: str, level: str, limit: YearlyLimit, network: str) -> list[_Json]:
    """A deductible or out-of-pocket maximum: the calendar year's total and what remains of it."""
    return [
        _row(kind, "30", level=level, period="23", amount=f"{limit.total}", network=network),
        _row(kind, "30", level=level, period="29", amount=f"{limit.remaining}", network=network),
    ]


def _row(
    kind: str,
    service: str,
    *,
    level: str = "",
    period: str = "",
    amount: str = "",
    percent: str = "",
    network: str = "",
    notes: str = "",
) -> _Json:
    is_plan = kind in ("1", "6") and service == "30"
    insurance_type, insurance_name = INSURANCE_TYPE if is_plan else ("", "")
    return {
        "benefit_coverage_code": kind,
        "benefit_coverage_description": _COVERAGE_NAMES[kind],
        "benefit_code": service,
        "benefit_description": _SERVICE_NAMES.get(service, ""),
        "insurance_type_code": insurance_type,
        "insurance_type_description": insurance_name,
        "benefit_level_code": level,
        "benefit_level_description": _LEVEL_NAMES.get(level, ""),
        "benefit_period_code": period,
        "benefit_period_description": _PERIOD_NAMES.get(period, ""),
        "benefit_amount": amount,
        "benefit_percent": percent,
        "inplan_network": network,
        "policy_number": "",
        "benefit_notes": notes,
        "date_of_last_update": "",
        "entity_name": [],
        "entity_id": [],
        "entity_addr_1": [],
        "entity_phone": [],
    }
