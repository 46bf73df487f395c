"""How much of a vendor's events an API process takes in: a token bucket for each vendor, mode and account.

An event costs one token, and one more for each further 16 KB of its message. What is known only when the message is read is
owed: the next ones wait until it is paid. Of each process its own, so that a refusal costs no round trip.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from covergate.vendors.account import SHARED

EVENT_BURST_SECONDS = 10.0
"""What a vendor did not send lately it may send at once: a backlog after an outage."""
BYTES_PER_TOKEN = 16 * 1024


class TooFast(Exception):
    """The vendor sends more than is taken. `retry_after` in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("too_fast")
        self.retry_after = retry_after


class EventRates:
    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._tokens: dict[tuple[str, str, str], tuple[float, float]] = {}
        """Vendor, mode and account → tokens that were left, and when."""

    def take(self, vendor: str, mode: str, size: int, account: str = SHARED) -> None:
        """For a message of this size, before it is read. Raises TooFast."""
        bucket = (vendor, mode, account)
        left = self._left(bucket)
        if left < 1:
            raise TooFast((1 - left) / self._per_second)
        self._keep(bucket, left - 1 - size // BYTES_PER_TOKEN)

    def owe(self, vendor: str, mode: str, events: int, account: str = SHARED) -> None:
        """For the events that were found in it, but the first."""
        bucket = (vendor, mode, account)
        self._keep(bucket, self._left(bucket) - max(events - 1, 0))

    def _left(self, bucket: tuple[str, str, str]) -> float:
        full = self._per_second * EVENT_BURST_SECONDS
        tokens, at = self._tokens.get(bucket, (full, self._clock()))
        return min(full, tokens + (self._clock() - at) * self._per_second)

    def _keep(self, bucket: tuple[str, str, str], tokens: float) -> None:
        self._tokens[bucket] = (tokens, self._clock())
