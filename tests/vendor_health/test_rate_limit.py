"""Requests per second that hold across the fleet."""

from __future__ import annotations

import asyncio

import pytest

from covergate.gateway import Gateway
from covergate.vendor_health.rate_limit import RateLimits
from covergate.vendors.errors import VendorRateLimited


async def test_a_fleet_keeps_the_rate(gateway: Gateway) -> None:
    """250 calls by five processes at 100/s: the first 100 at once, the rest at 100/s."""
    fleet = [RateLimits(gateway) for _ in range(5)]
    loop = asyncio.get_running_loop()
    made: list[float] = []

    async def calls(rates: RateLimits) -> None:
        for _ in range(50):
            await rates.take("healthie", "test", 100.0)
            made.append(loop.time())

    begun = loop.time()
    await asyncio.gather(*(calls(rates) for rates in fleet))
    assert len(made) == 250
    for seconds in (0.5, 1.0):
        # what may have been made by then: the bucket, the rate, and a lot of 5 per process in hand
        assert sum(moment - begun <= seconds for moment in made) <= 100 + 100 * seconds + 25


async def test_who_would_wait_too_long_is_put_back(gateway: Gateway) -> None:
    """One call in four seconds: the first is in the bucket, the second would wait for more than two seconds."""
    await RateLimits(gateway).take("healthie", "test", 0.25)
    for _ in range(3):
        with pytest.raises(VendorRateLimited) as limited:
            await RateLimits(gateway).take("healthie", "test", 0.25)
        assert limited.value.retry_after == 2.0


async def test_no_rate_no_limit(gateway: Gateway) -> None:
    for _ in range(1000):
        await RateLimits(gateway).take("sohar", "test", None)
