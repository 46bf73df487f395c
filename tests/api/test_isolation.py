"""Every route with an id against another tenant's key, the other mode's key and ids that cannot be; and every scope."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from covergate.access.api_keys import SCOPES, create_key
from covergate.eligibility.failure import FailureCode
from covergate.eligibility.failure import failure as failure_of
from covergate.gateway import Gateway
from covergate.verifications import lifecycle, store
from covergate.verifications.commit import apply
from tests.support.clients import Body, End, Headers, Keys, Lasting, Post, Rows, Stuck, bearer

VER, WHE, DLV = "ver_00000000000000000000000000", "whe_00000000000000000000000000", "dlv_00000000000000000000000000"
JOB = "job_00000000000000000000000000"

OPERATIONS = "an operator"
"""In the place of a scope: no key is enough."""

ROUTES: list[tuple[str, str, str]] = [
    ("GET", "/v1/verifications/{ver}", "verifications:read"),
    ("GET", "/v1/verifications/{ver}/answers", "verifications:read"),
    ("GET", "/v1/verifications/{ver}/timeline", "verifications:read"),
    ("GET", "/v1/verifications/{ver}/raw", "verifications:raw"),
    ("POST", "/v1/verifications/{ended}/resubmit", "verifications:write"),
    ("POST", "/v1/verifications/{ver}/cancel", "verifications:write"),
    ("GET", "/v1/bulk-jobs/{job}", "verifications:write"),
    ("POST", "/v1/bulk-jobs/{job}/cancel", "verifications:write"),
    ("POST", "/v1/verifications/{stuck}/resolve", OPERATIONS),
    ("GET", "/v1/webhook-endpoints/{whe}", "webhooks:manage"),
    ("PATCH", "/v1/webhook-endpoints/{whe}", "webhooks:manage"),
    ("POST", "/v1/webhook-endpoints/{whe}/test", "webhooks:manage"),
    ("POST", "/v1/webhook-endpoints/{whe}/rotate-secret", "webhooks:manage"),
    ("POST", "/v1/webhook-endpoints/{whe}/recover", "webhooks:manage"),
    ("GET", "/v1/webhook-endpoints/{whe}/deliveries", "webhooks:manage"),
    ("POST", "/v1/deliveries/{dlv}/redeliver", "webhooks:manage"),
    ("DELETE", "/v1/webhook-endpoints/{whe}", "webhooks:manage"),
]
WITHOUT_ID: list[tuple[str, str, str]] = [
    ("POST", "/v1/verifications", "verifications:write"),
    ("GET", "/v1/verifications", "verifications:read"),
    ("POST", "/v1/verifications/search", "verifications:read"),
    ("POST", "/v1/verifications/bulk", "verifications:write"),
    ("GET", "/v1/bulk-jobs", "verifications:write"),
    ("GET", "/v1/vendors", "verifications:read"),
    ("GET", "/v1/vendor-accounts", "accounts:manage"),
    ("PUT", "/v1/vendor-accounts/sohar", "accounts:manage"),
    ("GET", "/v1/vendor-accounts/sohar", "accounts:manage"),
    ("POST", "/v1/vendor-accounts/sohar/test", "accounts:manage"),
    ("DELETE", "/v1/vendor-accounts/sohar", "accounts:manage"),
    ("POST", "/v1/vendors/sohar/hold", OPERATIONS),
    ("POST", "/v1/vendors/sohar/resume", OPERATIONS),
    ("GET", "/v1/payers", "verifications:read"),
    ("GET", "/v1/events", "verifications:read"),
    ("GET", "/v1/audit-events", "audit:read"),
    ("GET", "/v1/webhook-endpoints", "webhooks:manage"),
    ("POST", "/v1/portal-links", "webhooks:manage"),
    ("POST", "/v1/webhook-endpoints", "webhooks:manage"),
    ("POST", "/v1/patients/erase", "patients:erase"),
]
BODIES: dict[tuple[str, str], Any] = {
    ("PATCH", "/v1/webhook-endpoints/{whe}"): {"description": "theirs"},
    ("POST", "/v1/webhook-endpoints/{whe}/recover"): {"since": "2026-01-01T00:00:00Z"},
    ("POST", "/v1/verifications/{stuck}/resolve"): {"action": "give_up"},
    ("POST", "/v1/verifications/search"): {},
    ("POST", "/v1/verifications/bulk"): {"action": "cancel", "filter": {"vendor": "vsee"}},
    ("PUT", "/v1/vendor-accounts/sohar"): {"credentials": {"client_id": "", "client_secret": ""}},
    ("POST", "/v1/webhook-endpoints"): {"url": "https://a.example.com"},
    ("POST", "/v1/patients/erase"): {"member_id": "nobody's", "date_of_birth": "1990-09-20"},
}


@pytest.fixture
async def made(client: httpx.AsyncClient, keys: Keys, post: Post, end: End, stuck: Stuck) -> dict[str, str]:
    endpoint = await client.post("/v1/webhook-endpoints", json={"url": "https://a.example.com"}, headers=keys.full)
    ended = (await post())["id"]
    await end(ended)
    verification, unknown = await post(), await post()
    await stuck(unknown["id"])
    path = f"/v1/webhook-endpoints/{endpoint.json()['id']}"
    delivery, *_ = (await client.get(f"{path}/deliveries", headers=keys.full)).json()["data"]
    of_verifications = {"ver": verification["id"], "stuck": unknown["id"], "ended": ended}
    order = {"action": "cancel", "filter": {"vendor": "vsee"}, "dry_run": False}
    job = await client.post("/v1/verifications/bulk", json=order, headers=keys.full)
    return {**of_verifications, "job": job.json()["id"], "whe": endpoint.json()["id"], "dlv": delivery["id"]}


async def call(
    client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], **ids: str
) -> httpx.Response:
    body = BODIES.get((method, path))
    return await client.request(method, path.format(**ids), headers=headers, **({} if body is None else {"json": body}))


def theirs(keys: Keys, scope: str) -> Headers:
    return keys.operator if scope == OPERATIONS else keys.full


def strangers(keys: Keys, scope: str) -> list[Headers]:
    if scope == OPERATIONS:
        return [keys.operator | {"x-tenant": "Clinic South"}, keys.operator | {"x-mode": "live"}]
    return [keys.other, keys.live]


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
async def test_only_its_own_tenant_and_mode_find_it(
    client: httpx.AsyncClient, keys: Keys, made: dict[str, str], rows: Rows, method: str, path: str, scope: str
) -> None:
    for stranger in strangers(keys, scope):
        answer = await call(client, method, path, stranger, **made)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    told = await rows(
        "SELECT tenant_id, outcome, subject_id FROM audit_events WHERE actor_kind <> 'cli' ORDER BY position"
    )
    assert [(row.outcome, row.subject_id) for row in told[-2:]] == [
        ("not_found", path.format(**made).split("/")[3])
    ] * 2
    assert not any(row.outcome == "allowed" for row in told if row.tenant_id != told[0].tenant_id)
    assert [row.status for row in await rows("SELECT status FROM webhook_endpoints WHERE deleted_at IS NULL")] == [
        "enabled"
    ]
    assert (await call(client, method, path, theirs(keys, scope), **made)).status_code < 300


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
@pytest.mark.parametrize("id_", ["{0}", "x", "%00", "{1}%00", "ver_%F0%9F%92%A9", "{1}A", "..%2f..", "a" * 5000])
@pytest.mark.asyncio(loop_scope="module")
async def test_ids_that_are_none(lasting: Lasting, method: str, path: str, scope: str, id_: str) -> None:
    unknown = {"ver": VER, "stuck": VER, "ended": VER, "job": JOB, "whe": WHE, "dlv": DLV}
    named = {kind: id_.format(of_kind, of_kind[:-1]) for kind, of_kind in unknown.items()}
    answer = await call(lasting.client, method, path, theirs(lasting.keys, scope), **named)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_lists_show_nothing_of_others(client: httpx.AsyncClient, keys: Keys, made: dict[str, str]) -> None:
    for stranger in (keys.other, keys.live):
        for path in ("/v1/verifications", "/v1/webhook-endpoints", "/v1/events"):
            assert (await client.get(path, headers=stranger)).json()["data"] == []
        search = {"member_id": "ELIGIBLE-0001"}
        assert (await client.post("/v1/verifications/search", json=search, headers=stranger)).json()["data"] == []


async def test_a_retry_links_only_to_an_own_verification(
    client: httpx.AsyncClient, keys: Keys, made: dict[str, str], body: Body
) -> None:
    linked = await client.post("/v1/verifications", json=body(retry_of=made["ver"]), headers=keys.full)
    assert linked.status_code == 202 and linked.json()["retry_of"] == made["ver"]
    refused = await client.post("/v1/verifications", json=body(retry_of=made["ver"]), headers=keys.other)
    assert refused.json()["errors"][0]["pointer"] == "/retry_of"


async def test_each_route_takes_its_ownscope_and_no_other(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, made: dict[str, str], body: Body
) -> None:
    for scope in SCOPES:
        key = await create_key(gateway, tenant="Clinic North", mode="test", scopes=[scope])
        headers = {"authorization": f"Bearer {key}"}
        for method, path, needed in WITHOUT_ID + ROUTES:
            given = made if scope != needed or method != "DELETE" else {**made, "whe": WHE}
            if (method, path) == ("POST", "/v1/verifications"):
                answer = await client.post(path, json=body(), headers=headers)
            else:
                answer = await call(client, method, path, headers, **given)
            refused = answer.status_code == 403
            assert refused == (scope != needed), (scope, method, path, answer.text)
            if refused:
                assert answer.json()["code"] == "insufficient_scope"


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer cg_test_nope", "Basic eDp5", "Bearer cg_test_" + "x" * 43, "Bearer \xff"],
)
async def test_without_a_valid_key(client: httpx.AsyncClient, header: str | None) -> None:
    headers = [] if header is None else [(b"authorization", header.encode("latin-1"))]
    for method, path, _ in WITHOUT_ID + ROUTES:
        answer = await client.request(
            method, path.format(ver=VER, stuck=VER, ended=VER, job=JOB, whe=WHE, dlv=DLV), headers=headers
        )
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["x-request-id"] == answer.json()["request_id"]


async def test_two_keys_in_one_request_are_none(client: httpx.AsyncClient, keys: Keys) -> None:
    """A proxy that looks at keys, or the log of one, might have looked at the other."""
    both = [("authorization", one["authorization"]) for one in (keys.full, keys.other)]
    for given in (both, both[::-1], both[:1] * 2):
        answer = await client.get("/v1/verifications", headers=given)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


def test_the_matrix_names_every_route(app: FastAPI) -> None:
    named = {
        (
            method,
            path.format(
                **dict.fromkeys(("ver", "stuck", "ended"), "{verification_id}"),
                job="{job_id}",
                whe="{endpoint_id}",
                dlv="{delivery_id}",
            ).replace("/sohar", "/{vendor}"),
        )
        for method, path, _ in WITHOUT_ID + ROUTES
    }
    secured = {
        (method.upper(), path)
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
        if operation.get("security")
    }
    assert secured == named


PHI = ("ELIGIBLE-0001", "Jane", "Sample", "1990-09-20", '"30.00"')
"""Of the inquiry, and of the documented result."""
TAKES_OPERATORS = {
    "/v1/verifications/{ver}",
    "/v1/verifications/{ver}/answers",
    "/v1/verifications/{ver}/timeline",
    "/v1/verifications/{stuck}/resolve",
    "/v1/verifications/{ended}/resubmit",
    "/v1/verifications/{ver}/cancel",
    "/v1/verifications/bulk",
    "/v1/bulk-jobs",
    "/v1/bulk-jobs/{job}",
    "/v1/bulk-jobs/{job}/cancel",
    "/v1/verifications",
    "/v1/vendors",
    "/v1/vendors/sohar/hold",
    "/v1/vendors/sohar/resume",
    "/v1/payers",
}


async def test_each_route_that_takes_operators_tells_no_phi_and_the_others_refuse_them(
    client: httpx.AsyncClient, keys: Keys, made: dict[str, str], body: Body, rows: Rows
) -> None:
    for method, path, _ in WITHOUT_ID + ROUTES:
        if (method, path) == ("POST", "/v1/verifications"):
            answer = await client.post(path, json=body(), headers=keys.operator)
        else:
            answer = await call(client, method, path, keys.operator, **made)
        taken = path in TAKES_OPERATORS and (method, path) != ("POST", "/v1/verifications")
        assert answer.status_code in ((200, 202) if taken else (403,)), (method, path, answer.text)
        assert [phi for phi in PHI if phi in answer.text] == [], (method, path)
    assert (
        await rows(
            "SELECT 1 FROM audit_events WHERE outcome = 'allowed'"
            " AND action IN ('verification.read', 'verification.raw', 'verification.answers')"
        )
        == []
    )


async def test_without_the_scope_to_read_no_route_tells_phi(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, made: dict[str, str], body: Body, post: Post, rows: Rows
) -> None:
    """Also not a replay of one that ended, a wait for an end, a cancel, or an endpoint with full payloads."""
    scopes = [scope for scope in SCOPES if scope not in ("verifications:read", "verifications:raw")]
    writer = bearer(await create_key(gateway, tenant="Clinic North", mode="test", scopes=scopes))
    open_one = await post()
    ended = await client.post("/v1/verifications", json=body(), headers=writer | {"idempotency-key": "ended"})
    await client.post(f"/v1/verifications/{ended.json()['id']}/cancel", headers=writer)
    answers = [
        ended,
        await client.post("/v1/verifications", json=body(), headers=writer | {"idempotency-key": "ended"}),
        await client.post(
            "/v1/verifications", json=body(), headers=writer | {"idempotency-key": "ended", "prefer": "wait=5"}
        ),
        await client.post("/v1/verifications", json=body(), headers=writer),
        await client.post(f"/v1/verifications/{open_one['id']}/cancel", headers=writer),
        await client.post(f"/v1/verifications/{open_one['id']}/cancel", headers=writer),
    ]
    assert [answer.status_code for answer in answers] == [202, 200, 200, 202, 200, 200]
    for method, path, _ in WITHOUT_ID + ROUTES:
        if (method, path) != ("POST", "/v1/verifications"):
            answers.append(await call(client, method, path, writer, **made))
    for answer in answers:
        assert [phi for phi in PHI if phi in answer.text] == [], answer.request.url
    assert all(answer.json()["inquiry"] is None for answer in answers[:6])
    full = {"url": "https://a.example.com", "payload": "full"}
    assert (await client.post("/v1/webhook-endpoints", json=full, headers=writer)).status_code == 403
    allowed = "SELECT DISTINCT action FROM audit_events WHERE outcome = 'allowed' AND subject_kind = 'verification'"
    assert {row.action for row in await rows(allowed)} == {
        *("verification.create", "verification.cancel", "verification.retry")
    }
    # The same key's verification, to one that may read.
    assert PHI[0] in (await client.get(f"/v1/verifications/{ended.json()['id']}", headers=keys.full)).text


async def test_a_replay_of_a_completed_one_tells_a_writer_no_result(
    client: httpx.AsyncClient, gateway: Gateway, body: Body, end: End
) -> None:
    writer = bearer(await create_key(gateway, tenant="Clinic North", mode="test", scopes=["verifications:write"])) | {
        "idempotency-key": "k"
    }
    created = (await client.post("/v1/verifications", json=body(), headers=writer)).json()
    await end(created["id"])
    replay = await client.post("/v1/verifications", json=body(), headers=writer)
    shown = replay.json()
    assert (replay.status_code, shown["status"], shown["outcome"]) == (200, "completed", "eligible")
    assert shown["inquiry"] is shown["result"] is shown["late_result"] is None
    assert [phi for phi in PHI if phi in replay.text] == []


async def test_a_failure_is_told_without_the_vendors_words(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, body: Body
) -> None:
    writer = bearer(await create_key(gateway, tenant="Clinic North", mode="test", scopes=["verifications:write"])) | {
        "idempotency-key": "k"
    }
    created = (await client.post("/v1/verifications", json=body(), headers=writer)).json()
    async with gateway.transaction() as db:
        v = (await store.lock(db, gateway.sealer, [created["id"]]))[created["id"]]
        words = failure_of(FailureCode.MEMBER_NOT_FOUND, vendor_code="E75", vendor_message="no Jane Sample here")
        await apply(db, gateway.sealer, [lifecycle.failed(v, words, "for a test")])
    assert "no Jane" in (await client.get("/v1/verifications", headers=keys.full)).text
    for shown in (
        (await client.post("/v1/verifications", json=body(), headers=writer)).json(),
        (await client.get(f"/v1/verifications/{created['id']}", headers=keys.operator)).json(),
        (await client.get("/v1/verifications", headers=keys.operator)).json()["data"][0],
    ):
        failure = shown["failure"]
        assert (failure["code"], failure["vendor_code"], failure["vendor_message"]) == ("member_not_found", None, None)
        assert failure["aaa"] == [] and failure["message"] and failure["suggestion"]
