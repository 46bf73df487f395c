"""Options that name a vendor's record: refused at the door as soon as there is a second tenant, in every process."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from covergate import gateway as gateways
from covergate.access.api_keys import create_key
from covergate.gateway import Gateway
from tests.support.clients import Body, Headers, Rows, bearer
from tests.support.waiting import eventually

POINTER = "/vendor_options/healthie/user_id"
NAMING: dict[str, Any] = {"vendor": "healthie", "vendor_options": {"healthie": {"user_id": "recordofanother"}}}


@pytest.fixture
async def key(gateway: Gateway) -> Headers:
    """Of the only tenant."""
    return bearer(await create_key(gateway, tenant="Clinic North", mode="test"))


async def test_a_second_tenant_takes_effect_in_every_process(
    client: httpx.AsyncClient, gateway: Gateway, key: Headers, body: Body
) -> None:
    async def status() -> int:
        return (await client.post("/v1/verifications", json=body(**NAMING), headers=key)).status_code

    assert await status() == 202
    other_process = Gateway(gateway.settings, gateway.database)
    await create_key(other_process, tenant="Clinic North", mode="live")
    assert await status() == 202  # a second key of the same tenant
    await create_key(other_process, tenant="Clinic South", mode="test")

    async def refused() -> bool:
        return await status() == 422

    await eventually(refused)


async def test_a_second_tenant_is_seen_although_its_news_was_lost(
    client: httpx.AsyncClient, key: Headers, body: Body, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gateways.TENANTS_KNOWN_SECONDS <= 60
    monkeypatch.setattr(gateways, "TENANTS_KNOWN_SECONDS", 0)
    assert (await client.post("/v1/verifications", json=body(**NAMING), headers=key)).status_code == 202
    await rows("INSERT INTO tenants (id, name) VALUES ('ten_second', 'Clinic South') RETURNING id")
    assert (await client.post("/v1/verifications", json=body(**NAMING), headers=key)).status_code == 422


@pytest.mark.parametrize(
    "changes",
    [{"external_id": "x" * 65}, {"deadline": "2020-01-01T00:00:00Z"}, {"vendor": "nobody"}, {"unknown": 1}],
    ids=lambda changes: next(iter(changes)),
)
async def test_it_is_listed_with_everything_else_that_is_wrong(
    client: httpx.AsyncClient, gateway: Gateway, key: Headers, body: Body, changes: dict[str, Any]
) -> None:
    await create_key(gateway, tenant="Clinic South", mode="test")
    answer = await client.post("/v1/verifications", json=body(**{**NAMING, **changes}), headers=key)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    told = {error["pointer"]: error["code"] for error in answer.json()["errors"]}
    assert told.keys() == {POINTER, f"/{next(iter(changes))}"}
    assert told[POINTER] == "not_allowed"
    assert "recordofanother" not in answer.text


async def test_one_that_is_wrong_itself_is_told_once(
    client: httpx.AsyncClient, gateway: Gateway, key: Headers, body: Body
) -> None:
    await create_key(gateway, tenant="Clinic South", mode="test")
    wrong = {"vendor_options": {"healthie": {"user_id": "not an id", "policy_id": "7"}}}
    answer = await client.post("/v1/verifications", json=body(**wrong), headers=key)
    assert sorted((error["pointer"], error["code"]) for error in answer.json()["errors"]) == [
        ("/vendor_options/healthie/policy_id", "not_allowed"),
        (POINTER, "invalid_value"),
    ]
