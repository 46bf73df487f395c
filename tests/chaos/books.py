"""The gateway's own tables, as the experiments read and move them: no other module here names one.

Each function runs on a connection of its own (`Cluster.rows`), so that no fault outlives itself here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg

from tests.chaos.cluster import Cluster
from tests.support.due import NEAR, Due

_UNDER_WAY = "due_at > next_check_at"
"""Claimed, and the lease has not ended."""

_VERIFICATIONS = """
SELECT id, external_id, coalesce(status, 'open') AS status, outcome, failure_code, deadline, completed_at,
       extract(epoch FROM completed_at - greatest(deadline, $2::timestamptz))::float8 AS late
FROM verifications WHERE tenant_id = $1"""
_EVENTS = """
SELECT id, type, verification_id, extract(epoch FROM created_at)::float8 AS at
FROM events WHERE tenant_id = $1 AND type = ANY($2)"""
_DELIVERIES = """
SELECT d.id, d.event_id, d.status, w.id AS endpoint, w.url, w.status AS endpoint_status
FROM deliveries d JOIN events e ON e.id = d.event_id JOIN webhook_endpoints w ON w.id = d.endpoint_id
WHERE e.tenant_id = $1"""
_INTENTS = """
SELECT tried.verification_id, tried.vendor, extract(epoch FROM tried.intent_at)::float8 AS at
FROM (SELECT verification_id, vendor, intent_at FROM attempts
      UNION ALL SELECT verification_id, vendor, intent_at FROM work WHERE late_tries IS NULL) AS tried
  JOIN verifications v ON v.id = tried.verification_id
WHERE v.tenant_id = $1 AND tried.intent_at IS NOT NULL ORDER BY tried.intent_at"""
_OPEN_COUNT = "SELECT count(*) FROM verifications WHERE tenant_id = $1 AND completed_at IS NULL"
_PENDING = """
SELECT count(*) FROM deliveries d JOIN events e ON e.id = d.event_id WHERE e.tenant_id = $1 AND d.status = 'pending'"""
_MOST_TRIES = """
SELECT max(d.tries) FROM deliveries d JOIN events e ON e.id = d.event_id WHERE e.tenant_id = $1"""
_FOR_OPERATOR = """
SELECT v.id FROM work w JOIN verifications v ON v.id = w.verification_id
WHERE v.tenant_id = $1 AND w.late_tries IS NULL AND w.waiting_for = 'operator'
  AND w.waiting_since < clock_timestamp() - interval '3 seconds'"""

_HASTEN_STEPS = f"""
UPDATE work SET due_at = clock_timestamp(), next_check_at = clock_timestamp()
WHERE NOT {_UNDER_WAY} AND NOT {NEAR} AND (waiting_for IN ('vendor', 'vendor_retry', 'rate_limit') OR late_tries IS NOT NULL)
  AND next_check_at BETWEEN clock_timestamp() + interval '2 seconds' AND clock_timestamp() + make_interval(mins => $1)"""
_HASTEN_LOOK_UPS = f"""
UPDATE work SET lookup_after = clock_timestamp(), intent_at = intent_at - make_interval(mins => $1)
WHERE NOT {NEAR} AND intent_at < clock_timestamp() - make_interval(secs => $2)
  AND lookup_after BETWEEN clock_timestamp() AND clock_timestamp() + make_interval(mins => $1)"""
_HASTEN_DELIVERIES = """
UPDATE deliveries SET due_at = clock_timestamp(), next_attempt_at = clock_timestamp()
WHERE status = 'pending' AND due_at < next_attempt_at + interval '1 second'
  AND next_attempt_at BETWEEN clock_timestamp() AND clock_timestamp() + make_interval(mins => $1)"""
_END_DELIVERIES_LEASES = """
UPDATE deliveries SET due_at = next_attempt_at WHERE status = 'pending' AND due_at > next_attempt_at"""
_BRING_DEADLINES = """
WITH near AS (
  UPDATE work SET deadline = clock_timestamp() + interval '2 seconds', next_check_at = clock_timestamp() + interval '2 seconds'
  WHERE late_tries IS NULL AND deadline > clock_timestamp() + interval '2 seconds'
    AND verification_id IN (SELECT id FROM verifications WHERE tenant_id = $1 AND completed_at IS NULL)
  RETURNING verification_id, deadline)
UPDATE verifications v SET deadline = near.deadline FROM near WHERE v.id = near.verification_id"""
# Rows that somebody has locked are being written anew: they stay. So does `intent_at`, by which a worker knows its own intent.
_REWIND = (
    """
WITH free AS MATERIALIZED (
  SELECT verification_id FROM work FOR UPDATE SKIP LOCKED
), moved AS (
  UPDATE work w SET deadline = deadline - make_interval(secs => $1),
                    next_check_at = next_check_at - make_interval(secs => $1),
                    due_at = due_at - make_interval(secs => $1),
                    waiting_since = waiting_since - make_interval(secs => $1),
                    lookup_after = lookup_after - make_interval(secs => $1)
  FROM free WHERE w.verification_id = free.verification_id RETURNING w.verification_id, w.deadline)
UPDATE verifications v SET deadline = moved.deadline FROM moved
WHERE v.id = moved.verification_id AND v.completed_at IS NULL""",
    """
WITH free AS MATERIALIZED (SELECT id FROM deliveries WHERE status = 'pending' FOR UPDATE SKIP LOCKED)
UPDATE deliveries d SET next_attempt_at = next_attempt_at - make_interval(secs => $1),
                        due_at = due_at - make_interval(secs => $1)
FROM free WHERE d.id = free.id""",
    """
WITH free AS MATERIALIZED (SELECT vendor, mode FROM vendor_standing FOR UPDATE SKIP LOCKED)
UPDATE vendor_standing s SET rests_until = rests_until - make_interval(secs => $1)
FROM free WHERE s.vendor = free.vendor AND s.mode = free.mode""",
)


# What the ledger reads.


async def verifications(cluster: Cluster, tenant_id: str, blackout_until: datetime | None) -> dict[str, Any]:
    """By id; `late` counts from `blackout_until` where the deadline was before it."""
    return {row["id"]: row for row in await cluster.rows(_VERIFICATIONS, tenant_id, blackout_until)}


async def events(cluster: Cluster, tenant_id: str, types: Sequence[str]) -> list[Any]:
    """`at` is the database's time in Unix seconds."""
    return await cluster.rows(_EVENTS, tenant_id, list(types))


async def deliveries(cluster: Cluster, tenant_id: str) -> list[Any]:
    return await cluster.rows(_DELIVERIES, tenant_id)


async def intents(cluster: Cluster, tenant_id: str) -> list[Any]:
    """Every attempt that ever meant to submit: verification_id, vendor and when (`at`, Unix seconds)."""
    return await cluster.rows(_INTENTS, tenant_id)


async def open_count(cluster: Cluster, tenant_id: str) -> int:
    return int(await cluster.scalar(_OPEN_COUNT, tenant_id))


async def pending_count(cluster: Cluster, tenant_id: str) -> int:
    return int(await cluster.scalar(_PENDING, tenant_id))


async def most_tries(cluster: Cluster, tenant_id: str) -> int:
    """Of one delivery of this tenant."""
    return int(await cluster.scalar(_MOST_TRIES, tenant_id) or 0)


async def waiting_for_operator(cluster: Cluster, tenant_id: str) -> list[str]:
    """The ids of the verifications that have waited for a person for some seconds."""
    return [row["id"] for row in await cluster.rows(_FOR_OPERATOR, tenant_id)]


async def endpoint_status(cluster: Cluster, endpoint_id: str) -> str:
    return str(await cluster.scalar("SELECT status FROM webhook_endpoints WHERE id = $1", endpoint_id))


async def tenant_named(cluster: Cluster, name: str) -> str:
    return str(await cluster.scalar("SELECT id FROM tenants WHERE name = $1", name))


# What the experiments move.


async def close_circuits(cluster: Cluster) -> None:
    for table in ("vendor_standing", "vendor_calls"):
        await cluster.rows(f"DELETE FROM {table}")


async def hasten_steps(cluster: Cluster, minutes: int) -> None:
    """What waits for a vendor and would go on within so many minutes goes on now."""
    await cluster.rows(_HASTEN_STEPS, minutes)


async def hasten_look_ups(cluster: Cluster, minutes: int, *, sent_within_seconds: float) -> None:
    """Of intents that are older: these were sent, or never will be. Vendors count from the intent, so that moves, too."""
    await cluster.rows(_HASTEN_LOOK_UPS, minutes, sent_within_seconds)


async def hasten_deliveries(cluster: Cluster, minutes: int) -> None:
    await cluster.rows(_HASTEN_DELIVERIES, minutes)


async def bring_deadlines(cluster: Cluster, tenant_id: str) -> None:
    await cluster.rows(_BRING_DEADLINES, tenant_id)


async def end_leases(cluster: Cluster) -> None:
    """All that is under way looks abandoned: it is taken up again, that of the living, too."""
    await Due(cluster.rows).end_leases()
    await cluster.rows(_END_DELIVERIES_LEASES)


async def rewind(cluster: Cluster, seconds: float) -> None:
    """All that is to come is nearer by so many seconds, all that is under way began so much earlier."""
    for statement in _REWIND:
        await cluster.rows(statement, seconds)


@asynccontextmanager
async def open_work_locked(cluster: Cluster) -> AsyncIterator[None]:
    """While the block runs, nobody else can change what is open, nor write to its history."""
    connection = await asyncpg.connect(cluster.database_url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT verification_id FROM work FOR UPDATE SKIP LOCKED")
            await connection.execute("LOCK TABLE history IN SHARE MODE")
            yield
    finally:
        await connection.close()
