"""Deliveries as a partner sees them: each with every try that was made, and one more try on request."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate import ids
from covergate.access import audit
from covergate.access.caller import Caller
from covergate.db.page import Page, page, plan_for_values
from covergate.db.queue import announce
from covergate.db.sql import Query
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.states import DeliveryStatus, EndpointStatus, SubjectKind
from covergate.timestamps import instant
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
_LIST = Query(
    f"""{_SELECT}
WHERE d.endpoint_id = :endpoint_id AND (:after IS NULL OR d.id < :after) ORDER BY d.id DESC LIMIT :limit""",
    after="text",
)
_READ = Query(f"{_SELECT} WHERE d.id = :id")
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


async def list_deliveries(gateway: Gateway, caller: Caller, endpoint_id: str, after: str | None, limit: int) -> Page:
    """Newest first. Raises Problem `not_found`."""
    async with gateway.transaction() as db:
        await find(db, caller, endpoint_id)
        await plan_for_values(db)
        values = {"endpoint_id": endpoint_id, "after": after, "limit": limit + 1}
        rows = await _LIST.all(db, values)
    return page(rows, limit, lambda row: str(row.id), _view)


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
        return await read_delivery(db, delivery_id)


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
