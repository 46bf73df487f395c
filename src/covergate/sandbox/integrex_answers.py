"""The answers of the simulated Integrex: the "[GET] Enhanced Eligibility Response" for each scenario.

Source: "Integrex Health Enhanced Eligibility V2" (PDF). Invariant: every key of that page is always there, spelt as the
page spells it (`ded($) IndivInNetwork` with its blank, `sub.MemberID` with its dot), and every value is a string; ""
if Integrex does not know it. The page gives no code's values: a status is the X12 code that its words suggest, and
`requestStatusCode` of a good answer stays empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime

from covergate.sandbox import sample_plan
from covergate.sandbox.sample_payers import payer_name
from covergate.sandbox.scenarios import Scenario
from covergate.sandbox.world import World

# X12 271 AAA03 codes with their names.
_REFUSALS: dict[Scenario, tuple[str, str]] = {
    Scenario.BADMEMBER: ("72", "Invalid/Missing Subscriber/Insured ID"),
    Scenario.BADNAME: ("73", "Invalid/Missing Subscriber/Insured Name"),
    Scenario.BADDOB: ("71", "Patient Birth Date Does Not Match That for the Patient on the Database"),
    Scenario.PAYERDOWN: ("42", "Unable to Respond at Current Time"),
    Scenario.BADNPI: ("51", "Provider Not on File"),
    Scenario.BADPAYER: ("79", "Invalid Participant Identification"),
}

# By the start of the member id, here only: failing statuses that are no AAA03 codes.
_OTHER_REFUSALS: dict[str, tuple[str, str]] = {
    "ODDSTATUS": ("E1", "See payer"),
    "REQUESTREJECTED": ("E9", "Transaction rejected"),
}

# By the start of the member id, here only: what is paid otherwise than usual.
_SPECIALIST_COPAY = "SPECIALISTCOPAY"
_COPAY_ALONE = "COPAYALONE"

# By the start of the member id, here only: the benefit type is another service's, or no service type at all.
_BENEFIT_TYPES: dict[str, tuple[str, str]] = {
    "OTHERBENEFIT": ("35", "Dental Care"),
    "ODDBENEFIT": ("Q9", "Standard Benefit"),
}

# X12 271 EB01 codes with their names.
_ACTIVE = ("1", "Active Coverage")
_INACTIVE = ("6", "Inactive")

# X12 271 INS02 codes with their names.
_RELATIONSHIPS = {"18": "Self", "01": "Spouse", "19": "Child"}

# X12 271 EB03 codes with their names, as far as "2 numerical digits" reach and behavioral health asks.
_SERVICE_TYPES = {
    "30": "Health Benefit Plan Coverage",
    "33": "Chiropractic",
    "35": "Dental Care",
    "47": "Hospital",
    "50": "Hospital - Outpatient",
    "86": "Emergency Services",
    "88": "Pharmacy",
    "98": "Professional (Physician) Visit - Office",
}


def answer_document(world: World, request: Mapping[str, str], ticket_id: str, scenario: Scenario) -> dict[str, str]:
    """The 200 body for a checked POST body."""
    member_id = request["memberId"]
    refusal = _REFUSALS.get(scenario) or next(
        (status for start, status in _OTHER_REFUSALS.items() if member_id.startswith(start)), None
    )
    return {
        "internalAccountNumber1": request.get("internalAccountNumber1", ""),
        "internalAccountNumber2": request.get("internalAccountNumber2", ""),
        **_people(request, answered=refusal is None),
        "responseDate": f"{datetime.fromtimestamp(world.now(), UTC):%Y-%m-%d}",
        "beginDOS": request["beginDos"],
        "requestStatusCode": refusal[0] if refusal else "",
        "requestStatus": refusal[1] if refusal else "Success",
        **_coverage(world, request, scenario, answered=refusal is None),
        **_amounts(member_id, answered=refusal is None and scenario is not Scenario.INACTIVE),
        **_payer(request),
        **_primary_care(answered=refusal is None),
        "patientAddress": "",
        "subscriberAddress": "",
        "integrexId": f"IX{ticket_id[-10:]}",
    }


def _people(request: Mapping[str, str], *, answered: bool) -> dict[str, str]:
    """Patient and subscriber; without a subscriber in the request the patient is the subscriber."""
    is_dependent = bool(request.get("subscriberDob"))
    subscriber = "subscriber" if is_dependent else "patient"
    relationship = ""
    if answered:
        relationship = sample_plan.relationship_code(
            date.fromisoformat(request["patientDob"]),
            date.fromisoformat(request["subscriberDob"]) if is_dependent else None,
        )
    return {
        "patientLastName": request["patientLastName"],
        "patientFirstName": request["patientFirstName"],
        "patientDOB": request["patientDob"],
        "patientGender": request.get("patientGender", ""),
        "sub.MemberID": request["memberId"],
        "relationshipCode": relationship,
        "relationshipDesc": _RELATIONSHIPS.get(relationship, ""),
        "subLastName": request.get(f"{subscriber}LastName", ""),
        "subFirstName": request.get(f"{subscriber}FirstName", ""),
        "subscriberDOB": request.get(f"{subscriber}Dob", ""),
        "subscriberGender": request.get(f"{subscriber}Gender", ""),
    }


def _coverage(world: World, request: Mapping[str, str], scenario: Scenario, *, answered: bool) -> dict[str, str]:
    starts_on, ends_on = sample_plan.plan_dates(world, ended=scenario is Scenario.INACTIVE)
    status = _INACTIVE if scenario is Scenario.INACTIVE else _ACTIVE
    service_type = request.get("serviceType") or "30"
    benefit_type = next(
        (other for start, other in _BENEFIT_TYPES.items() if request["memberId"].startswith(start)),
        (service_type, _SERVICE_TYPES.get(service_type, "")),
    )
    fields = {
        "coverageStatusCode": status[0],
        "coverageStatusDesc": status[1],
        "coverageStartDate": starts_on.isoformat(),
        "coverageEndDate": ends_on.isoformat(),
        "groupNumber": sample_plan.GROUP_NUMBER,
        "planNumber": sample_plan.PLAN_NUMBER,
        "planTypeCode": sample_plan.INSURANCE_TYPE[0],
        "planType": sample_plan.INSURANCE_TYPE[1],
        "planTypeDescription": sample_plan.PLAN_NAME,
        "coverageLevelCode": "IND",
        "coverageLevelDescription": "Individual",
        "benefitTypeCode": benefit_type[0],
        "benefitTypeDesc": benefit_type[1],
    }
    return fields if answered else dict.fromkeys(fields, "")


def _amounts(member_id: str, *, answered: bool) -> dict[str, str]:
    inn, out = sample_plan.IN_NETWORK, sample_plan.OUT_OF_NETWORK
    fields = {
        "oop($)IndivInNetwork": _money(inn.out_of_pocket.total),
        "oop($)IndivInNetworkRemaining": _money(inn.out_of_pocket.remaining),
        "oop($)FamilyInNetwork": _money(inn.family_out_of_pocket.total),
        "oop($)FamilyInNetworkRemaining": _money(inn.family_out_of_pocket.remaining),
        "oop($)IndivOutOfNetwork": _money(out.out_of_pocket.total),
        "oop($)IndivOutOfNetworkRemaining": _money(out.out_of_pocket.remaining),
        "oop($)FamilyOutOfNetwork": _money(out.family_out_of_pocket.total),
        "oop($) FamilyOutOfNetworkRemaining": _money(out.family_out_of_pocket.remaining),
        "ded($) IndivInNetwork": _money(inn.deductible.total),
        "ded($) IndivInNetworkRemaining": _money(inn.deductible.remaining),
        "ded($) FamilyInNetwork": _money(inn.family_deductible.total),
        "ded($) FamilyInNetworkRemaining": _money(inn.family_deductible.remaining),
        "ded($) IndivOutOfNetwork": _money(out.deductible.total),
        "ded($) IndivOutOfNetworkRemaining": _money(out.deductible.remaining),
        "ded($) FamilyOutOfNetwork": _money(out.family_deductible.total),
        "ded($) FamilyOutOfNetworkRemaining": _money(out.family_deductible.remaining),
        "coins(%) InNetwork": str(inn.coinsurance_percent),
        "coins(%) OutOfNetwork": str(out.coinsurance_percent),
        "copay($)": _money(inn.copay),
        "copay($) Specialist": "50.00" if member_id.startswith(_SPECIALIST_COPAY) else "",
    }
    if member_id.startswith(_COPAY_ALONE):
        fields = {name: value if name == "copay($)" else "" for name, value in fields.items()}
    return fields if answered else dict.fromkeys(fields, "")


def _payer(request: Mapping[str, str]) -> dict[str, str]:
    payer_id = request.get("payerId", "")
    return {
        "payerID1": payer_id,
        "payerName1": payer_name(payer_id) or request.get("payerName", ""),
        "payerTPA": "False",
        "payerID2": "",
        "payerName2": "",
        "payerPhone": "8005550100",
        "payerAddress": "1 Sample Plaza, Hartford, CT 06101",
        "payerFax": "",
        "payerWebsite": "https://payer.example",
        "altName": "",
        "altCategory": "",
        "altType": "",
        "altAddress": "",
        "altPhone": "",
    }


def _primary_care(*, answered: bool) -> dict[str, str]:
    fields = {
        "primaryCareFacility": "",
        "pcpLastName": "Sample",
        "pcpFirstName": "Pat",
        "pcpNPI": "1234567893",
        "pcpAddress": "2 Sample Street, Oakland, CA 94601",
        "pcpPhone": "5105550100",
        "pcpFax": "",
    }
    return fields if answered else dict.fromkeys(fields, "")


def _money(dollars: int | None) -> str:
    return "" if dollars is None else f"{dollars}.00"
