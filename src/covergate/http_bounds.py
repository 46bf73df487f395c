"""Bounds of an HTTP connection before anybody is known: the head's size, the time for head and body, how many connections.

uvicorn's protocol does the work; here is only what an endless, a slow or a greedy peer meets. Invariant: no peer holds more than
`HEAD_BYTES` and a piece or two of an unfinished head, and none holds a connection for longer than its clock allows.

A request that comes whole, as nearly every one does, sets no timer: `look`, once a second for each connection, is the only clock.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
from collections import Counter
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from covergate import ids, instruments
from covergate.errors import PROBLEMS

log = structlog.get_logger(__name__)

HEAD_BYTES = 16 * 1024
HEAD_FIELDS = 100
HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0
UNSENT_SECONDS = 30.0
"""A peer that takes nothing of its answer for so long is cut off."""

DISCARD_SECONDS = 2.0
"""After a refusal what is still on its way is read and dropped: closing at once would reset the connection, and the peer might
never see why."""

PIECE_BYTES = 8 * 1024
"""What is parsed at once: a chunk from the network may be 256 KB, and would be 14,000 requests."""
MOST_PIPELINED = 16
"""Requests that may wait on a connection for those before them; what comes after stays unread."""

DETAILS = {
    "invalid_http": "the request cannot be read as HTTP/1.1",
    "head_too_large": f"request line and header fields have at most {HEAD_BYTES // 1024} KB and {HEAD_FIELDS} fields",
    "request_timeout": f"a head has {HEAD_SECONDS:.0f} seconds to arrive, a body {BODY_SECONDS:.0f}",
    "too_many_connections": "this address has too many connections open",
    "unavailable": "there are too many connections open; try again in a moment",
}
"""Problem code → detail, for what is answered before there is a request."""

_NEVER = math.inf


class _Reading(Enum):
    """What the next bytes of a connection belong to."""

    NOTHING = auto()
    HEAD = auto()
    BODY = auto()


class _HeadTooLarge(Exception):
    pass


def source_of(host: str) -> str:
    """Who counts as one: an IPv4 address, or the /64 network that one customer has of IPv6. Empty if it is neither."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


class Doorkeeper:
    """Counts open connections, of the process and of each source. A trusted proxy speaks for many: only the whole counts."""

    def __init__(self, most: int, most_per_source: int, trusted: Sequence[str] = ()) -> None:
        self._most = most
        self._most_per_source = most_per_source
        self._trusted = [ipaddress.ip_network(network) for network in trusted]
        self._open: Counter[str] = Counter()
        self._total = 0

    def enter(self, source: str) -> str | None:
        """None, and the connection counts until `leave`; or the code of the problem, and it does not."""
        if self._total >= self._most:
            return "unavailable"
        if self._open[source] >= self._most_per_source and not self._is_trusted(source):
            return "too_many_connections"
        self._total += 1
        self._open[source] += 1
        return None

    def leave(self, source: str) -> None:
        self._total -= 1
        self._open[source] -= 1
        if not self._open[source]:
            del self._open[source]

    def _is_trusted(self, source: str) -> bool:
        if not source:
            return False
        address = ipaddress.ip_network(source)
        return any(address.version == network.version and address.overlaps(network) for network in self._trusted)


class BoundedHttp(HttpToolsProtocol):
    def __init__(
        self,
        doorkeeper: Doorkeeper,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._doorkeeper = doorkeeper
        self._source: str | None = None
        self._reading = _Reading.NOTHING
        self._due = _NEVER
        """The loop's time at which what is being read must be there."""
        self._begun = 0
        """Requests whose first byte was seen."""
        self._head_bytes = 0
        self._trailer_bytes = 0
        self._got_body = False
        self._unread = b""
        self._refusal: str | None = None
        self._unsent = 0
        self._stuck_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None and self.client[0].startswith("::ffff:"):
            # A socket for both families shows IPv4 like this; whoever compares addresses expects them as they are written.
            self.client = (self.client[0].removeprefix("::ffff:"), self.client[1])
        source = source_of(self.client[0]) if self.client is not None else ""
        refusal = self._doorkeeper.enter(source)
        if refusal is None:
            self._source = source
            self._due = self.loop.time() + HEAD_SECONDS
        else:
            instruments.count_refusal(refusal)
            self._refusal = refusal
            transport.write(_answer(refusal))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._source is not None:
            self._doorkeeper.leave(self._source)
            self._source = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        if self._unread:
            self._unread += data
            self.flow.pause_reading()
        elif len(data) <= PIECE_BYTES:
            self._feed(data)
            self._set_clock()
        else:
            self._feed_pieces(data)

    def _feed_pieces(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            if self._refusal is not None or self.transport.is_closing():
                return
            if len(self.pipeline) >= MOST_PIPELINED:
                self._unread = data[start:]
                self.flow.pause_reading()
                break
            self._feed(data[start : start + PIECE_BYTES])
        self._set_clock()

    def _feed(self, piece: bytes) -> None:
        reading, begun = self._reading, self._begun
        self._got_body = False
        super().data_received(piece)
        if self._reading is _Reading.HEAD:
            begins = self._begun - begun
            if not begins or (begins == 1 and reading is _Reading.NOTHING):
                # Else it began somewhere in this piece, behind another request.
                self._head_bytes += len(piece)
            if self._head_bytes > HEAD_BYTES:
                self._refuse("head_too_large")
        elif self._reading is reading is _Reading.BODY and not self._got_body:
            # The fields after a chunked body, which nothing here reads.
            self._trailer_bytes += len(piece)
            if self._trailer_bytes > HEAD_BYTES:
                self._refuse("head_too_large")

    def _set_clock(self) -> None:
        """The clock of a head or a body runs from its first byte; more bytes do not wind it up again."""
        if self._reading is _Reading.NOTHING:
            waiting = self.cycle is not None and not self.cycle.response_complete
            if waiting or self.timeout_keep_alive_task is not None:
                self._due = _NEVER
            elif self._due == _NEVER:
                # Empty lines between requests stopped uvicorn's own clock.
                self._due = self.loop.time() + HEAD_SECONDS
        elif self._due == _NEVER:
            self._due = self.loop.time() + (HEAD_SECONDS if self._reading is _Reading.HEAD else BODY_SECONDS)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reading, self._due = _Reading.HEAD, _NEVER
        self._begun += 1
        self._head_bytes = self._trailer_bytes = 0

    def on_headers_complete(self) -> None:
        # Nothing counted yet: the head began in this piece or in the one before, and is small enough.
        if len(self.headers) > HEAD_FIELDS or (self._head_bytes and self._size_of_head() > HEAD_BYTES):
            raise _HeadTooLarge
        super().on_headers_complete()
        self._reading, self._due = _Reading.BODY, _NEVER
        # The parser would add the fields after a chunked body to the request's own.
        self.headers = []

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        self._got_body = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._reading, self._due = _Reading.NOTHING, _NEVER

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._unread and self._refusal is None:
            data, self._unread = self._unread, b""
            self._feed_pieces(data)

    def send_400_response(self, msg: str) -> None:
        """The parser stopped: at what is not HTTP, or at a head that `on_headers_complete` did not take."""
        too_large = self._reading is _Reading.HEAD and (
            len(self.headers) > HEAD_FIELDS or self._size_of_head() > HEAD_BYTES
        )
        self._refuse("head_too_large" if too_large else "invalid_http")

    def look(self, now: float) -> None:
        """Called once a second: ends what is overdue."""
        if now >= self._due:
            if self._refusal is not None:
                self.transport.abort()
            elif self._reading is _Reading.NOTHING:
                self.transport.close()  # 408 might be taken for the answer to a request that is on its way
            elif self.flow.read_paused or (self.cycle is not None and self.cycle.waiting_for_100_continue):
                self._due = now + BODY_SECONDS  # it is we who do not read
            else:
                self._refuse("request_timeout")
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent < self._unsent or self._unsent == 0:
            self._stuck_since = now
        elif now - self._stuck_since >= UNSENT_SECONDS:
            self.transport.abort()
        self._unsent = unsent

    def _refuse(self, code: str) -> None:
        """Says why, unless that could be taken for the answer to an earlier request; then closes."""
        self._refusal, self._unread, self._due = code, b"", _NEVER
        instruments.count_refusal(code)
        log.info("http_refused", code=code, address=self._source)
        cycle = self.cycle
        owed = cycle is not None and not cycle.response_complete
        if self._reading is _Reading.BODY and (self.pipeline or not owed or cycle.response_started):
            self.transport.close()
            return
        if self._reading is not _Reading.BODY and owed:
            cycle.keep_alive = False  # the answers that are owed go out, and the last of them closes
            return
        self.transport.write(_answer(code))
        if owed:
            cycle.disconnected = True
            cycle.message_event.set()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._due = self.loop.time() + DISCARD_SECONDS


def _answer(code: str) -> bytes:
    """A problem, as `api/problems.py` would write it."""
    status, title = PROBLEMS[code]
    request_id = ids.new(ids.REQUEST)
    body = json.dumps(
        {
            "type": f"urn:covergate:problem:{code}",
            "title": title,
            "status": status,
            "code": code,
            "detail": DETAILS[code],
            "request_id": request_id,
            "errors": [],
        }
    )
    retry_after = ["retry-after: 2"] if status in (429, 503) else []
    lines = [
        f"HTTP/1.1 {status} {title}",
        "content-type: application/problem+json",
        f"content-length: {len(body)}",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "connection: close",
        f"x-request-id: {request_id}",
        *retry_after,
        "",
        body,
    ]
    return "\r\n".join(lines).encode()
