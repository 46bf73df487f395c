from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from standardwebhooks.webhooks import Webhook

from covergate.access.quotas import BURST_SECONDS, Quotas
from covergate.api import vendor_events
from covergate.gateway import Gateway
from covergate.verifications.event_rates import EventRates
from covergate.verifications.vendor_events import MOST_EVENTS
from tests.support.clients import Keys, Post, Rows
from tests.support.gateways import sohar_secret

PATH = "/v1/vendor-events/sohar"


def signed(gateway: Gateway, body: bytes, *, message: str = "msg_1", at: datetime | None = None) -> dict[str, str]:
    moment = at or datetime.now(UTC)
    secret = sohar_secret(gateway)
    return {
        "svix-id": message,
        "svix-timestamp": str(int(moment.timestamp())),
        "svix-signature": Webhook(secret).sign(message, moment, body.decode()),
    }


async def test_an_event_wakes_its_verification_once(
    client: httpx.AsyncClient, keys: Keys, gateway: Gateway, post: Post, rows: Rows
) -> None:
    verification = await post()
    content = json.dumps(
        {"event": "verification.updated", "verificationId": "r1", "id": verification["attempts"][0]["id"]}
    ).encode()
    for _ in range(2):
        answer = await client.post(PATH, content=content, headers=signed(gateway, content))
        assert (answer.status_code, answer.json()) == (202, {"received": True})
    [stored] = await rows("SELECT verification_id, mode, ref FROM vendor_events")
    assert tuple(stored) == (verification["id"], "test", "r1")
    timeline = await client.get(f"/v1/verifications/{verification['id']}/timeline", headers=keys.full)
    assert [row["type"] for row in timeline.json()["data"]] == ["created", "vendor_event"]
    metrics = (await client.get("/metrics")).text
    assert 'covergate_vendor_events_total{vendor="sohar",verdict="stored"} 1.0' in metrics
    assert 'covergate_vendor_events_total{vendor="sohar",verdict="duplicate"} 1.0' in metrics


@pytest.mark.parametrize("forgery", ["none", "body", "old", "garbage"])
async def test_forged_events_store_nothing(
    client: httpx.AsyncClient, gateway: Gateway, rows: Rows, forgery: str
) -> None:
    content = b'{"verificationId": "r1"}'
    headers: dict[str, Any] = {
        "none": {},
        "body": signed(gateway, b'{"verificationId": "r2"}'),
        "old": signed(gateway, content, at=datetime.now(UTC) - timedelta(hours=1)),
        "garbage": {"svix-id": "x", "svix-timestamp": "nan", "svix-signature": "v1,\xff"},
    }[forgery]
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    answer = await client.post(PATH, content=content, headers=raw)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert await rows("SELECT 1 FROM vendor_events") == []
    assert 'vendor="sohar",verdict="forged"} 1.0' in (await client.get("/metrics")).text


@pytest.mark.parametrize("vendor", ["nobody", "integrex", "%00", "sohar%2F"])
async def test_vendors_that_send_no_events(client: httpx.AsyncClient, vendor: str) -> None:
    answer = await client.post(f"/v1/vendor-events/{vendor}", content=b"{}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "nobody" not in (await client.get("/metrics")).text


async def test_more_than_two_megabytes(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH, content=b" " * (2 * 1024 * 1024 + 1))
    assert answer.status_code == 413


async def test_more_events_in_one_message_than_are_taken(client: httpx.AsyncClient, rows: Rows) -> None:
    content = json.dumps([{"id": str(number), "status": "IN_PROGRESS"} for number in range(MOST_EVENTS + 1)]).encode()
    secret = hashlib.sha256(b"sandbox:health_harbor").hexdigest()
    signature = hmac.digest(secret.encode(), content, "sha256").hex()
    answer = await client.post(
        "/v1/vendor-events/health_harbor", content=content, headers={"x-healthharbor-signature": signature}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert await rows("SELECT 1 FROM vendor_events") == []


async def test_a_vendor_that_sends_too_much(
    client: httpx.AsyncClient, app: FastAPI, gateway: Gateway, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forged event costs the vendor nothing; a genuine one that is refused is neither read nor stored."""
    app.state.event_rates = EventRates(Quotas(gateway), 1)
    monkeypatch.setattr("covergate.access.quotas.time", SimpleNamespace(monotonic=lambda: 1000.0))
    content = b'{"verificationId": "r1"}'
    for _ in range(3 * BURST_SECONDS):
        assert (await client.post(PATH, content=content)).status_code == 401
    answers = [
        await client.post(PATH, content=content, headers=signed(gateway, content, message=f"msg_{number}"))
        for number in range(BURST_SECONDS + 5)
    ]
    refused = [answer for answer in answers if answer.status_code != 202]
    assert len(refused) == 5
    assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(429, "rate_limited")}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert len(await rows("SELECT 1 FROM vendor_events")) == len(answers) - len(refused)
    assert f'vendor="sohar",verdict="too_fast"}} {len(refused)}.0' in (await client.get("/metrics")).text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b'{"verificationId": "r9"}',
        b'{"verificationId": "a\\u0000b", "id": "\\u0000"}',
        b'{"verificationId": "' + b"x" * 9000 + b'"}',
    ],
)
async def test_odd_events_of_a_genuine_vendor(client: httpx.AsyncClient, gateway: Gateway, content: bytes) -> None:
    answer = await client.post(
        PATH, content=content, headers=signed(gateway, content, message=random.Random(1).randbytes(3000).hex())
    )
    assert answer.status_code == 202


async def test_large_messages_of_nobody_known_take_a_bounded_room(
    app: FastAPI, client: httpx.AsyncClient, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor_events, "MOST_LARGE_BYTES", 300_000)
    half, rest = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"x" * 300_000
        half.set()
        await rest.wait()
        yield b"x"

    async with asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(client.post(PATH, content=slowly()))
        await half.wait()
        large = b'{"pad": "' + b"x" * 200_000 + b'"}'
        answer = await client.post(PATH, content=large, headers=signed(gateway, large))
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        small = b'{"verificationId": "r1"}'
        answer = await client.post(PATH, content=small, headers=signed(gateway, small))
        assert answer.status_code == 202
        rest.set()
    assert (await slow).status_code == 401
    assert app.state.large_events.held == 0
    assert (await client.post(PATH, content=large, headers=signed(gateway, large))).status_code == 202


async def test_too_many_events_of_an_own_account_are_no_wrong_key(
    app: FastAPI, client: httpx.AsyncClient, gateway: Gateway, keys: Keys, rows: Rows
) -> None:
    secret = f"whsec_{base64.b64encode(b'north' * 8).decode()}"
    credentials = {"client_id": "north", "client_secret": "a-long-secret-8c1f", "webhook_secret": secret}
    put = await client.put("/v1/vendor-accounts/sohar", json={"credentials": credentials}, headers=keys.full)
    path = httpx.URL(put.json()["events_url"]).path
    app.state.event_rates = EventRates(Quotas(gateway), 0.1)
    at, content = datetime.now(UTC), b'{"verificationId": "r1"}'
    headers = {"svix-id": "m", "svix-timestamp": str(int(at.timestamp()))}
    headers["svix-signature"] = Webhook(secret).sign("m", at, content.decode())
    answers = [(await client.post(path, content=content, headers=headers)).status_code for _ in range(3)]
    assert answers == [202, 429, 429]
    await app.state.refusals.flush()
    assert await rows("SELECT action FROM audit_events WHERE outcome = 'refused'") == []
    document = (await client.get("/openapi.json")).json()["paths"]
    shared, own = (document[f"/v1/vendor-events/{{vendor}}{more}"]["post"] for more in ("", "/{account_id}"))
    assert shared["responses"].keys() == own["responses"].keys()
