"""The gateway as its partners and vendors meet it: real HTTP on every hop, one database, and a clock that need not be waited for.

API, sandbox and the partner's receiver run in the test process; workers run there too (`house`) or as processes that can be
killed (`bare_house` and `workers`). Nothing of ours is replaced: what makes a test short is the database's due times.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
import structlog
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from covergate.access.api_keys import create_key
from covergate.api.app import create_app
from covergate.db.database import Database, make_engine
from covergate.db.jobs import DELIVER, DELIVER_SLOWLY, lane
from covergate.db.queue_schema import announcement
from covergate.db.sealing import KeyRing, Sealer
from covergate.gateway import Gateway, connections_of
from covergate.sandbox.app import create_sandbox
from covergate.sandbox.settings import SandboxSettings
from covergate.sandbox.world import World
from covergate.server import Part, listening, running, start_server, url_of
from covergate.settings import Settings
from covergate.transport.transport import Transport
from covergate.vendors import VENDORS
from covergate.worker import Worker
from tests.support.commands import NURSERY, bare_environment

HERE = "127.0.0.1"
KEYS = "test:" + base64.b64encode(b"only for tests, 32 bytes of key.").decode()
VENDOR_DELAY_SECONDS = 0.1
POLL_SECONDS = 0.3
NEVER_OPENS = 1_000_000
"""Calls before a circuit may open: here vendors fail on purpose, and circuits have tests of their own."""
TERMINAL = ("verification.completed", "verification.failed", "verification.canceled")

REQUEST: dict[str, Any] = {
    "payer": {"id": "60054", "name": "Aetna"},
    "patient": {
        "first_name": "Jane",
        "last_name": "Sample",
        "date_of_birth": "1990-09-20",
        "gender": "F",
        "address": {"line1": "1 Main St", "city": "Oakland", "state": "CA", "zip": "94601"},
    },
    "provider": {"npi": "1234567893", "tax_id": "123456789", "name": "Sample Clinic"},
    "service": {
        "service_type_codes": ["MH"],
        "procedure_codes": ["90837"],
        "place_of_service_code": "10",
        "specialty": "PSY",
    },
    "vendor_options": {"vsee": {"carrier_code": "car7551"}, "healthie": {"insurance_plan_id": "102"}},
}
"""What any vendor needs; the vendors' own names for the payer are those that their sandboxes list."""


async def until(condition: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    """The condition's first true value. It may be a coroutine function."""
    ends = time.monotonic() + seconds
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < ends, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.02)


@dataclass
class Receiver:
    """The partner: verifies every webhook by the Standard Webhooks specification and keeps what it was told."""

    secret: str = field(default="", repr=False)
    forged: int = 0
    told: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """Verification id → webhook id → event type: a resend of one event counts once."""
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Webhook id → body."""

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/webhooks", self._receive, methods=["POST"])])

    def ends_of(self, verification_id: str) -> list[dict[str, Any]]:
        """The terminal events that were announced, as they came."""
        told = self.told[verification_id]
        return [self.bodies[id_] for id_, type_ in told.items() if type_ in TERMINAL]

    async def end_of(self, verification_id: str, seconds: float = 20) -> dict[str, Any]:
        """Waits for the one terminal event."""
        await until(lambda: self.ends_of(verification_id), f"webhook about {verification_id}", seconds)
        ends = self.ends_of(verification_id)
        assert len(ends) == 1
        return ends[0]

    async def _receive(self, request: Request) -> Response:
        body = await request.body()
        try:
            Webhook(self.secret).verify(body, dict(request.headers))
        except Exception:  # the library raises whatever a forged header makes its parsing raise
            self.forged += 1
            return Response(status_code=401)
        event = json.loads(body)
        self.bodies[request.headers["webhook-id"]] = event
        self.told[event["data"].get("id", "")][request.headers["webhook-id"]] = event["type"]
        return Response(status_code=204)


@dataclass
class Held:
    """In front of the sandbox: while `holding`, the reply to a call that submitted something is kept back."""

    app: ASGIApp
    world: World
    holding: bool = False
    caught: int = 0
    """Replies that were kept back so far."""
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def caught_one(self) -> None:
        await until(lambda: self.caught, "a submission")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        before = len(self.world.submissions)

        async def sending(message: Message) -> None:
            if self.holding and message["type"] == "http.response.start" and len(self.world.submissions) > before:
                self.caught += 1
                await self.release.wait()
            await send(message)

        await self.app(scope, receive, sending)


@dataclass
class House:
    """The running parts. `client` has a key with all scopes, in test mode."""

    gateway: Gateway
    client: httpx.AsyncClient
    sandbox_url: str
    held: Held
    receiver: Receiver

    async def create(self, vendor: str, member_id: str, **changes: Any) -> str:
        """The id of a verification of a patient of its own."""
        body = {**REQUEST, "vendor": vendor, "patient": REQUEST["patient"] | {"member_id": member_id}, **changes}
        headers = {"Idempotency-Key": secrets.token_hex(16)}

        async def answered() -> httpx.Response | None:
            reply = await self.client.post("/v1/verifications", json=body, headers=headers)
            # 503: the database's connections were cut just now.
            return None if reply.status_code == 503 else reply

        reply = await until(answered, f"answer about {member_id}")
        assert reply.status_code == 202, reply.text
        return str(reply.json()["id"])

    async def read(self, verification_id: str, wait: int = 0) -> dict[str, Any]:
        headers = {"Prefer": f"wait={wait}"} if wait else {}
        reply = await self.client.get(f"/v1/verifications/{verification_id}", headers=headers)
        # 503: the database's connections were cut just now.
        return dict(reply.json()) if reply.status_code != 503 else {"status": "unknown", "waiting_for": None}

    async def settled(self, verification_id: str, seconds: float = 90, patience: int = 1) -> dict[str, Any]:
        """The verification once it has ended, or waits for an operator, which is looked for every `patience` seconds."""
        ends = time.monotonic() + seconds
        while True:
            seen = await self.read(verification_id, wait=patience)
            if seen["status"] in ("completed", "failed", "canceled") or waits_for_operator(seen):
                return seen
            assert time.monotonic() < ends, f"after {seconds} s: {seen} {await self.timeline(verification_id)}"

    async def timeline(self, verification_id: str) -> list[str]:
        """Like `submitted 21:00:01.234`."""
        reply = await self.client.get(f"/v1/verifications/{verification_id}/timeline")
        return [f"{row['type']} {row['at'][11:23]}" for row in reply.json()["data"]]

    async def happens(self, verification_id: str, type_: str) -> None:
        """Waits for a row of the timeline."""

        async def happened() -> bool:
            return any(row.startswith(f"{type_} ") for row in await self.timeline(verification_id))

        await until(happened, type_)

    async def statuses(self, verification_id: str) -> list[int]:
        """What the vendor's replies had as HTTP status."""
        reply = await self.client.get(f"/v1/verifications/{verification_id}/raw")
        return [exchange["status"] for exchange in reply.json()["exchanges"]]

    async def submissions(self) -> list[dict[str, Any]]:
        """What the vendors were really asked to do, as they counted it."""
        async with httpx.AsyncClient(trust_env=False) as client:
            return list((await client.get(f"{self.sandbox_url}/_sandbox/submissions")).json())

    async def submissions_by_member(self) -> Counter[str]:
        return Counter(submission["member_id"] for submission in await self.submissions())

    @property
    def submitted(self) -> int:
        """How many submissions the vendors have counted by now."""
        return len(self.held.world.submissions)

    async def submitted_since(self, before: int, count: int) -> None:
        """Waits until there are so many more than `before`; what is to make them must have been asked after that was taken."""
        await until(lambda: self.submitted >= before + count, f"{count} submissions")

    async def vendors_rest(self) -> None:
        """Waits until the vendors have done all their work and sent all their events."""
        await until(lambda: not self.held.world._tasks, "the end of the vendors' work")

    async def intended(self, verification_id: str) -> None:
        """Waits until the intent to submit is on disk."""
        await until(lambda: self.sql(_INTENDED, id=verification_id), "an intent")

    async def give_up(self, verification_id: str) -> None:
        """What an operator does about a submission of unknown fate."""
        body = {"action": "give_up"}
        reply = await self.client.post(f"/v1/verifications/{verification_id}/resolve", json=body)
        assert reply.status_code == 200, reply.text

    async def cut_connections(self) -> None:
        """Ends every connection to the database, the house's own included."""
        admin = await asyncpg.connect(self.gateway.database.url)
        await admin.execute(_CUT)
        await admin.close()

    async def sql(self, statement: str, **values: Any) -> Any:
        try:
            return await self._sql(statement, values)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            return await self._sql(statement, values)  # its connection had been cut; now the pool knows

    async def _sql(self, statement: str, values: dict[str, Any]) -> Any:
        async with self.gateway.connection() as db:
            result = await db.execute(text(statement), values)
            return result.all() if result.returns_rows else None

    async def move_clock(self, minutes: int, sent_by: float) -> None:
        """What would be due within so many minutes is due now; what waits for a deadline that is near keeps waiting.

        A submission is not looked up before `sent_by` real seconds are over since its intent.
        """
        entrypoints = [*(lane(vendor) for vendor in VENDORS), DELIVER, DELIVER_SLOWLY]
        channels, payloads = zip(*(announcement(entrypoint) for entrypoint in entrypoints), strict=True)
        values = {
            "sent_by": sent_by,
            "entrypoints": entrypoints,
            "channels": list(channels),
            "payloads": list(payloads),
        }
        await self.sql(_MOVE_CLOCK, minutes=minutes, **values)

    async def lose_heartbeats(self) -> None:
        """As if the heartbeats of all jobs under way had stopped long ago: they are taken up again, those of the living too."""
        await self.sql(_LOSE_HEARTBEATS)

    @asynccontextmanager
    async def fast_clock(self, minutes: int, sent_by: float = 0.0) -> AsyncIterator[None]:
        """In the block, nobody waits longer than a moment for anything due within so many minutes; see `move_clock`."""

        async def move() -> None:
            while True:
                with suppress(DBAPIError):  # its connection was cut
                    await self.move_clock(minutes, sent_by)
                await asyncio.sleep(0.15)

        moving = asyncio.create_task(move())
        try:
            yield
        finally:
            moving.cancel()
            with suppress(asyncio.CancelledError):
                await moving


_MOVE_CLOCK = """
WITH waiting AS (
  SELECT id, attempt_id FROM verifications
  WHERE status IN ('queued', 'in_progress') AND deadline > clock_timestamp() + interval '1 minute'
), looked_up AS (
  UPDATE attempts SET lookup_after = clock_timestamp()
  WHERE id IN (SELECT a.id FROM attempts a JOIN waiting w ON w.attempt_id = a.id
               WHERE a.lookup_after BETWEEN clock_timestamp() AND clock_timestamp() + make_interval(mins => :minutes)
                 AND a.intent_at <= clock_timestamp() - make_interval(secs => :sent_by)
               FOR UPDATE OF a SKIP LOCKED)
), long_ago AS (
  UPDATE attempts SET intent_at = intent_at - make_interval(mins => :minutes)
  WHERE id IN (SELECT a.id FROM attempts a JOIN waiting w ON w.attempt_id = a.id
               WHERE a.state = 'submitting' AND a.intent_at < clock_timestamp() - interval '10 seconds'
                 AND a.intent_at > clock_timestamp() - interval '1 minute' FOR UPDATE OF a SKIP LOCKED)
), due AS (
  UPDATE pgqueuer SET execute_after = clock_timestamp()
  WHERE id IN (SELECT id FROM pgqueuer
               WHERE status = 'queued'
                 AND (dedupe_key NOT LIKE 'ver%' OR split_part(dedupe_key, ':', 1) IN (SELECT id FROM waiting))
                 AND execute_after BETWEEN clock_timestamp() AND clock_timestamp() + make_interval(mins => :minutes)
               FOR UPDATE SKIP LOCKED)
  RETURNING entrypoint
)
SELECT pg_notify(channel, payload) FROM (SELECT entrypoint FROM due GROUP BY entrypoint) AS groups
JOIN unnest(CAST(:entrypoints AS text[]), CAST(:channels AS text[]), CAST(:payloads AS text[]))
     AS n(entrypoint, channel, payload) USING (entrypoint)"""
"""Rows that somebody is working on are left for the next time: the clock must not make anybody wait."""

_INTENDED = "SELECT id FROM attempts WHERE verification_id = :id AND state = 'submitting'"
_CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""
_LOSE_HEARTBEATS = "UPDATE pgqueuer SET heartbeat = clock_timestamp() - interval '1 hour' WHERE status = 'picked'"


def waits_for_operator(verification: dict[str, Any]) -> bool:
    return (verification["waiting_for"] or {}).get("kind") == "operator"


@asynccontextmanager
async def opened_house(postgres_url: str, template: str, *, with_worker: bool) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        database_url = await stack.enter_async_context(_cloned(postgres_url, template))
        api_socket = stack.enter_context(listening(HERE, 0, "COVERGATE"))
        sandbox_socket = stack.enter_context(listening(HERE, 0, "COVERGATE_SANDBOX"))
        receiver_socket = stack.enter_context(listening(HERE, 0, "COVERGATE"))
        sandbox = create_sandbox(
            SandboxSettings(delay_seconds=VENDOR_DELAY_SECONDS, gateway_url=url_of(api_socket), _env_file=None)
        )
        held = Held(sandbox, sandbox.state.world)
        receiver = Receiver()
        settings = Settings(
            database_url=database_url,
            sandbox_url=url_of(sandbox_socket),
            allow_private_network=True,
            circuit_least_calls=NEVER_OPENS,
            _env_file=None,
        )
        engine = make_engine(database_url, pool_size=15, application_name="tests")
        database = Database(database_url, engine, Sealer(KeyRing.parse(KEYS)))
        stack.push_async_callback(database.aclose)
        gateway = Gateway(settings, database, _impatient(connections_of(settings)))
        app = create_app(gateway)
        await stack.enter_async_context(
            running(
                await start_server("receiver", receiver.app, receiver_socket),
                await start_server("sandbox", held, sandbox_socket),
                await start_server("api", app, api_socket, before_stop=app.state.waiters.close),
            )
        )
        if with_worker:
            transport = await stack.enter_async_context(Transport(allow_private_network=True))
            worker = Worker(gateway, transport)
            await stack.enter_async_context(running(Part("worker", asyncio.create_task(worker.run()), worker.stop)))
        key = await create_key(gateway, tenant="Clinic North", mode="test")
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=url_of(api_socket),
                headers={"Authorization": f"Bearer {key}"},
                timeout=60,
                limits=httpx.Limits(max_connections=150),
                trust_env=False,
            )
        )
        reply = await client.post("/v1/webhook-endpoints", json={"url": f"{url_of(receiver_socket)}/webhooks"})
        receiver.secret = reply.json()["secret"]
        yield House(gateway, client, url_of(sandbox_socket), held, receiver)


def _impatient(connections: dict[tuple[str, str], Any]) -> dict[tuple[str, str], Any]:
    """With short waits between two looks at a vendor."""
    return {
        key: connection.model_copy(
            update={"poll_seconds": POLL_SECONDS} if "poll_seconds" in type(connection).model_fields else {}
        )
        for key, connection in connections.items()
    }


@asynccontextmanager
async def _cloned(postgres_url: str, template: str) -> AsyncIterator[str]:
    name = f"e2e_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(postgres_url)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture(scope="module", autouse=True)
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Into a file, and plain: the default's coloured tracebacks with all values take seconds each."""
    before = structlog.get_config()
    with (tmp_path_factory.mktemp("logs") / "house.log").open("w") as file:
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper("iso", utc=True),
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=structlog.WriteLoggerFactory(file),
        )
        yield
        structlog.configure(**before)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house(postgres_url: str, template: str) -> AsyncIterator[House]:
    """Everything, a worker included."""
    async with opened_house(postgres_url, template, with_worker=True) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bare_house(postgres_url: str, template: str) -> AsyncIterator[House]:
    """Everything but a worker; see `workers`."""
    async with opened_house(postgres_url, template, with_worker=False) as opened:
        yield opened


@dataclass(frozen=True)
class Process:
    """A worker process that can be signalled at any instruction."""

    pid: int
    nursery: Nursery

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def ended(self, seconds: float = 30) -> int:
        """How it ended: an exit code, or minus the signal that ended it."""

        async def status() -> tuple[int] | None:
            code = await self.nursery.ask({"poll": self.pid})
            return None if code is None else (code,)

        return int((await until(status, f"end of worker {self.pid}", seconds))[0])

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert await self.ended() == -signal.SIGKILL


@dataclass
class Nursery:
    """`tests/support/nursery.py`: a process that has everything imported and forks workers, so that one starts in no time."""

    process: asyncio.subprocess.Process
    environment: dict[str, str]
    log: Path
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ask(self, order: dict[str, Any]) -> Any:
        async with self.turn:
            assert self.process.stdin is not None and self.process.stdout is not None
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            return json.loads(await self.process.stdout.readline())

    async def start(self, **environment: str) -> Process:
        order = {
            "arguments": ["worker"],
            "environment": self.environment | environment,
            "directory": str(self.log.parent),
            "stdin": os.devnull,
            "stdout": str(self.log),
            "stderr": str(self.log),
        }
        return Process(await self.ask(order), self)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def nursery(bare_house: House, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nursery]:
    directory = tmp_path_factory.mktemp("workers")
    environment = {
        **bare_environment(),
        "COVERGATE_DATABASE_URL": bare_house.gateway.database.url,
        "COVERGATE_ENCRYPTION_KEYS": KEYS,
        "COVERGATE_DATA_DIR": str(directory),
        "COVERGATE_SANDBOX_URL": bare_house.sandbox_url,
        "COVERGATE_ALLOW_PRIVATE_NETWORK": "true",
        "COVERGATE_CIRCUIT_LEAST_CALLS": str(NEVER_OPENS),
        "COVERGATE_LOG_FORMAT": "json",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        NURSERY,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=directory,
        env=bare_environment(),
    )
    nursery = Nursery(process, environment, directory / "workers.log")
    try:
        yield nursery
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def workers(nursery: Nursery) -> AsyncIterator[Callable[..., Awaitable[Process]]]:
    """Starts a real worker process on the bare house; keyword arguments are variables of its environment."""
    yield nursery.start


@pytest_asyncio.fixture(loop_scope="session")
async def nobody_left(nursery: Nursery) -> AsyncIterator[None]:
    """After the test no worker is alive, whatever became of the test."""
    yield
    await nursery.ask({"kill": "all"})
