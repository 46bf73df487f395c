"""Endpoints, events and deliveries without a worker: the test takes the deliveries itself, in the order it wants."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Row

from covergate import ids
from covergate.gateway import Gateway
from covergate.states import EventType
from covergate.webhooks.endpoints import place_of_secret
from covergate.webhooks.events import ClaimedDelivery, News, publish
from covergate.webhooks.places import Places
from covergate.webhooks.sender import Deliverer
from tests.support.due_deliveries import DueDeliveries, deliveries_due_in
from tests.support.sql import run_sql

THIN: dict[str, Any] = {
    "id": "ver_1",
    "external_id": None,
    "status": "completed",
    "outcome": "eligible",
    "outcome_reason": None,
    "failure_code": None,
    "metadata": {},
}
"""The payload of an event about a verification, without PHI."""

SCHEDULE = [5, 30, 120, 600, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
"""The promised pauses between two tries, in seconds: 5 s, 30 s, 2 min, 10 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h."""


def new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def news_of(type_: str = "verification.completed", **changes: Any) -> News:
    values = {"tenant_id": "ten_test", "mode": "test", "verification_id": None, "data": THIN, **changes}
    return News(type=EventType(type_), **values)


@dataclass
class Hooks:
    """What partners subscribed to, and what is on its way to them."""

    gateway: Gateway

    async def endpoint(self, url: str, **columns: Any) -> tuple[str, str]:
        """Its id and its secret. With `previous_secret` it is one that was just rotated."""
        endpoint_id, secret = ids.new(ids.ENDPOINT), new_secret()
        previous = columns.get("previous_secret")
        sealer, tenant, mode = self.gateway.sealer, columns.get("tenant", "ten_test"), columns.get("mode", "test")
        await self.gateway.meet(tenant)
        await self.run_sql(
            "INSERT INTO webhook_endpoints (id, tenant_id, mode, url, event_types, payload, status, secret_sealed,"
            " previous_secret_sealed, previous_secret_until)"
            " VALUES (:id, :tenant, :mode, :url, :types, :payload, :status, :secret, CAST(:previous AS bytea),"
            " CASE WHEN CAST(:previous AS bytea) IS NOT NULL THEN clock_timestamp() + interval '24 hours' END)",
            id=endpoint_id,
            tenant=tenant,
            mode=mode,
            url=url,
            types=columns.get("event_types", ["*"]),
            payload=columns.get("payload", "thin"),
            status=columns.get("status", "enabled"),
            secret=sealer.seal(place_of_secret(tenant, mode, endpoint_id, "secret"), secret.encode()),
            previous=previous
            and sealer.seal(place_of_secret(tenant, mode, endpoint_id, "previous_secret"), previous.encode()),
        )
        return endpoint_id, secret

    async def publish(self, type_: str = "verification.completed", times: int = 1, **changes: Any) -> None:
        async with self.gateway.transaction() as db:
            await publish(db, [news_of(type_, **changes)] * times)

    @property
    def work(self) -> DueDeliveries:
        return deliveries_due_in(self.gateway)

    async def due(self) -> list[str]:
        """The ids of deliveries that wait, the soonest first, those for later included."""
        return await self.work.ids()

    async def take(self, delivery_id: str | None = None) -> ClaimedDelivery:
        """The soonest delivery, or this one, claimed as if its time had come. Until its lease ends it is nobody else's."""
        if delivery_id is None:
            delivery_id = (await self.due())[0]
        await self.work.come(delivery_id)
        [claimed] = await Places(self.gateway, 1).claim(())
        assert claimed.key == delivery_id
        return claimed

    async def deliver_next(self, deliverer: Deliverer) -> ClaimedDelivery:
        """Takes the soonest delivery and makes it."""
        claimed = await self.take()
        await deliverer.deliver(claimed)
        return claimed

    async def delivery(self) -> Row[Any]:
        """The only one, and in `due_in` the seconds to its next attempt."""
        [row] = await self.rows(
            "SELECT *, extract(epoch FROM next_attempt_at - clock_timestamp()) AS due_in FROM deliveries"
        )
        return row

    async def attempts(self) -> Sequence[Row[Any]]:
        """All tries, in their order: those that failed, and those that delivered, which stand in their deliveries."""
        return await self.rows(
            "SELECT * FROM ("
            " SELECT id AS n, delivery_id, at, status, duration_ms, error, answer_sealed FROM delivery_attempts UNION ALL"
            " SELECT NULL, id, last_at, last_status, last_duration_ms, last_error, last_answer_sealed FROM deliveries"
            " WHERE status = 'delivered') AS tries ORDER BY n NULLS LAST, at"
        )

    async def move_clock(self) -> None:
        """Everything that waits is due now."""
        await self.work.hasten()

    async def run_sql(self, statement: str, **values: Any) -> None:
        await self.rows(statement, **values)

    async def rows(self, statement: str, **values: Any) -> Sequence[Row[Any]]:
        return await run_sql(self.gateway, statement, **values)
