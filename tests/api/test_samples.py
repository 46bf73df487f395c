"""A test event of any type: a sample that fits the documented schema of its type, marked as a test, sent to one endpoint."""

from __future__ import annotations

from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator, FormatChecker

from covergate.gateway import Gateway
from covergate.states import EventType
from covergate.webhooks.places import Places
from covergate.webhooks.sender import Deliverer
from tests.support.clients import Keys, Rows


@pytest.mark.parametrize("payload", ["thin", "full"])
async def test_a_sample_of_every_type_fits_its_schema(
    client: httpx.AsyncClient, app: FastAPI, keys: Keys, rows: Rows, gateway: Gateway, payload: str
) -> None:
    document = app.openapi()
    made = {"url": "https://intake.example.com/hook", "payload": payload, "event_types": ["vendor.recovered"]}
    endpoint = (await client.post("/v1/webhook-endpoints", json=made, headers=keys.full)).json()
    await client.post("/v1/webhook-endpoints", json={"url": "https://other.example.com"}, headers=keys.full)
    path = f"/v1/webhook-endpoints/{endpoint['id']}/test"
    for type_ in EventType:
        answer = await client.post(path, json={"event_type": type_}, headers=keys.full)
        assert (answer.status_code, answer.json()["event_type"]) == (202, type_)
    assert (await client.post(path, headers=keys.full)).json()["event_type"] == "endpoint.test"
    messages: dict[str, Any] = {}
    places = Places(gateway, 100)
    async with Deliverer(gateway, places) as deliverer:
        claimed = [one for _ in range(2) for one in await places.claim(())]
        while claimed:
            for one in claimed:
                assert one.endpoint_id == endpoint["id"]
                messages[one.type] = orjson.loads(await deliverer._body(one))
            await rows(
                "UPDATE deliveries SET status = 'delivered', due_at = NULL, next_attempt_at = NULL WHERE step > 0"
            )
            claimed = list(await places.claim(()))
    assert set(messages) == set(EventType)
    for kind, message in messages.items():
        schema = document["webhooks"][kind]
        assert schema == {"$ref": f"#/components/pathItems/{kind}"}
        body = document["components"]["pathItems"][kind]["post"]["requestBody"]["content"]["application/json"]["schema"]
        checker = Draft202012Validator({"components": document["components"], **body}, format_checker=FormatChecker())
        checker.validate(message)
        assert not checker.is_valid({**message, "type": "verification.gone"})
        assert message["data"].get("test") is (None if kind == "endpoint.test" else True)
        full = payload == "full" and kind.startswith("verification.")
        assert ("inquiry" in message["data"]) == full
    assert not await rows("SELECT 1 FROM audit_events WHERE action = 'webhook.full'")
    events = (await client.get("/v1/events", params={"limit": 100}, headers=keys.full)).json()
    assert not any("inquiry" in event["data"] for event in events["data"])
    listed = document["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    Draft202012Validator({"components": document["components"], **listed}).validate(events)


async def test_a_sample_of_what_does_not_exist(client: httpx.AsyncClient, keys: Keys) -> None:
    endpoint = (
        await client.post("/v1/webhook-endpoints", json={"url": "https://a.example.com"}, headers=keys.full)
    ).json()
    answer = await client.post(
        f"/v1/webhook-endpoints/{endpoint['id']}/test",
        json={"event_type": "verification.gone", "x": 1},
        headers=keys.full,
    )
    assert {error["pointer"] for error in answer.json()["errors"]} == {"/event_type", "/x"}
