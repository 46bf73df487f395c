"""The `results` of a finished Health Harbor inquiry: the payer's answers on the phone.

Source: its "Get Mental Health Inquiry" page. Money and percentages are strings, deductibles come as total and used,
`procedure_codes` is a list of two-element lists. An answer that the representative did not give is an empty string, or null
for a boolean.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from covergate.sandbox.health_harbor_request import InquiryRequest
from covergate.sandbox.sample_plan import IN_NETWORK, plan_dates
from covergate.sandbox.scenarios import Scenario
from covergate.sandbox.world import World

_CODES_OF_QUERY = {
    "OFFICE_VISIT_NEW_PATIENT": "99203",
    "OFFICE_VISIT_RETURNING_PATIENT": "99213",
    "PSYCHOTHERAPY": "90837",
    "FAMILY_PSYCHOTHERAPY": "90847",
    "GROUP_PSYCHOTHERAPY": "90853",
    "ABA_COVERAGE": "97153",
    "SPEECH_THERAPY": "92507",
    "OCCUPATIONAL_THERAPY": "97530",
    "PHYSICAL_THERAPY": "97110",
    "NEURO_PSYCH": "96132",
}
"""The procedure that the caller names to the representative when a query is about a service rather than a code."""

_PROCEDURE_NAMES = {
    "90791": "Psychiatric diagnostic evaluation",
    "90834": "Psychotherapy, 45 minutes",
    "90837": "Psychotherapy, 60 minutes",
    "90847": "Family psychotherapy with patient",
    "90853": "Group psychotherapy",
    "99203": "Office visit, new patient",
    "99213": "Office visit, established patient",
}


def results_of(world: World, inquiry: InquiryRequest, inquiry_id: str, scenario: Scenario) -> dict[str, Any]:
    """The `results` object of a call that has just succeeded."""
    active = scenario is not Scenario.INACTIVE
    return {
        "call_details": [_call(world, inquiry, inquiry_id, active)],
        "plan_information": _plan(world, inquiry, active),
        "maximums": _maximums(active),
        "procedure_codes": _procedures(inquiry, scenario) if active else [],
    }


def _call(world: World, inquiry: InquiryRequest, inquiry_id: str, active: bool) -> dict[str, str]:
    return {
        "representative_name": "Dana",
        "reference_number": f"REF-{inquiry_id[:8].upper()}",
        "call_end_time": datetime.fromtimestamp(world.now(), UTC).replace(tzinfo=None).isoformat(),
        "call_recording_url": f"https://recordings.example/{inquiry_id}.mp3",
        "call_transcript": (
            f"Caller: I am calling about {inquiry.patient_name}, born {inquiry.dob}, member {inquiry.member_id}. "
            f"Dana: The policy is {'active' if active else 'no longer active'}."
        ),
    }


def _plan(world: World, inquiry: InquiryRequest, active: bool) -> dict[str, Any]:
    first_day, last_day = plan_dates(world, ended=not active)
    in_network = inquiry.insurance_in_network if "insurance_in_network" in inquiry.model_fields_set else True
    return {
        "is_active": active,
        "plan_type": "PPO",
        "effective_date": first_day.strftime("%m-%d-%Y"),
        "termination_date": last_day.strftime("%m-%d-%Y"),
        "is_calendar_year_plan": True,
        "is_provider_in_network": in_network if active else None,
        "is_primary_insurance": True,
    }


def _maximums(active: bool) -> dict[str, str]:
    maximums = {
        "individual_deductible": str(IN_NETWORK.deductible.total),
        "individual_deductible_used": str(IN_NETWORK.deductible.used),
        "individual_out_of_pocket_maximum": str(IN_NETWORK.out_of_pocket.total),
        "individual_out_of_pocket_maximum_used": str(IN_NETWORK.out_of_pocket.used),
        "family_deductible": str(IN_NETWORK.family_deductible.total),
        "family_deductible_used": str(IN_NETWORK.family_deductible.used),
        "family_out_of_pocket_maximum": "",
        "family_out_of_pocket_maximum_used": "",
    }
    return maximums if active else dict.fromkeys(maximums, "")


def _procedures(inquiry: InquiryRequest, scenario: Scenario) -> list[list[dict[str, Any]]]:
    codes = [*inquiry.benefits_codes, *(_CODES_OF_QUERY[q] for q in inquiry.benefits_query if q in _CODES_OF_QUERY)]
    with_prior_auth = "CODE_LOOKUP_PRIOR_AUTH" in inquiry.benefits_query
    covered = {
        "is_covered": True,
        "is_prior_auth_required": False if with_prior_auth else None,
        "prior_auth_info": "No prior authorization needed for outpatient visits." if with_prior_auth else "",
        "is_deductible_waived": True,
        "copay_amount": f"{IN_NETWORK.copay}.00",
        "coinsurance_percentage": str(IN_NETWORK.coinsurance_percent),
        "frequency_limitations": "20 visits per calendar year",
        "limitations": "",
    }
    not_covered = {
        "is_covered": False,
        "is_prior_auth_required": None,
        "prior_auth_info": "",
        "is_deductible_waived": None,
        "copay_amount": "",
        "coinsurance_percentage": "",
        "frequency_limitations": "",
        "limitations": "Excluded by the plan.",
    }
    return [
        [
            {"procedure_code": code, "procedure_name": _PROCEDURE_NAMES.get(code, "")},
            dict(not_covered if scenario is Scenario.NOTCOVERED else covered),
        ]
        for code in dict.fromkeys(codes)
    ]
