"""Group commit: items that are ready together are written in one transaction.

An item that comes alone is written at once. Items that come while a write is under way go together with the next one, so a
batch grows with the load. It never waits to be filled, except for items that were said to be on their way (`coming`).

Invariant: an item is answered only when the transaction that wrote it has been committed. An item that cannot be written
gets its own error and keeps none of the others from being written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import Generic, TypeVar

from covergate.db.outage import is_away, is_locked
from covergate.db.queue import is_canceled

_Item = TypeVar("_Item")
_Written = TypeVar("_Written")

MOST_TOGETHER = 64
PATIENCE_SECONDS = 0.005


class GroupCommit(Generic[_Item, _Written]):
    """`write` writes a batch in one transaction and returns one value for each item, in their order.

    Items with one `key` go one after the other: the second sees what the first has written.

    A batch that fails is written again in halves, down to the items at fault. An error of a database that is away is no
    item's fault: all of the batch get it. If somebody has locked what one of them needs, each is written by itself; the one
    that needs it, `alone` beside the others, for as long as that takes; without `alone` it gets the error.

    `rest` is called when nothing is left to be written, so that `write` can keep something, such as a connection, meanwhile.
    """

    def __init__(
        self,
        write: Callable[[Sequence[_Item]], Awaitable[Sequence[_Written]]],
        *,
        key: Callable[[_Item], object] | None = None,
        alone: Callable[[_Item], Awaitable[_Written]] | None = None,
        rest: Callable[[], Awaitable[None]] | None = None,
        largest_batch: int = MOST_TOGETHER,
    ) -> None:
        self._write = write
        self._key = key
        self._alone = alone
        self._rest = rest
        self._beside: set[asyncio.Task[None]] = set()
        self._largest_batch = largest_batch
        self._waiting: deque[tuple[_Item, asyncio.Future[_Written]]] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._on_their_way = 0
        self._enough = asyncio.Event()

    @contextmanager
    def coming(self) -> Iterator[None]:
        """In the block an item is on its way; where it ends, the item is added, or there is none.

        A batch waits, `PATIENCE_SECONDS` at most, until it has as many items as are still on their way: so half of them are
        written while the other half is made ready.
        """
        self._on_their_way += 1
        try:
            yield
        finally:
            self._on_their_way -= 1
            # After the item was added, in this same turn of the loop.
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        if len(self._waiting) >= self._on_their_way:
            self._enough.set()

    async def _gather(self) -> None:
        self._enough.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._enough.wait()

    async def add(self, item: _Item) -> _Written:
        """Returns when the item's transaction is committed. A canceled caller's item may be written all the same."""
        answer: asyncio.Future[_Written] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._writer is None or self._writer.done():
            # A context of its own: what the first caller bound to its log lines is not the others'.
            loop = asyncio.get_running_loop()
            self._writer = loop.create_task(self._write_waiting(), name="group commit", context=Context())
        return await answer

    async def _write_waiting(self) -> None:
        while self._waiting:  # looked at again after the rest: meanwhile more may have come
            try:
                while self._waiting:
                    if len(self._waiting) < min(self._on_their_way, self._largest_batch):
                        await self._gather()
                    await self._write_batch(self._next_batch())
            finally:
                if self._rest is not None:
                    await self._rest()

    def _next_batch(self) -> list[tuple[_Item, asyncio.Future[_Written]]]:
        batch: list[tuple[_Item, asyncio.Future[_Written]]] = []
        later: list[tuple[_Item, asyncio.Future[_Written]]] = []
        keys: set[object] = set()
        while self._waiting and len(batch) < self._largest_batch:
            item, answer = self._waiting.popleft()
            key = object() if self._key is None else self._key(item)
            if answer.done():  # the caller has gone
                continue
            (later if key in keys else batch).append((item, answer))
            keys.add(key)
        self._waiting.extendleft(reversed(later))
        return batch

    async def _write_batch(self, batch: list[tuple[_Item, asyncio.Future[_Written]]]) -> None:
        if not batch:
            return
        try:
            written = await self._write([item for item, _ in batch])
        # Broad on purpose: each caller gets whatever went wrong with its own item.
        except Exception as error:
            locked = is_locked(error)
            if len(batch) == 1 and locked and self._alone is not None:
                self._write_beside(self._alone, *batch[0])
            elif len(batch) == 1 or (is_away(error) and not locked):
                _answer_all(batch, error)
            else:
                size = 1 if locked else (len(batch) + 1) // 2
                for start in range(0, len(batch), size):
                    await self._write_batch(batch[start : start + size])
            return
        # The loop is shutting down: nobody may wait for an answer that cannot come any more. Or something that it waited for
        # was canceled: whether it was written is unknown, as after a connection that broke.
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and not is_canceled():
                _answer_all(batch, ConnectionAbortedError("canceled"))
                return
            for _, answer in batch:
                answer.cancel()
            raise
        for (_, answer), value in zip(batch, written, strict=True):
            if not answer.done():
                answer.set_result(value)

    def _write_beside(
        self, alone: Callable[[_Item], Awaitable[_Written]], item: _Item, answer: asyncio.Future[_Written]
    ) -> None:
        async def write() -> None:
            try:
                written = await alone(item)
            # Broad on purpose, as above.
            except Exception as error:
                _answer_all([(item, answer)], error)
                return
            if not answer.done():
                answer.set_result(written)

        task = asyncio.create_task(write(), name="commit beside the group", context=Context())
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)


def _answer_all(batch: Sequence[tuple[_Item, asyncio.Future[_Written]]], error: Exception) -> None:
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(error)
