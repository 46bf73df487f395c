"""Submissions that are ready at the same moment, joined into the one call that some vendors take (`vendors.vendor.Batching`).

Two tenants are never in one call: a vendor that mixes up its rows must not bring one tenant's patient to another.

Every row ends exactly once: with its part of the reply, or with the error of the joined call. A row whose time to be
sent has passed is never part of a call, and a caller that stopped waiting does not stop the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, replace

from covergate.outbound.send_by import SendBy, earliest
from covergate.vendors.errors import UNREADABLE, VendorBroken, VendorError, VendorUnavailable
from covergate.vendors.flow import Call, Reply
from covergate.vendors.vendor import Batching

ROUNDS = 3
"""Most calls that a row takes part in while other rows are to blame for their refusal."""

Send = Callable[[Call, SendBy | None, int], Awaitable[Reply]]
"""Sends the joined call. Takes the call, its `not_after` and the number of its rows."""


@dataclass(eq=False)
class _Row:
    call: Call
    pointer: str
    not_after: SendBy | None
    future: asyncio.Future[Reply]
    tenant: str
    rounds: int = 0


class Batcher:
    """The rows of one vendor and mode that wait for others to join."""

    def __init__(self, batching: Batching, send: Send) -> None:
        self._batching = batching
        self._send = send
        self._waiting: dict[str, list[_Row]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, call: Call, pointer: str, not_after: SendBy | None, tenant: str) -> Reply:
        row = _Row(call, pointer, not_after, asyncio.get_running_loop().create_future(), tenant)
        self._add(row)
        return await row.future

    async def aclose(self) -> None:
        """Rows that still wait are not sent; calls under way are cut off."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        waiting, self._waiting = self._waiting, {}
        for row in (row for rows in waiting.values() for row in rows):
            _fail(row, VendorUnavailable("shutting_down", sent=False, ours=True))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _add(self, row: _Row) -> None:
        waiting = self._waiting.setdefault(row.tenant, [])
        waiting.append(row)
        if len(waiting) >= self._batching.limit:
            self._flush(row.tenant)
        elif row.tenant not in self._timers:
            wait = self._batching.wait.total_seconds()
            loop = asyncio.get_running_loop()
            self._timers[row.tenant] = loop.call_later(wait, self._flush, row.tenant, context=Context())

    def _flush(self, tenant: str) -> None:
        if (timer := self._timers.pop(tenant, None)) is not None:
            timer.cancel()
        rows = self._waiting.pop(tenant, [])
        # Its own context: the first row's log fields must not stand on a call of many rows.
        task = asyncio.get_running_loop().create_task(self._settle(rows), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self, rows: Sequence[_Row]) -> None:
        for row in rows:
            if row.not_after is not None and row.not_after.seconds_left <= 0:
                _fail(row, VendorUnavailable("too_late_to_send", sent=False, ours=True))
        rows = [row for row in rows if not row.future.done()]
        if not rows:
            return
        try:
            parts = await self._sent(rows)
        except VendorError as error:
            for row in rows:
                _fail(row, _for_row(error, row.pointer))
            return
        except BaseException:
            # Even if canceled: no caller may wait for ever for a row whose fate is unknown.
            for row in rows:
                _fail(row, VendorUnavailable("interrupted", sent=True, ours=True))
            raise
        for row, part in zip(rows, parts, strict=True):
            if part is not None:
                if not row.future.done():
                    row.future.set_result(replace(part, pointer=row.pointer))
            elif row.rounds + 1 >= ROUNDS:
                _fail(row, VendorUnavailable("batch_refused", sent=False))
            elif not row.future.done():
                row.rounds += 1
                self._add(row)

    async def _sent(self, rows: Sequence[_Row]) -> Sequence[Reply | None]:
        try:
            joined = self._batching.join([row.call for row in rows])
        except UNREADABLE as error:
            raise VendorBroken("batch_cannot_be_built", sent=False, ours=True) from error
        reply = await self._send(joined, earliest(row.not_after for row in rows), len(rows))
        try:
            parts = self._batching.split(reply, len(rows))
        except UNREADABLE as error:
            raise VendorBroken("unreadable_batch_reply", sent=True, reply=reply) from error
        if len(parts) != len(rows):
            raise VendorBroken("unreadable_batch_reply", sent=True, reply=reply)
        return parts


def _fail(row: _Row, error: VendorError) -> None:
    if not row.future.done():
        row.future.set_exception(error)


def _for_row(error: VendorError, pointer: str) -> VendorError:
    """The joined call's error as this row's own."""
    own = error.copied(None if error.reply is None else replace(error.reply, pointer=pointer))
    own.__cause__ = error
    return own
