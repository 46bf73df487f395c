"""How much of a vendor's events is taken in, over all processes: a quota for each vendor, mode and account.

An event costs one, and one more for each further 16 KB of its message. What is known only when the message is read is owed:
the next ones wait until it is paid.
"""

from __future__ import annotations

from covergate.access.quotas import BURST_SECONDS, QuotaPolicy, Quotas
from covergate.vendors.account import SHARED

BYTES_PER_EVENT = 16 * 1024


class EventRates:
    def __init__(self, quotas: Quotas, per_second: float) -> None:
        self._quotas = quotas
        self._policy = QuotaPolicy(
            "vendor_events", "events of this vendor", round(per_second * BURST_SECONDS), BURST_SECONDS
        )

    def take(self, vendor: str, mode: str, size: int, account: str = SHARED) -> None:
        """For a message of this size, before it is read. Raises Problem `rate_limited`."""
        self._quotas.take(self._policy, _subject(vendor, mode, account))
        self._quotas.owe(self._policy, _subject(vendor, mode, account), size // BYTES_PER_EVENT)

    def owe(self, vendor: str, mode: str, events: int, account: str = SHARED) -> None:
        """For the events that were found in it, but the first."""
        self._quotas.owe(self._policy, _subject(vendor, mode, account), events - 1)


def _subject(vendor: str, mode: str, account: str) -> str:
    return f"{vendor} {mode} {account}".rstrip()
