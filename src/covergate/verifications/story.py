"""All that is known of one verification beside its PHI: how it came to where it stands, and whom it was told to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.access.caller import Caller
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.timestamps import instant
from covergate.verifications.queries import Filters, list_verifications, read_timeline, standing_of
from covergate.webhooks.deliveries import deliveries_about, events_about

MOST_STEPS = 1000
"""Of the timeline: the first ones."""
MOST_OF_FAMILY = 50

_EXCHANGES = Query("""
SELECT h.attempt_id, h.vendor, h.exchanges FROM history h
WHERE h.verification_id = :id AND h.exchanges IS NOT NULL ORDER BY h.n""")
_TENANT = Query("SELECT name FROM tenants WHERE id = :id")


@dataclass(frozen=True, slots=True)
class Story:
    """`exchanges` are in the order of the raw document, without what was said in them."""

    tenant_id: str
    tenant: str
    timeline: list[dict[str, Any]]
    exchanges: list[dict[str, Any]]
    events: list[dict[str, Any]]
    deliveries: list[dict[str, Any]]
    family: list[dict[str, Any]]
    """What was asked again of one another, itself included, the newest first."""


async def read_story(gateway: Gateway, caller: Caller, verification_id: str) -> Story:
    """Raises Problem `not_found`."""
    timeline = await read_timeline(gateway, caller, verification_id, 0, MOST_STEPS)
    async with gateway.connection() as db:
        standing = await standing_of(db, caller, verification_id)
    masked = replace(caller, within_tenant=standing.tenant_id, scopes=caller.scopes - {"phi"})
    filters = Filters(family=verification_id)
    family = await list_verifications(gateway, masked, filters, None, MOST_OF_FAMILY, "verification.list")
    async with gateway.connection() as db:
        return Story(
            standing.tenant_id,
            str(await _TENANT.scalar(db, {"id": standing.tenant_id})),
            timeline.data,
            await _exchanges(db, verification_id),
            await events_about(db, verification_id),
            await deliveries_about(db, verification_id),
            family.data,
        )


async def _exchanges(db: AsyncConnection, verification_id: str) -> list[dict[str, Any]]:
    return [
        {
            "attempt_id": row.attempt_id,
            "vendor": row.vendor,
            "at": instant(datetime.fromisoformat(exchange["at"])),
            "call": exchange["call"],
            "status": exchange["status"],
            # Not of exchanges from before it was measured.
            "duration_ms": exchange.get("duration_ms"),
        }
        for row in await _EXCHANGES.all(db, {"id": verification_id})
        for exchange in row.exchanges
    ]
