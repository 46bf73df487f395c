"""Events for partners: published with their deliveries in the transaction of what they tell, and listed for catching up.

An end and its announcement are one fact. A list is thin, in the order of `events.position`, a sequence of the database's,
from a known event on. A position is drawn a moment before it is committed, so a list ends before the first event that was
made while a transaction was under way that still is: nothing can appear behind what a reader has seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.access.caller import Caller
from covergate.db import jobs
from covergate.db.page import Page, page
from covergate.db.sealing import Sealer
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.states import DeliveryStatus, EndpointStatus, EventType
from covergate.timestamps import instant

EVERY = "*"
"""The subscription to every event type."""
FULL = "full"
"""The payload of endpoints that get the whole verification, PHI included."""
KEPT = "30 days"
LONGEST_PUBLISHING = "5 minutes"
"""Ours end within a minute; another that is left open holds the list back for so long."""

_SUBSCRIBED = f"w.deleted_at IS NULL AND w.status = '{EndpointStatus.ENABLED}'"
_SUBSCRIBERS = Query(f"""
SELECT tenant_id, mode, type, array_agg(id ORDER BY id) AS endpoints, bool_or(w.payload = '{FULL}') AS wants_full
FROM unnest(CAST(:tenants AS text[]), CAST(:modes AS text[]), CAST(:types AS text[])) AS n(tenant_id, mode, type)
  JOIN webhook_endpoints w USING (tenant_id, mode)
WHERE {_SUBSCRIBED} AND w.event_types && ARRAY['{EVERY}', n.type]
GROUP BY tenant_id, mode, type""")
_SUBSCRIBED_TENANTS = Query(f"""
SELECT DISTINCT tenant_id FROM webhook_endpoints w
WHERE mode = :mode AND {_SUBSCRIBED} AND event_types && CAST(:wanted AS text[])""")
_PUBLISH = Query(f"""
WITH e AS (
  INSERT INTO events (id, tenant_id, mode, type, verification_id, data, position, created_at)
  SELECT n.*, clock_timestamp()
  FROM (SELECT u.*, nextval('events_position_seq')
        FROM unnest(CAST(:ids AS text[]), CAST(:tenants AS text[]), CAST(:modes AS text[]), CAST(:types AS text[]),
                    CAST(:verifications AS text[]), CAST(:data AS jsonb[])) AS u) AS n
)
INSERT INTO deliveries (id, event_id, endpoint_id, status, next_attempt_at)
SELECT id, event_id, endpoint_id, '{DeliveryStatus.PENDING}', clock_timestamp()
FROM unnest(CAST(:deliveries AS text[]), CAST(:events AS text[]), CAST(:endpoints AS text[])) AS d(id, event_id, endpoint_id)""")
_SETTLED = Query(f"""
SELECT greatest(least(clock_timestamp(), min(xact_start)), clock_timestamp() - interval '{LONGEST_PUBLISHING}')
FROM pg_stat_activity
WHERE backend_xid IS NOT NULL AND backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid()""")
"""Every transaction that made an event before this moment is over. To be asked before the list: its snapshot then has them."""
_LIST = Query(
    f"""
SELECT id, type, created_at, data, created_at < :settled AS settled FROM events
WHERE tenant_id = :tenant_id AND mode = :mode AND created_at > clock_timestamp() - interval '{KEPT}'
  AND position > coalesce((SELECT position FROM events WHERE id = :after AND tenant_id = :tenant_id AND mode = :mode), 0)
  AND (:types IS NULL OR type = ANY(:types))
ORDER BY position LIMIT :limit""",
    types="text[]",
    after="text",
    settled="timestamptz",
    tenant_id="text",
    mode="text",
)
_KEEP_FULL = Query("""
UPDATE events e SET full_sealed = f.sealed
FROM unnest(CAST(:ids AS text[]), CAST(:sealed AS bytea[])) AS f(id, sealed) WHERE e.id = f.id""")


@dataclass(frozen=True, slots=True)
class News:
    """One event to publish. `data` is the thin payload and holds no PHI."""

    tenant_id: str
    mode: str
    type: EventType
    verification_id: str | None
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Published:
    """`jobs` are the caller's to enqueue. `wanting_full`: event → its verification, which a subscriber gets as a whole."""

    jobs: list[jobs.Job]
    wanting_full: dict[str, str]


async def publish(db: AsyncConnection, news: Sequence[News]) -> Published:
    """Inserts the events, of any tenants, and a delivery for each subscriber.

    When the verifications are written, and in the same transaction, `keep_full` is due for what is `wanting_full`.
    """
    if not news:
        return Published([], {})
    kinds = list({(one.tenant_id, one.mode, one.type) for one in news})
    tenants, modes, types = zip(*kinds, strict=True)
    rows = await _SUBSCRIBERS.all(db, {"tenants": tenants, "modes": modes, "types": types})
    subscribers = {(row.tenant_id, row.mode, row.type): row for row in rows}
    events, wanting_full = [], {}
    for one in news:
        event_id, subscribed = ids.new(ids.EVENT), subscribers.get((one.tenant_id, one.mode, one.type))
        events.append((event_id, one, subscribed.endpoints if subscribed else []))
        if subscribed and subscribed.wants_full and one.verification_id is not None:
            wanting_full[event_id] = one.verification_id
    return Published([jobs.deliver(delivery, 0) for delivery in await _insert(db, events)], wanting_full)


async def keep_full(db: AsyncConnection, sealer: Sealer, payloads: Mapping[str, bytes]) -> None:
    """The full payloads of events, as JSON: what every try sends, whatever becomes of the verification meanwhile."""
    sealed = [sealer.seal("events", "full", event_id, payload) for event_id, payload in payloads.items()]
    await _KEEP_FULL.run(db, {"ids": list(payloads), "sealed": sealed})


async def publish_to_all(db: AsyncConnection, mode: str, type_: EventType, data: dict[str, Any]) -> list[jobs.Job]:
    """The same event for every tenant that has subscribed to it: news of a vendor, not of a verification."""
    rows = await _SUBSCRIBED_TENANTS.all(db, {"mode": mode, "wanted": [EVERY, type_]})
    return (await publish(db, [News(row.tenant_id, mode, type_, None, data) for row in rows])).jobs


async def publish_test(db: AsyncConnection, *, tenant_id: str, mode: str, endpoint_id: str) -> str:
    """An `endpoint.test` event for one endpoint, whatever it subscribes to: the delivery's id; the caller enqueues its job."""
    news = News(tenant_id, mode, EventType.ENDPOINT_TEST, None, {"id": endpoint_id})
    [delivery] = await _insert(db, [(ids.new(ids.EVENT), news, [endpoint_id])])
    return delivery


async def _insert(db: AsyncConnection, events: Sequence[tuple[str, News, Sequence[str]]]) -> list[str]:
    """Each event's id, the event, the endpoints that get it; returns the ids of the deliveries."""
    deliveries = [
        (ids.new(ids.DELIVERY), event_id, endpoint) for event_id, _, endpoints in events for endpoint in endpoints
    ]
    await _PUBLISH.run(
        db,
        {
            "ids": [event_id for event_id, _, _ in events],
            "tenants": [one.tenant_id for _, one, _ in events],
            "modes": [one.mode for _, one, _ in events],
            "types": [one.type for _, one, _ in events],
            "verifications": [one.verification_id for _, one, _ in events],
            "data": [orjson.dumps(one.data).decode() for _, one, _ in events],
            "deliveries": [delivery for delivery, _, _ in deliveries],
            "events": [event_id for _, event_id, _ in deliveries],
            "endpoints": [endpoint for _, _, endpoint in deliveries],
        },
    )
    return [delivery for delivery, _, _ in deliveries]


async def list_events(gateway: Gateway, caller: Caller, types: Sequence[str], after: str | None, limit: int) -> Page:
    """Those after the event `after`, oldest first; from the oldest if it is not kept any more."""
    values = {
        "tenant_id": caller.tenant_id,
        "mode": caller.mode,
        "after": after,
        "types": list(types) or None,
        "limit": limit + 1,
    }
    async with gateway.connection() as db:
        settled = await _SETTLED.scalar(db)
        rows = await _LIST.all(db, {**values, "settled": settled})
    rows = list(takewhile(lambda row: bool(row.settled), rows))
    return page(rows, limit, lambda row: str(row.id), _view)


def _view(row: Any) -> dict[str, Any]:
    return {"id": row.id, "type": row.type, "timestamp": instant(row.created_at), "data": row.data}
