"""The simulated Integrex over real HTTP: as strict as its document, and each scenario ends as promised."""

from __future__ import annotations

import json
from functools import partial
from operator import add
from typing import Any

import httpx
import pytest

from tests.support.sandboxes import Sandbox, StartSandbox

AUTH = "/integrex/api/v2/auth"
ELIGIBILITY = "/integrex/api/v2/enhanced-eligibility"
GRANT = {"grant_type": "client_credentials"}

# "[GET] Enhanced Eligibility Response", with the page's own spelling.
RESPONSE_KEYS = """
internalAccountNumber1|internalAccountNumber2|patientLastName|patientFirstName|patientDOB|patientGender|sub.MemberID|
relationshipCode|relationshipDesc|subLastName|subFirstName|subscriberDOB|subscriberGender|responseDate|beginDOS|
requestStatusCode|requestStatus|coverageStatusCode|coverageStatusDesc|coverageStartDate|coverageEndDate|groupNumber|
planNumber|planTypeCode|planType|planTypeDescription|coverageLevelCode|coverageLevelDescription|benefitTypeCode|
benefitTypeDesc|oop($)IndivInNetwork|oop($)IndivInNetworkRemaining|oop($)FamilyInNetwork|
oop($)FamilyInNetworkRemaining|oop($)IndivOutOfNetwork|oop($)IndivOutOfNetworkRemaining|oop($)FamilyOutOfNetwork|
oop($) FamilyOutOfNetworkRemaining|ded($) IndivInNetwork|ded($) IndivInNetworkRemaining|ded($) FamilyInNetwork|
ded($) FamilyInNetworkRemaining|ded($) IndivOutOfNetwork|ded($) IndivOutOfNetworkRemaining|ded($) FamilyOutOfNetwork|
ded($) FamilyOutOfNetworkRemaining|coins(%) InNetwork|coins(%) OutOfNetwork|copay($)|copay($) Specialist|payerID1|
payerName1|payerTPA|payerID2|payerName2|payerPhone|payerAddress|payerFax|payerWebsite|altName|altCategory|altType|
altAddress|altPhone|primaryCareFacility|pcpLastName|pcpFirstName|pcpNPI|pcpAddress|pcpPhone|pcpFax|patientAddress|
subscriberAddress|integrexId
"""


def request_body(member_id: str = "ELIGIBLE1", **changes: Any) -> dict[str, Any]:
    body = {
        "patientFirstName": "John",
        "patientLastName": "Sample",
        "patientDob": "2006-09-20",
        "memberId": member_id,
        "billingProviderNpi": "1234567893",
        "beginDos": "2026-11-21",
        "serviceType": "30",
        "payerId": "60054",
        "payerName": "Aetna",
        "internalAccountNumber1": "att_1",
        **changes,
    }
    return {name: value for name, value in body.items() if value is not ...}


async def login(sandbox: Sandbox) -> dict[str, str]:
    reply = await sandbox.http.post(AUTH, data=GRANT, auth=("sandbox", "sandbox"))
    assert reply.status_code == 200
    return {"Authorization": f"Bearer {reply.json()['access_token']}"}


async def submit(sandbox: Sandbox, body: object) -> httpx.Response:
    return await sandbox.http.post(ELIGIBILITY, json=body, headers=await login(sandbox))


async def read(sandbox: Sandbox, ticket_id: str) -> httpx.Response:
    return await sandbox.http.get(ELIGIBILITY, params={"id": ticket_id}, headers=await login(sandbox))


async def answer(sandbox: Sandbox, body: dict[str, Any]) -> dict[str, str]:
    reply = await submit(sandbox, body)
    assert reply.status_code == 200
    return await answer_of(sandbox, reply.json()["id"])


async def answer_of(sandbox: Sandbox, ticket_id: str) -> dict[str, str]:
    """Poll a ticket until it is answered, at most a thousand times."""
    headers = await login(sandbox)
    for _ in range(1000):
        got = await sandbox.http.get(ELIGIBILITY, params={"id": ticket_id}, headers=headers)
        if got.status_code != 202:
            assert got.status_code == 200
            found: dict[str, str] = got.json()
            return found
    pytest.fail("the answer never came")


# Logging in.


@pytest.mark.parametrize("in_form", [False, True])
async def test_client_credentials_by_basic_or_in_the_form(sandbox: Sandbox, in_form: bool) -> None:
    reply = (
        await sandbox.http.post(AUTH, data={**GRANT, "client_id": "sandbox", "client_secret": "sandbox"})
        if in_form
        else await sandbox.http.post(AUTH, data=GRANT, auth=("sandbox", "sandbox"))
    )
    assert reply.status_code == 200
    assert reply.json()["token_type"] == "Bearer"
    assert reply.json()["expires_in"] == 3600


@pytest.mark.parametrize(
    ("send", "expected"),
    [
        ({"data": GRANT}, (401, "invalid_client")),
        ({"data": GRANT, "auth": ("sandbox", "wrong")}, (401, "invalid_client")),
        ({"data": {**GRANT, "client_id": "x", "client_secret": "sandbox"}}, (401, "invalid_client")),
        ({"data": GRANT, "headers": {"Authorization": "Basic !!!"}}, (401, "invalid_client")),
        ({"data": {"grant_type": "password"}, "auth": ("sandbox", "sandbox")}, (400, "unsupported_grant_type")),
        ({"json": {"client_id": "sandbox", "client_secret": "sandbox"}}, (400, "invalid_request")),
    ],
)
async def test_a_bad_login_is_refused(sandbox: Sandbox, send: dict[str, Any], expected: tuple[int, str]) -> None:
    reply = await sandbox.http.post(AUTH, **send)
    assert (reply.status_code, reply.json()["error"]) == expected


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (None, (401, {"message": "Unauthorized"})),
        ("Basic c2FuZGJveDpzYW5kYm94", (401, {"message": "Unauthorized"})),
        ("Bearer nonsense", (402, {"message": "Authentication Error"})),
    ],
)
async def test_every_call_needs_a_token(
    sandbox: Sandbox, authorization: str | None, expected: tuple[int, object]
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    for reply in (
        await sandbox.http.post(ELIGIBILITY, json=request_body(), headers=headers),
        await sandbox.http.get(ELIGIBILITY, params={"id": "1"}, headers=headers),
    ):
        assert (reply.status_code, reply.json()) == expected
    assert sandbox.world.submissions == []


async def test_a_token_is_good_for_an_hour(sandbox: Sandbox) -> None:
    headers = await login(sandbox)
    issued = sandbox.world.now()
    sandbox.world.now = lambda: issued + 3590
    assert (await sandbox.http.post(ELIGIBILITY, json=request_body(), headers=headers)).status_code == 200
    sandbox.world.now = lambda: issued + 3601
    assert (await sandbox.http.post(ELIGIBILITY, json=request_body(), headers=headers)).status_code == 402


# Strictness.


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (request_body(patientDob="09/20/2006"), "patientDob is not valid"),
        (request_body(patientDob="2006-02-30"), "patientDob is not a date"),
        (request_body(beginDos="11/21/2026"), "beginDos is not valid"),
        (request_body(beginDos="2026-11-21T00:00:00"), "beginDos is not valid"),
        (request_body(endDos="2026-11-20"), "endDos is before beginDos"),
        (request_body(subscriberDob="1980-1-31"), "subscriberDob is not valid"),
        (request_body(patientGender="Male"), "patientGender is not valid"),
        (request_body(patientGender="U"), "patientGender is not valid"),
        (request_body(serviceType="MH"), "serviceType is not valid"),
        (request_body(billingProviderNpi="123"), "billingProviderNpi is not valid"),
        (request_body(billingProviderNpi=1234567893), "billingProviderNpi must be a string"),
        (request_body(patientSsn=None), "patientSsn must be a string"),
        (request_body(npi="1234567893"), "npi is not a parameter"),
        (request_body(patientFirstName=...), "patientFirstName is required"),
        (request_body(patientLastName=" "), "patientLastName is required"),
        (request_body(memberId=""), "memberId is required"),
        (request_body(beginDos=...), "beginDos is required"),
        (request_body(payerId=..., payerName=...), "payerId or payerName is required"),
        ([request_body()], "the body is not an object"),
    ],
)
async def test_a_request_that_the_document_does_not_allow_starts_nothing(
    sandbox: Sandbox, body: object, message: str
) -> None:
    reply = await submit(sandbox, body)
    assert (reply.status_code, reply.json()) == (400, {"message": message})
    assert sandbox.world.submissions == []


async def test_a_body_that_is_not_json_is_refused(sandbox: Sandbox) -> None:
    reply = await sandbox.http.post(ELIGIBILITY, content=b"{", headers=await login(sandbox))
    assert (reply.status_code, reply.json()) == (400, {"message": "the body is not JSON"})


async def test_env_may_only_be_the_test_environment(sandbox: Sandbox) -> None:
    headers = await login(sandbox)
    for env, status in (("T", 200), ("P", 400)):
        reply = await sandbox.http.post(ELIGIBILITY, json=request_body(), headers={**headers, "env": env})
        assert reply.status_code == status


@pytest.mark.parametrize("query", [{}, {"id": ""}, {"id": "1234567890987654321"}])
async def test_a_ticket_that_was_not_given_out_is_refused(sandbox: Sandbox, query: dict[str, str]) -> None:
    reply = await sandbox.http.get(ELIGIBILITY, params=query, headers=await login(sandbox))
    assert reply.status_code == 400
    assert reply.json()["message"].startswith("id is ")


# Answers.


async def test_the_answer_of_an_eligible_patient(sandbox: Sandbox) -> None:
    document = await answer(sandbox, request_body())
    assert set(document) == {key.strip() for key in RESPONSE_KEYS.split("|")}
    assert all(isinstance(value, str) for value in document.values())
    assert {
        "internalAccountNumber1": "att_1",
        "patientDOB": "2006-09-20",
        "sub.MemberID": "ELIGIBLE1",
        "relationshipCode": "18",
        "subLastName": "Sample",
        "beginDOS": "2026-11-21",
        "coverageStatusCode": "1",
        "planTypeCode": "HM",
        "copay($)": "30.00",
        "coins(%) InNetwork": "10",
        "ded($) IndivInNetwork": "1000.00",
        "ded($) IndivInNetworkRemaining": "250.00",
        "oop($)IndivInNetwork": "5000.00",
        "oop($)IndivInNetworkRemaining": "4000.00",
        "oop($) FamilyOutOfNetworkRemaining": "20000.00",
        "payerID1": "60054",
        "payerName1": "Aetna",
    }.items() <= document.items()


async def test_a_payer_may_be_named_only(sandbox: Sandbox) -> None:
    document = await answer(sandbox, request_body(payerId=..., payerName="Sample Mutual"))
    assert (document["payerID1"], document["payerName1"]) == ("", "Sample Mutual")


async def test_a_dependent_has_a_subscriber(sandbox: Sandbox) -> None:
    subscriber = {
        "subscriberFirstName": "Jane",
        "subscriberLastName": "Sample-Doe",
        "subscriberDob": "1980-01-31",
        "subscriberGender": "F",
    }
    document = await answer(sandbox, request_body(**subscriber))
    assert (document["relationshipCode"], document["relationshipDesc"]) == ("19", "Child")
    assert (document["subFirstName"], document["subLastName"]) == ("Jane", "Sample-Doe")
    assert (document["subscriberDOB"], document["subscriberGender"]) == ("1980-01-31", "F")


async def test_an_inactive_plan_has_ended_and_names_no_amounts(sandbox: Sandbox) -> None:
    document = await answer(sandbox, request_body("INACTIVE1"))
    assert (document["coverageStatusCode"], document["coverageStatusDesc"]) == ("6", "Inactive")
    assert document["coverageEndDate"] < document["responseDate"]
    assert document["copay($)"] == document["ded($) IndivInNetwork"] == ""


@pytest.mark.parametrize(
    ("member_id", "code", "text"),
    [
        ("BADMEMBER1", "72", "Invalid/Missing Subscriber/Insured ID"),
        ("BADNAME1", "73", "Invalid/Missing Subscriber/Insured Name"),
        ("BADDOB1", "71", "Patient Birth Date Does Not Match That for the Patient on the Database"),
        ("PAYERDOWN1", "42", "Unable to Respond at Current Time"),
        ("BADNPI1", "51", "Provider Not on File"),
        ("BADPAYER1", "79", "Invalid Participant Identification"),
    ],
)
async def test_a_payers_refusal_says_nothing_of_coverage(
    sandbox: Sandbox, member_id: str, code: str, text: str
) -> None:
    document = await answer(sandbox, request_body(member_id))
    assert (document["requestStatusCode"], document["requestStatus"]) == (code, text)
    assert {document[key] for key in ("coverageStatusCode", "coverageEndDate", "copay($)", "relationshipCode")} == {""}


@pytest.mark.parametrize(
    ("member_id", "code", "text"),
    [("ODDSTATUS1", "E1", "See payer"), ("REQUESTREJECTED1", "E9", "Transaction rejected")],
)
async def test_a_failing_status_may_be_no_code_of_x12(sandbox: Sandbox, member_id: str, code: str, text: str) -> None:
    document = await answer(sandbox, request_body(member_id))
    assert (document["requestStatusCode"], document["requestStatus"]) == (code, text)
    assert {document[key] for key in ("coverageStatusCode", "coverageEndDate", "copay($)", "relationshipCode")} == {""}


async def test_a_specialist_may_have_a_copay_of_their_own(sandbox: Sandbox) -> None:
    document = await answer(sandbox, request_body("SPECIALISTCOPAY1"))
    assert (document["copay($)"], document["copay($) Specialist"]) == ("30.00", "50.00")


async def test_a_copay_may_stand_alone(sandbox: Sandbox) -> None:
    document = await answer(sandbox, request_body("COPAYALONE1"))
    stated = {key for key, value in document.items() if key.startswith(("ded(", "oop(", "coins(", "copay(")) and value}
    assert (document["coverageStatusCode"], stated) == ("1", {"copay($)"})


@pytest.mark.parametrize(("member_id", "code"), [("OTHERBENEFIT1", "35"), ("ODDBENEFIT1", "Q9"), ("ELIGIBLE1", "30")])
async def test_the_benefit_type_may_be_another_than_was_asked(sandbox: Sandbox, member_id: str, code: str) -> None:
    assert (await answer(sandbox, request_body(member_id)))["benefitTypeCode"] == code


@pytest.mark.parametrize("member_id", ["NOTCOVERED1", "NOEVENT1", "DUPLICATEEVENT1", "SLOW1", "00000000"])
async def test_what_integrex_cannot_express_is_eligible(sandbox: Sandbox, member_id: str) -> None:
    document = await answer(sandbox, request_body(member_id))
    assert (document["coverageStatusCode"], document["requestStatus"]) == ("1", "Success")
    assert sandbox.gateway.events == []


# Time and trouble.


async def test_a_ticket_is_a_long_number_in_a_string_and_is_recorded(sandbox: Sandbox) -> None:
    ticket_id = (await submit(sandbox, request_body())).json()["id"]
    assert isinstance(ticket_id, str) and len(ticket_id) == 19
    [row] = (await sandbox.http.get("/_sandbox/submissions")).json()
    assert (row["vendor"], row["echo"], row["member_id"], row["ref"]) == ("integrex", "att_1", "ELIGIBLE1", ticket_id)


@pytest.mark.parametrize(("member_id", "seconds"), [("ELIGIBLE1", 100), ("SLOW1", 500)])
async def test_it_is_202_until_the_answer_is_there(start_sandbox: StartSandbox, member_id: str, seconds: int) -> None:
    sandbox = await start_sandbox(delay_seconds=100)
    ticket_id = (await submit(sandbox, request_body(member_id))).json()["id"]
    submitted = sandbox.world.now()
    for after, status in ((0, 202), (seconds - 2, 202), (seconds + 2, 200)):
        sandbox.world.now = partial(add, submitted, after)
        assert (await read(sandbox, ticket_id)).status_code == status


async def test_without_delay_exactly_the_first_poll_is_202(start_sandbox: StartSandbox) -> None:
    sandbox = await start_sandbox(delay_seconds=0)
    for _ in range(2):
        ticket_id = (await submit(sandbox, request_body())).json()["id"]
        assert [(await read(sandbox, ticket_id)).status_code for _ in range(3)] == [202, 200, 200]


async def test_never_is_202_for_ever(start_sandbox: StartSandbox) -> None:
    for delay in (0, 0.001):
        sandbox = await start_sandbox(delay_seconds=delay)
        ticket_id = (await submit(sandbox, request_body("NEVER1"))).json()["id"]
        assert {(await read(sandbox, ticket_id)).status_code for _ in range(4)} == {202}


async def test_the_first_poll_may_fail(start_sandbox: StartSandbox) -> None:
    sandbox = await start_sandbox(delay_seconds=0)
    for attempt in ("att_1", "att_2"):
        body = request_body("HTTP500ONCE1", internalAccountNumber1=attempt)
        ticket_id = (await submit(sandbox, body)).json()["id"]
        assert [(await read(sandbox, ticket_id)).status_code for _ in range(3)] == [500, 202, 200]


async def test_the_first_submission_may_be_told_to_wait(sandbox: Sandbox) -> None:
    for attempt in ("att_1", "att_2"):
        body = request_body("RATELIMIT1", internalAccountNumber1=attempt)
        first, second = await submit(sandbox, body), await submit(sandbox, body)
        assert (first.status_code, first.headers["retry-after"], second.status_code) == (429, "3", 200)
    assert [submission.echo for submission in sandbox.world.submissions] == ["att_1", "att_2"]


async def test_broken_json_is_always_broken(start_sandbox: StartSandbox) -> None:
    sandbox = await start_sandbox(delay_seconds=0)
    ticket_id = (await submit(sandbox, request_body("BROKENJSON1"))).json()["id"]
    assert (await read(sandbox, ticket_id)).status_code == 202
    for _ in range(2):
        broken = await read(sandbox, ticket_id)
        assert broken.status_code == 200
        with pytest.raises(json.JSONDecodeError):
            broken.json()


async def test_a_dropped_reply_still_did_the_work(sandbox: Sandbox) -> None:
    headers = await login(sandbox)
    with pytest.raises(httpx.RemoteProtocolError):
        await sandbox.http.post(ELIGIBILITY, json=request_body("DROPREPLY1"), headers=headers)
    [submission] = sandbox.world.submissions
    assert (submission.echo, submission.member_id) == ("att_1", "DROPREPLY1")
    document = await answer_of(sandbox, submission.ref)
    assert document["internalAccountNumber1"] == "att_1"
