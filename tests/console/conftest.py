"""The console in real Chromium, on a house with a worker and the sandbox."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from covergate.access.caller import NOWHERE
from covergate.access.console_sessions import open_session
from covergate.access.console_users import SignedIn
from covergate.access.operators import find_tenant
from covergate.console.visitor import cookie_of
from tests.console.browser import CHROMIUM, NONE_THERE, Visit, Watched, chromium, watched
from tests.e2e.house import House, opened_house
from tests.support.logged import logged_to


@pytest.fixture(scope="module", autouse=True)
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with logged_to(tmp_path_factory.mktemp("logs") / "console.log"):
        yield


@pytest.fixture(scope="session", autouse=True)
def chromium_is_there() -> None:
    if CHROMIUM is None:
        assert os.environ.get("CI") != "true", NONE_THERE
        pytest.skip(NONE_THERE)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium_is_there: None) -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house(postgres_url: str, template: str) -> AsyncIterator[House]:
    async with opened_house(postgres_url, template, with_worker=True) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="session")
async def visit(house: House, browser: Browser) -> AsyncIterator[Visit]:
    async with AsyncExitStack() as stack:

        async def enter(*roles: str, tenant: str | None = None, mode: str = "test") -> Watched:
            seen = await stack.enter_async_context(watched(browser, str(house.client.base_url).rstrip("/")))
            tenant_id = None
            if tenant is not None:
                async with house.gateway.connection() as db:
                    tenant_id = await find_tenant(db, tenant)
                assert tenant_id is not None
            who = SignedIn(f"link Test {' '.join(roles)}", f"Test {' '.join(roles)}", tenant_id, roles)
            token = await open_session(house.gateway, who, NOWHERE, mode)
            cookie = cookie_of(house.gateway)
            await seen.context.add_cookies(
                [{"name": cookie, "value": token, "url": seen.url, "sameSite": "Lax", "httpOnly": True}]
            )
            return seen

        yield enter
