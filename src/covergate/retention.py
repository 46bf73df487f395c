"""Table → how long its rows are kept, from each owner's `KEPT`; deletes older rows, and drops old months."""

from __future__ import annotations

import asyncpg
import structlog

from covergate.access import (
    api_keys,
    audit,
    console_sessions,
    console_users,
    operators,
    portal_links,
    quotas,
    saved_views,
    vendor_accounts,
    wait_places,
)
from covergate.db import data_keys, key_ring
from covergate.db.kept import Kept
from covergate.db.partitions import AUDIT_MONTHS, Partitions
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.payers import store, sync, unresolved
from covergate.vendor_health import circuit_breaker, history, rate_limit, refused_credentials
from covergate.verifications import bulk_jobs, bulk_keys
from covergate.verifications.create import IDEMPOTENCY_KEPT
from covergate.webhooks.events import KEPT as EVENTS_KEPT

log = structlog.get_logger(__name__)

_RECORD = "the record of what was asked, answered and paid: deleting from it is for its owners to decide"

KEPT: dict[str, Kept] = {
    kept.table: kept
    for kept in (
        *api_keys.KEPT,
        *operators.KEPT,
        *console_users.KEPT,
        *console_sessions.KEPT,
        *saved_views.KEPT,
        *vendor_accounts.KEPT,
        *audit.KEPT,
        *portal_links.KEPT,
        *quotas.KEPT,
        *wait_places.KEPT,
        *key_ring.KEPT,
        *data_keys.KEPT,
        *store.KEPT,
        *sync.KEPT,
        *unresolved.KEPT,
        *circuit_breaker.KEPT,
        *refused_credentials.KEPT,
        *history.KEPT,
        *rate_limit.KEPT,
        *bulk_jobs.KEPT,
        *bulk_keys.KEPT,
        Kept("verifications", f"{_RECORD}: see `erasure.py`; the bare rows of an erased tenant go after a month"),
        Kept("attempts", _RECORD),
        Kept("work", "deleted when the verification ends and nothing more is expected"),
        Kept("history", "as `verifications`; COVERGATE_HISTORY_MONTHS is its owners' word that older months may go"),
        Kept("results", _RECORD),
        Kept("readings", "as `results`, and erased with them"),
        Kept("idempotency_keys", "as long as a client may repeat a create", IDEMPOTENCY_KEPT),
        Kept("vendor_events", "longer than any vendor repeats an event", "30 days", "received_at"),
        Kept("vendor_messages", "as their events", "30 days", "received_at"),
        Kept("webhook_endpoints", "few, and deliveries name them; a deleted one is marked"),
        Kept(
            "events",
            "as long as a partner can read back what it missed",
            EVENTS_KEPT,
            but_not="EXISTS (SELECT FROM deliveries d WHERE d.event_id = t.id AND d.status = 'pending')",
        ),
        Kept("deliveries", "deleted with their event"),
        Kept("delivery_attempts", "deleted with their delivery"),
    )
}

PRUNE_BATCH = 5000
TOMBSTONES_BATCH = 200


def _statement(kept: Kept) -> Query:
    # now() and not clock_timestamp(): only a stable function lets an index find what is old.
    return Query(f"""
DELETE FROM {kept.table} WHERE ctid IN (
  SELECT ctid FROM {kept.table} t
  WHERE {kept.since} < now() - interval '{kept.span}' AND NOT {kept.but_not} LIMIT :batch)""")


TOMBSTONES_KEPT = "31 days"
"""Longer than a late answer is looked at (`verifications.save.LATE_FOR`)."""
_DELETE_TOMBSTONES = Query(f"""
DELETE FROM verifications WHERE id = ANY(ARRAY(
  SELECT v.id FROM tenants t JOIN verifications v ON v.tenant_id = t.id
  WHERE greatest(t.erased_at, v.erased_at) < now() - interval '{TOMBSTONES_KEPT}' AND t.erased_at IS NOT NULL
    AND v.erased_at IS NOT NULL LIMIT :batch))""")
"""What hangs on them goes with them."""

_STATEMENTS = {kept.table: _statement(kept) for kept in KEPT.values() if kept.span is not None}


async def prune(gateway: Gateway, partitions: Partitions) -> None:
    """In batches, each its own transaction, so that no lock is held for long. New months get their partitions.

    The runtime role may not delete what is append-only: that is the owner's.
    """
    for table, statement in _STATEMENTS.items():
        try:
            await _delete(gateway, statement, PRUNE_BATCH)
        except asyncpg.InsufficientPrivilegeError:
            log.debug("retention_left_to_the_owner", table=table)
    await _delete(gateway, _DELETE_TOMBSTONES, TOMBSTONES_BATCH)
    await partitions.make_ahead()
    if gateway.settings.history_months is not None:
        await partitions.drop_old(gateway.settings.history_months)
    await partitions.drop_old(AUDIT_MONTHS, "audit_events")


async def _delete(gateway: Gateway, statement: Query, batch: int) -> None:
    async with gateway.connection() as db:
        while await statement.run(db, {"batch": batch}) == batch:
            continue
