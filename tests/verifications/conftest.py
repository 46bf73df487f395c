"""What the engine's tests stand on: a tenant, a gateway in test mode, and a scripted vendor on the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from covergate.access.caller import Caller
from covergate.db.database import Database
from covergate.gateway import Gateway, connections_of
from covergate.settings import Settings
from covergate.transport.transport import Transport
from covergate.verifications.advance import Advancer
from covergate.verifications.create import create
from covergate.verifications.request import CreateVerification
from covergate.verifications.view import read_view

CALLER = Caller("ten_test", "test", "key_test", frozenset())

REQUEST: dict[str, Any] = {
    "vendor": "integrex",
    "payer": {"id": "60054", "name": "Aetna"},
    "patient": {
        "first_name": "Jane",
        "last_name": "Sample",
        "date_of_birth": "1990-02-03",
        "member_id": "W123456789",
        "address": {"state": "CA"},
    },
    "provider": {"npi": "1234567893"},
    "service": {"place_of_service_code": "10", "specialty": "PSY"},
}

Handler = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


@dataclass
class Wire:
    """The vendor's side: answers what the test scripted, in order per call; the last answer is repeated."""

    script: dict[str, list[Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def on(self, call: str, *answers: Any) -> Wire:
        """`call` like `POST /api/v2/enhanced-eligibility`; an answer is (status, body), an exception or a function."""
        self.script[call] = list(answers)
        return self

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/integrex").removeprefix("/sohar")
        call = f"{request.method} {path}"
        if path in ("/api/v2/auth", "/oauth/token", "/health_harbor/api/v0/auth/token"):
            token = {"token": "t", "access_token": "t", "token_type": "Bearer", "expires_in": 3600}
            return httpx.Response(200, json=token)
        self.calls.append(call)
        answers = self.script[call]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(answer) and not isinstance(answer, type):
            answer = answer(request)
            if asyncio.iscoroutine(answer):
                answer = await answer
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        status, body, *headers = answer
        return httpx.Response(status, content=json.dumps(body), headers=headers[0] if headers else None)


SUBMIT = "POST /api/v2/enhanced-eligibility"
POLL = "GET /api/v2/enhanced-eligibility"
ACTIVE = {"coverageStatusCode": "1", "coverageStatusDesc": "Active", "copay($)": "30.00"}


@pytest.fixture
def wire() -> Wire:
    return Wire().on(SUBMIT, (200, {"id": "1234567890987654321"})).on(POLL, (202, {}), (200, ACTIVE))


@pytest.fixture
async def gateway(database: Database) -> Gateway:
    settings = Settings(sandbox_url="http://sandbox.invalid", _env_file=None)  # type: ignore[call-arg]
    async with database.transaction() as db:
        await db.execute(text("INSERT INTO tenants (id, name) VALUES ('ten_test', 'Test clinic')"))
    return Gateway(settings, database, connections_of(settings))


@pytest.fixture
async def advancer(gateway: Gateway, wire: Wire) -> AsyncIterator[Advancer]:
    async with Transport(allow_private_network=True, wire=httpx.MockTransport(wire)) as transport:
        yield Advancer(gateway, transport)


@dataclass
class Engine:
    """One worker without its queue: the test runs the jobs itself, in the order it wants."""

    gateway: Gateway
    advancer: Advancer

    def asking_again_at_once(self, vendor: str) -> Engine:
        """The same with no pause between two polls."""
        eager = self.gateway.connections["test", vendor].model_copy(update={"poll_seconds": 0})
        gateway = replace(self.gateway, connections={**self.gateway.connections, ("test", vendor): eager})
        return Engine(gateway, Advancer(gateway, self.advancer.transport))

    async def create(self, **changes: Any) -> str:
        request = CreateVerification.model_validate({**REQUEST, **changes})
        return (await create(self.gateway, CALLER, request, None, {})).id

    async def jobs(self, entrypoint: str = "advance") -> list[str]:
        """The keys of the jobs in the queue, of all lanes, those for later included, oldest first."""
        rows = await self._rows(
            "SELECT convert_from(payload, 'UTF8') FROM pgqueuer WHERE split_part(entrypoint, ':', 1) = :e ORDER BY id",
            e=entrypoint,
        )
        return [row[0] for row in rows]

    async def take(self) -> str:
        """The oldest job, taken from the queue as if its time had come."""
        key = (await self.jobs())[0]
        await self.run_sql("DELETE FROM pgqueuer WHERE dedupe_key = :key", key=key)
        return key

    async def step(self) -> str:
        key = await self.take()
        await self.advancer.advance(key)
        return key

    async def view(self, verification_id: str) -> dict[str, Any]:
        async with self.gateway.connection() as db:
            shown = await read_view(db, self.gateway.sealer, "ten_test", "test", verification_id)
        assert shown is not None
        return shown

    async def timeline(self, verification_id: str) -> list[str]:
        rows = await self._rows("SELECT type FROM timeline WHERE verification_id = :id ORDER BY id", id=verification_id)
        return [row.type for row in rows]

    async def events(self) -> list[str]:
        return [row.type for row in await self._rows("SELECT type FROM events ORDER BY id")]

    async def run_sql(self, statement: str, **values: Any) -> None:
        async with self.gateway.connection() as db:
            await db.execute(text(statement), values)

    async def _rows(self, statement: str, **values: Any) -> Any:
        async with self.gateway.connection() as db:
            return (await db.execute(text(statement), values)).all()


@pytest.fixture
def engine(gateway: Gateway, advancer: Advancer) -> Engine:
    return Engine(gateway, advancer)
