"""The API's own metrics: counts and times of requests, whose labels are bounded sets. No tenant, no id, no PHI.

Each app has its own registry. `/metrics` shows it with the process's (`instruments.py`) and the backlog (`backlog.py`).
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from covergate import instruments
from covergate.backlog import Backlog
from covergate.gateway import Gateway

METHODS = frozenset({"GET", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "PUT"})


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "covergate_http_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "covergate_http_request_seconds",
            "Time to answer, without requests that waited (Prefer: wait)",
            ["method", "route"],
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
            registry=self.registry,
        )
        self._waits = Histogram(
            "covergate_http_wait_seconds",
            "Time to answer of requests that waited (Prefer: wait)",
            ["method", "route"],
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self.registry,
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
        self.backlog = Backlog(self.registry)

    def request(self, method: str, route: str, status: int, seconds: float, *, waited: bool) -> None:
        known = known_method(method)
        self._requests.labels(known, route, str(status)).inc()
        (self._waits if waited else self._seconds).labels(known, route).observe(seconds)

    def exposition(self, gateway: Gateway) -> bytes:
        return instruments.exposition(gateway.database.pool_use, self.registry)


def known_method(method: str) -> str:
    return method if method in METHODS else "other"
