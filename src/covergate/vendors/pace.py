"""How long to wait before the next look at a submission: a vendor's pace as data, and the one function that reads it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Pace:
    """Waits as multiples of the first one, which is usually the connection's `poll_seconds`; the last multiple stays.

    A multiple of 1 is the first wait exactly as it is set. Longer waits grow from at least `least_first` seconds, so that
    a first wait of 0 does not become polling without a pause, and never exceed `slowest` seconds.
    """

    multiples: tuple[float, ...]
    slowest: float = math.inf
    least_first: float = 0.0

    def wait(self, look: int, first: float) -> timedelta:
        """The wait before look number `look`, counted from 0, for a first wait of `first` seconds."""
        multiple = self.multiples[min(look, len(self.multiples) - 1)]
        if multiple == 1:
            return timedelta(seconds=first)
        return timedelta(seconds=min(max(first, self.least_first) * multiple, self.slowest))
