"""A sample of each event's thin `data`: as the documents show it, and as a test event carries it. All of it is synthetic."""

from __future__ import annotations

from typing import Any

from covergate.states import EventType

SAMPLE_VERIFICATION_ID = "ver_01jd7k3v0te0r9m2zn4x8b6wqa"
SAMPLE_ENDPOINT_ID = "whe_01jd7jzz4pe0r9m2zn4x8b6wqd"

_VERIFICATION: dict[str, Any] = {
    "id": SAMPLE_VERIFICATION_ID,
    "external_id": "intake-8841",
    "status": "completed",
    "outcome": "eligible",
    "outcome_reason": None,
    "failure_code": None,
    "metadata": {"clinic": "north"},
}
_VENDOR: dict[str, Any] = {"vendor": "sohar", "mode": "test", "state": "open", "reason": "circuit", "account": "shared"}
_ENDPOINT: dict[str, Any] = {
    "id": SAMPLE_ENDPOINT_ID,
    "state": "failing",
    "reason": None,
    "failing_since": None,
    "failures_in_row": 0,
}
_SAMPLES: dict[EventType, dict[str, Any]] = {
    EventType.VERIFICATION_COMPLETED: _VERIFICATION,
    EventType.VERIFICATION_FAILED: {
        **_VERIFICATION,
        "status": "failed",
        "outcome": None,
        "failure_code": "member_id_invalid",
    },
    EventType.VERIFICATION_CANCELED: {**_VERIFICATION, "status": "canceled", "outcome": None},
    EventType.VERIFICATION_ANSWERED_LATE: {
        **_VERIFICATION,
        "status": "failed",
        "outcome": None,
        "failure_code": "deadline_exceeded",
    },
    EventType.VERIFICATION_NEEDS_ATTENTION: {**_VERIFICATION, "status": "in_progress", "outcome": None},
    EventType.VENDOR_DEGRADED: _VENDOR,
    EventType.VENDOR_RECOVERED: {**_VENDOR, "state": "closed"},
    EventType.ENDPOINT_FAILING: {**_ENDPOINT, "failing_since": "2026-11-21T15:00:06.120Z", "failures_in_row": 4},
    EventType.ENDPOINT_DISABLED: {**_ENDPOINT, "state": "disabled", "reason": "it answered 410 Gone"},
    EventType.ENDPOINT_RECOVERED: {**_ENDPOINT, "state": "enabled"},
    EventType.ENDPOINT_TEST: {"id": SAMPLE_ENDPOINT_ID},
}


def sample(type_: EventType) -> dict[str, Any]:
    """A type that has no sample of its own is about an ended verification."""
    return dict(_SAMPLES.get(type_, _VERIFICATION))
