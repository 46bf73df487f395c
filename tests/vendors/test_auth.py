"""Tokens are fetched once, shared and renewed; a refused call is sent once more and no oftener."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from email.message import Message
from email.parser import BytesParser
from typing import Any, cast

import httpx
import pytest

from covergate.outbound.client import HttpAuth, HttpClient, make_client
from covergate.vendors.auth import HeaderAuth, TokenAuth
from covergate.vendors.errors import VendorAuthFailed, VendorBroken, VendorError, VendorRateLimited, VendorUnavailable
from tests.support.wire import Handler

BASE = "https://vendor.example"
TOKEN_URL = f"{BASE}/oauth/token"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class VendorSide:
    """Hands out `token-1`, `token-2`, … and takes only the latest."""

    def __init__(self) -> None:
        self.token_requests: list[httpx.Request] = []
        self.calls: list[str] = []
        self.token_reply: Callable[[int], httpx.Response] = lambda number: httpx.Response(
            200, json={"access_token": f"token-{number}", "token_type": "Bearer", "expires_in": 3600}
        )
        self.call_status: Callable[[str], int] = lambda token: 200 if token == self.latest else 401

    @property
    def latest(self) -> str:
        return f"Bearer token-{len(self.token_requests)}"

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        if str(request.url) == TOKEN_URL:
            self.token_requests.append(request)
            return self.token_reply(len(self.token_requests))
        token = request.headers["authorization"]
        self.calls.append(token)
        return httpx.Response(self.call_status(token), json={})

    def client(self, auth: HttpAuth) -> AbstractAsyncContextManager[Caller]:
        return calling(self, auth)


@dataclass
class Caller:
    """Calls the vendor, authenticated."""

    client: HttpClient
    auth: HttpAuth

    async def get(
        self, path: str, *, headers: dict[str, str] | None = None, auth: HttpAuth | None = None
    ) -> httpx.Response:
        request = self.client.build_request("GET", BASE + path, headers=headers)
        return await self.client.send(request, auth=auth or self.auth)

    async def post(self, path: str, *, json: Any = None) -> httpx.Response:
        return await self.client.send(self.client.build_request("POST", BASE + path, json=json), auth=self.auth)


@asynccontextmanager
async def calling(vendor: Handler, auth: HttpAuth) -> AsyncIterator[Caller]:
    async with make_client(guarded=False, wire=httpx.MockTransport(vendor)) as client:
        yield Caller(client, auth)


def token_auth(**changed: Any) -> TokenAuth:
    settings: dict[str, Any] = {"sends": "json", "identity": "id-1", "secret": "s3cret"}
    return TokenAuth(TOKEN_URL, **(settings | changed))


@pytest.fixture
def vendor() -> VendorSide:
    return VendorSide()


async def test_json_credentials(vendor: VendorSide) -> None:
    async with vendor.client(token_auth(sends="json")) as client:
        assert (await client.post("/x", json={"a": 1})).status_code == 200
    (request,) = vendor.token_requests
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/json"
    assert request.content == b'{"client_id":"id-1","client_secret":"s3cret"}'
    assert vendor.calls == ["Bearer token-1"]


async def test_client_credentials_with_basic(vendor: VendorSide) -> None:
    async with vendor.client(token_auth(sends="basic")) as client:
        await client.get("/x")
    (request,) = vendor.token_requests
    assert request.headers["authorization"] == httpx.BasicAuth("id-1", "s3cret")._auth_header
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.content == b"grant_type=client_credentials"


async def test_client_credentials_in_the_form(vendor: VendorSide) -> None:
    async with vendor.client(token_auth(sends="form")) as client:
        await client.get("/x")
    (request,) = vendor.token_requests
    assert "authorization" not in request.headers
    assert request.content == b"grant_type=client_credentials&client_id=id-1&client_secret=s3cret"


async def test_password_as_multipart(vendor: VendorSide) -> None:
    async with vendor.client(token_auth(sends="password")) as client:
        await client.get("/x")
    (request,) = vendor.token_requests
    form: Message = BytesParser().parsebytes(
        b"Content-Type: " + request.headers["content-type"].encode() + b"\r\n\r\n" + request.content
    )
    assert form.get_content_type() == "multipart/form-data"
    parts = cast(list[Message], form.get_payload())
    fields = {part.get_param("name", header="content-disposition"): part.get_payload() for part in parts}
    assert fields == {"username": "id-1", "password": "s3cret"}


async def test_fifty_concurrent_calls_share_one_fetch(vendor: VendorSide) -> None:
    async with vendor.client(token_auth()) as client:
        replies = await asyncio.gather(*(client.get(f"/{n}") for n in range(50)))
    assert {reply.status_code for reply in replies} == {200}
    assert len(vendor.token_requests) == 1
    assert vendor.calls == ["Bearer token-1"] * 50


async def test_a_token_is_renewed_a_margin_before_it_expires(vendor: VendorSide) -> None:
    clock = Clock()
    async with vendor.client(token_auth(clock=clock, margin=timedelta(seconds=60))) as client:
        await client.get("/x")
        clock.now += 3539
        await client.get("/x")
        assert len(vendor.token_requests) == 1
        clock.now += 1
        await client.get("/x")
    assert len(vendor.token_requests) == 2


@pytest.mark.parametrize("stated", [{}, {"expires_in": None}])
async def test_the_lifetime_that_was_configured_holds_where_none_is_stated(
    vendor: VendorSide, stated: dict[str, None]
) -> None:
    clock = Clock()
    vendor.token_reply = lambda number: httpx.Response(200, json={"access_token": f"token-{number}", **stated})
    async with vendor.client(token_auth(clock=clock, lifetime=timedelta(days=1))) as client:
        await client.get("/x")
        clock.now += 86_000
        await client.get("/x")
        assert len(vendor.token_requests) == 1
        clock.now += 400
        await client.get("/x")
    assert len(vendor.token_requests) == 2


async def test_a_token_that_lives_shorter_than_the_margin_is_still_used(vendor: VendorSide) -> None:
    clock = Clock()
    vendor.token_reply = lambda number: httpx.Response(200, json={"access_token": f"token-{number}", "expires_in": 30})
    async with vendor.client(token_auth(clock=clock)) as client:
        await client.get("/x")
        clock.now += 14
        await client.get("/x")
        assert len(vendor.token_requests) == 1
        clock.now += 1
        await client.get("/x")
    assert len(vendor.token_requests) == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_renewed_once_and_the_call_sent_once_more(vendor: VendorSide, status: int) -> None:
    vendor.call_status = lambda token: 200 if token == "Bearer token-2" else status
    async with vendor.client(token_auth()) as client:
        assert (await client.get("/x")).status_code == 200
    assert vendor.calls == ["Bearer token-1", "Bearer token-2"]


async def test_a_second_refusal_is_handed_on(vendor: VendorSide) -> None:
    vendor.call_status = lambda token: 401
    async with vendor.client(token_auth()) as client:
        assert (await client.get("/x")).status_code == 401
    assert len(vendor.calls) == 2


async def test_fifty_refused_calls_share_one_renewal(vendor: VendorSide) -> None:
    vendor.call_status = lambda token: 401 if token == "Bearer token-1" else 200
    async with vendor.client(token_auth()) as client:
        replies = await asyncio.gather(*(client.get(f"/{n}") for n in range(50)))
    assert {reply.status_code for reply in replies} == {200}
    assert len(vendor.token_requests) == 2


async def test_a_refusal_that_comes_late_does_not_drop_the_renewed_token(vendor: VendorSide) -> None:
    renewed = asyncio.Event()

    async def late_for_one(request: httpx.Request) -> httpx.Response:
        old = request.headers.get("authorization") == "Bearer token-1"
        if old and request.url.path == "/late":
            await renewed.wait()
        return await vendor(request)

    vendor.call_status = lambda token: 401 if token == "Bearer token-1" else 200
    async with calling(late_for_one, token_auth()) as client:
        late = asyncio.create_task(client.get("/late"))
        assert (await client.get("/x")).status_code == 200
        renewed.set()
        assert (await late).status_code == 200
    assert len(vendor.token_requests) == 2


@pytest.mark.parametrize("good_for", [1, 2, 5])
async def test_a_token_that_other_calls_have_used_up_is_no_refusal_of_the_credentials(
    vendor: VendorSide, good_for: int
) -> None:
    def used(token: str) -> int:
        return 200 if vendor.calls.count(token) <= good_for else 401

    vendor.call_status = used
    async with vendor.client(token_auth()) as client:
        replies = await asyncio.gather(*(client.get(f"/{n}") for n in range(20)))
    assert {reply.status_code for reply in replies} == {200}


async def test_a_call_that_is_refused_with_a_token_of_its_own_is_refused(vendor: VendorSide) -> None:
    """Others work all the time with the same credentials."""

    async def refusing_one(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/forbidden":
            if request.headers["authorization"] != "Bearer token-1":
                await client.get("/x")
            vendor.calls.append("/forbidden")
            return httpx.Response(403)
        return await vendor(request)

    async with calling(refusing_one, token_auth()) as client:
        assert (await client.get("/forbidden")).status_code == 403
    assert vendor.calls.count("/forbidden") == 3


@pytest.mark.parametrize("status", [400, 402, 404, 429, 500])
async def test_other_statuses_are_handed_on_at_once(vendor: VendorSide, status: int) -> None:
    vendor.call_status = lambda token: status
    async with vendor.client(token_auth()) as client:
        assert (await client.post("/x")).status_code == status
    assert len(vendor.calls) == 1


async def test_a_vendor_can_name_other_statuses(vendor: VendorSide) -> None:
    vendor.call_status = lambda token: 402
    async with vendor.client(token_auth(refused=frozenset({401, 402, 403}))) as client:
        await client.post("/x")
    assert len(vendor.calls) == 2


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (httpx.Response(400, json={"error": "invalid_client"}), VendorAuthFailed),
        (httpx.Response(401), VendorAuthFailed),
        (httpx.Response(408), VendorUnavailable),
        (httpx.Response(425), VendorUnavailable),
        (httpx.Response(500), VendorUnavailable),
        (httpx.Response(503, text="<html>"), VendorUnavailable),
        (httpx.Response(302, headers={"location": "/login"}), VendorBroken),
        (httpx.Response(200, text="<html>"), VendorBroken),
        (httpx.Response(200, json=[]), VendorBroken),
        (httpx.Response(200, json="token"), VendorBroken),
        (httpx.Response(200, json={"token": "x"}), VendorBroken),
        (httpx.Response(200, json={"access_token": None}), VendorBroken),
        (httpx.Response(200, json={"access_token": ""}), VendorBroken),
        (httpx.Response(200, json={"access_token": "x", "expires_in": "soon"}), VendorBroken),
        (httpx.Response(200, json={"access_token": "x\r\ny"}), VendorBroken),
    ],
)
async def test_a_token_that_is_not_given_is_a_typed_error(
    vendor: VendorSide, reply: httpx.Response, expected: type[VendorError]
) -> None:
    vendor.token_reply = lambda number: reply
    async with vendor.client(token_auth()) as client:
        with pytest.raises(expected) as caught:
            await client.post("/x")
    assert not caught.value.sent
    assert vendor.calls == []


async def test_a_rate_limited_token_endpoint_says_when(vendor: VendorSide) -> None:
    vendor.token_reply = lambda number: httpx.Response(429, headers={"retry-after": "7"})
    async with vendor.client(token_auth()) as client:
        with pytest.raises(VendorRateLimited) as caught:
            await client.post("/x")
    assert caught.value.retry_after == 7


async def test_those_who_wait_for_a_fetch_share_its_failure_and_the_next_one_fetches_anew(vendor: VendorSide) -> None:
    vendor.token_reply = lambda number: httpx.Response(503)
    async with vendor.client(token_auth()) as client:
        ends = await asyncio.gather(*(client.get(f"/{n}") for n in range(20)), return_exceptions=True)
        assert [type(end) for end in ends] == [VendorUnavailable] * 20
        assert len({id(end) for end in ends}) == 20
        assert len(vendor.token_requests) == 1
        vendor.token_reply = lambda number: httpx.Response(200, json={"access_token": f"token-{number}"})
        assert (await client.get("/x")).status_code == 200


async def test_a_canceled_fetch_does_not_hold_up_the_others(vendor: VendorSide) -> None:
    release = asyncio.Event()
    asked = asyncio.Event()

    async def slow_first(request: httpx.Request) -> httpx.Response:
        if str(request.url) == TOKEN_URL and not asked.is_set():
            asked.set()
            await release.wait()
        return await vendor(request)

    async with calling(slow_first, token_auth()) as client:
        first = asyncio.create_task(client.get("/1"))
        await asyncio.wait_for(asked.wait(), 5)
        second = asyncio.create_task(client.get("/2"))
        first.cancel()
        async with asyncio.timeout(5):
            assert (await second).status_code == 200
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_header_auth_leaves_the_calls_own_headers() -> None:
    seen: list[httpx.Request] = []

    def note(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    auth = HeaderAuth({"Authorization": "Basic raw-key", "X-ApiToken": "admin"})
    async with calling(note, auth) as client:
        await client.get("/x", headers={"X-ApiToken": "user"})
        await client.get("/x", auth=HeaderAuth.basic("jane", "pä:ss"))
    assert seen[0].headers["authorization"] == "Basic raw-key"
    assert seen[0].headers["x-apitoken"] == "user"
    assert seen[1].headers["authorization"] == "Basic amFuZTpww6Q6c3M="
