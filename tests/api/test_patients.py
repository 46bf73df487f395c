"""`POST /v1/patients/erase`: by whom, of whom, and only when it is said twice."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from covergate.access.api_keys import create_key
from covergate.erasure import ERASED_KINDS
from covergate.gateway import Gateway
from tests.support.clients import Body, End, Headers, Keys, Post, Rows, bearer

PATH = "/v1/patients/erase"
PATIENT = {"member_id": "ELIGIBLE-0001", "date_of_birth": "1990-09-20"}


@pytest.fixture
async def eraser(gateway: Gateway) -> Headers:
    return bearer(await create_key(gateway, tenant="Clinic North", mode="test", scopes=["patients:erase"]))


async def test_it_only_counts_unless_it_is_told_otherwise(
    client: httpx.AsyncClient, keys: Keys, eraser: Headers, post: Post, end: End, rows: Rows
) -> None:
    ended, still_open = await post(), await post()
    await end(ended["id"])
    for body in (PATIENT, {**PATIENT, "dry_run": True}):
        answer = await client.post(PATH, json=body, headers=eraser)
        assert answer.status_code == 200
        shown = answer.json()
        assert (shown["object"], shown["dry_run"], shown["complete"]) == ("erasure", True, True)
        assert list(shown["counts"]) == list(ERASED_KINDS)
        assert {kind: shown["counts"][kind] for kind in ("verifications", "canceled", "results")} == {
            "verifications": 2,
            "canceled": 1,
            "results": 1,
        }
        assert (await client.get(f"/v1/verifications/{ended['id']}", headers=keys.full)).json()["inquiry"] is not None

    answer = await client.post(PATH, json={**PATIENT, "dry_run": False}, headers=eraser)
    assert answer.json()["counts"] == shown["counts"] and not answer.json()["dry_run"]
    assert answer.json()["until"] >= still_open["created_at"]
    read = (await client.get(f"/v1/verifications/{ended['id']}", headers=keys.full)).json()
    assert (read["status"], read["outcome"], read["inquiry"], read["result"]) == ("completed", "eligible", None, None)
    assert read["erased_at"] is not None
    canceled = (await client.get(f"/v1/verifications/{still_open['id']}", headers=keys.full)).json()
    assert (canceled["status"], canceled["external_id"]) == ("canceled", None)
    audited = await rows("SELECT subject_id, request_id FROM audit_events WHERE action = 'patient.erase'")
    assert {row.subject_id for row in audited} == {ended["id"], still_open["id"]}
    assert {row.request_id for row in audited} == {answer.headers["x-request-id"]}


async def test_another_tenant_and_the_other_mode_erase_nothing_here(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, post: Post, rows: Rows
) -> None:
    await post()
    for tenant, mode in (("Clinic South", "test"), ("Clinic North", "live")):
        stranger = bearer(await create_key(gateway, tenant=tenant, mode=mode, scopes=["patients:erase"]))
        answer = await client.post(PATH, json={**PATIENT, "dry_run": False}, headers=stranger)
        assert set(answer.json()["counts"].values()) == {0}
    assert await rows("SELECT 1 FROM verifications WHERE erased_at IS NOT NULL") == []


async def test_a_key_has_the_scope_only_if_it_is_named(client: httpx.AsyncClient, gateway: Gateway) -> None:
    usual = bearer(await create_key(gateway, tenant="Clinic North", mode="test"))
    answer = await client.post(PATH, json=PATIENT, headers=usual)
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, {"/member_id", "/date_of_birth"}),
        ({"member_id": "ELIGIBLE-0001"}, {"/date_of_birth"}),
        ({**PATIENT, "date_of_birth": "20.9.1990", "dry_run": "no"}, {"/date_of_birth", "/dry_run"}),
        ({**PATIENT, "name": "Sample"}, {"/name"}),
    ],
)
async def test_what_cannot_be_erased(
    client: httpx.AsyncClient, eraser: Headers, body: dict[str, Any], pointers: set[str]
) -> None:
    answer = await client.post(PATH, json=body, headers=eraser)
    assert answer.status_code == 422
    assert {error["pointer"] for error in answer.json()["errors"]} == pointers
    assert "Sample" not in answer.text and "1990" not in answer.text


async def test_a_create_whose_key_was_erased_is_a_new_one(
    client: httpx.AsyncClient, keys: Keys, eraser: Headers, body: Body
) -> None:
    named = {**keys.full, "idempotency-key": "intake-1"}
    first = await client.post("/v1/verifications", json=body(), headers=named)
    assert (await client.post("/v1/verifications", json=body(), headers=named)).json()["id"] == first.json()["id"]
    erased = await client.post(PATH, json={**PATIENT, "dry_run": False}, headers=eraser)
    assert erased.json()["counts"]["idempotency_keys"] == 1
    assert (await client.post("/v1/verifications", json=body(), headers=named)).json()["id"] != first.json()["id"]
