"""Every way a call can end: a reply, or a typed error that says whether the call may have had an effect."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import aiohttp
import httpx
import pytest
import respx
from structlog.testing import capture_logs

from covergate.outbound.client import REPLY_LIMIT
from covergate.outbound.resolver import Resolver
from covergate.outbound.send_by import SendBy
from covergate.transport import transport as transport_module
from covergate.transport.transport import Transport, redact
from covergate.vendors.auth import HeaderAuth, TokenAuth
from covergate.vendors.errors import (
    ErrorKind,
    VendorAuthFailed,
    VendorBroken,
    VendorError,
    VendorRateLimited,
    VendorUnavailable,
)
from covergate.vendors.flow import Call, Flow
from covergate.vendors.vendor import AnswersBy, Capabilities, Connection, ServiceDates, Vendor
from tests.support.dns_server import dns_server
from tests.support.http_server import answering, http_reply, request_head, serving

BASE = "https://vendor.example/api"


class SampleConnection(Connection):
    key: str = "raw-key"


def no_flow(*_: Any) -> Flow:
    raise NotImplementedError


def make_vendor(authenticate: Callable[[Any], httpx.Auth] | None = None, **more: Any) -> Vendor:
    return Vendor(
        name=more.pop("name", "sample"),
        title="Sample",
        docs_url="https://vendor.example/docs",
        capabilities=Capabilities((AnswersBy.POLL,), (1, 2), ServiceDates.ANY, True, False, "none"),
        connection=SampleConnection,
        authenticate=authenticate or (lambda connection: HeaderAuth({"X-ApiKey": connection.key})),
        submit=no_flow,
        **more,
    )


def at(base_url: str) -> SampleConnection:
    return SampleConnection(base_url=base_url)


@asynccontextmanager
async def over(handler: Any, vendor: Vendor | None = None) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """`send(call, …)` over a mock transport."""
    async with Transport(allow_private_network=False, wire=httpx.MockTransport(handler)) as transport:
        sample = vendor or make_vendor()

        async def send(call: Call, pointer: str = "/exchanges/exc_1", **more: Any) -> Any:
            return await transport.send(sample, "live", at(BASE), call, pointer, **more)

        yield send


async def send_to(base_url: str, call: Call, *, mode: str = "test", allow_private_network: bool = False) -> Any:
    async with Transport(allow_private_network=allow_private_network) as transport:
        return await transport.send(make_vendor(), mode, at(base_url), call, "/exchanges/exc_1")


async def test_no_more_is_kept_of_idle_accounts_than_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "MOST_ACCOUNTS", 3)
    arrived, answer = asyncio.Event(), asyncio.Event()

    async def reply(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/slow"):
            arrived.set()
            await answer.wait()
        return httpx.Response(200, json={})

    wire, vendor = httpx.MockTransport(reply), make_vendor()
    async with Transport(allow_private_network=False, wire=wire) as transport, asyncio.TaskGroup() as tasks:

        async def send(call: Call, account: str = "") -> Any:
            return await transport.send(vendor, "live", at(BASE), call, "", account=account)

        slow = tasks.create_task(send(Call("GET", "/slow"), account="vac_slow"))
        await arrived.wait()
        for number in range(20):
            await send(Call("GET", "/quick"), account=f"vac_{number}")
            await send(Call("GET", "/quick"))
        assert {account for _, _, account in transport._auths} == {"", "vac_slow", "vac_18", "vac_19"}
        assert {place for place, _ in transport._clients} == set(transport._auths)
        answer.set()
        assert (await slow).status == 200


class TestRequests:
    async def test_json_params_and_headers(self) -> None:
        router = respx.Router()
        router.post(f"{BASE}/v2/checks", params={"id": "7"}, json={"a": 1}).respond(201, json={"id": "x"})
        async with over(router.async_handler) as send:
            reply = await send(Call("POST", "/v2/checks", json={"a": 1}, params={"id": "7"}, headers={"Env": "T"}))
        sent = router.calls.last.request
        assert sent.headers["env"] == "T"
        assert sent.headers["x-apikey"] == "raw-key"
        assert sent.headers["user-agent"].startswith("CoverGate/")
        assert (reply.status, reply.body, reply.pointer) == (201, {"id": "x"}, "/exchanges/exc_1")
        assert reply.at.tzinfo is UTC
        assert abs(reply.at - datetime.now(UTC)) < timedelta(seconds=5)

    async def test_form_and_multipart(self) -> None:
        seen: list[httpx.Request] = []

        def note(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return httpx.Response(200, json={})

        async with over(note) as send:
            await send(Call("POST", "/a", form={"x": "1", "y": "ü"}))
            await send(Call("POST", "/a", form={"x": "1"}, multipart=True))
        assert seen[0].content == b"x=1&y=%C3%BC"
        assert seen[1].headers["content-type"].startswith("multipart/form-data; boundary=")
        assert b'name="x"\r\n\r\n1\r\n' in seen[1].content

    async def test_a_base_url_may_end_in_a_slash(self) -> None:
        router = respx.Router()
        router.get(f"{BASE}/me").respond(200, json={})
        async with Transport(allow_private_network=False, wire=httpx.MockTransport(router.async_handler)) as transport:
            await transport.send(make_vendor(), "live", at(BASE + "/"), Call("GET", "/me"), "")

    async def test_a_request_that_cannot_be_built_was_not_sent(self) -> None:
        async with over(lambda request: httpx.Response(200, json={})) as send:
            with pytest.raises(VendorBroken) as caught:
                await send(Call("POST", "/x", json={"a": object()}))
        assert not caught.value.sent

    async def test_multipart_arrives_whole_over_a_real_connection(self) -> None:
        bodies: list[bytes] = []

        async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await request_head(reader)
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            bodies.append(await reader.readexactly(int(length.split(b":")[1])))
            writer.write(http_reply(b"{}"))
            await writer.drain()

        async with serving(read) as base:
            await send_to(base, Call("POST", "/users/sso", form={"code": "abc"}, multipart=True))
        assert b'name="code"\r\n\r\nabc\r\n' in bodies[0]

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    async def test_a_committing_call_must_not_be_one_that_aiohttp_repeats(self, method: str) -> None:
        async with over(lambda request: httpx.Response(200, json={})) as send:
            with pytest.raises(ValueError, match="committing call"):
                await send(Call(method, "/x", commits=True))


class TestReplies:
    @pytest.mark.parametrize("status", [200, 201, 202, 207, 400, 402, 404, 409, 422])
    async def test_2xx_and_most_4xx_are_replies(self, status: int) -> None:
        def reply(request: httpx.Request) -> httpx.Response:
            return httpx.Response(status, json={"a": "ü"}, headers={"X-Trace": "7"})

        async with over(reply) as send:
            got = await send(Call("GET", "/x"))
        assert got.status == status
        assert got.body == {"a": "ü"}
        assert got.headers["x-trace"] == "7"

    async def test_a_4xx_need_not_be_json(self) -> None:
        async with over(lambda request: httpx.Response(400, text="bad member")) as send:
            reply = await send(Call("GET", "/x"))
        assert (reply.body, reply.content) == (None, b"bad member")

    @pytest.mark.parametrize("status", [202, 204])
    async def test_some_2xx_may_be_empty(self, status: int) -> None:
        async with over(lambda request: httpx.Response(status)) as send:
            assert (await send(Call("GET", "/x"))).body is None

    @pytest.mark.parametrize(
        ("status", "body"), [(200, ""), (201, " "), (200, "<html>"), (202, "<html>"), (200, '{"a":'), (302, "{}")]
    )
    async def test_an_unreadable_2xx_and_a_redirect_are_broken_and_kept(self, status: int, body: str) -> None:
        def reply(request: httpx.Request) -> httpx.Response:
            return httpx.Response(status, text=body, headers={"location": f"{BASE}/y"})

        async with over(reply) as send:
            with pytest.raises(VendorBroken) as caught:
                await send(Call("GET", "/x"))
        assert caught.value.sent
        assert caught.value.reply is not None
        assert caught.value.reply.content == body.encode()

    @pytest.mark.parametrize(
        ("status", "expected", "sent"),
        [
            (401, VendorAuthFailed, False),
            (403, VendorAuthFailed, False),
            (408, VendorUnavailable, True),
            (425, VendorUnavailable, False),
            (429, VendorRateLimited, False),
            (500, VendorUnavailable, True),
            (502, VendorUnavailable, True),
            (504, VendorUnavailable, True),
        ],
    )
    async def test_statuses_that_are_errors(self, status: int, expected: type[VendorError], sent: bool) -> None:
        async with over(lambda request: httpx.Response(status, text="why")) as send:
            with pytest.raises(expected) as caught:
                await send(Call("POST", "/x", commits=True))
        assert caught.value.sent is sent
        assert caught.value.reply is not None
        assert (caught.value.reply.status, caught.value.reply.content) == (status, b"why")

    async def test_retry_after_is_handed_on(self) -> None:
        async with over(lambda request: httpx.Response(429, headers={"Retry-After": "120"})) as send:
            with pytest.raises(VendorRateLimited) as caught:
                await send(Call("GET", "/x"))
        assert caught.value.retry_after == 120

    @pytest.mark.parametrize("packed", [False, True])
    async def test_a_body_over_the_limit_is_broken(self, packed: bool) -> None:
        body = b'"' + b"0" * REPLY_LIMIT + b'"'
        bomb = http_reply(gzip.compress(body), "Content-Encoding: gzip") if packed else http_reply(body)
        async with serving(answering(bomb)) as base:
            with pytest.raises(VendorBroken) as caught:
                await send_to(base, Call("POST", "/x", commits=True))
        assert caught.value.reason == "reply_too_large"
        assert caught.value.sent

    async def test_a_body_of_the_limit_is_read(self) -> None:
        body = b'"' + b"0" * (REPLY_LIMIT - 2) + b'"'
        async with serving(answering(http_reply(gzip.compress(body), "Content-Encoding: gzip"))) as base:
            assert (await send_to(base, Call("GET", "/x"))).content == body


class TestNothingCame:
    async def test_a_refused_connection_was_not_sent(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            base = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(VendorUnavailable) as caught:
            await send_to(base, Call("POST", "/x", commits=True))
        assert (caught.value.reason, caught.value.sent) == ("no_connection", False)

    @pytest.mark.parametrize("failures", [0, 2, 3])
    async def test_only_what_never_connected_is_tried_again_and_at_most_twice(self, failures: int) -> None:
        tries = 0

        def flaky(request: httpx.Request) -> httpx.Response:
            nonlocal tries
            tries += 1
            if tries <= failures:
                raise httpx.ConnectTimeout("") from aiohttp.ConnectionTimeoutError()
            return httpx.Response(200, json={})

        async with over(flaky) as send:
            if failures < 3:
                assert (await send(Call("POST", "/x", commits=True))).ok
                assert tries == failures + 1
            else:
                with pytest.raises(VendorUnavailable) as caught:
                    await send(Call("POST", "/x", commits=True))
                assert not caught.value.sent
                assert tries == 3

    @pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", b"\x00garbage\r\n\r\n"])
    async def test_sent_then_cut_may_have_had_an_effect_and_is_not_repeated(self, first: bytes) -> None:
        requests = 0

        async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal requests
            await request_head(reader)
            requests += 1
            writer.write(first)
            await writer.drain()

        async with serving(cut) as base:
            with pytest.raises(VendorUnavailable) as caught:
                await send_to(base, Call("POST", "/x", json={}, commits=True))
        assert caught.value.sent
        assert requests == 1

    @pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\n\r\n{"])
    async def test_a_hanging_vendor_is_left_after_the_calls_timeout(self, first: bytes) -> None:
        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_head(reader)
            while True:
                writer.write(first)  # drip by drip: no single read ever times out
                await writer.drain()
                if reader.at_eof():
                    return
                await asyncio.sleep(0.01)

        async with serving(hang) as base:
            async with asyncio.timeout(5):
                with pytest.raises(VendorUnavailable) as caught:
                    await send_to(base, Call("POST", "/x", commits=True, timeout=0.5))
        assert (caught.value.reason, caught.value.sent) == ("timeout", True)

    async def test_an_exception_of_any_kind_becomes_a_typed_error(self) -> None:
        def raises(request: httpx.Request) -> httpx.Response:
            raise RuntimeError("Jane Sample 000123")

        async with over(raises) as send:
            with pytest.raises(VendorUnavailable) as caught:
                await send(Call("GET", "/x"))
        assert caught.value.sent
        assert "Jane" not in str(caught.value)

    async def test_past_not_after_nothing_is_sent(self) -> None:
        seen: list[httpx.Request] = []

        def note(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return httpx.Response(200, json={})

        now = asyncio.get_running_loop().time()
        async with over(note) as send:
            with pytest.raises(VendorUnavailable) as caught:
                await send(Call("POST", "/x", commits=True), not_after=now - 1)
            assert (caught.value.reason, caught.value.sent) == ("too_late_to_send", False)
            await send(Call("POST", "/x", commits=True), not_after=now + 60)
        assert len(seen) == 1


class TestWhatIsOurs:
    """What this process stopped, or was late for itself, says nothing about the vendor."""

    @staticmethod
    @asynccontextmanager
    async def counting(
        handler: Any, vendor: Vendor | None = None
    ) -> AsyncIterator[tuple[Callable[..., Awaitable[Any]], list[VendorError | None]]]:
        ends: list[VendorError | None] = []
        async with Transport(
            allow_private_network=True,
            ended=lambda vendor, mode, error, account: ends.append(error),
            wire=httpx.MockTransport(handler),
        ) as transport:

            async def send(call: Call, **more: Any) -> Any:
                return await transport.send(vendor or make_vendor(), "live", at(BASE), call, "", **more)

            yield send, ends

    async def test_a_call_that_came_too_late(self) -> None:
        seen: list[httpx.Request] = []

        def note(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return httpx.Response(200, json={})

        async with self.counting(note) as (send, ends):
            with pytest.raises(VendorUnavailable) as caught:
                await send(Call("POST", "/x", commits=True), not_after=SendBy.within(-1))
            assert (caught.value.reason, caught.value.sent, caught.value.ours) == ("too_late_to_send", False, True)
            assert (seen, ends) == ([], [])
            await send(Call("POST", "/x", commits=True), not_after=SendBy.within(5))
            assert (len(seen), ends) == (1, [None])

    async def test_a_machine_that_was_paused_while_the_token_came_does_not_send(self) -> None:
        """Five seconds have passed by the wall clock alone: the loop's stood still with the machine."""
        wall = 1000.0
        paths: list[str] = []

        def pausing(request: httpx.Request) -> httpx.Response:
            nonlocal wall
            paths.append(request.url.path)
            wall += 6
            return httpx.Response(200, json={"access_token": "t"})

        vendor = make_vendor(lambda connection: TokenAuth(f"{BASE}/token", sends="json", identity="i", secret="s"))
        async with self.counting(pausing, vendor) as (send, ends):
            with pytest.raises(VendorUnavailable) as caught:
                await send(Call("POST", "/x", commits=True), not_after=SendBy.within(5, wall_clock=lambda: wall))
        assert (caught.value.reason, caught.value.sent, caught.value.ours) == ("too_late_to_send", False, True)
        assert (paths, ends) == (["/api/token"], [])

    async def test_a_request_that_cannot_be_built(self) -> None:
        async with self.counting(lambda request: httpx.Response(200, json={})) as (send, ends):
            with pytest.raises(VendorBroken) as caught:
                await send(Call("POST", "/x", json={"a": object()}))
        assert (caught.value.sent, caught.value.ours, ends) == (False, True, [])

    async def test_no_file_left_for_a_connection(self) -> None:
        def exhausted(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("") from OSError(errno.EMFILE, "too many open files")

        async with self.counting(exhausted) as (send, ends):
            with pytest.raises(VendorUnavailable) as caught:
                await send(Call("GET", "/x"))
        assert (caught.value.reason, caught.value.ours, ends) == ("out_of_sockets", True, [])

    async def test_a_timeout_that_came_late_because_this_process_stood_still(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transport_module, "FROZEN_SECONDS", 0.02)

        async def freeze(request: httpx.Request) -> httpx.Response:
            time.sleep(0.1)  # noqa: ASYNC251 – standing still is the point
            await asyncio.Event().wait()
            raise AssertionError

        async with self.counting(freeze) as (send, ends):
            with pytest.raises(VendorUnavailable) as caught:
                await send(Call("POST", "/x", commits=True, timeout=0.05))
        assert (caught.value.reason, caught.value.sent, caught.value.ours) == ("timeout", True, True)
        assert ends == []

    @pytest.mark.parametrize(
        "failure", [httpx.ConnectTimeout("reset by peer"), RuntimeError(), httpx.Response(503), httpx.Response(408)]
    )
    async def test_everything_else_is_the_vendors(self, failure: Any) -> None:
        def fail(request: httpx.Request) -> httpx.Response:
            if isinstance(failure, httpx.Response):
                return failure
            raise failure

        async with self.counting(fail) as (send, ends):
            with pytest.raises(VendorUnavailable) as caught:
                await send(Call("POST", "/x", commits=True))
        assert (caught.value.ours, ends) == (False, [caught.value])

    async def test_a_vendor_that_cannot_be_connected_to_until_it_is_too_late(self) -> None:
        """The pause before another try would end past the time to send: that is not our lateness."""

        async def unreachable(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectTimeout("") from aiohttp.ConnectionTimeoutError()

        async with self.counting(unreachable) as (send, ends):
            with pytest.raises(VendorUnavailable) as caught:
                await send(Call("POST", "/x", commits=True), not_after=SendBy.within(0.15))
        assert (caught.value.reason, caught.value.sent, caught.value.ours) == ("no_connection", False, False)
        assert ends == [caught.value]

    async def test_any_number_of_slow_submissions_is_under_way_at_once(self) -> None:
        """The lane is the limit. A limit of connections below it made submissions wait until they were too late."""
        waiting, all_there, release = 0, asyncio.Event(), asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal waiting
            await request_head(reader)
            waiting += 1
            if waiting == 120:
                all_there.set()
            await release.wait()
            writer.write(http_reply())
            await writer.drain()

        ends: list[VendorError | None] = []
        async with serving(slow) as base, Transport(allow_private_network=False) as transport:
            transport.ended = lambda vendor, mode, error, _account: ends.append(error)
            call = Call("POST", "/x", commits=True)
            sending = [
                asyncio.create_task(
                    transport.send(make_vendor(), "test", at(base), call, "", not_after=SendBy.within(5))
                )
                for _ in range(120)
            ]
            await asyncio.wait_for(all_there.wait(), 5)
            release.set()
            assert all(reply.ok for reply in await asyncio.gather(*sending))
        assert ends == [None] * 120


async def test_a_vendor_whose_name_hangs_does_not_delay_another() -> None:
    hanging, healthy = make_vendor(name="hanging"), make_vendor(name="healthy")
    async with (
        serving(answering(http_reply())) as base,
        dns_server({"healthy.example": ("127.0.0.1",)}) as dns,
        Transport(allow_private_network=True, resolver=Resolver(servers=[dns.address])) as transport,
    ):
        port = base.rpartition(":")[2]
        sending = [
            asyncio.create_task(transport.send(hanging, "live", at(f"http://hang-{n}.example"), Call("GET", "/x"), ""))
            for n in range(40)
        ]
        async with asyncio.timeout(2):
            while len(dns.asked) < 80:
                await asyncio.sleep(0)
            url = f"http://healthy.example:{port}"
            assert (await transport.send(healthy, "live", at(url), Call("GET", "/x"), "")).ok
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)


async def test_a_name_that_cannot_be_looked_up_is_asked_for_once_and_nothing_was_sent() -> None:
    async with (
        dns_server({}) as dns,
        Transport(allow_private_network=True, resolver=Resolver(servers=[dns.address])) as transport,
    ):
        call = Call("POST", "/x", commits=True)
        with pytest.raises(VendorUnavailable) as caught:
            await transport.send(make_vendor(), "live", at("http://unknown.example"), call, "")
    assert (caught.value.reason, caught.value.sent, caught.value.ours) == ("no_address", False, False)
    assert dns.asked.count("unknown.example") == 2  # IPv4 and IPv6


async def test_errors_carry_their_kind() -> None:
    """What is counted in a row: a 503 is not an unreadable reply."""
    kinds = {
        401: ErrorKind.AUTH_FAILED,
        429: ErrorKind.RATE_LIMITED,
        503: ErrorKind.UNAVAILABLE,
        408: ErrorKind.UNAVAILABLE,
        200: ErrorKind.UNREADABLE,
    }
    for status, kind in kinds.items():
        async with over(lambda request, status=status: httpx.Response(status, text="<html>")) as send:
            with pytest.raises(VendorError) as caught:
                await send(Call("POST", "/x", commits=True))
        assert caught.value.kind is kind


def test_the_same_error_for_another_call() -> None:
    error = VendorRateLimited("http_429", retry_after=9)
    error.ours = True
    copy = error.copied()
    assert copy is not error
    assert (type(copy), copy.args, vars(copy)) == (type(error), error.args, vars(error))


class TestWhoIsReached:
    async def test_live_mode_does_not_reach_local_addresses(self) -> None:
        async with serving(answering(http_reply(b"{}"))) as base:
            with pytest.raises(VendorUnavailable) as caught:
                await send_to(base, Call("GET", "/x"), mode="live")
            assert (caught.value.reason, caught.value.sent) == ("address_not_allowed", False)
            assert (await send_to(base, Call("GET", "/x"), mode="live", allow_private_network=True)).ok
            assert (await send_to(base, Call("GET", "/x"), mode="test")).ok

    async def test_one_vendor_that_hangs_does_not_delay_another_even_on_the_same_host(self) -> None:
        in_flight = 0
        all_hang = asyncio.Event()

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal in_flight
            if (await request_head(reader)).startswith(b"GET /quick"):
                writer.write(http_reply(b"{}"))
                await writer.drain()
                return
            in_flight += 1
            if in_flight == 50:
                all_hang.set()
            await reader.read()

        slow, quick = make_vendor(name="slow"), make_vendor(name="quick")
        async with serving(hang) as base, Transport(allow_private_network=False) as transport:
            sending = [
                asyncio.create_task(transport.send(slow, "test", at(base), Call("GET", "/slow"), ""))
                for _ in range(100)
            ]
            await asyncio.wait_for(all_hang.wait(), 10)
            async with asyncio.timeout(2):
                assert (await transport.send(quick, "test", at(base), Call("GET", "/quick"), "")).ok
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)

    @pytest.mark.parametrize(("commits", "idle", "connections"), [(True, 1.5, 1), (True, 2.5, 2), (False, 2.5, 1)])
    async def test_a_committing_call_takes_no_connection_that_idled_for_two_seconds(
        self, commits: bool, idle: float, connections: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened = 0

        async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal opened
            opened += 1
            await answering(http_reply(b"{}"))(reader, writer)

        call = Call("POST", "/x", commits=commits)
        async with serving(count) as base, Transport(allow_private_network=False) as transport:
            await transport.send(make_vendor(), "test", at(base), call, "")
            monkeypatch.setattr(aiohttp.connector, "monotonic", lambda: time.monotonic() + idle)
            await transport.send(make_vendor(), "test", at(base), call, "")
        assert opened == connections

    async def test_committing_calls_do_not_take_the_others_connections(self) -> None:
        opened = 0

        async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal opened
            opened += 1
            await answering(http_reply(b"{}"))(reader, writer)

        async with serving(count) as base, Transport(allow_private_network=False) as transport:
            for commits in (False, False, True, True):
                await transport.send(make_vendor(), "test", at(base), Call("POST", "/x", commits=commits), "")
        assert opened == 2


class TestAuthentication:
    def vendor(self, **more: Any) -> Vendor:
        def authenticate(connection: Any) -> httpx.Auth:
            url = connection.base_url + "/oauth/token"
            return TokenAuth(url, sends="json", identity="id", secret="s", **more)

        return make_vendor(authenticate)

    async def test_a_renewed_token_that_is_refused_too_is_an_auth_failure(self) -> None:
        router = respx.Router(assert_all_called=False)
        tokens = router.post(f"{BASE}/oauth/token").respond(200, json={"access_token": "t"})
        calls = router.post(f"{BASE}/x").respond(401, json={"error": "no"})
        async with over(router.async_handler, self.vendor()) as send:
            with pytest.raises(VendorAuthFailed) as caught:
                await send(Call("POST", "/x", commits=True))
        assert (tokens.call_count, calls.call_count) == (2, 2)
        assert caught.value.reply is not None
        assert caught.value.reply.body == {"error": "no"}

    async def test_a_status_that_the_auth_names_is_an_auth_failure(self) -> None:
        router = respx.Router()
        router.post(f"{BASE}/oauth/token").respond(200, json={"access_token": "t"})
        router.get(f"{BASE}/x").respond(402)
        async with over(router.async_handler, self.vendor(refused=frozenset({401, 402}))) as send:
            with pytest.raises(VendorAuthFailed):
                await send(Call("GET", "/x"))

    async def test_the_token_is_kept_over_calls(self) -> None:
        router = respx.Router()
        tokens = router.post(f"{BASE}/oauth/token").respond(200, json={"access_token": "t"})
        router.get(f"{BASE}/x").respond(200, json={})
        async with over(router.async_handler, self.vendor()) as send:
            await asyncio.gather(*(send(Call("GET", "/x")) for _ in range(50)))
            await send(Call("GET", "/x"))
        assert tokens.call_count == 1

    async def test_a_changed_connection_authenticates_anew(self) -> None:
        keys: list[str] = []

        def note(request: httpx.Request) -> httpx.Response:
            keys.append(request.headers["x-apikey"])
            return httpx.Response(200, json={})

        async with Transport(allow_private_network=False, wire=httpx.MockTransport(note)) as transport:
            for key in ("one", "one", "two"):
                connection = SampleConnection(base_url=BASE, key=key)
                await transport.send(make_vendor(), "live", connection, Call("GET", "/x"), "")
        assert keys == ["one", "one", "two"]

    @pytest.mark.parametrize("hangs_at", ["first", "renewal"])
    async def test_a_call_whose_token_never_came_was_not_sent(self, hangs_at: str) -> None:
        tokens = 0

        async def handler(request: httpx.Request) -> httpx.Response:
            nonlocal tokens
            if request.url.path.endswith("/oauth/token"):
                tokens += 1
                if hangs_at == "first" or tokens == 2:
                    await asyncio.Event().wait()
                return httpx.Response(200, json={"access_token": "t"})
            return httpx.Response(401)

        async with over(handler, self.vendor()) as send:
            with pytest.raises(VendorUnavailable) as caught:
                await send(Call("POST", "/x", commits=True, timeout=0.05))
        assert (caught.value.reason, caught.value.sent) == ("timeout", False)

    async def test_a_token_endpoint_that_cannot_be_reached_leaves_the_call_unsent(self) -> None:
        async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_head(reader)

        async with serving(cut) as base, Transport(allow_private_network=False) as transport:
            with pytest.raises(VendorUnavailable) as caught:
                await transport.send(self.vendor(), "test", at(base), Call("POST", "/x", commits=True), "")
        assert not caught.value.sent


async def test_each_call_leaves_one_line_without_bodies_or_queries() -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        return httpx.Response(500 if request.url.path.endswith("/bad") else 200, json={"name": "Jane"})

    with capture_logs() as lines:
        async with over(reply) as send:
            await send(Call("GET", "/good", params={"external_id": "att_1"}))
            with pytest.raises(VendorUnavailable):
                await send(Call("POST", "/bad", json={"name": "Jane"}))
    assert all(isinstance(line.pop("duration_ms"), int) for line in cast(list[dict[str, Any]], lines))
    common = {"event": "vendor_call", "vendor": "sample", "mode": "live"}
    assert lines == [
        common | {"call": "GET /good", "status": 200, "sent": True, "log_level": "info"},
        common
        | {"call": "POST /bad", "status": 500, "sent": True, "log_level": "warning"}
        | {"error": "VendorUnavailable", "reason": "http_500"},
    ]


class TestRedact:
    SECRETS = frozenset({"token", "access_token"})

    def test_values_of_secret_keys_are_replaced_wherever_they_stand(self) -> None:
        content = json.dumps(
            {
                "access_token": "a",
                "data": [{"token": {"token": "b", "expiry": 7}, "id": 5}, [{"token": 9}]],
                "a token": "kept",
                "note": "token",
            }
        ).encode()
        assert json.loads(redact(content, self.SECRETS)) == {
            "access_token": "[redacted]",
            "data": [{"token": "[redacted]", "id": 5}, [{"token": "[redacted]"}]],
            "a token": "kept",
            "note": "token",
        }

    @pytest.mark.parametrize(
        "content", [b'{ "a" : 1.0 }', b'{"token":null}', b"[]", b"token=abc", b"", b"\xff\xfe", b"7"]
    )
    def test_the_same_bytes_where_there_is_nothing_to_replace(self, content: bytes) -> None:
        assert redact(content, self.SECRETS) == content

    @pytest.mark.parametrize("depth", [200, 1000])
    def test_deep_nesting(self, depth: int) -> None:
        content = b'{"a":' * depth + b'{"token":"s3cret"}' + b"}" * depth
        assert b"s3cret" not in redact(content, self.SECRETS)
