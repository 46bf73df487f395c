"""The vendors' payer lists: what they say is what the test says; and their synchronisation."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import httpx
from sqlalchemy import Text, bindparam, text

from covergate.gateway import Gateway
from covergate.payers import sync
from covergate.payers.sync import Synced
from covergate.transport.transport import Transport


@dataclass
class Lists:
    """The vendors' side: what Sohar and VSee list; an int is the status of an answer that failed."""

    sohar: Any = field(default_factory=list)
    vsee: Any = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith("/oauth/token"):
            return httpx.Response(200, json={"access_token": "t", "expires_in": 3600})
        self.calls.append(f"{request.url.host}{path}")
        if path.endswith("/v1/payers"):
            return _answer(self.sohar, self.sohar)
        if path.endswith("/insurances/"):
            return _answer(self.vsee, {"data": {"insurers": self.vsee}})
        return httpx.Response(200, json={"data": {"insurancePlans": []}})


def _answer(given: Any, body: Any) -> httpx.Response:
    return httpx.Response(given) if isinstance(given, int) else httpx.Response(200, content=json.dumps(body))


def carrier(code: str, name: str) -> dict[str, str]:
    return {"id": code, "name": name}


def plan(payer_id: str, name: str, *aliases: str, ids: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"payerId": payer_id, "payerName": name, "aliasPayerIds": list(ids), "aliasPayerNames": list(aliases)}


@dataclass
class Syncer:
    gateway: Gateway
    transport: Transport

    async def __call__(self, mode: str = "test") -> dict[str, Synced]:
        return {synced.vendor: synced for synced in await sync.sync_all(self.gateway, self.transport, mode)}

    async def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        async with self.gateway.connection() as db:
            return [tuple(row) for row in await db.execute(text(statement), values)]

    async def earlier(self, by: str) -> None:
        """As if everything that was synced had been so much earlier."""
        moved = "started_at = started_at - CAST(:by AS interval), synced_at = synced_at - CAST(:by AS interval)"
        async with self.gateway.connection() as db:
            await db.execute(text(f"UPDATE payer_syncs SET {moved}").bindparams(bindparam("by", by, Text)))
