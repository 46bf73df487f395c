"""What stands in every answer, whoever asked for what."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from covergate.api.app import create_app
from covergate.gateway import Gateway


@pytest.mark.parametrize(
    "path", ["/healthz", "/docs", "/docs/docs.js", "/openapi.json", "/v1/verifications", "/nowhere"]
)
async def test_no_browser_guesses_a_type(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "strict-transport-security" not in answer.headers


async def test_behind_tls_browsers_are_told_to_come_by_https_only(gateway: Gateway) -> None:
    behind_tls = gateway.settings.model_copy(update={"public_url": "https://gateway.example"})
    app = create_app(replace(gateway, settings=behind_tls))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        answer = await client.get("/healthz")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
