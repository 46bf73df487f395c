"""What peers do before anybody knows them, over real sockets."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from covergate import http_bounds, server
from covergate.http_bounds import HEAD_BYTES, HEAD_FIELDS, Doorkeeper, source_of
from covergate.server import Peers, listening, running, start_server
from tests.support.waiting import eventually

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


@dataclass
class Peer:
    """One connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)).decode()
        first, *lines = head.strip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(first.split()[1]), headers, json.loads(body)

    async def closed(self) -> bytes:
        """What comes before the server closes."""
        try:
            return await asyncio.wait_for(self.reader.read(), 10)
        except ConnectionResetError:
            return b""


@dataclass
class Port:
    number: int
    release: asyncio.Event
    """Until it is set, `/wait` does not answer."""

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[Peer]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.number)
        try:
            yield Peer(reader, writer)
        finally:
            writer.close()


@asynccontextmanager
async def port(peers: Peers = Peers()) -> AsyncIterator[Port]:  # noqa: B008
    release = asyncio.Event()

    async def echo(request: Request) -> Response:
        body = await request.body()
        named = {"client": request.client and request.client.host, "fields": len(request.headers.raw)}
        return JSONResponse({"path": request.url.path, "bytes": len(body), **named})

    async def wait(request: Request) -> Response:
        await release.wait()
        return JSONResponse({"path": request.url.path})

    async def much(request: Request) -> Response:
        return Response(b"x" * 8_000_000)

    routes = [Route("/wait", wait), Route("/much", much), Route("/{path:path}", echo, methods=["GET", "POST"])]
    with listening("127.0.0.1", 0, "COVERGATE") as listener:
        part = await start_server("api", Starlette(routes=routes), listener, before_stop=release.set, peers=peers)
        async with running(part):
            yield Port(listener.getsockname()[1], release)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same clocks, a hundred times as fast."""
    monkeypatch.setattr(server, "TICK_SECONDS", 0.01)
    for name in ("HEAD_SECONDS", "BODY_SECONDS", "UNSENT_SECONDS", "DISCARD_SECONDS"):
        monkeypatch.setattr(http_bounds, name, getattr(http_bounds, name) / 100)


def head_of(size: int) -> bytes:
    """A whole head of so many bytes, most of them in one field."""
    begin, end = GET + b"Prefer: ", b"\r\n\r\n"
    return begin + b"x" * (size - len(begin) - len(end)) + end


async def test_a_head_has_a_size() -> None:
    async with port() as api:
        async with api.peer() as peer:
            await peer.say(head_of(HEAD_BYTES - 500))
            assert (await peer.answer())[0] == 200
            await peer.say(head_of(HEAD_BYTES - 500))  # the connection is as good as before
            assert (await peer.answer())[0] == 200
        for size in (HEAD_BYTES + 500, 4 * HEAD_BYTES, 20 * HEAD_BYTES):
            async with api.peer() as peer:
                await peer.say(head_of(size))
                status, headers, problem = await peer.answer()
                assert (status, problem["code"]) == (431, "head_too_large")
                assert headers["content-type"] == "application/problem+json" and headers["connection"] == "close"
                assert problem["request_id"] == headers["x-request-id"]
                assert await peer.closed() == b""


async def test_a_head_has_a_number_of_fields() -> None:
    async with port() as api:
        for fields, status in ((HEAD_FIELDS, 200), (HEAD_FIELDS + 1, 431)):
            async with api.peer() as peer:
                await peer.say(GET + b"a: b\r\n" * (fields - 1) + b"\r\n")
                assert (await peer.answer())[0] == status


@pytest.mark.parametrize("begin", [b"GET /", GET + b"Prefer: ", GET + b"x" * 10, b"\r\n" * 10 + GET + b"Prefer: "])
async def test_a_head_that_never_ends_is_refused_and_kept_nowhere(begin: bytes) -> None:
    """32 MB of it."""
    async with port() as api, api.peer() as peer:
        tracemalloc.start()
        try:
            await peer.say(begin)
            with suppress(ConnectionError):
                for _ in range(4000):
                    await peer.say(b"x" * 8192)
            assert tracemalloc.get_traced_memory()[1] < 4_000_000
            assert (await peer.answer())[0] == 431
        finally:
            tracemalloc.stop()


async def test_an_endless_head_behind_another_request_leaves_that_ones_answer_alone() -> None:
    async with port() as api, api.peer() as peer:
        await peer.say(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n" + GET + b"Prefer: " + b"x" * 3 * HEAD_BYTES)
        await asyncio.sleep(0)
        api.release.set()
        status, _, body = await peer.answer()
        assert (status, body["path"]) == (200, "/wait")
        assert await peer.closed() == b""


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"", None),
        (b"\r\n", None),
        (b"G", "request_timeout"),
        (GET, "request_timeout"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345", "request_timeout"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n", "request_timeout"),
        (GET + b"\r\n", None),
    ],
    ids=["nothing", "empty line", "letter", "head", "body", "chunks", "idle"],
)
async def test_what_does_not_come_in_time_ends(sent: bytes, code: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 0.2)
    async with port() as api, api.peer() as peer:
        await peer.say(sent)
        if sent.endswith(b"Host: x\r\n\r\n"):
            assert (await peer.answer())[0] == 200
        if code is not None:
            status, headers, problem = await peer.answer()
            assert (status, problem["code"], headers["connection"]) == (408, code, "close")
        assert await peer.closed() == b""


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("begin", "drop"),
    [
        (b"", b"\r\n"),
        (GET, b"a: b\r\n"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n", b"1"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n1\r\n"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n", b"a: b\r\n"),
    ],
    ids=["empty lines", "fields", "body", "chunks", "trailers"],
)
async def test_a_drop_now_and_then_winds_no_clock_up(begin: bytes, drop: bytes) -> None:
    async with port() as api, api.peer() as peer:

        async def drip() -> None:
            await peer.say(begin)
            while True:
                await peer.say(drop)
                await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drip())
        await peer.closed()
        dripping.cancel()


@pytest.mark.usefixtures("fast")
async def test_who_waits_for_an_answer_is_not_slow() -> None:
    async with port() as api, api.peer() as peer:
        await peer.say(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(3 * http_bounds.BODY_SECONDS)
        api.release.set()
        assert (await peer.answer())[0] == 200


@pytest.mark.usefixtures("fast")
async def test_a_peer_that_takes_nothing_of_its_answer_is_cut_off() -> None:
    async with port() as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.number, limit=1024)
        writer.write(b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n")
        # The reader stops taking after some kilobytes, as nobody asks it for any.
        await asyncio.sleep(5 * http_bounds.UNSENT_SECONDS)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(8_000_000), 10)
        writer.close()


async def test_a_slow_reader_that_takes_some_is_served_to_the_end(fast: None) -> None:
    async with port() as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.number, limit=1024)
        writer.write(b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        left = 8_000_000
        while left:
            left -= len(await asyncio.wait_for(reader.read(400_000), 5))
            await asyncio.sleep(http_bounds.UNSENT_SECONDS / 10)
        writer.close()


async def test_fields_after_a_body_are_bounded_and_not_the_requests() -> None:
    chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n"
    async with port() as api:
        async with api.peer() as peer:
            await peer.say(chunked + b"authorization: mine\r\n\r\n")
            status, _, body = await peer.answer()
            assert (status, body["fields"]) == (200, 2)
        async with api.peer() as peer:
            await peer.say(chunked + b"a: " + b"x" * 4 * HEAD_BYTES)
            assert (await peer.answer())[0] == 431
            assert await peer.closed() == b""


async def test_pipelined_requests_are_all_answered_in_their_order() -> None:
    async with port() as api, api.peer() as peer:
        asked = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(5000))
        saying = asyncio.create_task(peer.say(asked))
        paths = [(await peer.answer())[2]["path"] for _ in range(5000)]
        await saying
        assert paths == [f"/{number}" for number in range(5000)]


async def test_bodies_and_heads_may_meet_in_one_chunk() -> None:
    async with port() as api, api.peer() as peer:
        post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000
        one = post + head_of(HEAD_BYTES - 100)
        await peer.say(one * 3)
        answers = [await peer.answer() for _ in range(6)]
        assert [(status, body["bytes"]) for status, _, body in answers] == [(200, 60_000), (200, 0)] * 3


async def test_the_wait_for_a_turn_takes_no_memory() -> None:
    """14,000 requests of 18 bytes fit into one chunk of the network's."""
    async with port() as api, api.peer() as peer:
        await peer.say(b"GET /wait HTTP/1.1\r\n\r\n")
        tracemalloc.start()
        try:
            sending = asyncio.create_task(peer.say(b"GET / HTTP/1.1\r\n\r\n" * 200_000))
            await asyncio.wait({sending}, timeout=0.5)
            assert tracemalloc.get_traced_memory()[0] < 12_000_000
        finally:
            tracemalloc.stop()
            sending.cancel()
            api.release.set()


async def test_what_is_no_http_is_a_problem_too() -> None:
    async with port() as api, api.peer() as peer:
        await peer.say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        status, _, problem = await peer.answer()
        assert (status, problem["code"]) == (400, "invalid_http")
        assert await peer.closed() == b""


async def test_connections_of_one_address_are_counted() -> None:
    async with port(Peers(most_per_address=2)) as api, api.peer() as one, api.peer() as two:
        for peer in (one, two):
            await peer.say(GET + b"\r\n")
            assert (await peer.answer())[0] == 200
        async with api.peer() as three:
            status, headers, problem = await three.answer()
            assert (status, problem["code"], headers["retry-after"]) == (429, "too_many_connections", "2")
        one.writer.close()

        async def again() -> bool:
            async with api.peer() as peer:
                await peer.say(GET + b"\r\n")
                return (await peer.answer())[0] == 200

        await eventually(again)


async def test_connections_of_a_trusted_proxy_count_for_the_process_only() -> None:
    peers = Peers(most=3, most_per_address=1, trusted_proxies=("127.0.0.0/8",))
    async with port(peers) as api, api.peer() as one, api.peer() as two, api.peer() as three:
        for peer in (one, two, three):
            await peer.say(GET + b"\r\n")
            assert (await peer.answer())[0] == 200
        async with api.peer() as four:
            status, _, problem = await four.answer()
            assert (status, problem["code"]) == (503, "unavailable")


@pytest.mark.parametrize(
    ("trusted", "forwarded", "client"),
    [
        ((), "203.0.113.7", "127.0.0.1"),
        (("198.51.100.1",), "203.0.113.7", "127.0.0.1"),
        (("127.0.0.1",), "203.0.113.7", "203.0.113.7"),
        (("127.0.0.0/8",), "9.9.9.9, 203.0.113.7", "203.0.113.7"),
        (("127.0.0.0/8", "10.0.0.0/8"), "9.9.9.9, 203.0.113.7, 10.1.2.3", "203.0.113.7"),
    ],
)
async def test_only_a_trusted_proxys_word_on_the_client_counts(
    trusted: tuple[str, ...], forwarded: str, client: str
) -> None:
    async with port(Peers(trusted_proxies=trusted)) as api, api.peer() as peer:
        await peer.say(GET + b"X-Forwarded-For: " + forwarded.encode() + b"\r\n\r\n")
        assert (await peer.answer())[2]["client"] == client


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("not an address", ""),
        ("", ""),
    ],
)
def test_who_counts_as_one(host: str, source: str) -> None:
    assert source_of(host) == source


def test_the_doorkeeper_forgets_who_has_left() -> None:
    doorkeeper = Doorkeeper(10, 2)
    for _ in range(100):
        assert doorkeeper.enter("203.0.113.7") is None
        doorkeeper.leave("203.0.113.7")
    assert not doorkeeper._open and not doorkeeper._total
