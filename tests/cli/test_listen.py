"""`covergate listen`: events of a running gateway come to a local server as webhooks would, over outbound requests alone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from covergate.api.app import create_app
from covergate.cli.listen import Listener
from covergate.db.database import Database
from covergate.errors import ConfigurationError
from covergate.gateway import Gateway
from covergate.states import EventType
from covergate.webhooks.events import News, publish
from tests.support.clients import Keys, make_keys
from tests.support.commands import bare_environment
from tests.support.gateways import make_gateway
from tests.support.hooks import THIN, new_secret
from tests.support.http_server import answering, http_reply, serving
from tests.support.partner import Partner, answer, partner_server
from tests.support.sql import run_sql
from tests.support.waiting import eventually


@pytest.fixture
async def gateway(database: Database) -> Gateway:
    return await make_gateway(database)


@pytest.fixture
async def keys(gateway: Gateway) -> Keys:
    return await make_keys(gateway)


@pytest.fixture
async def partner() -> AsyncIterator[Partner]:
    async with partner_server() as running:
        yield running


class Unsteady(httpx.ASGITransport):
    """The gateway, which can be lost."""

    lost: str = ""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.lost == "connection":
            raise httpx.ConnectError("lost", request=request)
        if self.lost:
            return httpx.Response(int(self.lost), request=request, json={})
        return await super().handle_async_request(request)


class Run:
    """A listener on the gateway, and what it told."""

    def __init__(self, gateway: Gateway, headers: dict[str, str], forward_to: str | None, **options: Any) -> None:
        self.transport = Unsteady(create_app(gateway))
        self.said: list[str] = []
        self.shown: list[str] = []
        self.secret = new_secret()
        client = httpx.AsyncClient(transport=self.transport, base_url="http://gateway", headers=headers)
        types = options.pop("types", ())
        self.listener = Listener(
            client,
            types,
            forward_to,
            self.secret,
            say=self.said.append,
            show=self.shown.append,
            look_seconds=0.01,
            **options,
        )

    async def __aenter__(self) -> Run:
        self.task = asyncio.create_task(self.listener.run())
        await eventually(lambda: self.listener._since or self.task.done())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listener.stop()
        await asyncio.wait_for(self.task, 20)


async def happen(gateway: Gateway, *types: EventType, mode: str = "test") -> None:
    [tenant] = await run_sql(gateway, "SELECT id FROM tenants WHERE name = 'Clinic North'")
    for type_ in types:
        async with gateway.transaction() as db:
            await publish(db, [News(tenant.id, mode, type_, None, THIN)])


DONE, FAILED = EventType.VERIFICATION_COMPLETED, EventType.VERIFICATION_FAILED


async def test_what_happens_from_now_on_is_handed_on_signed(gateway: Gateway, keys: Keys, partner: Partner) -> None:
    await happen(gateway, FAILED)
    await run_sql(gateway, "UPDATE events SET created_at = created_at - interval '1 minute'")
    async with Run(gateway, keys.full, partner.url()) as run:
        await happen(gateway, DONE, FAILED)
        await happen(gateway, DONE, mode="live")
        await eventually(lambda: len(run.shown) == 2)
    assert [got.verified_with(run.secret)["type"] for got in partner.received] == [DONE, FAILED]
    events = await run_sql(gateway, "SELECT id FROM events WHERE mode = 'test' ORDER BY position")
    assert [got.headers["webhook-id"] for got in partner.received] == [event.id for event in events[1:]]
    assert partner.received[0].json["data"] == THIN and set(partner.received[0].json) == {"type", "timestamp", "data"}
    assert all("→ 200 (" in line for line in run.shown) and run.said == []


async def test_only_the_types_that_are_asked_for_as_lines_of_json(gateway: Gateway, keys: Keys) -> None:
    async with Run(gateway, keys.full, None, types=[FAILED], print_json=True) as run:
        await happen(gateway, DONE, FAILED, DONE)
        await eventually(lambda: run.shown)
    [line] = run.shown
    assert orjson.loads(line)["type"] == FAILED and orjson.loads(line)["data"] == THIN


async def test_the_local_servers_trouble_is_shown_and_the_next_event_comes(
    gateway: Gateway, keys: Keys, partner: Partner
) -> None:
    async with Run(gateway, keys.full, "http://127.0.0.1:9/nobody") as run:
        await happen(gateway, DONE)
        await eventually(lambda: run.shown)
        run.listener.forward_to = partner.on("/hooks", answer(500))
        await happen(gateway, DONE)
        await eventually(lambda: len(run.shown) == 2)
    assert "is your server running?" in run.shown[0] and "→ 500 (" in run.shown[1]


@pytest.mark.parametrize("lost", ["connection", "503", "429"])
async def test_a_lost_gateway_is_waited_for_and_nothing_is_missed(gateway: Gateway, keys: Keys, lost: str) -> None:
    async with Run(gateway, keys.full, None) as run:
        await happen(gateway, DONE)
        await eventually(lambda: run.shown)
        run.transport.lost = lost
        await eventually(lambda: run.said)
        await happen(gateway, FAILED)
        run.transport.lost = ""
        await eventually(lambda: len(run.shown) == 2)
    assert FAILED in run.shown[1]
    assert [line.partition(" (")[0] for line in run.said] == ["the gateway is lost", "connected again"]


async def test_a_key_that_may_not_and_a_type_that_is_none(gateway: Gateway, keys: Keys) -> None:
    for headers, types, told in (
        ({"authorization": "Bearer cg_test_nobodys"}, [], "401"),
        (keys.full, ["verification.gone"], "type  must be one of"),
    ):
        run = Run(gateway, headers, None, types=types)
        with pytest.raises(ConfigurationError, match=told):
            await run.listener.run()


async def test_the_command_tells_its_secret_and_ends_cleanly(tmp_path: Path) -> None:
    empty = http_reply(
        b'{"object":"list","data":[],"has_more":false,"next_cursor":null}', "Content-Type: application/json"
    )
    async with serving(answering(empty)) as url:
        code = "from covergate.cli.main import main; main()"
        options = ["listen", "--url", url, "--key", "cg_test_x", "--forward-to", "http://127.0.0.1:9/x"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, *options, cwd=tmp_path, env=bare_environment(), stderr=asyncio.subprocess.PIPE
        )
        assert process.stderr is not None
        first, second = await process.stderr.readline(), await process.stderr.readline()
        assert b"listening to every event" in first and b"signed with whsec_" in second
        os.kill(process.pid, signal.SIGINT)
        rest = await process.stderr.read()
        assert (await process.wait(), rest) == (0, b"covergate: 0 events\n")
