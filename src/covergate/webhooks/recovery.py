"""Recovering an endpoint: what it missed since a moment is delivered anew, each event under the `webhook-id` it had.

Batch after batch, each a transaction of its own, so that no lock is held for long however much there is. A request that was
cut off is sent again: what was already recovered is due or delivered by then, and is not counted twice.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

from covergate import instruments
from covergate.access import audit
from covergate.access.caller import Caller
from covergate.db.page import plan_for_values
from covergate.db.queue import announce
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.states import DeliveryStatus, EndpointStatus, SubjectKind
from covergate.timestamps import shown_since
from covergate.webhooks.deliveries import DELIVERY_KINDS
from covergate.webhooks.endpoints import disabled, find
from covergate.webhooks.events import DELIVERIES

Missed: TypeAlias = Literal["exhausted", "pending", "all"]

RECOVERED_AT_ONCE = 2000
STATUSES: dict[Missed, list[DeliveryStatus]] = {
    "exhausted": [DeliveryStatus.EXHAUSTED],
    "pending": [DeliveryStatus.PENDING],
    "all": [DeliveryStatus.EXHAUSTED, DeliveryStatus.PENDING],
}
RESTS = f"(status = '{DeliveryStatus.EXHAUSTED}' OR next_attempt_at > now())"
"""What is due, or in somebody's hand, is left alone."""
_RECOVER = Query(
    f"""
WITH RECURSIVE {DELIVERY_KINDS}, chosen AS MATERIALIZED (
  SELECT one.* FROM kinds, LATERAL (
    SELECT id, created_at FROM deliveries
    WHERE endpoint_id = :endpoint_id AND status = kinds.status AND event_type = kinds.event_type
      AND created_at >= :since AND (:after IS NULL OR (created_at, id) > (:after_at, :after)) AND {RESTS}
    ORDER BY created_at, id LIMIT :batch) AS one
  WHERE kinds.status = ANY(:statuses)
  ORDER BY created_at, id LIMIT :batch
), locked AS MATERIALIZED (
  SELECT id, created_at FROM deliveries WHERE id = ANY(ARRAY(SELECT id FROM chosen)) AND {RESTS}
  ORDER BY id FOR NO KEY UPDATE
), moved AS (
  UPDATE deliveries d SET status = '{DeliveryStatus.PENDING}', step = step + 1, tries = 0, ended_at = NULL,
    next_attempt_at = now() + o.n * interval '1 microsecond', due_at = now() + o.n * interval '1 microsecond'
  FROM (SELECT id, row_number() OVER (ORDER BY created_at, id) AS n FROM locked) AS o WHERE d.id = o.id RETURNING 1
)
SELECT (SELECT count(*) FROM moved) AS moved, (SELECT count(*) FROM chosen) AS chosen, last.id, last.created_at
FROM (SELECT id, created_at FROM chosen ORDER BY created_at DESC, id DESC LIMIT 1) AS last""",
    statuses="text[]",
    since="timestamptz",
    after="text",
    after_at="timestamptz",
    batch="int",
)
"""Locked in the order of ids, as everywhere; due in the order in which they were made."""


async def recover(gateway: Gateway, caller: Caller, endpoint_id: str, since: datetime, missed: Missed) -> int:
    """Has deliveries made at `since` or later tried anew, with the whole schedule; how many.

    Raises Problem `not_found`, `endpoint_disabled`.
    """
    values = {
        "endpoint_id": endpoint_id,
        "statuses": list(STATUSES[missed]),
        "since": shown_since(since),
        "after": None,
        "after_at": None,
        "batch": RECOVERED_AT_ONCE,
    }
    recovered = 0
    while True:
        async with gateway.transaction() as db:
            row = await find(db, caller, endpoint_id)
            if row.status != EndpointStatus.ENABLED:
                raise disabled()
            if values["after"] is None:
                await audit.record(db, caller, "endpoint.recover", SubjectKind.ENDPOINT, [endpoint_id])
            await plan_for_values(db)
            batch = await _RECOVER.one(db, values)
            announce(db, DELIVERIES)
        moved = batch.moved if batch is not None else 0
        instruments.count_redeliveries("recovery", moved)
        recovered += moved
        if batch is None or batch.chosen < RECOVERED_AT_ONCE:
            return recovered
        values |= {"after": batch.id, "after_at": batch.created_at}
