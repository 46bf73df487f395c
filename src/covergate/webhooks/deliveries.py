"""Deliveries as a partner sees them: each with every try that was made, and one more try on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids, instruments
from covergate.access import audit
from covergate.access.caller import Caller
from covergate.db.page import Page, page, plan_for_values
from covergate.db.queue import announce
from covergate.db.sql import Query
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.states import DeliveryStatus, EndpointStatus, SubjectKind
from covergate.timestamps import beyond, instant
from covergate.webhooks.endpoints import disabled, find
from covergate.webhooks.events import DELIVERIES

_SELECT = f"""
SELECT d.id, d.event_id, d.endpoint_id, d.status, d.next_attempt_at, d.created_at, e.type, (
  SELECT jsonb_agg(jsonb_build_object('at', a.at, 'status', a.status, 'duration_ms', a.duration_ms, 'error', a.error)
                   ORDER BY a.id NULLS LAST)
  FROM (SELECT id, at, status, duration_ms, error FROM delivery_attempts WHERE delivery_id = d.id
        UNION ALL
        SELECT NULL, d.last_at, d.last_status, d.last_duration_ms, d.last_error
        WHERE d.status = '{DeliveryStatus.DELIVERED}' AND d.last_at IS NOT NULL) AS a) AS attempts
FROM deliveries d JOIN events e ON e.id = d.event_id"""
DELIVERY_KINDS = """
kinds AS (
  (SELECT status, event_type FROM deliveries WHERE endpoint_id = :endpoint_id ORDER BY status, event_type LIMIT 1)
  UNION ALL
  SELECT following.* FROM kinds AS before, LATERAL (
    SELECT status, event_type FROM deliveries
    WHERE endpoint_id = :endpoint_id AND (status, event_type) > (before.status, before.event_type)
    ORDER BY status, event_type LIMIT 1) AS following
)"""
"""The statuses and event types that the endpoint's deliveries have: one probe of the index for each, so that the few that are
wanted are found among many others.
"""
_LIST = Query(
    f"""
WITH RECURSIVE {DELIVERY_KINDS}, page AS MATERIALIZED (
  SELECT one.* FROM kinds, LATERAL (
    SELECT id, created_at FROM deliveries d
    WHERE endpoint_id = :endpoint_id AND status = kinds.status AND event_type = kinds.event_type
      AND (:created_after IS NULL OR created_at >= :created_after)
      AND (:created_before IS NULL OR created_at < :created_before)
      AND (:after IS NULL OR (created_at, id) < (:after_at, :after))
      AND (:event_types IS NULL OR kinds.event_type <> ''
           OR EXISTS (SELECT FROM events e WHERE e.id = d.event_id AND e.type = ANY(:event_types)))
    ORDER BY created_at DESC, id DESC LIMIT :limit) AS one
  WHERE (:statuses IS NULL OR kinds.status = ANY(:statuses))
    AND (:event_types IS NULL OR kinds.event_type = ANY(:event_types) OR kinds.event_type = '')
  ORDER BY created_at DESC, id DESC LIMIT :limit
)
{_SELECT} WHERE d.id = ANY(ARRAY(SELECT id FROM page)) ORDER BY d.created_at DESC, d.id DESC""",
    statuses="text[]",
    event_types="text[]",
    created_after="timestamptz",
    created_before="timestamptz",
    after="text",
    after_at="timestamptz",
    limit="int",
)
_READ = Query(f"{_SELECT} WHERE d.id = :id")
_ABOUT = Query(f"{_SELECT} WHERE e.verification_id = :id ORDER BY d.id LIMIT 500")
_EVENTS_ABOUT = Query("SELECT id, type, created_at FROM events WHERE verification_id = :id ORDER BY position LIMIT 200")
_LOCK = Query("""
SELECT w.status AS endpoint_status FROM deliveries d JOIN webhook_endpoints w ON w.id = d.endpoint_id
WHERE d.id = :id AND w.tenant_id = :tenant_id AND w.mode = :mode AND w.deleted_at IS NULL FOR UPDATE OF d""")
_AGAIN = Query(f"""
WITH tried AS (
  INSERT INTO delivery_attempts (delivery_id, at, status, duration_ms, error, answer_sealed)
  SELECT id, last_at, last_status, last_duration_ms, last_error, last_answer_sealed FROM deliveries
  WHERE id = :id AND status = '{DeliveryStatus.DELIVERED}' AND last_at IS NOT NULL
)
UPDATE deliveries SET status = '{DeliveryStatus.PENDING}', step = step + 1, tries = 0,
  next_attempt_at = now(), due_at = now(), ended_at = NULL
WHERE id = :id""")
"""The try that worked gets a row of its own: the next one takes its place."""
_ALL_AGAIN = Query(f"""
WITH l AS MATERIALIZED (
  SELECT d.id, w.tenant_id, w.mode
  FROM events e JOIN deliveries d ON d.event_id = e.id JOIN webhook_endpoints w ON w.id = d.endpoint_id
  WHERE e.verification_id = :id AND w.deleted_at IS NULL AND w.status = '{EndpointStatus.ENABLED}'
  ORDER BY d.id FOR NO KEY UPDATE OF d
), tried AS (
  INSERT INTO delivery_attempts (delivery_id, at, status, duration_ms, error, answer_sealed)
  SELECT id, last_at, last_status, last_duration_ms, last_error, last_answer_sealed FROM deliveries JOIN l USING (id)
  WHERE status = '{DeliveryStatus.DELIVERED}' AND last_at IS NOT NULL
)
UPDATE deliveries d SET status = '{DeliveryStatus.PENDING}', step = step + 1, tries = 0,
  next_attempt_at = now(), due_at = now(), ended_at = NULL
FROM l WHERE d.id = l.id RETURNING d.id, l.tenant_id, l.mode""")


@dataclass(frozen=True, slots=True)
class DeliveryFilters:
    """None and empty: not asked for. Instants are exclusive."""

    statuses: Sequence[str] = ()
    event_types: Sequence[str] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None


async def list_deliveries(
    gateway: Gateway, caller: Caller, endpoint_id: str, filters: DeliveryFilters, after: str | None, limit: int
) -> Page:
    """Newest first. `after` is the place of the last row seen (`place_in_list`). Raises Problem `not_found`."""
    last_at, last_id = place_in_list(after) if after is not None else (None, None)
    values = {
        "endpoint_id": endpoint_id,
        "statuses": list(filters.statuses) or None,
        "event_types": list(filters.event_types) or None,
        **beyond(filters.created_after, filters.created_before),
        "after": last_id,
        "after_at": last_at,
        "limit": limit + 1,
    }
    async with gateway.transaction() as db:
        await find(db, caller, endpoint_id)
        await plan_for_values(db)
        rows = await _LIST.all(db, values)
    return page(rows, limit, _place, _view)


def place_in_list(place: str) -> tuple[datetime, str]:
    """When the row at this place was made, and its id. Raises ValueError if it is no place."""
    at, _, id_ = place.partition(" ")
    if not ids.is_id(ids.DELIVERY, id_):
        raise ValueError("no id of a delivery")
    made_at = datetime.fromisoformat(at)
    if made_at.tzinfo is None or f"{made_at.astimezone(UTC).isoformat()} {id_}" != place:
        raise ValueError("not as it was given")
    return made_at, id_


def _place(row: Any) -> str:
    return f"{row.created_at.astimezone(UTC).isoformat()} {row.id}"


async def redeliver(gateway: Gateway, caller: Caller, delivery_id: str) -> dict[str, Any]:
    """A new try at once, whatever became of the earlier ones, and the whole schedule again if it fails.

    Raises Problem `not_found`, `endpoint_disabled`.
    """
    async with gateway.transaction() as db:
        row = None
        if ids.is_id(ids.DELIVERY, delivery_id):
            values = {"id": delivery_id, "tenant_id": caller.tenant_id, "mode": caller.mode}
            row = await _LOCK.one(db, values)
        if row is None:
            raise Problem("not_found", "there is no such delivery")
        if row.endpoint_status != EndpointStatus.ENABLED:
            raise disabled()
        await _AGAIN.run(db, {"id": delivery_id})
        await audit.record(db, caller, "delivery.redeliver", SubjectKind.DELIVERY, [delivery_id])
        announce(db, DELIVERIES)
        delivery = await read_delivery(db, delivery_id)
    instruments.count_redeliveries("redelivery")
    return delivery


async def redeliver_all(db: AsyncConnection, caller: Caller, verification_id: str) -> int:
    """The same for every delivery of a verification's events to an endpoint that is enabled; how many there are.

    The verification is known to be the caller's.
    """
    rows = await _ALL_AGAIN.all(db, {"id": verification_id})
    for tenant_id, mode in {(row.tenant_id, row.mode) for row in rows}:
        ids_ = [row.id for row in rows]
        whose = {"tenant_id": tenant_id, "mode": mode}
        await audit.record(db, caller, "delivery.redeliver", SubjectKind.DELIVERY, ids_, **whose)
    if rows:
        announce(db, DELIVERIES)
    return len(rows)


async def read_delivery(db: AsyncConnection, delivery_id: str) -> dict[str, Any]:
    """Of an id that is known to be the caller's."""
    return _view(await _READ.one(db, {"id": delivery_id}))


async def deliveries_about(db: AsyncConnection, verification_id: str) -> list[dict[str, Any]]:
    """Of a verification that is known to be the caller's, oldest first."""
    return [_view(row) for row in await _ABOUT.all(db, {"id": verification_id})]


async def events_about(db: AsyncConnection, verification_id: str) -> list[dict[str, Any]]:
    """Likewise, without what was told."""
    rows = await _EVENTS_ABOUT.all(db, {"id": verification_id})
    return [{"id": row.id, "type": row.type, "created_at": instant(row.created_at)} for row in rows]


def _view(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "delivery",
        "event_id": row.event_id,
        "event_type": row.type,
        "endpoint_id": row.endpoint_id,
        "status": row.status,
        "attempts": [{**attempt, "at": instant(attempt["at"])} for attempt in row.attempts or ()],
        "next_attempt_at": instant(row.next_attempt_at),
        "created_at": instant(row.created_at),
    }
