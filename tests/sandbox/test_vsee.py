"""The simulated VSee over real HTTP: sso, insurance, a check that takes its time, AdvancedMD's 271 in the user record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Iterator
from typing import Any

import httpx
import pytest

from tests.support.sandboxes import Sandbox, StartSandbox
from tests.support.waiting import eventually

SECRET = "sandbox"
API = "/vsee/api_v3"
ACCOUNT = {"X-AccountCode": "sandbox"}
SSO = {**ACCOUNT, "X-ApiKey": "sandbox", "X-ApiSecret": SECRET}
ADMIN = {**ACCOUNT, "X-ApiToken": SECRET}

PATIENT = {
    "first_name": "Jane",
    "last_name": "Sample",
    "dob": "1990-09-20",
    "gender": 2,
    "street_addr": "1 Main St",
    "city": "Oakland",
    "state": "CA",
    "zip": "94601",
}
GUARANTOR = {
    "guarantor_name": "John Sample",
    "guarantor_dob": "1960-01-02",
    "guarantor_address": "1 Main St",
    "guarantor_city": "Oakland",
    "guarantor_state": "CA",
    "guarantor_zip": "94601",
}


async def sign_on(sandbox: Sandbox, code: str = "p-1", **fields: str) -> tuple[str, dict[str, str]]:
    """The user's id and the headers that carry the user's token."""
    form = {"first_name": "Jane", "last_name": "Sample", "type": "200", "code": code, **fields}
    reply = await sandbox.http.post(f"{API}/users/sso", files=multipart(form), headers=SSO)
    assert reply.status_code == 200, reply.text
    data = reply.json()["data"]
    assert data["token"]["user_id"] == data["id"]
    return data["id"], {**ACCOUNT, "X-ApiToken": data["token"]["token"]}


def multipart(form: dict[str, str]) -> dict[str, tuple[None, str]]:
    return {name: (None, value) for name, value in form.items()}


def insurance(member_id: str, respparty: str = "self", **more: Any) -> dict[str, Any]:
    return {
        "primary_carrier_code": "car7551",
        "primary_subscriber_num": member_id,
        "primary_group_number": "G1",
        "respparty": respparty,
        **({} if respparty == "self" else GUARANTOR),
        **more,
    }


async def ready(sandbox: Sandbox, member_id: str, respparty: str = "self") -> tuple[str, dict[str, str]]:
    """A user with everything that a check needs."""
    user_id, own = await sign_on(sandbox, f"p-{member_id}-{respparty}")
    body = {**PATIENT, "insurance": insurance(member_id, respparty)}
    reply = await sandbox.http.post(f"{API}/me", json=body, headers=own)
    assert reply.status_code == 200, reply.text
    return user_id, own


def check(
    sandbox: Sandbox, user_id: str, headers: dict[str, str], carrier: str = "car7551"
) -> Awaitable[httpx.Response]:
    reply: Awaitable[httpx.Response] = sandbox.http.post(
        f"{API}/users/{user_id}/{carrier}/eligibility", headers=headers
    )
    return reply


async def answered(sandbox: Sandbox, user_id: str, order: str = "primary") -> dict[str, Any]:
    for _ in range(1000):
        reply = await sandbox.http.get(f"{API}/users/{user_id}", headers=ADMIN)
        coverage: dict[str, Any] = reply.json()["data"]["insurance"][order]
        if "last_checked" in coverage:
            return coverage
    raise AssertionError("the check never ended")


async def outcome(sandbox: Sandbox, member_id: str, respparty: str = "self") -> dict[str, Any]:
    user_id, own = await ready(sandbox, member_id, respparty)
    assert (await check(sandbox, user_id, own)).status_code == 200
    return await answered(sandbox, user_id)


def walk(node: Any, key: str) -> Iterator[Any]:
    """Every value under `key`, anywhere; lists are opened."""
    if isinstance(node, list):
        for item in node:
            yield from walk(item, key)
    elif isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield from value if isinstance(value, list) else [value]
            yield from walk(value, key)


def benefit_rows(coverage: dict[str, Any]) -> list[dict[str, str]]:
    """Each EB segment as {"EB01": …}, whatever the attributes are called after that."""
    segments = [
        segment
        for segment in walk(coverage["raw_response"], "EligibilityOrBenefitInformation")
        if any(name.startswith("@EB01_") for name in segment)
    ]
    return [{name[1:5]: value for name, value in segment.items()} for segment in segments]


async def test_sso_is_idempotent_on_the_code_and_gives_fresh_tokens(sandbox: Sandbox) -> None:
    user_id, own = await sign_on(sandbox)
    again_id, again = await sign_on(sandbox)
    assert user_id == again_id and own != again
    assert (await sign_on(sandbox, "p-2"))[0] != user_id
    for headers in (own, again, ADMIN):
        assert (await sandbox.http.get(f"{API}/users/{user_id}", headers=headers)).status_code == 200
    me = await sandbox.http.get(f"{API}/users/-", headers=own)
    assert me.json()["data"]["id"] == user_id and "token" not in me.json()["data"]


@pytest.mark.parametrize(
    "changes", [{"X-AccountCode": "other"}, {"X-ApiKey": ""}, {"X-ApiSecret": "wrong"}, {"X-ApiSecret": ""}]
)
async def test_sso_with_bad_keys_is_401(sandbox: Sandbox, changes: dict[str, str]) -> None:
    form = multipart({"first_name": "Jane", "last_name": "Sample", "type": "200", "code": "p-1"})
    reply = await sandbox.http.post(f"{API}/users/sso", files=form, headers=SSO | changes)
    assert reply.status_code == 401
    assert set(reply.json()) == {"code", "message"} and reply.json()["code"] == 401


@pytest.mark.parametrize(
    "changes",
    [
        {"first_name": ""},
        {"code": ""},
        {"code": "x" * 129},
        {"type": "300"},
        {"dob": "09/20/1990"},
        {"gender": "F"},
        {"state": "California"},
    ],
)
async def test_a_bad_sso_form_is_400(sandbox: Sandbox, changes: dict[str, str]) -> None:
    form = {"first_name": "Jane", "last_name": "Sample", "type": "200", "code": "p-1"} | changes
    reply = await sandbox.http.post(f"{API}/users/sso", files=multipart(form), headers=SSO)
    assert reply.status_code == 400 and reply.json()["code"] == 400


async def test_sso_wants_a_multipart_form(sandbox: Sandbox) -> None:
    form = {"first_name": "Jane", "last_name": "Sample", "type": "200", "code": "p-1"}
    assert (await sandbox.http.post(f"{API}/users/sso", data=form, headers=SSO)).status_code == 400
    assert (await sandbox.http.post(f"{API}/users/sso", json=form, headers=SSO)).status_code == 400


async def test_tokens_open_only_what_they_may(sandbox: Sandbox) -> None:
    first, own = await sign_on(sandbox, "p-1")
    second, _ = await sign_on(sandbox, "p-2")
    users = f"{API}/users"
    assert (await sandbox.http.get(f"{users}/{second}", headers=own)).status_code == 403
    assert (await sandbox.http.get(f"{users}/{first}", headers=ACCOUNT)).status_code == 401
    assert (await sandbox.http.get(f"{users}/{first}", headers={"X-ApiToken": SECRET})).status_code == 401
    assert (await sandbox.http.get(f"{users}/999", headers=ADMIN)).status_code == 404
    assert (await sandbox.http.post(f"{API}/me", json=PATIENT, headers=ADMIN)).status_code == 403
    assert (await sandbox.http.get(users, headers=own)).status_code == 403
    found = await sandbox.http.get(users, params={"q": "p-2", "type": 200}, headers=ADMIN)
    assert [user["id"] for user in found.json()["data"]] == [second] and found.json()["total_count"] == 1
    sandbox.world.now = lambda: 4_102_444_800.0
    assert (await sandbox.http.get(f"{users}/{first}", headers=own)).status_code == 401


async def test_both_spellings_list_the_insurers(sandbox: Sandbox) -> None:
    for path in ("/insurances/", "/insurance/"):
        reply = await sandbox.http.get(API + path, headers=ADMIN)
        assert {"id": "car7551", "name": "AETNA"} in reply.json()["data"]["insurers"]
    missing = await sandbox.http.get(f"{API}/nothing", headers=ADMIN)
    assert missing.json() == {"code": 404, "message": "Sorry, this page is not available."}


@pytest.mark.parametrize(
    "body",
    [
        {"gender": "2"},
        {"gender": True},
        {"dob": "1990-9-20"},
        {"zip": 94601},
        {"insurance": {"primary_carrier_code": 7551}},
        {"insurance": {"respparty": "partner"}},
        {"insurance": {"primary": {"subscriber_number": "X"}}},
        {"insurance": {"primary": {"subscriber_num": 5}}},
        {"insurance": {"patient": {"respparty": "partner"}}},
        {"insurance": {"patient": {"guarantor_dob": "01/02/1960"}}},
        {"insurance": {"tertiary": {}}},
        [],
    ],
)
async def test_me_refuses_what_breaks_the_page_and_stores_nothing(sandbox: Sandbox, body: Any) -> None:
    user_id, own = await sign_on(sandbox)
    if isinstance(body, dict):
        body = {"city": "Elsewhere", **body}
    reply = await sandbox.http.post(f"{API}/me", json=body, headers=own)
    assert reply.status_code == 400 and set(reply.json()) == {"code", "message"}
    user = (await sandbox.http.get(f"{API}/users/{user_id}", headers=ADMIN)).json()["data"]
    assert user["city"] == "" and user["insurance"] == {}


@pytest.mark.parametrize("path", ["/me", "/me.json"])
async def test_me_stores_the_flat_insurance_nested(sandbox: Sandbox, path: str) -> None:
    user_id, own = await sign_on(sandbox)
    secondary = {"carrier_code": "car11406", "subscriber_num": "S2"}
    flat = {f"secondary_{name}": value for name, value in secondary.items()}
    body = {**PATIENT, "insurance": insurance("ELIGIBLE1", **flat)}
    assert (await sandbox.http.post(API + path, json=body, headers=own)).status_code == 200
    user = (await sandbox.http.get(f"{API}/users/{user_id}", headers=ADMIN)).json()["data"]
    assert user["gender"] == 2 and user["full_name"] == "Jane Sample"
    assert user["insurance"]["primary"]["insurance_order"] == 1
    assert user["insurance"]["secondary"] == {**secondary, "insurance_order": 2}
    assert user["insurance"]["patient"]["respparty"] == "self"
    assert user["insurance"]["patient"]["member_id"] != user_id


async def test_the_spelling_that_it_was_not_told_is_passed_over(
    start_sandbox: StartSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    nested = {"primary": {"carrier_code": "car7551", "subscriber_num": "S1"}, "patient": {"respparty": "self"}}
    for told, sent in (("flat", nested), ("nested", insurance("S1"))):
        monkeypatch.setenv("COVERGATE_SANDBOX_VSEE_INSURANCE_FIELDS", told)
        sandbox = await start_sandbox()
        user_id, own = await sign_on(sandbox)
        reply = await sandbox.http.post(f"{API}/me", json={**PATIENT, "insurance": sent}, headers=own)
        assert reply.json()["data"]["insurance"] == {}
        assert (await check(sandbox, user_id, own)).status_code == 400


async def test_a_check_needs_complete_data_and_a_stored_carrier(sandbox: Sandbox) -> None:
    user_id, own = await sign_on(sandbox)
    assert (await check(sandbox, user_id, own)).status_code == 400
    body = {"insurance": {**insurance("X"), "respparty": "child"}}
    await sandbox.http.post(f"{API}/me", json=body, headers=own)
    reply = await check(sandbox, user_id, own)
    assert reply.status_code == 400
    for name in ("dob", "gender", "street_addr", *GUARANTOR):
        assert name in reply.json()["message"]
    await sandbox.http.post(f"{API}/me", json={**PATIENT, "insurance": insurance("X")}, headers=own)
    assert (await check(sandbox, user_id, own, "car7147")).status_code == 400
    assert sandbox.world.submissions == []
    assert (await check(sandbox, user_id, own)).status_code == 200


async def test_a_check_is_answered_later_in_the_user_record(sandbox: Sandbox) -> None:
    user_id, own = await ready(sandbox, "ELIGIBLE1")
    before = int(sandbox.world.now())
    reply = await check(sandbox, user_id, own)
    data = reply.json()["data"]
    assert set(data) == {"eligibility_id", "carrier_code"} and data["carrier_code"] == "car7551"
    [submission] = sandbox.world.submissions
    assert (submission.vendor, submission.echo, submission.ref) == ("vsee", "p-ELIGIBLE1-self", data["eligibility_id"])

    coverage = await answered(sandbox, user_id)

    assert coverage["eligibility_id"] == data["eligibility_id"] and coverage["last_checked"] >= before
    assert coverage["eligibility_response"] == "Success / Reject reason not found"
    results = coverage["raw_response"]["PPMDResults"]["Results"]
    assert results["@eligibilityid"] == data["eligibility_id"]
    assert results["@patientname"] == "SAMPLE,JANE" and results["@dob"] == "1990-09-20T00:00:00"
    name = results["Edi271"]["TransactionSets"]["TransactionSet"]["SubscriberDetail"]["Name"]
    assert name["Name"]["@NM109_IdentificationCode"] == "ELIGIBLE1"
    assert isinstance(name["EligibilityOrBenefitInformation"]["EligibilityOrBenefitInformation"], list)
    assert list(walk(coverage["raw_response"], "AAASegment")) == []


async def test_the_eligible_benefits(sandbox: Sandbox) -> None:
    coverage = await outcome(sandbox, "ELIGIBLE1")
    rows = benefit_rows(coverage)

    def pick(**elements: str) -> dict[str, str]:
        [row] = [row for row in rows if elements.items() <= row.items()]
        return row

    assert pick(EB01="1", EB03="30")["EB04"] == "HM"
    assert pick(EB01="B", EB12="Y")["EB07"] == "30" and "MH" in pick(EB01="B")["EB03"].split("^")
    assert pick(EB01="A", EB12="Y")["EB08"] == "0.1"
    individual = {"EB02": "IND", "EB12": "Y"}
    assert pick(EB01="C", EB06="23", **individual)["EB07"] == "1000"
    assert pick(EB01="C", EB06="29", **individual)["EB07"] == "250"
    assert pick(EB01="G", EB06="23", **individual)["EB07"] == "5000"
    assert pick(EB01="G", EB06="29", **individual)["EB07"] == "4000"
    assert pick(EB01="C", EB06="23", EB02="FAM", EB12="N")
    assert pick(EB01="F", EB09="VS")["EB10"] == "20"
    assert pick(EB11="N")["EB03"] == "MH"
    segments = list(walk(coverage["raw_response"], "MSGSegment"))
    assert len(segments) > 2 and all("@MSG01_FreeFormMessageText" in segment for segment in segments)
    [dates] = walk(coverage["raw_response"], "DTPSegment")
    assert dates["@DTP01_DateTimeQualifier"] == "291" and len(dates["@DTP03_DateTimePeriod"]) == 17


async def test_a_dependents_benefits_stand_in_the_dependent_loop(sandbox: Sandbox) -> None:
    coverage = await outcome(sandbox, "ELIGIBLE1", "child")
    transaction = coverage["raw_response"]["PPMDResults"]["Results"]["Edi271"]["TransactionSets"]["TransactionSet"]
    assert transaction["SubscriberDetail"]["Name"]["Name"]["@NM104_FirstName"] == "JOHN"
    assert transaction["DependentDetail"]["Name"]["Name"]["@NM104_FirstName"] == "JANE"
    assert next(walk(transaction, "INSSegment"))["@INS02_IndividualRelationshipCode"] == "19"
    assert list(walk(transaction["SubscriberDetail"], "EligibilityOrBenefitInformation")) == []
    assert benefit_rows({"raw_response": transaction["DependentDetail"]})


async def test_an_answer_may_tell_of_two_dependents(sandbox: Sandbox) -> None:
    coverage = await outcome(sandbox, "SIBLINGS1", "child")
    transaction = coverage["raw_response"]["PPMDResults"]["Results"]["Edi271"]["TransactionSets"]["TransactionSet"]
    sibling, patient = transaction["DependentDetail"]
    assert [one["Name"]["Name"]["@NM104_FirstName"] for one in (sibling, patient)] == ["ROBIN", "JANE"]
    born = [next(walk(one, "DMGSegment"))["@DMG02_DateTimePeriod"] for one in (sibling, patient)]
    assert int(born[1]) - int(born[0]) == 40_000
    rows = [len(benefit_rows({"raw_response": one})) for one in (sibling, patient)]
    assert rows[0] == 1 < rows[1]


async def test_twins_may_be_told_of_by_other_names(sandbox: Sandbox) -> None:
    coverage = await outcome(sandbox, "TWINS1", "child")
    transaction = coverage["raw_response"]["PPMDResults"]["Results"]["Edi271"]["TransactionSets"]["TransactionSet"]
    assert [one["Name"]["Name"]["@NM104_FirstName"] for one in transaction["DependentDetail"]] == ["ROBIN", "ALEX"]
    assert len({next(walk(one, "DMGSegment"))["@DMG02_DateTimePeriod"] for one in transaction["DependentDetail"]}) == 1


async def test_mental_health_may_be_another_payers(sandbox: Sandbox) -> None:
    coverage = await outcome(sandbox, "CARVEDOUT1", "self")
    rows = [
        segment for segment in walk(coverage, "EligibilityOrBenefitInformation") if "@EB03_ServiceTypeCode" in segment
    ]
    codes = {row["@EB03_ServiceTypeCode"]: row["@EB01_EligibilityOrBenefitInformationCode"] for row in rows}
    assert codes["MH"] == "U"
    assert "30" in codes and not [types for types in codes if "^MH" in types or "MH^" in types]


@pytest.mark.parametrize(
    ("member_id", "respparty", "code", "text"),
    [
        ("BADMEMBER1", "self", "72", "Invalid/Missing subscriber/insured ID"),
        ("BADNAME1", "self", "73", "Invalid/Missing subscriber/insured name"),
        ("BADNAME1", "child", "65", "Invalid/Missing patient name"),
        ("BADDOB1", "spouse", "71", "Patient birth date does not match that for the patient in the database"),
        ("PAYERDOWN1", "self", "42", "Unable to respond at current time."),
        ("BADNPI1", "self", "51", "Provider not on file"),
        ("BADPAYER1", "self", "79", "Invalid participant identification"),
    ],
)
async def test_a_refusal_has_an_aaa_and_its_text_and_no_benefits(
    sandbox: Sandbox, member_id: str, respparty: str, code: str, text: str
) -> None:
    coverage = await outcome(sandbox, member_id, respparty)
    [segment] = walk(coverage["raw_response"], "AAASegment")
    assert segment["@AAA03_RejectReasonCode"] == code
    assert coverage["eligibility_response"] == text
    assert benefit_rows(coverage) == []


async def test_inactive_and_not_covered(sandbox: Sandbox) -> None:
    [inactive] = benefit_rows(await outcome(sandbox, "INACTIVE1"))
    assert inactive["EB01"] == "6"
    rows = benefit_rows(await outcome(sandbox, "NOTCOVERED1"))
    assert [(row["EB01"], row["EB03"]) for row in rows[:2]] == [("1", "30"), ("I", "30^MH")]


async def test_broken_json_is_a_string_of_garbage(sandbox: Sandbox) -> None:
    coverage = await outcome(sandbox, "BROKENJSON1")
    assert isinstance(coverage["raw_response"], str) and coverage["raw_response"].startswith("<?xml")


async def test_the_event_carries_the_callback_token_and_no_benefits(sandbox: Sandbox) -> None:
    user_id, own = await ready(sandbox, "DUPLICATEEVENT1")
    eligibility_id = (await check(sandbox, user_id, own)).json()["data"]["eligibility_id"]
    await eventually(lambda: len(sandbox.gateway.events) == 2)
    first, second = sandbox.gateway.events
    assert first.vendor == "vsee" and first.body == second.body
    assert first.query == {"token": hashlib.sha256(b"sandbox:vsee").hexdigest()}
    event = json.loads(first.body)
    assert event["type"] == "eligibility.checked" and event["account_code"] == "sandbox"
    assert event["data"]["eligibility_id"] == eligibility_id and event["data"]["member_id"] == user_id
    assert set(event["data"]) == {"eligibility_id", "member_id", "eligibility_response", "external_member_id"}


async def test_noevent_is_answered_silently_and_never_is_not_answered(sandbox: Sandbox) -> None:
    never_id, never = await ready(sandbox, "NEVER1")
    await check(sandbox, never_id, never)
    await outcome(sandbox, "NOEVENT1")
    await outcome(sandbox, "ELIGIBLE1")
    await eventually(lambda: len(sandbox.gateway.events) == 1)
    user = (await sandbox.http.get(f"{API}/users/{never_id}", headers=ADMIN)).json()["data"]
    assert "last_checked" not in user["insurance"]["primary"]


async def test_rate_limit_refuses_every_first_try(sandbox: Sandbox) -> None:
    user_id, own = await ready(sandbox, "RATELIMIT1")
    for _ in range(2):
        refused = await check(sandbox, user_id, own)
        assert refused.status_code == 429 and refused.headers["retry-after"] == "3"
        assert (await check(sandbox, user_id, own)).status_code == 200
    assert len(sandbox.world.submissions) == 2


async def test_a_500_once_on_reading_the_user(sandbox: Sandbox) -> None:
    user_id, own = await ready(sandbox, "HTTP500ONCE1")
    await check(sandbox, user_id, own)
    failed = await sandbox.http.get(f"{API}/users/{user_id}", headers=ADMIN)
    assert failed.status_code == 500 and failed.json()["code"] == 500
    assert await answered(sandbox, user_id)


async def test_a_dropped_reply_did_the_check(sandbox: Sandbox) -> None:
    user_id, own = await ready(sandbox, "DROPREPLY1")
    with pytest.raises(httpx.RemoteProtocolError):
        await check(sandbox, user_id, own)
    coverage = await answered(sandbox, user_id)
    assert coverage["eligibility_id"] == sandbox.world.submissions[0].ref
