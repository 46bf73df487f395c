"""Operators belong to no tenant: what they may, for whom, and what is written of it; and what a tenant sees of the fleet."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from covergate.access.api_keys import SCOPES, create_key
from covergate.access.operators import ROLES, list_operators
from covergate.errors import ConfigurationError
from covergate.gateway import Gateway
from tests.support.clients import Body, End, Headers, Keys, Post, Rows, Stuck, make_operator


async def test_no_key_can_command_the_fleet(client: httpx.AsyncClient, gateway: Gateway, keys: Keys) -> None:
    assert "operations" not in SCOPES
    with pytest.raises(ConfigurationError):
        await create_key(gateway, tenant="Clinic North", mode="test", scopes=["operations"])
    for action in ("hold", "resume"):
        refused = await client.post(f"/v1/vendors/sohar/{action}", headers=keys.full | {"x-tenant": "Clinic North"})
        assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")


async def test_what_existing_keys_had_of_operations_is_worth_nothing(
    client: httpx.AsyncClient, keys: Keys, rows: Rows
) -> None:
    """Even if a row still said so."""
    await rows("UPDATE api_keys SET scopes = scopes || '{operations,phi}' RETURNING 1")
    assert (await client.post("/v1/vendors/sohar/hold", headers=keys.full)).status_code == 403


async def test_a_hold_without_a_mode_is_one_in_both_and_is_audited_with_who(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, rows: Rows
) -> None:
    anywhere = await make_operator(gateway)
    [by] = [row.id for row in await list_operators(gateway)][-1:]
    held = await client.post("/v1/vendors/sohar/hold", headers=anywhere)
    assert held.json()["held_by"] == {"id": by, "name": "Night shift"}
    for headers in (keys.full, keys.live):
        seen = await vendor(client, headers)
        assert (seen["held"], seen["held_by"]) == (True, None)  # a tenant is not told who
    await client.post("/v1/vendors/sohar/hold", headers=keys.operator)  # changes nothing, so it is not noted
    await client.post("/v1/vendors/sohar/resume", headers=keys.operator)
    assert (await vendor(client, keys.live))["held"] is True
    log = await rows(
        "SELECT action, subject_id || ' ' || mode AS subject, actor_id = :by AS first FROM audit_events"
        " WHERE actor_kind = 'operator' ORDER BY position",
        by=by,
    )
    assert [(row.action, row.subject, row.first) for row in log] == [
        ("vendor.hold", "sohar test", True),
        ("vendor.hold", "sohar live", True),
        ("vendor.resume", "sohar test", False),
    ]


async def test_resolve_works_across_tenants_and_is_audited_with_who(
    client: httpx.AsyncClient, gateway: Gateway, post: Post, stuck: Stuck, rows: Rows, keys: Keys
) -> None:
    anywhere = await make_operator(gateway)
    for key in (keys.full, keys.other):
        verification = await post(key)
        await stuck(verification["id"])
        path = f"/v1/verifications/{verification['id']}/resolve"
        answer = await client.post(path, json={"action": "give_up"}, headers=anywhere)
        assert answer.status_code == 200 and answer.json()["inquiry"] is None
        [written] = await rows(
            "SELECT * FROM audit_events WHERE subject_id = :id AND actor_kind = 'operator' AND (tenant_id, mode) ="
            " (SELECT tenant_id, mode FROM verifications WHERE id = :id)",
            id=verification["id"],
        )
        assert written.action == "verification.give_up"
        assert written.actor_id.startswith("opr_") and written.request_id == answer.headers["x-request-id"]


async def test_phi_is_a_role_of_its_own_and_reading_it_is_audited(
    client: httpx.AsyncClient, gateway: Gateway, post: Post, end: End, rows: Rows, keys: Keys
) -> None:
    verification = await post()
    await end(verification["id"])
    path = f"/v1/verifications/{verification['id']}"
    blind, seeing = await make_operator(gateway), await make_operator(gateway, "operations", "phi")
    assert (await client.get(f"{path}/raw", headers=blind)).status_code == 403
    shown = (await client.get(path, headers=blind)).json()
    assert (shown["status"], shown["inquiry"], shown["result"]) == ("completed", None, None)
    reads = (
        "SELECT action, tenant_id, actor_id, outcome FROM audit_events"
        " WHERE action IN ('verification.read', 'verification.raw') ORDER BY position"
    )
    assert [(row.action, row.outcome) for row in await rows(reads)] == [("verification.raw", "refused")]
    assert (await client.get(path, headers=seeing)).json()["inquiry"]["patient"]["first_name"] == "Jane"
    assert (await client.get(f"{path}/raw", headers=seeing)).status_code == 200
    log = (await rows(reads))[1:]
    assert [row.action for row in log] == ["verification.read", "verification.raw"]
    assert all(row.tenant_id.startswith("ten_") and row.actor_id.startswith("opr_") for row in log)


async def test_where_a_route_needs_a_tenant_the_operator_is_told(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, post: Post, rows: Rows
) -> None:
    anywhere = await make_operator(gateway)
    verification = await post()
    [tenant] = await rows("SELECT id FROM tenants WHERE name = 'Clinic North'")

    async def wrong(**headers: str) -> list[str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await client.get("/v1/verifications", headers=anywhere | named)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        return [error["parameter"] for error in answer.json()["errors"]]

    assert await wrong(x_mode="test") == await wrong(x_tenant="nobody", x_mode="test") == ["X-Tenant"]
    assert await wrong(x_tenant="ten_%00") == await wrong(x_tenant="") == ["X-Tenant"]
    assert await wrong(x_tenant=tenant.id) == await wrong(x_tenant=tenant.id, x_mode="both") == ["X-Mode"]
    for named in (tenant.id, "Clinic North"):
        listed = await client.get("/v1/verifications", headers=anywhere | {"x-tenant": named, "x-mode": "test"})
        assert [row["id"] for row in listed.json()["data"]] == [verification["id"]]


async def test_a_tenant_whose_name_is_not_ascii_is_found(client: httpx.AsyncClient, gateway: Gateway) -> None:
    await create_key(gateway, tenant="Clínica Müller", mode="test")
    operator = await make_operator(gateway, x_mode="test", x_tenant="Clínica Müller")
    headers = [(name.encode(), value.encode()) for name, value in operator.items()]
    answer = await client.get("/v1/verifications", headers=headers)
    assert answer.status_code == 200


async def test_a_key_has_its_own_tenant_and_mode_whatever_the_headers_say(
    client: httpx.AsyncClient, keys: Keys, post: Post
) -> None:
    verification = await post()
    named = {"x-tenant": "Clinic North", "x-mode": "test"}
    for stranger in (keys.other, keys.live):
        assert (await client.get("/v1/verifications", headers=stranger | named)).json()["data"] == []
        read = await client.get(f"/v1/verifications/{verification['id']}", headers=stranger | named)
        assert read.status_code == 404


async def test_roles_are_told_apart(client: httpx.AsyncClient, gateway: Gateway, post: Post) -> None:
    verification = await post()
    only_phi = await make_operator(gateway, "phi")
    assert (await client.post("/v1/vendors/sohar/hold", headers=only_phi)).status_code == 403
    assert (await client.get(f"/v1/verifications/{verification['id']}", headers=only_phi)).status_code == 403
    assert set(ROLES) == {"operations", "phi"}


# --- the fleet -------------------------------------------------------------------------------------------------------


async def test_a_tenant_sees_its_own_numbers_and_of_the_fleet_the_verdict(
    client: httpx.AsyncClient, gateway: Gateway, app: FastAPI, keys: Keys, rows: Rows
) -> None:
    await ended(rows, "Clinic South", 60, payer_id="60054")
    await ended(rows, "Clinic South", 40, payer_id="SECRET-PAYER", code="payer_unavailable")
    await ended(rows, "Clinic North", 3, payer_id="60054")

    north, south = await vendor(client, keys.full), await vendor(client, keys.other)
    assert (north["last_hour"]["attempts"], north["last_day"]["attempts"], north["payers"]) == (3, 3, [])
    assert (south["last_hour"]["attempts"], south["last_day"]["attempts"]) == (100, 100)
    assert [row["payer_id"] for row in south["payers"]] == ["60054", "SECRET-PAYER"]
    # One payer fails while the others answer: whoever asked for it is told, nobody else.
    assert (south["verdict"], south["verdict_payer_id"]) == ("payer", "SECRET-PAYER")
    assert (north["verdict"], north["verdict_payer_id"]) == ("none", None)
    assert "SECRET-PAYER" not in (await client.get("/v1/vendors", headers=keys.full)).text

    fleet = await vendor(client, await make_operator(gateway, x_mode="test"))
    assert (fleet["last_hour"]["attempts"], fleet["verdict_payer_id"]) == (103, "SECRET-PAYER")
    assert [row["payer_id"] for row in fleet["payers"]] == ["60054", "SECRET-PAYER"]
    of_north = await vendor(client, keys.operator)
    assert (of_north["last_hour"]["attempts"], of_north["verdict_payer_id"]) == (3, "SECRET-PAYER")


async def test_the_fleets_trouble_is_everybodys_news(client: httpx.AsyncClient, keys: Keys, rows: Rows) -> None:
    await ended(rows, "Clinic South", 60, payer_id="60054", code="vendor_unavailable")
    north = await vendor(client, keys.full)
    assert (north["verdict"], north["last_hour"]["attempts"]) == ("vendor", 0)


async def test_a_tenants_numbers_are_read_by_its_own_index(
    client: httpx.AsyncClient, gateway: Gateway, keys: Keys, rows: Rows
) -> None:
    """However much the others did."""
    await ended(rows, "Clinic South", 20_000)
    await ended(rows, "Clinic North", 50)
    await rows("ANALYZE attempts")
    [tenant] = await rows("SELECT id FROM tenants WHERE name = 'Clinic North'")
    plan = await rows(
        f"EXPLAIN SELECT * FROM attempts WHERE tenant_id = '{tenant.id}' AND mode = 'test'"
        " AND ended_at >= now() - interval '1 day'"
    )
    assert any("ix_attempts_ended_by_tenant" in row[0] for row in plan), plan


async def test_an_end_writes_whose_it_was(
    client: httpx.AsyncClient, post: Post, end: End, keys: Keys, rows: Rows, body: Body
) -> None:
    await end((await post(keys.other))["id"])
    [row] = await rows("SELECT t.name FROM attempts a JOIN tenants t ON t.id = a.tenant_id")
    assert row.name == "Clinic South"


async def vendor(client: httpx.AsyncClient, headers: Headers, name: str = "sohar") -> dict[str, Any]:
    answer = await client.get("/v1/vendors", headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = next(row for row in answer.json()["data"] if row["name"] == name)
    return found


async def ended(rows: Rows, tenant: str, count: int, payer_id: str = "60054", code: str | None = None) -> None:
    """So many attempts of this tenant's that ended a minute ago."""
    await rows(
        """
WITH v AS (
  INSERT INTO verifications (id, tenant_id, mode, status, failure_code, vendor, payer_id, attempt_id, deadline,
                             completed_at, not_asked, metadata, member_digest, birth_digest, inquiry_digest,
                             digest_key_id, inquiry_sealed)
  SELECT gen_random_uuid()::text, t.id, 'test', 'failed', 'x', 'sohar', :payer_id, '', now(), now(), '{}', '{}',
         '', '', '', '', '' FROM tenants t, generate_series(1, :count) WHERE t.name = :tenant RETURNING id, tenant_id
)
INSERT INTO attempts (id, verification_id, tenant_id, vendor, mode, payer_id, state, created_at, intent_at, ended_at,
                      failure_code)
SELECT gen_random_uuid()::text, id, tenant_id, 'sohar', 'test', :payer_id, :state, now(),
       clock_timestamp() - interval '2 minutes', clock_timestamp() - interval '1 minute', :code FROM v RETURNING 1""",
        tenant=tenant,
        count=count,
        payer_id=payer_id,
        code=code,
        state="answered" if code is None else "failed",
    )
