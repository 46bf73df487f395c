"""A vendor's events are taken in at a rate over all processes, by their number and their size."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from covergate.access.quotas import BURST_SECONDS, Quotas
from covergate.errors import Problem
from covergate.gateway import Gateway
from covergate.verifications.event_rates import BYTES_PER_EVENT, EventRates


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("covergate.access.quotas.time", SimpleNamespace(monotonic=clock))
    return clock


def taken(rates: EventRates, size: int = 0, events: int = 1, vendor: str = "sohar", mode: str = "live") -> int:
    """How many messages are taken until one is refused."""
    for number in range(10_000):
        try:
            rates.take(vendor, mode, size)
        except Problem:
            return number
        rates.owe(vendor, mode, events)
    raise AssertionError("no end")


async def test_a_burst_and_then_the_rate(gateway: Gateway, clock: Clock) -> None:
    rates = EventRates(Quotas(gateway), 20)
    assert taken(rates) == 20 * BURST_SECONDS
    clock.now += 3
    assert taken(rates) == 60
    clock.now += 1000
    assert taken(rates) == 20 * BURST_SECONDS


async def test_vendors_and_modes_have_their_own(gateway: Gateway, clock: Clock) -> None:
    rates = EventRates(Quotas(gateway), 5)
    assert taken(rates) == taken(rates, vendor="vsee") == taken(rates, mode="test") == 50


async def test_events_in_a_message_and_its_size_count(gateway: Gateway, clock: Clock) -> None:
    assert taken(EventRates(Quotas(gateway), 20), events=50) == 4
    assert taken(EventRates(Quotas(gateway), 20), size=9 * BYTES_PER_EVENT) == 20


async def test_what_is_owed_is_waited_for(gateway: Gateway, clock: Clock) -> None:
    rates = EventRates(Quotas(gateway), 10)
    rates.take("sohar", "live", 0)
    rates.owe("sohar", "live", 200)
    with pytest.raises(Problem) as told:
        rates.take("sohar", "live", 0)
    assert told.value.retry_after == 11
    clock.now += 10.2
    rates.take("sohar", "live", 0)


async def test_processes_share_a_rate(gateway: Gateway, clock: Clock) -> None:
    """What one has taken in, the other has not left."""
    one, other = Quotas(gateway), Quotas(gateway)
    assert taken(EventRates(one, 5), events=10) == 5
    rates = EventRates(other, 5)
    rates.take("sohar", "live", 0)
    await one.sync()
    await other.sync()
    assert taken(rates) == 0
    assert taken(rates, mode="test") == 50
