"""One line per request, which says who asked for what, and nothing else that a caller sent."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI
from structlog.testing import capture_logs

from tests.support.clients import Body, Keys, Lasting, Rows

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def lines(logs: list[Any]) -> list[Any]:
    return [line for line in logs if line["event"] == "http_request"]


async def test_one_line_per_request(client: httpx.AsyncClient, keys: Keys, body: Body, rows: Rows) -> None:
    with capture_logs() as logs:
        created = await client.post("/v1/verifications", json=body(), headers=keys.full)
        id_ = created.json()["id"]
        read = await client.get(f"/v1/verifications/{id_}", headers=keys.full)
    [[tenant]] = await rows("SELECT tenant_id FROM api_keys WHERE mode = 'test' ORDER BY id LIMIT 1")
    known = {"event": "http_request", "log_level": "info", "tenant_id": tenant, "verification_id": id_}
    for line, answer, wanted in zip(
        lines(logs),
        (created, read),
        (
            {"method": "POST", "route": "/v1/verifications", "status": 202},
            {"method": "GET", "route": "/v1/verifications/{verification_id}", "status": 200},
        ),
        strict=True,
    ):
        assert 0 <= line.pop("duration_ms") < 60_000
        assert line.pop("api_key_id").startswith("key_")
        assert line == {**known, **wanted, "request_id": answer.headers["x-request-id"]}


async def test_a_line_holds_nothing_of_paths_queries_and_bodies(client: httpx.AsyncClient, keys: Keys) -> None:
    with capture_logs() as logs:
        await client.get("/nowhere/Jane")
        await client.get("/v1/verifications/Jane", headers=keys.full)
        await client.get("/v1/verifications", params={"external_id": "Jane", "jane": "Jane"}, headers=keys.full)
        await client.post("/v1/verifications", content=b"Jane", headers=keys.full)
        await client.request("JANE", "/v1/verifications")
    assert len(lines(logs)) == 5
    assert "jane" not in str(logs).lower()
    assert next(line["route"] for line in lines(logs)) == "unmatched"


@pytest.mark.parametrize(
    ("header", "value", "logged"),
    [
        ("x-request-id", "req_01h-A.b", {"client_request_id": "req_01h-A.b"}),
        ("x-request-id", "x" * 64, {"client_request_id": "x" * 64}),
        ("x-request-id", "x" * 65, {}),
        ("x-request-id", "Jane Sample", {}),
        ("x-request-id", "a\u00e9", {}),
        ("x-request-id", "", {}),
        ("traceparent", PARENT, {"trace_id": TRACE}),
        ("traceparent", PARENT + "-more", {}),
        ("traceparent", f"01-{TRACE}-00f067aa0ba902b7-01-more", {"trace_id": TRACE}),
        ("traceparent", PARENT.upper(), {}),
        ("traceparent", f"ff-{TRACE}-00f067aa0ba902b7-01", {}),
        ("traceparent", f"00-{'0' * 32}-00f067aa0ba902b7-01", {}),
        ("traceparent", f"00-{TRACE}-{'0' * 16}-01", {}),
        ("traceparent", "Jane", {}),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_the_callers_own_ids(lasting: Lasting, header: str, value: str, logged: dict[str, str]) -> None:
    with capture_logs() as logs:
        answer = await lasting.client.get("/v1/vendors", headers={header.encode(): value.encode()})
    [line] = lines(logs)
    assert {name: line[name] for name in ("client_request_id", "trace_id") if name in line} == logged
    assert answer.headers["x-request-id"] == line["request_id"]
    assert line["request_id"].startswith("req_") and line["request_id"] != value


async def test_probes_are_logged_for_debugging_only(client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        for path in ("/healthz", "/readyz", "/metrics"):
            await client.get(path)
    assert [line["log_level"] for line in lines(logs)] == ["debug"] * 3


async def test_a_probe_that_fails_is_logged(client: httpx.AsyncClient, app: FastAPI) -> None:
    app.state.waiters.close()
    with capture_logs() as logs:
        await client.get("/readyz")
    assert [(line["log_level"], line["status"]) for line in lines(logs)] == [("info", 503)]


async def test_other_lines_of_a_request_carry_its_ids(
    client: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a handler logs, deep below, without knowing of the request."""
    seen: list[dict[str, Any]] = []

    async def look(*_: object) -> None:
        seen.append(dict(structlog.contextvars.get_contextvars()))

    monkeypatch.setattr(app.state.metrics.backlog, "read", look)
    answer = await client.get("/metrics", headers={"x-request-id": "mine", "traceparent": PARENT})
    assert seen == [{"request_id": answer.headers["x-request-id"], "client_request_id": "mine", "trace_id": TRACE}]
    assert structlog.contextvars.get_contextvars() == {}
