"""When to try a vendor again after a technical error: 1 s, 5 s, 30 s, 2 min, 10 min, 30 min, then hourly, each ± 20 %."""

from __future__ import annotations

import random
from datetime import timedelta

SCHEDULE = (1, 5, 30, 120, 600, 1800)
HOURLY = 3600
JITTER = 0.2
UNREADABLE_REPLIES = 3
"""So many unreadable replies in a row end a verification: `vendor_protocol_error`."""


def delay(errors_in_row: int, retry_after: float | None = None) -> timedelta:
    """`errors_in_row` counts the error just met, from 1. What the vendor asks for in Retry-After wins."""
    if retry_after is not None:
        return timedelta(seconds=min(retry_after, 86_400.0) + random.uniform(0, 0.5))
    seconds = SCHEDULE[errors_in_row - 1] if errors_in_row <= len(SCHEDULE) else HOURLY
    return timedelta(seconds=seconds * random.uniform(1 - JITTER, 1 + JITTER))
