"""Every route of the console: nobody comes in without a session, and nothing changes without its form."""

from __future__ import annotations

import httpx
import pytest

from tests.console.browser import Visit
from tests.console.routes import routes
from tests.e2e.house import House

pytestmark = pytest.mark.asyncio(loop_scope="session")

FILLED = {
    "verification_id": "ver_01jd7k46mte0r9m2zn4x8b6wqg",
    "job_id": "job_01jd7k46mte0r9m2zn4x8b6wqg",
    "session_id": "ses_01jd7k46mte0r9m2zn4x8b6wqg",
    "kind": "csv",
    "endpoint_id": "whe_01jd7k46mte0r9m2zn4x8b6wqg",
    "delivery_id": "dlv_01jd7k46mte0r9m2zn4x8b6wqg",
}


def address(path: str) -> str:
    for part in path.split("/"):
        if part.startswith("{"):
            name = part.strip("{}")
            path = path.replace(part, FILLED.get(name, "x"))
    return f"/console{path}"


async def test_without_a_session_every_page_leads_to_the_sign_in(house: House) -> None:
    async with httpx.AsyncClient(base_url=house.client.base_url) as client:
        for method, path in routes():
            answer = await client.request(method, address(path))
            assert answer.status_code == 303, (method, path)
            assert answer.headers["location"].startswith("/console/sign-in"), (method, path)


async def test_without_its_token_no_form_is_taken(house: House, visit: Visit) -> None:
    seen = await visit("operations", "phi")
    cookies = {cookie["name"]: cookie["value"] for cookie in await seen.context.cookies()}
    async with httpx.AsyncClient(base_url=seen.url, cookies=cookies) as client:
        for method, path in routes():
            if method != "GET":
                answer = await client.request(method, address(path), data={"csrf": "wrong"})
                assert answer.status_code == 403, (method, path)


@pytest.mark.parametrize("roles", [("webhooks",), ("staff",), ("administrator",)])
async def test_nothing_fails_for_a_tenants_people(house: House, visit: Visit, roles: tuple[str, ...]) -> None:
    """Whatever they open is a page, a way elsewhere or a clear refusal; nothing of another tenant is in it."""
    seen = await visit(*roles, tenant="Clinic North")
    cookies = {cookie["name"]: cookie["value"] for cookie in await seen.context.cookies()}
    async with httpx.AsyncClient(base_url=seen.url, cookies=cookies) as client:
        for method, path in routes():
            if method != "GET":
                continue
            answer = await client.get(address(path))
            assert answer.status_code in {200, 303, 403, 404, 422}, (path, answer.status_code)
            assert "Clinic South" not in answer.text


async def test_the_pages_have_the_policy_and_are_not_kept(house: House) -> None:
    async with httpx.AsyncClient(base_url=house.client.base_url) as client:
        answer = await client.get("/console/sign-in")
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
