"""The simulated Health Harbor over real HTTP: strict as its document, slow as a phone call, signed as documented."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import httpx
import pytest

from tests.support.sandboxes import Sandbox
from tests.support.waiting import eventually

SECRET = "sandbox"
BATCH = "/health_harbor/api/v0/mental_health/batch_inquiries"
INQUIRIES = "/health_harbor/api/v0/mental_health/inquiries"
SUBSCRIPTION = "/health_harbor/api/v0/subscription/"
BASIC = httpx.BasicAuth("sandbox", SECRET)


def inquiry(member_id: str = "ELIGIBLE1", **fields: Any) -> dict[str, Any]:
    return {
        "type": "BENEFITS",
        "desired_completion_date": "11-24-2026",
        "patient_name": "Jane Sample",
        "dob": "09-20-1990",
        "member_id": member_id,
        "tax_id": "123456789",
        "external_id": f"att_{member_id}",
        "insurance": "Aetna",
        "insurance_payor_id": "60054",
        "benefits_query": ["DEDUCTIBLES_AND_MAXIMUMS", "CODE_LOOKUP_BENEFITS"],
        "benefits_codes": ["90837"],
        **fields,
    }


async def create(sandbox: Sandbox, *rows: dict[str, Any]) -> list[str]:
    reply = await sandbox.http.post(BATCH, json=list(rows), auth=BASIC)
    assert reply.status_code == 200, reply.text
    assert all(set(row) == {"success", "inquiry_id"} for row in reply.json())
    return [row["inquiry_id"] for row in reply.json()]


async def read(sandbox: Sandbox, inquiry_id: str) -> dict[str, Any]:
    reply = await sandbox.http.get(f"{INQUIRIES}/{inquiry_id}", auth=BASIC)
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


async def test_the_rows_of_a_reply_may_come_in_another_order(sandbox: Sandbox) -> None:
    ids = await create(sandbox, inquiry("SHUFFLED1"), inquiry("SHUFFLED2"))
    echoes = [(await read(sandbox, inquiry_id))["request"]["member_id"] for inquiry_id in ids]
    assert echoes == ["SHUFFLED2", "SHUFFLED1"]


async def finished(sandbox: Sandbox, inquiry_id: str) -> dict[str, Any]:
    for _ in range(1000):
        body = await read(sandbox, inquiry_id)
        if body["status"] not in ("PENDING", "IN_PROGRESS"):
            return body
        assert body["results"] is None
    raise AssertionError("the call never ended")


async def test_a_token_and_basic_both_open_the_account(sandbox: Sandbox) -> None:
    form = {"username": (None, "sandbox"), "password": (None, SECRET)}
    reply = await sandbox.http.post("/health_harbor/api/v0/auth/token", files=form)
    assert reply.status_code == 200
    assert set(reply.json()) == {"access_token", "token_type"} and reply.json()["token_type"] == "bearer"
    bearer = {"Authorization": f"Bearer {reply.json()['access_token']}"}

    assert (await sandbox.http.get(INQUIRIES, headers=bearer)).json() == []
    assert (await sandbox.http.get(INQUIRIES, auth=BASIC)).json() == []


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic c2FuZGJveDp3cm9uZw=="}]
)
async def test_bad_credentials_are_401(sandbox: Sandbox, headers: dict[str, str]) -> None:
    reply = await sandbox.http.post(BATCH, json=[inquiry()], headers=headers)
    assert reply.status_code == 401 and isinstance(reply.json()["detail"], str)
    assert sandbox.world.submissions == []


async def test_a_wrong_password_and_a_form_that_is_not_multipart_give_no_token(sandbox: Sandbox) -> None:
    url = "/health_harbor/api/v0/auth/token"
    wrong = await sandbox.http.post(url, files={"username": (None, "sandbox"), "password": (None, "x")})
    assert wrong.status_code == 401
    assert (await sandbox.http.post(url, data={"username": "sandbox", "password": SECRET})).status_code == 422
    missing = await sandbox.http.post(url, files={"username": (None, "sandbox")})
    assert [error["loc"] for error in missing.json()["detail"]] == [["body", "password"]]


async def test_an_inquiry_goes_through_the_calls_states_to_its_results(sandbox: Sandbox) -> None:
    [inquiry_id] = await create(sandbox, inquiry(insurance_in_network=False))
    assert (await read(sandbox, inquiry_id))["status"] in ("PENDING", "IN_PROGRESS")

    body = await finished(sandbox, inquiry_id)

    assert body["status"] == "SUCCESS"
    assert body["request"] == inquiry(insurance_in_network=False)
    assert body["results"]["plan_information"]["is_active"] is True
    assert body["results"]["plan_information"]["is_provider_in_network"] is False
    assert (
        body["results"]["maximums"]
        | {
            "individual_deductible": "1000",
            "individual_deductible_used": "750",
            "individual_out_of_pocket_maximum": "5000",
            "individual_out_of_pocket_maximum_used": "1000",
            "family_out_of_pocket_maximum": "",
        }
        == (body["results"]["maximums"])
    )
    [[code, benefits]] = body["results"]["procedure_codes"]
    assert code["procedure_code"] == "90837"
    assert benefits["is_covered"] is True
    assert (benefits["copay_amount"], benefits["coinsurance_percentage"]) == ("30.00", "10")
    assert body["results"]["call_details"][0]["reference_number"].startswith("REF-")


async def test_codes_of_queries_are_answered_beside_the_asked_codes(sandbox: Sandbox) -> None:
    queries = ["PSYCHOTHERAPY", "CODE_LOOKUP_PRIOR_AUTH"]
    [inquiry_id] = await create(sandbox, inquiry(benefits_query=queries, benefits_codes=["90834"]))
    rows = (await finished(sandbox, inquiry_id))["results"]["procedure_codes"]
    assert [row[0]["procedure_code"] for row in rows] == ["90834", "90837"]
    assert rows[0][1]["is_prior_auth_required"] is False


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"type": "ELIGIBILITY"}, "type"),
        ({"desired_completion_date": "2026-11-24"}, "desired_completion_date"),
        ({"dob": "9-20-1990"}, "dob"),
        ({"dob": "13-20-1990"}, "dob"),
        ({"patient_name": ""}, "patient_name"),
        ({"member_id": 12345}, "member_id"),
        ({"tax_id": "12-3456789"}, "tax_id"),
        ({"billing_npi": "123"}, "billing_npi"),
        ({"rendering_npi": None}, "rendering_npi"),
        ({"insurance_in_network": "yes"}, "insurance_in_network"),
        ({"benefits_query": "PSYCHOTHERAPY"}, "benefits_query"),
        ({"benefits_query": ["MAXIMUMS"]}, "benefits_query"),
        ({"benefits_codes": []}, "benefits_codes"),
        ({"benefits_query": []}, "benefits_query"),
        ({"insurance": "", "insurance_payor_id": ""}, "insurance"),
        ({"billed_amount": 1.234}, "billed_amount"),
    ],
)
async def test_a_row_that_breaks_the_document_is_422_at_its_index(
    sandbox: Sandbox, changes: dict[str, Any], field: str
) -> None:
    reply = await sandbox.http.post(BATCH, json=[inquiry(), inquiry() | changes], auth=BASIC)
    assert reply.status_code == 422
    [error] = reply.json()["detail"]
    assert error["loc"][:3] == ["body", 1, field]
    assert set(error) == {"loc", "msg", "type"}
    assert sandbox.world.submissions == []
    assert (await sandbox.http.get(INQUIRIES, auth=BASIC)).json() == []


async def test_all_missing_fields_of_all_rows_are_named(sandbox: Sandbox) -> None:
    reply = await sandbox.http.post(BATCH, json=[{"type": "BENEFITS"}, inquiry(), {}], auth=BASIC)
    required = ["desired_completion_date", "patient_name", "dob", "member_id", "tax_id"]
    locs = [tuple(error["loc"]) for error in reply.json()["detail"]]
    assert locs == [("body", 0, name) for name in required] + [("body", 2, name) for name in ("type", *required)]


async def test_a_call_script_stands_in_for_queries(sandbox: Sandbox) -> None:
    await create(sandbox, inquiry(benefits_query=[], benefits_codes=[], call_script_id="script-1"))


async def test_one_inquiry_is_an_object_and_its_errors_have_no_index(sandbox: Sandbox) -> None:
    reply = await sandbox.http.post(INQUIRIES, json=inquiry(), auth=BASIC)
    assert reply.json()["success"] is True
    broken = await sandbox.http.post(INQUIRIES, json=inquiry(dob="x"), auth=BASIC)
    assert broken.json()["detail"][0]["loc"] == ["body", "dob"]


async def test_the_list_is_found_by_external_id_newest_first(sandbox: Sandbox) -> None:
    first, second, _ = await create(
        sandbox,
        inquiry(external_id="att_1"),
        inquiry(external_id="att_1"),
        inquiry(external_id="att_2"),
    )
    found = await sandbox.http.get(INQUIRIES, params={"external_id": "att_1"}, auth=BASIC)
    assert [row["id"] for row in found.json()] == [second, first]
    limited = await sandbox.http.get(INQUIRIES, params={"external_id": "att_1", "limit": 1}, auth=BASIC)
    assert len(limited.json()) == 1
    assert (await sandbox.http.get(INQUIRIES, params={"limit": 0}, auth=BASIC)).status_code == 422
    assert (await sandbox.http.get(f"{INQUIRIES}/nobody", auth=BASIC)).status_code == 404


async def test_each_row_is_recorded_once_with_its_echo(sandbox: Sandbox) -> None:
    ids = await create(sandbox, inquiry(external_id="att_1"), inquiry("SLOW1", external_id="att_2"))
    seen = [(row.vendor, row.echo, row.member_id, row.ref) for row in sandbox.world.submissions]
    assert seen == [("health_harbor", "att_1", "ELIGIBLE1", ids[0]), ("health_harbor", "att_2", "SLOW1", ids[1])]


async def test_events_are_signed_arrays_for_begun_in_progress_and_finished(sandbox: Sandbox) -> None:
    ids = await create(sandbox, *(inquiry(f"ELIGIBLE{n}") for n in range(30)))
    await eventually(lambda: len(sandbox.gateway.events) == 6)
    key = hashlib.sha256(f"{SECRET}:health_harbor".encode()).hexdigest()
    statuses: dict[str, set[str]] = {}
    for event in sandbox.gateway.events:
        expected = hmac.new(key.encode(), event.body, "sha256").hexdigest()
        assert event.headers["x-healthharbor-signature"] == expected
        message = json.loads(event.body)
        assert set(message) == {"subscription_id", "message_hash", "inquiries"}
        assert len(message["inquiries"]) in (25, 5)
        for row in message["inquiries"]:
            statuses.setdefault(row["id"], set()).add(row["status"])
    assert statuses == {inquiry_id: {"IN_PROGRESS", "SUCCESS"} for inquiry_id in ids}


async def test_a_duplicate_event_has_the_same_hash_and_noevent_has_none(sandbox: Sandbox) -> None:
    ids = await create(sandbox, inquiry("DUPLICATEEVENT1"), inquiry("NOEVENT1"))
    await eventually(lambda: len(sandbox.gateway.events) == 6)
    hashes = [json.loads(event.body)["message_hash"] for event in sandbox.gateway.events]
    assert sorted(hashes.count(value) for value in set(hashes)) == [2, 2, 2]
    assert (await finished(sandbox, ids[1]))["status"] == "SUCCESS"
    assert all(row["id"] == ids[0] for e in sandbox.gateway.events for row in json.loads(e.body)["inquiries"])


async def test_the_subscription_can_be_overwritten_and_removed(sandbox: Sandbox) -> None:
    before = (await sandbox.http.get(SUBSCRIPTION, auth=BASIC)).json()
    again = await sandbox.http.post(SUBSCRIPTION, json={"callback_url": before["callback_url"]}, auth=BASIC)
    assert again.json()["subscription_id"] != before["subscription_id"]
    elsewhere = await sandbox.http.post(SUBSCRIPTION, json={"callback_url": "https://other.example"}, auth=BASIC)
    assert elsewhere.json()["detail"][0]["loc"] == ["body", "callback_url"]
    assert (await sandbox.http.delete(SUBSCRIPTION, auth=BASIC)).status_code == 200
    assert (await sandbox.http.get(SUBSCRIPTION, auth=BASIC)).status_code == 404
    [inquiry_id] = await create(sandbox, inquiry())
    await finished(sandbox, inquiry_id)
    assert sandbox.gateway.events == []


async def test_inactive_and_not_covered(sandbox: Sandbox) -> None:
    inactive, not_covered = await create(sandbox, inquiry("INACTIVE1"), inquiry("NOTCOVERED1"))
    gone = (await finished(sandbox, inactive))["results"]
    assert gone["plan_information"]["is_active"] is False and gone["procedure_codes"] == []
    refused = (await finished(sandbox, not_covered))["results"]
    assert refused["plan_information"]["is_active"] is True
    assert refused["procedure_codes"][0][1]["is_covered"] is False


@pytest.mark.parametrize("member_id", ["BADMEMBER1", "BADNAME1", "BADDOB1", "BADNPI1", "PAYERDOWN1"])
async def test_what_a_phone_call_cannot_express_is_eligible(sandbox: Sandbox, member_id: str) -> None:
    [inquiry_id] = await create(sandbox, inquiry(member_id))
    assert (await finished(sandbox, inquiry_id))["results"]["procedure_codes"][0][1]["is_covered"] is True


async def test_a_failed_call_and_a_refused_row(sandbox: Sandbox) -> None:
    reply = await sandbox.http.post(BATCH, json=[inquiry("CALLFAILED1"), inquiry("ROWREFUSED1")], auth=BASIC)
    failed, refused = reply.json()
    assert refused == {"success": False, "inquiry_id": ""}
    body = await finished(sandbox, failed["inquiry_id"])
    assert body["status"] == "FAILED" and body["results"] is None and body["summary"]
    assert len(sandbox.world.submissions) == 1


async def test_never_stays_in_progress(sandbox: Sandbox) -> None:
    never, other = await create(sandbox, inquiry("NEVER1"), inquiry("ELIGIBLE1"))
    await finished(sandbox, other)
    await eventually(lambda: len(sandbox.gateway.events) == 5)
    assert (await read(sandbox, never))["status"] == "IN_PROGRESS"


async def test_rate_limit_refuses_the_first_submission_and_creates_nothing(sandbox: Sandbox) -> None:
    rows = [inquiry("RATELIMIT1"), inquiry("RATELIMIT2"), inquiry()]
    reply = await sandbox.http.post(BATCH, json=rows, auth=BASIC)
    assert reply.status_code == 429 and reply.headers["retry-after"] == "3"
    assert sandbox.world.submissions == []
    assert len(await create(sandbox, *rows)) == 3


async def test_a_500_once_on_reading(sandbox: Sandbox) -> None:
    [inquiry_id] = await create(sandbox, inquiry("HTTP500ONCE1"))
    assert (await sandbox.http.get(f"{INQUIRIES}/{inquiry_id}", auth=BASIC)).status_code == 500
    assert (await finished(sandbox, inquiry_id))["status"] == "SUCCESS"


async def test_broken_json(sandbox: Sandbox) -> None:
    [inquiry_id] = await create(sandbox, inquiry("BROKENJSON1"))
    reply = await sandbox.http.get(f"{INQUIRIES}/{inquiry_id}", auth=BASIC)
    assert reply.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        reply.json()


async def test_a_dropped_reply_did_the_work_for_every_row(sandbox: Sandbox) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await sandbox.http.post(BATCH, json=[inquiry("DROPREPLY1"), inquiry()], auth=BASIC)
    [found] = (await sandbox.http.get(INQUIRIES, params={"external_id": "att_DROPREPLY1"}, auth=BASIC)).json()
    assert (await finished(sandbox, found["id"]))["status"] == "SUCCESS"
    assert len(sandbox.world.submissions) == 2
