"""What other processes are told once a transaction is committed: NOTIFY, outside of it.

PostgreSQL lets only one transaction with a NOTIFY commit at a time, and with fsync on that is a few hundred a second in all.
So a transaction only leaves its news with its connection; when that goes back to the pool they are sent over a
connection of their own, whose commits wait for no disk: at once, and then what has gathered, at most every `GAP_SECONDS`.

Invariant: news are a courtesy. They may come twice, or for a transaction that was rolled back, and are lost when the process
dies: whoever listens also looks by itself now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import asyncpg
import structlog
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from covergate.db.outage import DATABASE_ERRORS

log = structlog.get_logger(__name__)

GAP_SECONDS = 0.01
_LEFT = "covergate.news"
_NOTIFY = "SELECT pg_notify(channel, payload) FROM unnest($1::text[], $2::text[]) AS news(channel, payload)"


def tell(db: AsyncConnection, channel: str, payload: str) -> None:
    """Sent when the caller's transaction is over. Equal news are sent once."""
    db.info.setdefault(_LEFT, {})[channel, payload] = None


class Herald:
    """Sends the news of one engine. Its connection is made when there is something to send, and closed with the engine."""

    def __init__(self, engine: AsyncEngine, connect: Callable[[], Awaitable[asyncpg.Connection]]) -> None:
        self._connect = connect
        self._connection: asyncpg.Connection | None = None
        self._waiting: dict[tuple[str, str], None] = {}
        self._task: asyncio.Task[None] | None = None
        event.listen(engine.sync_engine, "checkin", self._came_back)
        event.listen(engine.sync_engine, "engine_disposed", self._disposed)

    def _came_back(self, _: Any, record: Any) -> None:
        if news := record.info.pop(_LEFT, None):
            self.send(news)

    def send(self, news: Iterable[tuple[str, str]]) -> None:
        self._waiting.update(dict.fromkeys(news))
        if self._task is None or self._task.done():
            with suppress(RuntimeError):  # no loop any more: the process ends
                self._task = asyncio.get_running_loop().create_task(self._send(), name="news")

    async def _send(self) -> None:
        while self._waiting:
            news, self._waiting = self._waiting, {}
            try:
                if self._connection is None:
                    self._connection = await self._connect()
                await self._connection.execute(_NOTIFY, [name for name, _ in news], [payload for _, payload in news])
            except DATABASE_ERRORS as error:
                log.warning("news_not_sent", number=len(news), error=type(error).__name__)
                self._hang_up()
            await asyncio.sleep(GAP_SECONDS)

    def _disposed(self, _: Any) -> None:
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
        self._hang_up()

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
