"""Everything that leaves this process over HTTP leaves through a client made here: vendor calls and partners' webhooks.

What holds for each of them: a guarded client never connects to an address that is not public, whatever the name
resolved to a moment before; no redirect is followed, no proxy or netrc is read from the environment, no cookie is kept;
a slow host holds up only itself; and of every failed request it is known whether anything may have reached the other
side.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from types import SimpleNamespace

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from covergate.outbound.address_guard import ForbiddenAddress, _guarded_socket
from covergate.outbound.body import read_capped

USER_AGENT = f"CoverGate/{version('covergate')}"


NOT_AFTER = "covergate.not_after"
"""Request extension: the loop time after which the request must not leave any more."""


_LEFT = "covergate.left"
"""Request extension: whether any of its bytes may have left."""


class TooLate(Exception):
    """The request was not sent because its time to leave had passed."""


def make_client(
    *,
    guarded: bool,
    limit_per_host: int = 50,
    keepalive_seconds: float = 15.0,
    connect_seconds: float = 10.0,
    reply_limit: int | None = None,
    user_agent: str = USER_AGENT,
    wire: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncClient:
    """A client for going out. `guarded` refuses addresses that are not public with `ForbiddenAddress`.

    With `reply_limit` every reply is read whole, decoded, before it is handed on, and one over the limit raises
    `ReplyTooLarge`; without it the caller streams (`read_capped`, `read_start`). There is no total timeout: wrap calls
    in `asyncio.timeout`. `wire` stands in for the network in tests.
    """

    def session() -> aiohttp.ClientSession:
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_create_end.append(_note_leaving)
        tracing.on_connection_reuseconn.append(_note_leaving)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                limit_per_host=limit_per_host,
                keepalive_timeout=keepalive_seconds,
                socket_factory=_guarded_socket if guarded else None,
                ssl=_tls(),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            trace_configs=[tracing],
        )

    # The session is made at the first request: it belongs to the loop that is running then.
    inner = wire or AiohttpTransport(client=session, verify=_tls(), trust_env=False)
    return _Client(
        transport=_Outgoing(inner, traced=wire is None, reply_limit=reply_limit),
        follow_redirects=False,
        trust_env=False,
        timeout=httpx.Timeout(None, connect=connect_seconds),
        headers={"user-agent": user_agent, "accept-encoding": "gzip"},
    )


class _NoCookies(httpx.Cookies):
    """One patient's session cookie must not ride on the next one's request."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Keeps none."""


_NO_COOKIES = _NoCookies()


class _Client(httpx.AsyncClient):
    @property
    def cookies(self) -> httpx.Cookies:
        return _NO_COOKIES

    @cookies.setter
    def cookies(self, cookies: object) -> None:
        raise AttributeError("this client keeps no cookies")


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


_leaving: ContextVar[httpx.Request] = ContextVar("leaving")


async def _note_leaving(
    session: aiohttp.ClientSession,
    context: SimpleNamespace,
    params: aiohttp.TraceConnectionCreateEndParams | aiohttp.TraceConnectionReuseconnParams,
) -> None:
    """A connection is in hand. Until now nothing can have been sent, from now on anything can."""
    _leaving.get().extensions[_LEFT] = True


class _Outgoing(httpx.AsyncBaseTransport):
    """Keeps `NOT_AFTER`, notes what left, and reads replies up to the limit."""

    def __init__(self, inner: httpx.AsyncBaseTransport, *, traced: bool, reply_limit: int | None) -> None:
        self._inner = inner
        self._traced = traced
        self._reply_limit = reply_limit

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if (not_after := request.extensions.get(NOT_AFTER)) is not None:
            left = not_after - asyncio.get_running_loop().time()
            if left <= 0:
                raise TooLate
            # aiohttp takes httpx's "pool" as the time for getting a connection, waiting for a free one included.
            request.extensions["timeout"] = {**request.extensions["timeout"], "pool": left}
        await request.aread()  # multipart comes as a stream; as bytes it can go out again after a refused token
        request.extensions[_LEFT] = not self._traced
        token = _leaving.set(request)
        try:
            response = await self._inner.handle_async_request(request)
        finally:
            _leaving.reset(token)
        if self._reply_limit is None:
            return response
        content = await read_capped(response, self._reply_limit)
        described_the_wire = {b"content-encoding", b"content-length", b"transfer-encoding"}
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in described_the_wire]
        return httpx.Response(response.status_code, headers=headers, content=content, request=request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def was_sent(error: BaseException, request: httpx.Request | None = None) -> bool:
    """False only where it is certain that nothing reached the other side.

    httpx's own classes cannot tell: httpx-aiohttp reports "sent, then cut" as ConnectTimeout. With the `request` it is
    also known for a timeout from outside whether a connection was in hand by then, and for a failed token request that
    the call itself was never sent.
    """
    if request is not None and not request.extensions.get(_LEFT, False):
        return False
    return not any(isinstance(cause, (*_NEVER_CONNECTED, ForbiddenAddress, TooLate)) for cause in causes(error))


def mark_unsent(request: httpx.Request) -> None:
    """What was sent had no effect (a refused token): until it is sent again the request counts as not sent."""
    request.extensions[_LEFT] = False


def could_not_connect(error: BaseException) -> bool:
    """Nothing was sent because no connection came about; trying again may help."""
    chain = list(causes(error))
    return any(isinstance(cause, _NEVER_CONNECTED) for cause in chain) and not any(
        isinstance(cause, ForbiddenAddress) for cause in chain
    )


def forbidden(error: BaseException) -> bool:
    """Whether the guard refused the address."""
    return any(isinstance(cause, ForbiddenAddress) for cause in causes(error))


_NEVER_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


def causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that `Retry-After` asks to wait (RFC 9110 section 10.2.3), at most a day; None where it is unreadable.

    `headers` with lower-case names.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        seconds = float(value)
    else:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - (now or datetime.now(UTC))).total_seconds()
    return min(max(seconds, 0.0), 86_400.0)
