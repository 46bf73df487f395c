"""Everything that leaves this process over HTTP leaves through a client made here: vendor calls and partners' webhooks.

What holds for each of them: a guarded client never connects to an address that is not public, whatever the name
resolved to a moment before; no redirect is followed, no proxy or netrc is read from the environment, no cookie is kept;
a slow host, or a name that hangs, holds up only itself; and of every failed request it is known whether anything may have
reached the other side.

Requests, responses and auth flows are httpx's, the connections are aiohttp's. The rest of the code uses the names below, so
that another library would be a change of this folder.
"""

from __future__ import annotations

import errno
import functools
import ssl
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from covergate.outbound.address_guard import ForbiddenAddress, _guarded_socket
from covergate.outbound.body import read_capped
from covergate.outbound.resolver import Resolver
from covergate.outbound.send_by import SendBy, TooLate

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

HttpRequest = httpx.Request
HttpResponse = httpx.Response
HttpAuth = httpx.Auth
Wire = httpx.AsyncBaseTransport
CannotBuildRequest = (httpx.InvalidURL, TypeError, ValueError)
"""What `HttpClient.build_request` raises if it was given what cannot be sent."""

USER_AGENT = f"CoverGate/{version('covergate')}"
REPLY_LIMIT = 2 * 1024 * 1024
"""Bytes, decoded."""

NOT_AFTER = "covergate.not_after"
"""Request extension: the `SendBy` past which the request must not leave any more."""
_LEFT = "covergate.left"
"""Request extension: whether any of its bytes may have left."""


def make_client(
    *,
    guarded: bool,
    limit_per_host: int = 0,
    keepalive_seconds: float = 15.0,
    connect_seconds: float = 10.0,
    reply_limit: int = REPLY_LIMIT,
    user_agent: str = USER_AGENT,
    resolver: Resolver | None = None,
    wire: Wire | None = None,
) -> HttpClient:
    """A client for going out. `guarded` refuses addresses that are not public with `ForbiddenAddress`.

    There is no total timeout: wrap calls in `asyncio.timeout`. Clients share a `resolver` if they are given one, which then
    its owner closes. `wire` stands in for the network in tests.
    """
    own_resolver = None if resolver is not None else Resolver()

    def session() -> aiohttp.ClientSession:
        connector = _Connector(
            limit=0,
            limit_per_host=limit_per_host,
            keepalive_timeout=keepalive_seconds,
            resolver=resolver or own_resolver,
            socket_factory=_guarded_socket if guarded else None,
            ssl=_tls(),
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)

    return HttpClient(
        # The session is made at the first request: it belongs to the loop that is running then.
        wire or AiohttpTransport(client=session, verify=_tls(), trust_env=False),
        notes_leaving=wire is None,
        connect_seconds=connect_seconds,
        reply_limit=reply_limit,
        headers=httpx.Headers({"user-agent": user_agent, "accept": "*/*", "accept-encoding": "gzip"}),
        resolver=own_resolver,
    )


class HttpClient:
    """Sends httpx requests straight through an httpx transport.

    `httpx.AsyncClient` would do it too, at the cost of the call itself once more: it looks for redirects, cookies, proxies
    and hooks that no request of ours has.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        notes_leaving: bool,
        connect_seconds: float,
        reply_limit: int,
        headers: httpx.Headers,
        resolver: Resolver | None,
    ) -> None:
        self._wire = wire
        self._notes_leaving = notes_leaving
        self._timeout: dict[str, float] = {"connect": connect_seconds}
        self._reply_limit = reply_limit
        self._headers = headers
        self._resolver = resolver

    async def __aenter__(self) -> HttpClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._wire.aclose()
        if self._resolver is not None:
            await self._resolver.close()

    def build_request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        json: Any = None,
        data: Mapping[str, str] | None = None,
        files: Mapping[str, Any] | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> HttpRequest:
        """Raises one of `CannotBuildRequest`. A header that is given replaces the client's own."""
        all_headers = self._headers.copy()
        if json is not None:
            all_headers["content-type"] = "application/json"
            content = orjson.dumps(json)
        if headers:
            all_headers.update(headers)
        body: dict[str, Any] = {"data": data, "files": files}
        if data is None and files is None:
            # httpx adds nothing to a stream; length and host are aiohttp's to add, at a tenth of the cost.
            body = {"stream": httpx.ByteStream(content or b"")}
        parsed = _parsed(url, tuple((params or {}).items()))
        request = httpx.Request(method, parsed, headers=all_headers, extensions=dict(extensions or {}), **body)
        request.read()  # multipart comes as a stream; as bytes it can go out again after a refused token
        return request

    async def send(self, request: HttpRequest, *, auth: HttpAuth | None = None, stream: bool = False) -> HttpResponse:
        """The reply, its body read whole and decoded. Raises whatever httpx, aiohttp and ssl raise, UnreadableReply and TooLate.

        A body over the limit raises ReplyTooLarge. With `stream` the body is left to the caller, who reads it with
        `read_capped` or `read_start`, which close it too.
        """
        if auth is None:
            return await self._exchange(request, stream)
        flow = auth.async_auth_flow(request)
        try:
            request = await anext(flow)
            while True:
                response = await self._exchange(request, stream)
                try:
                    request = await flow.asend(response)
                except StopAsyncIteration:
                    return response
                await response.aclose()
        finally:
            await flow.aclose()

    async def _exchange(self, request: HttpRequest, stream: bool) -> HttpResponse:
        timeout = self._timeout
        not_after: SendBy | None = request.extensions.get(NOT_AFTER)
        if not_after is not None:
            if (left := not_after.seconds_left) <= 0:
                raise TooLate
            # aiohttp takes httpx's "pool" as the time for getting a connection, however it comes about.
            timeout = {**timeout, "pool": left}
        request.extensions["timeout"] = timeout
        request.extensions[_LEFT] = not self._notes_leaving
        token = _leaving.set(request)
        try:
            response = await self._wire.handle_async_request(request)
        finally:
            _leaving.reset(token)
        if stream:
            return response
        return _WholeResponse(request, response, await read_capped(response, self._reply_limit))


class _WholeResponse(httpx.Response):
    """A response whose body has been read and decoded; httpx would iterate over it again."""

    def __init__(self, request: HttpRequest, begun: HttpResponse, content: bytes) -> None:
        body = httpx.ByteStream(content)
        super().__init__(begun.status_code, headers=begun.headers, stream=body, request=request)
        self._whole = content
        if "content-encoding" in self.headers:  # it described the wire
            del self.headers["content-encoding"]
            self.headers.pop("content-length", None)

    @property
    def content(self) -> bytes:
        return self._whole


@functools.lru_cache(maxsize=512)
def _parsed(url: str, params: tuple[tuple[str, str], ...]) -> httpx.URL:
    """A verification is asked for at one address, again and again."""
    return httpx.URL(url, params=params) if params else httpx.URL(url)


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


_leaving: ContextVar[HttpRequest] = ContextVar("leaving")


class _Connector(aiohttp.TCPConnector):
    """Tells the request when a connection is in hand: until then nothing can have been sent, from then on anything can."""

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Connection:
        connection = await super().connect(req, traces, timeout)
        request = _leaving.get()
        if not request.extensions[_LEFT]:
            not_after: SendBy | None = request.extensions.get(NOT_AFTER)
            if not_after is not None and not_after.seconds_left <= 0:
                connection.release()
                raise TooLate
            request.extensions[_LEFT] = True
        return connection


def was_sent(error: BaseException, request: HttpRequest | None = None) -> bool:
    """False only if it is certain that nothing reached the other side.

    httpx's own classes cannot tell: httpx-aiohttp reports "sent, then cut" as ConnectTimeout. With the `request` it is
    also known for a timeout from outside whether a connection was in hand by then, and for a failed token request that
    the call itself was never sent.
    """
    if request is not None and not request.extensions.get(_LEFT, False):
        return False
    return not any(isinstance(cause, (*_NEVER_CONNECTED, ForbiddenAddress, TooLate)) for cause in causes(error))


def mark_unsent(request: HttpRequest) -> None:
    """What was sent had no effect (a refused token): until it is sent again the request counts as not sent."""
    request.extensions[_LEFT] = False


def could_not_connect(error: BaseException) -> bool:
    """Nothing was sent because no connection came about; trying again may help."""
    chain = list(causes(error))
    return any(isinstance(cause, _NEVER_CONNECTED) for cause in chain) and not any(
        isinstance(cause, ForbiddenAddress) for cause in chain
    )


def no_address(error: BaseException) -> bool:
    """Whether the host's name could not be looked up."""
    return any(isinstance(cause, aiohttp.ClientConnectorDNSError) for cause in causes(error))


def forbidden(error: BaseException) -> bool:
    """Whether the guard refused the address."""
    return any(isinstance(cause, ForbiddenAddress) for cause in causes(error))


def too_late(error: BaseException) -> bool:
    """Whether the request's time to leave had passed."""
    return any(isinstance(cause, TooLate) for cause in causes(error))


def timed_out(error: BaseException) -> bool:
    """Whether the other side was silent for too long; httpx-aiohttp's ConnectTimeout is a lost connection."""
    return isinstance(error, TimeoutError | httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout)


def out_of_sockets(error: BaseException) -> bool:
    """Whether this machine had no file or memory left for a connection: nothing that the other side did."""
    return any(isinstance(cause, OSError) and cause.errno in _EXHAUSTED for cause in causes(error))


_NEVER_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that `Retry-After` asks to wait (RFC 9110 section 10.2.3), at most a day; None if it is unreadable.

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
