"""What an endpoint missed since a moment is delivered anew: over the API, and to a partner on a real socket."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from covergate.api.app import create_app
from covergate.gateway import Gateway
from covergate.webhooks import recovery
from covergate.webhooks.recovery import recover
from tests.support.clients import make_keys
from tests.support.deliverers import delivering
from tests.support.gateways import CALLER
from tests.support.hooks import Hooks
from tests.support.partner import Partner, answer
from tests.support.waiting import eventually

LONG_AGO = datetime.now(UTC) - timedelta(days=1)


async def exhaust(hooks: Hooks) -> None:
    await hooks.run_sql(
        "UPDATE deliveries SET status = 'exhausted', next_attempt_at = NULL, due_at = NULL, ended_at = now(), tries = 12"
        " WHERE status = 'pending'"
    )


async def test_what_was_missed_comes_under_the_ids_it_had_and_oldest_first(
    hooks: Hooks, partner: Partner, gateway: Gateway
) -> None:
    endpoint, secret = await hooks.endpoint(partner.url())
    other, _ = await hooks.endpoint(partner.url("/other"))
    for _ in range(6):
        await hooks.publish()
    await exhaust(hooks)
    events = [row.id for row in await hooks.rows("SELECT id FROM events ORDER BY position")]
    assert await recover(gateway, CALLER, endpoint, LONG_AGO, "exhausted") == 6
    due = await hooks.rows("SELECT event_id FROM deliveries WHERE status = 'pending' ORDER BY due_at")
    assert [row.event_id for row in due] == events
    async with delivering(gateway):
        await eventually(lambda: len(partner.received) == 6)
    assert sorted(got.headers["webhook-id"] for got in partner.at("/hooks")) == sorted(events)
    assert all(got.verified_with(secret) for got in partner.received)
    rows = await hooks.rows("SELECT endpoint_id, status, tries FROM deliveries ORDER BY endpoint_id")
    assert {tuple(row) for row in rows} == {(endpoint, "delivered", 1), (other, "exhausted", 12)}


async def test_only_what_was_made_since_and_what_is_asked_for(hooks: Hooks, gateway: Gateway) -> None:
    endpoint, _ = await hooks.endpoint("https://partner.example/hooks")
    await hooks.publish(times=3)
    await exhaust(hooks)
    [second] = await hooks.rows(
        "SELECT date_trunc('milliseconds', created_at) AS at FROM deliveries ORDER BY created_at OFFSET 1 LIMIT 1"
    )
    await hooks.run_sql(
        "UPDATE deliveries SET created_at = created_at - interval '1 h'"
        " WHERE created_at = (SELECT min(created_at) FROM deliveries)"
    )
    await hooks.publish(times=2)
    await hooks.run_sql(
        "UPDATE deliveries SET tries = 4, next_attempt_at = now() + interval '2 h', due_at = now() + interval '2 h'"
        " WHERE status = 'pending'"
    )
    assert await recover(gateway, CALLER, endpoint, second.at, "pending") == 2
    assert await recover(gateway, CALLER, endpoint, second.at, "all") == 2
    rows = await hooks.rows(
        "SELECT status, tries, due_at <= clock_timestamp() AS due FROM deliveries ORDER BY created_at"
    )
    assert [tuple(row) for row in rows] == [("exhausted", 12, None), *[("pending", 0, True)] * 4]


async def test_sent_twice_it_counts_nothing_twice_and_takes_nothing_from_a_worker(
    hooks: Hooks, gateway: Gateway
) -> None:
    endpoint, _ = await hooks.endpoint("https://partner.example/hooks")
    await hooks.publish(times=3)
    claimed = await hooks.take()
    assert await recover(gateway, CALLER, endpoint, LONG_AGO, "all") == 0  # in hand, or due already
    [row] = await hooks.rows("SELECT step, due_at > now() AS leased FROM deliveries WHERE id = :id", id=claimed.id)
    assert (row.step, row.leased) == (claimed.step, True)
    await exhaust(hooks)
    assert await recover(gateway, CALLER, endpoint, LONG_AGO, "all") == 3
    assert await recover(gateway, CALLER, endpoint, LONG_AGO, "all") == 0
    rows = await hooks.rows("SELECT action, subject_id FROM audit_events WHERE action = 'endpoint.recover'")
    assert [row.subject_id for row in rows] == [endpoint] * 3


async def test_much_is_recovered_in_batches_of_which_none_locks_all(
    hooks: Hooks, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "RECOVERED_AT_ONCE", 3)
    endpoint, _ = await hooks.endpoint("https://partner.example/hooks")
    await hooks.publish(times=4)
    await hooks.publish("verification.failed", times=4)
    await exhaust(hooks)
    assert await recover(gateway, CALLER, endpoint, LONG_AGO, "exhausted") == 8
    [row] = await hooks.rows("SELECT count(DISTINCT xmin::text) AS transactions FROM deliveries")
    assert row.transactions == 3
    assert len(await hooks.rows("SELECT 1 FROM audit_events WHERE action = 'endpoint.recover'")) == 1


async def test_a_partner_recovers_over_the_api(hooks: Hooks, partner: Partner, gateway: Gateway) -> None:
    keys = await make_keys(gateway)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(gateway)), base_url="http://gateway"
    ) as client:

        async def call(method: str, path: str, **sent: Any) -> httpx.Response:
            return await client.request(method, f"/v1/webhook-endpoints{path}", headers=keys.full, **sent)

        made = (await call("POST", "", json={"url": partner.on("/hooks", answer(503))})).json()
        path = f"/{made['id']}"
        await call("POST", f"{path}/test")
        async with delivering(gateway):
            await eventually(lambda: len(partner.received) == 1)
        sent = {"since": made["created_at"], "status": "pending"}
        shown = await call("POST", f"{path}/recover", json=sent)
        assert (shown.status_code, shown.json()) == (
            202,
            {"object": "recovery", "endpoint_id": made["id"], **sent, "count": 1},
        )
        partner.on("/hooks", answer(200))
        async with delivering(gateway):
            await eventually(lambda: len(partner.received) == 2)
        assert len({got.headers["webhook-id"] for got in partner.received}) == 1
        later = {"since": datetime.now(UTC).isoformat()}
        assert (await call("POST", f"{path}/recover", json=later)).json()["count"] == 0
        wrong = await call("POST", f"{path}/recover", json={"since": "yesterday", "status": "delivered", "x": 1})
        assert {error["pointer"] for error in wrong.json()["errors"]} == {"/since", "/status", "/x"}
        assert (await call("POST", f"{path}/recover", json={})).json()["errors"][0]["pointer"] == "/since"
        await call("PATCH", path, json={"status": "disabled"})
        refused = await call("POST", f"{path}/recover", json=later)
        assert (refused.status_code, refused.json()["code"]) == (409, "endpoint_disabled")
