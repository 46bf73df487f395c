"""The load generator: prepared HTTP/1.1 requests over kept connections, one request in flight on each.

It shares the machine with what it measures, so it does as little as can be: requests are bytes made beforehand, of an answer
only the status line and the length are read.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Load:
    """`seconds` from the first request to the last answer; `bodies` in the order in which they came."""

    seconds: float
    bodies: list[bytes]

    @property
    def per_second(self) -> float:
        return len(self.bodies) / self.seconds


def request(method: str, path: str, port: int, body: Any = None, headers: dict[str, str] | None = None) -> bytes:
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", f"host: 127.0.0.1:{port}", f"content-length: {len(content)}"]
    if content:
        lines.append("content-type: application/json")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + content


class Connection:
    """One kept connection to 127.0.0.1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, prepared: bytes) -> bytes:
        """The answer's body. Raises RuntimeError for anything but a 2xx."""
        self._writer.write(prepared)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await self._reader.readexactly(int(length[1])) if length else b""
        if not 200 <= int(head[9:12]) < 300:
            raise RuntimeError(f"{head[:12].decode()}: {body[:300].decode(errors='replace')}")
        return body

    async def aclose(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def drive(port: int, prepared: Iterable[bytes], connections: int) -> Load:
    """Sends everything as fast as it is answered."""
    opened = [await Connection.open(port) for _ in range(connections)]
    left, bodies = iter(prepared), list[bytes]()

    async def use(connection: Connection, left: Iterator[bytes]) -> None:
        for one in left:
            bodies.append(await connection.send(one))

    started = time.perf_counter()
    try:
        await asyncio.gather(*(use(connection, left) for connection in opened))
        return Load(time.perf_counter() - started, bodies)
    finally:
        for connection in opened:
            await connection.aclose()


@dataclass(frozen=True)
class Answered:
    """Times as `time.time()` tells them. `late`: seconds by which the request was sent after its turn."""

    posted: float
    answered: float
    late: float
    body: bytes


async def pace(port: int, prepared: Sequence[bytes], per_second: float) -> list[Answered]:
    """Sends each request at its turn, whether or not earlier ones have been answered."""
    free, answers = list[Connection](), list[Answered]()

    async def send(one: bytes, turn: float) -> None:
        posted = time.time()
        connection = free.pop() if free else await Connection.open(port)
        body = await connection.send(one)
        free.append(connection)
        answers.append(Answered(posted, time.time(), posted - turn, body))

    started = time.time()
    try:
        async with asyncio.TaskGroup() as sending:
            for number, one in enumerate(prepared):
                turn = started + number / per_second
                await asyncio.sleep(max(0.0, turn - time.time()))
                sending.create_task(send(one, turn))
        return answers
    finally:
        for connection in free:
            await connection.aclose()


def percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


async def ask(port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
    """One request on a connection of its own; the JSON of the answer."""
    connection = await Connection.open(port)
    try:
        answered = await connection.send(request(method, path, port, body, headers))
        return json.loads(answered) if answered else None
    finally:
        await connection.aclose()
