"""The first click in /docs works: each example of a request is sent as it stands in the document, and accepted."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from standardwebhooks.webhooks import Webhook

from covergate.api import examples
from covergate.api.app import RESOURCES
from covergate.api.openapi import make_document
from covergate.eligibility.failure import FailureCode
from covergate.eligibility.inquiry import today_eastern
from covergate.gateway import Gateway
from covergate.verifications.checks import Intake, errors_of
from covergate.verifications.request import CreateVerification
from tests.support.clients import End, Keys, Post, Stuck
from tests.support.gateways import CALLER, sohar_secret


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("/openapi.json")).json()
    return found


def example(document: dict[str, Any], method: str, path: str) -> Any:
    return document["paths"][path][method]["requestBody"]["content"]["application/json"]["example"]


async def test_every_request_example_is_accepted(
    client: httpx.AsyncClient,
    keys: Keys,
    gateway: Gateway,
    document: dict[str, Any],
    post: Post,
    stuck: Stuck,
    end: End,
) -> None:
    waiting, ended = await post(), (await post())["id"]
    await stuck(waiting["id"])
    await end(ended)
    endpoint = await client.post("/v1/webhook-endpoints", json={"url": "https://a.example.com"}, headers=keys.full)
    ids = {"verification_id": waiting["id"], "endpoint_id": endpoint.json()["id"], "vendor": "sohar"}
    sent = 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if "requestBody" not in operation:
                continue
            content = json.dumps(example(document, method, path)).encode()
            theirs = keys.operator if operation["security"] == [{"operator": []}] else keys.full
            headers = {**theirs, "content-type": "application/json"}
            if not operation["security"]:
                now = datetime.now(UTC)
                own = "account_id" in path
                secret = examples.PUT_VENDOR_ACCOUNT["credentials"]["webhook_secret"] if own else sohar_secret(gateway)
                signature = Webhook(secret).sign("msg_1", now, content.decode())
                headers |= {
                    "svix-id": "msg_1",
                    "svix-timestamp": str(int(now.timestamp())),
                    "svix-signature": signature,
                }
            of_path = {**ids, "verification_id": ended} if path.endswith("/resubmit") else ids
            answer = await client.request(method, path.format(**of_path), content=content, headers=headers)
            if path == "/v1/vendor-accounts/{vendor}":
                ids["account_id"] = answer.json()["id"]
            assert answer.is_success and str(answer.status_code) in operation["responses"], (path, answer.text)
            sent += 1
    assert sent == 14


async def test_the_first_click_is_a_202_with_the_answer_that_is_shown(
    client: httpx.AsyncClient, keys: Keys, document: dict[str, Any], end: Callable[..., Awaitable[None]]
) -> None:
    shown = document["paths"]["/v1/verifications"]["post"]["responses"]
    answer = await client.post(
        "/v1/verifications", json=example(document, "post", "/v1/verifications"), headers=keys.full
    )
    assert answer.status_code == 202
    told, accepted = shown["202"]["content"]["application/json"]["example"], answer.json()
    assert set(told["not_asked"]) <= set(accepted["not_asked"])
    for name in ("status", "outcome", "vendor", "inquiry", "metadata", "external_id", "failure"):
        assert accepted[name] == told[name], name
    await end(accepted["id"], FailureCode.MEMBER_ID_INVALID)


@pytest.mark.parametrize(
    "day", [date(2026, 11, 21), date(2027, 1, 1), date(2027, 12, 31), date(2028, 2, 29), date(2040, 3, 1)], ids=str
)
def test_examples_move_with_the_day(day: date) -> None:
    noon = datetime(day.year, day.month, day.day, 18, tzinfo=UTC)
    moved = examples.on_day(examples.CREATE_VERIFICATION, day)
    request = CreateVerification.model_validate_json(json.dumps(moved), strict=True)
    assert errors_of(Intake.of(CALLER, request, None, noon), shared=()) == []
    assert request.service_date > day and moved["patient"]["date_of_birth"] == "1990-09-20"
    completed = examples.on_day(examples.COMPLETED_VERIFICATION, day)
    assert completed["created_at"] == f"{day}T15:00:00.000Z" and completed["result"]["as_of"] >= str(day)
    headers, message = examples.webhook("verification.completed", day)
    sent = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    assert sent.date() == day and message["timestamp"].startswith(str(day))


async def test_the_document_is_of_today(client: httpx.AsyncClient, app: FastAPI, document: dict[str, Any]) -> None:
    today = today_eastern(datetime.now(UTC))
    created = document["paths"]["/v1/verifications/{verification_id}"]["get"]["responses"]["200"]
    assert created["content"]["application/json"]["example"]["created_at"].startswith(str(today))
    assert app.openapi() is app.openapi()
    assert make_document(app, RESOURCES, today) == document != make_document(app, RESOURCES, date(2040, 3, 1))
    assert make_document(app, RESOURCES, today) == document
