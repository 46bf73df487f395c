"""An event and its deliveries, made in the transaction of what they tell: an end and its announcement are one fact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.db import jobs
from covergate.db.sql import Query
from covergate.webhooks.event_types import TEST

USUAL_ENDPOINTS = 2
"""For so many subscribers an event and its deliveries are one statement."""

_EVENT = Query("""
WITH e AS (
  INSERT INTO events (id, tenant_id, mode, type, verification_id, data)
  VALUES (:id, CAST(:tenant_id AS text), CAST(:mode AS text), :type, :verification_id, :data)
), w AS (
  SELECT id, row_number() OVER (ORDER BY id) AS n FROM webhook_endpoints
  WHERE tenant_id = CAST(:tenant_id AS text) AND mode = CAST(:mode AS text) AND deleted_at IS NULL AND status = 'enabled'
    AND event_types && CAST(:wanted AS text[])
), d AS (
  INSERT INTO deliveries (id, event_id, endpoint_id, status, next_attempt_at)
  SELECT (CAST(:ids AS text[]))[n], :id, id, 'pending', clock_timestamp() FROM w WHERE n <= cardinality(CAST(:ids AS text[]))
)
SELECT id FROM w ORDER BY n""")
_TEST = text("""
INSERT INTO events (id, tenant_id, mode, type, data) VALUES (:id, :tenant_id, :mode, :type, :data)""").bindparams(
    bindparam("data", type_=JSONB)
)
_DELIVERIES = text("""
INSERT INTO deliveries (id, event_id, endpoint_id, status, next_attempt_at)
SELECT d.id, :event_id, d.endpoint_id, 'pending', clock_timestamp()
FROM unnest(CAST(:ids AS text[]), CAST(:endpoints AS text[])) AS d(id, endpoint_id)""")


async def announce(
    db: AsyncConnection, *, tenant_id: str, mode: str, type_: str, verification_id: str | None, data: dict[str, Any]
) -> list[jobs.Job]:
    """Insert the event and one delivery per subscribed endpoint; returns the delivery jobs for the caller to enqueue.

    `data` is the thin payload and holds no PHI.
    """
    event_id = ids.new(ids.EVENT)
    spare = [ids.new(ids.DELIVERY) for _ in range(USUAL_ENDPOINTS)]
    rows = await _EVENT.all(
        db,
        {
            "id": event_id,
            "tenant_id": tenant_id,
            "mode": mode,
            "type": type_,
            "verification_id": verification_id,
            "data": orjson.dumps(data).decode(),
            "wanted": ["*", type_],
            "ids": spare,
        },
    )
    made = spare[: len(rows)]
    if len(rows) > len(made):
        more = [ids.new(ids.DELIVERY) for _ in rows[len(made) :]]
        endpoints = [row["id"] for row in rows[len(made) :]]
        await db.execute(_DELIVERIES, {"event_id": event_id, "ids": more, "endpoints": endpoints})
        made += more
    return [jobs.deliver(delivery, 0) for delivery in made]


@dataclass(frozen=True, slots=True)
class News:
    """What one of many events tells; as the arguments of `announce`."""

    tenant_id: str
    mode: str
    type: str
    verification_id: str | None
    data: dict[str, Any]


_SUBSCRIBERS = Query("""
SELECT tenant_id, mode, type, array_agg(id ORDER BY id) AS endpoints
FROM unnest(CAST(:tenants AS text[]), CAST(:modes AS text[]), CAST(:types AS text[])) AS n(tenant_id, mode, type)
  JOIN webhook_endpoints w USING (tenant_id, mode)
WHERE w.deleted_at IS NULL AND w.status = 'enabled' AND w.event_types && ARRAY['*', n.type]
GROUP BY tenant_id, mode, type""")
_EVENTS = Query("""
WITH e AS (
  INSERT INTO events (id, tenant_id, mode, type, verification_id, data)
  SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:tenants AS text[]), CAST(:modes AS text[]), CAST(:types AS text[]),
                       CAST(:verifications AS text[]), CAST(:data AS jsonb[]))
)
INSERT INTO deliveries (id, event_id, endpoint_id, status, next_attempt_at)
SELECT id, event_id, endpoint_id, 'pending', clock_timestamp()
FROM unnest(CAST(:deliveries AS text[]), CAST(:events AS text[]), CAST(:endpoints AS text[])) AS d(id, event_id, endpoint_id)""")


async def announce_all(db: AsyncConnection, news: Sequence[News]) -> list[jobs.Job]:
    """Many events, of any tenants, in two statements."""
    if not news:
        return []
    kinds = list({(one.tenant_id, one.mode, one.type) for one in news})
    tenants, modes, types = zip(*kinds, strict=True)
    found = await _SUBSCRIBERS.all(db, {"tenants": tenants, "modes": modes, "types": types})
    subscribers = {(row["tenant_id"], row["mode"], row["type"]): row["endpoints"] for row in found}
    events = [(ids.new(ids.EVENT), one) for one in news]
    deliveries = [
        (ids.new(ids.DELIVERY), event_id, endpoint)
        for event_id, one in events
        for endpoint in subscribers.get((one.tenant_id, one.mode, one.type), ())
    ]
    await _EVENTS.all(
        db,
        {
            "ids": [event_id for event_id, _ in events],
            "tenants": [one.tenant_id for one in news],
            "modes": [one.mode for one in news],
            "types": [one.type for one in news],
            "verifications": [one.verification_id for one in news],
            "data": [orjson.dumps(one.data).decode() for one in news],
            "deliveries": [delivery for delivery, _, _ in deliveries],
            "events": [event_id for _, event_id, _ in deliveries],
            "endpoints": [endpoint for _, _, endpoint in deliveries],
        },
    )
    return [jobs.deliver(delivery, 0) for delivery, _, _ in deliveries]


_SUBSCRIBED_TENANTS = text("""
SELECT DISTINCT tenant_id FROM webhook_endpoints
WHERE mode = :mode AND deleted_at IS NULL AND status = 'enabled' AND event_types && CAST(:wanted AS text[])""")


async def announce_to_all(db: AsyncConnection, *, mode: str, type_: str, data: dict[str, Any]) -> list[jobs.Job]:
    """The same event for every tenant that has subscribed to it: news of a vendor, not of a verification."""
    tenants = (await db.execute(_SUBSCRIBED_TENANTS, {"mode": mode, "wanted": ["*", type_]})).scalars().all()
    return await announce_all(db, [News(tenant_id, mode, type_, None, data) for tenant_id in tenants])


async def announce_test(db: AsyncConnection, *, tenant_id: str, mode: str, endpoint_id: str) -> str:
    """An `endpoint.test` event for one endpoint, whatever it subscribes to: the delivery's id; the caller enqueues its job."""
    event_id, delivery_id = ids.new(ids.EVENT), ids.new(ids.DELIVERY)
    data = {"id": endpoint_id}
    await db.execute(_TEST, {"id": event_id, "tenant_id": tenant_id, "mode": mode, "type": TEST, "data": data})
    await db.execute(_DELIVERIES, {"event_id": event_id, "ids": [delivery_id], "endpoints": [endpoint_id]})
    return delivery_id
