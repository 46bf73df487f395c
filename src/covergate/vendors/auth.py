"""How calls are authenticated: fixed headers, or a token that is fetched, shared and renewed.

A token is fetched once however many calls wait for it, renewed a margin before it expires, and once more if a call is
refused with it; the refused call is the only one that is ever sent again here. If the renewed token worked for another
call meanwhile, it may have been used up: then the refused call gets one of its own, and what it is told with that is the
vendor's word. Fetching never counts as the call itself: a failure there leaves the call unsent.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Literal, TypeAlias

import orjson
from authlib.oauth2.auth import ClientAuth  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749 import OAuth2Token  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749.parameters import prepare_token_request  # type: ignore[import-untyped]
from authlib.oauth2.rfc6750 import add_bearer_token  # type: ignore[import-untyped]

from covergate.outbound.client import HttpAuth, HttpRequest, HttpResponse, mark_unsent, retry_after
from covergate.vendors.errors import VendorAuthFailed, VendorBroken, VendorError, VendorRateLimited, VendorUnavailable

_TOKEN = re.compile(r"[\x21-\x7e]+")
"""The characters of an access token (RFC 6749 appendix A.12), all of them safe in a header."""

Sends: TypeAlias = Literal["json", "basic", "form", "password"]


class VendorAuth(HttpAuth):
    """`refused` are the statuses with which this vendor refuses credentials."""

    refused: frozenset[int] = frozenset({401, 403})


class HeaderAuth(VendorAuth):
    """The same headers on every call; the call's own take precedence."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)

    @classmethod
    def basic(cls, username: str, password: str) -> HeaderAuth:
        """HTTP Basic (RFC 7617)."""
        return cls({"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()})

    def auth_flow(self, request: HttpRequest) -> Generator[HttpRequest, HttpResponse, None]:
        for name, value in self._headers.items():
            request.headers.setdefault(name, value)
        yield request


def _as_json(client: ClientAuth, method: str, uri: str, headers: dict[str, str], body: str) -> tuple[str, Any, bytes]:
    headers["Content-Type"] = "application/json"
    return uri, headers, orjson.dumps({"client_id": client.client_id, "client_secret": client.client_secret})


def _as_multipart(
    client: ClientAuth, method: str, uri: str, headers: dict[str, str], body: str
) -> tuple[str, Any, bytes]:
    fields = {"username": (None, client.client_id), "password": (None, client.client_secret)}
    form = HttpRequest(method, uri, files=fields)
    headers["Content-Type"] = form.headers["Content-Type"]
    return uri, headers, form.read()


@dataclass(slots=True, eq=False)
class _Token:
    access_token: str = field(repr=False)
    lifetime: float
    worked: bool = False
    """A call that came with it was not refused."""


class TokenAuth(VendorAuth):
    """OAuth 2 bearer tokens, with Authlib's core for RFC 6749.

    `url` is the token endpoint. `sends` is how `identity` and `secret` go there: `json` as {client_id, client_secret},
    `basic` and `form` as a client credentials grant with HTTP Basic or in the form, `password` as username and password
    in multipart form data. `lifetime` is used if the reply has no `expires_in`.
    """

    _METHODS: ClassVar[dict[Sends, str | Callable[..., tuple[str, Any, bytes]]]] = {
        "json": _as_json,
        "basic": "client_secret_basic",
        "form": "client_secret_post",
        "password": _as_multipart,
    }

    def __init__(
        self,
        url: str,
        *,
        sends: Sends,
        identity: str,
        secret: str,
        lifetime: timedelta = timedelta(hours=1),
        margin: timedelta = timedelta(seconds=60),
        refused: frozenset[int] = VendorAuth.refused,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refused = refused
        self._url = url
        self._client = ClientAuth(identity, secret, self._METHODS[sends])
        self._lifetime = lifetime.total_seconds()
        self._margin = margin.total_seconds()
        self._clock = clock
        self._lock = asyncio.Lock()
        self._token: _Token | None = None
        self._renew_at = 0.0
        self.fetches = 0
        self._failure: VendorError | None = None
        """How the latest fetch failed; the calls that waited for it share it."""

    async def async_auth_flow(self, request: HttpRequest) -> AsyncGenerator[HttpRequest, HttpResponse]:
        for last in (False, True):
            fetches = self.fetches
            async with self._lock:
                if not self._is_fresh():
                    if self._failure is not None and self.fetches != fetches:
                        raise self._failure.copied()
                    asked_at = self._clock()
                    self._keep((yield self._token_request(request)), asked_at)
                token = self._token
            assert token is not None
            response = yield self._with_token(request, token)
            if not self._refuses(response, token) or (last and not token.worked):
                return
            mark_unsent(request)
            if self._token is token:
                self._token = None
        asked_at = self._clock()
        own = yield self._token_request(request)
        self.fetches += 1
        token = self._read(own)
        response = yield self._with_token(request, token)
        if not self._refuses(response, token) and not self._is_fresh():
            self._share(token, asked_at)

    def _with_token(self, request: HttpRequest, token: _Token) -> HttpRequest:
        add_bearer_token(token.access_token, self._url, request.headers, None)
        return request

    def _refuses(self, response: HttpResponse, token: _Token) -> bool:
        if response.status_code in self.refused:
            return True
        if response.status_code < 500:  # these may come from before anybody looked at it
            token.worked = True
        return False

    def _is_fresh(self) -> bool:
        return self._token is not None and self._clock() < self._renew_at

    def _token_request(self, call: HttpRequest) -> HttpRequest:
        url, headers, body = self._client.prepare(
            "POST",
            self._url,
            {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
            | {name: value for name, value in call.headers.items() if name in ("user-agent", "accept-encoding")},
            prepare_token_request("client_credentials"),
        )
        return HttpRequest("POST", url, headers=headers, content=body)

    def _keep(self, response: HttpResponse, asked_at: float) -> None:
        self.fetches += 1
        self._failure = None
        try:
            token = self._read(response)
        except VendorError as error:
            self._failure = error
            raise
        self._share(token, asked_at)

    def _share(self, token: _Token, asked_at: float) -> None:
        # A token that lives no longer than the margin would never be fresh: it is used for half its life.
        self._renew_at = asked_at + max(token.lifetime - self._margin, token.lifetime / 2)
        self._token = token

    def _read(self, response: HttpResponse) -> _Token:
        status = response.status_code
        if status >= 500 or status in (408, 425):
            raise VendorUnavailable(f"token_endpoint_{status}", sent=False)
        if status == 429:
            raise VendorRateLimited("token_endpoint_429", retry_after=retry_after(response.headers))
        if status >= 400:
            raise VendorAuthFailed(f"token_endpoint_{status}")
        try:
            body = orjson.loads(response.content)
            token = OAuth2Token.from_dict(body)
            access_token = token["access_token"]
            lifetime = float(token.get("expires_in") or self._lifetime)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            # `from None`: the parser's exception holds the whole reply.
            raise VendorBroken("unreadable_token", sent=False) from None
        if status >= 300 or not isinstance(access_token, str) or not _TOKEN.fullmatch(access_token):
            raise VendorBroken("unreadable_token", sent=False)
        return _Token(access_token, max(lifetime, 0.0))
