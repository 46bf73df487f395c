"""A vendor's events are taken in at a rate, by their number and their size."""

from __future__ import annotations

import pytest

from covergate.verifications.event_rates import BYTES_PER_TOKEN, EVENT_BURST_SECONDS, EventRates, TooFast


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(rates: EventRates, size: int = 0, events: int = 1, vendor: str = "sohar", mode: str = "live") -> int:
    """How many messages are taken until one is refused."""
    for number in range(10_000):
        try:
            rates.take(vendor, mode, size)
        except TooFast:
            return number
        rates.owe(vendor, mode, events)
    raise AssertionError("no end")


def test_a_burst_and_then_the_rate() -> None:
    clock = Clock()
    rates = EventRates(20, clock)
    assert taken(rates) == 20 * EVENT_BURST_SECONDS
    clock.now += 3
    assert taken(rates) == 60
    clock.now += 1000
    assert taken(rates) == 20 * EVENT_BURST_SECONDS


def test_vendors_and_modes_have_their_own() -> None:
    rates = EventRates(5, Clock())
    assert taken(rates) == taken(rates, vendor="vsee") == taken(rates, mode="test") == 50


def test_events_in_a_message_and_its_size_count() -> None:
    assert taken(EventRates(20, Clock()), events=50) == 4
    assert taken(EventRates(20, Clock()), size=9 * BYTES_PER_TOKEN) == 20


def test_what_is_owed_is_waited_for() -> None:
    clock = Clock()
    rates = EventRates(10, clock)
    rates.take("sohar", "live", 0)
    rates.owe("sohar", "live", 200)
    with pytest.raises(TooFast) as told:
        rates.take("sohar", "live", 0)
    assert told.value.retry_after == pytest.approx(10.1)
    clock.now += 10.2
    rates.take("sohar", "live", 0)
