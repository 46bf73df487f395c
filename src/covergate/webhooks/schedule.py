"""When a delivery is tried again: over 72 hours in all, then it is exhausted and waits for a redelivery by hand."""

from __future__ import annotations

import random
from datetime import timedelta

MINUTE, HOUR = 60, 3600
SCHEDULE = (5, 30, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
JITTER = 0.1
"""Only ever later, so that the whole stays over 72 hours and no `Retry-After` is cut short."""


def next_try(tries: int, retry_after: float | None = None) -> timedelta | None:
    """How long after the `tries`-th failed try the next one is due; None when that was the last.

    A partner's `Retry-After` is honoured where it asks for more than the schedule: with less, a partner that always says
    "in a second" would use up all tries within a minute.
    """
    if tries > len(SCHEDULE):
        return None
    return timedelta(seconds=max(SCHEDULE[tries - 1], retry_after or 0.0) * random.uniform(1, 1 + JITTER))
