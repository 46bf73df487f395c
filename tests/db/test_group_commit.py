"""Group commit: together what is ready together, alone what comes alone, and no item at another's cost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from covergate.db.group_commit import GroupCommit


class Table:
    """Stands in for a transaction that takes as long as the test wants. Negative numbers are refused."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.away = False

    async def write(self, items: Sequence[int]) -> list[str]:
        self.batches.append(list(items))
        await self.open.wait()
        if self.away:
            raise asyncpg.CannotConnectNowError("the database system is starting up")
        if any(item < 0 for item in items):
            raise ValueError("refused")
        return [f"wrote {item}" for item in items]


async def test_an_item_alone_is_a_batch_of_one_and_waits_for_nothing() -> None:
    table = Table()
    commits = GroupCommit(table.write)
    assert await commits.add(1) == "wrote 1"
    assert await commits.add(2) == "wrote 2"
    assert table.batches == [[1], [2]]


async def test_what_comes_during_a_write_goes_together_with_the_next() -> None:
    table = Table()
    commits = GroupCommit(table.write, largest_batch=3)
    table.open.clear()
    adding = [asyncio.create_task(commits.add(number)) for number in range(6)]
    while not table.batches:
        await asyncio.sleep(0)
    later = [asyncio.create_task(commits.add(number)) for number in range(6, 8)]
    await asyncio.sleep(0)
    table.open.set()
    assert await asyncio.gather(*adding, *later) == [f"wrote {number}" for number in range(8)]
    assert [number for batch in table.batches for number in batch] == list(range(8))
    assert max(map(len, table.batches)) == 3


async def test_a_batch_waits_for_half_of_what_is_on_its_way() -> None:
    table = Table()
    commits = GroupCommit(table.write)
    ready = [asyncio.Event() for _ in range(4)]

    async def one(number: int) -> str:
        with commits.coming():
            await ready[number].wait()
        return await commits.add(number)

    adding = [asyncio.create_task(one(number)) for number in range(4)]
    ready[0].set()
    ready[1].set()
    while not table.batches:
        await asyncio.sleep(0)
    assert table.batches == [[0, 1]]
    ready[2].set()
    ready[3].set()
    assert await asyncio.gather(*adding) == [f"wrote {number}" for number in range(4)]


async def test_what_was_on_its_way_and_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covergate.db.group_commit.PATIENCE_SECONDS", 3600)
    table = Table()
    commits = GroupCommit(table.write)
    with commits.coming(), commits.coming():
        adding = asyncio.create_task(commits.add(1))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not table.batches
    assert await adding == "wrote 1"


async def test_what_is_long_on_its_way_is_waited_for_a_moment_only() -> None:
    table = Table()
    commits = GroupCommit(table.write)
    with commits.coming(), commits.coming():
        assert await commits.add(1) == "wrote 1"


async def test_what_comes_while_the_writer_lays_down_its_connection_is_written() -> None:
    table, laying_down, gone = Table(), asyncio.Event(), asyncio.Event()

    async def rest() -> None:
        laying_down.set()
        await gone.wait()

    commits = GroupCommit(table.write, rest=rest)
    assert await commits.add(1) == "wrote 1"
    await laying_down.wait()
    adding = asyncio.create_task(commits.add(2))
    await asyncio.sleep(0)
    gone.set()
    assert await asyncio.wait_for(adding, 10) == "wrote 2"


async def test_items_of_one_key_go_one_after_the_other() -> None:
    """In the order in which they came; the others go together."""
    table = Table()
    commits = GroupCommit(table.write, key=lambda number: number % 10)
    numbers = [1, 11, 2, 21, 3]
    assert await asyncio.gather(*(commits.add(number) for number in numbers)) == [f"wrote {one}" for one in numbers]
    assert table.batches == [[1, 2, 3], [11], [21]]


async def test_nobody_is_answered_before_the_commit() -> None:
    table = Table()
    commits = GroupCommit(table.write)
    table.open.clear()
    adding = asyncio.create_task(commits.add(1))
    while not table.batches:
        await asyncio.sleep(0)
    for _ in range(10):  # an answer takes a turn of the loop or two
        await asyncio.sleep(0)
    assert not adding.done()
    table.open.set()
    assert await adding == "wrote 1"


async def test_one_refused_item_gets_its_own_error_and_the_others_are_written() -> None:
    table = Table()
    commits = GroupCommit(table.write)
    answers = await asyncio.gather(*(commits.add(n) for n in (1, 2, -3, 4, -5, 6)), return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] == ["str", "str", "ValueError", "str", "ValueError", "str"]


async def test_a_database_that_is_away_is_no_items_fault() -> None:
    """Splitting would only ask it more often."""
    table = Table()
    commits = GroupCommit(table.write)
    table.open.clear()
    table.away = True
    adding = [asyncio.create_task(commits.add(number)) for number in range(8)]
    while not table.batches:
        await asyncio.sleep(0)
    table.open.set()
    answers = await asyncio.gather(*adding, return_exceptions=True)
    assert all(isinstance(answer, asyncpg.CannotConnectNowError) for answer in answers)
    assert len(table.batches) <= 2


async def test_what_a_write_waited_for_was_canceled_and_those_behind_it_are_written() -> None:
    """Whether its own batch was written is unknown, as after a connection that broke."""
    begun = asyncio.Event()

    async def write(items: Sequence[int]) -> list[str]:
        if 1 in items:
            begun.set()
            await asyncio.sleep(0)
            raise asyncio.CancelledError
        return [f"wrote {item}" for item in items]

    commits = GroupCommit(write)
    first = asyncio.create_task(commits.add(1))
    await begun.wait()
    second = asyncio.create_task(commits.add(2))
    done, _ = await asyncio.wait([first, second], timeout=5)
    assert len(done) == 2
    assert isinstance(first.exception(), ConnectionAbortedError)
    assert second.result() == "wrote 2"


async def test_a_caller_that_has_gone_costs_nothing() -> None:
    table = Table()
    commits = GroupCommit(table.write)
    table.open.clear()
    first = asyncio.create_task(commits.add(1))
    while not table.batches:
        await asyncio.sleep(0)
    gone = asyncio.create_task(commits.add(2))
    stays = asyncio.create_task(commits.add(3))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    table.open.set()
    assert (await first, await stays) == ("wrote 1", "wrote 3")
    assert table.batches == [[1], [3]]


async def test_what_needs_a_lock_that_somebody_has_is_written_beside_the_others() -> None:
    held = asyncio.Event()

    async def write(items: Sequence[int]) -> list[str]:
        if 2 in items:
            raise asyncpg.LockNotAvailableError("canceling statement due to lock timeout")
        return [f"wrote {item}" for item in items]

    async def alone(item: int) -> str:
        await held.wait()
        return f"wrote {item} alone"

    commits = GroupCommit(write, alone=alone)
    adding = [asyncio.create_task(commits.add(number)) for number in range(4)]
    assert [await adding[number] for number in (0, 1, 3)] == ["wrote 0", "wrote 1", "wrote 3"]
    assert await commits.add(4) == "wrote 4"
    assert not adding[2].done()
    held.set()
    assert await adding[2] == "wrote 2 alone"


async def test_a_batch_waits_once_for_a_lock_and_only_who_needs_it_again() -> None:
    """Each wait is three seconds for all of them: halves would wait once more for each halving."""
    waits: list[int] = []

    async def write(items: Sequence[int]) -> list[str]:
        if 2 in items:
            waits.append(len(items))
            raise asyncpg.LockNotAvailableError("canceling statement due to lock timeout")
        return [f"wrote {item}" for item in items]

    async def alone(item: int) -> str:
        return f"wrote {item} alone"

    commits = GroupCommit(write, alone=alone)
    await asyncio.gather(*(commits.add(number) for number in range(16)))
    assert waits == [16, 1]


async def test_without_a_way_beside_the_others_the_lock_is_its_items_error() -> None:
    async def write(items: Sequence[int]) -> list[str]:
        if 2 in items:
            raise asyncpg.LockNotAvailableError("canceling statement due to lock timeout")
        return [f"wrote {item}" for item in items]

    commits = GroupCommit(write)
    first, second = await asyncio.gather(commits.add(1), commits.add(2), return_exceptions=True)
    assert first == "wrote 1"
    assert isinstance(second, asyncpg.LockNotAvailableError)
