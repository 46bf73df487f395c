"""What is not needed any longer: expired idempotency keys, events past 30 days, the queue's own log."""

from __future__ import annotations

from covergate.db.sql import Query
from covergate.gateway import Gateway

BATCH = 5000
# now() and not clock_timestamp(): only a stable function lets an index find what is old.
_STATEMENTS = tuple(
    Query(statement)
    for statement in (
        (
            "DELETE FROM idempotency_keys WHERE ctid IN (SELECT ctid FROM idempotency_keys"
            f" WHERE created_at < now() - interval '24 hours' LIMIT {BATCH})"
        ),
        (
            "DELETE FROM events WHERE ctid IN (SELECT ctid FROM events"
            f" WHERE created_at < now() - interval '30 days' LIMIT {BATCH})"
        ),
        (
            "DELETE FROM pgqueuer_log WHERE ctid IN (SELECT ctid FROM pgqueuer_log"
            f" WHERE created < now() - interval '1 hour' LIMIT {BATCH})"
        ),
    )
)


async def prune(gateway: Gateway) -> None:
    """In batches, each its own statement, so that no lock is held for long."""
    for statement in _STATEMENTS:
        async with gateway.connection() as db:
            while await statement.run(db) == BATCH:
                continue
