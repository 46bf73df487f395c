"""A portal link lets one visitor in, once, to one tenant's webhooks in one mode; its token is in no row and no log."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from covergate.access.audit import actor_of
from covergate.access.portal_links import PortalGrant, make_portal_link, make_portal_link_for, redeem
from covergate.api.app import create_app
from covergate.db.database import Database
from covergate.gateway import Gateway
from tests.support.clients import make_keys
from tests.support.gateways import CALLER, make_gateway
from tests.support.sql import run_sql


@pytest.fixture
async def gateway(database: Database) -> Gateway:
    return await make_gateway(database, public_url="https://gateway.example.com")


async def come(gateway: Gateway, token: str) -> PortalGrant | None:
    async with gateway.transaction() as db:
        return await redeem(db, token)


async def link(gateway: Gateway) -> str:
    """A new link's token."""
    return (await make_portal_link(gateway, actor_of(CALLER))).url.partition("#")[2]


async def test_a_partner_comes_in_once(gateway: Gateway, capfd: pytest.CaptureFixture[str]) -> None:
    keys = await make_keys(gateway)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(gateway)), base_url="http://gateway"
    ) as client:
        made = await client.post("/v1/portal-links", headers=keys.live)
    assert made.status_code == 201 and set(made.json()) == {"object", "url", "expires_at"}
    page, _, token = made.json()["url"].partition("#")
    assert page == "https://gateway.example.com/console/enter" and len(token) == 43
    [row] = await run_sql(gateway, "SELECT *, expires_at - created_at AS lives FROM portal_links")
    assert token not in str(row) and 599 < row.lives.total_seconds() < 601
    assert token not in "".join(capfd.readouterr())
    both = await asyncio.gather(come(gateway, token), come(gateway, token))
    [grant] = [one for one in both if one is not None]
    [tenant] = await run_sql(gateway, "SELECT id FROM tenants WHERE name = 'Clinic North'")
    assert (grant.tenant_id, grant.mode, grant.made_by) == (tenant.id, "live", row.made_by)
    assert await come(gateway, token) is None
    [told] = await run_sql(gateway, "SELECT * FROM audit_events WHERE action = 'portal_link.create'")
    assert (told.subject_id, told.actor_id, told.mode) == (row.id, row.made_by, "live")


@pytest.mark.parametrize(
    "meanwhile",
    [
        "UPDATE portal_links SET expires_at = clock_timestamp()",
        "UPDATE tenants SET erased_at = clock_timestamp()",
        (
            "INSERT INTO api_keys (id, tenant_id, mode, digest, hint, scopes, revoked_at)"
            " VALUES ('key_test', 'ten_test', 'test', 'x', 'x', '{}', clock_timestamp())"
        ),
    ],
    ids=["too late", "its tenant was erased", "its key was revoked"],
)
async def test_a_link_that_lets_nobody_in_any_more(gateway: Gateway, meanwhile: str) -> None:
    token = await link(gateway)
    await run_sql(gateway, meanwhile)
    assert await come(gateway, token) is None


@pytest.mark.parametrize("token", ["", "x", "a" * 43, "\x00", "é"])
async def test_a_token_that_was_never_made(gateway: Gateway, token: str) -> None:
    await link(gateway)
    assert await come(gateway, token) is None


async def test_at_the_command_line(gateway: Gateway) -> None:
    made = await make_portal_link_for(gateway, "Test clinic", "test")
    assert made is not None
    grant: Any = await come(gateway, made.url.partition("#")[2])
    assert (grant.tenant_id, grant.mode) == ("ten_test", "test") and "@" in grant.made_by
    assert await make_portal_link_for(gateway, "Nobody's clinic", "test") is None
