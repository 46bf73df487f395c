"""How each endpoint is doing: failing, disabled, or well again; and the tenant's other endpoints are told, once for each change.

A try that fails is counted with its record. One that works writes nothing, unless the endpoint was failing when it was
claimed. Whether an endpoint counts as failing, or as well again, a worker's sweep decides, and the events are published with
the change: of two workers the second finds it made. Between a failure and a recovery lie two minutes of nothing but failures
and one of nothing but successes, so an endpoint that flaps tells of it every three minutes at most.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.states import DeliveryStatus, EndpointStatus, EventType
from covergate.timestamps import instant
from covergate.webhooks.events import News, publish

FAILURES = 3
FAILING_AFTER = "2 minutes"
WELL_AFTER = "1 minute"
GONE_REASON = "it answered 410 Gone"

WELL = "failures_in_row = 0, failed_since = NULL, failing_since = NULL, well_since = NULL"
"""What an endpoint of which nothing bad is known has."""
LAST_DELIVERED_AT = f"""(
  WITH RECURSIVE types AS (
    (SELECT event_type FROM deliveries
     WHERE endpoint_id = webhook_endpoints.id AND status = '{DeliveryStatus.DELIVERED}' ORDER BY event_type LIMIT 1)
    UNION ALL
    SELECT following.event_type FROM types AS before, LATERAL (
      SELECT event_type FROM deliveries
      WHERE endpoint_id = webhook_endpoints.id AND status = '{DeliveryStatus.DELIVERED}'
        AND event_type > before.event_type ORDER BY event_type LIMIT 1) AS following
  )
  SELECT max(newest.last_at) FROM types, LATERAL (
    SELECT last_at FROM deliveries
    WHERE endpoint_id = webhook_endpoints.id AND status = '{DeliveryStatus.DELIVERED}' AND event_type = types.event_type
    ORDER BY created_at DESC, id DESC LIMIT 1) AS newest)"""
"""Of a row of webhook_endpoints: when the newest delivery of any type was taken. No success is written down for it."""

_NOTE_SUCCESS = Query("""
UPDATE webhook_endpoints SET failures_in_row = 0, failed_since = NULL,
  well_since = CASE WHEN failing_since IS NOT NULL THEN coalesce(well_since, clock_timestamp()) END
WHERE id IN (SELECT id FROM webhook_endpoints WHERE id = :id AND failures_in_row > 0 FOR NO KEY UPDATE SKIP LOCKED)""")
_FAILING = Query(f"""
WITH due AS MATERIALIZED (
  SELECT id, {LAST_DELIVERED_AT} > failed_since AS well FROM webhook_endpoints
  WHERE failures_in_row >= {FAILURES} AND failed_since < clock_timestamp() - interval '{FAILING_AFTER}'
    AND failing_since IS NULL AND status = '{EndpointStatus.ENABLED}' AND deleted_at IS NULL
  ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE webhook_endpoints w SET failing_since = CASE WHEN due.well THEN NULL ELSE failed_since END,
  failures_in_row = CASE WHEN due.well THEN 0 ELSE failures_in_row END,
  failed_since = CASE WHEN due.well THEN NULL ELSE failed_since END
FROM due WHERE w.id = due.id
RETURNING w.id, tenant_id, mode, failing_since, failures_in_row""")
"""A success that came while the first failure was being counted is seen here: then the count begins again."""
_RECOVERED = Query(f"""
WITH due AS MATERIALIZED (
  SELECT id FROM webhook_endpoints
  WHERE failing_since IS NOT NULL AND failures_in_row = 0 AND well_since < clock_timestamp() - interval '{WELL_AFTER}'
    AND status = '{EndpointStatus.ENABLED}' AND deleted_at IS NULL
  ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE webhook_endpoints w SET {WELL} FROM due WHERE w.id = due.id RETURNING w.id, tenant_id, mode""")
_DISABLE = Query(f"""
UPDATE webhook_endpoints SET status = '{EndpointStatus.DISABLED}', disabled_reason = '{GONE_REASON}',
  updated_at = clock_timestamp(), {WELL}
WHERE id = :id AND url = :url AND status = '{EndpointStatus.ENABLED}' RETURNING tenant_id, mode""")

_LIST_FAILING = Query("""
SELECT w.id, t.name AS tenant, w.mode, w.failing_since, w.failures_in_row
FROM webhook_endpoints w JOIN tenants t ON t.id = w.tenant_id
WHERE failing_since IS NOT NULL AND deleted_at IS NULL ORDER BY failing_since""")


def counting_failures(failed: str) -> str:
    """A CTE that counts them with their endpoints. An endpoint that somebody has locked is not waited for, and misses a count."""
    return f"""
e AS MATERIALIZED (
  SELECT id FROM webhook_endpoints
  WHERE id IN (SELECT endpoint_id FROM {failed} AS f) AND status = '{EndpointStatus.ENABLED}'
  ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
), counted AS (
  UPDATE webhook_endpoints w SET failures_in_row = failures_in_row + f.number, failed_since = coalesce(failed_since, f.at),
    well_since = NULL
  FROM (SELECT endpoint_id, CAST(count(*) AS int) AS number, min(at) AS at FROM {failed} AS f GROUP BY endpoint_id) AS f
    JOIN e ON e.id = f.endpoint_id
  WHERE w.id = e.id
)"""


async def note_success(db: AsyncConnection, endpoint_id: str) -> None:
    """Of an endpoint whose tries failed: the count begins again."""
    await _NOTE_SUCCESS.run(db, {"id": endpoint_id})


async def disable_gone(db: AsyncConnection, endpoint_id: str, url: str) -> None:
    """It answered 410 at this URL, which may not be its own any more."""
    row = await _DISABLE.one(db, {"id": endpoint_id, "url": url})
    if row is not None:
        await tell_of_status(db, row.tenant_id, row.mode, endpoint_id, EndpointStatus.DISABLED, GONE_REASON)


async def tell_of_status(
    db: AsyncConnection, tenant_id: str, mode: str, endpoint_id: str, status: str, reason: str | None = None
) -> None:
    """It was switched off, or on again."""
    type_ = EventType.ENDPOINT_RECOVERED if status == EndpointStatus.ENABLED else EventType.ENDPOINT_DISABLED
    await publish(db, [_news(tenant_id, mode, type_, endpoint_id, str(status), reason=reason)])


async def tell_of_health(gateway: Gateway) -> int:
    """Marks endpoints that fail, and those that are well again, and tells of them; how many. For a worker's sweep."""
    async with gateway.transaction() as db:
        news = [
            _news(
                row.tenant_id,
                row.mode,
                EventType.ENDPOINT_FAILING,
                row.id,
                "failing",
                failing_since=instant(row.failing_since),
                failures_in_row=row.failures_in_row,
            )
            for row in await _FAILING.all(db)
            if row.failing_since is not None
        ]
        news += [
            _news(row.tenant_id, row.mode, EventType.ENDPOINT_RECOVERED, row.id, "enabled")
            for row in await _RECOVERED.all(db)
        ]
        await publish(db, news)
    return len(news)


async def list_failing(gateway: Gateway) -> list[dict[str, Any]]:
    """The endpoints of all tenants that fail, the longest first: for operators. No URL, which is the partner's own."""
    async with gateway.connection() as db:
        rows = await _LIST_FAILING.all(db)
    return [
        {
            "id": row.id,
            "tenant": row.tenant,
            "mode": row.mode,
            "failing_since": instant(row.failing_since),
            "failures_in_row": row.failures_in_row,
        }
        for row in rows
    ]


def _news(
    tenant_id: str,
    mode: str,
    type_: EventType,
    endpoint_id: str,
    state: str,
    *,
    reason: str | None = None,
    failing_since: str | None = None,
    failures_in_row: int = 0,
) -> News:
    data = {
        "id": endpoint_id,
        "state": state,
        "reason": reason,
        "failing_since": failing_since,
        "failures_in_row": failures_in_row,
    }
    return News(tenant_id, mode, type_, None, data, not_to=endpoint_id)
