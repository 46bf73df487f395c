"""The state of the whole installation as the database tells it, for `/metrics` and `/readyz` of any process.

It is the same whichever process is asked, so alerts take the highest value, never the sum. Read on request, at most every
`BACKLOG_SECONDS`. Labels are bounded sets: no tenant, no id, no PHI.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict

import structlog
from prometheus_client import CollectorRegistry, Gauge
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.outage import DATABASE_ERRORS, is_away
from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.states import CircuitState, DeliveryStatus
from covergate.vendor_health.circuit_breaker import read_standing
from covergate.vendor_health.refused_credentials import read_refusals
from covergate.vendors.account import SHARED

log = structlog.get_logger(__name__)

BACKLOG_SECONDS = 15.0
READ_SECONDS = 3.0
SWEEP_NAME = "covergate sweep"
"""The `application_name` of a worker's sweep, followed by a word of that worker's own."""
SILENT_SECONDS = 30
"""A worker whose sweep, which comes every two seconds, sent nothing for so long is not counted: it is stopped or frozen."""

_COUNTS = Query(f"""
SELECT 'verification' AS kind, coalesce(waiting_for, 'start') AS name, count(*) AS number
FROM work WHERE late_tries IS NULL GROUP BY 2
UNION ALL
SELECT 'delivery', CASE WHEN slow THEN 'slow' ELSE 'fast' END, count(*)
FROM deliveries WHERE status = '{DeliveryStatus.PENDING}' GROUP BY 2""")
_OLDEST = Query(f"""
WITH pending AS MATERIALIZED (
  SELECT endpoint_id, next_attempt_at, slow FROM deliveries WHERE status = '{DeliveryStatus.PENDING}'
)
SELECT kind, greatest(extract(epoch FROM clock_timestamp() - promised), 0) AS seconds
FROM (VALUES
  ('verification', (SELECT min(next_check_at) FROM work WHERE due_at <= now())),
  ('delivery', (SELECT min(next_attempt_at) FROM pending
                WHERE endpoint_id NOT IN (SELECT endpoint_id FROM pending WHERE slow)))
) AS due(kind, promised)""")
_FAILING = Query("SELECT count(*) FROM webhook_endpoints WHERE failing_since IS NOT NULL AND deleted_at IS NULL")
_WORKERS = Query(
    f"""
SELECT count(DISTINCT split_part(application_name, ' ', 3)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE '{SWEEP_NAME} %'
  AND (state = 'active' OR coalesce(state_change, now()) > now() - make_interval(secs => :silent))""",
    silent="double precision",
)
"""By what their sweeps last sent: a row of its own would be one more write every two seconds."""

_CIRCUITS = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}


class Backlog:
    """The gauges of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._open = Gauge(
            "covergate_verifications_open",
            "Open verifications by what they wait for",
            ["waiting_for"],
            registry=registry,
        )
        self._pending = Gauge(
            "covergate_deliveries_pending", "Webhook deliveries still to be made", ["lane"], registry=registry
        )
        self._oldest = Gauge(
            "covergate_oldest_due_seconds",
            "For how long the oldest due work has been due, webhooks to slow endpoints left out; 0: none is",
            ["kind"],
            registry=registry,
        )
        self._failing = Gauge(
            "covergate_webhook_endpoints_failing",
            "Webhook endpoints that take nothing, of all tenants",
            registry=registry,
        )
        self._workers = Gauge("covergate_workers", "Workers that sweep", registry=registry)
        self._circuit = Gauge(
            "covergate_vendor_circuit",
            "Circuit breaker: 0 closed, 1 half open, 2 open; of the account that fares worst",
            ["mode", "vendor"],
            registry=registry,
        )
        self._held = Gauge(
            "covergate_vendor_held", "1 while an operator holds the vendor", ["mode", "vendor"], registry=registry
        )
        self._refused = Gauge(
            "covergate_vendor_credentials_refused",
            "Accounts whose credentials the vendor refuses",
            ["mode", "vendor"],
            registry=registry,
        )
        self._read_at = float("-inf")
        self._reading = False

    async def read(self, gateway: Gateway) -> None:
        """Leaves the gauges as they are while the database is away: the process's own counts are wanted most then."""
        # Nobody has to be known to ask: those who come meanwhile are shown what there is, and take no connection.
        if self._reading or time.monotonic() - self._read_at < BACKLOG_SECONDS:
            return
        self._reading = True
        try:
            async with asyncio.timeout(READ_SECONDS):
                await self._read(gateway)
        except DATABASE_ERRORS as error:
            if not is_away(error):
                raise
            log.warning("backlog_unknown", error=type(error).__name__)
        finally:
            self._reading = False

    async def _read(self, gateway: Gateway) -> None:
        async with gateway.connection() as db:
            counts = await _COUNTS.all(db)
            oldest = await oldest_due(db)
            failing = await _FAILING.scalar(db)
            workers = await workers_alive(db)
            standing = await read_standing(db)
            refusals = await read_refusals(db)
        self._read_at = time.monotonic()
        self._open.clear()
        self._pending.clear()
        for row in counts:
            gauge = self._open if row.kind == "verification" else self._pending
            gauge.labels(row.name).set(row.number)
        for kind, seconds in oldest.items():
            self._oldest.labels(kind).set(seconds)
        self._failing.set(failing)
        self._workers.set(workers)
        worst: defaultdict[tuple[str, str], int] = defaultdict(int)
        for (vendor, mode, _), stands in standing.items():
            worst[mode, vendor] = max(worst[mode, vendor], _CIRCUITS[CircuitState(stands.circuit)])
        refused = Counter((mode, vendor) for (vendor, mode, _), one in refusals.items() if one.since is not None)
        for mode, vendor in {*gateway.connections, *((own.mode, own.vendor) for own in gateway.accounts)}:
            shared = standing.get((vendor, mode, SHARED))
            self._circuit.labels(mode, vendor).set(worst[mode, vendor])
            self._refused.labels(mode, vendor).set(refused[mode, vendor])
            self._held.labels(mode, vendor).set(int(shared is not None and shared.held_at is not None))


async def oldest_due(db: AsyncConnection) -> dict[str, float]:
    """`verification` and `delivery` → for how many seconds the oldest due one has been due; 0: none is."""
    return {row.kind: float(row.seconds or 0) for row in await _OLDEST.all(db)}


async def workers_alive(db: AsyncConnection) -> int:
    workers: int = await _WORKERS.scalar(db, {"silent": SILENT_SECONDS})
    return workers
