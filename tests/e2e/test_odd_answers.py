"""Answers that the vendors' documents leave open, from the sandbox's own starts of a member id to the partner."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")


SUBSCRIBER = {
    "first_name": "John",
    "last_name": "Sample",
    "date_of_birth": "1960-01-31",
    "patient_relationship": "child",
    "address": {"line1": "1 Main St", "city": "Oakland", "state": "CA", "zip": "94601"},
}


async def rested(house: House, vendor: str, member_id: str, **changes: Any) -> dict[str, Any]:
    async with house.fast_clock(minutes=2):
        return await house.settled(await house.create(vendor, member_id, **changes))


@pytest.mark.parametrize("start", ["ODDERROR", "ODDSTATUS"])
async def test_a_person_hears_of_a_status_that_nobody_explains(house: House, start: str) -> None:
    verification_id = await house.create("sohar", f"{start}-odd")
    async with house.fast_clock(minutes=90):
        await house.happens(verification_id, "checked")
        statement = "UPDATE work SET submitted_at = submitted_at - interval '1 hour' WHERE verification_id = :id"
        await house.sql(statement, id=verification_id)
        await house.happens(verification_id, "needs_attention")
    seen = await house.read(verification_id)
    assert (seen["status"], seen["waiting_for"]["kind"]) == ("in_progress", "vendor")


async def test_a_failing_status_that_says_nothing_is_warned_of(house: House) -> None:
    seen = await rested(house, "integrex", "ODDSTATUS-odd")
    assert (seen["status"], seen["outcome"]) == ("completed", "unknown")
    assert "unknown_code" in [warning["code"] for warning in seen["result"]["warnings"]]


async def test_a_failing_status_that_says_no_is_a_refusal(house: House) -> None:
    seen = await rested(house, "integrex", "REQUESTREJECTED-odd")
    assert (seen["status"], seen["failure"]["code"], seen["failure"]["vendor_code"]) == (
        "failed",
        "request_rejected",
        "E9",
    )


async def test_a_specialists_copay_is_beside_the_plain_one(house: House) -> None:
    seen = await rested(house, "integrex", "SPECIALISTCOPAY-odd")
    copays = sorted(row["amount"] for row in seen["result"]["benefits"] if row["kind"] == "copay")
    assert (seen["outcome"], copays) == ("eligible", ["30.00", "50.00"])
    assert seen["result"]["summary"]["unknown"]["copay"] == "30.00"
    # Psychotherapy is a specialist's visit.
    assert seen["result"]["summary"]["service"]["copay"] == "50.00"


async def test_a_copay_of_no_network_is_in_the_summary(house: House) -> None:
    seen = await rested(house, "integrex", "COPAYALONE-odd")
    summary = seen["result"]["summary"]
    assert (summary["in"], summary["out"], summary["unknown"]["copay"]) == (None, None, "30.00")
    assert (summary["service"]["network"], summary["service"]["copay"]) == ("unknown", "30.00")


async def test_amounts_of_another_service_are_not_those_of_the_asked_one(house: House) -> None:
    seen = await rested(house, "integrex", "OTHERBENEFIT-odd")
    copays = [row for row in seen["result"]["benefits"] if row["kind"] == "copay"]
    assert [(row["service_type_codes"], row["amount"]) for row in copays] == [(["35"], "30.00")]
    assert seen["result"]["summary"]["service"]["copay"] is None
    assert seen["result"]["summary"]["unknown"] is None


async def test_a_benefit_type_that_is_no_service_type_is_warned_of(house: House) -> None:
    seen = await rested(house, "integrex", "ODDBENEFIT-odd")
    assert seen["result"]["summary"]["unknown"]["copay"] == "30.00"
    (warning,) = [one for one in seen["result"]["warnings"] if one["code"] == "unknown_code"]
    assert "benefitTypeCode Q9" in warning["message"]


async def test_psychotherapy_is_carved_out_with_mental_health(house: House) -> None:
    service = {"procedure_codes": ["90837"], "place_of_service_code": "11", "specialty": "PSY"}
    seen = await rested(house, "vsee", "CARVEDOUT-odd", service=service)
    assert (seen["outcome"], seen["outcome_reason"]) == ("unknown", "carved_out")
    assert seen["result"]["bill_to"]["payer"]["name"] == "SAMPLE BEHAVIORAL HEALTH"
    assert seen["result"]["bill_to"]["payer"]["phone"] == "8005550102"
    assert "bill_other_payer" in [step["code"] for step in seen["next_steps"]]


async def test_of_twins_that_cannot_be_told_apart_neither_is_answered(house: House) -> None:
    seen = await rested(house, "vsee", "TWINS-odd", subscriber=SUBSCRIBER)
    assert (seen["status"], seen["failure"]["code"]) == ("failed", "member_ambiguous")


async def test_of_two_dependents_the_patient_is_answered(house: House) -> None:
    seen = await rested(house, "vsee", "SIBLINGS-odd", subscriber=SUBSCRIBER)
    assert (seen["status"], seen["outcome"]) == ("completed", "eligible")
    assert seen["result"]["patient"]["first_name"].title() == "Jane"


async def test_a_rate_limit_in_words_alone_is_waited_out(house: House) -> None:
    seen = await rested(house, "healthie", "RATELIMITINWORDS-odd")
    assert (seen["status"], seen["outcome"]) == ("completed", "eligible")
    assert (await house.submissions_by_member())["RATELIMITINWORDS-odd"] == 1
    raw = (await house.client.get(f"/v1/verifications/{seen['id']}/raw")).json()
    errors = [exchange["body"]["errors"] for exchange in raw["exchanges"] if "errors" in exchange["body"]]
    assert errors == [[{"message": "Too many requests. Please try again later."}]]


async def test_a_number_that_is_not_accepted_is_the_patients_to_mend(house: House) -> None:
    seen = await rested(house, "health_harbor", "NUMBERREFUSED-odd")
    assert (seen["failure"]["code"], seen["failure"]["fix_by"]) == ("member_id_invalid", "patient")
    assert [step["code"] for step in seen["next_steps"]] == ["correct_member_id"]
