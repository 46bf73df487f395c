from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

from covergate.access.api_keys import create_key
from covergate.gateway import Gateway
from covergate.webhooks.endpoints import MOST_ENDPOINTS, place_of_secret
from tests.support.clients import End, Keys, Post, Rows
from tests.support.due_deliveries import deliveries_due_in

URL = "https://intake.example.com/hook"
PATH = "/v1/webhook-endpoints"


@pytest.fixture
async def endpoint(client: httpx.AsyncClient, keys: Keys) -> dict[str, Any]:
    answer = await client.post(PATH, json={"url": URL}, headers=keys.full)
    assert answer.status_code == 201
    made: dict[str, Any] = answer.json()
    return made


async def test_the_secret_is_shown_at_creation_and_rotation_only(
    client: httpx.AsyncClient, keys: Keys, endpoint: dict[str, Any], rows: Rows
) -> None:
    assert len(base64.b64decode(endpoint["secret"].removeprefix("whsec_"))) == 32
    path = f"{PATH}/{endpoint['id']}"
    read = (await client.get(path, headers=keys.full)).json()
    assert read == {name: value for name, value in endpoint.items() if name != "secret"}
    assert (await client.get(PATH, headers=keys.full)).json()["data"] == [read]
    rotated = (await client.post(f"{path}/rotate-secret", headers=keys.full)).json()
    assert rotated["secret"] != endpoint["secret"] and rotated["previous_secret_until"] is not None
    kept = (await rows("SELECT secret_sealed, previous_secret_sealed FROM webhook_endpoints"))[0]
    assert endpoint["secret"].encode() not in kept.secret_sealed + kept.previous_secret_sealed


async def test_after_a_rotation_both_secrets_open(
    client: httpx.AsyncClient, keys: Keys, endpoint: dict[str, Any], rows: Rows, gateway: Gateway
) -> None:
    rotated = await client.post(f"{PATH}/{endpoint['id']}/rotate-secret", headers=keys.full)
    kept = (await rows("SELECT tenant_id, secret_sealed, previous_secret_sealed FROM webhook_endpoints"))[0]
    opened = [
        gateway.sealer.open(
            place_of_secret(kept.tenant_id, "test", endpoint["id"], column), kept._mapping[f"{column}_sealed"]
        ).decode()
        for column in ("secret", "previous_secret")
    ]
    assert opened == [rotated.json()["secret"], endpoint["secret"]]


async def test_update_changes_what_is_given(
    client: httpx.AsyncClient, keys: Keys, endpoint: dict[str, Any], rows: Rows
) -> None:
    path = f"{PATH}/{endpoint['id']}"
    changes = {"event_types": ["verification.failed"], "description": "front desk", "payload": "full"}
    changed = (await client.patch(path, json=changes, headers=keys.full)).json()
    assert changed["updated_at"] > endpoint["updated_at"]
    expected = {**endpoint, **changes, "updated_at": changed["updated_at"]}
    del expected["secret"]
    assert changed == expected
    cleared = (await client.patch(path, json={"description": None, "status": "disabled"}, headers=keys.full)).json()
    assert (cleared["description"], cleared["status"], cleared["payload"]) == (None, "disabled", "full")
    await rows("UPDATE webhook_endpoints SET disabled_reason = 'it answered 410 Gone' RETURNING 1")
    enabled = (await client.patch(path, json={"status": "enabled"}, headers=keys.full)).json()
    assert (enabled["status"], enabled["disabled_reason"]) == ("enabled", None)
    assert (await client.patch(path, json={}, headers=keys.full)).json() == enabled


@pytest.mark.parametrize(
    ("changes", "where", "code"),
    [
        ({"url": None}, "/url", "invalid_type"),
        ({"url": "ftp://x.example.com"}, "/url", "invalid_url"),
        ({"url": "http://x.example.com"}, "/url", "invalid_url"),
        ({"url": "https://127.0.0.1/x"}, "/url", "invalid_url"),
        ({"url": "https://user:secret@x.example.com"}, "/url", "invalid_url"),
        ({"url": "https://x.example.com/\x00"}, "/url", "invalid_text"),
        ({"event_types": []}, "/event_types", "too_short"),
        ({"event_types": ["*", "verification.failed"]}, "/event_types/0", "invalid_value"),
        ({"event_types": ["verification.gone"]}, "/event_types/0", "invalid_value"),
        ({"payload": "fat"}, "/payload", "invalid_value"),
        ({"description": "x" * 201}, "/description", "too_long"),
        ({"secret": "mine"}, "/secret", "unknown_field"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_bad_endpoints(
    client: httpx.AsyncClient,
    keys: Keys,
    endpoint: dict[str, Any],
    method: str,
    changes: dict[str, Any],
    where: str,
    code: str,
) -> None:
    path, body = (PATH, {"url": URL, **changes}) if method == "POST" else (f"{PATH}/{endpoint['id']}", changes)
    answer = await client.request(method, path, json=body, headers=keys.full)
    assert answer.status_code == 422 and answer.json()["code"] == "invalid_request"
    assert [(error["pointer"], error["code"]) for error in answer.json()["errors"]] == [(where, code)]
    assert "secret@" not in answer.text


async def test_full_payloads_need_the_scope_to_read(
    client: httpx.AsyncClient, keys: Keys, gateway: Gateway, endpoint: dict[str, Any]
) -> None:
    manager = {
        "authorization": "Bearer "
        + await create_key(gateway, tenant="Clinic North", mode="test", scopes=["webhooks:manage"])
    }
    refused = await client.post(PATH, json={"url": URL, "payload": "full"}, headers=manager)
    assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
    path = f"{PATH}/{endpoint['id']}"
    assert (await client.patch(path, json={"payload": "full"}, headers=manager)).status_code == 403
    assert (await client.patch(path, json={"url": "https://b.example.com"}, headers=manager)).status_code == 200
    assert (await client.patch(path, json={"payload": "full"}, headers=keys.full)).status_code == 200
    redirected = await client.patch(path, json={"url": "https://thief.example.com"}, headers=manager)
    assert redirected.status_code == 403


async def test_delete_ends_what_is_pending_and_hides_the_endpoint(
    client: httpx.AsyncClient, keys: Keys, endpoint: dict[str, Any], post: Post, end: End, rows: Rows
) -> None:
    await end((await post())["id"])
    path = f"{PATH}/{endpoint['id']}"
    delivery = (await client.get(f"{path}/deliveries", headers=keys.full)).json()["data"][0]
    gone = await client.delete(path, headers=keys.full)
    assert (gone.status_code, gone.content) == (204, b"")
    assert [tuple(row) for row in await rows("SELECT status, next_attempt_at, due_at FROM deliveries")] == [
        ("exhausted", None, None)
    ]
    for method, where in [
        ("GET", path),
        ("DELETE", path),
        ("GET", f"{path}/deliveries"),
        ("POST", f"{path}/test"),
        ("POST", f"/v1/deliveries/{delivery['id']}/redeliver"),
    ]:
        assert (await client.request(method, where, headers=keys.full)).status_code == 404
    assert (await client.get(PATH, headers=keys.full)).json()["data"] == []


async def test_a_test_event_goes_to_one_endpoint_whatever_it_subscribes_to(
    client: httpx.AsyncClient, keys: Keys, endpoint: dict[str, Any], rows: Rows, gateway: Gateway
) -> None:
    only_failed = {"url": URL, "event_types": ["verification.failed"]}
    other = (await client.post(PATH, json=only_failed, headers=keys.full)).json()
    answer = await client.post(f"{PATH}/{other['id']}/test", headers=keys.full)
    assert answer.status_code == 202
    delivery = answer.json()
    assert (delivery["endpoint_id"], delivery["event_type"], delivery["status"]) == (
        other["id"],
        "endpoint.test",
        "pending",
    )
    assert (await rows("SELECT count(*) FROM deliveries"))[0][0] == 1
    assert await deliveries_due_in(gateway).ids() == [delivery["id"]]
    events = (await client.get("/v1/events?type=endpoint.test", headers=keys.full)).json()["data"]
    assert [(event["id"], event["data"]) for event in events] == [(delivery["event_id"], {"id": other["id"]})]


async def test_a_disabled_endpoint_is_not_tested(
    client: httpx.AsyncClient, keys: Keys, endpoint: dict[str, Any]
) -> None:
    path = f"{PATH}/{endpoint['id']}"
    await client.patch(path, json={"status": "disabled"}, headers=keys.full)
    answer = await client.post(f"{path}/test", headers=keys.full)
    assert (answer.status_code, answer.json()["code"]) == (409, "endpoint_disabled")


async def test_there_is_a_limit(client: httpx.AsyncClient, keys: Keys, endpoint: dict[str, Any], rows: Rows) -> None:
    await rows(
        "INSERT INTO webhook_endpoints (id, tenant_id, mode, url, event_types, payload, status, secret_sealed)"
        " SELECT 'whe_' || n, w.tenant_id, w.mode, w.url, w.event_types, w.payload, w.status, w.secret_sealed"
        " FROM webhook_endpoints w, generate_series(2, :most) AS n RETURNING 1",
        most=MOST_ENDPOINTS,
    )
    answer = await client.post(PATH, json={"url": URL}, headers=keys.full)
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_endpoints")
    assert (await client.post(PATH, json={"url": URL}, headers=keys.other)).status_code == 201


async def test_pages(client: httpx.AsyncClient, keys: Keys) -> None:
    made = [(await client.post(PATH, json={"url": URL}, headers=keys.full)).json()["id"] for _ in range(3)]
    first = (await client.get(f"{PATH}?limit=2", headers=keys.full)).json()
    rest = (await client.get(PATH, params={"after": first["next_cursor"]}, headers=keys.full)).json()
    assert [row["id"] for row in first["data"] + rest["data"]] == made[::-1]
