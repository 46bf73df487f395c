"""The simulated Healthie over real HTTP: GraphQL executed over its SDL, errors in three layers, signed policy events."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.sandboxes import Sandbox
from tests.support.waiting import eventually

SECRET = "sandbox"
HEADERS = {"Authorization": f"Basic {SECRET}", "AuthorizationSource": "API"}
URL = "/healthie/graphql"

FIND = """
query users($keywords: String, $offset: Int) {
  users(keywords: $keywords, offset: $offset, sort_by: "last_name_desc") {
    id first_name last_name dob record_identifier policies { id num insurance_plan { id payer_id } }
  }
}
"""
PLANS = """
query plans($keywords: String, $offset: Int, $is_accepted: Boolean) {
  insurancePlans(keywords: $keywords, offset: $offset, is_accepted: $is_accepted, order_by: ACCEPTED) {
    id payer_id payer_name name_and_id is_accepted
  }
}
"""
CREATE = """
mutation createClient($input: createClientInput) {
  createClient(input: $input) { user { id } messages { field message } }
}
"""
UPDATE = """
mutation updateClient($id: ID, $policies: [ClientPolicyInput]) {
  updateClient(input: {id: $id, policies: $policies}) {
    user { id policies { id num priority_type insurance_plan_id holder_first } }
    messages { field message }
  }
}
"""
RUN = """
mutation run($id: ID, $codes: [String]) {
  runEligibilityCheck(input: {id: $id, service_codes: $codes, eligibility_check_service: claim_md}) {
    eligibility_check { id created_at policy_id response response_as_html policy { num } }
    messages { field message }
  }
}
"""
LATEST = """
query policy($id: ID) {
  policy(id: $id) {
    num
    latest_eligibility_check { id created_at response }
    claim_eligibility_check_errors { code description }
  }
}
"""


async def post(sandbox: Sandbox, query: str, **variables: Any) -> httpx.Response:
    reply: httpx.Response = await sandbox.http.post(
        URL, json={"query": query, "variables": variables}, headers=HEADERS, timeout=10
    )
    return reply


async def ask(sandbox: Sandbox, query: str, **variables: Any) -> Any:
    """The one field of the answer's data."""
    reply = await post(sandbox, query, **variables)
    assert reply.status_code == 200 and "errors" not in reply.json(), reply.text
    [value] = reply.json()["data"].values()
    return value


def client(**fields: Any) -> dict[str, Any]:
    return {
        "first_name": "Jane",
        "last_name": "Sample",
        "dob": "1990-09-20",
        "gender": "Female",
        "skipped_email": True,
        "dont_send_welcome": True,
        "record_identifier": "r-1",
        **fields,
    }


async def make_client(sandbox: Sandbox, **fields: Any) -> str:
    created = await ask(sandbox, CREATE, input=client(**fields))
    assert created["messages"] is None
    user_id: str = created["user"]["id"]
    return user_id


async def make_policy(sandbox: Sandbox, member_id: str, **fields: Any) -> str:
    """A new client's primary policy with Aetna."""
    user_id = await make_client(sandbox)
    plans = await ask(sandbox, PLANS, keywords="60054", is_accepted=True)
    policy = {"num": member_id, "insurance_plan_id": plans[0]["id"], "priority_type": "Primary", **fields}
    updated = await ask(sandbox, UPDATE, id=user_id, policies=[policy])
    assert updated["messages"] is None
    policy_id: str = updated["user"]["policies"][0]["id"]
    return policy_id


async def answer(sandbox: Sandbox, member_id: str, codes: list[str] | None = None, **fields: Any) -> Any:
    """The parsed `response` of a check."""
    policy_id = await make_policy(sandbox, member_id, **fields)
    ran = await ask(sandbox, RUN, id=policy_id, codes=codes or ["MH"])
    assert ran["messages"] is None
    return json.loads(ran["eligibility_check"]["response"])


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": f"Basic {SECRET}"},
        {"Authorization": "Basic wrong", "AuthorizationSource": "API"},
        {"Authorization": f"Bearer {SECRET}", "AuthorizationSource": "API"},
        {"Authorization": "Basic " + base64.b64encode(f"{SECRET}:".encode()).decode(), "AuthorizationSource": "API"},
    ],
)
async def test_only_the_raw_key_opens_the_api(sandbox: Sandbox, headers: dict[str, str]) -> None:
    reply = await sandbox.http.post(URL, json={"query": "{ users { id } }"}, headers=headers)
    assert reply.status_code == 401
    assert reply.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_a_document_that_does_not_fit_the_schema_is_refused(sandbox: Sandbox) -> None:
    for query, variables in (
        ("{ users { nonsense } }", {}),
        ("query {", {}),
        ("mutation { createPolicy { id } }", {}),
        (RUN.replace("claim_md", "other"), {}),
        (CREATE, {"input": {"frist_name": "Jane"}}),
    ):
        reply = await post(sandbox, query, **variables)
        assert reply.status_code == 400 and reply.json()["errors"][0]["message"]
    assert (await sandbox.http.post(URL, content=b"{", headers=HEADERS)).status_code == 400
    assert (await sandbox.http.post(URL, json={"q": ""}, headers=HEADERS)).status_code == 400
    missing = await sandbox.http.post("/healthie/other", headers=HEADERS)
    assert missing.status_code == 404 and missing.headers["content-type"].startswith("text/html")


async def test_only_one_providers_clients_are_found(sandbox: Sandbox) -> None:
    query = 'query q($provider_id: String) { users(keywords: "Sample", provider_id: $provider_id) { id } }'
    own = await make_client(sandbox)
    others = await make_client(sandbox, dietitian_id="1002", first_name="John")
    assert [user["id"] for user in await ask(sandbox, query)] == [own]
    assert [user["id"] for user in await ask(sandbox, query, provider_id="1002")] == [others]


async def test_clients_are_found_when_every_word_fits(sandbox: Sandbox) -> None:
    jane = await make_client(sandbox, record_identifier="rec-7")
    john = await make_client(sandbox, first_name="John")
    assert [user["id"] for user in await ask(sandbox, FIND, keywords="Jane Sample 1990-09-20")] == [jane]
    assert {user["id"] for user in await ask(sandbox, FIND, keywords="Sample")} == {jane, john}
    assert [user["id"] for user in await ask(sandbox, FIND, keywords="rec-7")] == [jane]
    assert await ask(sandbox, FIND, keywords="Jane 1991-01-01") == []
    assert await ask(sandbox, FIND, keywords="Sample", offset=10) == []
    assert (await ask(sandbox, "query q($id: ID) { user(id: $id) { dob gender } }", id=jane)) == {
        "dob": "1990-09-20",
        "gender": "Female",
    }
    assert await ask(sandbox, 'query { user(id: "9") { id } }') is None
    assert await ask(sandbox, "query { user(or_current_user: true) { id } }") == {"id": "1001"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"first_name": ""}, "first_name"),
        ({"last_name": None}, "last_name"),
        ({"skipped_email": False}, "email"),
        ({"email": "jane"}, "email"),
        ({"dob": "09/20/1990"}, "dob"),
    ],
)
async def test_a_client_that_is_refused_comes_back_as_messages(
    sandbox: Sandbox, changes: dict[str, Any], field: str
) -> None:
    created = await ask(sandbox, CREATE, input=client(**changes))
    assert created["user"] is None and [message["field"] for message in created["messages"]] == [field]
    assert await ask(sandbox, FIND, keywords="") == []


async def test_email_and_name_are_taken_once(sandbox: Sandbox) -> None:
    await make_client(sandbox, email="jane@sample.example")
    again = await ask(sandbox, CREATE, input=client(email="jane@sample.example"))
    assert again["messages"][0]["field"] == "email"
    await make_client(sandbox, email="jane@sample.example", first_name="Janet")
    await make_client(sandbox)
    await make_client(sandbox)


async def test_plans_are_found_by_payer_id_and_paged(sandbox: Sandbox) -> None:
    aetna = await ask(sandbox, PLANS, keywords="60054")
    assert [plan["is_accepted"] for plan in aetna] == [True, False]
    assert aetna[0]["name_and_id"] == "Aetna - 60054"
    assert [plan["payer_name"] for plan in await ask(sandbox, PLANS, keywords="60054", is_accepted=True)] == ["Aetna"]
    first, second = await ask(sandbox, PLANS), await ask(sandbox, PLANS, offset=10)
    assert len(first) == 10 and second
    assert {plan["id"] for plan in first}.isdisjoint(plan["id"] for plan in second)
    assert await ask(sandbox, PLANS, offset=20) == []


async def test_policies_are_created_changed_and_removed(sandbox: Sandbox) -> None:
    user_id = await make_client(sandbox)
    plan = (await ask(sandbox, PLANS, keywords="60054"))[0]["id"]

    async def update(**policy: Any) -> Any:
        return await ask(sandbox, UPDATE, id=user_id, policies=[policy])

    [created] = (await update(num="A1", insurance_plan_id=plan, priority_type="primary"))["user"]["policies"]
    assert created["priority_type"] == "Primary" and created["insurance_plan_id"] == plan
    [changed] = (await update(id=created["id"], num="A2"))["user"]["policies"]
    assert changed == {**created, "num": "A2"}
    for refused in (
        {"num": "B", "priority_type": "Primary"},
        {"num": "B", "priority_type": "Tertiary"},
        {"num": "B", "insurance_plan_id": "999"},
        {"num": "B", "holder_dob": "01/02/1960"},
        {"id": "999", "num": "B"},
    ):
        answered = await update(**refused)
        assert answered["user"] is None and answered["messages"][0]["field"] == "policies"
    assert len((await update(num="B", priority_type="Secondary"))["user"]["policies"]) == 2
    assert len((await update(id=created["id"], _destroy=True))["user"]["policies"]) == 1
    unknown = await ask(sandbox, UPDATE, id="999", policies=[])
    assert unknown["messages"][0]["field"] == "id"


async def test_a_check_answers_with_claim_md_json_and_stays_readable(sandbox: Sandbox) -> None:
    policy_id = await make_policy(sandbox, "ELIGIBLE1", group_num="G1")
    ran = await ask(sandbox, RUN, id=policy_id, codes=["MH"])
    check = ran["eligibility_check"]
    assert ran["messages"] is None and check["policy_id"] == policy_id and check["policy"] == {"num": "ELIGIBLE1"}
    assert check["response_as_html"]
    [submission] = sandbox.world.submissions
    assert (submission.vendor, submission.echo, submission.member_id) == ("healthie", "r-1", "ELIGIBLE1")
    assert submission.ref == check["id"]
    latest = (await ask(sandbox, LATEST, id=policy_id))["latest_eligibility_check"]
    assert latest == {name: check[name] for name in ("id", "created_at", "response")}

    elig = json.loads(check["response"])["result"]["elig"]
    assert (elig["ins_name_f"], elig["ins_dob"], elig["ins_number"]) == ("JANE", "19900920", "ELIGIBLE1")
    assert elig["ins_sex"] == "F" and elig["group_number"] == "G1"

    def pick(kind: str, service: str, **values: str) -> dict[str, str]:
        wanted = {"benefit_coverage_code": kind, "benefit_code": service, **values}
        [row] = [row for row in elig["benefit"] if wanted.items() <= row.items()]
        found: dict[str, str] = row
        return found

    inside = {"inplan_network": "Y", "benefit_level_code": "IND"}
    assert pick("1", "30")["insurance_type_code"] == "HM"
    assert pick("1", "MH")
    assert pick("B", "MH")["benefit_amount"] == "30"
    assert pick("A", "MH", inplan_network="Y")["benefit_percent"] == "10"
    assert pick("C", "30", benefit_period_code="23", **inside)["benefit_amount"] == "1000"
    assert pick("C", "30", benefit_period_code="29", **inside)["benefit_amount"] == "250"
    assert pick("G", "30", benefit_period_code="23", **inside)["benefit_amount"] == "5000"
    assert pick("G", "30", benefit_period_code="29", **inside)["benefit_amount"] == "4000"


async def test_the_default_service_is_discontinued_and_a_check_needs_a_policy(sandbox: Sandbox) -> None:
    policy_id = await make_policy(sandbox, "ELIGIBLE1")
    default = RUN.replace(", eligibility_check_service: claim_md", "")
    refused = await ask(sandbox, default, id=policy_id, codes=["30"])
    assert refused["eligibility_check"] is None
    assert refused["messages"][0]["field"] == "eligibility_check_service"
    assert (await ask(sandbox, RUN, id="999"))["messages"][0]["field"] == "id"
    empty = await make_policy(sandbox, "", insurance_plan_id=None)
    messages = (await ask(sandbox, RUN, id=empty))["messages"]
    assert [message["field"] for message in messages] == ["num", "insurance_plan_id"]
    assert sandbox.world.submissions == []


async def test_without_service_codes_the_whole_plan_is_asked(sandbox: Sandbox) -> None:
    policy_id = await make_policy(sandbox, "ELIGIBLE1")
    ran = await ask(sandbox, RUN.replace("service_codes: $codes,", "").replace(", $codes: [String]", ""), id=policy_id)
    rows = json.loads(ran["eligibility_check"]["response"])["result"]["elig"]["benefit"]
    assert {row["benefit_code"] for row in rows} == {"30"}


async def test_the_holder_is_the_insured_of_a_dependent(sandbox: Sandbox) -> None:
    holder: dict[str, Any] = {"holder_relationship": "Child", "holder_first": "John", "holder_last": "Sample"}
    elig = (await answer(sandbox, "ELIGIBLE1", holder_dob="1960-01-02", holder_gender="Male", **holder))["result"][
        "elig"
    ]
    assert (elig["ins_name_f"], elig["ins_dob"], elig["ins_sex"]) == ("JOHN", "19600102", "M")
    refused = await answer(sandbox, "BADNAME1", **holder)
    assert refused["error"][0]["error_code"] == "65"


async def test_inactive_is_a_single_benefit_and_not_covered_names_the_service(sandbox: Sandbox) -> None:
    inactive = (await answer(sandbox, "INACTIVE1"))["result"]["elig"]["benefit"]
    assert inactive["benefit_coverage_code"] == "6" and inactive["benefit_code"] == "30"
    rows = (await answer(sandbox, "NOTCOVERED1"))["result"]["elig"]["benefit"]
    assert [(row["benefit_coverage_code"], row["benefit_code"]) for row in rows] == [("1", "30"), ("I", "MH")]


@pytest.mark.parametrize(
    ("member_id", "code", "is_list"),
    [
        ("BADMEMBER1", "72", False),
        ("BADNAME1", "73", True),
        ("BADDOB1", "71", False),
        ("PAYERDOWN1", "42", True),
        ("BADNPI1", "51", False),
        ("BADPAYER1", "79", False),
    ],
)
async def test_a_refusal_is_a_claim_md_error(sandbox: Sandbox, member_id: str, code: str, is_list: bool) -> None:
    policy_id = await make_policy(sandbox, member_id)
    check = (await ask(sandbox, RUN, id=policy_id))["eligibility_check"]
    error = json.loads(check["response"])["error"]
    assert isinstance(error, list) is is_list
    error = error[0] if is_list else error
    assert error["error_code"] == code and error["error_mesg"]
    assert check["response_as_html"] is None
    [known] = (await ask(sandbox, LATEST, id=policy_id))["claim_eligibility_check_errors"]
    assert known["code"] == code


async def test_a_payer_that_claim_md_cannot_ask_is_error_410(sandbox: Sandbox) -> None:
    plan = (await ask(sandbox, PLANS, keywords="NOELG"))[0]["id"]
    assert (await answer(sandbox, "ELIGIBLE1", insurance_plan_id=plan))["error"]["error_code"] == "410"


async def test_broken_json_is_inside_the_response_string(sandbox: Sandbox) -> None:
    policy_id = await make_policy(sandbox, "BROKENJSON1")
    check = (await ask(sandbox, RUN, id=policy_id))["eligibility_check"]
    with pytest.raises(json.JSONDecodeError):
        json.loads(check["response"])


async def test_the_rate_limit_is_an_error_under_http_200(sandbox: Sandbox) -> None:
    policy_id = await make_policy(sandbox, "RATELIMIT1")
    for _ in range(2):
        refused = await post(sandbox, RUN, id=policy_id)
        assert refused.status_code == 200
        assert refused.json()["errors"][0]["extensions"]["code"] == "TOO_MANY_REQUESTS"
        assert "data" not in refused.json() and "retry-after" not in refused.headers
        assert (await ask(sandbox, RUN, id=policy_id))["eligibility_check"]
    assert len(sandbox.world.submissions) == 2


async def test_a_500_once_before_anything_is_stored(sandbox: Sandbox) -> None:
    user_id = await make_client(sandbox)
    failed = await post(sandbox, UPDATE, id=user_id, policies=[{"num": "HTTP500ONCE1"}])
    assert failed.status_code == 500
    again = await ask(sandbox, UPDATE, id=user_id, policies=[{"num": "HTTP500ONCE1"}])
    assert len(again["user"]["policies"]) == 1


async def test_a_dropped_reply_did_the_check(sandbox: Sandbox) -> None:
    policy_id = await make_policy(sandbox, "DROPREPLY1")
    assert (await ask(sandbox, LATEST, id=policy_id))["latest_eligibility_check"] is None
    with pytest.raises(httpx.RemoteProtocolError):
        await post(sandbox, RUN, id=policy_id)
    latest = (await ask(sandbox, LATEST, id=policy_id))["latest_eligibility_check"]
    assert latest["id"] == sandbox.world.submissions[0].ref and json.loads(latest["response"])


async def test_never_hangs_is_cut_and_leaves_no_check(sandbox: Sandbox) -> None:
    policy_id = await make_policy(sandbox, "NEVER1")
    with pytest.raises(httpx.RemoteProtocolError):
        await post(sandbox, RUN, id=policy_id)
    assert (await ask(sandbox, LATEST, id=policy_id))["latest_eligibility_check"] is None
    assert len(sandbox.world.submissions) == 1


async def test_policy_events_are_signed_as_the_guides_sample_verifies_them(sandbox: Sandbox) -> None:
    policy_id = await make_policy(sandbox, "ELIGIBLE1")
    await ask(sandbox, RUN, id=policy_id)
    await eventually(lambda: len(sandbox.gateway.events) == 2)
    path = urlsplit(f"{sandbox.world.settings.gateway_url}/v1/vendor-events/healthie").path
    key = "whsec_" + hashlib.sha256(b"sandbox:healthie").hexdigest()
    for event in sandbox.gateway.events:
        digest = base64.b64encode(hashlib.sha256(event.body).digest()).decode()
        assert event.headers["content-digest"] == f"SHA-256={digest}"
        unpadded = event.headers["content-digest"].split("=")[1]
        signed = f"post {path}  {unpadded} application/json {len(event.body)}"
        expected = hmac.new(key.encode(), signed.encode(), "sha256").hexdigest()
        assert event.headers["signature"] == f"sig1={expected}"
        assert event.headers["content-type"] == "application/json" and event.headers["signature-input"]
    created, updated = (json.loads(event.body) for event in sandbox.gateway.events)
    about = {"resource_id": int(policy_id), "resource_id_type": "Policy"}
    assert created == {**about, "event_type": "policy.created"}
    assert updated == {**about, "event_type": "policy.updated", "changed_fields": ["updated_at"]}


async def test_duplicate_events_and_no_events(sandbox: Sandbox) -> None:
    await make_policy(sandbox, "NOEVENT1")
    await make_policy(sandbox, "DUPLICATEEVENT1")
    await eventually(lambda: len(sandbox.gateway.events) == 2)
    first, second = sandbox.gateway.events
    assert first.body == second.body
