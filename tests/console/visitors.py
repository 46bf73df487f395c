"""The console without a browser: a session of somebody with these roles, its pages as text, its forms as they are sent."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from covergate.access.caller import NOWHERE
from covergate.access.console_sessions import open_session
from covergate.access.console_users import SignedIn
from covergate.access.operators import find_tenant
from covergate.console.visitor import cookie_of
from tests.e2e.house import House

_TAG = re.compile(r"<[^>]*>")


@dataclass
class Visitor:
    client: httpx.AsyncClient
    csrf: str

    async def get(self, path: str, **query: str) -> httpx.Response:
        return await self.client.get(f"/console{path}", params=query or None)

    async def send(self, path: str, **fields: str) -> httpx.Response:
        """A form of a page, whose answer is not followed."""
        return await self.client.post(f"/console{path}", data={"csrf": self.csrf, **fields})

    async def text(self, path: str, **query: str) -> str:
        """What a page shows."""
        answer = await self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return words_of(answer)


def words_of(answer: httpx.Response) -> str:
    return " ".join(html.unescape(_TAG.sub(" ", answer.text)).split())


def links_of(answer: httpx.Response) -> Mapping[str, str]:
    """Words of each link → where it leads."""
    found = re.findall(r'<a href="([^"]*)"[^>]*>(.*?)</a>', answer.text)
    return {html.unescape(_TAG.sub("", words)): html.unescape(path) for path, words in found}


@asynccontextmanager
async def visiting(
    house: House, *roles: str, tenant: str | None = None, mode: str = "test", actor: str = "link Test"
) -> AsyncIterator[Visitor]:
    """`tenant` None: an operator."""
    tenant_id = None
    if tenant is not None:
        async with house.gateway.connection() as db:
            tenant_id = await find_tenant(db, tenant)
        assert tenant_id is not None
    token = await open_session(house.gateway, SignedIn(actor, actor, tenant_id, roles), NOWHERE, mode)
    cookies = {cookie_of(house.gateway): token}
    async with httpx.AsyncClient(base_url=house.client.base_url, cookies=cookies, trust_env=False) as client:
        yield Visitor(client, hashlib.sha256(f"covergate csrf {token}".encode()).hexdigest())
