from __future__ import annotations

from typing import Any

import httpx
import pytest

from covergate.gateway import Gateway
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
