"""A vendor's `Call` as an HTTP request, and its end as a `Reply` or a typed error.

Every way a call can end is either a `Reply` or a `VendorError` that says whether the call may have had an effect;
nothing that a library raises gets past. Each call leaves one log line of ids and numbers: no bodies, no query strings.

    2xx                  the reply; VendorBroken if its body is not JSON
    401, 403             VendorAuthFailed, after its token was renewed; nothing happened (`VendorAuth.refused`)
    408                  VendorUnavailable, and the call may have had an effect. By RFC 9110 (15.5.9) the server gave up
                         waiting for the rest of the request, but gateways say it too when what is behind them is slow
    425                  VendorUnavailable; nothing happened: the server refuses early what might be a replay (RFC 8470, 5.2)
    429                  VendorRateLimited; nothing happened
    other 4xx            the reply: the vendor's own word on the request, for its flow to read
    5xx                  VendorUnavailable, and the call may have had an effect
    1xx, 3xx             VendorBroken
    nothing              VendorUnavailable; `sent` tells whether a connection was in hand
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

import orjson
import structlog
from tenacity import stop_after_attempt, wait_random

from covergate.instruments import count_call, count_tokens
from covergate.outbound.body import UnreadableReply
from covergate.outbound.client import (
    NOT_AFTER,
    REPLY_LIMIT,
    CannotBuildRequest,
    HttpAuth,
    HttpClient,
    HttpRequest,
    HttpResponse,
    Wire,
    could_not_connect,
    forbidden,
    make_client,
    no_address,
    out_of_sockets,
    retry_after,
    timed_out,
    too_late,
    was_sent,
)
from covergate.outbound.resolver import Resolver
from covergate.outbound.send_by import SendBy
from covergate.retrying import retrying
from covergate.transport.batching import Batcher
from covergate.vendors.account import SHARED
from covergate.vendors.auth import TokenAuth, VendorAuth
from covergate.vendors.errors import (
    UNREADABLE,
    VendorAuthFailed,
    VendorBroken,
    VendorError,
    VendorRateLimited,
    VendorUnavailable,
)
from covergate.vendors.flow import Call, Reply
from covergate.vendors.vendor import Connection, Vendor

VENDOR_KEEPALIVE_SECONDS = 15.0
COMMITTING_KEEPALIVE_SECONDS = 2.0
"""A vendor that closes an idle connection at the wrong moment makes a committing call ambiguous: it takes only recently used
ones."""

RETRY_SECONDS = (0.05, 0.2)
"""Pause before the second and the third try at connecting."""

MOST_ACCOUNTS = 500
"""Of so many tenants' accounts connections and tokens are kept; past it those that were idle longest are let go."""

FROZEN_SECONDS = 1.0
"""A call that ends so long after its timeout was held up by this process: the vendor may have answered in time."""

EMPTY_IS_FINE = frozenset({202, 204, 205})
"""2xx statuses that may come without a body (Integrex's "still processing" is a 202)."""

TRANSMISSION_FAILED = {408: True, 425: False}
"""4xx statuses that are about the transmission, not the request → whether the call may have had an effect."""

log = structlog.get_logger(__name__)

_Brings = TypeVar("_Brings")
_Place: TypeAlias = tuple[str, str, str]
"""Vendor, mode, account."""


class Transport:
    """One per process. Vendors, modes and accounts share no connection, token or batch, so a slow one holds up only itself.

    How many calls of a vendor are under way is its lane's business: there is no limit here.

    `ended` is told vendor, mode, error and account of each HTTP call that ended, once however many submissions it carried;
    calls that this process stopped itself (`VendorError.ours`) say nothing about the vendor and are left out. `wire` and
    `resolver` stand in for the network in tests.
    """

    def __init__(
        self,
        *,
        allow_private_network: bool,
        ended: Callable[[str, str, VendorError | None, str], None] = lambda vendor, mode, error, account: None,
        wire: Wire | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._allow_private_network = allow_private_network
        self._wire = wire
        self._resolver = resolver or Resolver()
        self.ended = ended
        self._clients: dict[tuple[_Place, bool], HttpClient] = {}
        self._auths: dict[_Place, tuple[Connection, HttpAuth]] = {}
        self._tokens_counted: dict[_Place, int] = {}
        self._batchers: dict[_Place, tuple[Connection, Batcher]] = {}
        self._busy: dict[_Place, int] = {}
        """Of tenants' accounts → the calls under way; in the order of their last use."""

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        for _, batcher in self._batchers.values():
            await batcher.aclose()
        for client in self._clients.values():
            await client.aclose()
        await self._resolver.close()
        self._batchers.clear()
        self._clients.clear()
        self._busy.clear()

    async def send(
        self,
        vendor: Vendor,
        mode: str,
        connection: Connection,
        call: Call,
        pointer: str,
        *,
        account: str = SHARED,
        tenant: str = "",
        not_after: SendBy | float | None = None,
    ) -> Reply:
        """A 2xx with a JSON body (or an empty one if that is fine), or a 4xx that may explain itself. Raises VendorError.

        `account` is the id of the account whose `connection` it is; `tenant` keeps tenants' submissions out of one batch.
        `not_after` is when the call must not leave any more. A number is the loop's time, for callers that cannot have
        been paused since they chose it.
        """
        if isinstance(not_after, float):
            not_after = SendBy.at_loop_time(not_after)
        if account == SHARED:
            return await self._sent(vendor, mode, connection, account, tenant, call, pointer, not_after)
        place = (vendor.name, mode, account)
        self._busy[place] = self._busy.pop(place, 0) + 1
        try:
            await self._let_go_of_idle()
            return await self._sent(vendor, mode, connection, account, tenant, call, pointer, not_after)
        finally:
            self._busy[place] -= 1

    async def _let_go_of_idle(self) -> None:
        """Else a tenant could have this process keep more and more, account by account."""
        if (over := len(self._busy) - MOST_ACCOUNTS) <= 0:
            return
        for place in [place for place, calls in self._busy.items() if not calls][:over]:
            del self._busy[place]
            self._auths.pop(place, None)
            self._tokens_counted.pop(place, None)
            self._batchers.pop(place, None)
            for client in [self._clients.pop((place, commits), None) for commits in (False, True)]:
                if client is not None:
                    await client.aclose()

    async def _sent(
        self,
        vendor: Vendor,
        mode: str,
        connection: Connection,
        account: str,
        tenant: str,
        call: Call,
        pointer: str,
        not_after: SendBy | None,
    ) -> Reply:
        batching = vendor.batching
        if batching is None or not call.commits or call.path != batching.path:
            return await self._send(vendor, mode, connection, account, call, pointer, not_after)
        return await self._batcher(vendor, mode, connection, account).submit(call, pointer, not_after, tenant)

    async def run(
        self,
        vendor: Vendor,
        mode: str,
        connection: Connection,
        flow: Generator[Call, Reply, _Brings],
        account: str = SHARED,
    ) -> _Brings:
        """What a flow brings that commits nothing and whose replies are not kept. Raises VendorError."""
        try:
            call = next(flow)
            while True:
                reply = await self.send(vendor, mode, connection, call, "", account=account)
                try:
                    call = flow.send(reply)
                except UNREADABLE as error:
                    raise VendorBroken(f"unreadable reply: {type(error).__name__}", sent=True) from error
        except StopIteration as stop:
            brought: _Brings = stop.value
            return brought
        finally:
            flow.close()

    def _batcher(self, vendor: Vendor, mode: str, connection: Connection, account: str) -> Batcher:
        assert vendor.batching is not None
        known = self._batchers.get((vendor.name, mode, account))
        if known is not None and known[0] == connection:
            return known[1]

        async def send(joined: Call, not_after: SendBy | None, rows: int) -> Reply:
            return await self._send(vendor, mode, connection, account, joined, "", not_after, rows=rows)

        batcher = Batcher(vendor.batching, send)
        self._batchers[vendor.name, mode, account] = (connection, batcher)
        return batcher

    async def _send(
        self,
        vendor: Vendor,
        mode: str,
        connection: Connection,
        account: str,
        call: Call,
        pointer: str,
        not_after: SendBy | None,
        **noted: int,
    ) -> Reply:
        if call.commits and call.method not in ("POST", "PATCH"):
            # aiohttp repeats the other methods by itself when a kept connection turns out to be closed.
            raise ValueError("a committing call must be a POST or a PATCH")
        started = time.monotonic()
        fields: dict[str, Any] = {"vendor": vendor.name, "mode": mode, "call": call.label, **noted}
        if account != SHARED:
            fields["account"] = account
        place = (vendor.name, mode, account)
        try:
            reply = await self._exchange(vendor, place, connection, call, pointer, not_after)
        except VendorError as error:
            fields |= {"status": error.reply.status if error.reply else None, "sent": error.sent}
            fields |= {"error": type(error).__name__, "reason": error.reason}
            log.warning("vendor_call", **fields, duration_ms=_since(started))
            count_call(mode, vendor.name, "ours" if error.ours else error.kind.value, time.monotonic() - started)
            if not error.ours:
                self.ended(vendor.name, mode, error, account)
            raise
        finally:
            self._count_tokens(place)
        log.info("vendor_call", **fields, status=reply.status, sent=True, duration_ms=_since(started))
        count_call(mode, vendor.name, "ok", time.monotonic() - started)
        self.ended(vendor.name, mode, None, account)
        return reply

    async def _exchange(
        self, vendor: Vendor, place: _Place, connection: Connection, call: Call, pointer: str, not_after: SendBy | None
    ) -> Reply:
        client = self._client(place, call.commits)
        auth = self._auth(vendor, place, connection)
        request = _request(client, connection, call, not_after)
        time_is_up = asyncio.get_running_loop().time() + call.timeout

        def worth_another_try(error: BaseException) -> bool:
            # Past `not_after` a vendor that cannot be connected to would look like a delay of ours.
            in_time = not_after is None or not_after.seconds_left > RETRY_SECONDS[1]
            return in_time and could_not_connect(error)

        try:
            async with asyncio.timeout_at(time_is_up):
                response = await retrying(
                    lambda: client.send(request, auth=auth),
                    when=worth_another_try,
                    stop=stop_after_attempt(3),
                    wait=wait_random(*RETRY_SECONDS),
                )
        except VendorError:
            raise
        except UnreadableReply as error:
            raise VendorBroken(str(error), sent=was_sent(error, request)) from error
        # Broad on purpose: the libraries below each raise their own, and whatever it is, the engine has to learn whether
        # the call may have had an effect.
        except Exception as error:
            froze = asyncio.get_running_loop().time() > time_is_up + FROZEN_SECONDS
            ours = froze or too_late(error) or out_of_sockets(error)
            raise VendorUnavailable(_reason(error), sent=was_sent(error, request), ours=ours) from error
        return _read(response, pointer, auth.refused if isinstance(auth, VendorAuth) else VendorAuth.refused)

    def _client(self, place: _Place, commits: bool) -> HttpClient:
        key = (place, commits)
        if key not in self._clients:
            _, mode, account = place
            self._clients[key] = make_client(
                # In test mode the gateway's own account is the operator's sandbox.
                guarded=(mode == "live" or account != SHARED) and not self._allow_private_network,
                keepalive_seconds=COMMITTING_KEEPALIVE_SECONDS if commits else VENDOR_KEEPALIVE_SECONDS,
                reply_limit=REPLY_LIMIT,
                resolver=self._resolver,
                wire=self._wire,
            )
        return self._clients[key]

    def _auth(self, vendor: Vendor, place: _Place, connection: Connection) -> HttpAuth:
        """Kept, because it holds the token; made anew when the connection changed."""
        known = self._auths.get(place)
        if known is None or known[0] != connection:
            known = (connection, vendor.authenticate(connection))
            self._auths[place] = known
            self._tokens_counted[place] = 0
        return known[1]

    def _count_tokens(self, place: _Place) -> None:
        if (known := self._auths.get(place)) is None:
            return
        fetches = known[1].fetches if isinstance(known[1], TokenAuth) else 0
        if new := fetches - self._tokens_counted[place]:
            vendor, mode, _ = place
            count_tokens(mode, vendor, new)
            self._tokens_counted[place] = fetches


def _request(client: HttpClient, connection: Connection, call: Call, not_after: SendBy | None) -> HttpRequest:
    form = call.form or {}
    try:
        return client.build_request(
            call.method,
            connection.base_url.rstrip("/") + call.path,
            params=call.params,
            headers=call.headers,
            json=call.json,
            data=None if call.multipart else call.form,
            files={name: (None, value) for name, value in form.items()} if call.multipart else None,
            extensions=None if not_after is None else {NOT_AFTER: not_after},
        )
    except CannotBuildRequest as error:
        raise VendorBroken("request_cannot_be_built", sent=False, ours=True) from error


def _read(response: HttpResponse, pointer: str, refused: frozenset[int]) -> Reply:
    headers = dict(response.headers.items())
    reply = Reply(response.status_code, headers, response.content, pointer, datetime.now(UTC))
    if reply.status in refused:
        raise VendorAuthFailed(f"http_{reply.status}", reply=reply)
    if reply.status == 429:
        raise VendorRateLimited("http_429", retry_after=retry_after(headers), reply=reply)
    if reply.status >= 500:
        raise VendorUnavailable(f"http_{reply.status}", sent=True, reply=reply)
    if reply.status in TRANSMISSION_FAILED:
        raise VendorUnavailable(f"http_{reply.status}", sent=TRANSMISSION_FAILED[reply.status], reply=reply)
    if reply.status >= 400:
        return reply
    if not reply.ok:
        raise VendorBroken(f"http_{reply.status}", sent=True, reply=reply)
    if reply.body is None and (reply.content.strip() or reply.status not in EMPTY_IS_FINE):
        raise VendorBroken("not_json", sent=True, reply=reply)
    return reply


def _reason(error: Exception) -> str:
    """A constant word for the log and the timeline; an exception's own text may hold an address or an id."""
    if too_late(error):
        return "too_late_to_send"
    if forbidden(error):
        return "address_not_allowed"
    if out_of_sockets(error):
        return "out_of_sockets"
    if no_address(error):
        return "no_address"
    if could_not_connect(error):
        return "no_connection"
    if timed_out(error):
        return "timeout"
    return "connection_lost"


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


def redact(content: bytes, secrets: frozenset[str]) -> bytes:
    """JSON with the values of these keys, wherever they stand, replaced; the same bytes if there are none."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        return content
    found = False
    # Not recursive: a reply may be nested more deeply than Python's stack allows.
    open_parts: list[Any] = [[document]]
    while open_parts:
        part = open_parts.pop()
        if isinstance(part, dict):
            for name, value in part.items():
                if name in secrets and value is not None:
                    part[name] = "[redacted]"
                    found = True
                elif isinstance(value, (dict, list)):
                    open_parts.append(value)
        else:
            open_parts += [value for value in part if isinstance(value, (dict, list))]
    if not found:
        return content
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError:
        # It reads deeper nesting than it writes; better nothing than a secret.
        return b'"[redacted]"'
