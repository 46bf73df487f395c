"""A table whose rows are a queue: claim, lease, wake. All of the gateway's scheduling is in this file.

A row is due at `due_at`. A claim moves that to the end of a lease and increments `step`, so the row is the claimer's alone;
the lease is renewed while the work is under way. When a process dies, its leases end and others claim. Whoever
reschedules a row sets `due_at` and increments `step`, too: what an earlier claimer still brings is told by its step.

A worker looks when it is told of work (NOTIFY), when the next row is due, when places become free, and every
`LOOK_SECONDS`: news may be lost, rows are not. Invariant: no row is locked while anything but PostgreSQL is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.notify import tell
from covergate.db.outage import DATABASE_ERRORS

log = structlog.get_logger(__name__)

LEASE_SECONDS = 30
RENEW_SECONDS = 10.0
"""A lease survives two renewals that fail."""
LOOK_SECONDS = 1.0
"""The longest time between two looks; what is due later than that is announced to nobody."""
HANDFUL = 4
"""If more was due than there was room for, it is worth a look when so much has ended: small claims cost the most."""
FIRST_REST, LONGEST_REST = 0.1, 1.0
"""Seconds before a failed look is repeated; doubled each time."""


class ClaimedRow(Protocol):
    """A claimed row, with the step it has now: whoever takes a claimed row another step on sets it anew."""

    @property
    def key(self) -> str: ...

    @property
    def step(self) -> int: ...


_Row = TypeVar("_Row", bound=ClaimedRow)


class Queue(Protocol[_Row]):
    """One table. `claim` takes no more than there is room for beside what is under way here."""

    channel: str

    @property
    def more(self) -> bool:
        """More was due than there was room for: then room is worth a look."""

    async def claim(self, under_way: Collection[_Row]) -> Sequence[_Row]: ...

    async def next_in(self) -> float | None:
        """Seconds until a row is due that is not yet; None if there is none."""

    async def renew(self, rows: Sequence[_Row]) -> None: ...


def due(table: str, key: str, lanes: str, where: str) -> str:
    """The keys of due rows, locked, each with its `lane`: for a row of `lanes` at most its `room`, the longest due first.

    `where` is the condition on row `t` that makes it the lane's. Rows that somebody has locked are left out, not waited for.
    """
    return f"""
  SELECT found.{key}, {lanes}.lane
  FROM {lanes}, LATERAL (
    SELECT t.{key} FROM {table} t WHERE {where} AND t.due_at <= now()
    ORDER BY t.due_at LIMIT {lanes}.room FOR NO KEY UPDATE SKIP LOCKED) AS found"""


def taking(table: str, key: str) -> str:
    """The CTE `taken`: the rows that an earlier CTE `due` has locked, leased.

    A claim that is forgotten in a crash is made again, so it waits for no disk. The keys are an array because PostgreSQL does
    not know how few a lane's room lets through: it would join them with the whole table.
    """
    return f"""
taken AS (
  UPDATE {table} t SET step = t.step + 1, due_at = clock_timestamp() + interval '{LEASE_SECONDS} seconds'
  WHERE t.{key} = ANY(ARRAY(SELECT {key} FROM due))
  RETURNING t.*, set_config('synchronous_commit', 'off', true)
)"""


def renewing(table: str, key: str) -> str:
    """Prolongs the leases of these `:keys` and `:steps`. A row that somebody is writing needs none any more."""
    return f"""
WITH held AS MATERIALIZED (
  SELECT t.{key} FROM {table} t
    JOIN unnest(CAST(:keys AS text[]), CAST(:steps AS int[])) AS held(key, step) ON t.{key} = held.key AND t.step = held.step
  FOR NO KEY UPDATE OF t SKIP LOCKED)
UPDATE {table} t SET due_at = clock_timestamp() + interval '{LEASE_SECONDS} seconds'
FROM held WHERE t.{key} = held.{key} AND set_config('synchronous_commit', 'off', true) IS NOT NULL"""


def announce(db: AsyncConnection, channel: str, due_in: float = 0.0) -> None:
    """Wakes the workers when the caller's transaction is over and the row is due, if that is sooner than they look anyway."""
    if due_in < LOOK_SECONDS:
        tell(db, channel, str(round(max(due_in, 0.0) * 1000)))


def is_canceled() -> bool:
    """Of a task that caught a CancelledError: whether it was canceled itself, and not something that it waited for."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class Dispatcher(Generic[_Row]):
    """Works on what one queue has: a task for each claimed row. `work` never raises."""

    def __init__(self, queue: Queue[_Row], work: Callable[[_Row], Awaitable[None]]) -> None:
        self._queue = queue
        self._work = work
        self._woken = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._next_look = self._clock()
        self._left = 0
        """What has left since the last look."""
        self._over = False
        self.under_way: dict[asyncio.Future[None], _Row] = {}
        self.looked_at = self._clock()
        """The loop's time of the last look that worked."""
        self.error: str | None = None
        """Why the last look did not work."""

    @property
    def channel(self) -> str:
        return self._queue.channel

    def wake(self, due_in_ms: str = "0") -> None:
        """There is something to do, or will be in so many milliseconds."""
        delay = int(due_in_ms) / 1000 if due_in_ms.isdigit() else 0.0
        if delay:
            asyncio.get_running_loop().call_later(delay, self._woken.set)
        else:
            self._woken.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Looks for work until `stopping` is set, which `wake` has to follow; then what is under way ends."""
        renewing = asyncio.create_task(self._renew())
        rest = FIRST_REST
        try:
            while not stopping.is_set():
                # Before the look: whatever comes during it is looked for again. To wait for a set event lets nobody else run.
                self._woken.clear()
                try:
                    await self._look()
                    self.error, rest = None, FIRST_REST
                # Broad on purpose: a queue that nobody reads any more is work that nobody does.
                except (Exception, asyncio.CancelledError) as error:
                    if is_canceled():
                        raise
                    self.error = type(error).__name__
                    trace = None if isinstance(error, DATABASE_ERRORS) else error
                    log.warning("queue_not_read", queue=self.channel, error=self.error, exc_info=trace)
                    self._next_look, rest = self._clock() + rest, min(rest * 2, LONGEST_REST)
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._next_look):
                        await self._woken.wait()
            while self.under_way:
                await asyncio.wait(self.under_way)
            self._over = True
        finally:
            renewing.cancel()

    def take_up(self, row: _Row) -> None:
        """Begins work on a row that is claimed; not any more when `run` has ended: then its lease ends, and another claims it."""
        if self._over:
            return
        task = asyncio.ensure_future(self._work(row))
        self.under_way[task] = row
        task.add_done_callback(self._ended)

    async def _look(self) -> None:
        self._left = 0
        for row in await self._queue.claim(self.under_way.values()):
            self.take_up(row)
        now = self.looked_at = self._clock()
        if self._queue.more:
            self._next_look = now + LOOK_SECONDS  # or when there is room
        elif now >= self._next_look:
            due_in = await self._queue.next_in()
            self._next_look = now + (LOOK_SECONDS if due_in is None else min(max(due_in, 0.0), LOOK_SECONDS))

    def _ended(self, task: asyncio.Future[None]) -> None:
        del self.under_way[task]
        self._left += 1
        if self._queue.more and (self._left >= HANDFUL or not self.under_way):
            self._woken.set()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if rows := list(self.under_way.values()):
                try:
                    await self._queue.renew(rows)
                # Broad on purpose: without leases others would make the same steps and tries.
                except (Exception, asyncio.CancelledError) as error:
                    if is_canceled():
                        raise
                    log.warning("leases_not_renewed", queue=self.channel, error=type(error).__name__)
