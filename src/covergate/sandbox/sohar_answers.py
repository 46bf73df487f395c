"""The answers of the simulated Sohar: the "Get Verification" v2 document for each scenario.

Source: "Get Verification" v2 (docs.soharhealth.com). Invariant: every key of that document is always present; a value
that is not known yet, or not stated, is null or empty. Shares are fractions, money numbers of dollars, dates MM/DD/YYYY.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from covergate.sandbox import sample_plan
from covergate.sandbox.sample_payers import payer_name
from covergate.sandbox.scenarios import Scenario
from covergate.sandbox.world import World

# Statuses and reasons: verification guide, "Statuses". Every scenario that is not here ends complete.eligible.
_FINAL: dict[Scenario, tuple[str, str | None]] = {
    Scenario.INACTIVE: ("complete.ineligible", "INACTIVE"),
    Scenario.NOTCOVERED: ("complete.ineligible", "NON_COVERED"),
    Scenario.BADMEMBER: ("error.member.id", None),
    Scenario.BADNAME: ("error.member.name", None),
    Scenario.BADDOB: ("error.member.dob", None),
    Scenario.PAYERDOWN: ("error.payer", None),
    Scenario.BADNPI: ("error.payer.npi", None),
}


# By the start of the member id, here only: a refusal that comes late, and statuses that no document lists.
LATE_REFUSAL = "LATEPAYERDOWN"
_OWN: dict[str, str] = {
    LATE_REFUSAL: "error.payer",
    "ODDERROR": "error.system.limit",
    "ODDSTATUS": "complete.partially",
}


def final_status(scenario: Scenario, member_id: str) -> str:
    """The status that a verification of this scenario, or of this start of a member id, ends with."""
    own = next((status for start, status in _OWN.items() if member_id.startswith(start)), None)
    return own or _FINAL.get(scenario, ("complete.eligible", None))[0]


def parse_date(text: str) -> date:
    """MM/DD/YYYY; ValueError if there is no such day."""
    month, day, year = text.split("/")
    return date(int(year), int(month), int(day))


def verification_document(
    world: World,
    request: Mapping[str, Any],
    *,
    verification_id: str,
    created: datetime,
    status: str,
    scenario: Scenario,
) -> dict[str, object]:
    """The GET body for a checked create request in its present `status`."""
    complete = status.startswith("complete.")
    return {
        "verificationId": verification_id,
        "id": request.get("id"),
        "created": created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "status": status,
        "statusReason": _FINAL.get(scenario, (status, None))[1] if complete else None,
        "placeOfServiceCode": request["placeOfServiceCode"],
        "specialtyCode": request["specialtyCode"],
        "benefits": _benefits() if status == "complete.eligible" else [],
        "relatedEntities": _related_entities() if status == "complete.eligible" else [],
        "patient": _patient(request, complete),
        "subscriber": _subscriber(request),
        "plan": _plan(world, ended=scenario is Scenario.INACTIVE) if complete else None,
        "payer": {"id": request["payerId"], "name": payer_name(request["payerId"])},
        "group": {"number": sample_plan.GROUP_NUMBER, "name": sample_plan.GROUP_NAME} if complete else None,
    }


def _benefits() -> list[dict[str, object]]:
    return [
        {
            "networkStatus": network_status,
            "tier": None,
            "accuracy": accuracy,
            "copay": network.copay,
            "coinsurance": network.coinsurance_percent / 100,
            "deductible": {
                "total": network.deductible.total,
                "remaining": network.deductible.remaining,
                "coverageLevelCode": "IND",
            },
            "outOfPocket": {
                "total": network.out_of_pocket.total,
                "remaining": network.out_of_pocket.remaining,
            },
        }
        for network_status, accuracy, network in (
            ("inn", 0.84, sample_plan.IN_NETWORK),
            ("oon", 0.71, sample_plan.OUT_OF_NETWORK),
        )
    ]


def _related_entities() -> list[dict[str, object]]:
    return [
        {
            "id": "SMPL1",
            "name": "Sample Medicare",
            "memberId": "1SA0MP1LE00",
            "entityIdentifierCode": "PRP",
            "entityQualifier": "PART_A",
        }
    ]


def _patient(request: Mapping[str, Any], complete: bool) -> dict[str, object]:
    patient = request["patient"]
    subscriber = request.get("subscriber")
    relationship = sample_plan.relationship_code(
        parse_date(patient["dateOfBirth"]),
        parse_date(subscriber["dateOfBirth"]) if subscriber else None,
    )
    return {
        "firstName": patient["firstName"],
        "lastName": patient["lastName"],
        "dateOfBirth": patient["dateOfBirth"],
        "memberId": patient["memberId"],
        "gender": None,
        "subscriberRelationshipCode": relationship if complete else None,
        "address": {
            "address1": None,
            "address2": None,
            "city": None,
            "state": patient["state"],
            "zipCode": None,
        },
    }


def _subscriber(request: Mapping[str, Any]) -> dict[str, object] | None:
    subscriber = request.get("subscriber")
    if subscriber is None:
        return None
    return {
        "firstName": subscriber["firstName"],
        "lastName": subscriber["lastName"],
        "dateOfBirth": subscriber["dateOfBirth"],
        "memberId": request["patient"]["memberId"],
    }


def _plan(world: World, *, ended: bool) -> dict[str, object]:
    starts_on, ends_on = sample_plan.plan_dates(world, ended=ended)
    return {
        "name": sample_plan.PLAN_NAME,
        "number": sample_plan.PLAN_NUMBER,
        "insuranceTypeCode": sample_plan.INSURANCE_TYPE[0],
        "startDate": f"{starts_on:%m/%d/%Y}",
        "endDate": f"{ends_on:%m/%d/%Y}",
        "networkId": "SN-1",
    }
