"""`covergate deliveries` and `covergate portal-link` as they are typed, against a running gateway."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import orjson
import pytest

from covergate.api.app import create_app
from covergate.db.sealing import Sealer
from covergate.gateway import Gateway
from covergate.server import listening, running, start_server, url_of
from tests.support.clients import make_keys
from tests.support.commands import Commands, bare_environment
from tests.support.gateways import make_gateway
from tests.support.postgres import opened_database
from tests.support.sealers import OLD, ring
from tests.support.sql import run_sql

Run = Callable[..., Awaitable[subprocess.CompletedProcess[str]]]


@pytest.fixture
async def gateway(database_url: str) -> AsyncIterator[Gateway]:
    """Its database opens with the command's key."""
    async with opened_database(database_url, Sealer(ring(k1=OLD))) as database:
        yield await make_gateway(database)


@pytest.fixture
async def run(gateway: Gateway, covergate: Commands, tmp_path: Path, database_url: str) -> AsyncIterator[Run]:
    """Runs the command with a key of Clinic North in test mode."""
    key = (await make_keys(gateway)).full["authorization"].removeprefix("Bearer ")
    with listening("127.0.0.1", 0, "COVERGATE") as socket:
        app = create_app(gateway)
        async with app.router.lifespan_context(app), running(await start_server("api", app, socket)):
            given = {
                "COVERGATE_URL": url_of(socket),
                "COVERGATE_API_KEY": key,
                "COVERGATE_DATABASE_URL": database_url,
                "COVERGATE_ENCRYPTION_KEYS": f"k1:{base64.b64encode(OLD).decode()}",
            }

            async def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
                environment = bare_environment() | given | variables
                return await asyncio.to_thread(covergate, *arguments, directory=tmp_path, environment=environment)

            async with httpx.AsyncClient(base_url=given["COVERGATE_URL"]) as client:
                for name in ("a", "b"):
                    body = {"url": f"https://{name}.example.com/x", "description": name}
                    answer = await client.post(
                        "/v1/webhook-endpoints", json=body, headers={"authorization": f"Bearer {key}"}
                    )
                    path = f"/v1/webhook-endpoints/{answer.json()['id']}/test"
                    for _ in range(2):
                        await client.post(path, headers={"authorization": f"Bearer {key}"})
            yield run


async def test_deliveries_are_listed_and_delivered_again(run: Run, gateway: Gateway) -> None:
    rows = await run_sql(
        gateway,
        "SELECT d.id, endpoint_id FROM deliveries d JOIN webhook_endpoints w ON w.id = endpoint_id ORDER BY url, d.id",
    )
    endpoint = rows[0].endpoint_id
    await run_sql(
        gateway,
        "UPDATE deliveries SET status = 'exhausted', next_attempt_at = NULL, due_at = NULL WHERE endpoint_id = :id",
        id=endpoint,
    )
    listed = await run("deliveries", "list")
    assert listed.returncode == 0, listed.stderr
    assert len(listed.stdout.splitlines()) == 4
    lines = (await run("deliveries", "list", "--status", "exhausted", "--since", "1h")).stdout.splitlines()
    assert [line.split("\t")[:4] for line in lines] == [
        [row.id, endpoint, "endpoint.test", "exhausted"] for row in reversed(rows[:2])
    ]
    [one] = (await run("deliveries", "list", "--endpoint", endpoint, "--limit", "1", "--json")).stdout.splitlines()
    assert orjson.loads(one)["id"] == rows[1].id
    assert (await run("deliveries", "list", "--event-type", "verification.failed")).stdout == ""

    again = await run("deliveries", "redeliver", rows[0].id)
    assert (again.returncode, again.stdout) == (0, "1 will be delivered again\n")
    missed = await run("deliveries", "redeliver", "--endpoint", endpoint, "--since", "1h")
    assert (missed.returncode, missed.stdout) == (0, "1 will be delivered again\n")
    assert (await run("deliveries", "list", "--status", "exhausted")).stdout == ""


async def test_what_cannot_be_done_is_one_line(run: Run) -> None:
    for arguments, told in (
        (["redeliver"], "give the ids of deliveries, or --endpoint and --since"),
        (["redeliver", "dlv_x", "--endpoint", "whe_x", "--since", "1h"], "give the ids of deliveries"),
        (["redeliver", "dlv_01m80aq8c7epyshsw0x172jhr7"], "there is no such delivery"),
        (["list", "--since", "yesterday"], "a time is a span such as 30m"),
        (["list", "--status", "late"], "status  must be one of"),
    ):
        refused = await run("deliveries", *arguments)
        assert (refused.returncode, refused.stdout) == (2, "") and told in refused.stderr, refused.stderr
    refused = await run("deliveries", "list", COVERGATE_API_KEY="cg_test_nobodys")
    assert refused.returncode == 2 and "401" in refused.stderr


async def test_help_has_examples(run: Run) -> None:
    for arguments in (["deliveries", "list"], ["deliveries", "redeliver"], ["listen"]):
        assert "Example" in (await run(*arguments, "--help")).stdout


async def test_a_portal_link(run: Run, gateway: Gateway) -> None:
    made = await run("portal-link", "--tenant", "Clinic North", "--mode", "test")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("http://127.0.0.1:8000/console/enter#") and made.stdout.count("\n") == 1
    assert "once, until 20" in made.stderr
    nobody = await run("portal-link", "--tenant", "Clinic West", "--mode", "test")
    assert (nobody.returncode, nobody.stdout) == (1, "") and "no such tenant" in nobody.stderr


async def test_operators_see_whose_endpoints_fail(run: Run, gateway: Gateway) -> None:
    assert (await run("deliveries", "failing")).stdout == ""
    await run_sql(
        gateway, "UPDATE webhook_endpoints SET failing_since = now(), failures_in_row = 7 WHERE description = 'a'"
    )
    [line] = (await run("deliveries", "failing")).stdout.splitlines()
    assert line.split("\t")[1:3] == ["Clinic North", "test"] and line.endswith("\t7")
