"""A real worker on a real queue: nothing is lost when a handler fails, the database goes away, or it is told to stop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import asyncpg
import httpx
import pytest
import structlog
from sqlalchemy import make_url
from structlog.testing import capture_logs

from covergate import backlog
from covergate.access.api_keys import create_key
from covergate.access.vendor_accounts import ACCOUNTS_CHANGED
from covergate.db.database import Database
from covergate.gateway import Gateway, Tenancy
from covergate.vendor_health.rate_limit import RateLimits
from covergate.verifications import engine as steps
from covergate.verifications.seals import place_in_verification
from covergate.webhooks.places import Places
from covergate.webhooks.sender import Deliverer
from tests.support.due import due_in
from tests.support.engine import Engine, accept, view
from tests.support.gateways import OTHER_TENANT, TENANT, make_gateway
from tests.support.hooks import Hooks
from tests.support.partner import partner_server
from tests.support.sql import run_sql
from tests.support.waiting import eventually
from tests.support.wire import ACTIVE, POLL, SUBMIT, Gate, Wire
from tests.support.workers import working

SUBMITTED = (200, {"id": "7"})


async def timeline(gateway: Gateway, verification_id: str) -> list[tuple[str, str]]:
    rows = await run_sql(
        gateway, "SELECT entries FROM history WHERE verification_id = :id ORDER BY n", id=verification_id
    )
    return [(entry["type"], entry["message"]) for row in rows for entry in row.entries]


async def move_clock(gateway: Gateway) -> None:
    """Every wait is over."""
    await due_in(gateway).hasten()
    await due_in(gateway).wake()


async def until_status(gateway: Gateway, verification_id: str, status: str) -> None:
    """With the clock moved again and again until it is so."""

    async def reached() -> bool:
        await move_clock(gateway)
        shown: str = (await view(gateway, verification_id))["status"]
        return shown == status

    await eventually(reached, what=status)


async def until_called(wire: Wire, call: str) -> None:
    await eventually(lambda: call in wire.calls, what=call)


async def test_a_verification_goes_all_the_way(gateway: Gateway) -> None:
    wire = Wire().on(SUBMIT, SUBMITTED).on(POLL, (202, {}), (200, ACTIVE))
    async with working(gateway, wire):
        id_ = await accept(gateway)
        await until_status(gateway, id_, "completed")
    assert wire.calls.count(SUBMIT) == 1


async def test_a_step_in_which_our_own_code_fails_is_not_lost(gateway: Gateway) -> None:
    """Its inquiry cannot be read; then it can again."""
    wire = Wire().on(SUBMIT, SUBMITTED).on(POLL, (200, ACTIVE))
    id_ = await accept(gateway)
    [[sealed]] = await run_sql(gateway, "SELECT inquiry_sealed FROM verifications")
    unreadable = gateway.sealer.seal_json(place_in_verification(TENANT, "test", id_, "inquiry"), {})
    await run_sql(gateway, "UPDATE verifications SET inquiry_sealed = :sealed", sealed=unreadable)

    async def noted() -> bool:
        return any("internal_error" in message for _, message in await timeline(gateway, id_))

    async with working(gateway, wire):
        await eventually(noted)
        await run_sql(gateway, "UPDATE verifications SET inquiry_sealed = :sealed", sealed=sealed)
        await until_status(gateway, id_, "completed")
    assert ("retry_scheduled", "internal_error (error 1 in a row)") in await timeline(gateway, id_)
    assert wire.calls.count(SUBMIT) == 1


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
    await gateway.database.engine.dispose()


async def test_stop_lets_what_is_under_way_end(gateway: Gateway) -> None:
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
    await due_in(gateway).end_leases()
    async with working(gateway, healthy):
        await until_status(gateway, id_, "completed")
    assert SUBMIT not in healthy.calls
    assert hanging.calls.count(SUBMIT) == 1


async def test_workers_are_counted_by_what_their_sweeps_say(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async def alive() -> int:
        async with gateway.connection() as db:
            return await backlog.workers_alive(db)

    assert await alive() == 0
    async with working(gateway, Wire()), working(gateway, Wire()):
        await eventually(lambda: _is(alive, 2))
        monkeypatch.setattr(backlog, "SILENT_SECONDS", -1.0)
        await eventually(lambda: _is(alive, 0), what="silent ones are not counted")
        monkeypatch.undo()
    await eventually(lambda: _is(alive, 0))


async def _is(count: Callable[[], Awaitable[int]], number: int) -> bool:
    return await count() == number


async def test_a_submission_on_the_line_is_not_cut_off(gateway: Gateway) -> None:
    """The vendor takes longer than a drain lasts. Another job that does is cut off."""
    submits, polls = Gate(*SUBMITTED), Gate(200, ACTIVE)
    wire = Wire().on(SUBMIT, SUBMITTED, submits).on(POLL, polls)
    async with working(gateway, wire, drain_seconds=0.1) as (worker, running):
        polling = await accept(gateway)
        await until_called(wire, SUBMIT)
        await move_clock(gateway)
        await until_called(wire, POLL)
        submitting = await accept(gateway)
        await eventually(lambda: wire.calls.count(SUBMIT) == 2)
        with capture_logs() as logs:
            worker.stop()
            await eventually(lambda: "step_cut_short" in [line["event"] for line in logs])
        assert not running.done()
        submits.opened.set()
        await asyncio.wait_for(running, 10)
    assert [line["steps"] for line in logs if line["event"] == "drain_cut_short"] == [1]
    assert (await view(gateway, submitting))["attempts"][0]["state"] == "waiting"
    assert (await view(gateway, polling))["status"] == "in_progress"


async def test_a_submission_that_outlives_its_own_time_limit_is_cut_off(gateway: Gateway) -> None:
    """The time of its call is over: nothing keeps a drain from its end."""
    gate = Gate(*SUBMITTED)
    wire = Wire().on(SUBMIT, gate)
    async with working(gateway, wire, drain_seconds=0.1, hand_over_seconds=-3600) as (worker, running):
        await accept(gateway)
        await until_called(wire, SUBMIT)
        worker.stop()
        await asyncio.wait_for(running, 10)
    assert wire.calls == [SUBMIT]


class StopsMeanwhile(RateLimits):
    """The process is told to stop while a step waits for its vendor's rate limit."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway)
        self.stopping = False
        self.asked = 0

    async def take(self, vendor: str, mode: str, per_second: float | None, account: str = "") -> None:
        self.asked += 1
        self.stopping = True


@pytest.mark.parametrize("from_the_start", [True, False])
async def test_a_worker_that_is_stopped_begins_no_submission(
    gateway: Gateway, engine: Engine, wire: Wire, *, from_the_start: bool
) -> None:
    limits = StopsMeanwhile(gateway)
    limits.stopping = from_the_start
    stopped = steps.Engine(gateway, engine.steps.transport, engine.breakers, draining=lambda: limits.stopping)
    stopped.rate_limits = limits
    id_ = await engine.create()
    await stopped.advance(await engine.take())
    assert (limits.asked, wire.calls, stopped.submitting) == (0 if from_the_start else 1, [], {})
    shown = await engine.view(id_)
    assert (shown["status"], shown["attempts"][0]["state"]) == ("queued", "preparing")
    assert await engine.due() == [id_]  # given back: another worker need not wait for the lease
    await engine.step()
    assert wire.calls == [SUBMIT]


async def test_it_waits_for_a_database_that_is_not_there_yet(gateway: Gateway) -> None:
    """The queue's tables are being migrated: the worker looks again until they are back."""
    wire = Wire().on(SUBMIT, SUBMITTED).on(POLL, (200, ACTIVE))
    id_ = await accept(gateway)
    await due_in(gateway).hide()
    async with working(gateway, wire) as (_, running):
        connected = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'covergate queue'"
        await eventually(partial(run_sql, gateway, connected))
        await due_in(gateway).show()
        await until_status(gateway, id_, "completed")
        assert not running.done()


async def test_a_sweep_that_hangs_is_begun_again(gateway: Gateway) -> None:
    begun = 0

    async def hangs_at_first() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            await asyncio.Event().wait()

    async with working(gateway, Wire()) as (worker, _):
        again = asyncio.create_task(worker._regularly(0.01, hangs_at_first, 0.05))
        await eventually(lambda: begun >= 3)
    await again


async def test_a_background_task_whose_work_was_canceled_goes_on(gateway: Gateway) -> None:
    """What it waited for was canceled, not the task: it would end without a word, and the sweep with it."""
    begun = 0

    async def canceled_at_first() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise asyncio.CancelledError

    async with working(gateway, Wire()) as (worker, _):
        again = asyncio.create_task(worker._regularly(0.01, canceled_at_first, 5))
        await eventually(lambda: begun >= 4 or again.done())
        assert not again.done()
    await again


async def test_what_is_logged_below_a_step_names_its_verification(gateway: Gateway, engine: Engine, wire: Wire) -> None:
    """So that a `vendor_call`, whose transport knows nothing of verifications, can be found by its id."""
    seen: list[dict[str, Any]] = []

    def submitted(_: httpx.Request) -> httpx.Response:
        seen.append(dict(structlog.contextvars.get_contextvars()))
        return httpx.Response(200, json=SUBMITTED[1])

    wire.on(SUBMIT, submitted)
    id_ = await engine.create()
    await engine.step()
    [attempt] = (await engine.view(id_))["attempts"]
    assert seen == [{"verification_id": id_, "attempt_id": attempt["id"]}]
    assert structlog.contextvars.get_contextvars() == {}


async def test_what_is_logged_below_a_delivery_names_it(database: Database) -> None:
    gateway = await make_gateway(database, allow_private_network=True)
    hooks, seen = Hooks(gateway), []

    class Listening(Deliverer):
        async def _post(self, row: Any, body: bytes) -> Any:
            seen.append(dict(structlog.contextvars.get_contextvars()))
            return await super()._post(row, body)

    async with partner_server() as partner, Listening(gateway, Places(gateway, 100)) as deliverer:
        await hooks.endpoint(partner.url())
        await hooks.publish()
        with capture_logs() as logs:
            delivery = await hooks.deliver_next(deliverer)
    assert seen == [{"delivery_id": delivery.id}]
    [line] = [line for line in logs if line["event"] == "webhook_delivery"]
    assert line["delivery_id"] == delivery.id and "verification_id" in line


async def test_a_second_tenant_is_heard_of(gateway: Gateway) -> None:
    await run_sql(gateway, "DELETE FROM tenants WHERE id = :id", id=OTHER_TENANT)
    one = replace(gateway, tenancy=Tenancy())
    # Of its channels the last one.
    listening = (
        f"SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%{ACCOUNTS_CHANGED}%'"
    )
    async with working(one, Wire()):
        await eventually(partial(run_sql, gateway, listening), what="a worker that listens")
        assert not await one.account_is_shared(TENANT, "test", "healthie")
        await create_key(gateway, tenant="A second clinic", mode="test")
        await eventually(partial(one.account_is_shared, TENANT, "test", "healthie"), what="a shared account")


def test_a_worker_holds_no_api_and_no_sandbox() -> None:
    """They are a sixth of its memory."""
    held = "import sys, covergate.processes; print(*sys.modules)"
    modules = set(
        subprocess.run([sys.executable, "-c", held], capture_output=True, text=True, check=True).stdout.split()
    )
    assert modules.isdisjoint({"fastapi", "jinja2", "covergate.api.app", "covergate.sandbox.app"})
