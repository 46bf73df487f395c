"""The simulated Sohar over real HTTP: as strict as its documents, and each scenario ends as promised."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import httpx
import pytest

from tests.support.sandboxes import ReceivedEvent, Sandbox, StartSandbox
from tests.support.waiting import eventually

FORBIDDEN = (403, {"error": "invalid_request_error"})


def request_body(member_id: str = "ELIGIBLE1", **changes: Any) -> dict[str, Any]:
    """The "Patient Intake" guide's example for this member."""
    return {
        "id": "att_1",
        "patient": {
            "firstName": "John",
            "lastName": "Sample",
            "dateOfBirth": "09/20/2006",
            "state": "CA",
            "memberId": member_id,
        },
        "payerId": "60054",
        "placeOfServiceCode": "10",
        "specialtyCode": "PSY",
        **changes,
    }


async def login(sandbox: Sandbox) -> dict[str, str]:
    reply = await sandbox.http.post("/sohar/oauth/token", json={"client_id": "sandbox", "client_secret": "sandbox"})
    assert reply.status_code == 200
    assert (reply.json()["token_type"], reply.json()["expires_in"]) == ("Bearer", 3600)
    return {"Authorization": f"Bearer {reply.json()['access_token']}"}


async def create(sandbox: Sandbox, body: dict[str, Any]) -> httpx.Response:
    return await sandbox.http.post("/sohar/v2/verifications", json=body, headers=await login(sandbox))


async def read(sandbox: Sandbox, verification_id: str) -> httpx.Response:
    return await sandbox.http.get(f"/sohar/v2/verifications/{verification_id}", headers=await login(sandbox))


def payload(event: ReceivedEvent) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(event.body)
    return told


async def answer(sandbox: Sandbox, body: dict[str, Any]) -> dict[str, Any]:
    """Create, wait for the event, read."""
    reply = await create(sandbox, body)
    assert reply.status_code == 201
    await eventually(lambda: len(sandbox.gateway.events) == 1)
    document: dict[str, Any] = (await read(sandbox, reply.json()["verificationId"])).json()
    assert payload(sandbox.gateway.events[0]) == {
        "event": "sandbox.verification.updated",
        "verificationId": document["verificationId"],
        "id": body.get("id"),
        "status": document["status"],
    }
    return document


# Logging in.


@pytest.mark.parametrize(
    ("credentials", "expected"),
    [
        ({"client_id": "sandbox", "client_secret": "wrong"}, FORBIDDEN),
        ({"client_id": "someone", "client_secret": "sandbox"}, FORBIDDEN),
        ({"client_id": "sandbox"}, (400, {"error": "invalid_request_error", "param": "client_secret"})),
        ({"client_id": 7, "client_secret": "sandbox"}, (400, {"error": "invalid_request_error", "param": "client_id"})),
        ([], (400, {"error": "invalid_request_error", "param": "body"})),
    ],
)
async def test_a_bad_login_is_refused(sandbox: Sandbox, credentials: object, expected: tuple[int, object]) -> None:
    reply = await sandbox.http.post("/sohar/oauth/token", json=credentials)
    assert (reply.status_code, reply.json()) == expected


async def test_a_login_in_a_form_is_refused(sandbox: Sandbox) -> None:
    reply = await sandbox.http.post("/sohar/oauth/token", data={"client_id": "sandbox", "client_secret": "sandbox"})
    assert reply.status_code == 400


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer nonsense", "Bearer a.b.c", "Basic c2FuZGJveDo="])
async def test_every_call_needs_a_token(sandbox: Sandbox, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    for reply in (
        await sandbox.http.post("/sohar/v2/verifications", json=request_body(), headers=headers),
        await sandbox.http.get("/sohar/v2/verifications/1", headers=headers),
        await sandbox.http.get("/sohar/v1/payers", headers=headers),
    ):
        assert (reply.status_code, reply.json()) == FORBIDDEN
    assert sandbox.world.submissions == []


async def test_a_token_is_good_for_an_hour(sandbox: Sandbox) -> None:
    headers = await login(sandbox)
    issued = sandbox.world.now()
    sandbox.world.now = lambda: issued + 3590
    assert (await sandbox.http.get("/sohar/v1/payers", headers=headers)).status_code == 200
    sandbox.world.now = lambda: issued + 3601
    assert (await sandbox.http.get("/sohar/v1/payers", headers=headers)).status_code == 403


async def test_another_vendors_token_is_refused(sandbox: Sandbox) -> None:
    token = (
        await sandbox.http.post(
            "/integrex/api/v2/auth", data={"grant_type": "client_credentials"}, auth=("sandbox", "sandbox")
        )
    ).json()["access_token"]
    reply = await sandbox.http.get("/sohar/v1/payers", headers={"Authorization": f"Bearer {token}"})
    assert reply.status_code == 403


# Strictness.


def patient(**changes: object) -> dict[str, Any]:
    return request_body(patient={**request_body()["patient"], **changes})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (patient(dateOfBirth="2006-09-20"), "dateOfBirth"),
        (patient(dateOfBirth="9/20/2006"), "dateOfBirth"),
        (patient(dateOfBirth="02/30/2006"), "dateOfBirth"),
        (patient(dateOfBirth=None), "dateOfBirth"),
        (patient(firstName=""), "firstName"),
        (patient(lastName="  "), "lastName"),
        (patient(state="California"), "state"),
        (patient(state="ca"), "state"),
        (patient(memberId=None), "memberId"),
        (patient(memberId=12345678), "memberId"),
        (patient(npi="1234567893"), "npi"),
        (request_body(patient=None), "patient"),
        (request_body(patient="John"), "patient"),
        (request_body(payerId=None), "payerId"),
        (request_body(payerId=60054), "payerId"),
        (request_body(payerId="00000"), "payerId"),
        (request_body(placeOfServiceCode="telehealth"), "placeOfServiceCode"),
        (request_body(placeOfServiceCode=10), "placeOfServiceCode"),
        (request_body(specialtyCode="XYZ"), "specialtyCode"),
        (request_body(specialtyCode=None), "specialtyCode"),
        (request_body(id="x" * 46), "id"),
        (request_body(id=123456), "id"),
        (request_body(serviceDate="09/20/2026"), "serviceDate"),
        (request_body(subscriber=[]), "subscriber"),
        (request_body(subscriber={"firstName": "Jane", "lastName": "Sample"}), "dateOfBirth"),
        (
            request_body(subscriber={"firstName": "Jane", "lastName": "Sample", "dateOfBirth": "1980-01-31"}),
            "dateOfBirth",
        ),
    ],
)
async def test_a_request_that_the_documents_do_not_allow_starts_nothing(
    sandbox: Sandbox, body: dict[str, Any], param: str
) -> None:
    reply = await create(sandbox, body)
    assert (reply.status_code, reply.json()) == (400, {"error": "invalid_request_error", "param": param})
    assert sandbox.world.submissions == []


async def test_a_body_that_is_not_json_is_refused(sandbox: Sandbox) -> None:
    headers = {**await login(sandbox), "Content-Type": "application/json"}
    reply = await sandbox.http.post("/sohar/v2/verifications", content=b"{", headers=headers)
    assert (reply.status_code, reply.json()["param"]) == (400, "body")


async def test_an_unknown_verification_is_not_found(sandbox: Sandbox) -> None:
    reply = await read(sandbox, "990cdad8-1438-4bbd-8b55-120b56e87540")
    assert (reply.status_code, reply.json()) == (404, {"error": "invalid_request_error"})


# Answers.


async def test_the_document_of_an_eligible_patient(sandbox: Sandbox) -> None:
    document = await answer(sandbox, request_body())
    assert document["status"] == "complete.eligible"
    assert document["statusReason"] is None
    assert document["benefits"] == [
        {
            "networkStatus": "inn",
            "tier": None,
            "accuracy": 0.84,
            "copay": 30,
            "coinsurance": 0.1,
            "deductible": {"total": 1000, "remaining": 250, "coverageLevelCode": "IND"},
            "outOfPocket": {"total": 5000, "remaining": 4000},
        },
        {
            "networkStatus": "oon",
            "tier": None,
            "accuracy": 0.71,
            "copay": None,
            "coinsurance": 0.4,
            "deductible": {"total": 3000, "remaining": 3000, "coverageLevelCode": "IND"},
            "outOfPocket": {"total": 10000, "remaining": 10000},
        },
    ]
    assert document["payer"] == {"id": "60054", "name": "Aetna"}
    assert document["group"] == {"number": "G1", "name": "Sample Employer"}
    assert document["patient"]["subscriberRelationshipCode"] == "18"
    assert document["subscriber"] is None
    assert document["relatedEntities"][0]["entityIdentifierCode"] == "PRP"
    assert {"placeOfServiceCode": "10", "specialtyCode": "PSY"}.items() <= document.items()


async def test_the_guides_own_example_is_eligible(sandbox: Sandbox) -> None:
    body = request_body("00000000")
    del body["id"]
    document = await answer(sandbox, body)
    assert (document["status"], document["id"]) == ("complete.eligible", None)
    assert document["patient"]["memberId"] == "00000000"


@pytest.mark.parametrize(("subscriber_born", "code"), [("01/31/1980", "19"), ("01/31/2004", "01")])
async def test_a_dependent_is_a_child_or_a_spouse(sandbox: Sandbox, subscriber_born: str, code: str) -> None:
    subscriber = {"firstName": "Jane", "lastName": "Sample", "dateOfBirth": subscriber_born}
    document = await answer(sandbox, request_body(subscriber=subscriber))
    assert document["patient"]["subscriberRelationshipCode"] == code
    assert document["subscriber"] == {**subscriber, "memberId": "ELIGIBLE1"}


@pytest.mark.parametrize(
    ("member_id", "status", "reason"),
    [
        ("INACTIVE1", "complete.ineligible", "INACTIVE"),
        ("NOTCOVERED1", "complete.ineligible", "NON_COVERED"),
        ("BADMEMBER1", "error.member.id", None),
        ("BADNAME1", "error.member.name", None),
        ("BADDOB1", "error.member.dob", None),
        ("PAYERDOWN1", "error.payer", None),
        ("BADNPI1", "error.payer.npi", None),
    ],
)
async def test_a_patient_who_is_not_eligible(sandbox: Sandbox, member_id: str, status: str, reason: str | None) -> None:
    document = await answer(sandbox, request_body(member_id))
    assert (document["status"], document["statusReason"], document["benefits"]) == (status, reason, [])
    assert (document["plan"] is None) == status.startswith("error.")


@pytest.mark.parametrize(
    ("member_id", "status"), [("ODDERROR1", "error.system.limit"), ("ODDSTATUS1", "complete.partially")]
)
async def test_a_status_that_no_document_lists(sandbox: Sandbox, member_id: str, status: str) -> None:
    document = await answer(sandbox, request_body(member_id))
    assert (document["status"], document["statusReason"], document["benefits"]) == (status, None, [])


async def test_a_refusal_may_come_late(sandbox: Sandbox) -> None:
    began = sandbox.world.now()
    document = await answer(sandbox, request_body("LATEPAYERDOWN1"))
    assert document["status"] == "error.payer"
    assert sandbox.world.now() - began >= 10 * 0.05


async def test_only_an_inactive_plan_has_ended(sandbox: Sandbox) -> None:
    sandbox.world.now = lambda: 1767225599.0  # 2025-12-31T23:59:59Z: in this second every time zone must see it active
    eligible = await answer(sandbox, request_body())
    assert (eligible["plan"]["startDate"], eligible["plan"]["endDate"]) == ("01/01/2025", "12/31/2026")
    sandbox.gateway.events.clear()
    inactive = await answer(sandbox, request_body("INACTIVE1"))
    assert (inactive["plan"]["startDate"], inactive["plan"]["endDate"]) == ("01/01/2024", "12/31/2024")


# Time, events and trouble.


async def test_it_is_pending_before_the_answer_is_there(start_sandbox: StartSandbox) -> None:
    sandbox = await start_sandbox(delay_seconds=60)
    reply = await create(sandbox, request_body("INACTIVE1"))
    document: dict[str, Any] = (await read(sandbox, reply.json()["verificationId"])).json()
    assert (document["status"], document["statusReason"]) == ("pending", None)
    assert (document["benefits"], document["plan"], document["group"]) == ([], None, None)
    assert sandbox.gateway.events == []


async def test_an_event_is_signed_as_svix_signs(sandbox: Sandbox) -> None:
    await create(sandbox, request_body())
    await eventually(lambda: len(sandbox.gateway.events) == 1)
    event = sandbox.gateway.events[0]
    key = hashlib.sha256(b"sandbox:sohar").digest()
    signed = f"{event.headers['svix-id']}.{event.headers['svix-timestamp']}.".encode() + event.body
    expected = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    assert (event.vendor, event.headers["svix-signature"]) == ("sohar", expected)
    assert abs(int(event.headers["svix-timestamp"]) - sandbox.world.now()) < 60


async def test_a_refused_event_comes_again_under_its_id(sandbox: Sandbox) -> None:
    sandbox.gateway.statuses = [503]
    await create(sandbox, request_body())
    await eventually(lambda: len(sandbox.gateway.events) == 2)
    first, second = sandbox.gateway.events
    assert first.headers["svix-id"] == second.headers["svix-id"]


async def test_a_slow_payer_is_announced_as_pending(sandbox: Sandbox) -> None:
    began = sandbox.world.now()
    await create(sandbox, request_body("SLOW1"))
    await eventually(lambda: len(sandbox.gateway.events) == 2)
    assert sandbox.world.now() - began >= 5 * 0.05
    assert [(payload(event)["event"], payload(event)["status"]) for event in sandbox.gateway.events] == [
        ("sandbox.verification.pending", "pending"),
        ("sandbox.verification.updated", "complete.eligible"),
    ]


async def test_a_duplicate_event_comes_three_times_under_one_id(sandbox: Sandbox) -> None:
    await create(sandbox, request_body("DUPLICATEEVENT1"))
    await eventually(lambda: len(sandbox.gateway.events) == 3)
    assert len({event.headers["svix-id"] for event in sandbox.gateway.events}) == 1
    assert len({event.body for event in sandbox.gateway.events}) == 1


async def test_without_an_event_polling_finds_the_answer(sandbox: Sandbox) -> None:
    reply = await create(sandbox, request_body("NOEVENT1"))
    headers = await login(sandbox)
    statuses = ["pending"]
    while statuses[-1] == "pending" and len(statuses) < 1000:
        url = f"/sohar/v2/verifications/{reply.json()['verificationId']}"
        statuses.append((await sandbox.http.get(url, headers=headers)).json()["status"])
    assert statuses[-1] == "complete.eligible"
    # An event that was sent at all would be there before the event of a later verification.
    await create(sandbox, request_body("ELIGIBLE1", id="att_2"))
    await eventually(lambda: bool(sandbox.gateway.events))
    assert [payload(event)["id"] for event in sandbox.gateway.events] == ["att_2"]


async def test_never_stays_pending(sandbox: Sandbox) -> None:
    reply = await create(sandbox, request_body("NEVER1"))
    await create(sandbox, request_body("ELIGIBLE1", id="att_2"))
    await eventually(lambda: bool(sandbox.gateway.events))
    assert (await read(sandbox, reply.json()["verificationId"])).json()["status"] == "pending"
    assert [payload(event)["id"] for event in sandbox.gateway.events] == ["att_2"]


async def test_the_first_read_may_fail(sandbox: Sandbox) -> None:
    for attempt in ("att_1", "att_2"):
        reply = await create(sandbox, request_body("HTTP500ONCE1", id=attempt))
        verification_id = reply.json()["verificationId"]
        assert [(await read(sandbox, verification_id)).status_code for _ in range(3)] == [500, 200, 200]


async def test_the_first_submission_may_be_told_to_wait(sandbox: Sandbox) -> None:
    for attempt in ("att_1", "att_2"):
        body = request_body("RATELIMIT1", id=attempt)
        first, second = await create(sandbox, body), await create(sandbox, body)
        assert (first.status_code, first.headers["retry-after"], second.status_code) == (429, "3", 201)
    assert [submission.echo for submission in sandbox.world.submissions] == ["att_1", "att_2"]


async def test_broken_json_is_always_broken(sandbox: Sandbox) -> None:
    reply = await create(sandbox, request_body("BROKENJSON1"))
    await eventually(lambda: len(sandbox.gateway.events) == 1)
    for _ in range(2):
        broken = await read(sandbox, reply.json()["verificationId"])
        assert broken.status_code == 200
        with pytest.raises(json.JSONDecodeError):
            broken.json()


async def test_a_dropped_reply_still_did_the_work(sandbox: Sandbox) -> None:
    headers = await login(sandbox)
    with pytest.raises(httpx.RemoteProtocolError):
        await sandbox.http.post("/sohar/v2/verifications", json=request_body("DROPREPLY1"), headers=headers)
    [submission] = sandbox.world.submissions
    assert (submission.vendor, submission.echo, submission.member_id) == ("sohar", "att_1", "DROPREPLY1")
    await eventually(lambda: len(sandbox.gateway.events) == 1)
    event = payload(sandbox.gateway.events[0])
    assert (event["id"], event["verificationId"], event["status"]) == ("att_1", submission.ref, "complete.eligible")
    assert (await read(sandbox, submission.ref)).json()["id"] == "att_1"


async def test_a_submission_is_recorded_with_what_it_gave_out(sandbox: Sandbox) -> None:
    reply = await create(sandbox, request_body())
    assert reply.json()["id"] == "att_1"
    [row] = (await sandbox.http.get("/_sandbox/submissions")).json()
    assert (row["vendor"], row["echo"], row["member_id"]) == ("sohar", "att_1", "ELIGIBLE1")
    assert row["ref"] == reply.json()["verificationId"]


async def test_payers_have_ids_names_and_aliases(sandbox: Sandbox) -> None:
    payers = (await sandbox.http.get("/sohar/v1/payers", headers=await login(sandbox))).json()
    aetna = next(payer for payer in payers if payer["payerId"] == "60054")
    assert aetna["payerName"] == "Aetna"
    assert aetna["aliasPayerIds"] and aetna["aliasPayerNames"]
