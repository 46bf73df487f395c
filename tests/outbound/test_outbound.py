"""Going out: what the guard refuses, what is known of failed requests, how much is read, what is not carried over."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import socket
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from covergate.outbound.address_guard import ForbiddenAddress, check_url, is_public
from covergate.outbound.body import ReplyTooLarge, UnreadableReply, read_capped, read_start
from covergate.outbound.client import (
    NOT_AFTER,
    HttpClient,
    HttpResponse,
    causes,
    forbidden,
    make_client,
    retry_after,
    was_sent,
)
from covergate.outbound.resolver import Resolver
from covergate.outbound.send_by import SendBy, TooLate, earliest
from tests.support.dns_server import dns_server
from tests.support.http_server import answering, request_head, serving
from tests.support.http_server import http_reply as reply


async def get(client: HttpClient, url: str) -> HttpResponse:
    return await client.send(client.build_request("GET", url))


@asynccontextmanager
async def stream(client: HttpClient, url: str) -> AsyncIterator[HttpResponse]:
    response = await client.send(client.build_request("GET", url), stream=True)
    try:
        yield response
    finally:
        await response.aclose()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "192.0.0.8",
        "192.0.0.200",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:c0a8:101::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8", "2002:808:808::1"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "0.0.0.0"],
)
async def test_the_guard_refuses_at_the_moment_of_connecting(host: str) -> None:
    connections: list[bytes] = []
    async with serving(answering(reply(), seen=connections)) as base, make_client(guarded=True) as client:
        request = client.build_request("GET", base.replace("127.0.0.1", host))
        with pytest.raises(httpx.HTTPError) as caught:
            await client.send(request)
    assert forbidden(caught.value)
    assert not was_sent(caught.value)
    assert not was_sent(caught.value, request)
    assert connections == []


@pytest.mark.parametrize(
    "addresses", [("10.0.0.5",), ("10.0.0.5", "192.168.0.9"), ("10.0.0.5", "fd00::1", "127.0.0.1")]
)
async def test_the_guard_refuses_a_name_that_resolves_to_private_addresses(addresses: tuple[str, ...]) -> None:
    async with dns_server({"partner.example": addresses}) as dns:
        resolver = Resolver(servers=[dns.address])
        async with make_client(guarded=True, resolver=resolver) as client:
            with pytest.raises(httpx.HTTPError) as caught:
                await get(client, "https://partner.example/hooks")
        await resolver.close()
    assert "partner.example" in dns.asked
    assert any(isinstance(cause, ForbiddenAddress) for cause in causes(caught.value))
    assert not was_sent(caught.value)


async def test_without_the_guard_local_addresses_are_reached() -> None:
    async with serving(answering(reply(b'{"a":1}'))) as base, make_client(guarded=False) as client:
        assert (await get(client, base)).json() == {"a": 1}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://partner.example/hooks?x=1", None),
        ("https://partner.example:8443/", None),
        ("https://8.8.8.8/", None),
        ("http://partner.example/", "must begin with https://"),
        ("ftp://partner.example/", "must begin with https://"),
        ("partner.example/hooks", "must begin with https://"),
        ("", "must begin with https://"),
        ("https:///hooks", "has no host"),
        ("https://jane:pw@partner.example/", "must not contain credentials"),
        ("https://jane@partner.example/", "must not contain credentials"),
        ("https://partner.example/#part", "must not contain a fragment"),
        ("https://partner.example/#", "must not contain a fragment"),
        ("https://partner.example:0/", "has an impossible port"),
        ("https://partner.example:99999/", "has an impossible port"),
        ("https://partner.example/\n", "is not a valid URL"),
        ("https://part ner.example/", "is not a valid URL"),
        ("https://partner..example/", "is not a valid URL"),
        ("https://[fe80::1%25eth0]/", "is not a valid URL"),
        ("https://münchen.example/", None),
        ("https://[2606:4700::1111]:8443/", None),
        ("https://" + "x" * 2050, "is longer than 2048 characters"),
        ("https://127.0.0.1/", "must not point at a private or local address"),
        ("https://127.1/", "must not point at a private or local address"),
        ("https://2130706433/", "must not point at a private or local address"),
        ("https://0x7f000001/", "must not point at a private or local address"),
        ("https://[::1]/", "must not point at a private or local address"),
        ("https://[::ffff:10.0.0.1]/", "must not point at a private or local address"),
        ("https://LOCALHOST./", "must not point at a private or local address"),
        ("https://a.localhost/", "must not point at a private or local address"),
        # Public by its number; on Azure it is the host that runs the machine.
        ("https://168.63.129.16/", "must not point at a private or local address"),
        ("https://[::ffff:168.63.129.16]/", "must not point at a private or local address"),
        ("https://161.26.0.7/", "must not point at a private or local address"),
        ("https://100.100.100.200/", "must not point at a private or local address"),
        ("https://169.254.169.254/", "must not point at a private or local address"),
        ("https://[fd00:ec2::254]/", "must not point at a private or local address"),
    ],
)
def test_check_url(url: str, reason: str | None) -> None:
    assert check_url(url, allow_private=False) == reason


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://partner.example/", None),
        ("https://partner.example:443/", None),
        ("https://partner.example:8443/", None),
        ("https://partner.example:22/", "must have one of the ports that are allowed: 443, 8443"),
        ("https://partner.example:80/", "must have one of the ports that are allowed: 443, 8443"),
    ],
)
def test_check_url_with_a_list_of_ports(url: str, reason: str | None) -> None:
    assert check_url(url, allow_private=False, ports=(443, 8443)) == reason
    assert check_url(url, allow_private=True, ports=(443, 8443)) is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/hooks", "http://localhost/", "https://10.0.0.1/"])
def test_check_url_with_private_networks_allowed(url: str) -> None:
    assert check_url(url, allow_private=True) is None
    assert check_url(url + "#x", allow_private=True) == "must not contain a fragment"


async def test_a_refused_connection_was_not_sent() -> None:
    async with make_client(guarded=False) as client:
        request = client.build_request("POST", f"http://127.0.0.1:{closed_port()}/", json={})
        with pytest.raises(httpx.HTTPError) as caught:
            await client.send(request)
    assert not was_sent(caught.value)
    assert not was_sent(caught.value, request)


@pytest.mark.parametrize("before_cutting", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"])
async def test_sent_then_cut_was_sent(before_cutting: bytes) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(before_cutting)
        await writer.drain()

    async with serving(cut) as base, make_client(guarded=False) as client:
        request = client.build_request("POST", base, json={})
        with pytest.raises(httpx.HTTPError) as caught:
            await client.send(request)
    assert was_sent(caught.value)
    assert was_sent(caught.value, request)


async def test_a_timeout_while_waiting_for_a_free_connection_was_not_sent() -> None:
    hanging = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        hanging.set()
        await reader.read()

    async with serving(hang) as base, make_client(guarded=False, limit_per_host=1) as client:
        first = client.build_request("POST", base, json={})
        second = client.build_request("POST", base, json={})
        sending = asyncio.create_task(client.send(first))
        await asyncio.wait_for(hanging.wait(), 5)
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.05):
                await client.send(second)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError) as canceled:
            await sending
    assert not was_sent(caught.value, second)
    assert was_sent(canceled.value, first)


async def test_not_after_is_kept_at_the_door_and_while_waiting_for_a_connection() -> None:
    seen: list[bytes] = []
    hanging = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request_head(reader))
        hanging.set()
        await reader.read()

    async with serving(hang) as base, make_client(guarded=False, limit_per_host=1) as client:
        late = client.build_request("POST", base, extensions={NOT_AFTER: SendBy.within(-0.001)})
        with pytest.raises(TooLate) as too_late:
            await client.send(late)
        sending = asyncio.create_task(client.send(client.build_request("POST", base)))
        await asyncio.wait_for(hanging.wait(), 5)
        waiting = client.build_request("POST", base, extensions={NOT_AFTER: SendBy.within(0.05)})
        async with asyncio.timeout(5):
            with pytest.raises(httpx.TimeoutException) as caught:
                await client.send(waiting)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
    assert not was_sent(too_late.value)
    assert not was_sent(caught.value)
    assert len(seen) == 1


async def test_a_machine_that_was_paused_while_it_connected_does_not_send() -> None:
    """The loop's clock stood still meanwhile; only the wall clock shows it."""
    seen: list[bytes] = []
    wall = 1000.0

    class Pausing(Resolver):
        async def resolve(self, *args: Any, **kwargs: Any) -> Any:
            nonlocal wall
            wall += 40
            return await super().resolve(*args, **kwargs)

    async with serving(answering(reply(), seen=seen)) as base:
        resolver = Pausing()
        async with make_client(guarded=False, resolver=resolver) as client:
            url = base.replace("127.0.0.1", "localhost")
            not_after = SendBy.within(5, wall_clock=lambda: wall)
            paused = client.build_request("POST", url, extensions={NOT_AFTER: not_after})
            with pytest.raises(TooLate) as caught:
                await client.send(paused)
            assert not was_sent(caught.value, paused)
            assert seen == []
            on_time = client.build_request("POST", base, extensions={NOT_AFTER: SendBy.within(5)})
            assert (await client.send(on_time)).status_code == 200
        await resolver.close()


@pytest.mark.parametrize(("loop_passed", "wall_passed", "late"), [(0, 0, False), (6, 0, True), (0, 6, True)])
async def test_either_clock_makes_a_request_late(loop_passed: float, wall_passed: float, late: bool) -> None:
    loop, wall = asyncio.get_running_loop(), 1000.0
    moment = SendBy(loop.time() + 5 - loop_passed, wall + 5, lambda: wall + wall_passed)
    assert (moment.seconds_left <= 0) is late
    assert earliest([None, moment, SendBy.within(60)]) is moment
    assert earliest([None]) is None


async def test_fifty_hanging_requests_to_one_host_do_not_delay_another() -> None:
    in_flight = 0
    all_hang = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal in_flight
        await request_head(reader)
        in_flight += 1
        if in_flight == 50:
            all_hang.set()
        await reader.read()

    async with (
        serving(hang) as slow,
        serving(answering(reply())) as quick,
        make_client(guarded=False, limit_per_host=50) as client,
    ):
        sending = [asyncio.create_task(get(client, slow)) for _ in range(120)]
        await asyncio.wait_for(all_hang.wait(), 10)
        async with asyncio.timeout(2):
            assert (await get(client, quick)).status_code == 200
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)


async def test_a_kept_connection_is_used_again_only_while_it_is_fresh() -> None:
    connections = 0

    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(reply())(reader, writer)

    async with serving(counting) as base:
        async with make_client(guarded=False, keepalive_seconds=15) as client:
            for _ in range(3):
                await get(client, base)
        assert connections == 1
        async with make_client(guarded=False, keepalive_seconds=0.001) as client:
            await get(client, base)
            idle_since = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() - idle_since < 0.002:
                await asyncio.sleep(0)
            await get(client, base)
        assert connections == 3


async def test_cookies_are_not_carried_and_redirects_not_followed() -> None:
    seen: list[bytes] = []
    replies = (
        reply(b"", "Location: /elsewhere", "Set-Cookie: session=jane; Path=/", status="302 Found"),
        reply(b"{}", "Set-Cookie: other=jane"),
    )
    async with serving(answering(*replies, seen=seen)) as base, make_client(guarded=False) as client:
        assert (await get(client, base)).status_code == 302
        assert (await get(client, base)).status_code == 200
        assert (await get(client, base)).status_code == 200
    assert len(seen) == 3
    assert all(b"cookie" not in request.lower() and request.startswith(b"GET / ") for request in seen)


async def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    async with serving(answering(reply())) as base, make_client(guarded=False) as client:
        assert (await get(client, base)).status_code == 200


BOMB = gzip.compress(b"0" * 50_000_000)


@pytest.mark.parametrize(
    ("body", "coding"),
    [(b"0" * 1001, "identity"), (BOMB, "gzip"), (zlib.compress(b"0" * 1001), "deflate")],
    ids=["plain", "gzip", "deflate"],
)
async def test_a_reply_over_the_limit_is_given_up(body: bytes, coding: str) -> None:
    message = reply(body, f"Content-Encoding: {coding}")
    async with serving(answering(message)) as base, make_client(guarded=False, reply_limit=1000) as client:
        with pytest.raises(ReplyTooLarge):
            await get(client, base)


@pytest.mark.parametrize(
    ("body", "coding", "decoded"),
    [
        (b"0" * 1000, "identity", b"0" * 1000),
        (gzip.compress(b"0" * 1000), "gzip", b"0" * 1000),
        (gzip.compress(b"one") + gzip.compress(b"two"), "gzip", b"onetwo"),
        (zlib.compress(b"abc"), "deflate", b"abc"),
        (b"", "gzip", b""),
    ],
    ids=["plain", "gzip", "two members", "deflate", "empty"],
)
async def test_a_reply_within_the_limit_is_decoded(body: bytes, coding: str, decoded: bytes) -> None:
    message = reply(body, f"Content-Encoding: {coding}")
    async with serving(answering(message)) as base, make_client(guarded=False, reply_limit=1000) as client:
        response = await get(client, base)
    assert (response.content, await response.aread()) == (decoded, decoded)
    assert "content-encoding" not in response.headers or coding == "identity"


@pytest.mark.parametrize(
    ("body", "coding"),
    [(b"not gzip", "gzip"), (gzip.compress(b"abc" * 100)[:-9], "gzip"), (b"x", "br"), (b"x", "gzip, gzip")],
    ids=["not gzip", "cut", "unknown", "stacked"],
)
async def test_a_body_that_cannot_be_decoded(body: bytes, coding: str) -> None:
    message = reply(body, f"Content-Encoding: {coding}")
    async with serving(answering(message)) as base, make_client(guarded=False, reply_limit=1000) as client:
        with pytest.raises(UnreadableReply):
            await get(client, base)


async def test_a_bomb_is_not_unpacked_past_the_limit() -> None:
    response = httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(BOMB))
    tracemalloc.start()
    try:
        with pytest.raises(ReplyTooLarge):
            await read_capped(response, 1000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


async def test_read_capped_of_a_streamed_reply() -> None:
    async with serving(answering(reply(b"abc"))) as base, make_client(guarded=False) as client:
        async with stream(client, base) as response:
            assert await read_capped(response, 3) == b"abc"
        async with stream(client, base) as response:
            with pytest.raises(ReplyTooLarge):
                await read_capped(response, 2)


async def test_read_start_reads_raw_bytes_of_an_endless_reply_and_closes() -> None:
    cut = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 1000)
                await writer.drain()
        finally:
            cut.set()

    async with serving(endless) as base, make_client(guarded=False) as client:
        async with stream(client, base) as response:
            assert await read_start(response, 2048) == b"x" * 2048
        await asyncio.wait_for(cut.wait(), 5)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("999999999999", 86_400),
        ("Sat, 01 Aug 2026 12:00:30 GMT", 30),
        ("Sat, 01 Aug 2026 11:00:00 GMT", 0),
        ("-5", None),
        ("soon", None),
        ("²", None),
        ("", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    now = datetime(2026, 8, 1, 12, tzinfo=UTC)
    assert retry_after({"retry-after": value}, now) == seconds
    assert retry_after({}, now) is None
