from __future__ import annotations

import asyncio
import base64
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from covergate import ids
from covergate.eligibility.failure import FailureCode
from covergate.gateway import Gateway
from covergate.verifications import bulk_jobs, queries
from covergate.verifications.model import Exchange
from covergate.verifications.view import JOINED
from tests.support.clients import Body, End, Keys, Lasting, Post, Rows, poster
from tests.support.due import due_in
from tests.support.postgres import pool_of
from tests.support.waiting import eventually


async def test_create_is_accepted_stored_and_queued(
    client: httpx.AsyncClient, keys: Keys, body: Body, gateway: Gateway
) -> None:
    answer = await client.post("/v1/verifications", json=body(), headers=keys.full)

    assert answer.status_code == 202
    shown = answer.json()
    assert answer.headers["location"] == f"/v1/verifications/{shown['id']}"
    assert ids.is_id("ver", shown["id"]) and shown["status"] == "queued" and shown["mode"] == "test"
    assert "ssn" not in shown["inquiry"]["patient"] and "987654321" not in answer.text
    assert await due_in(gateway).steps() == [shown["id"]]
    read = (await client.get(answer.headers["location"], headers=keys.full)).json()
    assert read == shown


async def test_prefer_wait_is_woken_by_the_end(client: httpx.AsyncClient, keys: Keys, post: Post, end: End) -> None:
    waiting = asyncio.create_task(
        client.post("/v1/verifications", json=_asked(), headers={**keys.full, "prefer": "wait=30"})
    )
    created = await eventually(lambda: _only_row(client, keys))
    started = time.monotonic()
    await end(created["id"])
    answer = await waiting

    assert time.monotonic() - started < 5
    assert answer.status_code == 200 and answer.headers["preference-applied"] == "wait=30"
    assert answer.json()["status"] == "completed" and answer.json()["result"]["summary"]["in"]["copay"] == "30.00"
    assert answer.headers["location"] == f"/v1/verifications/{created['id']}"


async def test_prefer_wait_gives_up_and_says_how_far_it_is(client: httpx.AsyncClient, keys: Keys, body: Body) -> None:
    answer = await client.post("/v1/verifications", json=body(), headers={**keys.full, "prefer": "wait=1"})
    assert answer.status_code == 202 and answer.json()["status"] == "queued"
    assert "preference-applied" not in answer.headers


async def test_get_waits_too_and_failed_counts_as_ended(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End, app: FastAPI
) -> None:
    verification = await post()
    path = f"/v1/verifications/{verification['id']}"
    waiting = asyncio.create_task(client.get(path, headers={**keys.full, "prefer": "wait=999"}))
    await eventually(lambda: _waiting(app, verification["id"]) == 1)
    await end(verification["id"], FailureCode.MEMBER_ID_INVALID)
    answer = await waiting
    assert answer.status_code == 200 and answer.headers["preference-applied"] == "wait=60"
    assert answer.json()["failure"]["code"] == "member_id_invalid"


async def test_waiting_holds_no_connection_and_ends_when_the_process_stops(
    client: httpx.AsyncClient, keys: Keys, post: Post, app: FastAPI, gateway: Gateway
) -> None:
    verification = await post()
    path = f"/v1/verifications/{verification['id']}"
    waiting = [asyncio.create_task(client.get(path, headers={**keys.full, "prefer": "wait=60"})) for _ in range(30)]
    await eventually(lambda: _waiting(app, verification["id"]) == 30)
    await eventually(lambda: pool_of(gateway.database.engine).checkedout() == 0)
    assert (await client.get(path, headers=keys.full)).status_code == 200
    app.state.waiters.close()
    answers = await asyncio.wait_for(asyncio.gather(*waiting), 10)
    assert {answer.status_code for answer in answers} == {200}


async def test_idempotent_replay_while_open_and_after_the_end(
    client: httpx.AsyncClient, keys: Keys, body: Body, end: End
) -> None:
    headers = {**keys.full, "idempotency-key": "k" * 255}
    first = await client.post("/v1/verifications", json=body(), headers=headers)
    again = await client.post("/v1/verifications", json=body(), headers=headers)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    assert again.json()["id"] == first.json()["id"] and "idempotent-replayed" not in first.headers
    await end(first.json()["id"])
    ended = await client.post("/v1/verifications", json=body(), headers=headers)
    assert (ended.status_code, ended.headers["idempotent-replayed"]) == (200, "true")
    assert ended.json()["result"] is not None

    reused = await client.post("/v1/verifications", json=body(external_id="another"), headers=headers)
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
    other = await client.post("/v1/verifications", json=body(), headers={**headers, **keys.other})
    assert other.status_code == 202 and other.json()["id"] != first.json()["id"]


async def test_a_refused_request_uses_no_key_up(client: httpx.AsyncClient, keys: Keys, body: Body) -> None:
    headers = {**keys.full, "idempotency-key": "once"}
    refused = await client.post("/v1/verifications", json=body(external_id=1), headers=headers)
    assert refused.status_code == 422
    assert (await client.post("/v1/verifications", json=body(), headers=headers)).status_code == 202


@pytest.mark.parametrize("key", ["", " ", "a b", "k" * 256, "ü", "a\x7f"])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_key_must_be_visible_characters(lasting: Lasting, body: Body, key: str) -> None:
    headers = [(name.encode(), value.encode()) for name, value in {**lasting.keys.full, "idempotency-key": key}.items()]
    answer = await lasting.client.post("/v1/verifications", json=body(), headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "Idempotency-Key"


async def test_200_concurrent_creates_with_one_key_make_one_verification(
    client: httpx.AsyncClient, keys: Keys, body: Body, rows: Rows
) -> None:
    headers = {**keys.full, "idempotency-key": "same"}
    answers = await asyncio.gather(
        *(client.post("/v1/verifications", json=body(), headers=headers) for _ in range(200))
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 199
    assert (await rows("SELECT count(*) FROM verifications"))[0][0] == 1


async def test_list_filters_and_pages(client: httpx.AsyncClient, keys: Keys, post: Post, end: End) -> None:
    made = [await post(external_id=f"intake-{number}") for number in range(5)]
    await end(made[0]["id"])
    await end(made[1]["id"], FailureCode.MEMBER_ID_INVALID)

    async def listed(**query: Any) -> list[str]:
        answer = await client.get("/v1/verifications", params=query, headers=keys.full)
        assert answer.status_code == 200, answer.text
        return [row["external_id"] for row in answer.json()["data"]]

    assert await listed() == [f"intake-{number}" for number in (4, 3, 2, 1, 0)]
    assert await listed(status=["completed", "failed"]) == ["intake-1", "intake-0"]
    assert await listed(outcome="eligible") == ["intake-0"]
    assert await listed(failure_code="member_id_invalid") == ["intake-1"]
    assert await listed(external_id="intake-3") == ["intake-3"]
    assert await listed(vendor="integrex") == []
    assert await listed(payer_id="60054", waiting_for="operator") == []
    for one in made:
        later = [two["external_id"] for two in reversed(made) if two["created_at"] > one["created_at"]]
        assert await listed(created_after=one["created_at"]) == later
        earlier = [two["external_id"] for two in reversed(made) if two["created_at"] < one["created_at"]]
        assert await listed(created_before=one["created_at"]) == earlier
    ended = (await client.get("/v1/verifications", params={"outcome": "eligible"}, headers=keys.full)).json()["data"][0]
    assert "intake-0" not in await listed(completed_after=ended["completed_at"])
    assert await listed(completed_after=(datetime.now(UTC) - timedelta(hours=1)).isoformat()) == [
        "intake-1",
        "intake-0",
    ]

    found, cursor = [], None
    while True:
        query = {"limit": 2} | ({"after": cursor} if cursor else {})
        page = (await client.get("/v1/verifications", params=query, headers=keys.full)).json()
        found += [row["id"] for row in page["data"]]
        cursor = page["next_cursor"]
        assert page["has_more"] == (cursor is not None)
        if cursor is None:
            break
        assert base64.urlsafe_b64decode(cursor + "==").decode() == found[-1]
    assert found == [row["id"] for row in reversed(made)]
    row = (await client.get("/v1/verifications?limit=1", headers=keys.full)).json()["data"][0]
    assert "inquiry" not in row and "result" not in row


async def test_search_by_member_and_birth_date_is_audited(
    client: httpx.AsyncClient, keys: Keys, post: Post, rows: Rows
) -> None:
    verification = await post()
    await post(patient={**_asked()["patient"], "member_id": "OTHER-1"})

    async def search(**wanted: Any) -> list[str]:
        answer = await client.post("/v1/verifications/search", json=wanted, headers=keys.full)
        assert answer.status_code == 200, answer.text
        return [row["id"] for row in answer.json()["data"]]

    assert await search(member_id="eligible 0001") == [verification["id"]]
    assert await search(member_id="eligible-0001", date_of_birth="1990-09-21") == []
    assert len(await search(date_of_birth="1990-09-20", status=["queued"], limit=5)) == 2
    audited = await rows("SELECT subject_id, outcome FROM audit_events WHERE action = 'verification.search'")
    assert [row.outcome for row in audited if row.subject_id is None] == ["not_found"]
    assert len(audited) == 4


async def test_reads_are_audited_with_key_and_request(
    client: httpx.AsyncClient, keys: Keys, post: Post, end: End, rows: Rows
) -> None:
    verification = await post()
    path = f"/v1/verifications/{verification['id']}"
    answer = await client.get(path, headers=keys.full)
    raw = await client.get(f"{path}/raw", headers=keys.full)
    await client.get(f"{path}/timeline", headers=keys.full)
    await client.get("/v1/verifications", headers=keys.full)
    await end(verification["id"], FailureCode.MEMBER_ID_INVALID)
    await client.get("/v1/verifications", headers=keys.full)
    found = await rows(
        "SELECT action, request_id, subject_id, actor_id LIKE 'key_%' AS known FROM audit_events"
        " WHERE subject_kind = 'verification' ORDER BY position"
    )
    assert found[0].action == "verification.create"
    found = found[1:]
    assert [row.action for row in found] == ["verification.read", "verification.raw", "verification.list"]
    assert [row.request_id for row in found[:2]] == [answer.headers["x-request-id"], raw.headers["x-request-id"]]
    assert {(row.subject_id, row.known) for row in found} == {(verification["id"], True)}


async def test_cancel_again_and_after_the_end(client: httpx.AsyncClient, keys: Keys, post: Post, end: End) -> None:
    verification = await post()
    path = f"/v1/verifications/{verification['id']}/cancel"
    first = await client.post(path, headers=keys.full)
    assert first.status_code == 200 and first.json()["status"] == "canceled"
    again = await client.post(path, headers=keys.full, json={})
    assert again.status_code == 200 and again.json() == first.json()
    ended = await post()
    await end(ended["id"])
    refused = await client.post(f"/v1/verifications/{ended['id']}/cancel", headers=keys.full)
    assert (refused.status_code, refused.json()["code"]) == (409, "already_ended")
    with_body = await client.post(path, headers=keys.full, json={"reason": "x"})
    assert with_body.status_code == 422 and with_body.json()["errors"][0]["pointer"] == "/reason"


async def test_timeline_pages_oldest_first(client: httpx.AsyncClient, keys: Keys, post: Post, end: End) -> None:
    verification = await post()
    await end(verification["id"])
    path = f"/v1/verifications/{verification['id']}/timeline"
    whole = (await client.get(path, headers=keys.full)).json()
    assert [row["type"] for row in whole["data"]] == ["created", "completed"]
    assert list(whole["data"][0]) == ["at", "type", "attempt_id", "vendor", "message", "waiting_for", "next_check_at"]
    first = (await client.get(path, params={"limit": 1}, headers=keys.full)).json()
    rest = (await client.get(path, params={"after": first["next_cursor"]}, headers=keys.full)).json()
    assert first["data"] + rest["data"] == whole["data"]


async def test_a_cursor_far_behind_the_timeline(client: httpx.AsyncClient, keys: Keys, post: Post) -> None:
    """As one may be that was given when rows had numbers of the whole table."""
    path = f"/v1/verifications/{(await post())['id']}/timeline"
    cursor = base64.b64encode(b"9" * 18).decode()
    answer = await client.get(path, params={"after": cursor}, headers=keys.full)
    assert (answer.status_code, answer.json()["data"]) == (200, [])


async def test_raw_keeps_bodies_as_they_came(client: httpx.AsyncClient, keys: Keys, post: Post, end: End) -> None:
    verification = await post()
    now = datetime.now(UTC)
    contents = [b'{"a": 0.10, "b": 123456789012345678901}', b"<html>", b"\xff\x00", b""]
    exchanges = [Exchange(ids.new("exc"), now, "GET /x", 200, "application/json", content) for content in contents]
    await end(verification["id"], exchanges=exchanges)
    answer = await client.get(f"/v1/verifications/{verification['id']}/raw", headers=keys.full)
    shown = answer.json()
    assert shown["object"] == "raw" and [row["id"] for row in shown["exchanges"]] == [row.id for row in exchanges]
    assert [row["text"] for row in shown["exchanges"]] == [None, "<html>", "\ufffd\x00", ""]
    assert shown["exchanges"][0]["body"] == {"a": 0.1, "b": 123456789012345678901}
    assert '"a": 0.10' in answer.text


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("foo=1", "foo"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=2.0", "limit"),
        ("limit=", "limit"),
        ("status=gone", "status"),
        ("outcome=x", "outcome"),
        ("vendor=nobody", "vendor"),
        ("failure_code=x", "failure_code"),
        ("waiting_for=x", "waiting_for"),
        ("external_id=%00", "external_id"),
        ("external_id=", "external_id"),
        ("payer_id=" + "x" * 41, "payer_id"),
        ("created_after=yesterday", "created_after"),
        ("created_after=1700000000", "created_after"),
        ("created_before=2026-11-21T15:00:00", "created_before"),
        ("completed_after=9999-12-31T23:59:59-14:00", "completed_after"),
        ("completed_after=0001-01-01T00:00:00%2B14:00", "completed_after"),
        ("member_id=1", "member_id"),
        ("date_of_birth=1990-09-20", "date_of_birth"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_bad_parameters_are_named(lasting: Lasting, query: str, parameter: str) -> None:
    answer = await lasting.client.get(f"/v1/verifications?{query}", headers=lasting.keys.full)
    assert answer.status_code == 422 and answer.json()["code"] == "invalid_request"
    assert [error["parameter"] for error in answer.json()["errors"]] == [parameter]


@pytest.mark.parametrize("cursor", ["", "x", "====", "dmVyXzE", "ü", "%00"])
@pytest.mark.parametrize(
    "path", ["/v1/verifications", "/v1/webhook-endpoints", "/v1/events", "/v1/vendors", "timeline", "deliveries"]
)
@pytest.mark.asyncio(loop_scope="module")
async def test_unknown_cursors(lasting: Lasting, body: Body, path: str, cursor: str) -> None:
    post = poster(lasting.client, lasting.keys, body)
    if path == "timeline":
        path = f"/v1/verifications/{(await post())['id']}/timeline"
    elif path == "deliveries":
        made = await lasting.client.post(
            "/v1/webhook-endpoints", json={"url": "https://a.example.com"}, headers=lasting.keys.full
        )
        path = f"/v1/webhook-endpoints/{made.json()['id']}/deliveries"
    answer = await lasting.client.get(path, params={"after": cursor}, headers=lasting.keys.full)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


async def test_a_cursor_of_another_list(client: httpx.AsyncClient, keys: Keys) -> None:
    cursor = base64.b64encode(b"whe_" + b"0" * 26).decode().rstrip("=")
    assert (await client.get("/v1/webhook-endpoints", params={"after": cursor}, headers=keys.full)).status_code == 200
    assert (await client.get("/v1/verifications", params={"after": cursor}, headers=keys.full)).status_code == 400


async def test_unknown_cursor_in_a_search(client: httpx.AsyncClient, keys: Keys) -> None:
    answer = await client.post("/v1/verifications/search", json={"after": "nope"}, headers=keys.full)
    assert answer.status_code == 400 and answer.json()["errors"][0]["pointer"] == "/after"


async def test_a_422_lists_everything_at_once(client: httpx.AsyncClient, keys: Keys, body: Body) -> None:
    wrong = body(
        patient={"first_name": 3, "last_name": "", "date_of_birth": "2999-01-01", "member_id": "x" * 81, "nick": 1},
        provider={"npi": "1234567890"},
        service={"date": "2026-02-30", "procedure_codes": ["90837", "x"], "specialty": "XXX"},
        deadline="2020-01-01T00:00:00Z",
        metadata={"k" * 41: "v", "ok": "v" * 501},
        vendor_options={"health_harbor": {"benefits_query": ["NOPE"], "more": 1}},
    )
    del wrong["payer"]
    answer = await client.post("/v1/verifications", json=wrong, headers=keys.full)
    assert answer.status_code == 422 and answer.json()["code"] == "invalid_request"
    found = {(error["pointer"], error["code"]) for error in answer.json()["errors"]}
    assert found == {
        ("/payer", "required"),
        ("/patient/first_name", "invalid_type"),
        ("/patient/last_name", "too_short"),
        ("/patient/member_id", "too_long"),
        ("/patient/nick", "unknown_field"),
        ("/patient/date_of_birth", "date_in_future"),
        ("/patient/address/state", "required"),
        ("/provider/npi", "invalid_npi"),
        ("/service/date", "invalid_date"),
        ("/service/procedure_codes/1", "invalid_value"),
        ("/service/specialty", "invalid_value"),
        ("/service/place_of_service_code", "required"),
        ("/deadline", "out_of_range"),
        ("/metadata/" + "k" * 41, "too_long"),
        ("/metadata/ok", "too_long"),
        ("/vendor_options/health_harbor/benefits_query/0", "invalid_value"),
        ("/vendor_options/health_harbor/more", "unknown_field"),
    }


@pytest.mark.parametrize(
    ("changes", "code", "where"),
    [
        ({"vendor": "nobody"}, "invalid_request", ["/vendor"]),
        ({"payer": {}}, "invalid_request", ["/payer"]),
        ({"payer": {"name": "Qwertz"}}, "missing_for_vendor", ["/payer/name"]),
        ({"vendor": "integrex", "provider": {}}, "missing_for_vendor", ["/provider/npi"]),
        ({"retry_of": "ver_00000000000000000000000000"}, "invalid_request", ["/retry_of"]),
        ({"retry_of": "nonsense"}, "invalid_request", ["/retry_of"]),
        ({"deadline": "1700000000"}, "invalid_request", ["/deadline"]),
        ({"deadline": "9999-12-31T23:59:59-14:00"}, "invalid_request", ["/deadline"]),
        ({"metadata": {str(number): "" for number in range(51)}}, "invalid_request", ["/metadata"]),
        ({"metadata": {"a": "\x00"}}, "invalid_request", ["/metadata/a"]),
        ({"metadata": {"a": "\u202e"}}, "invalid_request", ["/metadata/a"]),
        ({"external_id": "a\x9bb"}, "invalid_request", ["/external_id"]),
        ({"payer": {"id": "60054", "name": "Aetna\u2066"}}, "invalid_request", ["/payer/name"]),
        ({"metadata": []}, "invalid_request", ["/metadata"]),
        ({"service": None}, "invalid_request", ["/service"]),
        ({"provider": {"in_network": "yes"}}, "invalid_request", ["/provider/in_network"]),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_what_cannot_be_accepted(
    lasting: Lasting, body: Body, changes: dict[str, Any], code: str, where: list[str]
) -> None:
    answer = await lasting.client.post("/v1/verifications", json=body(**changes), headers=lasting.keys.full)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == where


async def test_a_past_date_is_unsupported_by_those_who_answer_for_today(
    client: httpx.AsyncClient, keys: Keys, body: Body
) -> None:
    day = (datetime.now(UTC) - timedelta(days=3)).date().isoformat()
    service = {**body()["service"], "date": day}
    answer = await client.post("/v1/verifications", json=body(service=service), headers=keys.full)
    assert answer.json()["code"] == "unsupported_by_vendor"
    assert answer.json()["errors"][0]["pointer"] == "/service/date" and answer.json()["errors"][0]["vendor"] == "sohar"


async def test_integrex_takes_any_date_since_the_patient_s_birth(
    client: httpx.AsyncClient, keys: Keys, body: Body
) -> None:
    async def asked(day: str) -> httpx.Response:
        service = {**body()["service"], "date": day}
        sent = body(vendor="integrex", service=service, provider={"npi": "1234567893"})
        return await client.post("/v1/verifications", json=sent, headers=keys.full)

    born = body()["patient"]["date_of_birth"]
    assert (await asked(born)).status_code == 202
    before = (date.fromisoformat(born) - timedelta(days=1)).isoformat()
    for day, pointer in ((before, "/patient/date_of_birth"), (f"{datetime.now(UTC).year + 3}-01-01", "/service/date")):
        refused = await asked(day)
        assert refused.status_code == 422
        assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]


async def test_no_vendor_is_enabled_for_live_mode(client: httpx.AsyncClient, keys: Keys, body: Body) -> None:
    answer = await client.post("/v1/verifications", json=body(), headers=keys.live)
    assert (answer.status_code, answer.json()["code"]) == (422, "vendor_not_enabled")


def _asked() -> dict[str, Any]:
    return {
        "vendor": "sohar",
        "payer": {"id": "60054"},
        "patient": {
            "first_name": "Jane",
            "last_name": "Sample",
            "date_of_birth": "1990-09-20",
            "member_id": "ELIGIBLE-0001",
            "address": {"state": "CA"},
        },
        "service": {"place_of_service_code": "10", "specialty": "PSY"},
    }


async def _only_row(client: httpx.AsyncClient, keys: Keys) -> dict[str, Any] | None:
    data = (await client.get("/v1/verifications", headers=keys.full)).json()["data"]
    return data[0] if data else None


def _waiting(app: FastAPI, verification_id: str) -> int:
    return len(app.state.waiters._events.get(verification_id, ()))


async def test_a_filter_that_would_be_looked_for_too_long_ends_and_says_so(
    client: httpx.AsyncClient, keys: Keys, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    await post()
    monkeypatch.setattr(queries, "LISTED_WITHIN_SECONDS", 0.05)
    monkeypatch.setattr(bulk_jobs, "STATEMENT_SECONDS", 0.05)
    for module in (queries, bulk_jobs):
        monkeypatch.setattr(module, "JOINED", f"{JOINED} CROSS JOIN pg_sleep(5)")
    order = {"action": "cancel", "filter": {"payer_id": "60054"}}
    for answer in (
        await client.get("/v1/verifications", params={"payer_id": "60054"}, headers=keys.full),
        await client.post("/v1/verifications/search", json={"payer_id": "60054"}, headers=keys.full),
        await client.post("/v1/verifications/bulk", json=order, headers=keys.full),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "filter_too_wide"), answer.text
        assert "narrow the filter" in answer.json()["detail"]
