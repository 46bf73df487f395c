"""The busiest route is answered beside FastAPI's own, and nobody can tell."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from tests.support.clients import Body, Keys


async def test_it_is_taken_without_fastapi_and_only_for_its_path_and_method(
    client: httpx.AsyncClient, keys: Keys, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_fastapi: list[str] = []
    handle = APIRoute.handle

    async def noted(route: APIRoute, scope: Any, receive: Any, send: Any) -> None:
        by_fastapi.append(f"{scope['method']} {scope['path']}")
        await handle(route, scope, receive, send)

    monkeypatch.setattr(APIRoute, "handle", noted)
    created = await client.post("/v1/verifications", json=body(), headers=keys.full)
    assert (created.status_code, by_fastapi) == (202, [])
    assert (await client.get("/v1/verifications", headers=keys.full)).status_code == 200
    refused = await client.delete("/v1/verifications", headers=keys.full)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, POST")
    assert by_fastapi == ["GET /v1/verifications", "DELETE /v1/verifications"]


async def test_fastapis_own_answers_alike(app: FastAPI, client: httpx.AsyncClient, keys: Keys, body: Body) -> None:
    def alike(answer: httpx.Response) -> tuple[int, list[str], list[str]]:
        return answer.status_code, sorted(answer.headers), list(answer.json())

    async def answers() -> list[Any]:
        return [
            alike(await client.post("/v1/verifications", json=body(), headers=keys.full)),
            alike(await client.post("/v1/verifications", json=body(vendor="nobody"), headers=keys.full)),
            alike(await client.post("/v1/verifications", json=body())),
            alike(await client.post("/v1/verifications?limit=2", json=body(), headers=keys.full)),
            alike(await client.post("/v1/verifications", content=b"{", headers=keys.full)),
        ]

    by_shortcut = await answers()
    app.router.routes.pop(0)
    assert await answers() == by_shortcut
    assert [status for status, _, _ in by_shortcut] == [202, 422, 401, 422, 415]
