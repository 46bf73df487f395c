"""A real worker on a real queue: nothing is lost when a handler fails, the database goes away, or it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy import make_url, text

from covergate.db.database import Database, make_engine
from covergate.gateway import Gateway, connections_of
from covergate.settings import Settings
from covergate.transport.transport import Transport
from covergate.verifications.create import create
from covergate.verifications.request import CreateVerification
from covergate.verifications.view import read_view
from covergate.worker import Worker
from tests.verifications.conftest import ACTIVE, CALLER, POLL, REQUEST, SUBMIT, Wire

SUBMITTED = (200, {"id": "7"})


@pytest.fixture
async def gateway(database: Database) -> Gateway:
    settings = Settings(sandbox_url="http://sandbox.invalid", _env_file=None)  # type: ignore[call-arg]
    async with database.transaction() as db:
        await db.execute(text("INSERT INTO tenants (id, name) VALUES ('ten_test', 'Test clinic')"))
    return Gateway(settings, database, connections_of(settings))


@asynccontextmanager
async def working(gateway: Gateway, wire: Wire, **limits: float) -> AsyncIterator[tuple[Worker, asyncio.Task[None]]]:
    """A worker with a database pool of its own, as another process has."""
    engine = make_engine(gateway.database.url, pool_size=5, application_name="worker under test")
    database = Database(gateway.database.url, engine, gateway.sealer)
    async with Transport(allow_private_network=True, wire=httpx.MockTransport(wire)) as transport:
        worker = Worker(Gateway(gateway.settings, database, gateway.connections), transport, **limits)
        running = asyncio.create_task(worker.run())
        try:
            yield worker, running
        finally:
            worker.stop()
            await asyncio.wait_for(running, 20)
            await engine.dispose()


async def accept(gateway: Gateway) -> str:
    return (await create(gateway, CALLER, CreateVerification.model_validate(REQUEST), None, {})).id


async def view(gateway: Gateway, verification_id: str) -> dict[str, Any]:
    async with gateway.connection() as db:
        shown = await read_view(db, gateway.sealer, "ten_test", "test", verification_id)
    assert shown is not None
    return shown


async def run_sql(gateway: Gateway, statement: str, **values: Any) -> None:
    async with gateway.connection() as db:
        await db.execute(text(statement), values)


async def timeline(gateway: Gateway, verification_id: str) -> list[tuple[str, str]]:
    async with gateway.connection() as db:
        rows = await db.execute(
            text("SELECT type, message FROM timeline WHERE verification_id = :id ORDER BY id"), {"id": verification_id}
        )
        return [(row.type, row.message) for row in rows]


async def move_clock(gateway: Gateway) -> None:
    """Every wait, the sweep's lease included, is over."""
    await run_sql(
        gateway, "UPDATE verifications SET next_check_at = next_check_at - interval '1 hour' WHERE completed_at IS NULL"
    )
    await run_sql(gateway, "UPDATE pgqueuer SET execute_after = clock_timestamp() WHERE status = 'queued'")


async def eventually(holds: Callable[[], Awaitable[Any]], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.02)


async def until_status(gateway: Gateway, verification_id: str, status: str) -> None:
    """With the clock moved again and again until it is so."""

    async def reached() -> bool:
        await move_clock(gateway)
        return (await view(gateway, verification_id))["status"] == status

    await eventually(reached)


async def until_called(wire: Wire, call: str, times: int = 1) -> None:
    async def called() -> bool:
        return wire.calls.count(call) >= times

    await eventually(called)


class Gate:
    """An answer that comes when the test opens it."""

    def __init__(self, status: int, body: Any) -> None:
        self.opened = asyncio.Event()
        self._answer = (status, body)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await self.opened.wait()
        status, body = self._answer
        return httpx.Response(status, json=body)


async def test_a_verification_goes_all_the_way(gateway: Gateway) -> None:
    wire = Wire().on(SUBMIT, SUBMITTED).on(POLL, (202, {}), (200, ACTIVE))
    async with working(gateway, wire):
        id_ = await accept(gateway)
        await until_status(gateway, id_, "completed")
    assert wire.calls.count(SUBMIT) == 1


async def test_a_job_in_which_our_own_code_fails_is_not_lost(gateway: Gateway) -> None:
    """Its inquiry cannot be opened; then it can again."""
    wire = Wire().on(SUBMIT, SUBMITTED).on(POLL, (200, ACTIVE))
    id_ = await accept(gateway)
    async with gateway.connection() as db:
        sealed = (await db.execute(text("SELECT inquiry_sealed FROM verifications"))).scalar_one()
    await run_sql(gateway, "UPDATE verifications SET inquiry_sealed = '\\x00'")

    async def noted() -> bool:
        return any("internal_error" in message for _, message in await timeline(gateway, id_))

    async with working(gateway, wire):
        await eventually(noted)
        await run_sql(gateway, "UPDATE verifications SET inquiry_sealed = :sealed", sealed=sealed)
        await until_status(gateway, id_, "completed")
    assert ("retry_scheduled", "internal_error (error 1 in a row)") in await timeline(gateway, id_)
    assert wire.calls.count(SUBMIT) == 1


async def test_a_job_that_cannot_even_be_read_does_not_stop_the_others(gateway: Gateway) -> None:
    wire = Wire().on(SUBMIT, SUBMITTED).on(POLL, (200, ACTIVE))
    await run_sql(
        gateway,
        "INSERT INTO pgqueuer (priority, status, entrypoint, payload, execute_after) VALUES"
        " (9, 'queued', 'advance', '\\xff', now()), (9, 'queued', 'deliver', NULL, now())",
    )
    async with working(gateway, wire):
        id_ = await accept(gateway)
        await until_status(gateway, id_, "completed")


async def test_all_connections_are_cut_while_it_works(gateway: Gateway, postgres_url: str) -> None:
    """The vendor's answer to a check comes while there is no database; the worker goes on, nothing is submitted twice."""
    gate = Gate(200, ACTIVE)
    wire = Wire().on(SUBMIT, SUBMITTED).on(POLL, gate)
    async with working(gateway, wire) as (_, running):
        id_ = await accept(gateway)
        await until_called(wire, SUBMIT)
        await move_clock(gateway)
        await until_called(wire, POLL)
        await cut_all_connections(gateway, postgres_url)
        gate.opened.set()
        await until_status(gateway, id_, "completed")
        other = await accept(gateway)
        await until_status(gateway, other, "completed")
        assert not running.done()
    assert wire.calls.count(SUBMIT) == 2


async def cut_all_connections(gateway: Gateway, postgres_url: str) -> None:
    name = make_url(gateway.database.url).database
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    finally:
        await connection.close()
    # The test's own connections are gone too.
    await gateway.engine.dispose()


async def test_stop_lets_running_jobs_end(gateway: Gateway) -> None:
    gate = Gate(*SUBMITTED)
    wire = Wire().on(SUBMIT, gate)
    async with working(gateway, wire) as (worker, running):
        id_ = await accept(gateway)
        await until_called(wire, SUBMIT)
        worker.stop()
        await accept(gateway)
        assert not running.done()
        gate.opened.set()
        await asyncio.wait_for(running, 10)
    assert (await view(gateway, id_))["attempts"][0]["vendor_ref"] == "7"
    assert wire.calls == [SUBMIT]


async def test_stop_without_anything_to_do_ends_at_once(gateway: Gateway) -> None:
    async with working(gateway, Wire()) as (worker, running):
        worker.stop()
        await asyncio.wait_for(running, 10)


async def test_what_does_not_end_in_time_is_cut_and_taken_up_by_another_worker(gateway: Gateway) -> None:
    hanging = Wire().on(SUBMIT, SUBMITTED).on(POLL, Gate(200, ACTIVE))
    async with working(gateway, hanging, drain_seconds=0.2) as (worker, running):
        id_ = await accept(gateway)
        await until_called(hanging, SUBMIT)
        await move_clock(gateway)
        await until_called(hanging, POLL)
        worker.stop()
        await asyncio.wait_for(running, 10)
    assert (await view(gateway, id_))["status"] == "in_progress"
    healthy = Wire().on(POLL, (200, ACTIVE))
    async with working(gateway, healthy):
        await until_status(gateway, id_, "completed")
    assert SUBMIT not in healthy.calls
    assert hanging.calls.count(SUBMIT) == 1


async def test_it_waits_for_a_database_that_is_not_there_yet(gateway: Gateway) -> None:
    """The queue's tables are being migrated: the groups try again until they are back."""
    wire = Wire().on(SUBMIT, SUBMITTED).on(POLL, (200, ACTIVE))
    id_ = await accept(gateway)
    await run_sql(gateway, "ALTER TABLE pgqueuer RENAME TO pgqueuer_away")
    async with working(gateway, wire) as (_, running):

        async def tried() -> bool:
            async with gateway.connection() as db:
                rows = await db.execute(
                    text("SELECT 1 FROM pg_stat_activity WHERE application_name = 'covergate advance'")
                )
                return rows.first() is not None

        await eventually(tried)
        await run_sql(gateway, "ALTER TABLE pgqueuer_away RENAME TO pgqueuer")
        await until_status(gateway, id_, "completed")
        assert not running.done()
