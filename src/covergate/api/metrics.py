"""The metrics at `/metrics`: counts and times whose labels are bounded sets. No tenant, no id, no PHI.

Each app has its own registry. The backlog is read from the database on request, at most every `BACKLOG_SECONDS`, so every
API process shows the same.
"""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from covergate.db.sql import Query
from covergate.gateway import Gateway
from covergate.states import IS_OPEN

METHODS = frozenset({"GET", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "PUT"})
BACKLOG_SECONDS = 15.0

_BACKLOG = Query(f"""
SELECT 'verification' AS kind, coalesce(waiting_for, 'start') AS name, count(*) AS number
FROM verifications WHERE {IS_OPEN} GROUP BY 2
UNION ALL
SELECT 'delivery', CASE WHEN slow THEN 'slow' ELSE 'fast' END, count(*)
FROM deliveries WHERE status = 'pending' GROUP BY 2""")


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "covergate_http_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "covergate_http_request_seconds",
            "Time to answer, Prefer: wait included",
            ["method", "route"],
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
            registry=self.registry,
        )
        self.accepted = Counter(
            "covergate_verifications_accepted", "Verifications accepted", ["mode", "vendor"], registry=self.registry
        )
        self.replayed = Counter(
            "covergate_idempotent_replays", "Creates answered by an Idempotency-Key", ["mode"], registry=self.registry
        )
        self.vendor_events = Counter(
            "covergate_vendor_events",
            "Inbound vendor events by verdict: stored, duplicate, forged, too_many, unknown",
            ["vendor", "verdict"],
            registry=self.registry,
        )
        self.redeliveries = Counter(
            "covergate_webhook_redeliveries", "Deliveries repeated or tested by hand", ["kind"], registry=self.registry
        )
        self._open = Gauge(
            "covergate_verifications_open",
            "Open verifications by what they wait for",
            ["waiting_for"],
            registry=self.registry,
        )
        self._pending = Gauge(
            "covergate_deliveries_pending", "Webhook deliveries still to be made", ["lane"], registry=self.registry
        )
        self._read_at = float("-inf")

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        known = method if method in METHODS else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(known, route).observe(seconds)

    async def read_backlog(self, gateway: Gateway) -> None:
        if time.monotonic() - self._read_at < BACKLOG_SECONDS:
            return
        async with gateway.connection() as db:
            rows = await _BACKLOG.all(db)
        self._read_at = time.monotonic()
        self._open.clear()
        self._pending.clear()
        for row in rows:
            gauge = self._open if row.kind == "verification" else self._pending
            gauge.labels(row.name).set(row.number)

    def exposition(self) -> bytes:
        return generate_latest(self.registry)
