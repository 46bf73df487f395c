"""A worker's port while the worker is well, and with each thing that can ail it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest

from covergate import worker
from covergate.db.sealing import Sealer
from covergate.gateway import Gateway, connections_of
from covergate.processes import listening_for_worker, start_worker_port
from covergate.server import Part, listening, running, url_of
from covergate.settings import Settings
from covergate.transport.transport import Transport
from covergate.vendor_health.circuit_breaker import CircuitBreakers
from covergate.worker import Worker
from covergate.worker_port import create_worker_app
from tests.support.due import due_in
from tests.support.engine import accept
from tests.support.postgres import opened_database
from tests.support.sql import run_sql
from tests.support.waiting import eventually
from tests.support.wire import SUBMIT, SUBMITTED, Gate, Wire
from tests.support.workers import working

PARTS = {
    "database",
    "migrations",
    "verifications",
    "deliveries",
    "bulk_jobs",
    "close_late",
    "wake_held_back",
}


@asynccontextmanager
async def port_of(working: Worker) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_worker_app(working))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        yield client


async def ailing(client: httpx.AsyncClient) -> dict[str, str]:
    """The parts that are not well; the status says the same."""
    answer = await client.get("/readyz")
    checks: dict[str, str] = answer.json()["checks"]
    found = {name: why for name, why in checks.items() if why != "ok"}
    assert answer.status_code == (503 if found else 200)
    assert (answer.json()["status"] == "ok") is not bool(found)
    assert set(checks) - {"process"} == PARTS
    return found


async def until_well(client: httpx.AsyncClient) -> None:
    async def well() -> bool:
        return not await ailing(client)

    await eventually(well, what="a worker that is well")


async def test_a_worker_that_is_well_says_so_and_counts(gateway: Gateway) -> None:
    async with working(gateway, Wire()) as (working_one, _), port_of(working_one) as client:
        await until_well(client)
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        text = (await client.get("/metrics")).text
    assert "covergate_workers 1.0" in text
    assert "covergate_oldest_due_seconds" in text and "process_resident_memory_bytes" in text


async def test_a_sweep_that_is_not_done_any_more_is_named(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async with working(gateway, Wire()) as (working_one, _), port_of(working_one) as client:
        await until_well(client)
        monkeypatch.setattr(worker, "UNDONE_SECONDS", -1.0)
        found = await ailing(client)
        assert set(found) == {"verifications", "deliveries", "bulk_jobs", "close_late", "wake_held_back"}
        assert all(re.fullmatch(r"last done \d s ago", why) for why in found.values())
        monkeypatch.undo()
        await until_well(client)


async def test_a_queue_that_cannot_be_read_is_named(gateway: Gateway) -> None:
    async with working(gateway, Wire()) as (working_one, _), port_of(working_one) as client:
        await until_well(client)
        await due_in(gateway).hide()

        async def named() -> bool:
            found = await ailing(client)
            return found.get("verifications") == "cannot be read: UndefinedTableError"

        await eventually(named, what="a queue that cannot be read")
        await due_in(gateway).show()
        await until_well(client)


async def test_another_versions_schema_is_named(gateway: Gateway) -> None:
    async with working(gateway, Wire()) as (working_one, _), port_of(working_one) as client:
        await until_well(client)
        await run_sql(gateway, "UPDATE alembic_version SET version_num = 'older'")
        assert await ailing(client) == {"migrations": "the database has another version's schema"}


async def test_a_database_that_is_away_is_named_and_no_reason_to_restart(sealer: Sealer) -> None:
    settings = Settings(_env_file=None)
    async with opened_database("postgresql://nobody@127.0.0.1:9/nothing", sealer) as database:
        gateway = Gateway(settings, database, connections_of(settings))
        async with (
            Transport(allow_private_network=True) as transport,
            port_of(Worker(gateway, transport, CircuitBreakers(gateway))) as client,
        ):
            answer = await client.get("/readyz")
            assert answer.status_code == 503
            assert answer.json()["checks"]["database"].startswith("does not answer")
            assert (await client.get("/healthz")).status_code == 200
            metrics = await client.get("/metrics")
    assert metrics.status_code == 200 and "process_resident_memory_bytes" in metrics.text


async def test_while_it_drains_it_answers_and_is_not_ready(gateway: Gateway) -> None:
    gate = Gate(*SUBMITTED)
    wire = Wire().on(SUBMIT, gate)
    with listening("127.0.0.1", 0, "COVERGATE_WORKER") as listener:
        async with (
            working(gateway, wire) as (working_one, task),
            httpx.AsyncClient(base_url=url_of(listener)) as client,
        ):
            parts = running(
                Part("worker", task, working_one.stop), await start_worker_port(working_one, task, listener)
            )
            await parts.__aenter__()
            await accept(gateway)
            await eventually(lambda: SUBMIT in wire.calls)
            ending = asyncio.create_task(parts.__aexit__(None, None, None))
            await eventually(lambda: working_one.stopping)
            assert (await ailing(client))["process"] == "is being stopped"
            assert (await client.get("/healthz")).status_code == 200
            gate.opened.set()
            await ending
            assert task.done()


async def test_nothing_listens_unless_a_port_is_set() -> None:
    async with AsyncExitStack() as stack:
        assert listening_for_worker(stack, Settings(_env_file=None)) is None
