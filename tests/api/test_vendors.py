from __future__ import annotations

import httpx

from covergate.vendors import VENDORS
from tests.support.clients import Keys


async def test_every_vendor_with_its_capabilities(client: httpx.AsyncClient, keys: Keys) -> None:
    shown = (await client.get("/v1/vendors", headers=keys.full)).json()
    assert [row["name"] for row in shown["data"]] == list(VENDORS)
    assert all(row["enabled"] for row in shown["data"])
    for row in shown["data"]:
        capabilities = VENDORS[row["name"]].capabilities
        median, slow = capabilities.typical_wait_seconds
        assert row["capabilities"]["typical_wait_seconds"] == {"median": median, "slow": slow}
        assert row["capabilities"]["required_fields"] == list(VENDORS[row["name"]].required_fields)
        assert row["docs_url"].startswith("https://")


async def test_enabled_depends_on_the_mode(client: httpx.AsyncClient, keys: Keys) -> None:
    shown = (await client.get("/v1/vendors", headers=keys.live)).json()
    assert not any(row["enabled"] for row in shown["data"])


async def test_pages(client: httpx.AsyncClient, keys: Keys) -> None:
    first = (await client.get("/v1/vendors?limit=1", headers=keys.full)).json()
    rest = (await client.get("/v1/vendors", params={"after": first["next_cursor"]}, headers=keys.full)).json()
    assert [row["name"] for row in first["data"] + rest["data"]] == list(VENDORS)
