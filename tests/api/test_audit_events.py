"""Every action leaves its row, whatever became of it; and `GET /v1/audit-events`, which shows a tenant its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from covergate.access.api_keys import SCOPES, create_key
from covergate.access.operators import create_operator
from covergate.api import refusals
from covergate.api.app import create_app
from covergate.api.refusals import ACTIONS, MOST_SOURCES, Refusals
from covergate.eligibility.failure import FailureCode
from covergate.gateway import Gateway
from tests.support.clients import (
    Body,
    End,
    Headers,
    Keys,
    Lasting,
    Post,
    Rows,
    Stuck,
    bearer,
    bringer_to_a_stop,
    ender,
    poster,
)
from tests.support.sql import run_sql

WRONG = bearer("cg_test_" + "x" * 43)
NOT_PHI = {
    "list_vendors",
    "list_payers",
    "list_events",
    "list_webhook_endpoints",
    "read_webhook_endpoint",
    "list_deliveries",
    "read_verification_timeline",
    "receive_vendor_event",
    "list_vendor_accounts",
    "read_vendor_account",
    "list_bulk_jobs",
    "read_bulk_job",
}
"""What shows no PHI and changes nothing: only refusals leave a row."""

ACCOUNT = {"environment": "sandbox", "credentials": {"client_id": "north", "client_secret": "a-long-secret-8c1f"}}
PATIENT = {"member_id": "ELIGIBLE-0001", "date_of_birth": "1990-09-20"}
BULK = {"action": "cancel", "filter": {"status": ["queued"]}}
VER, HOOK = "/v1/verifications/{ver}", "/v1/webhook-endpoints/{whe}"
WALK: list[tuple[str, str, str, Any]] = [
    ("create_verification", "POST", "/v1/verifications", "body"),
    ("list_verifications", "GET", "/v1/verifications", None),
    ("search_verifications", "POST", "/v1/verifications/search", {"member_id": "ELIGIBLE-0001"}),
    ("read_verification", "GET", VER, None),
    ("read_verification_raw", "GET", f"{VER}/raw", None),
    ("read_verification_answers", "GET", f"{VER}/answers", None),
    ("read_verification_timeline", "GET", f"{VER}/timeline", None),
    ("cancel_verification", "POST", "/v1/verifications/{open}/cancel", None),
    ("resolve_verification", "POST", "/v1/verifications/{stuck}/resolve", {"action": "give_up"}),
    ("resubmit_verification", "POST", f"{VER}/resubmit", {}),
    ("order_bulk_job", "POST", "/v1/verifications/bulk", {**BULK, "dry_run": False}),
    ("list_bulk_jobs", "GET", "/v1/bulk-jobs", None),
    ("read_bulk_job", "GET", "/v1/bulk-jobs/{job}", None),
    ("cancel_bulk_job", "POST", "/v1/bulk-jobs/{job}/cancel", None),
    ("hold_vendor", "POST", "/v1/vendors/sohar/hold", None),
    ("resume_vendor", "POST", "/v1/vendors/sohar/resume", None),
    ("list_vendors", "GET", "/v1/vendors", None),
    ("list_payers", "GET", "/v1/payers", None),
    ("list_events", "GET", "/v1/events", None),
    ("create_webhook_endpoint", "POST", "/v1/webhook-endpoints", {"url": "https://b.example.com"}),
    ("list_webhook_endpoints", "GET", "/v1/webhook-endpoints", None),
    ("read_webhook_endpoint", "GET", HOOK, None),
    ("update_webhook_endpoint", "PATCH", HOOK, {"description": "x"}),
    ("send_test_event", "POST", f"{HOOK}/test", None),
    ("rotate_webhook_secret", "POST", f"{HOOK}/rotate-secret", None),
    ("recover_webhook_endpoint", "POST", f"{HOOK}/recover", {"since": "2026-01-01T00:00:00Z"}),
    ("create_portal_link", "POST", "/v1/portal-links", None),
    ("list_deliveries", "GET", f"{HOOK}/deliveries", None),
    ("redeliver", "POST", "/v1/deliveries/{dlv}/redeliver", None),
    ("delete_webhook_endpoint", "DELETE", HOOK, None),
    ("list_audit_events", "GET", "/v1/audit-events", None),
    ("list_vendor_accounts", "GET", "/v1/vendor-accounts", None),
    ("read_vendor_account", "GET", "/v1/vendor-accounts/sohar", None),
    ("put_vendor_account", "PUT", "/v1/vendor-accounts/sohar", ACCOUNT),
    ("test_vendor_account", "POST", "/v1/vendor-accounts/sohar/test", None),
    ("remove_vendor_account", "DELETE", "/v1/vendor-accounts/sohar", None),
    ("erase_patient", "POST", "/v1/patients/erase", {**PATIENT, "dry_run": False}),
]


OPERATORS = {"resolve_verification", "hold_vendor", "resume_vendor"}
"""Operations that no key is enough for."""
DECIDED = {"resolve_verification": "verification.give_up", "order_bulk_job": "bulk_job.cancel"}
"""What is done under another name than it is refused."""


def theirs(keys: Keys, step: tuple[str, str, str, Any]) -> Headers:
    return keys.operator if step[0] in OPERATORS else keys.full


@pytest.fixture
async def made(client: httpx.AsyncClient, keys: Keys, post: Post, end: End, stuck: Stuck) -> dict[str, str]:
    return await make(client, keys, post, end, stuck)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_made(lasting: Lasting, body: Body) -> dict[str, str]:
    """For requests that are refused, after which all is as before."""
    post = poster(lasting.client, lasting.keys, body)
    return await make(lasting.client, lasting.keys, post, ender(lasting.gateway), bringer_to_a_stop(lasting.gateway))


async def make(client: httpx.AsyncClient, keys: Keys, post: Post, end: End, stuck: Stuck) -> dict[str, str]:
    """Ids of the walk. The first verification failed, which is in the vendor's words and therefore PHI in a list."""
    endpoint = await client.post("/v1/webhook-endpoints", json={"url": "https://a.example.com"}, headers=keys.full)
    ended, open_, unknown = await post(), await post(), await post()
    await end(ended["id"], FailureCode.MEMBER_ID_INVALID)
    await stuck(unknown["id"])
    await client.put("/v1/vendor-accounts/sohar", json=ACCOUNT, headers=keys.full)
    path = f"/v1/webhook-endpoints/{endpoint.json()['id']}"
    delivery, *_ = (await client.get(f"{path}/deliveries", headers=keys.full)).json()["data"]
    job = await client.post("/v1/verifications/bulk", json={**BULK, "dry_run": False}, headers=keys.full)
    return {
        "job": job.json()["id"],
        "ver": ended["id"],
        "open": open_["id"],
        "stuck": unknown["id"],
        "whe": endpoint.json()["id"],
        "dlv": delivery["id"],
    }


async def told_of(gateway: Gateway, answer: httpx.Response) -> list[Any]:
    """Rows of the audit that one request left."""
    told = "SELECT * FROM audit_events WHERE request_id = :id ORDER BY position"
    return list(await run_sql(gateway, told, id=answer.headers["x-request-id"]))


@pytest.fixture
def told(gateway: Gateway) -> Any:
    return partial(told_of, gateway)


async def call(
    client: httpx.AsyncClient, body: Body, step: tuple[str, str, str, Any], headers: Headers, made: dict[str, str]
) -> httpx.Response:
    _, method, path, sent = step
    json = body() if sent == "body" else sent
    return await client.request(method, path.format(**made), headers=headers, json=json)


def test_every_operation_has_its_action_and_is_walked(app: FastAPI) -> None:
    """A new route is named in `refusals.ACTIONS` and here."""
    secured = {
        operation["operationId"]
        for operations in app.openapi()["paths"].values()
        for operation in operations.values()
        if operation.get("security")
    }
    assert secured == {name for name, *_ in WALK}
    received = {"receive_vendor_event", "receive_account_event"}
    assert secured | received == set(ACTIONS)
    assert len(set(ACTIONS.values())) == len(ACTIONS) - len(received) + 1


@pytest.mark.parametrize("step", [step for step in WALK if step[0] != "test_vendor_account"], ids=lambda step: step[0])
async def test_what_was_done_leaves_its_row(
    client: httpx.AsyncClient, keys: Keys, made: dict[str, str], body: Body, told: Any, step: tuple[str, str, str, Any]
) -> None:
    if step[0] == "resume_vendor":
        await client.post("/v1/vendors/sohar/hold", headers=keys.operator)
    answer = await call(client, body, step, {**theirs(keys, step), "x-acting-user": "staff-4711"}, made)
    assert answer.status_code < 300, answer.text
    action = DECIDED.get(step[0], ACTIONS[step[0]])
    found = [row for row in await told(answer) if row.action == action]
    if step[0] in NOT_PHI:
        assert found == []
        return
    row = found[0]
    assert row.id.startswith("aud_") and row.tenant_id.startswith("ten_") and row.mode == "test"
    by = ("operator", "opr_") if step[0] in OPERATORS else ("key", "key_")
    assert (row.actor_kind, row.actor_id[:4], row.acting_user, row.address) == (*by, "staff-4711", "127.0.0.1")
    assert (row.outcome, row.count) == ("allowed", 1)
    named = [value for name, value in made.items() if f"{{{name}}}" in step[2]]
    if named:
        assert row.subject_id == named[0]
    if step[0] == "create_verification":
        assert row.subject_id == answer.json()["id"]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("step", WALK, ids=lambda step: step[0])
async def test_a_scope_that_lacks_leaves_its_row(
    lasting: Lasting, lasting_made: dict[str, str], body: Body, step: tuple[str, str, str, Any]
) -> None:
    hooks = any(word in step[2] for word in ("webhook", "deliver", "portal"))
    scope = "verifications:read" if hooks else "webhooks:manage"
    limited = bearer(await create_key(lasting.gateway, tenant="Clinic North", mode="test", scopes=[scope]))
    answer = await call(lasting.client, body, step, limited, lasting_made)
    assert answer.status_code == 403
    [row] = await told_of(lasting.gateway, answer)
    assert (row.action, row.outcome, row.actor_kind) == (ACTIONS[step[0]], "refused", "key")
    named = [value for name, value in lasting_made.items() if f"{{{name}}}" in step[2]]
    assert row.subject_id == (named[0] if named else "sohar" if "/sohar" in step[2] else None)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "step", [step for step in WALK if "{" in step[2] and step[0] not in OPERATORS], ids=lambda step: step[0]
)
async def test_a_probe_leaves_its_row_whether_the_id_is_anothers_or_none(
    lasting: Lasting, lasting_made: dict[str, str], body: Body, step: tuple[str, str, str, Any]
) -> None:
    made, keys = lasting_made, lasting.keys
    none = {name: value[:-1] + ("0" if value[-1] != "0" else "1") for name, value in made.items()}
    for headers, ids in ((keys.other, made), (keys.live, made), (keys.full, none)):
        answer = await call(lasting.client, body, step, headers, ids)
        assert answer.status_code == 404
        [row] = await told_of(lasting.gateway, answer)
        assert (row.action, row.outcome) == (ACTIONS[step[0]], "not_found")
        assert row.subject_id in ids.values()


async def test_what_cannot_be_an_id_is_not_written_down(client: httpx.AsyncClient, keys: Keys, told: Any) -> None:
    for path in ("/v1/verifications/Jane-Sample-1990-09-20", "/v1/verifications/ver_Jane", "/v1/vendors/Jane/hold"):
        method = "POST" if path.endswith("hold") else "GET"
        headers = keys.operator if path.endswith("hold") else keys.full
        [row] = await told(await client.request(method, path, headers=headers))
        assert (row.outcome, row.subject_id) == ("not_found", None)
        assert "Jane" not in str(row)


async def test_an_erasure_of_nobody_leaves_its_row(client: httpx.AsyncClient, keys: Keys, told: Any) -> None:
    body = {**PATIENT, "member_id": "NOBODY-77", "dry_run": False}
    [row] = await told(await client.post("/v1/patients/erase", json=body, headers=keys.full))
    assert (row.action, row.outcome, row.subject_id) == ("patient.erase", "not_found", None)


async def test_a_search_leaves_its_row_but_not_what_was_searched_for(
    client: httpx.AsyncClient, keys: Keys, made: dict[str, str], told: Any
) -> None:
    path = "/v1/verifications/search"
    wanted = {"member_id": "NOBODY-77", "date_of_birth": "1961-02-03"}
    [row] = await told(await client.post(path, json=wanted, headers=keys.full))
    assert (row.action, row.outcome, row.subject_id) == ("verification.search", "not_found", None)
    assert "NOBODY" not in str(row) and "1961" not in str(row)
    hits = await told(await client.post(path, json={"member_id": "ELIGIBLE-0001"}, headers=keys.full))
    assert {row.subject_id for row in hits} == {made[name] for name in ("ver", "open", "stuck")}


async def test_what_decides_who_gets_phi_has_a_row_of_its_own(
    client: httpx.AsyncClient, keys: Keys, made: dict[str, str], told: Any
) -> None:
    path = f"/v1/webhook-endpoints/{made['whe']}"

    async def change(**changes: str) -> list[str]:
        return [row.action for row in await told(await client.patch(path, json=changes, headers=keys.full))]

    assert await change(payload="full") == ["endpoint.update", "endpoint.payload_full"]
    assert await change(payload="full", description="again") == ["endpoint.update"]
    assert await change(url="https://c.example.com") == ["endpoint.update", "endpoint.url"]
    assert await change(payload="thin") == ["endpoint.update", "endpoint.payload_thin"]
    full = {"url": "https://d.example.com", "payload": "full"}
    created = await told(await client.post("/v1/webhook-endpoints", json=full, headers=keys.full))
    assert [row.action for row in created] == ["endpoint.create", "endpoint.payload_full"]


async def test_a_change_that_fails_leaves_no_row_of_having_been_made(
    client: httpx.AsyncClient, keys: Keys, made: dict[str, str], told: Any
) -> None:
    answer = await client.post(f"/v1/verifications/{made['ver']}/cancel", headers=keys.full)
    assert answer.status_code == 409 and await told(answer) == []


# --- wrong keys --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def coming_from(app: FastAPI, address: str) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, client=(address, 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


def of(app: FastAPI) -> Refusals:
    found: Refusals = app.state.refusals
    return found


async def wrong_keys(rows: Rows) -> list[tuple[str, str | None, int]]:
    found = await rows(
        "SELECT action, address, count AS number, actor_id, tenant_id, outcome FROM audit_events"
        " WHERE actor_kind = 'key' AND actor_id IS NULL ORDER BY position"
    )
    assert all((row.tenant_id, row.outcome) == (None, "refused") for row in found)
    return [(row.action, row.address, row.number) for row in found]


async def test_wrong_keys_are_summed_up(app: FastAPI, rows: Rows) -> None:
    async with coming_from(app, "192.0.2.7") as one, coming_from(app, "192.0.2.8") as other:
        for _ in range(5):
            assert (await one.get("/v1/verifications", headers=WRONG)).status_code == 401
        assert (await other.get("/v1/payers")).status_code == 401
        first = [("verification.list", "192.0.2.7", 1), ("payer.list", "192.0.2.8", 1)]
        assert await wrong_keys(rows) == first
        await of(app).flush()
        assert await wrong_keys(rows) == [*first, ("key.wrong", "192.0.2.7", 4)]
        await of(app).flush()
        await one.get("/v1/payers", headers=WRONG)
        assert (await wrong_keys(rows))[3:] == [("payer.list", "192.0.2.7", 1)]


async def test_guessers_cannot_fill_the_disk(gateway: Gateway, rows: Rows) -> None:
    """From however many addresses; and all of one IPv6 network are one."""
    unlimited = gateway.settings.model_copy(update={"wrong_keys_per_minute": 1_000_000})
    app = create_app(replace(gateway, settings=unlimited))
    asked = 0
    async with app.router.lifespan_context(app):
        for number in range(MOST_SOURCES * 2):
            for address in (f"198.51.100.{number}", f"2001:db8::{number:x}"):
                async with coming_from(app, address) as client:
                    for _ in range(2):
                        assert (await client.get("/v1/payers", headers=WRONG)).status_code == 401
                        asked += 1
        await of(app).flush()
    found = await wrong_keys(rows)
    assert len(found) <= MOST_SOURCES * 2 + 1
    assert sum(count for _, _, count in found) == asked
    assert [count for _, address, count in found if address == "2001:db8::/64"] == [MOST_SOURCES * 4 - 1]
    assert found[-1][1] is None or any(address is None for _, address, _ in found)


async def test_sums_are_written_when_the_process_ends(gateway: Gateway, rows: Rows) -> None:
    app = create_app(gateway)
    async with app.router.lifespan_context(app), coming_from(app, "192.0.2.7") as client:
        for _ in range(3):
            await client.get("/v1/payers", headers=WRONG)
    assert await wrong_keys(rows) == [("payer.list", "192.0.2.7", 1), ("key.wrong", "192.0.2.7", 2)]


async def test_a_sum_that_cannot_be_written_is_kept(app: FastAPI, gateway: Gateway, rows: Rows) -> None:
    async with coming_from(app, "192.0.2.7") as client:
        for _ in range(3):
            await client.get("/v1/payers", headers=WRONG)
    await rows("ALTER TABLE audit_events RENAME TO away")
    await of(app).flush()
    await rows("ALTER TABLE away RENAME TO audit_events")
    await of(app).flush()
    assert (await wrong_keys(rows))[1:] == [("key.wrong", "192.0.2.7", 2)]


async def test_a_refusal_that_cannot_be_written_is_no_answer(client: httpx.AsyncClient, keys: Keys, rows: Rows) -> None:
    await rows("ALTER TABLE audit_events RENAME TO away")
    for path, headers in (("/v1/verifications/ver_none", keys.full), ("/v1/payers", WRONG)):
        assert (await client.get(path, headers=headers)).status_code == 500
    assert refusals.WINDOW_SECONDS >= 60


# --- X-Acting-User -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["", "x" * 129, "tab\there", "\xe9", "\x7f"])
async def test_an_acting_user_is_short_and_printable(client: httpx.AsyncClient, keys: Keys, word: str) -> None:
    headers = [(b"authorization", keys.full["authorization"].encode()), (b"x-acting-user", word.encode("latin-1"))]
    answer = await client.get("/v1/payers", headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "X-Acting-User")
    assert word not in answer.text or not word


async def test_an_acting_user_is_sent_once(client: httpx.AsyncClient, keys: Keys) -> None:
    headers = [(b"authorization", keys.full["authorization"].encode()), *[(b"x-acting-user", b"staff-1")] * 2]
    assert (await client.get("/v1/payers", headers=headers)).status_code == 422


# --- the list ----------------------------------------------------------------------------------------------------------


async def listed(client: httpx.AsyncClient, headers: Headers, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/audit-events", headers=headers, params=query)
    assert answer.status_code == 200, answer.text
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


async def test_a_row_as_it_is_shown(client: httpx.AsyncClient, keys: Keys, made: dict[str, str]) -> None:
    read = await client.get(f"/v1/verifications/{made['ver']}", headers={**keys.full, "x-acting-user": "staff-4711"})
    [row] = await listed(client, keys.full, action="verification.read")
    assert row == {
        "id": row["id"],
        "object": "audit_event",
        "at": row["at"],
        "action": "verification.read",
        "actor": {"kind": "key", "id": row["actor"]["id"]},
        "acting_user": "staff-4711",
        "address": "127.0.0.1",
        "request_id": read.headers["x-request-id"],
        "subject": {"kind": "verification", "id": made["ver"]},
        "outcome": "allowed",
        "count": 1,
        "reason": None,
    }
    assert row["id"].startswith("aud_") and row["at"].endswith("Z")


async def test_filters(client: httpx.AsyncClient, keys: Keys, made: dict[str, str]) -> None:
    await client.get(f"/v1/verifications/{made['ver']}", headers=keys.full)
    await client.get("/v1/verifications/ver_none", headers=keys.full)
    everything = await listed(client, keys.full, limit=100)
    [read] = [row for row in everything if row["action"] == "verification.read" and row["outcome"] == "allowed"]
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"action": "verification.create"}, lambda row: row["action"] == "verification.create"),
        ({"actor": read["actor"]["id"]}, lambda row: row["actor"]["id"] == read["actor"]["id"]),
        ({"subject": made["ver"]}, lambda row: row["subject"]["id"] == made["ver"]),
        ({"outcome": "not_found"}, lambda row: row["outcome"] == "not_found"),
        ({"since": read["at"], "action": "verification.read"}, lambda row: row["action"] == "verification.read"),
        ({"until": read["at"], "action": "verification.read"}, lambda row: False),
        ({"subject": "ver_other"}, lambda row: False),
    ]
    for query, fits in cases:
        found = await listed(client, keys.full, limit=100, **query)
        wanted = [row["id"] for row in everything if fits(row)]
        assert [row["id"] for row in found if row["id"] <= everything[0]["id"]] == wanted, query
    for query in ({"outcome": "x"}, {"since": "yesterday"}, {"unknown": "1"}, {"limit": "0"}):
        assert (await client.get("/v1/audit-events", headers=keys.full, params=query)).status_code == 422


async def test_pages_are_newest_first_and_complete(client: httpx.AsyncClient, keys: Keys, made: dict[str, str]) -> None:
    everything = [row["id"] for row in await listed(client, keys.full, limit=100)]
    found, cursor = [], None
    while True:
        query = {"limit": 3} | ({} if cursor is None else {"after": cursor})
        page = (await client.get("/v1/audit-events", headers=keys.full, params=query)).json()
        found += [row["id"] for row in page["data"]]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break
    assert [id_ for id_ in found if id_ <= everything[0]] == everything == sorted(everything, reverse=True)
    assert (await client.get("/v1/audit-events?after=x", headers=keys.full)).status_code == 400


async def test_another_tenants_rows_and_another_modes_are_never_shown(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, made: dict[str, str], rows: Rows
) -> None:
    await client.get(f"/v1/verifications/{made['ver']}", headers=keys.full)
    await client.get(f"/v1/verifications/{made['ver']}", headers=keys.other)
    await client.get("/v1/payers", headers=WRONG)
    whose = {row.id: (row.tenant_id, row.mode) for row in await rows("SELECT id, tenant_id, mode FROM audit_events")}
    for headers in (keys.full, keys.other, keys.live):
        own = Counter(whose[row["id"]] for row in await listed(client, headers, limit=100) if row["id"] in whose)
        assert len(own) == 1 and None not in next(iter(own))
    # A filter opens nothing, either.
    assert {row["outcome"] for row in await listed(client, keys.other, subject=made["ver"])} == {"not_found"}


async def test_reading_the_audit_is_audited(client: httpx.AsyncClient, keys: Keys) -> None:
    await listed(client, keys.full)
    assert (await listed(client, keys.full))[0]["action"] == "audit.list"


async def test_no_key_reads_the_audit_unless_it_was_made_for_that(client: httpx.AsyncClient, gateway: Gateway) -> None:
    usual = bearer(await create_key(gateway, tenant="Clinic North", mode="test"))
    assert (await client.get("/v1/audit-events", headers=usual)).status_code == 403
    assert "audit:read" in SCOPES


# --- reads that come together ------------------------------------------------------------------------------------------


async def test_reads_that_come_together_share_transactions_and_each_has_its_row(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, post: Post, rows: Rows
) -> None:
    verification, operator = await post(), bearer(await create_operator(gateway, name="O", roles=["operations", "phi"]))
    path = f"/v1/verifications/{verification['id']}"
    callers = [{**who, "x-acting-user": f"user-{n}"} for n in range(15) for who in (keys.full, operator)]
    answers = await asyncio.gather(*(client.get(path, headers=headers) for headers in callers))
    assert {answer.status_code for answer in answers} == {200}
    told = await rows(
        "SELECT actor_kind, acting_user, tenant_id, mode, subject_id, CAST(xmin AS text) AS by"
        " FROM audit_events WHERE action = 'verification.read' AND outcome = 'allowed'"
    )
    assert Counter((row.actor_kind, row.acting_user) for row in told) == Counter(
        (kind, f"user-{n}") for n in range(15) for kind in ("key", "operator")
    )
    assert {(row.mode, row.subject_id) for row in told} == {("test", verification["id"])}
    assert len({row.tenant_id for row in told}) == 1
    assert len({row.by for row in told}) < len(told) / 2


async def test_searches_that_come_together_share_transactions(
    client: httpx.AsyncClient, keys: Keys, post: Post, rows: Rows
) -> None:
    verification = await post()
    patient = verification["inquiry"]["patient"]
    known = {"member_id": patient["member_id"], "date_of_birth": patient["date_of_birth"]}
    asked = [known, {**known, "member_id": "NOBODY1"}] * 8
    answers = await asyncio.gather(
        *(client.post("/v1/verifications/search", json=body, headers=keys.full) for body in asked)
    )
    assert [len(answer.json()["data"]) for answer in answers] == [1, 0] * 8
    told = await rows(
        "SELECT subject_id, outcome, CAST(xmin AS text) AS by FROM audit_events WHERE action = 'verification.search'"
    )
    assert Counter((row.subject_id, row.outcome) for row in told) == Counter(
        {(verification["id"], "allowed"): 8, (None, "not_found"): 8}
    )
    assert len({row.by for row in told}) < len(told)


async def test_a_search_that_cannot_be_written_down_is_no_answer(
    client: httpx.AsyncClient, keys: Keys, post: Post, rows: Rows
) -> None:
    patient = (await post())["inquiry"]["patient"]
    body = {"member_id": patient["member_id"], "date_of_birth": patient["date_of_birth"]}
    await rows("ALTER TABLE audit_events RENAME TO away")
    answer = await client.post("/v1/verifications/search", json=body, headers=keys.full)
    await rows("ALTER TABLE away RENAME TO audit_events")
    assert answer.status_code >= 500 and "Jane" not in answer.text


@pytest.mark.parametrize("more", ["", "/answers", "/raw"])
async def test_a_read_that_cannot_be_written_down_is_no_answer(
    client: httpx.AsyncClient, keys: Keys, post: Post, rows: Rows, more: str
) -> None:
    verification = await post()
    await rows("ALTER TABLE audit_events RENAME TO away")
    answer = await client.get(f"/v1/verifications/{verification['id']}{more}", headers=keys.full)
    assert answer.status_code >= 500 and "Jane" not in answer.text
    await rows("ALTER TABLE away RENAME TO audit_events")
