"""A key that ends while it is in use, that is used from elsewhere, and what is noted of its use."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi import FastAPI, Request

from covergate.access.api_keys import create_key, list_keys, revoke_key
from covergate.access.operators import list_operators, revoke_operator
from covergate.api.http import ended_within
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.webhooks.endpoints import list_made_by
from tests.support.clients import Body, Keys, Post, Rows, bearer, make_operator
from tests.support.waiting import eventually

WAIT = {"prefer": "wait=30"}


async def test_revoking_a_key_ends_its_open_waits_and_no_others(
    client: httpx.AsyncClient, gateway: Gateway, app: FastAPI, keys: Keys, post: Post, body: Body
) -> None:
    leaked = bearer(await create_key(gateway, tenant="Clinic North", mode="test"))
    [row] = [row for row in await list_keys(gateway) if "verifications:raw" not in row.scopes]
    verification = await post()
    path = f"/v1/verifications/{verification['id']}"
    reading = asyncio.create_task(client.get(path, headers=leaked | WAIT))
    creating = asyncio.create_task(client.post("/v1/verifications", json=body(), headers=leaked | WAIT))
    other = asyncio.create_task(client.get(path, headers=keys.full | WAIT))
    await eventually(lambda: len(app.state.waiters._events.get(row.id, ())) == 2)

    began = time.monotonic()
    await revoke_key(gateway, row.id)
    refused, accepted = await asyncio.wait_for(asyncio.gather(reading, creating), 5)
    assert time.monotonic() - began < 5
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    # What was accepted is told, or it would be sent, and paid, again.
    assert (accepted.status_code, accepted.json()["status"]) == (202, "queued")
    assert not other.done()
    await client.post(f"{path}/cancel", headers=keys.full)
    assert (await other).status_code == 200


async def test_a_key_that_expires_ends_its_open_waits(client: httpx.AsyncClient, gateway: Gateway, post: Post) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=2)
    key = bearer(await create_key(gateway, tenant="Clinic North", mode="test", expires_at=soon))
    verification = await post()
    answer = await asyncio.wait_for(client.get(f"/v1/verifications/{verification['id']}", headers=key | WAIT), 7)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert soon <= datetime.now(UTC)


async def test_a_key_that_is_revoked_right_before_the_wait_does_not_wait(
    client: httpx.AsyncClient, gateway: Gateway, app: FastAPI, post: Post
) -> None:
    """The news came when nobody waited yet."""
    verification = await post()
    key = await create_key(gateway, tenant="Clinic North", mode="test")
    caller = await app.state.credentials.authenticate(key)
    await revoke_key(gateway, caller.id)
    await eventually(lambda: caller.id not in app.state.credentials._valid_until)
    request = Request({"type": "http", "app": app, "headers": [], "state": {}})
    with pytest.raises(Problem, match="unauthorized"):
        await asyncio.wait_for(ended_within(request, caller, verification["id"], 30), 5)


async def test_an_operators_waits_end_too(
    client: httpx.AsyncClient, gateway: Gateway, app: FastAPI, post: Post
) -> None:
    anywhere = await make_operator(gateway)
    [row] = (await list_operators(gateway))[-1:]
    verification = await post()
    reading = asyncio.create_task(client.get(f"/v1/verifications/{verification['id']}", headers=anywhere | WAIT))
    await eventually(lambda: app.state.waiters._events.get(row.id))
    await revoke_operator(gateway, row.id)
    assert (await asyncio.wait_for(reading, 5)).status_code == 401


async def test_a_revocation_whose_notification_was_lost_shows_nothing(
    client: httpx.AsyncClient, gateway: Gateway, app: FastAPI, rows: Rows, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait ends by its own time; then the database is asked."""
    key = bearer(await create_key(gateway, tenant="Clinic North", mode="test"))
    verification = await post()
    path = f"/v1/verifications/{verification['id']}"
    monkeypatch.setattr("covergate.access.credential_cache.CREDENTIAL_KNOWN_SECONDS", 0.5)
    waiting = asyncio.create_task(client.get(path, headers=key | {"prefer": "wait=2"}))
    await eventually(lambda: app.state.waiters._events.get(verification["id"]))
    await rows("UPDATE api_keys SET revoked_at = clock_timestamp() RETURNING 1")
    assert (await waiting).status_code == 401


async def test_a_key_from_elsewhere_is_as_unknown_and_is_audited_once_a_minute(
    client: httpx.AsyncClient, app: FastAPI, gateway: Gateway, keys: Keys, rows: Rows
) -> None:
    key = bearer(await create_key(gateway, tenant="Clinic North", mode="test", networks=["192.0.2.0/24"]))
    unknown = await client.get("/v1/verifications", headers=bearer("cg_test_" + "x" * 43))
    for _ in range(3):
        answer = await client.get("/v1/verifications", headers=key)
        assert answer.status_code == 401
        assert {**answer.json(), "request_id": ""} == {**unknown.json(), "request_id": ""}
    [row] = await rows("SELECT * FROM audit_events WHERE actor_id LIKE 'key_%'")
    assert (row.action, row.address, row.outcome) == ("key.address_refused", "127.0.0.1", "refused")
    await app.state.credentials.write_uses()
    assert all(row.last_used_at is None for row in await list_keys(gateway) if row.networks)

    transport = httpx.ASGITransport(app, client=("192.0.2.9", 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as inside:
        assert (await inside.get("/v1/verifications", headers=key)).status_code == 200


async def test_uses_are_noted_and_written_when_the_process_ends(gateway: Gateway, keys: Keys, app: FastAPI) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        await client.get("/v1/verifications", headers=keys.full)
        await client.get("/v1/vendors", headers=keys.operator)
    assert app.state.credentials._used
    await app.state.credentials.write_uses()
    assert sum(row.last_used_at is not None for row in await list_keys(gateway)) == 1
    assert [row.last_used_at is not None for row in await list_operators(gateway)] == [True]


async def test_an_endpoint_remembers_which_key_made_it(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, rows: Rows
) -> None:
    made = [
        (await client.post("/v1/webhook-endpoints", json={"url": f"https://{name}.example.com"}, headers=key)).json()
        for name, key in (("a", keys.full), ("b", keys.full), ("c", keys.other))
    ]
    await client.delete(f"/v1/webhook-endpoints/{made[1]['id']}", headers=keys.full)
    [row] = await rows("SELECT made_by FROM webhook_endpoints WHERE id = :id", id=made[0]["id"])
    listed = await list_made_by(gateway, row.made_by)
    assert [(one["id"], one["url"]) for one in listed] == [(made[0]["id"], "https://a.example.com")]
