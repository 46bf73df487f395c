"""The engine of one worker without the worker: the test takes the steps itself, in the order it wants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import httpx
from sqlalchemy.engine import Row

from covergate.gateway import Gateway
from covergate.transport.transport import Transport
from covergate.vendor_health.circuit_breaker import CircuitBreakers
from covergate.verifications import engine
from covergate.verifications.create import Acceptance
from covergate.verifications.lanes import claim
from covergate.verifications.request import CreateVerification
from covergate.verifications.store import Claimed
from covergate.verifications.view import find_row, opened_view
from tests.support.due import Due, due_in
from tests.support.gateways import CALLER, TENANT
from tests.support.requests import REQUEST
from tests.support.sql import run_sql
from tests.support.waiting import eventually
from tests.support.wire import Handler


async def accept(gateway: Gateway, **changes: Any) -> str:
    """The id of a new verification: `REQUEST` with these changes."""
    request = CreateVerification.model_validate({**REQUEST, **changes})
    return (await Acceptance(gateway).create(CALLER, request, None)).id


async def view(gateway: Gateway, verification_id: str) -> dict[str, Any]:
    """The verification as GET returns it, before JSON."""
    async with gateway.connection() as db:
        row = await find_row(db, TENANT, CALLER.mode, verification_id)
        assert row is not None
        return await opened_view(db, gateway.sealer, row)


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
        """The verifications that have a step to come, of all vendors, the soonest first."""
        return await self.work.steps()

    async def take(self, verification_id: str | None = None) -> Claimed:
        """The soonest step, or this verification's, claimed as if its time had come. Until its lease ends it is nobody else's."""
        if verification_id is None:
            verification_id = (await self.due())[0]
        lane = await self.work.come(verification_id)
        async with self.gateway.connection() as db:
            [claimed] = await claim(db, self.gateway.sealer, {lane: 1}, {lane: 1_000_000})
        assert claimed.key == verification_id
        return claimed

    async def advance(self, claimed: Claimed) -> None:
        """Makes a step that was taken, as a worker does. The claim stays as it was: it can be used again."""
        await self.steps.advance(copy(claimed))

    async def failed_inside(self, claimed: Claimed) -> None:
        """Our own code failed in a step that was taken."""
        await self.steps.failed_inside(copy(claimed))

    async def step(self, verification_id: str | None = None) -> Claimed:
        """Takes the soonest step, or this verification's, and makes it."""
        claimed = await self.take(verification_id)
        await self.advance(claimed)
        return claimed

    async def run_all(self) -> None:
        """Every step that is due within 20 seconds, until none is."""
        while found := await self.work.steps(within_seconds=20):
            for verification_id in found:
                await self.step(verification_id)

    async def end_leases(self) -> None:
        """Whoever took a step has died."""
        await self.work.end_leases()

    async def waiting_for_locks(self, number: int) -> None:
        """So many sessions wait for what another has locked."""

        async def waiting() -> bool:
            return len(await self.rows("SELECT 1 FROM pg_locks WHERE NOT granted")) >= number

        await eventually(waiting)

    async def view(self, verification_id: str) -> dict[str, Any]:
        return await view(self.gateway, verification_id)

    async def timeline(self, verification_id: str) -> list[str]:
        return [entry["type"] for entry in await self.entries(verification_id)]

    async def entries(self, verification_id: str) -> list[dict[str, Any]]:
        """The timeline's rows as they are kept."""
        rows = await self.rows("SELECT entries FROM history WHERE verification_id = :id ORDER BY n", id=verification_id)
        return [entry for row in rows for entry in row.entries]

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
