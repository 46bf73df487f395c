"""The process's own counters and times for Prometheus, counted where things happen.

Invariant: labels are vendors, modes and words of ours, so their number is bounded: no id, no tenant, no PHI. Calling a
function here never fails and costs microseconds. The registry is the process's; `api/metrics.py` adds the API's own.
"""

from __future__ import annotations

import importlib.metadata
import platform

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.gc_collector import GCCollector

_REGISTRY = CollectorRegistry()
ProcessCollector(registry=_REGISTRY)
GCCollector(registry=_REGISTRY)

_BUILD = Gauge("covergate_build_info", "Always 1; the labels say what runs", ["version", "python"], registry=_REGISTRY)
_BUILD.labels(importlib.metadata.version("covergate"), platform.python_version()).set(1)

_ACCEPTED = Counter(
    "covergate_verifications_accepted", "Verifications accepted", ["mode", "vendor"], registry=_REGISTRY
)
_ENDS = Counter(
    "covergate_verifications_ended",
    "Ends of verifications; `outcome` is `failed` or `canceled` where there is none",
    ["mode", "vendor", "outcome", "failure_code"],
    registry=_REGISTRY,
)
_TO_END = Histogram(
    "covergate_verification_seconds",
    "From acceptance to the end",
    ["mode", "vendor"],
    buckets=(0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 43_200, 86_400, 259_200),
    registry=_REGISTRY,
)
_CALLS = Counter(
    "covergate_vendor_calls",
    "Calls to vendors by result: ok, unavailable, rate_limited, auth_failed, unreadable, ours (stopped by this process)",
    ["mode", "vendor", "result"],
    registry=_REGISTRY,
)
_CALL_SECONDS = Histogram(
    "covergate_vendor_call_seconds",
    "Time of a call to a vendor",
    ["mode", "vendor"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    registry=_REGISTRY,
)
_TOKENS = Counter(
    "covergate_vendor_token_refreshes", "Access tokens fetched from vendors", ["mode", "vendor"], registry=_REGISTRY
)
_DELIVERIES = Counter(
    "covergate_webhook_attempts",
    "Tries of webhook deliveries by what followed: delivered, pending (tried again), exhausted",
    ["result"],
    registry=_REGISTRY,
)
_DELIVERY_SECONDS = Histogram(
    "covergate_webhook_attempt_seconds",
    "Time of one try",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15),
    registry=_REGISTRY,
)
_REDELIVERIES = Counter(
    "covergate_webhook_redeliveries",
    "Deliveries repeated or tested by hand: redelivery, recovery, bulk, test",
    ["kind"],
    registry=_REGISTRY,
)
_REFUSALS = Counter(
    "covergate_http_refused",
    "Connections and requests refused before anybody was known, by the problem's code",
    ["code"],
    registry=_REGISTRY,
)
_POOL = Gauge(
    "covergate_database_connections",
    "The process's pool: connections in use, and its limit",
    ["kind"],
    registry=_REGISTRY,
)


def count_accepted(mode: str, vendor: str) -> None:
    _ACCEPTED.labels(mode, vendor).inc()


def count_end(mode: str, vendor: str, outcome: str, failure_code: str | None, seconds: float) -> None:
    _ENDS.labels(mode, vendor, outcome, failure_code or "").inc()
    # Two clocks may disagree, and a sum that falls is taken for a restart.
    _TO_END.labels(mode, vendor).observe(max(seconds, 0.0))


def count_call(mode: str, vendor: str, result: str, seconds: float) -> None:
    _CALLS.labels(mode, vendor, result).inc()
    _CALL_SECONDS.labels(mode, vendor).observe(seconds)


def count_tokens(mode: str, vendor: str, number: int) -> None:
    _TOKENS.labels(mode, vendor).inc(number)


def count_delivery(result: str, seconds: float) -> None:
    _DELIVERIES.labels(result).inc()
    _DELIVERY_SECONDS.observe(seconds)


def count_redeliveries(kind: str, number: int = 1) -> None:
    _REDELIVERIES.labels(kind).inc(number)


def count_refusal(code: str) -> None:
    _REFUSALS.labels(code).inc()


def exposition(pool_use: tuple[int, int], *others: CollectorRegistry) -> bytes:
    """What `/metrics` answers: this registry and others; `pool_use` is connections in use and at most."""
    for kind, number in zip(("in_use", "limit"), pool_use, strict=True):
        _POOL.labels(kind).set(number)
    return b"".join(generate_latest(registry) for registry in (*others, _REGISTRY))
