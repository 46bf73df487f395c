"""The gateway as its partners and vendors meet it: real HTTP on every hop, one database, and a clock that need not be waited for.

API, sandbox and the partner's receiver run in the test process, and so does a worker, unless the test starts workers as
processes of their own (`processes.py`). Nothing of ours is replaced: what makes a test short is the database's due times.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx
from fastapi import FastAPI
from sqlalchemy.engine import Row
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from covergate.access.api_keys import SCOPES, create_key
from covergate.api.app import create_app
from covergate.console.app import create_console
from covergate.db.outage import DATABASE_ERRORS, is_away
from covergate.gateway import Gateway, connections_of
from covergate.sandbox.app import create_sandbox
from covergate.sandbox.settings import SandboxSettings
from covergate.sandbox.world import World
from covergate.server import Part, listening, running, start_server, url_of
from covergate.settings import Settings
from covergate.transport.transport import Transport
from covergate.vendor_health.circuit_breaker import CircuitBreakers
from covergate.vendors.vendor import Connection
from covergate.worker import Worker
from tests.support.clients import Headers, make_operator
from tests.support.due import due_in
from tests.support.due_deliveries import deliveries_due_in
from tests.support.gateways import SANDBOX_SECRET
from tests.support.postgres import make_sealer, new_database, opened_database
from tests.support.requests import named_after
from tests.support.sql import run_sql
from tests.support.waiting import eventually

HERE = "127.0.0.1"
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
        await eventually(lambda: self.ends_of(verification_id), seconds, what=f"webhook about {verification_id}")
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
        await eventually(lambda: self.caught, what="a submission")

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
    """The running parts. `client` has a key with all scopes, in test mode; `operator` is for all tenants."""

    gateway: Gateway
    client: httpx.AsyncClient
    sandbox_url: str
    held: Held
    receiver: Receiver
    operator: Headers
    app: FastAPI

    async def create(self, vendor: str, member_id: str, **changes: Any) -> str:
        """The id of a verification of a patient of its own."""
        body = {**REQUEST, "vendor": vendor, "patient": REQUEST["patient"] | named_after(member_id), **changes}
        headers = {"Idempotency-Key": secrets.token_hex(16)}

        async def answered() -> httpx.Response | None:
            reply = await self.client.post("/v1/verifications", json=body, headers=headers)
            # 503: the database's connections were cut just now.
            return None if reply.status_code == 503 else reply

        reply = await eventually(answered, what=f"answer about {member_id}")
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

        await eventually(happened, what=type_)

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
        await eventually(lambda: self.submitted >= before + count, what=f"{count} submissions")

    async def vendors_rest(self) -> None:
        """Waits until the vendors have done all their work and sent all their events."""
        await eventually(lambda: not self.held.world._tasks, what="the end of the vendors' work")

    async def intended(self, verification_id: str) -> None:
        """Waits until the intent to submit is on disk."""
        await eventually(lambda: self.sql(_INTENDED, id=verification_id), what="an intent")

    async def give_up(self, verification_id: str) -> None:
        """What an operator does about a submission of unknown fate."""
        body = {"action": "give_up"}
        reply = await self.client.post(f"/v1/verifications/{verification_id}/resolve", json=body, headers=self.operator)
        assert reply.status_code == 200, reply.text

    async def cut_connections(self) -> None:
        """Ends every connection to the database, the house's own included."""
        admin = await asyncpg.connect(self.gateway.database.url)
        await admin.execute(_CUT)
        await admin.close()

    async def sql(self, statement: str, **values: Any) -> Sequence[Row[Any]]:
        try:
            return await run_sql(self.gateway, statement, **values)
        except DATABASE_ERRORS as error:
            if not is_away(error):
                raise
            return await run_sql(self.gateway, statement, **values)  # its connection had been cut; now the pool knows

    async def move_clock(self, minutes: int, sent_by: float) -> None:
        """What would be due within so many minutes is due now; what waits for a deadline that is near keeps waiting.

        A submission is not looked up before `sent_by` real seconds are over since its intent.
        """
        await self.sql(_MOVE_CLOCK, minutes=minutes, sent_by=sent_by)
        work = due_in(self.gateway)
        await work.hasten_within(minutes, late=False)
        await work.wake()

    async def end_leases(self) -> None:
        """All that is under way is taken up again, that of living workers too."""
        for due in (due_in(self.gateway), deliveries_due_in(self.gateway)):
            try:
                await due.end_leases()
            except DATABASE_ERRORS as error:
                if not is_away(error):
                    raise
                await due.end_leases()  # its connection had been cut; now the pool knows

    async def put_aside(self) -> None:
        """What waits or is under way now is not for the workers that come next."""
        await due_in(self.gateway).put_aside()

    @asynccontextmanager
    async def fast_clock(self, minutes: int, sent_by: float = 0.0) -> AsyncIterator[None]:
        """In the block, nobody waits longer than a moment for anything due within so many minutes; see `move_clock`."""

        async def move() -> None:
            while True:
                try:
                    await self.move_clock(minutes, sent_by)
                except DATABASE_ERRORS as error:
                    if not is_away(error):  # its connection was cut
                        raise
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
  SELECT verification_id FROM work
  WHERE deadline > clock_timestamp() + interval '1 minute' AND due_at <= next_check_at AND late_tries IS NULL
    AND state = 'submitting' FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE work w SET
  lookup_after = CASE WHEN lookup_after BETWEEN clock_timestamp() AND clock_timestamp() + make_interval(mins => :minutes)
                       AND intent_at <= clock_timestamp() - make_interval(secs => :sent_by)
                      THEN clock_timestamp() ELSE lookup_after END,
  intent_at = CASE WHEN intent_at BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() - interval '10 seconds'
                   THEN intent_at - make_interval(mins => :minutes) ELSE intent_at END
FROM waiting WHERE w.verification_id = waiting.verification_id"""
"""Rows that somebody is working on are left for the next time: what he brings would not be that of the row any more."""

_INTENDED = "SELECT 1 FROM work WHERE verification_id = :id AND state = 'submitting'"
_CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""


def waits_for_operator(verification: dict[str, Any]) -> bool:
    return (verification["waiting_for"] or {}).get("kind") == "operator"


@asynccontextmanager
async def opened_house(postgres_url: str, template: str, *, with_worker: bool) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        database_url = await stack.enter_async_context(new_database(postgres_url, template))
        api_socket = stack.enter_context(listening(HERE, 0, "COVERGATE"))
        sandbox_socket = stack.enter_context(listening(HERE, 0, "COVERGATE_SANDBOX"))
        receiver_socket = stack.enter_context(listening(HERE, 0, "COVERGATE"))
        sandbox = create_sandbox(
            SandboxSettings(
                secret=SANDBOX_SECRET,
                delay_seconds=VENDOR_DELAY_SECONDS,
                gateway_url=url_of(api_socket),
                _env_file=None,
            )
        )
        held = Held(sandbox, sandbox.state.world)
        receiver = Receiver()
        settings = Settings(
            database_url=database_url,
            sandbox_url=url_of(sandbox_socket),
            sandbox_secret=SANDBOX_SECRET,
            allow_private_network=True,
            circuit_least_calls=NEVER_OPENS,
            _env_file=None,
        )
        database = await stack.enter_async_context(opened_database(database_url, make_sealer(), pool_size=15))
        gateway = Gateway(settings, database, _impatient(connections_of(settings)))
        app = create_app(gateway, console=create_console(gateway))
        await stack.enter_async_context(
            running(
                await start_server("receiver", receiver.app, receiver_socket),
                await start_server("sandbox", held, sandbox_socket),
                await start_server("api", app, api_socket, before_stop=app.state.waiters.close),
            )
        )
        if with_worker:
            breakers = CircuitBreakers(gateway)
            transport = await stack.enter_async_context(Transport(allow_private_network=True, ended=breakers.count))
            worker = Worker(gateway, transport, breakers)
            await stack.enter_async_context(running(Part("worker", asyncio.create_task(worker.run()), worker.stop)))
        key = await create_key(gateway, tenant="Clinic North", mode="test", scopes=SCOPES)
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
        yield House(gateway, client, url_of(sandbox_socket), held, receiver, await make_operator(gateway), app)


def _impatient(connections: Mapping[tuple[str, str], Connection]) -> dict[tuple[str, str], Connection]:
    """With short waits between two looks at a vendor."""
    return {
        key: connection.model_copy(
            update={"poll_seconds": POLL_SECONDS} if "poll_seconds" in type(connection).model_fields else {}
        )
        for key, connection in connections.items()
    }
