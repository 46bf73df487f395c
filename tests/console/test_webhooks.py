"""Webhooks in the console, for a partner by portal link, a tenant's people, and operators, against a server that may fail."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from covergate.access.api_keys import create_key, list_keys, revoke_key
from covergate.server import listening, running, start_server, url_of
from tests.console.browser import Visit, Watched, accessible, picture, watched
from tests.e2e.house import HERE, House
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUOTED = "We do not know the member 4711"


@dataclass
class Server:
    """A partner's server: it answers with `status`, and keeps what came; `:path` of the headers says for which endpoint."""

    url: str = ""
    status: int = 204
    came: list[tuple[dict[str, str], str]] = field(default_factory=list)

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{rest:path}", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        headers = {**request.headers, ":path": request.url.path}
        self.came.append((headers, (await request.body()).decode()))
        return Response(QUOTED if self.status >= 300 else None, self.status)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def opened_server() -> AsyncIterator[Server]:
    server = Server()
    with listening(HERE, 0, "COVERGATE") as socket:
        server.url = url_of(socket)
        async with running(await start_server("partner", server.app, socket)):
            yield server


@pytest.fixture
def server(opened_server: Server) -> Server:
    opened_server.status = 204
    opened_server.came.clear()
    return opened_server


async def key_of(house: House, tenant: str, mode: str = "test") -> dict[str, str]:
    key = await create_key(house.gateway, tenant=tenant, mode=mode, scopes=["webhooks:manage", "verifications:read"])
    return {"authorization": f"Bearer {key}"}


async def made(
    house: House, url: str, tenant: str = "Clinic North", mode: str = "test", **given: Any
) -> dict[str, Any]:
    """An endpoint by the API. It gets tests only, unless the test wants more."""
    body = {"url": url, "event_types": ["verification.renormalized"], **given}
    reply = await house.client.post("/v1/webhook-endpoints", json=body, headers=await key_of(house, tenant, mode))
    assert reply.status_code == 201, reply.text
    return dict(reply.json())


async def portal_path(house: House, headers: dict[str, str]) -> str:
    reply = await house.client.post("/v1/portal-links", headers=headers)
    return f"/console/enter#{reply.json()['url'].partition('#')[2]}"


async def sample_sent(page: Page, endpoint_id: str, type_: str = "endpoint.test") -> str:
    """Sends a test from the endpoint's page; the id of its delivery, whose page is open then."""
    await page.goto(f"{origin(page)}/console/webhooks/{endpoint_id}")
    await page.get_by_label("Event type of the test").select_option(type_)
    await page.get_by_role("button", name="Send a test").click()
    await expect(page.locator("#message")).to_contain_text("test is on its way")
    return page.url.partition("?")[0].rpartition("/")[2]


def origin(page: Page) -> str:
    return page.url.partition("/console")[0]


async def cookies_of(seen: Watched) -> dict[str, str]:
    return {cookie["name"]: cookie["value"] for cookie in await seen.context.cookies()}


async def ended(house: House, delivery_id: str) -> None:
    async def is_over() -> bool:
        [row] = await house.sql("SELECT last_at FROM deliveries WHERE id = :id", id=delivery_id)
        return row.last_at is not None

    await eventually(is_over, what="a try")


# --- who sees what -----------------------------------------------------------------------------------------------------


async def test_a_partner_comes_in_by_a_link_and_sees_only_its_webhooks(
    house: House, browser: Browser, server: Server
) -> None:
    north = await made(house, f"{server.url}/norths")
    south = await made(house, f"{server.url}/souths", "Clinic South")
    live = await made(house, "https://example.com/lives", mode="live")
    path = await portal_path(house, await key_of(house, "Clinic North"))
    async with watched(browser, str(house.client.base_url).rstrip("/")) as seen:
        page = await seen.page(path)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Webhooks")
        assert page.url.endswith("/console/webhooks")
        assert await page.get_by_role("navigation", name="Pages").get_by_role("link").all_inner_texts() == ["Webhooks"]
        await expect(page.get_by_role("button", name="to live")).to_have_count(0)
        text = await page.locator("main").inner_text()
        assert "/norths" in text
        assert "/souths" not in text
        assert "/lives" not in text
        await accessible(page)
        for foreign in (south["id"], live["id"], "whe_01jd7k46mte0r9m2zn4x8b6wqg", "nothing"):
            for address in (foreign, f"{foreign}/recover", f"check?endpoint={foreign}"):
                answer = await page.goto(f"{seen.url}/console/webhooks/{address}")
                assert answer is not None
                assert answer.status == 404, address
        await page.goto(f"{seen.url}/console/webhooks/{north['id']}")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("/norths")
        for elsewhere in ("/console/audit", "/console/access", "/console/payers"):
            await page.goto(f"{seen.url}{elsewhere}")
            await expect(page.get_by_role("heading")).to_have_text("You may not do this")


@pytest.mark.parametrize("action", ["change", "switch", "delete", "rotate", "test", "recover"])
async def test_nothing_is_done_to_anothers_endpoint(house: House, visit: Visit, server: Server, action: str) -> None:
    """Of another tenant, and of the same one in the other mode."""
    others = [
        await made(house, f"{server.url}/others", "Clinic South"),
        await made(house, "https://example.com/others", mode="live"),
    ]
    seen = await visit("webhooks", tenant="Clinic North")
    page = await seen.page("/console/webhooks")
    token = await page.locator("body").get_attribute("data-csrf")
    assert token is not None
    form = {
        "csrf": token,
        "url": f"{server.url}/mine",
        "status": "disabled",
        "sure": "yes",
        "since": "1d",
        "what": "all",
    }
    before = await house.sql("SELECT * FROM webhook_endpoints ORDER BY id")
    async with httpx.AsyncClient(base_url=seen.url, cookies=await cookies_of(seen)) as client:
        for other in others:
            answer = await client.post(
                f"/console/webhooks/{other['id']}/{action}", data=form | {"type": "endpoint.test"}
            )
            gone = action == "delete" and answer.headers.get("location") == "/console/webhooks?done=gone"
            assert gone or answer.status_code == 404
    assert await house.sql("SELECT * FROM webhook_endpoints ORDER BY id") == before


async def test_a_partner_is_out_once_the_key_that_made_its_link_is_revoked(house: House, browser: Browser) -> None:
    key = await key_of(house, "Clinic Revoked")
    path = await portal_path(house, key)
    async with watched(browser, str(house.client.base_url).rstrip("/")) as seen:
        page = await seen.page(path)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Webhooks")
        [one] = await list_keys(house.gateway, tenant="Clinic Revoked")
        await revoke_key(house.gateway, one.id)
        await page.goto(f"{seen.url}/console/webhooks")
        await expect(page.get_by_role("heading")).to_have_text("Sign in")


async def test_operators_see_all_tenants_the_failing_ones_first(house: House, visit: Visit, server: Server) -> None:
    failing = await made(house, f"{server.url}/failing", "Clinic South")
    await house.sql(
        "UPDATE webhook_endpoints SET failing_since = now() - interval '1 hour', failures_in_row = 12 WHERE id = :id",
        id=failing["id"],
    )
    off = await made(house, f"{server.url}/gone")
    await house.sql(
        "UPDATE webhook_endpoints SET status = 'disabled', disabled_reason = 'it answered 410 Gone' WHERE id = :id",
        id=off["id"],
    )
    await made(house, f"{server.url}/newest")
    page = await (await visit("operations")).page("/console/webhooks")
    rows = page.locator("#endpoints tbody tr")
    await expect(rows.nth(0)).to_contain_text("Clinic South")
    await expect(rows.nth(0)).to_contain_text("failing")
    await expect(rows.nth(1)).to_contain_text("it answered 410 Gone")
    await expect(page.locator("#endpoints")).to_contain_text("/newest")
    await accessible(page)
    await picture(page, "webhooks")
    await house.sql("UPDATE webhook_endpoints SET failing_since = NULL, failures_in_row = 0")


async def test_the_list_goes_on_page_by_page(
    house: House, visit: Visit, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await made(house, f"{server.url}/paged-{number}", "Clinic Paged")
    monkeypatch.setattr("covergate.webhooks.endpoint_list.MOST_ENDPOINTS_LISTED", 2)
    seen = await visit("webhooks", tenant="Clinic Paged")
    async with httpx.AsyncClient(base_url=seen.url, cookies=await cookies_of(seen)) as client:
        first, second, third = [
            (await client.get("/console/webhooks", params={"page": number})).text for number in (1, 2, 3)
        ]
        wrong = await client.get("/console/webhooks", params={"page": 0})
    assert "/paged-2" in first and "/paged-1" in first and "/paged-0" not in first
    assert 'href="/console/webhooks?page=2" rel="next"' in first
    assert "/paged-0" in second and "/paged-1" not in second and 'rel="next"' not in second
    assert "There is no such page any more." in third
    assert wrong.status_code == 422 and "This part of the address cannot be used: page." in wrong.text


async def test_without_the_role_there_is_no_page(visit: Visit) -> None:
    seen = await visit("staff", tenant="Clinic North")
    for path in ("webhooks", "webhooks/check", "webhooks/whe_x", "webhooks/deliveries/dlv_x", "webhooks/whe_x/recover"):
        page = await seen.page(f"/console/{path}")
        await expect(page.get_by_role("heading")).to_have_text("You may not do this")


# --- endpoints ---------------------------------------------------------------------------------------------------------


async def test_an_endpoint_is_made_changed_switched_and_deleted(house: House, visit: Visit, server: Server) -> None:
    seen = await visit("webhooks", tenant="Clinic North")
    page = await seen.page("/console/webhooks")
    await page.get_by_label("Address (https)").fill("ftp://example.com/webhooks")
    await page.get_by_role("button", name="Make it").click()
    await expect(page.locator("#problem")).to_contain_text("url")
    await page.get_by_label("Address (https)").fill(f"{server.url}/made-here")
    await page.get_by_role("checkbox", name="vendor.degraded").check()
    await page.get_by_role("button", name="Make it").click()
    secret = await page.locator("#secret").inner_text()
    assert secret.startswith("whsec_")
    await accessible(page)
    await page.get_by_role("link", name="To the endpoint").click()
    await expect(page.locator("#facts")).to_contain_text("vendor.degraded")
    assert secret not in await page.content()
    await accessible(page)
    await page.get_by_text("Change …").click()
    await page.get_by_label("Address (https)").fill(f"{server.url}/moved")
    await page.get_by_role("checkbox", name="vendor.degraded").uncheck()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("/moved")
    await expect(page.locator("#facts")).to_contain_text("all")
    await page.get_by_role("button", name="Disable").click()
    await expect(page.locator("#facts")).to_contain_text("disabled")
    await page.get_by_role("button", name="Send a test").click()
    await expect(page.locator("#message")).to_contain_text("Enable it first")
    await page.get_by_role("button", name="Enable").click()
    await expect(page.locator("#facts")).to_contain_text("enabled")
    other = await seen.page(page.url.removeprefix(seen.url))
    for one in (page, other):
        await one.get_by_text("Delete …").click()
        await one.get_by_label("Delete it for good").check()
    await page.get_by_role("button", name="Delete").click()
    await expect(page.locator("#message")).to_contain_text("was deleted")
    await other.get_by_role("button", name="Delete").click()
    await expect(other.locator("#message")).to_contain_text("Somebody else was faster")
    await expect(page.locator("main")).not_to_contain_text("/moved")


async def test_an_operator_makes_one_for_a_tenant_that_it_names(house: House, visit: Visit, server: Server) -> None:
    await key_of(house, "Clinic West")
    page = await (await visit("operations")).page("/console/webhooks")
    await page.get_by_label("Tenant (name or id)").fill("Nobody")
    await page.get_by_label("Address (https)").fill(f"{server.url}/by-us")
    await page.get_by_role("button", name="Make it").click()
    await expect(page.locator("#problem")).to_contain_text("tenant must be")
    await page.get_by_label("Tenant (name or id)").fill("Clinic West")
    await page.get_by_role("button", name="Make it").click()
    await expect(page.locator("#secret")).to_contain_text("whsec_")
    [row] = await house.sql(
        "SELECT t.name FROM webhook_endpoints w JOIN tenants t ON t.id = w.tenant_id WHERE url LIKE '%/by-us'"
    )
    assert row.name == "Clinic West"


async def test_a_full_endpoint_can_only_be_made_thin_here(house: House, visit: Visit, server: Server) -> None:
    endpoint = await made(house, f"{server.url}/full", payload="full")
    page = await (await visit("webhooks", tenant="Clinic North")).page(f"/console/webhooks/{endpoint['id']}")
    await page.get_by_text("Change …").click()
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator("#problem")).to_contain_text("verifications:read")
    await page.go_back()
    await page.get_by_text("Change …").click()
    await page.locator("select[name=payload]").select_option("thin")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator("#facts")).to_contain_text("thin")


async def test_rotating_shows_the_new_secret_once_and_when_the_old_ones_end(
    house: House, visit: Visit, server: Server
) -> None:
    endpoint = await made(house, f"{server.url}/rotated")
    page = await (await visit("webhooks", tenant="Clinic North")).page(f"/console/webhooks/{endpoint['id']}")
    await page.get_by_text("Rotate the secret …").click()
    await expect(page.get_by_text("for 24 hours, with the old one too")).to_be_visible()
    await page.get_by_label("I can put the new secret in place now").check()
    await page.get_by_role("button", name="Rotate").click()
    secret = await page.locator("#secret").inner_text()
    assert secret != endpoint["secret"]
    await expect(page.get_by_text("the last one until")).to_be_visible()
    await accessible(page)
    await page.get_by_role("link", name="To the endpoint").click()
    await expect(page.locator("#facts")).to_contain_text("signs until")
    assert secret not in await page.content()


async def test_nothing_irreversible_is_done_unless_it_is_meant(house: House, visit: Visit, server: Server) -> None:
    endpoint = await made(house, f"{server.url}/kept")
    seen = await visit("webhooks", tenant="Clinic North")
    page = await seen.page("/console/webhooks")
    token = await page.locator("body").get_attribute("data-csrf") or ""
    async with httpx.AsyncClient(base_url=seen.url, cookies=await cookies_of(seen)) as client:
        for action in ("delete", "rotate"):
            answer = await client.post(f"/console/webhooks/{endpoint['id']}/{action}", data={"csrf": token})
            assert answer.status_code == 422
            assert "Tick the box" in answer.text


# --- deliveries --------------------------------------------------------------------------------------------------------


async def test_a_test_of_each_type_comes_thin_or_full_as_the_endpoint_has_it(
    house: House, visit: Visit, server: Server
) -> None:
    thin, full = await made(house, f"{server.url}/thin"), await made(house, f"{server.url}/full2", payload="full")
    page = await (await visit("webhooks", tenant="Clinic North")).page("/console/webhooks")
    delivery_id = await sample_sent(page, thin["id"], "verification.completed")
    await eventually(lambda: server.came, what="the test")
    [(_, body)] = server.came
    assert json.loads(body)["data"]["test"] is True
    assert "inquiry" not in json.loads(body)["data"]
    await ended(house, delivery_id)
    await page.reload()
    await expect(page.locator("#stands")).to_contain_text("delivered")
    await expect(page.locator("#stands")).to_contain_text("204")
    await accessible(page)
    server.came.clear()
    await sample_sent(page, full["id"], "verification.completed")
    await eventually(lambda: server.came, what="the full test")
    assert json.loads(server.came[0][1])["data"]["inquiry"]["patient"]["last_name"] == "Sample"
    assert "Sample" not in await page.content()
    await expect(page.get_by_text("It is not shown here")).to_be_visible()
    server.came.clear()
    await page.goto(f"{origin(page)}/console/webhooks/{thin['id']}")
    await page.get_by_label("Event type of the test").select_option("one of each type")
    await page.get_by_role("button", name="Send a test").click()
    await expect(page.locator("#message")).to_contain_text("each event type")
    await eventually(lambda: len(server.came) == 12, what="all the tests")


async def test_a_failing_delivery_shows_the_answer_and_is_delivered_again(
    house: House, visit: Visit, server: Server
) -> None:
    server.status = 500
    endpoint = await made(house, f"{server.url}/fails")
    seen = await visit("webhooks", tenant="Clinic North")
    page = await seen.page("/console/webhooks")
    delivery_id = await sample_sent(page, endpoint["id"])
    await ended(house, delivery_id)
    # Live: nobody reloads.
    await expect(page.locator("#stands")).to_contain_text("500 (refused)", timeout=15_000)
    await expect(page.locator("#stands")).to_contain_text("Next try")
    await page.reload()
    await expect(page.locator("#answers")).to_contain_text(QUOTED)
    assert await house.sql(
        "SELECT 1 FROM audit_events WHERE action = 'delivery.answers' AND subject_id = :id", id=delivery_id
    )
    await accessible(page)
    server.status = 204
    await page.get_by_role("button", name="Deliver again now").click()
    await expect(page.locator("#message")).to_contain_text("once more")
    await expect(page.locator("#stands")).to_contain_text("delivered", timeout=15_000)
    await page.goto(f"{origin(page)}/console/webhooks/{endpoint['id']}")
    await page.get_by_role("button", name="Deliver again: endpoint.test").click()
    await expect(page.locator("#message")).to_contain_text("once more")
    await eventually(lambda: len(server.came) >= 3, what="the third try")


async def test_what_a_partner_answered_is_hidden_from_operators(house: House, visit: Visit, server: Server) -> None:
    server.status = 400
    endpoint = await made(house, f"{server.url}/quotes")
    seen = await visit("operations")
    page = await seen.page("/console/webhooks")
    delivery_id = await sample_sent(page, endpoint["id"])
    await ended(house, delivery_id)
    await page.reload()
    await expect(page.locator("#answers")).to_contain_text("Hidden")
    await expect(page.locator("#answers")).to_contain_text("your roles do not show patients")
    assert QUOTED not in await page.content()
    token = await page.locator("body").get_attribute("data-csrf") or ""
    async with httpx.AsyncClient(base_url=seen.url, cookies=await cookies_of(seen)) as client:
        answer = await client.post(f"/console/webhooks/deliveries/{delivery_id}/answers", data={"csrf": token})
    assert answer.status_code == 403
    assert QUOTED not in answer.text
    may = await (await visit("operations", "phi")).page(f"/console/webhooks/deliveries/{delivery_id}")
    assert QUOTED not in await may.content()
    await may.get_by_label("Why").select_option("repair")
    await may.get_by_role("button", name="Show the answers").click()
    await expect(may.locator("#answers")).to_contain_text(QUOTED)
    await accessible(may)
    [row] = await house.sql(
        "SELECT reason, tenant_id FROM audit_events WHERE action = 'delivery.answers' AND subject_id = :id",
        id=delivery_id,
    )
    assert row.reason == "repair"
    assert row.tenant_id is not None


async def test_anothers_delivery_is_not_found(house: House, visit: Visit, server: Server) -> None:
    endpoint = await made(house, f"{server.url}/souths2", "Clinic South")
    operator = await (await visit("operations")).page("/console/webhooks")
    delivery_id = await sample_sent(operator, endpoint["id"])
    seen = await visit("webhooks", tenant="Clinic North")
    page = await seen.page(f"/console/webhooks/deliveries/{delivery_id}")
    await expect(page.get_by_role("heading")).to_have_text("Not found")
    live = await visit("webhooks", tenant="Clinic South", mode="live")
    await expect((await live.page(f"/console/webhooks/deliveries/{delivery_id}")).get_by_role("heading")).to_have_text(
        "Not found"
    )
    fresh = await seen.page("/console/webhooks")
    token = await fresh.locator("body").get_attribute("data-csrf") or ""
    async with httpx.AsyncClient(base_url=seen.url, cookies=await cookies_of(seen)) as client:
        for action in ("redeliver", "answers"):
            answer = await client.post(f"/console/webhooks/deliveries/{delivery_id}/{action}", data={"csrf": token})
            assert answer.status_code == 404


async def test_deliveries_are_filtered_by_the_address(house: House, visit: Visit, server: Server) -> None:
    server.status = 500
    endpoint = await made(house, f"{server.url}/filtered")
    page = await (await visit("webhooks", tenant="Clinic North")).page("/console/webhooks")
    await ended(house, await sample_sent(page, endpoint["id"]))
    server.status = 204
    await ended(house, await sample_sent(page, endpoint["id"], "vendor.degraded"))
    await page.goto(f"{origin(page)}/console/webhooks/{endpoint['id']}")
    rows = page.locator("#deliveries tbody tr")
    await expect(rows).to_have_count(2)
    await picture(page, "webhook")
    await page.get_by_label("State").select_option("delivered")
    await page.get_by_role("button", name="Find").click()
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("vendor.degraded")
    assert "status=delivered" in page.url
    await page.get_by_label("State").select_option("any")
    await page.locator("form.filters").get_by_label("Event").select_option("endpoint.test")
    await page.get_by_label("After").fill("1h")
    await page.get_by_role("button", name="Find").click()
    await expect(rows).to_contain_text("endpoint.test")
    await page.get_by_label("Before").fill("2020-01-01")
    await page.get_by_role("button", name="Find").click()
    await expect(page.locator("#deliveries")).to_contain_text("Nothing was found")


async def test_a_long_list_has_pages(house: House, visit: Visit, server: Server) -> None:
    endpoint = await made(house, f"{server.url}/many")
    page = await (await visit("webhooks", tenant="Clinic North")).page("/console/webhooks")
    delivery_id = await sample_sent(page, endpoint["id"])
    await ended(house, delivery_id)
    await house.sql(
        "INSERT INTO deliveries (id, event_id, event_type, endpoint_id, status, created_at)"
        " SELECT 'dlv_01jd7k46mqe0r9m2zn4x8b' || lpad(n::text, 4, '0'), event_id, event_type, endpoint_id, status,"
        " created_at - n * interval '1 s' FROM deliveries, generate_series(1, 60) AS n WHERE id = :id",
        id=delivery_id,
    )
    await page.goto(f"{origin(page)}/console/webhooks/{endpoint['id']}?status=delivered")
    await expect(page.locator("#deliveries tbody tr")).to_have_count(50)
    await page.get_by_role("link", name="Older").click()
    await expect(page.locator("#deliveries tbody tr")).to_have_count(11)
    await page.get_by_role("link", name="To the newest").click()
    await expect(page.locator("#deliveries tbody tr")).to_have_count(50)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?status=lost", "status must be one of"),
        ("?type=nothing", "type must be one of"),
        ("?created_after=yesterday", "created_after must be a date"),
        ("?created_before=99999999d", "created_before must be a date"),
        ("?after=xyz", "after must be"),
        ("/recover?since=", "since must be given"),
        ("/recover?what=none", "what must be one of"),
    ],
)
async def test_a_filter_that_cannot_be_used_is_named(
    house: House, visit: Visit, server: Server, query: str, words: str
) -> None:
    [row] = await house.sql("SELECT id FROM webhook_endpoints WHERE mode = 'test' AND deleted_at IS NULL LIMIT 1")
    page = await (await visit("operations")).page(f"/console/webhooks/{row.id}{query}")
    await expect(page.locator("#problem")).to_contain_text(words)


async def test_all_that_failed_is_counted_first_and_then_sent_anew(house: House, visit: Visit, server: Server) -> None:
    server.status = 500
    endpoint = await made(house, f"{server.url}/away")
    page = await (await visit("webhooks", tenant="Clinic North")).page("/console/webhooks")
    for _ in range(3):
        await ended(house, await sample_sent(page, endpoint["id"]))
    await house.sql(
        "UPDATE deliveries SET status = 'exhausted', next_attempt_at = NULL, due_at = NULL, ended_at = now(), step = step + 1"
        " WHERE endpoint_id = :id",
        id=endpoint["id"],
    )

    async def states() -> list[str]:
        rows = await house.sql("SELECT status FROM deliveries WHERE endpoint_id = :id", id=endpoint["id"])
        return [row.status for row in rows]

    async def are_all_sent() -> bool:
        return await states() == ["delivered"] * 3

    server.status = 204
    await page.goto(f"{origin(page)}/console/webhooks/{endpoint['id']}")
    await page.get_by_role("link", name="All failed since").click()
    await expect(page.locator("#number")).to_have_text("3")
    await accessible(page)
    await page.get_by_label("And").select_option("pending")
    await page.get_by_role("button", name="Count").click()
    await expect(page.locator("#number")).to_have_text("0")
    await page.get_by_label("And").select_option("all")
    await page.get_by_label("Made since").fill("1h")
    await page.get_by_role("button", name="Count").click()
    # To count sends nothing. (A retry that was under way when they were ended may still come.)
    assert await states() == ["exhausted"] * 3
    await page.get_by_role("button", name="Send them anew").click()
    await expect(page.locator("#message")).to_contain_text("3 deliveries are sent anew")
    await eventually(are_all_sent, what="what was missed")


# --- the check ---------------------------------------------------------------------------------------------------------


async def test_the_check_says_what_is_wrong_and_keeps_nothing(
    house: House, visit: Visit, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    endpoint = await made(house, f"{server.url}/checked")
    other = await made(house, f"{server.url}/other")
    page = await (await visit("webhooks", tenant="Clinic North")).page("/console/webhooks")
    await sample_sent(page, endpoint["id"], "verification.completed")
    # Another one's, of the test before, may be on its way.
    own = await eventually(lambda: [one for one in server.came if one[0][":path"] == "/checked"], what="the test")
    headers, body = own[0]
    pasted = "\n".join(f"{name}: {headers[name]}" for name in headers if name.startswith("webhook-"))

    async def said(endpoint_id: str, headers: str, body: str) -> str:
        await page.goto(f"{origin(page)}/console/webhooks/check?endpoint={endpoint_id}")
        await page.get_by_label("Headers, as your server got them").fill(headers)
        await page.get_by_label("Body, byte for byte").fill(body)
        await page.get_by_role("button", name="Check").click()
        found = await page.locator("#findings").inner_text()
        assert endpoint["secret"] not in await page.content()
        assert "intake-8841" not in await page.content()
        return found

    assert "The signature fits" in await said(endpoint["id"], pasted, body)
    await accessible(page)
    await picture(page, "webhook-check")
    assert "printed again" in await said(endpoint["id"], pasted, json.dumps(json.loads(body), indent=2))
    assert f"of another endpoint, {endpoint['id']}" in await said(other["id"], pasted, body)
    assert "webhook-timestamp is missing" in await said(endpoint["id"], pasted.replace("timestamp", "time"), body)
    await house.client.post(f"/v1/webhook-endpoints/{endpoint['id']}/rotate-secret")
    assert "an older secret of this endpoint, which signs beside" in await said(endpoint["id"], pasted, body)
    await house.sql(
        "UPDATE webhook_endpoints SET previous_secret_until = now() - interval '2 hours' WHERE id = :id",
        id=endpoint["id"],
    )
    assert "which ended 2 h ago" in await said(endpoint["id"], pasted, body)
    logged = "".join(log.read_text() for log in tmp_path_factory.getbasetemp().glob("logs*/console.log"))
    assert "/console/webhooks/check" in logged
    assert headers["webhook-signature"] not in logged
    assert "intake-8841" not in logged


async def test_without_javascript_all_of_it_can_be_read_and_done(
    house: House, visit: Visit, browser: Browser, server: Server
) -> None:
    endpoint = await made(house, f"{server.url}/plain")
    seen = await visit("webhooks", tenant="Clinic North")
    context = await browser.new_context(java_script_enabled=False)
    await context.add_cookies([{**cookie} for cookie in await seen.context.cookies()])  # type: ignore[typeddict-item]
    page = await context.new_page()
    await page.goto(f"{seen.url}/console/webhooks")
    await page.get_by_role("link", name="/plain").click()
    await page.get_by_role("button", name="Send a test").click()
    await eventually(lambda: server.came, what="the test")
    await page.get_by_role("link", name="The endpoint").click()
    await page.get_by_text("Rotate the secret …").click()
    await page.get_by_label("I can put the new secret in place now").check()
    await page.get_by_role("button", name="Rotate").click()
    assert (await page.locator("#secret").inner_text()).startswith("whsec_")
    assert endpoint["secret"] not in await page.content()
    await context.close()
