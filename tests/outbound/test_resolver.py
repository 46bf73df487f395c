"""Looking names up: hanging ones slow nobody else, failures are remembered for a moment, the machine's own names are known."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from covergate.outbound.client import could_not_connect, make_client, was_sent
from covergate.outbound.resolver import FAILURE_KEPT_SECONDS, FAILURES_KEPT, Resolver
from tests.support.dns_server import DnsServer, dns_server
from tests.support.http_server import answering, http_reply, serving
from tests.support.waiting import eventually


@pytest.fixture
def threads_that_hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A look-up in a thread holds the thread for as long as the test lasts."""
    over = threading.Event()

    def hang(*args: Any, **kwargs: Any) -> Any:
        over.wait(30)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield
    over.set()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def asking(dns: DnsServer, **more: Any) -> AsyncIterator[Resolver]:
    resolver = Resolver(servers=[dns.address], **more)
    try:
        yield resolver
    finally:
        await resolver.close()


async def addresses(resolver: Resolver, name: str) -> set[str]:
    return {found["host"] for found in await resolver.resolve(name)}


@pytest.mark.usefixtures("threads_that_hang")
async def test_names_that_hang_do_not_slow_one_that_does_not() -> None:
    """Resolved in threads, as few as uvloop's four hanging names stop every other host."""
    async with (
        serving(answering(http_reply())) as base,
        dns_server({"healthy.example": ("127.0.0.1",)}) as dns,
        asking(dns) as resolver,
        make_client(guarded=False, resolver=resolver) as client,
    ):
        url = base.replace("127.0.0.1", "healthy.example")
        hanging = [
            asyncio.create_task(client.send(client.build_request("POST", f"http://hang-{n}.example/")))
            for n in range(40)
        ]
        async with asyncio.timeout(2):
            while sum(name.startswith("hang") for name in dns.asked) < 40:
                await asyncio.sleep(0)
            for _ in range(5):
                assert (await client.send(client.build_request("GET", url))).status_code == 200
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_look_up_that_hangs_ends_in_time_and_nothing_was_sent() -> None:
    async with (
        dns_server({}) as dns,
        asking(dns, look_up_seconds=0.1) as resolver,
        make_client(guarded=False, resolver=resolver) as client,
    ):
        request = client.build_request("POST", "http://hang.example/")
        async with asyncio.timeout(2):
            with pytest.raises(httpx.HTTPError) as caught:
                await client.send(request)
    assert could_not_connect(caught.value)
    assert not was_sent(caught.value, request)
    assert not was_sent(caught.value)


@pytest.mark.parametrize("name", ["hang.example", "unknown.example"])
async def test_a_failure_is_remembered_for_a_moment(name: str) -> None:
    clock = Clock()
    async with dns_server({}) as dns, asking(dns, look_up_seconds=0.1, clock=clock) as resolver:
        with pytest.raises(OSError, match="looked up"):
            await resolver.resolve(name)
        asked = len(dns.asked)
        clock.now += FAILURE_KEPT_SECONDS - 0.1
        with pytest.raises(OSError, match="a moment ago"):
            await resolver.resolve(name)
        assert len(dns.asked) == asked
        dns.addresses = {name: ("127.0.0.9",)}
        clock.now += 0.2
        if not name.startswith("hang"):
            assert await addresses(resolver, name) == {"127.0.0.9"}
            assert await addresses(resolver, name) == {"127.0.0.9"}


async def test_no_more_failures_are_remembered_than_fit() -> None:
    clock = Clock()
    async with dns_server({}) as dns, asking(dns, clock=clock) as resolver:
        resolver._failed_until = {f"{n}.example": clock.now + 1 for n in range(FAILURES_KEPT)}
        for name, remembered in (("one.example", FAILURES_KEPT), ("two.example", 1)):
            with pytest.raises(OSError, match="looked up"):
                await resolver.resolve(name)
            assert len(resolver._failed_until) == remembered
            clock.now += 2


async def test_a_slow_answer_is_waited_for_even_after_quick_ones() -> None:
    """c-ares takes a server that was quick so far for broken after a quarter of a second."""
    quick = {f"{n}.example": ("127.0.0.1",) for n in range(30)}
    async with (
        dns_server(quick | {"slow.example": ("127.0.0.7",)}, {"slow.example": 0.6}) as dns,
        asking(dns) as resolver,
    ):
        for name in quick:
            await resolver.resolve(name)
        assert await addresses(resolver, "slow.example") == {"127.0.0.7"}


async def test_all_addresses_of_a_name_are_found() -> None:
    both = ("127.0.0.1", "2001:db8::1")
    async with dns_server({"both.example": both}) as dns, asking(dns) as resolver:
        assert await addresses(resolver, "both.example") == set(both)


async def test_the_machines_own_names_need_no_server() -> None:
    own = {"localhost", "anything.localhost"}
    for line in Path("/etc/hosts").read_text().splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        own |= {name for name in names if address.count(".") == 3}
    async with dns_server({}) as dns, asking(dns) as resolver:
        for name in own:
            assert await addresses(resolver, name)
    assert dns.asked == []


async def test_an_address_in_the_url_needs_no_look_up() -> None:
    async with (
        serving(answering(http_reply())) as base,
        dns_server({}) as dns,
        asking(dns) as resolver,
        make_client(guarded=False, resolver=resolver) as client,
    ):
        assert (await client.send(client.build_request("GET", base))).status_code == 200
        assert resolver._c_ares is None
    assert dns.asked == []


async def test_closing_ends_what_hangs() -> None:
    async with dns_server({}) as dns:
        resolver = Resolver(servers=[dns.address])
        looking = asyncio.create_task(resolver.resolve("hang.example"))
        await eventually(lambda: dns.asked, every=0)
        started = time.monotonic()
        await resolver.close()
        with pytest.raises(OSError, match="looked up"):
            await looking
        assert time.monotonic() - started < 2
        await resolver.close()
