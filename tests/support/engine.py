"""The engine of one worker without the worker: the test takes the steps itself, in the order it wants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
from sqlalchemy.engine import Row

from covergate.gateway import Gateway
from covergate.transport.transport import Transport
from covergate.vendor_health.circuit_breaker import CircuitBreakers
from covergate.verifications import engine
from covergate.verifications.create import Acceptance
from covergate.verifications.request import CreateVerification
from covergate.verifications.view import read_view
from tests.support.due import Due, due_in
from tests.support.gateways import CALLER, TENANT
from tests.support.requests import REQUEST
from tests.support.sql import run_sql
from tests.support.wire import Handler


async def accept(gateway: Gateway, **changes: Any) -> str:
    """The id of a new verification: `REQUEST` with these changes."""
    request = CreateVerification.model_validate({**REQUEST, **changes})
    return (await Acceptance(gateway).create(CALLER, request, None)).id


async def view(gateway: Gateway, verification_id: str) -> dict[str, Any]:
    """The verification as GET returns it, before JSON."""
    async with gateway.connection() as db:
        shown = await read_view(db, gateway.sealer, TENANT, CALLER.mode, verification_id)
    assert shown is not None
    return shown


@dataclass
class Engine:
    gateway: Gateway
    steps: engine.Engine

    def asking_again_at_once(self, vendor: str) -> Engine:
        """The same with no pause between two polls."""
        eager = self.gateway.connections["test", vendor].model_copy(update={"poll_seconds": 0})
        gateway = replace(self.gateway, connections={**self.gateway.connections, ("test", vendor): eager})
        return Engine(gateway, engine.Engine(gateway, self.steps.transport, self.breakers))

    @property
    def breakers(self) -> CircuitBreakers:
        return self.steps.breakers

    @property
    def work(self) -> Due:
        return due_in(self.gateway)

    async def create(self, **changes: Any) -> str:
        return await accept(self.gateway, **changes)

    async def due(self) -> list[str]:
        """The keys of the steps that wait, of all vendors, those for later included, oldest first."""
        return await self.work.steps()

    async def take(self) -> str:
        """The oldest step, taken as if its time had come. Nothing brings it back but the sweep."""
        key = (await self.due())[0]
        await self.work.take(key)
        return key

    async def advance(self, key: str) -> None:
        """Makes a step that was taken, as a worker does."""
        await self.steps.advance(key)

    async def failed_inside(self, key: str) -> None:
        """Our own code failed in a step that was taken."""
        await self.steps.failed_inside(key)

    async def step(self) -> str:
        """Takes the oldest step and makes it."""
        key = await self.take()
        await self.advance(key)
        return key

    async def run_all(self) -> None:
        """Every step that is due within 20 seconds, until none is."""
        while keys := await self.work.steps(within_seconds=20):
            for key in keys:
                await self.work.take(key)
                await self.advance(key)

    async def forget_due(self) -> None:
        """No worker comes for the steps that wait; the sweep may find them."""
        await self.work.forget()

    async def view(self, verification_id: str) -> dict[str, Any]:
        return await view(self.gateway, verification_id)

    async def timeline(self, verification_id: str) -> list[str]:
        rows = await self.rows("SELECT type FROM timeline WHERE verification_id = :id ORDER BY id", id=verification_id)
        return [row.type for row in rows]

    async def events(self) -> list[str]:
        return [row.type for row in await self.rows("SELECT type FROM events ORDER BY id")]

    async def run_sql(self, statement: str, **values: Any) -> None:
        await self.rows(statement, **values)

    async def rows(self, statement: str, **values: Any) -> Sequence[Row[Any]]:
        return await run_sql(self.gateway, statement, **values)


@asynccontextmanager
async def running_engine(gateway: Gateway, wire: Handler) -> AsyncIterator[Engine]:
    breakers = CircuitBreakers(gateway)
    async with Transport(allow_private_network=True, ended=breakers.count, wire=httpx.MockTransport(wire)) as transport:
        yield Engine(gateway, engine.Engine(gateway, transport, breakers))
