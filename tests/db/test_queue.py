"""The dispatcher on a queue that the test plays: it looks when there is something, and goes on whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from covergate.db import queue
from covergate.db.queue import Dispatcher
from tests.support.waiting import eventually


@dataclass
class Row:
    key: str
    step: int = 1

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass
class Played:
    """What is due is in `due`; what is raised at the next looks in `troubles`, at the next renewals in `renewing_fails`."""

    channel: str = "played"
    more: bool = False
    due: list[Row] = field(default_factory=list)
    troubles: list[BaseException] = field(default_factory=list)
    renewing_fails: list[BaseException] = field(default_factory=list)
    looks: int = 0
    renewed: list[list[str]] = field(default_factory=list)
    following: float | None = None

    async def claim(self, under_way: Collection[Row]) -> Sequence[Row]:
        self.looks += 1
        if self.troubles:
            raise self.troubles.pop()
        claimed, self.due = self.due, []
        return claimed

    async def next_in(self) -> float | None:
        return self.following

    async def renew(self, rows: Sequence[Row]) -> None:
        if self.renewing_fails:
            raise self.renewing_fails.pop()
        self.renewed.append([row.key for row in rows])


@asynccontextmanager
async def dispatching(played: Played) -> AsyncIterator[tuple[Dispatcher[Row], list[str], asyncio.Event]]:
    """The dispatcher, the keys of what was worked on, and a gate that lets the work end."""
    worked: list[str] = []
    gate, stopping = asyncio.Event(), asyncio.Event()

    async def work(row: Row) -> None:
        worked.append(row.key)
        await gate.wait()

    dispatcher = Dispatcher(played, work)
    running = asyncio.create_task(dispatcher.run(stopping))
    try:
        yield dispatcher, worked, gate
    finally:
        stopping.set()
        dispatcher.wake()
        gate.set()
        await asyncio.wait_for(running, 5)


async def test_it_looks_when_it_is_told_and_when_the_next_row_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "LOOK_SECONDS", 3600.0)
    played = Played()
    async with dispatching(played) as (dispatcher, worked, _):
        await eventually(lambda: played.looks)
        played.due = [Row("told")]
        dispatcher.wake()
        await eventually(lambda: worked == ["told"])
        played.due = [Row("soon")]
        dispatcher.wake("20")
        await eventually(lambda: worked == ["told", "soon"])


async def test_news_that_are_lost_cost_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "LOOK_SECONDS", 0.02)
    played = Played()
    async with dispatching(played) as (_, worked, _gate):
        await eventually(lambda: played.looks > 1)
        played.due = [Row("unannounced")]
        await eventually(lambda: worked == ["unannounced"])


async def test_whatever_a_look_meets_it_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "FIRST_REST", 0.01)
    """A CancelledError: what it waited for was canceled, not the dispatcher."""
    played = Played(
        troubles=[ConnectionResetError(), asyncio.CancelledError(), RuntimeError("ours")], due=[Row("patient")]
    )
    async with dispatching(played) as (dispatcher, worked, _):
        await eventually(lambda: dispatcher.error is not None)
        await eventually(lambda: worked == ["patient"])
        assert dispatcher.error is None


async def test_leases_of_what_is_under_way_are_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "RENEW_SECONDS", 0.01)
    played = Played(due=[Row("long")])
    async with dispatching(played) as (dispatcher, _, gate):
        await eventually(lambda: played.renewed[:2] == [["long"]] * 2)
        gate.set()
        await eventually(lambda: not dispatcher.under_way)


async def test_whatever_a_renewal_meets_it_renews_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the leases of all that is under way would end, and others make the same calls and tries."""
    monkeypatch.setattr(queue, "RENEW_SECONDS", 0.01)
    troubles = [ConnectionResetError(), asyncio.CancelledError(), RuntimeError("ours")]
    played = Played(renewing_fails=troubles, due=[Row("long")])
    async with dispatching(played):
        await eventually(lambda: played.renewed[:1] == [["long"]])


async def test_room_for_a_handful_is_looked_for_and_the_last_place_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """More is due than there was room for; nothing else wakes it."""
    monkeypatch.setattr(queue, "LOOK_SECONDS", 3600.0)
    played = Played(more=True, due=[Row(f"first {number}") for number in range(queue.HANDFUL + 1)])
    gates = {row.key: asyncio.Event() for row in played.due}
    stopping = asyncio.Event()

    async def work(row: Row) -> None:
        await gates[row.key].wait()

    dispatcher = Dispatcher(played, work)
    running = asyncio.create_task(dispatcher.run(stopping))
    *most, last = gates.values()
    await eventually(lambda: len(dispatcher.under_way) == len(gates))
    for gate in most[1:]:
        gate.set()
    await eventually(lambda: len(dispatcher.under_way) == 2)
    assert played.looks == 1
    most[0].set()
    await eventually(lambda: played.looks == 2)
    last.set()
    await eventually(lambda: played.looks == 3)
    stopping.set()
    dispatcher.wake()
    await asyncio.wait_for(running, 5)


async def test_what_is_under_way_ends_before_it_does() -> None:
    played = Played(due=[Row("last")])
    worked: list[str] = []
    gate, stopping = asyncio.Event(), asyncio.Event()

    async def work(row: Row) -> None:
        await gate.wait()
        worked.append(row.key)

    dispatcher = Dispatcher(played, work)
    running = asyncio.create_task(dispatcher.run(stopping))
    await eventually(lambda: dispatcher.under_way)
    stopping.set()
    dispatcher.wake()
    played.due = [Row("too late")]
    assert not running.done()
    gate.set()
    await asyncio.wait_for(running, 5)
    assert worked == ["last"]
