"""Requests of one key that wait at once are counted over all processes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from covergate.access import wait_places as wait_places_module
from covergate.access.wait_places import WaitPlaces
from covergate.gateway import Gateway
from tests.support.sql import run_sql

TIME_PASSES = "UPDATE wait_places SET ends_at = ends_at - interval '10 seconds'"


def process(gateway: Gateway, most: int) -> WaitPlaces:
    return WaitPlaces(replace(gateway, settings=gateway.settings.model_copy(update={"most_waits": most})))


async def waiting(stack: AsyncExitStack, places: WaitPlaces, number: int, key: str = "key_1") -> int:
    """How many of so many requests get a place, at once."""
    takes = [await stack.enter_async_context(places.one_for(key)) for _ in range(number)]
    return sum(await asyncio.gather(*(take() for take in takes)))


async def test_processes_share_the_places_of_a_key(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait_places_module, "FULL_SECONDS", 0)
    one, two = process(gateway, 50), process(gateway, 50)
    async with AsyncExitStack() as stack:
        assert await waiting(stack, one, 30) == 30
        got = await waiting(stack, two, 40)
        assert 18 <= got <= 20  # the first may have leased a share that it does not use yet
        assert await waiting(stack, two, 5, "key_2") == 5
        await one.renew()
        await one.renew()
        await two.renew()
        assert got + await waiting(stack, two, 40) == 20
        assert await waiting(stack, one, 1) == 0


async def test_both_at_once_get_no_more_than_there_are(gateway: Gateway) -> None:
    processes = [process(gateway, 20) for _ in range(3)]
    async with AsyncExitStack() as stack:
        assert sum(await asyncio.gather(*(waiting(stack, one, 20) for one in processes))) == 20


async def test_what_is_free_again_goes_back(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait_places_module, "FULL_SECONDS", 0)
    one, two = process(gateway, 1), process(gateway, 1)
    async with AsyncExitStack() as stack:
        assert await waiting(stack, one, 1) == 1
        assert await waiting(stack, two, 1) == 0
    await one.renew()  # it was needed since the last time
    await one.renew()
    assert await run_sql(gateway, "SELECT 1 FROM wait_places") == []
    async with AsyncExitStack() as stack:
        assert await waiting(stack, two, 1) == 1
    await two.give_all_back()
    assert await run_sql(gateway, "SELECT 1 FROM wait_places") == []


async def test_the_places_of_a_process_that_died_are_free_after_its_lease(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_places_module, "FULL_SECONDS", 0)
    died, alive, next_one = process(gateway, 1), process(gateway, 1), process(gateway, 1)
    async with AsyncExitStack() as stack:
        assert await waiting(stack, died, 1) == 1
        assert await waiting(stack, alive, 1) == 0
        await run_sql(gateway, TIME_PASSES)
        assert await waiting(stack, alive, 1) == 1
        # One that lives renews its own, for as long as somebody waits.
        for _ in range(3):
            await alive.renew()
            await run_sql(gateway, "UPDATE wait_places SET ends_at = ends_at - interval '9 seconds'")
            assert await waiting(stack, next_one, 1) == 0
        await run_sql(gateway, TIME_PASSES)
        assert await waiting(stack, next_one, 1) == 1


async def test_only_a_wait_that_finds_no_place_costs_a_round_trip(gateway: Gateway) -> None:
    places = process(gateway, 100)
    async with AsyncExitStack() as stack:
        assert await waiting(stack, places, 1) == 1
        await run_sql(gateway, "ALTER TABLE wait_places RENAME TO gone")
        assert await waiting(stack, places, 4) == 4
        assert await waiting(stack, places, 1) == 0  # without the table no process gets more
        await run_sql(gateway, "ALTER TABLE gone RENAME TO wait_places")


async def test_no_places_are_no_waits(gateway: Gateway) -> None:
    async with AsyncExitStack() as stack:
        assert await waiting(stack, process(gateway, 0), 3) == 0


async def test_without_a_database_the_leases_are_renewed_when_it_is_back(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_places_module, "PLACE_RENEWAL_SECONDS", 0.001)
    places = process(gateway, 10)
    async with AsyncExitStack() as stack:
        assert await waiting(stack, places, 1) == 1
        await run_sql(gateway, "ALTER TABLE wait_places RENAME TO gone")
        running = asyncio.create_task(places.run())
        await asyncio.sleep(0.05)
        assert not running.done()
        await run_sql(gateway, "ALTER TABLE gone RENAME TO wait_places")
        await run_sql(gateway, "DELETE FROM wait_places")
        async with asyncio.timeout(5):
            while not await run_sql(gateway, "SELECT 1 FROM wait_places WHERE places = 1"):
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait({running})
