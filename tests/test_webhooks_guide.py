"""docs/webhooks.md: its programs run against a gateway, its samples are those of the API, its schedule is the sender's."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import orjson
import pytest
from standardwebhooks.webhooks import Webhook

from covergate.api import examples
from covergate.api.app import create_app
from covergate.db.database import Database
from covergate.gateway import Gateway
from covergate.server import listening, running, start_server, url_of
from covergate.states import EventType
from covergate.webhooks.places import Places
from covergate.webhooks.schedule import SCHEDULE
from covergate.webhooks.sender import Deliverer
from tests.support.clients import make_keys
from tests.support.commands import bare_environment
from tests.support.gateways import make_gateway
from tests.support.hooks import Hooks, new_secret

PAGE = Path(__file__).parents[1] / "docs" / "webhooks.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NONE_THERE = "NODE IS MISSING: the guide's program in Node is not run. Install it: apt-get install nodejs"


def program(name: str) -> str:
    """The block that begins with a comment of this name."""
    [found] = [code for _, code in BLOCK.findall(PAGE.read_text()) if re.match(rf"(#|//) {re.escape(name)}:", code)]
    return str(found)


@asynccontextmanager
async def receiver(name: str, directory: Path, secrets: str) -> AsyncIterator[tuple[str, asyncio.StreamReader]]:
    """The guide's program under this name, running: its URL, and what it prints."""
    interpreter = sys.executable
    if name.endswith(".mjs"):
        node = shutil.which("node")
        if node is None:
            assert os.environ.get("CI") != "true", NONE_THERE
            pytest.skip(NONE_THERE)
        interpreter = node
    (directory / name).write_text(program(name))
    process = await asyncio.create_subprocess_exec(
        interpreter,
        name,
        cwd=directory,
        env=bare_environment() | {"WEBHOOK_SECRET": secrets, "PORT": "0"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        first = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        yield f"http://127.0.0.1:{first.removeprefix('listening on ').strip()}/webhooks", process.stdout
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
async def gateway(database: Database) -> Gateway:
    return await make_gateway(database, allow_private_network=True)


each_program = pytest.mark.parametrize("name", ["receiver.py", "receiver.mjs"])


@each_program
async def test_a_receiver_takes_what_the_gateway_sends_once(name: str, tmp_path: Path, gateway: Gateway) -> None:
    """Signed with two secrets, as after a rotation of which the receiver has not heard yet."""
    hooks, before = Hooks(gateway), new_secret()
    async with receiver(name, tmp_path, before) as (url, printed), Deliverer(gateway, Places(gateway, 1)) as deliverer:
        await hooks.endpoint(url, previous_secret=before)
        await hooks.publish()
        await hooks.deliver_next(deliverer)
        assert (await hooks.delivery()).last_status == 204
        await hooks.run_sql(
            "UPDATE deliveries SET status = 'pending', next_attempt_at = now(), due_at = now(), step = step + 1"
        )
        await hooks.deliver_next(deliverer)  # the same event once more
        await hooks.run_sql("DELETE FROM deliveries")
        await hooks.publish("verification.failed")
        await hooks.deliver_next(deliverer)
        lines = [(await asyncio.wait_for(printed.readline(), 30)).decode().split() for _ in range(2)]
    events = [row.id for row in await hooks.rows("SELECT id FROM events ORDER BY position")]
    assert [line[:2] for line in lines] == [
        [events[0], "verification.completed"],
        [events[1], "verification.failed"],
    ]


@each_program
async def test_a_receiver_refuses_what_is_not_genuine(name: str, tmp_path: Path) -> None:
    secret, other, body = new_secret(), new_secret(), b'{"type":"endpoint.test","data":{"id":"whe_1"}}'

    def headers(signing: str, seconds: float = 0, signed: bytes = body) -> dict[str, str]:
        at = datetime.fromtimestamp(time.time() + seconds, UTC)
        return {
            "webhook-id": "evt_1",
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(signing).sign("evt_1", at, signed.decode()),
        }

    async with receiver(name, tmp_path, f"{other} {secret}") as (url, _), httpx.AsyncClient(trust_env=False) as client:

        async def answer(sent: dict[str, str]) -> int:
            return (await client.post(url, content=body, headers=sent)).status_code

        good = headers(secret)
        assert await answer(good) == await answer(headers(other)) == 204
        assert await answer({**good, "webhook-signature": f"v1,AAAA {good['webhook-signature']} v2,x"}) == 204
        for bad in (
            headers(new_secret()),
            headers(secret, seconds=-400),
            headers(secret, seconds=400),
            headers(secret, signed=body + b" "),
            {**good, "webhook-id": "evt_2"},
            {**good, "webhook-timestamp": "soon"},
            {**good, "webhook-signature": good["webhook-signature"].replace("v1,", "v2,")},
            {**good, "webhook-signature": ""},
            {},
        ):
            assert await answer(bad) == 401, bad


async def test_catching_up_goes_on_where_it_was(tmp_path: Path, gateway: Gateway) -> None:
    key = (await make_keys(gateway)).full["authorization"].removeprefix("Bearer ")
    hooks = Hooks(gateway)
    [tenant] = await hooks.rows("SELECT id FROM tenants WHERE name = 'Clinic North'")
    (tmp_path / "catch_up.py").write_text(program("catch_up.py"))

    async def caught_up(url: str) -> list[str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "catch_up.py",
            cwd=tmp_path,
            env=bare_environment() | {"COVERGATE_URL": url, "COVERGATE_API_KEY": key, "no_proxy": "*"},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        return [line.split()[0] for line in out.decode().splitlines()]

    with listening("127.0.0.1", 0, "COVERGATE") as socket:
        app = create_app(gateway)
        async with app.router.lifespan_context(app), running(await start_server("api", app, socket)):
            for _ in range(3):
                await hooks.publish(times=50, tenant_id=tenant.id)
            first = await caught_up(url_of(socket))
            await hooks.publish(times=2, tenant_id=tenant.id)
            rest = await caught_up(url_of(socket))
            assert await caught_up(url_of(socket)) == []
    events = [row.id for row in await hooks.rows("SELECT id FROM events ORDER BY position")]
    assert (first, rest) == (events[:150], events[150:])


def test_every_event_has_the_apis_sample() -> None:
    samples = PAGE.read_text().partition("## Every event")[2]
    shown = [orjson.loads(code) for language, code in BLOCK.findall(samples) if language == "json"]
    assert shown == [examples.webhook(type_, examples.EXAMPLE_DAY)[1] for type_ in EventType]
    assert re.findall(r"^### (\S+)$", samples, re.MULTILINE) == list(EventType)


def test_the_schedule_is_the_senders() -> None:
    def words(seconds: int) -> str:
        return f"{seconds} s" if seconds < 60 else f"{seconds // 60} min" if seconds < 3600 else f"{seconds // 3600} h"

    assert f"tried again after {', '.join(map(words, SCHEDULE))}," in PAGE.read_text()
