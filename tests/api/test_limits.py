"""What one key, one tenant and one address may do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from statistics import median
from typing import Any, TypeAlias

import httpx
import pytest
from fastapi import FastAPI

from covergate.access import guesses, quotas
from covergate.api.app import create_app
from covergate.backlog import Backlog
from covergate.db.database import Database
from covergate.gateway import Gateway, connections_of
from covergate.server import listening, running, start_server
from covergate.settings import Settings
from tests.support.clients import Body, Keys
from tests.support.gateways import SANDBOX_SECRET
from tests.support.waiting import eventually

Limited: TypeAlias = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]

WRONG = {"authorization": "Bearer cg_test_" + "x" * 43}
MISSING = "/v1/verifications/ver_01kaj0000000000000000000aa"


@pytest.fixture
def limited(database: Database) -> Limited:
    """A client of an API with these settings."""

    @asynccontextmanager
    async def open_client(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
        changed = Settings(sandbox_url="http://127.0.0.1:9", sandbox_secret=SANDBOX_SECRET, _env_file=None, **settings)
        app = create_app(Gateway(changed, database, connections_of(changed)))
        transport = httpx.ASGITransport(app)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://g") as it:
            yield it

    return open_client


async def statuses(client: httpx.AsyncClient, number: int, *request: Any, **more: Any) -> list[int]:
    return [(await client.request(*request, **more)).status_code for _ in range(number)]


async def test_a_key_has_a_number_of_requests(limited: Limited, keys: Keys) -> None:
    async with limited(requests_per_second=1) as client:
        assert await statuses(client, 10, "GET", "/v1/vendors", headers=keys.full) == [200] * 10
        answer = await client.get("/v1/vendors", headers=keys.full)
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert answer.headers["ratelimit-policy"] == '"requests";q=10;w=10'
        assert answer.headers["ratelimit"] == '"requests";r=0;t=1'
        assert answer.headers["retry-after"] == "1"
        assert (await client.get("/v1/vendors", headers=keys.other)).status_code == 200


async def test_a_tenant_has_a_number_of_creates(limited: Limited, keys: Keys, body: Body) -> None:
    async with limited(creates_per_second=1) as client:
        post = ("POST", "/v1/verifications")
        assert await statuses(client, 11, *post, headers=keys.full, json=body()) == [202] * 10 + [429]
        # What is refused as it stands is no create, and reading goes on.
        assert await statuses(client, 1, *post, headers=keys.full, json={}) == [422]
        assert await statuses(client, 1, "GET", "/v1/verifications", headers=keys.full) == [200]
        assert await statuses(client, 1, *post, headers=keys.other, json=body()) == [202]


async def test_a_tenant_has_a_number_of_lists_and_searches(limited: Limited, keys: Keys) -> None:
    async with limited(searches_per_second=1) as client:
        search = ("POST", "/v1/verifications/search")
        assert await statuses(client, 5, *search, headers=keys.full, json={}) == [200] * 5
        assert await statuses(client, 6, "GET", "/v1/verifications", headers=keys.full) == [200] * 5 + [429]
        assert await statuses(client, 1, *search, headers=keys.full, json={}) == [429]
        assert await statuses(client, 1, *search, headers=keys.other, json={}) == [200]


async def test_an_operators_lists_are_none_of_the_tenants(limited: Limited, keys: Keys) -> None:
    async with limited(searches_per_second=1) as client:
        assert await statuses(client, 11, "GET", "/v1/verifications", headers=keys.operator) == [200] * 10 + [429]
        for headers in (keys.full, keys.other):
            assert await statuses(client, 1, "GET", "/v1/verifications", headers=headers) == [200]


async def test_a_tenant_has_a_number_of_changes_of_accounts(
    limited: Limited, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "ACCOUNT_CHANGES", replace(quotas.ACCOUNT_CHANGES, quota=3))
    path, sent = "/v1/vendor-accounts/sohar", {"credentials": {"client_id": "c", "client_secret": "s"}}
    async with limited() as client:
        assert await statuses(client, 1, "PUT", path, headers=keys.full, json=sent) == [201]
        assert await statuses(client, 1, "DELETE", path, headers=keys.full) == [204]
        assert await statuses(client, 1, "POST", f"{path}/test", headers=keys.full) == [404]
        assert await statuses(client, 1, "PUT", path, headers=keys.full, json=sent) == [429]
        assert await statuses(client, 1, "DELETE", path, headers=keys.full) == [429]
        assert await statuses(client, 1, "POST", f"{path}/test", headers=keys.full) == [429]
        assert await statuses(client, 1, "PUT", path, headers=keys.other, json=sent) != [429]


async def test_a_tenant_has_a_number_of_test_events(limited: Limited, keys: Keys) -> None:
    """Or whoever has a key has us post to an address of somebody else's, as fast as it likes."""
    async with limited(test_events_per_minute=3) as client:
        for headers in (keys.full, keys.other):
            made = await client.post("/v1/webhook-endpoints", json={"url": "https://a.example.com"}, headers=headers)
            path = f"/v1/webhook-endpoints/{made.json()['id']}/test"
            assert await statuses(client, 4, "POST", path, headers=headers) == [202] * 3 + [429]


async def test_a_tenant_has_a_number_of_redeliveries(
    limited: Limited, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recovery is one, however much it sends again."""
    monkeypatch.setattr(quotas, "REDELIVERIES", replace(quotas.REDELIVERIES, quota=3))
    async with limited() as client:
        for headers in (keys.full, keys.other):
            made = await client.post("/v1/webhook-endpoints", json={"url": "https://a.example.com"}, headers=headers)
            path = f"/v1/webhook-endpoints/{made.json()['id']}"
            delivery = (await client.post(f"{path}/test", headers=headers)).json()["id"]
            again = f"/v1/deliveries/{delivery}/redeliver"
            assert await statuses(client, 2, "POST", again, headers=headers) == [202, 202]
            recover = ("POST", f"{path}/recover")
            sent = {"since": "2026-01-01T00:00:00Z"}
            assert await statuses(client, 2, *recover, headers=headers, json=sent) == [202, 429]
            assert await statuses(client, 1, "POST", again, headers=headers) == [429]


async def test_metrics_that_many_ask_for_are_read_once(limited: Limited, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0
    read = Backlog._read

    async def counted(self: Backlog, gateway: Gateway) -> None:
        nonlocal reads
        reads += 1
        await read(self, gateway)

    monkeypatch.setattr(Backlog, "_read", counted)
    async with limited() as client:
        answers = await asyncio.gather(*(client.get("/metrics") for _ in range(30)))
    assert ({answer.status_code for answer in answers}, reads) == ({200}, 1)


@pytest.mark.parametrize("headers", [WRONG, {}, {"authorization": "Bearer x"}, {"authorization": "Basic x"}])
async def test_an_address_has_a_number_of_wrong_keys(
    limited: Limited, keys: Keys, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guesses, "HELD_SECONDS", 0.01)
    async with limited(wrong_keys_per_minute=5) as client:
        assert await statuses(client, 6, "GET", "/v1/vendors", headers=headers) == [401] * 5 + [429]
        assert await statuses(client, 1, "GET", "/v1/vendors", headers=keys.full) == [200]


async def test_one_request_too_many_does_not_wait(limited: Limited, keys: Keys, body: Body) -> None:
    prefer = {**keys.full, "prefer": "wait=30"}
    async with limited(most_waits=1) as client:
        created = (await client.post("/v1/verifications", json=body(), headers=keys.full)).json()
        path = f"/v1/verifications/{created['id']}"
        waiting = asyncio.create_task(client.get(path, headers=prefer))
        waiters = client._transport.app.state.waiters  # type: ignore[attr-defined]
        await eventually(lambda: bool(waiters._events))
        answer = await asyncio.wait_for(client.get(path, headers=prefer), 5)
        assert answer.status_code == 200 and "preference-applied" not in answer.headers
        more = await asyncio.wait_for(client.post("/v1/verifications", json=body(), headers=prefer), 5)
        assert more.status_code == 202 and "preference-applied" not in more.headers
        assert (await client.post(f"{path}/cancel", headers=keys.full)).status_code == 200
        assert (await asyncio.wait_for(waiting, 5)).headers["preference-applied"] == "wait=30"
        assert not waiters._events


async def test_waits_of_a_key_are_counted_over_all_processes(limited: Limited, keys: Keys, body: Body) -> None:
    async with limited(most_waits=2) as one, limited(most_waits=2) as other:
        created = (await one.post("/v1/verifications", json=body(), headers=keys.full)).json()
        path, prefer = f"/v1/verifications/{created['id']}", {**keys.full, "prefer": "wait=30"}
        waiting = [asyncio.create_task(client.get(path, headers=prefer)) for client in (one, other)]
        places = [client._transport.app.state.wait_places for client in (one, other)]  # type: ignore[attr-defined]
        await eventually(lambda: [lease.used for each in places for lease in each._leases.values()] == [1, 1])
        for client in (one, other):
            answer = await asyncio.wait_for(client.get(path, headers=prefer), 5)
            assert answer.status_code == 200 and "preference-applied" not in answer.headers
        assert not any(task.done() for task in waiting)
        assert (await one.post(f"{path}/cancel", headers=keys.full)).status_code == 200
        answers = await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert {answer.headers.get("preference-applied") for answer in answers} == {"wait=30"}


async def test_a_wait_holds_no_connection(limited: Limited, keys: Keys, body: Body) -> None:
    async with limited() as client:
        created = (await client.post("/v1/verifications", json=body(), headers=keys.full)).json()
        path, prefer = f"/v1/verifications/{created['id']}", {**keys.full, "prefer": "wait=30"}
        waiting = [asyncio.create_task(client.get(path, headers=prefer)) for _ in range(30)]
        state = client._transport.app.state  # type: ignore[attr-defined]
        await eventually(lambda: len(state.waiters._events[created["id"]]) == 30)
        await eventually(lambda: state.gateway.database.pool_use[0] == 0)
        assert not any(one.done() for one in waiting)
        assert (await client.post(f"{path}/cancel", headers=keys.full)).status_code == 200
        answers = await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert {answer.json()["status"] for answer in answers} == {"canceled"}


class Line:
    """A kept-alive connection that asks as little of this process as it can."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]) -> None:
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._request = f"GET {MISSING} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode()
        self._reader, self._writer = reader, writer

    async def ask(self) -> int:
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await self._reader.readexactly(int(length.partition(b":")[2]))
        return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        self._writer.close()


async def test_forty_guessers_do_not_slow_a_good_key_down(app: FastAPI, keys: Keys) -> None:
    """Each guesses as fast as it is answered, with a key of its own."""
    with listening("127.0.0.1", 0, "COVERGATE") as listener:
        port = listener.getsockname()[1]

        async def line(headers: dict[str, str]) -> Line:
            return Line(*await asyncio.open_connection("127.0.0.1", port), headers)

        async def guessing(guesser: Line) -> None:
            while True:
                assert await guesser.ask() in (401, 429)

        async with running(await start_server("api", app, listener)):
            good = await line(keys.full)
            guessers = [await line({"authorization": f"Bearer cg_test_{i:043}"}) for i in range(40)]
            assert await good.ask() == 404
            tasks: list[asyncio.Task[None]] = []
            ratios = []
            for _ in range(4):
                alone = await p50(good)
                tasks = [asyncio.create_task(guessing(guesser)) for guesser in guessers]
                await asyncio.wait(tasks, timeout=0.1)
                beside = await p50(good)
                for task in tasks:
                    task.cancel()
                for guesser in guessers:
                    guesser.close()
                guessers = [await line({"authorization": f"Bearer cg_test_{i:043}"}) for i in range(40)]
                ratios.append(beside / alone)
                if ratios[-1] < 2:
                    break
            for guesser in guessers:
                guesser.close()
            good.close()
        assert min(ratios) < 2, ratios


async def p50(line: Line) -> float:
    times = []
    for _ in range(300):
        started = time.perf_counter()
        assert await line.ask() == 404
        times.append(time.perf_counter() - started)
    return median(times)
