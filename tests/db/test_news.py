"""News are sent after the commit, equal ones once, and sending them again works when their connection was lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from covergate.db.database import Database
from covergate.db.notify import tell

CHANNEL = "news_of_a_test"


@asynccontextmanager
async def listening(database: Database) -> AsyncIterator[asyncio.Queue[str]]:
    heard: asyncio.Queue[str] = asyncio.Queue()
    connection = await asyncpg.connect(database.url)
    try:
        await connection.add_listener(CHANNEL, lambda *notification: heard.put_nowait(str(notification[-1])))
        yield heard
    finally:
        await connection.close()


async def test_news_are_sent_when_the_transaction_is_over_and_equal_ones_once(database: Database) -> None:
    async with listening(database) as heard:
        async with database.transaction() as db:
            for payload in ("a", "a", "b"):
                tell(db, CHANNEL, payload)
            assert heard.empty()
        async with asyncio.timeout(10):
            assert [await heard.get(), await heard.get()] == ["a", "b"]
        async with database.transaction() as db:
            tell(db, CHANNEL, "c")
        async with asyncio.timeout(10):
            assert await heard.get() == "c"


async def test_what_comes_while_news_are_being_sent_is_sent_too(database: Database) -> None:
    async with listening(database) as heard:
        for number in range(20):
            async with database.transaction() as db:
                tell(db, CHANNEL, str(number))
        async with asyncio.timeout(10):
            assert [await heard.get() for _ in range(20)] == [str(number) for number in range(20)]


async def test_news_are_sent_again_after_their_connection_was_lost(database: Database) -> None:
    async with listening(database) as heard:
        async with database.transaction() as db:
            tell(db, CHANNEL, "before")
        async with asyncio.timeout(10):
            assert await heard.get() == "before"
        other = await asyncpg.connect(database.url)
        await other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE '%news'"
        )
        await other.close()
        async with asyncio.timeout(10):
            while heard.empty():
                async with database.transaction() as db:
                    tell(db, CHANNEL, "after")
                await asyncio.sleep(0.05)
        assert await heard.get() == "after"
