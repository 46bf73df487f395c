"""Sign-in by an OpenID Connect provider: the authorization code flow with PKCE (OpenID Connect Core 1.0, RFC 7636).

The provider says who it is and in which groups; a setting says which role each group brings. Between the two halves a cookie of a
few minutes holds what only this browser may know. Nothing of a token is stored or logged.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import orjson
import structlog
from authlib.oauth2.auth import ClientAuth  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.parameters import (  # type: ignore[import-untyped]
    prepare_grant_uri,
    prepare_token_request,
)
from authlib.oauth2.rfc7636 import create_s256_code_challenge  # type: ignore[import-untyped]
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from covergate.access.console_roles import checked_roles
from covergate.access.console_users import SignedIn
from covergate.access.operators import find_tenant
from covergate.console.sign_in import let_in, own_path, sign_in_again
from covergate.console.visitor import MOUNTED_AT, gateway_behind, is_behind_tls
from covergate.db.connect import is_this_machine
from covergate.errors import ConfigurationError, Problem
from covergate.gateway import Gateway
from covergate.outbound.client import HttpClient, make_client
from covergate.settings import Settings

log = structlog.get_logger(__name__)

router = APIRouter()

CALLBACK = f"{MOUNTED_AT}/oidc/callback"
CALL_SECONDS = 10.0
KNOWN_SECONDS = 600.0
"""How long the provider's addresses and keys are remembered."""
RENEWED_SECONDS = 30.0
"""A token under a key that is not known has the keys asked for again, but no more often."""
WAY_SECONDS = 600
"""How long somebody may stay at the provider."""
SIGNATURES = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
LONGEST_SUBJECT = 200


class ProviderFailed(Exception):
    """The provider, or what came from it, cannot be used; the reason is a constant of ours."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a group brings: a role of an operator's, or one of a tenant's."""

    group: str
    role: str
    tenant: str | None


def grants_of(settings: Settings) -> tuple[Grant, ...]:
    """Of `COVERGATE_OIDC_ROLES`. Raises ConfigurationError."""
    grants = []
    for entry in filter(None, (part.strip() for part in (settings.oidc_roles or "").split(","))):
        group, is_given, brings = entry.partition("=")
        tenant, is_tenants, role = brings.rpartition(":")
        if not group.strip() or not is_given or not role.strip():
            raise ConfigurationError("COVERGATE_OIDC_ROLES must be like group=role,group=tenant:role")
        grant = Grant(group.strip(), role.strip(), tenant.strip() if is_tenants else None)
        checked_roles([grant.role], of_tenant=grant.tenant is not None)
        grants.append(grant)
    return tuple(grants)


class IdentityProvider:
    """What is known of the provider, asked for when it is needed."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigurationError if a setting is missing or wrong."""
        if not settings.oidc_issuer or not settings.oidc_client_id:
            raise ConfigurationError("COVERGATE_OIDC_ISSUER and COVERGATE_OIDC_CLIENT_ID go together")
        parts = urlsplit(settings.oidc_issuer)
        if parts.scheme != "https" and not is_this_machine(parts.hostname or ""):
            raise ConfigurationError("COVERGATE_OIDC_ISSUER must be an https URL, unless it is on this machine")
        self.grants = grants_of(settings)
        self._issuer = settings.oidc_issuer
        self._client_id = settings.oidc_client_id
        self._client_secret = settings.oidc_client_secret.get_secret_value() if settings.oidc_client_secret else ""
        self._redirect = f"{settings.public_url.rstrip('/')}{CALLBACK}"
        self._claim = settings.oidc_groups_claim
        self._known: dict[str, Any] = {}
        self._keys: KeySet | None = None
        self._asked_at = float("-inf")
        self._turn = asyncio.Lock()

    async def begin(self, state: str, nonce: str, verifier: str) -> str:
        """Where the browser goes."""
        known, _ = await self._look()
        challenge = create_s256_code_challenge(verifier)
        return str(
            prepare_grant_uri(
                known["authorization_endpoint"],
                self._client_id,
                "code",
                redirect_uri=self._redirect,
                scope="openid profile email",
                state=state,
                nonce=nonce,
                code_challenge=challenge,
                code_challenge_method="S256",
            )
        )

    async def claims(self, code: str, nonce: str, verifier: str) -> Mapping[str, Any]:
        """Those of the id token that the code is worth. Raises ProviderFailed."""
        known, keys = await self._look()
        body = prepare_token_request(
            "authorization_code", redirect_uri=self._redirect, code=code, code_verifier=verifier
        )
        how = "client_secret_basic" if self._client_secret else "none"
        auth = ClientAuth(self._client_id, self._client_secret, how)
        uri, headers, body = auth.prepare(
            "POST", known["token_endpoint"], {"Content-Type": "application/x-www-form-urlencoded"}, body
        )
        reply = await self._ask("POST", uri, dict(headers), body)
        token = reply.get("id_token")
        if not isinstance(token, str):
            raise ProviderFailed("its answer has no id token")
        try:
            decoded = jwt.decode(token, keys, algorithms=SIGNATURES)
        except (JoseError, ValueError):
            if time.monotonic() - self._asked_at < RENEWED_SECONDS:
                raise ProviderFailed("its id token's signature does not verify") from None
            _, keys = await self._look(anew=True)
            try:
                decoded = jwt.decode(token, keys, algorithms=SIGNATURES)
            except (JoseError, ValueError):
                raise ProviderFailed("its id token's signature does not verify") from None
        self._check(decoded.claims, nonce)
        return decoded.claims

    def _check(self, claims: Mapping[str, Any], nonce: str) -> None:
        demands = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._client_id},
            sub={"essential": True},
            exp={"essential": True},
            nonce={"essential": True, "value": nonce},
            leeway=60,
        )
        try:
            demands.validate(dict(claims))
        except JoseError:
            raise ProviderFailed("its id token is for somebody else, or too old") from None
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != self._client_id:
            raise ProviderFailed("its id token is for somebody else")

    def grants_for(self, claims: Mapping[str, Any]) -> list[Grant]:
        groups = claims.get(self._claim)
        named = {groups} if isinstance(groups, str) else {g for g in groups or () if isinstance(g, str)}
        return [grant for grant in self.grants if grant.group in named]

    async def _look(self, *, anew: bool = False) -> tuple[dict[str, Any], KeySet]:
        async with self._turn:
            if anew or self._keys is None or time.monotonic() - self._asked_at > KNOWN_SECONDS:
                known = await self._ask("GET", f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
                needed = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")
                if any(not isinstance(known.get(name), str) for name in needed):
                    raise ProviderFailed("its configuration lacks an address")
                if known["issuer"] != self._issuer:
                    raise ProviderFailed("its configuration is of another issuer")
                try:
                    keys = KeySet.import_key_set(cast(Any, await self._ask("GET", known["jwks_uri"])))
                except (JoseError, ValueError, KeyError, TypeError):
                    raise ProviderFailed("its keys cannot be read") from None
                self._known, self._keys, self._asked_at = known, keys, time.monotonic()
            return self._known, self._keys

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: str = ""
    ) -> dict[str, Any]:
        client: HttpClient
        try:
            async with make_client(guarded=False) as client, asyncio.timeout(CALL_SECONDS):
                reply = await client.send(client.build_request(method, url, headers=headers, content=body.encode()))
                if reply.status_code != 200:
                    raise ProviderFailed(f"it answered {reply.status_code}")
                document = orjson.loads(reply.content)
        except ProviderFailed:
            raise
        # Broad on purpose: httpx, aiohttp, ssl and the parser raise what they like, and each means the same here.
        except Exception as error:
            raise ProviderFailed(f"it cannot be reached ({type(error).__name__})") from None
        if not isinstance(document, dict):
            raise ProviderFailed("its answer is no JSON object")
        return document


def identity_provider(settings: Settings) -> IdentityProvider | None:
    """None: no provider is set. Raises ConfigurationError."""
    return IdentityProvider(settings) if settings.oidc_issuer or settings.oidc_client_id else None


@router.get("/oidc/begin")
async def begin(request: Request, next: str = "") -> Response:
    provider = _provider(request)
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    try:
        where = await provider.begin(state, nonce, verifier)
    except ProviderFailed as failed:
        return _refuse(request, failed)
    answer = RedirectResponse(where, 303, headers={"cache-control": "no-store"})
    kept = urlencode({"state": state, "nonce": nonce, "verifier": verifier, "next": own_path(next)})
    gateway = gateway_behind(request)
    answer.set_cookie(
        _cookie(gateway), kept, WAY_SECONDS, path="/", secure=is_behind_tls(gateway), httponly=True, samesite="lax"
    )
    return answer


@router.get("/oidc/callback")
async def callback(request: Request, code: str = "", state: str = "") -> Response:
    provider, gateway = _provider(request), gateway_behind(request)
    kept = _kept(request)
    try:
        if not kept.get("state") or not secrets.compare_digest(kept["state"].encode(), state.encode()):
            raise ProviderFailed("the way there did not begin in this browser, or too long ago")
        if not code or len(code) > 4096:
            raise ProviderFailed("it did not let you in")
        claims = await provider.claims(code, kept["nonce"], kept["verifier"])
        who = await _signed_in(gateway, provider, claims)
    except ProviderFailed as failed:
        return _refuse(request, failed)
    answer = await let_in(request, gateway, who, going_on=own_path(kept.get("next", "")))
    answer.delete_cookie(_cookie(gateway), path="/", secure=is_behind_tls(gateway), httponly=True, samesite="lax")
    return answer


async def _signed_in(gateway: Gateway, provider: IdentityProvider, claims: Mapping[str, Any]) -> SignedIn:
    grants = provider.grants_for(claims)
    # Of the operators or of one tenant, never of both: who is shown what must not be a riddle.
    tenants = {grant.tenant for grant in grants}
    if len(tenants) != 1:
        reason = "your groups bring no role here" if not tenants else "your groups belong to several tenants"
        raise ProviderFailed(reason)
    [tenant] = tenants
    tenant_id = None
    if tenant is not None:
        async with gateway.connection() as db:
            tenant_id = await find_tenant(db, tenant)
        if tenant_id is None:
            raise ProviderFailed("your groups belong to a tenant that is not there")
    name = next((claims[c] for c in ("name", "preferred_username", "email") if isinstance(claims.get(c), str)), "")
    subject = f"oidc {claims['sub']}"[:LONGEST_SUBJECT]
    return SignedIn(subject, str(name)[:LONGEST_SUBJECT] or subject, tenant_id, tuple(grant.role for grant in grants))


def _provider(request: Request) -> IdentityProvider:
    provider: IdentityProvider | None = request.app.state.provider
    if provider is None:
        raise Problem("not_found", "There is no such page.")
    return provider


def _cookie(gateway: Gateway) -> str:
    return "__Host-covergate-oidc" if is_behind_tls(gateway) else "covergate-oidc"


def _kept(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.cookies.get(_cookie(gateway_behind(request)), "")[:2000]))


def _refuse(request: Request, failed: ProviderFailed) -> Response:
    log.warning("oidc_sign_in_refused", reason=str(failed))
    return sign_in_again(request, f"The identity provider could not sign you in: {failed}.")
