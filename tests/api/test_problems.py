from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry import trace
from structlog.testing import capture_logs

from covergate.errors import PROBLEMS
from tests.support.clients import Body, End, Keys, Lasting, Rows

PERSON = [
    "Zebulon",
    "Quixote-Sample",
    "1971-03-14",
    "MEMBERSECRET77",
    "987654321",
    "4 Privet Hollow",
    "zeb@sample.test",
]


@pytest.fixture
def person() -> dict[str, Any]:
    return {
        "first_name": PERSON[0],
        "last_name": PERSON[1],
        "date_of_birth": PERSON[2],
        "member_id": PERSON[3],
        "ssn": PERSON[4],
        "address": {"line1": PERSON[5], "state": "CA"},
        "email": PERSON[6],
    }


async def test_problems_have_one_shape(client: httpx.AsyncClient, keys: Keys) -> None:
    answer = await client.get("/v1/nowhere", headers=keys.full)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert list(problem) == ["type", "title", "status", "code", "detail", "request_id", "errors"]
    assert (
        problem["type"] == "urn:covergate:problem:not_found" and problem["request_id"] == answer.headers["x-request-id"]
    )


@pytest.mark.parametrize("path", ["/v1/verifications/", "/", "/v1", "//", "/v1/verifications/a/b/c", "/openapi.yaml"])
@pytest.mark.asyncio(loop_scope="module")
async def test_unknown_routes(lasting: Lasting, path: str) -> None:
    answer = await lasting.client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "BREW"])
@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/verifications", "GET, POST"),
        ("/v1/verifications/search", "POST"),
        ("/v1/verifications/ver_1", "GET"),
        ("/v1/webhook-endpoints/whe_1", "DELETE, GET, PATCH"),
        ("/v1/vendor-events/sohar", "POST"),
        ("/openapi.json", "GET"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_other_methods(lasting: Lasting, path: str, methods: str, method: str) -> None:
    answer = await lasting.client.request(method, path, headers=lasting.keys.full)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == methods


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/metrics", "/v1/verifications/ver_00000000000000000000000000", "/v1/vendors"]
)
@pytest.mark.asyncio(loop_scope="module")
async def test_unknown_parameters_are_an_error_everywhere(lasting: Lasting, path: str) -> None:
    answer = await lasting.client.get(f"{path}?verbose=1", headers=lasting.keys.full)
    assert answer.status_code == 422
    assert answer.json()["errors"][0] | {"message": ""} == {
        "parameter": "verbose",
        "code": "unknown_parameter",
        "message": "",
    }


async def test_phi_is_in_no_log_and_no_error(
    client: httpx.AsyncClient,
    keys: Keys,
    body: Body,
    person: Any,
    caplog: pytest.LogCaptureFixture,
    rows: Rows,
    end: End,
) -> None:
    caplog.set_level(logging.DEBUG)
    with capture_logs() as logs:
        accepted = await client.post("/v1/verifications", json=body(patient=person), headers=keys.full)
        assert accepted.status_code == 202
        await client.get(f"/v1/verifications/{accepted.json()['id']}", headers=keys.full)
        await end(accepted.json()["id"])
        await client.post("/v1/verifications/search", json={"member_id": PERSON[3]}, headers=keys.full)
        texts = []
        for changes in (
            {"patient": {**person, "ssn": "98765432"}},
            {"patient": {**person, "date_of_birth": PERSON[2].replace("-", "/")}},
            {"patient": {**person, "member_id": PERSON[3] * 20}},
            {"patient": {**person, "gender": PERSON[0]}},
            {"patient": PERSON},
            {"external_id": PERSON[3] * 10},
            {"vendor": PERSON[0]},
            {"payer": PERSON[1]},
            {"deadline": PERSON[2]},
            {"metadata": {"who": PERSON}},
            {"vendor_options": {"health_harbor": {"call_script_id": PERSON}}},
        ):
            refused = await client.post(
                "/v1/verifications", json=body(**{"patient": person, **changes}), headers=keys.full
            )
            assert refused.status_code == 422
            texts.append(refused.text)
        await rows("ALTER TABLE work ADD CONSTRAINT broken CHECK (false) NOT VALID")
        failed = await client.post("/v1/verifications", json=body(patient=person), headers=keys.full)
        assert (failed.status_code, failed.json()["code"]) == (500, "internal_error")
        assert list(failed.json()) == ["type", "title", "status", "code", "detail", "request_id", "errors"]
        texts.append(failed.text)
    [broken] = [entry for entry in logs if entry["event"] != "http_request"]
    assert (broken["event"], broken["request_id"]) == ("request_failed", failed.headers["x-request-id"])
    assert logs[-1]["event"] == "http_request" and logs[-1]["request_id"] == broken["request_id"]
    everything = "\n".join([json.dumps(logs, default=str), caplog.text, *texts])
    for secret in PERSON:
        assert secret not in everything


async def test_what_an_exception_says_is_told_to_nobody(client: httpx.AsyncClient, app: FastAPI) -> None:
    async def break_down() -> None:
        raise ValueError(f"cannot read {PERSON[0]}")

    app.add_api_route("/broken", break_down)
    with capture_logs() as logs:
        answer = await client.get("/broken")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert [(entry["event"], entry.get("error"), entry["route"]) for entry in logs] == [
        ("request_failed", "ValueError", "/broken"),
        ("http_request", None, "/broken"),
    ]
    assert "break_down" in logs[0]["where"][-1]
    assert PERSON[0] not in answer.text + json.dumps(logs)


def test_every_documented_code_is_known() -> None:
    documented = {
        422: "invalid_json invalid_request missing_for_vendor unsupported_by_vendor vendor_not_enabled no_vendor_available"
        " payer_ambiguous idempotency_key_reused",
        400: "invalid_cursor",
        401: "unauthorized",
        403: "insufficient_scope",
        404: "not_found",
        409: "already_ended",
        413: "body_too_large",
        415: "unsupported_media_type",
        429: "rate_limited",
        503: "unavailable",
    }
    for status, codes in documented.items():
        assert {PROBLEMS[code][0] for code in codes.split()} == {status}


class Tracing(trace.TracerProvider):
    """What a process that has set up OpenTelemetry has."""

    def __init__(self) -> None:
        self.tracers: list[str] = []

    def get_tracer(self, instrumenting_module_name: str, *_: Any, **__: Any) -> trace.Tracer:
        self.tracers.append(instrumenting_module_name)
        return trace.NoOpTracer()


async def test_requests_are_not_traced(client: httpx.AsyncClient) -> None:
    """FastAPI would note URLs, with the token that VSee's callbacks carry, and what exceptions say."""
    tracing = Tracing()
    trace.set_tracer_provider(tracing)
    await client.post("/v1/vendor-events/vsee?token=secret", content="{}")
    assert tracing.tracers == []
