from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from covergate.api.app import create_app
from covergate.db.database import Database, asyncpg_dsn, make_engine
from covergate.db.sealing import Sealer
from covergate.gateway import Gateway, connections_of
from tests.support.clients import Body, End, Keys, Post, Rows
from tests.support.counters import counted
from tests.support.waiting import eventually


async def test_up_and_ready_without_a_key(client: httpx.AsyncClient) -> None:
    for path, body in (("/healthz", {"status": "ok"}), ("/readyz", {"status": "ok", "workers": 0})):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (200, body)
        assert answer.headers["x-request-id"].startswith("req_")


async def test_not_ready_while_stopping_or_on_another_schema(
    client: httpx.AsyncClient, app: FastAPI, database: Database
) -> None:
    connection = await asyncpg.connect(asyncpg_dsn(database.url))
    await connection.execute("UPDATE alembic_version SET version_num = 'older'")
    await connection.close()
    assert (await client.get("/readyz")).status_code == 503
    app.state.waiters.close()
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert (await client.get("/healthz")).status_code == 200


@pytest.fixture
async def away(gateway: Gateway, sealer: Sealer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app whose database does not answer."""
    url = "postgresql://nobody@127.0.0.1:9/nothing"
    database = Database(url, make_engine(url, pool_size=1, application_name="tests"), sealer)
    app = create_app(Gateway(gateway.settings, database, connections_of(gateway.settings)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        yield client
    await database.aclose()


async def test_database_away(away: httpx.AsyncClient, body: Body) -> None:
    headers = {"authorization": "Bearer cg_test_" + "x" * 43}
    for method, path in [("GET", "/readyz"), ("POST", "/v1/verifications"), ("GET", "/v1/events")]:
        answer = await away.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
    assert (await away.get("/healthz")).status_code == 200
    assert (await away.get("/metrics")).status_code == 200


async def test_backends_that_are_terminated_are_a_503_once(
    client: httpx.AsyncClient, keys: Keys, rows: Rows, gateway: Gateway
) -> None:
    assert (await client.get("/v1/verifications", headers=keys.full)).status_code == 200
    killer = await asyncpg.connect(asyncpg_dsn(gateway.database.url))
    await killer.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await killer.close()
    statuses = [(await client.get("/v1/verifications", headers=keys.full)).status_code for _ in range(12)]
    assert set(statuses) <= {200, 503} and statuses[-1] == 200


async def test_metrics_count_routes_and_hold_no_phi(
    client: httpx.AsyncClient, keys: Keys, post: Post, body: Body
) -> None:
    accepted = "covergate_verifications_accepted_total"
    before = counted(accepted, mode="test", vendor="sohar")
    verification = await post()
    assert counted(accepted, mode="test", vendor="sohar") == before + 1
    await client.get(f"/v1/verifications/{verification['id']}", headers=keys.full)
    await client.request("BREW", "/v1/verifications")
    await client.get("/nowhere/Jane")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    text = answer.text
    assert 'covergate_http_requests_total{method="POST",route="/v1/verifications",status="202"} 1.0' in text
    assert (
        'covergate_http_requests_total{method="GET",route="/v1/verifications/{verification_id}",status="200"} 1.0'
        in text
    )
    assert 'route="unmatched",status="404"' in text and "BREW" not in text
    assert accepted in text
    assert 'covergate_verifications_open{waiting_for="start"} 1.0' in text
    for secret in ("Jane", "Sample", "ELIGIBLE", "intake-1", "ten_", "ver_", "key_"):
        assert secret not in text


def sample(text: str, name: str, **labels: str) -> float:
    """Its value, 0 if it is not there."""
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            if one.name == name and labels.items() <= one.labels.items():
                return float(one.value)
    return 0.0


async def test_waiting_requests_are_timed_apart(client: httpx.AsyncClient, keys: Keys, post: Post, end: End) -> None:
    verification = await post()
    path, route = f"/v1/verifications/{verification['id']}", "/v1/verifications/{verification_id}"
    await client.get(path, headers={**keys.full, "prefer": "wait=1"})
    await end(verification["id"])
    await client.get(path, headers={**keys.full, "prefer": "wait=1"})
    text = (await client.get("/metrics")).text
    assert sample(text, "covergate_http_wait_seconds_count", route=route) == 1
    assert sample(text, "covergate_http_wait_seconds_sum", route=route) >= 1
    assert sample(text, "covergate_http_request_seconds_count", route=route) == 1
    assert sample(text, "covergate_http_request_seconds_sum", route=route) < 1


async def test_metrics_tell_how_old_the_oldest_due_work_is(client: httpx.AsyncClient, post: Post, rows: Rows) -> None:
    await post()
    await rows("UPDATE work SET due_at = now() - interval '90 seconds', next_check_at = now() - interval '90 seconds'")
    text = (await client.get("/metrics")).text
    assert 90 <= sample(text, "covergate_oldest_due_seconds", kind="verification") < 150
    assert sample(text, "covergate_oldest_due_seconds", kind="delivery") == 0
    assert sample(text, "covergate_workers") == 0


async def test_metrics_tell_circuits_holds_and_refused_credentials(client: httpx.AsyncClient, rows: Rows) -> None:
    await rows(
        "INSERT INTO vendor_standing (vendor, mode, circuit, since, rests_until, held_at) VALUES"
        " ('sohar', 'test', 'open', now(), now(), NULL), ('vsee', 'test', 'closed', now(), NULL, now())"
    )
    await rows(
        "INSERT INTO refused_credentials (vendor, mode, account, refused_at, versions, trial_at) VALUES"
        " ('vsee', 'test', '', now(), '{x}', now()), ('vsee', 'test', 'acc_1', now(), '{y}', now()),"
        " ('sohar', 'test', '', NULL, '{z}', now())"
    )
    text = (await client.get("/metrics")).text
    shown = {
        vendor: (
            sample(text, "covergate_vendor_circuit", mode="test", vendor=vendor),
            sample(text, "covergate_vendor_held", mode="test", vendor=vendor),
            sample(text, "covergate_vendor_credentials_refused", mode="test", vendor=vendor),
        )
        for vendor in ("sohar", "vsee", "healthie")
    }
    assert shown == {"sohar": (2, 0, 0), "vsee": (0, 1, 2), "healthie": (0, 0, 0)}


async def test_metrics_of_the_process_are_there_while_the_database_is_away(away: httpx.AsyncClient) -> None:
    text = (await away.get("/metrics")).text
    assert sample(text, "covergate_build_info") == 1
    assert sample(text, "process_resident_memory_bytes") > 0
    assert sample(text, "covergate_database_connections", kind="limit") == 1


async def test_what_no_worker_takes_says_so(client: httpx.AsyncClient, keys: Keys, post: Post, rows: Rows) -> None:
    fresh, overdue, retried = await post(), await post(), await post()
    for id_ in (overdue["id"], retried["id"]):
        await rows(
            "UPDATE work SET due_at = now() - interval '31 seconds', next_check_at = now() - interval '31 seconds'"
            " WHERE verification_id = :id",
            id=id_,
        )
    await rows("UPDATE work SET status = 'in_progress' WHERE verification_id = :id", id=retried["id"])
    shown = (await client.get(f"/v1/verifications/{overdue['id']}", headers=keys.full)).json()
    assert shown["waiting_for"] == {"kind": "worker", "since": shown["next_check_at"]}
    for other in (fresh, retried):
        answer = await client.get(f"/v1/verifications/{other['id']}", headers=keys.full)
        assert answer.json()["waiting_for"] is None
    page = await client.get("/v1/verifications", params={"waiting_for": "worker"}, headers=keys.full)
    assert [row["id"] for row in page.json()["data"]] == [overdue["id"]]
    assert page.json()["data"][0]["waiting_for"]["kind"] == "worker"


async def test_what_a_vendor_keeps_waiting_does_not_wait_for_a_worker(
    client: httpx.AsyncClient, keys: Keys, post: Post, rows: Rows
) -> None:
    held = await post()
    await rows(
        "UPDATE work SET waiting_for = 'hold', waiting_since = now(), next_check_at = now() - interval '1 hour',"
        " due_at = now() - interval '1 hour'"
    )
    shown = (await client.get(f"/v1/verifications/{held['id']}", headers=keys.full)).json()
    assert shown["waiting_for"]["kind"] == "hold"
    page = await client.get("/v1/verifications", params={"waiting_for": "hold"}, headers=keys.full)
    assert [row["id"] for row in page.json()["data"]] == [held["id"]]


async def test_however_many_ask_at_once_the_database_is_looked_at_once(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    answered = asyncio.Event()

    async def look(_: Any) -> None:
        nonlocal looks
        looks += 1
        await answered.wait()

    monkeypatch.setattr("covergate.api.health.require_current", look)
    asking = [asyncio.create_task(client.get("/readyz")) for _ in range(50)]
    await eventually(lambda: looks)
    asking[0].cancel()
    answered.set()
    answers = await asyncio.gather(*asking[1:])
    assert {answer.status_code for answer in answers} == {200}
    assert looks == 1
    assert (await client.get("/readyz")).status_code == 200
    assert looks == 2
