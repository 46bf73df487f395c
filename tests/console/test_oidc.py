"""Sign-in by an OpenID Connect provider: one of our own, on this machine, that says what a test has it say."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode

import httpx
import pytest
import pytest_asyncio
from authlib.oauth2.rfc7636 import create_s256_code_challenge  # type: ignore[import-untyped]
from joserfc import jwt
from joserfc.jwk import RSAKey
from playwright.async_api import Browser, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from covergate.access.tenants import list_tenants
from covergate.api.app import create_app
from covergate.console.app import create_console
from covergate.errors import ConfigurationError
from covergate.gateway import Gateway
from covergate.server import listening, running, start_server, url_of
from covergate.settings import Settings
from tests.console.browser import watched
from tests.e2e.house import HERE, House

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROLES = "covergate-ops=operations,covergate-phi=phi,clinic=Clinic North:staff"


@dataclass
class Issuer:
    """The provider. `claims` are those of the next id token beside the usual ones; `spoilt` changes the usual ones."""

    url: str = ""
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}))
    signs_with: RSAKey | None = None
    claims: dict[str, Any] = field(default_factory=dict)
    spoilt: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._configuration),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/keys", self._keys),
            ]
        )

    async def _configuration(self, _: Request) -> Response:
        named = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
        return JSONResponse({"issuer": self.url, **{name: f"{self.url}/{path}" for name, path in named.items()}})

    async def _keys(self, _: Request) -> Response:
        return JSONResponse({"keys": [self.key.as_dict(private=False)]})

    async def _authorize(self, request: Request) -> Response:
        self.asked = dict(request.query_params)
        query = urlencode({"code": "a-code", "state": self.asked["state"]})
        return RedirectResponse(f"{self.asked['redirect_uri']}?{query}")

    async def _token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        assert create_s256_code_challenge(form["code_verifier"]) == self.asked["code_challenge"]
        assert request.headers["authorization"].startswith("Basic ")
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": "console",
            "sub": "user-1",
            "name": "Olga Sample",
            "iat": now,
            "exp": now + 300,
            "nonce": self.asked["nonce"],
            **self.claims,
            **self.spoilt,
        }
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.signs_with or self.key)
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": token})


@pytest_asyncio.fixture(loop_scope="session")
async def issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    with listening(HERE, 0, "COVERGATE") as socket:
        issuer.url = url_of(socket)
        async with running(await start_server("issuer", issuer.app, socket)):
            yield issuer


@asynccontextmanager
async def serving(house: House, issuer: Issuer, **changes: Any) -> AsyncIterator[str]:
    """The house's gateway, with that provider; the address."""
    with listening(HERE, 0, "COVERGATE") as socket:
        given = {
            "public_url": url_of(socket),
            "oidc_issuer": issuer.url,
            "oidc_client_id": "console",
            "oidc_client_secret": "between-us",
            "oidc_roles": ROLES,
            **changes,
        }
        plain = house.gateway.settings.model_dump() | {"encryption_keys": None}
        settings = Settings(_env_file=None, **(plain | given))
        gateway = Gateway(settings, house.gateway.database, house.gateway.connections)
        app = create_app(gateway, console=create_console(gateway))
        async with running(await start_server("api", app, socket, before_stop=app.state.waiters.close)):
            yield url_of(socket)


async def test_an_operator_comes_in_by_the_provider_and_back_to_the_page(
    house: House, browser: Browser, issuer: Issuer
) -> None:
    issuer.claims = {"groups": ["covergate-ops", "covergate-phi", "others"]}
    async with serving(house, issuer) as url, watched(browser, url) as seen:
        page = await seen.page("/console/account")
        await page.get_by_role("link", name="Sign in with 127.0.0.1").click()
        await expect(page.get_by_role("heading", name="Olga Sample")).to_be_visible()
        assert page.url == f"{url}/console/account"
        assert await page.locator("dd").nth(1).inner_text() == "operations, phi"


async def test_a_group_of_a_tenant_brings_its_staff(house: House, browser: Browser, issuer: Issuer) -> None:
    issuer.claims = {"groups": "clinic"}
    async with serving(house, issuer) as url, watched(browser, url) as seen:
        page = await seen.page("/console/oidc/begin")
        await page.goto(f"{url}/console/account")
        assert await page.locator("dd").all_inner_texts() == [
            "Clinic North",
            "staff",
            (await page.locator("dd").nth(2).inner_text()),
        ]
    assert "Clinic North" in {tenant.name for tenant in await list_tenants(house.gateway)}


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        ({"aud": "another"}, "for somebody else"),
        ({"iss": "https://elsewhere.example"}, "for somebody else"),
        ({"nonce": "an-older-one"}, "for somebody else"),
        ({"exp": 1}, "too old"),
        ({"groups": ["others"]}, "bring no role"),
        ({"groups": ["covergate-ops", "clinic"]}, "several tenants"),
    ],
)
async def test_what_does_not_fit_lets_nobody_in(
    house: House, issuer: Issuer, spoilt: dict[str, Any], words: str
) -> None:
    issuer.claims, issuer.spoilt = {"groups": ["covergate-ops"]}, spoilt
    async with serving(house, issuer) as url:
        refused = await walked(url)
    assert refused.status_code == 401
    assert words in refused.text


async def test_a_token_signed_by_another_key_lets_nobody_in(house: House, issuer: Issuer) -> None:
    issuer.claims = {"groups": ["covergate-ops"]}
    issuer.signs_with = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
    async with serving(house, issuer) as url:
        refused = await walked(url)
    assert refused.status_code == 401
    assert "signature" in refused.text


async def test_the_way_back_is_of_the_browser_that_began_it(house: House, issuer: Issuer) -> None:
    issuer.claims = {"groups": ["covergate-ops"]}
    async with serving(house, issuer) as url, httpx.AsyncClient(base_url=url) as another:
        async with httpx.AsyncClient(base_url=url) as victim:
            begun = await victim.get("/console/oidc/begin")
            back = (await victim.get(begun.headers["location"])).headers["location"]
        refused = await another.get(back)
        without = await another.get("/console/oidc/callback?error=access_denied")
    assert (refused.status_code, without.status_code) == (401, 401)


async def walked(url: str) -> httpx.Response:
    async with httpx.AsyncClient(follow_redirects=True) as client:
        return await client.get(f"{url}/console/oidc/begin")


async def test_a_provider_that_is_away_is_told_and_the_accounts_stay(house: House, issuer: Issuer) -> None:
    async with serving(house, issuer, oidc_issuer="http://127.0.0.1:9") as url:
        refused = await walked(url)
    assert refused.status_code == 401
    assert "cannot be reached" in refused.text
    assert "Login" in refused.text


@pytest.mark.parametrize(
    "changes",
    [
        {"oidc_client_id": None},
        {"oidc_issuer": "http://login.example.com"},
        {"oidc_roles": "group"},
        {"oidc_roles": "group=king"},
        {"oidc_roles": "group=clinic:operations"},
    ],
)
async def test_wrong_settings_end_the_start(house: House, issuer: Issuer, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        async with serving(house, issuer, **changes):
            pass
