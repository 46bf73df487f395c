"""The database goes away around a submission: nothing that was paid is lost, and nobody is asked what can be known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import asyncpg
import httpx
import pytest
from sqlalchemy import make_url, text

from covergate.db.sealing import Sealer
from covergate.gateway import Gateway
from covergate.verifications import conversation
from covergate.verifications.commit import PERSEVERANCE_SECONDS, persevering
from tests.support.engine import Engine, running_engine
from tests.support.postgres import opened_database
from tests.support.relay import Relay, relaying
from tests.support.sql import run_sql
from tests.support.waiting import eventually
from tests.support.wire import POLL, SUBMIT, Gate, Wire, never_connected


@dataclass
class Far:
    """An engine with a network between it and its database; `near` is a gateway beside that database."""

    engine: Engine
    near: Gateway
    relay: Relay


@pytest.fixture
async def far(gateway: Gateway, postgres_url: str, database_url: str, sealer: Sealer, wire: Wire) -> AsyncIterator[Far]:
    async with relaying(postgres_url) as relay:
        url = relay.url(make_url(database_url).database or "")
        async with opened_database(url, sealer) as database:
            distant = Gateway(gateway.settings, database, gateway.connections)
            async with running_engine(distant, wire) as engine:
                yield Far(engine, gateway, relay)


@pytest.mark.parametrize("another_comes", [False, True])
async def test_an_intent_whose_acknowledgement_is_lost_is_no_submission_of_unknown_fate(
    far: Far, engine: Engine, wire: Wire, another_comes: bool
) -> None:
    """The connection breaks when the intent is on disk and before anybody is told; another worker may look at it then."""

    async def intended() -> bool:
        if not await run_sql(far.near, "SELECT 1 FROM work WHERE state = 'submitting'"):
            return False
        if another_comes:
            await engine.end_leases()
            await engine.step()
        return True

    id_ = await far.engine.create()
    claimed = await far.engine.take()
    far.relay.reply_lost = intended
    await far.engine.advance(claimed)
    assert far.relay.reply_lost is None
    view = await far.engine.view(id_)
    assert (view["attempts"][0]["state"], wire.calls) == ("waiting", [SUBMIT])
    seen = ["submission_in_flight"] if another_comes else []
    assert await far.engine.timeline(id_) == ["created", *seen, "submitted"]


async def test_an_intent_that_was_confirmed_too_late_is_taken_back(
    far: Far, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database was away for so long that the call must not be made any more: nothing was sent, and that is known."""

    async def intended() -> bool:
        return bool(await run_sql(far.near, "SELECT 1 FROM work WHERE state = 'submitting'"))

    id_ = await far.engine.create()
    claimed = await far.engine.take()
    far.relay.reply_lost = intended
    monkeypatch.setattr(conversation, "SEND_WITHIN", 0.0)
    await far.engine.advance(claimed)
    view = await far.engine.view(id_)
    assert (view["attempts"][0]["state"], view["waiting_for"]["kind"], wire.calls) == ("preparing", "vendor_retry", [])
    monkeypatch.undo()
    await far.engine.step()
    assert ((await far.engine.view(id_))["attempts"][0]["state"], wire.calls) == ("waiting", [SUBMIT])


@pytest.fixture
def gate(wire: Wire) -> Gate:
    """Integrex takes submissions on when it is opened."""
    gate = Gate(200, {"id": "1"})
    wire.on(SUBMIT, gate)
    return gate


async def on_the_line(far: Far, wire: Wire, number: int) -> list[asyncio.Task[None]]:
    for _ in range(number):
        await far.engine.create()
    claims = [await far.engine.take() for _ in range(number)]
    calls = [asyncio.create_task(far.engine.advance(claimed)) for claimed in claims]
    await eventually(lambda: len(wire.calls) == number)
    return calls


@contextmanager
def away(relay: Relay, how: str) -> Iterator[None]:
    server = relay.target
    if how == "starting up":
        relay.starting_up = True
    else:
        relay.target = "postgresql:///none?host=/nowhere"
    relay.cut()
    yield
    relay.starting_up, relay.target = False, server


@pytest.mark.parametrize("how", ["starting up", "refused"])
async def test_calls_on_the_line_while_postgresql_restarts_are_all_recorded(
    far: Far, wire: Wire, gate: Gate, how: str
) -> None:
    calls = await on_the_line(far, wire, 20)
    with away(far.relay, how):
        gate.opened.set()
        await eventually(lambda: far.relay.refused >= 5)
    await asyncio.gather(*calls)
    rows = await far.engine.rows("SELECT state, vendor_ref FROM work")
    assert [tuple(row) for row in rows] == [("waiting", "1")] * 20
    assert await far.engine.events() == []


@pytest.mark.parametrize("sqlstate", ["53100", "25006"], ids=["full", "read-only"])
async def test_calls_on_the_line_while_nothing_can_be_written_are_all_recorded(
    far: Far, wire: Wire, gate: Gate, sqlstate: str
) -> None:
    """PostgreSQL answers, and refuses what is to be kept."""
    calls = await on_the_line(far, wire, 5)
    for statement in (
        "CREATE SEQUENCE refusals",
        f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          PERFORM nextval('refusals'); RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END $$""",
        "CREATE TRIGGER refuses BEFORE INSERT ON history FOR EACH STATEMENT EXECUTE FUNCTION refuse()",
    ):
        await run_sql(far.near, statement)
    gate.opened.set()

    async def refused() -> bool:
        return bool((await run_sql(far.near, "SELECT last_value >= 3 FROM refusals"))[0][0])

    await eventually(refused)
    await run_sql(far.near, "DROP TRIGGER refuses ON history")
    await asyncio.gather(*calls)
    rows = await far.engine.rows("SELECT state, vendor_ref FROM work")
    assert [tuple(row) for row in rows] == [("waiting", "1")] * 5
    assert await far.engine.events() == []


async def test_replies_are_held_through_the_end_of_the_worker(far: Far, wire: Wire, gate: Gate) -> None:
    """Its time to drain is over, and it cancels the steps; the second reply waits behind the first."""
    calls = await on_the_line(far, wire, 2)
    with away(far.relay, "starting up"):
        gate.opened.set()
        await eventually(lambda: far.relay.refused >= 2)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
    await far.engine.steps.drain()
    rows = await far.engine.rows("SELECT state, vendor_ref FROM work")
    assert [tuple(row) for row in rows] == [("waiting", "1")] * 2


async def test_no_operator_is_called_while_a_reply_may_be_held(
    far: Far, engine: Engine, wire: Wire, gate: Gate
) -> None:
    """A worker holds replies for as long as a managed failover takes. Nobody else could find out, at Integrex."""
    [call] = await on_the_line(far, wire, 1)
    [row] = await engine.rows("SELECT extract(epoch FROM lookup_after - intent_at) AS seconds FROM work")
    assert PERSEVERANCE_SECONDS >= 120
    assert row.seconds >= 35 + PERSEVERANCE_SECONDS
    gate.opened.set()
    await call


@pytest.mark.parametrize("submitted", [False, True], ids=["intents", "reports"])
async def test_a_row_that_somebody_has_locked_keeps_only_its_own_step_waiting(
    engine: Engine, wire: Wire, monkeypatch: pytest.MonkeyPatch, submitted: bool
) -> None:
    monkeypatch.setattr(conversation, "SEND_WITHIN", 60.0)
    wire.on(POLL, (202, {}))
    ids = [await engine.create() for _ in range(3)]
    if submitted:
        for id_ in ids:
            await engine.step(id_)
    claims = [await engine.take(id_) for id_ in ids]
    async with engine.gateway.transaction() as db:
        await db.execute(text("SELECT FROM work WHERE verification_id = :id FOR UPDATE"), {"id": ids[0]})
        locked = asyncio.create_task(engine.advance(claims[0]))
        await engine.waiting_for_locks(1)
        async with asyncio.timeout(15):
            await asyncio.gather(*(engine.advance(claimed) for claimed in claims[1:]))
        assert not locked.done()
    await locked
    timelines = [await engine.timeline(id_) for id_ in ids]
    assert timelines == [["created", "submitted", *["checked"] * submitted]] * 3


@pytest.mark.parametrize("was_away", [False, True])
async def test_a_lock_is_waited_for_here_only_if_an_earlier_try_may_have_been_committed(was_away: bool) -> None:
    locked = asyncpg.LockNotAvailableError("canceling statement due to lock timeout")
    errors: list[Exception] = [*[ConnectionResetError()] * was_away, locked]

    async def write() -> str:
        if errors:
            raise errors.pop(0)
        return "written"

    if was_away:
        assert await persevering(write, locked=False) == "written"
    else:
        with pytest.raises(asyncpg.LockNotAvailableError):
            await persevering(write, locked=False)


@pytest.mark.parametrize("woken", [False, True])
async def test_a_report_whose_acknowledgement_is_lost_is_written_once(far: Far, wire: Wire, woken: bool) -> None:
    """An event that came during the call still has its step made at once."""

    async def recorded() -> bool:
        return bool(await run_sql(far.near, "SELECT 1 FROM history WHERE n = 1"))

    async def submitting(_: httpx.Request) -> httpx.Response:
        if woken:
            await run_sql(far.near, "UPDATE work SET wake_requested = true")
        far.relay.reply_lost = recorded
        return httpx.Response(200, json={"id": "77"})

    wire.on(SUBMIT, submitting)
    id_ = await far.engine.create()
    await far.engine.step()
    assert far.relay.reply_lost is None
    assert await far.engine.timeline(id_) == ["created", "submitted", *["checked"] * woken]
    assert wire.calls == [SUBMIT, *[POLL] * woken]


@pytest.mark.parametrize("another_comes", [False, True])
async def test_that_nothing_was_sent_is_written_once_though_the_word_of_it_is_lost(
    far: Far, engine: Engine, wire: Wire, another_comes: bool
) -> None:
    """Another worker may have made the submission by then: the report is about an intent that is over."""

    async def recorded() -> bool:
        if not await run_sql(far.near, "SELECT 1 FROM work WHERE errors_in_row = 1"):
            return False
        if another_comes:
            await engine.step()
        return True

    wire.on(SUBMIT, *[never_connected()] * 3, (200, {"id": "1"}))
    id_ = await far.engine.create()
    claimed = await far.engine.take()
    far.relay.reply_lost = recorded
    await far.engine.advance(claimed)
    assert far.relay.reply_lost is None
    assert await far.engine.timeline(id_) == ["created", "retry_scheduled", *["submitted"] * another_comes]
    view = await far.engine.view(id_)
    assert view["attempts"][0]["state"] == ("waiting" if another_comes else "preparing")


async def test_a_worker_that_ends_while_the_database_is_away_stores_no_intent_any_more(
    far: Far, wire: Wire, gate: Gate
) -> None:
    """It holds a reply through its end, and would store with it that something is being submitted: an operator's question."""
    [call] = await on_the_line(far, wire, 1)
    id_ = await far.engine.create()
    claimed = await far.engine.take()
    with away(far.relay, "refused"):
        intending = asyncio.create_task(far.engine.advance(claimed))
        gate.opened.set()
        await eventually(lambda: far.relay.refused >= 4)
        for task in (call, intending):
            task.cancel()
        await asyncio.wait([call, intending])
    await far.engine.steps.drain()
    writer = far.engine.steps._intents._commits._writer
    assert writer is not None
    await writer
    rows = await far.engine.rows("SELECT verification_id = :id AS is_it, state FROM work ORDER BY 1", id=id_)
    assert [tuple(row) for row in rows] == [(False, "waiting"), (True, "preparing")]
    assert wire.calls == [SUBMIT]
