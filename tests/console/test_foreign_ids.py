"""Every page and form of the console with the ids of another tenant: nothing is shown, and nothing of theirs changes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio

from covergate.access.api_keys import create_key, list_keys
from covergate.access.caller import NOWHERE
from covergate.access.console_sessions import find_session, open_session
from covergate.access.console_users import SignedIn, create_user
from covergate.access.operators import create_operator, find_tenant, list_operators
from covergate.access.quotas import ACCOUNT_CHANGES, REDELIVERIES, QuotaPolicy, endpoint_tests_policy
from covergate.access.saved_views import save_view
from covergate.console.visitor import cookie_of
from covergate.gateway import Gateway
from covergate.settings import Settings
from tests.console.routes import routes
from tests.e2e.house import REQUEST, House, opened_house
from tests.support.sql import run_sql

OF_TEST_EVENTS = endpoint_tests_policy(Settings(_env_file=None))
pytestmark = pytest.mark.asyncio(loop_scope="session")

THEIRS = ("Zorvexa", "Quillmandeur", "north-partner.example", "norths-own-key", "berta-of-north")
"""Of Clinic North, where only its own people may meet it."""
FORM = {
    "reason": "support",
    "sure": "yes",
    "status": "disabled",
    "type": "endpoint.test",
    "since": "24h",
    "what": "all",
    "do": "cancel",
    "action": "give_up",
    "url": "https://elsewhere.example.com/",
    "event_types": "*",
    "known": "0",
}
"""What the forms take, all of it each time."""
UNTOUCHED = (
    "verifications",
    "work",
    "webhook_endpoints",
    "deliveries",
    "saved_views",
    "bulk_jobs",
    "bulk_items",
    "vendor_accounts",
    "api_keys",
    "operators",
    "console_users",
    "vendor_standing",
    "portal_links",
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house(postgres_url: str, template: str) -> AsyncIterator[House]:
    async with opened_house(postgres_url, template, with_worker=False) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def norths(house: House) -> dict[str, str]:
    """Path parameter → what is Clinic North's."""
    patient = REQUEST["patient"] | {"first_name": "Zorvexa", "last_name": "Quillmandeur", "member_id": "ELIGIBLE-1"}
    body = {**REQUEST, "patient": patient, "vendor": "sohar"}
    made = await house.client.post("/v1/verifications", json=body)
    assert made.status_code == 202, made.text
    endpoint = await house.client.post("/v1/webhook-endpoints", json={"url": "https://north-partner.example/"})
    assert endpoint.status_code == 201, endpoint.text
    delivery = await house.client.post(f"/v1/webhook-endpoints/{endpoint.json()['id']}/test")
    order = {"action": "cancel", "filter": {"vendor": "vsee"}, "dry_run": True}
    job = await house.client.post("/v1/verifications/bulk", json=order)
    given = {"credentials": {"client_id": "own", "client_secret": "a-secret-of-our-own"}, "environment": "sandbox"}
    assert (await house.client.put("/v1/vendor-accounts/sohar", json=given)).status_code == 201
    await create_key(house.gateway, tenant="Clinic North", mode="test", name="norths-own-key")
    await create_user(house.gateway, login="berta-of-north", name="Berta", tenant="Clinic North", roles=["staff"])
    await create_operator(house.gateway, name="Night shift")
    token = await cookie(house.gateway, "staff", tenant="Clinic North")
    berta = await find_session(house.gateway, token, timedelta(minutes=15), touch=False)
    assert berta is not None
    await save_view(house.gateway, berta, "The failed ones", "status=failed")
    [view] = await run_sql(house.gateway, "SELECT id FROM saved_views")
    [session] = await run_sql(house.gateway, "SELECT id FROM console_sessions ORDER BY created_at DESC LIMIT 1")
    return {
        "verification_id": made.json()["id"],
        "endpoint_id": endpoint.json()["id"],
        "delivery_id": delivery.json()["id"],
        "job_id": job.json()["id"],
        "session_id": session.id,
        "view_id": view.id,
        "key_id": next(key.id for key in await list_keys(house.gateway) if key.name == "norths-own-key"),
        "operator_id": (await list_operators(house.gateway))[0].id,
        "login": "berta-of-north",
        "vendor": "sohar",
        "kind": "ndjson",
        "candidate_id": "1",
    }


async def cookie(gateway: Gateway, *roles: str, tenant: str) -> str:
    async with gateway.connection() as db:
        tenant_id = await find_tenant(db, tenant)
    who = SignedIn(f"link {' '.join(roles)}", "Sam of South", tenant_id, roles)
    return await open_session(gateway, who, NOWHERE, "test")


async def partners_cookie(house: House, key: str) -> str:
    """Of somebody who came by a portal link."""
    made = await house.client.post("/v1/portal-links", headers={"authorization": f"Bearer {key}"})
    code = made.json()["url"].partition("#")[2]
    entered = await house.client.post("/console/enter", data={"code": code})
    assert entered.status_code == 303, entered.text
    house.client.cookies.clear()
    return str(entered.cookies[cookie_of(house.gateway)])


def client_of(house: House, token: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=house.client.base_url, cookies={cookie_of(house.gateway): token}, trust_env=False, timeout=60
    )


def form(token: str, **fields: str) -> dict[str, str]:
    return {**FORM, "csrf": hashlib.sha256(f"covergate csrf {token}".encode()).hexdigest(), **fields}


async def snapshot(gateway: Gateway) -> dict[str, Any]:
    """Without the times at which keys and operators were last used."""
    found = {}
    for table in UNTOUCHED:
        rows = await run_sql(gateway, f"SELECT to_jsonb(t) - 'last_used_at' AS row FROM {table} t ORDER BY 1")
        found[table] = [row.row for row in rows]
    norths = "SELECT id FROM tenants WHERE name = 'Clinic North'"
    sessions = f"SELECT id FROM console_sessions WHERE ended_at IS NULL AND tenant_id = ({norths})"
    return found | {"sessions": [row.id for row in await run_sql(gateway, sessions)]}


@pytest.mark.parametrize("roles", [("administrator",), ("staff", "phi", "webhooks"), ("webhooks",)])
async def test_ids_of_another_tenant_lead_nowhere(house: House, norths: dict[str, str], roles: tuple[str, ...]) -> None:
    south = await create_key(house.gateway, tenant="Clinic South", mode="test", scopes=["webhooks:manage"])
    if roles == ("webhooks",):
        token = await partners_cookie(house, south)
    else:
        token = await cookie(house.gateway, *roles, tenant="Clinic South")
    named = {"tenant": "Clinic North", "endpoint": norths["endpoint_id"], "family": norths["verification_id"]}
    before = await snapshot(house.gateway)
    async with client_of(house, token) as client:
        assert (await client.get("/console/webhooks")).status_code in (200, 403), "no session, nothing at stake"
        for method, path in routes():
            if path in ("/sign-out", "/mode") or (path, method) == ("/webhooks", "POST"):
                continue
            url = "/console" + path.format(**norths)
            fields = form(token, delivery=norths["delivery_id"], endpoint=norths["endpoint_id"], tenant="Clinic North")
            sent = {"data": fields} if method != "GET" else {"params": named}
            answer = await client.request(method, url, **sent)  # type: ignore[arg-type]
            assert [their for their in THEIRS if their in answer.text] == [], (method, path)
            if "{" in path and path not in ("/vendors/{vendor}", "/audit/export/{kind}"):
                where = answer.headers.get("location", "")
                led_nowhere = answer.status_code in (403, 404, 422) or where.endswith(
                    ("done=gone", "/jobs?done=ordered")
                )
                assert led_nowhere, (method, path, answer.status_code, where)
    assert await snapshot(house.gateway) == before


async def test_a_delivery_of_another_tenant_is_not_redelivered_through_an_own_verification(
    house: House, norths: dict[str, str]
) -> None:
    key = await create_key(house.gateway, tenant="Clinic South", mode="test")
    body = {**REQUEST, "patient": REQUEST["patient"] | {"member_id": "ELIGIBLE-2"}, "vendor": "sohar"}
    made = await house.client.post("/v1/verifications", json=body, headers={"authorization": f"Bearer {key}"})
    token = await cookie(house.gateway, "staff", "webhooks", tenant="Clinic South")
    before = await snapshot(house.gateway)
    async with client_of(house, token) as client:
        path = f"/console/verifications/{made.json()['id']}/redeliver"
        answer = await client.post(path, data=form(token, delivery=norths["delivery_id"]))
    assert answer.status_code == 404
    assert await snapshot(house.gateway) == before


@pytest.mark.parametrize(
    ("policy", "path", "status"),
    [
        (ACCOUNT_CHANGES, "/access/accounts/sohar/test", 200),
        (OF_TEST_EVENTS, "/webhooks/{endpoint_id}/test", 303),
        (REDELIVERIES, "/webhooks/deliveries/{delivery_id}/redeliver", 303),
    ],
)
async def test_the_console_and_the_api_take_from_one_bucket(
    house: House, norths: dict[str, str], policy: QuotaPolicy, path: str, status: int
) -> None:
    token = await cookie(house.gateway, "administrator", "webhooks", tenant="Clinic North")
    async with house.gateway.connection() as db:
        tenant_id = await find_tenant(db, "Clinic North")
    quotas = house.app.state.limits.quotas
    async with client_of(house, token) as client:
        answer = await client.post("/console" + path.format(**norths), data=form(token))
        assert answer.status_code == status, answer.text
        quotas.owe(policy, tenant_id, 2 * policy.quota)  # one of them is paid within a second
        answer = await client.post("/console" + path.format(**norths), data=form(token))
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
    asked = {
        ACCOUNT_CHANGES: ("POST", "/v1/vendor-accounts/sohar/test"),
        OF_TEST_EVENTS: ("POST", "/v1/webhook-endpoints/{endpoint_id}/test"),
        REDELIVERIES: ("POST", "/v1/deliveries/{delivery_id}/redeliver"),
    }[policy]
    assert (await house.client.request(asked[0], asked[1].format(**norths))).status_code == 429
    quotas._buckets.clear()
    await run_sql(house.gateway, "DELETE FROM quotas")
