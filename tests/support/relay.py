"""The network between the gateway and PostgreSQL: a TCP port in front of a server's socket, whose trouble is switched on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

SSL_REQUEST = 80877103


class Relay:
    """`target` may be changed: new connections go there, those that are open stay where they are.

    While it is silent nothing is passed on in either direction, and nothing is closed: as with a machine that is gone.
    """

    def __init__(self, server_url: str) -> None:
        self.target = server_url
        self.port = 0
        self.held = 0
        self.starting_up = False
        """New connections are told so (57P03), as by a server that recovers."""
        self.refused = 0
        self.reply_lost: Callable[[], Awaitable[bool]] | None = None
        """Asked before each thing that the server says: if so, both ends are cut instead, once."""
        self._speaking = asyncio.Event()
        self._speaking.set()
        self._talks: set[asyncio.Task[None]] = set()

    def url(self, database: str, host: str = "127.0.0.1") -> str:
        return f"postgresql://postgres@{host}:{self.port}/{database}"

    def silence(self) -> None:
        self.held = 0
        self._speaking.clear()

    def speak(self) -> None:
        """What was held back is passed on now."""
        self._speaking.set()

    def cut(self) -> None:
        """Ends every connection."""
        for task in self._talks:
            task.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.starting_up:
            self.refused += 1
            with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await _say_starting_up(reader, writer)
            return
        socket = parse_qs(urlsplit(self.target).query)["host"][0]
        try:
            theirs, ours = await asyncio.open_unix_connection(f"{socket}/.s.PGSQL.5432")
        except OSError:
            self.refused += 1
            writer.close()
            return
        for source, sink in ((reader, ours), (theirs, writer)):
            task = asyncio.create_task(self._pass_on(source, sink, theirs))
            self._talks.add(task)
            task.add_done_callback(self._talks.discard)

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, server: asyncio.StreamReader
    ) -> None:
        with contextlib.closing(sink), contextlib.suppress(OSError):
            while data := await source.read(65536):
                self.held += not self._speaking.is_set()
                await self._speaking.wait()
                if source is server and self.reply_lost is not None and await self.reply_lost():
                    self.reply_lost = None
                    break
                sink.write(data)
                await sink.drain()

    async def close(self) -> None:
        for task in self._talks:
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)


async def _say_starting_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if int.from_bytes((await reader.readexactly(8))[4:]) == SSL_REQUEST:
        writer.write(b"N")
        await reader.readexactly(8)
    fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
    writer.write(b"E" + (4 + len(fields)).to_bytes(4) + fields)
    await writer.drain()


@asynccontextmanager
async def relaying(server_url: str) -> AsyncIterator[Relay]:
    relay = Relay(server_url)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        await relay.close()
