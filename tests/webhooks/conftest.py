"""What the webhook tests stand on: a partner's server on a real socket, endpoints in the database, and jobs taken by hand."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from sqlalchemy import text
from standardwebhooks.webhooks import Webhook

from covergate import ids
from covergate.db import jobs
from covergate.db.database import Database
from covergate.gateway import Gateway, connections_of
from covergate.settings import Settings
from covergate.verifications.view import read_view
from covergate.webhooks.announce import announce
from covergate.webhooks.sender import Deliverer

THIN = {
    "id": "ver_1",
    "external_id": None,
    "status": "completed",
    "outcome": "eligible",
    "outcome_reason": None,
    "failure_code": None,
    "metadata": {},
}


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    def verified_with(self, secret: str) -> Any:
        return Webhook(secret).verify(self.body, self.headers)


Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(status: int = 200, body: bytes = b"ok", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says nothing until the other side has had enough."""
    await reader.read()


@dataclass
class Partner:
    """A partner's web server: keeps what it got; each path answers what the test says, 200 where it says nothing."""

    base: str = ""
    received: list[Received] = field(default_factory=list)
    behaviours: dict[str, bytes | Behaviour] = field(default_factory=dict)
    connections: int = 0
    open: int = 0

    def url(self, path: str = "/hooks") -> str:
        return self.base + path

    def on(self, path: str, behaviour: bytes | Behaviour) -> str:
        """The URL of `path`, which from now on answers so."""
        self.behaviours[path] = behaviour
        return self.url(path)

    def at(self, path: str) -> list[Received]:
        return [request for request in self.received if request.path == path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        number = self.connections
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                path = head[0].split(" ")[1]
                self.received.append(Received(path, headers, body, number))
                behaviour = self.behaviours.get(path, answer())
                if isinstance(behaviour, bytes):
                    writer.write(behaviour)
                    await writer.drain()
                else:
                    await behaviour(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def partner_server() -> AsyncIterator[Partner]:
    partner = Partner()
    handlers: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        with suppress(asyncio.CancelledError):
            await partner.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    partner.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield partner
    finally:
        server.close()
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


@pytest.fixture
async def partner() -> AsyncIterator[Partner]:
    async with partner_server() as running:
        yield running


def new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


async def eventually(holds: Callable[[], Any], seconds: float = 10) -> None:
    """Waits until `holds()` (or what it awaits) is true."""
    async with asyncio.timeout(seconds):
        while True:
            value = holds()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return
            await asyncio.sleep(0.01)


@dataclass
class Hooks:
    """Endpoints, events and their delivery jobs, which the test runs itself, in the order it wants."""

    gateway: Gateway

    async def endpoint(self, url: str, **columns: Any) -> tuple[str, str]:
        """Its id and its secret. With `previous_secret` it is one that was just rotated."""
        endpoint_id, secret = ids.new(ids.ENDPOINT), new_secret()
        previous = columns.get("previous_secret")
        sealer = self.gateway.sealer
        await self.run_sql(
            "INSERT INTO webhook_endpoints (id, tenant_id, mode, url, event_types, payload, status, secret_sealed,"
            " previous_secret_sealed, previous_secret_until)"
            " VALUES (:id, :tenant, :mode, :url, :types, :payload, :status, :secret, CAST(:previous AS bytea),"
            " CASE WHEN CAST(:previous AS bytea) IS NOT NULL THEN clock_timestamp() + interval '24 hours' END)",
            id=endpoint_id,
            tenant=columns.get("tenant", "ten_test"),
            mode=columns.get("mode", "test"),
            url=url,
            types=columns.get("event_types", ["*"]),
            payload=columns.get("payload", "thin"),
            status=columns.get("status", "enabled"),
            secret=sealer.seal("webhook_endpoints", "secret", endpoint_id, secret.encode()),
            previous=previous and sealer.seal("webhook_endpoints", "previous_secret", endpoint_id, previous.encode()),
        )
        return endpoint_id, secret

    async def announce(self, type_: str = "verification.completed", times: int = 1, **changes: Any) -> None:
        values = {"tenant_id": "ten_test", "mode": "test", "verification_id": None, "data": THIN, **changes}
        async with self.gateway.transaction() as db:
            for _ in range(times):
                await jobs.enqueue(db, await announce(db, type_=type_, **values))

    async def take(self) -> str:
        """The oldest job, taken from the queue as if its time had come, so that only its key is left of it."""
        [(_, key)] = (await self.jobs())[:1]
        await self.run_sql("DELETE FROM pgqueuer WHERE dedupe_key = :key", key=key)
        return key

    async def jobs(self) -> list[tuple[str, str]]:
        """(entrypoint, key), oldest first, those for later included."""
        rows = await self.rows("SELECT entrypoint, convert_from(payload, 'UTF8') AS key FROM pgqueuer ORDER BY id")
        return [(row.entrypoint, row.key) for row in rows]

    async def delivery(self) -> Any:
        """The only one there is."""
        [row] = await self.rows(
            "SELECT *, extract(epoch FROM next_attempt_at - clock_timestamp()) AS due_in FROM deliveries"
        )
        return row

    async def attempts(self) -> Any:
        return await self.rows("SELECT * FROM delivery_attempts ORDER BY id")

    async def move_clock(self) -> None:
        """Everything that waits is due now."""
        await self.run_sql("UPDATE deliveries SET next_attempt_at = clock_timestamp() WHERE status = 'pending'")
        await self.run_sql("UPDATE pgqueuer SET execute_after = clock_timestamp() WHERE status = 'queued'")

    async def run_sql(self, statement: str, **values: Any) -> None:
        async with self.gateway.connection() as db:
            await db.execute(text(statement), values)

    async def rows(self, statement: str, **values: Any) -> Any:
        async with self.gateway.connection() as db:
            return (await db.execute(text(statement), values)).all()


async def make_gateway(database: Database, **changes: Any) -> Gateway:
    given = {"sandbox_url": "http://sandbox.invalid", "allow_private_network": True, **changes}
    settings = Settings(_env_file=None, **given)
    async with database.transaction() as db:
        await db.execute(
            text("INSERT INTO tenants (id, name) VALUES ('ten_test', 'Test clinic'), ('ten_other', 'Other clinic')")
        )
    return Gateway(settings, database, connections_of(settings))


@pytest.fixture
async def gateway(database: Database) -> Gateway:
    return await make_gateway(database)


@pytest.fixture
def hooks(gateway: Gateway) -> Hooks:
    return Hooks(gateway)


@pytest.fixture
async def deliverer(gateway: Gateway) -> AsyncIterator[Deliverer]:
    async with Deliverer(gateway, read_view) as running:
        yield running
