from __future__ import annotations

from typing import Any

import httpx
import pytest

from covergate.api.pages import cursor
from covergate.gateway import Gateway
from covergate.states import EventType
from covergate.webhooks.events import News, publish
from covergate.webhooks.places import Places
from covergate.webhooks.sender import Deliverer
from tests.support.clients import End, Keys, Post, Rows
from tests.support.due_deliveries import deliveries_due_in


@pytest.fixture
async def delivery(client: httpx.AsyncClient, keys: Keys, post: Post, end: End) -> dict[str, Any]:
    made = await client.post(
        "/v1/webhook-endpoints", json={"url": "https://covergate-test.invalid/x"}, headers=keys.full
    )
    await end((await post())["id"])
    listed = await client.get(f"/v1/webhook-endpoints/{made.json()['id']}/deliveries", headers=keys.full)
    [found] = listed.json()["data"]
    row: dict[str, Any] = found
    return row


async def test_a_delivery_lists_its_attempts(
    client: httpx.AsyncClient, keys: Keys, delivery: dict[str, Any], gateway: Gateway
) -> None:
    assert delivery["status"] == "pending" and delivery["attempts"] == []
    places = Places(gateway, 1)
    async with Deliverer(gateway, places) as deliverer:
        [claimed] = await places.claim(())
        await deliverer.deliver(claimed)
    path = f"/v1/webhook-endpoints/{delivery['endpoint_id']}/deliveries"
    [tried] = (await client.get(path, headers=keys.full)).json()["data"]
    [attempt] = tried["attempts"]
    assert (attempt["status"], attempt["error"]) == (None, "no_public_address")
    assert set(attempt) == {"at", "status", "duration_ms", "error"}
    assert tried["next_attempt_at"] > delivery["next_attempt_at"]


@pytest.mark.parametrize("status", ["pending", "delivered", "exhausted"])
async def test_redeliver_whatever_the_status(
    client: httpx.AsyncClient, keys: Keys, delivery: dict[str, Any], rows: Rows, gateway: Gateway, status: str
) -> None:
    await rows(
        "UPDATE deliveries SET status = CAST(:status AS text), tries = 12, step = 7, due_at = t.at, next_attempt_at = t.at,"
        " last_at = now(), last_status = 200, last_duration_ms = 1"
        " FROM (SELECT CASE WHEN CAST(:status AS text) = 'pending' THEN now() + interval '1 day' END AS at) AS t RETURNING 1",
        status=status,
    )
    answer = await client.post(f"/v1/deliveries/{delivery['id']}/redeliver", headers=keys.full)
    assert answer.status_code == 202
    shown = answer.json()
    assert (shown["status"], shown["event_id"]) == ("pending", delivery["event_id"])
    [row] = await rows(
        "SELECT step, tries, next_attempt_at <= clock_timestamp() AS due, due_at <= clock_timestamp(), ended_at FROM deliveries"
    )
    assert tuple(row) == (8, 0, True, True, None)
    assert await deliveries_due_in(gateway).ids() == [delivery["id"]]


async def test_redelivering_to_a_disabled_endpoint(
    client: httpx.AsyncClient, keys: Keys, delivery: dict[str, Any]
) -> None:
    endpoint = f"/v1/webhook-endpoints/{delivery['endpoint_id']}"
    await client.patch(endpoint, json={"status": "disabled"}, headers=keys.full)
    answer = await client.post(f"/v1/deliveries/{delivery['id']}/redeliver", headers=keys.full)
    assert (answer.status_code, answer.json()["code"]) == (409, "endpoint_disabled")


async def listed(client: httpx.AsyncClient, keys: Keys, endpoint_id: str, **query: Any) -> list[dict[str, Any]]:
    """All pages of the list."""
    found: list[dict[str, Any]] = []
    while True:
        path = f"/v1/webhook-endpoints/{endpoint_id}/deliveries"
        answer = await client.get(path, params=query, headers=keys.full)
        assert answer.status_code == 200, answer.text
        found += answer.json()["data"]
        if not answer.json()["has_more"]:
            return found
        query["after"] = answer.json()["next_cursor"]


async def publish_events(gateway: Gateway, rows: Rows, *types: str) -> None:
    """One event after the other, each by itself."""
    [tenant] = await rows("SELECT id FROM tenants WHERE name = 'Clinic North'")
    for type_ in types:
        async with gateway.transaction() as db:
            await publish(db, [News(tenant.id, "test", EventType(type_), None, {})])


async def test_deliveries_by_status_type_and_time(
    client: httpx.AsyncClient, keys: Keys, delivery: dict[str, Any], rows: Rows, gateway: Gateway
) -> None:
    whe = delivery["endpoint_id"]
    await publish_events(gateway, rows, "verification.failed", "vendor.degraded", "verification.failed")
    newest_first = await listed(client, keys, whe)
    types = ["verification.failed", "vendor.degraded", "verification.failed", "verification.completed"]
    assert [one["event_type"] for one in newest_first] == types
    await rows(
        "UPDATE deliveries SET status = 'exhausted', next_attempt_at = NULL, due_at = NULL WHERE id = ANY(:ids) RETURNING 1",
        ids=[newest_first[0]["id"], newest_first[3]["id"]],
    )

    async def positions(**query: Any) -> list[int]:
        order = [one["id"] for one in newest_first]
        return [order.index(one["id"]) for one in await listed(client, keys, whe, **query)]

    assert await positions(limit=1) == await positions(status=["pending", "exhausted"], limit=3) == [0, 1, 2, 3]
    assert await positions(status="exhausted") == [0, 3]
    assert await positions(status="delivered") == []
    assert await positions(event_type="verification.failed", limit=1) == [0, 2]
    assert await positions(event_type=["vendor.degraded", "verification.completed"], status="pending") == [1]
    assert await positions(created_after=newest_first[2]["created_at"]) == [0, 1]
    assert await positions(created_before=newest_first[2]["created_at"], limit=1) == [3]
    between = {"created_after": newest_first[3]["created_at"], "created_before": newest_first[0]["created_at"]}
    assert await positions(**between, event_type="verification.failed") == [2]


async def test_deliveries_from_before_they_knew_their_type(
    client: httpx.AsyncClient, keys: Keys, delivery: dict[str, Any], rows: Rows, gateway: Gateway
) -> None:
    await publish_events(gateway, rows, "verification.failed")
    await rows("UPDATE deliveries SET event_type = '' RETURNING 1")
    whe = delivery["endpoint_id"]
    assert [one["event_type"] for one in await listed(client, keys, whe)] == [
        "verification.failed",
        "verification.completed",
    ]
    assert [one["id"] for one in await listed(client, keys, whe, event_type="verification.completed")] == [
        delivery["id"]
    ]


async def test_wrong_filters_of_deliveries_are_named_all_at_once(
    client: httpx.AsyncClient, keys: Keys, delivery: dict[str, Any]
) -> None:
    path = f"/v1/webhook-endpoints/{delivery['endpoint_id']}/deliveries"
    query = "status=late&event_type=verification.gone&created_after=yesterday&created_before=2026-11-21&x=1"
    answer = await client.get(f"{path}?{query}", headers=keys.full)
    assert answer.status_code == 422
    wrong = {error["parameter"] for error in answer.json()["errors"]}
    assert wrong == {"status", "event_type", "created_after", "created_before", "x"}


@pytest.mark.parametrize("place", ["dlv_01m80aq8c7epyshsw0x172jhr7", "2026-11-28 dlv_01m80aq8c7epyshsw0x172jhr7", "x"])
async def test_a_cursor_that_was_not_given(
    client: httpx.AsyncClient, keys: Keys, delivery: dict[str, Any], place: str
) -> None:
    path = f"/v1/webhook-endpoints/{delivery['endpoint_id']}/deliveries"
    answer = await client.get(path, params={"after": cursor(place)}, headers=keys.full)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")
