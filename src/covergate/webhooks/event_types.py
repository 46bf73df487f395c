"""What a partner can subscribe to (docs/api.md#6-webhooks): event type → when it is sent."""

from __future__ import annotations

EVERY = "*"
TEST = "endpoint.test"
VENDOR_DEGRADED = "vendor.degraded"
VENDOR_RECOVERED = "vendor.recovered"

EVENT_TYPES: dict[str, str] = {
    "verification.completed": "A verification ended with an answer.",
    "verification.failed": "A verification ended without an answer; `failure_code` says why.",
    "verification.canceled": "A verification was canceled.",
    "verification.answered_late": "An answer came after the end; it is the verification's `late_result`.",
    "verification.needs_attention": "A verification waits for an operator: nobody can tell whether the vendor has it.",
    VENDOR_DEGRADED: "A vendor's circuit opened, or an operator holds the vendor: its work waits or goes elsewhere.",
    VENDOR_RECOVERED: "A vendor's circuit closed, or an operator resumed it: what waited goes on.",
    TEST: "Sent on request only, to one endpoint, whatever it subscribes to.",
}
