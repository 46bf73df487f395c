"""Quotas that hold over all processes and cost no request a round trip."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from covergate.access import guesses as guesses_module
from covergate.access import quotas as quotas_module
from covergate.access.api_keys import create_key
from covergate.access.credential_cache import CredentialCache
from covergate.access.guesses import Guesses
from covergate.access.quotas import QuotaPolicy, Quotas
from covergate.errors import Problem
from covergate.gateway import Gateway
from tests.support.postgres import pool_of
from tests.support.sql import run_sql

TEN = QuotaPolicy("requests", "requests", quota=10, window=1000)
OFF = QuotaPolicy("requests", "requests", quota=0, window=10)


def taken(quotas: Quotas, policy: QuotaPolicy, number: int, subject: str = "key_1") -> int:
    """How many of so many are not refused."""
    done = 0
    for _ in range(number):
        with suppress(Problem):
            quotas.take(policy, subject)
            done += 1
    return done


async def test_a_bucket_holds_a_quota_and_each_subject_has_its_own(gateway: Gateway) -> None:
    quotas = Quotas(gateway)
    assert taken(quotas, TEN, 15) == 10
    assert taken(quotas, TEN, 15, "key_2") == 10
    assert taken(quotas, OFF, 1000) == 1000


async def test_a_refusal_says_when_to_come_back(gateway: Gateway) -> None:
    quotas = Quotas(gateway)
    taken(quotas, TEN, 10)
    with pytest.raises(Problem) as refused:
        quotas.take(TEN, "key_1")
    assert refused.value.status == 429 and refused.value.retry_after == 100
    assert refused.value.headers == {"ratelimit-policy": '"requests";q=10;w=1000', "ratelimit": '"requests";r=0;t=100'}


async def test_a_bucket_fills_again(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("covergate.access.quotas.time.monotonic", lambda: now)
    quotas = Quotas(gateway)
    assert taken(quotas, TEN, 20) == 10
    now += 350
    assert taken(quotas, TEN, 20) == 3
    now += 5000
    assert taken(quotas, TEN, 20) == 10


async def test_processes_share_a_bucket(gateway: Gateway) -> None:
    one, two = Quotas(gateway), Quotas(gateway)
    assert taken(one, TEN, 6) == 6
    await one.sync()
    # The other learns of it with its own first use.
    assert taken(two, TEN, 1) == 1
    await two.sync()
    assert taken(two, TEN, 20) == 3
    await two.sync()
    await one.sync()  # nothing to say
    assert taken(one, TEN, 20) == 4  # by its own copy, until it next says what it did
    await one.sync()
    assert taken(one, TEN, 20) == 0
    [row] = await run_sql(gateway, "SELECT extract(epoch FROM full_at - now()) AS seconds FROM quotas")
    assert 1350 < row.seconds < 1401  # fourteen of a hundred seconds each


async def test_a_request_costs_no_round_trip(gateway: Gateway) -> None:
    quotas = Quotas(gateway)
    await gateway.database.engine.dispose()
    taken(quotas, TEN, 20)
    assert pool_of(gateway.database.engine).checkedin() == 0


async def test_without_a_database_each_process_goes_on_alone(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas_module, "SYNC_SECONDS", 0.001)
    quotas = Quotas(gateway)
    await run_sql(gateway, "ALTER TABLE quotas RENAME TO gone")
    running = asyncio.create_task(quotas.run())
    assert taken(quotas, TEN, 4) == 4
    await asyncio.sleep(0.05)
    assert not running.done()
    assert taken(quotas, TEN, 10) == 6
    await run_sql(gateway, "ALTER TABLE gone RENAME TO quotas")
    await asyncio.wait_for(said(gateway, 10), 5)
    running.cancel()


async def said(gateway: Gateway, number: int) -> None:
    while not await run_sql(
        gateway, "SELECT 1 FROM quotas WHERE full_at > now() + make_interval(secs => :s)", s=100 * number - 50.0
    ):
        await asyncio.sleep(0.01)


async def test_memory_is_bounded(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas_module, "MOST_BUCKETS", 100)
    quotas = Quotas(gateway)
    for number in range(1000):
        quotas.take(TEN, f"203.0.113.{number}")
    assert len(quotas._buckets) <= 100


# --- wrong keys ------------------------------------------------------------------------------------------------------

SOURCE = "203.0.113.7"
WRONG = QuotaPolicy("wrong_keys", "wrong keys", quota=3, window=1000)


@pytest.fixture
def guesses(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Guesses:
    monkeypatch.setattr(guesses_module, "HELD_SECONDS", 0.05)
    return Guesses(CredentialCache(gateway), Quotas(gateway), WRONG)


async def guess(guesses: Guesses, number: int, source: str = SOURCE) -> str:
    try:
        caller = await guesses.authenticate(f"cg_test_{number:043}", source)
    except Problem as problem:
        return problem.code
    assert caller is None
    return "wrong"


async def test_after_its_quota_a_source_is_told_so(guesses: Guesses) -> None:
    assert [await guess(guesses, number) for number in range(5)] == ["wrong"] * 3 + ["rate_limited"] * 2
    assert await guess(guesses, 9, "198.51.100.1") == "wrong"


async def test_good_keys_use_nothing_up_and_get_through_beside_guessers(gateway: Gateway, guesses: Guesses) -> None:
    good = [await create_key(gateway, tenant="Clinic North", mode="test") for _ in range(5)]
    for key in good[:4]:
        assert await guesses.authenticate(key, SOURCE) is not None
    for number in range(10):
        await guess(guesses, number)
    assert await guess(guesses, 11) == "rate_limited"
    # One that was right lately is not held up, and a new one gets through with the next common look-up.
    late = asyncio.create_task(guesses.authenticate(good[4], SOURCE))
    assert await guesses.authenticate(good[0], SOURCE) is not None
    assert not late.done()
    assert await late is not None


async def test_a_thousand_guesses_are_one_statement(gateway: Gateway, guesses: Guesses) -> None:
    for number in range(3):
        await guess(guesses, number)
    looked_up: list[int] = []
    existing = guesses._keys.existing

    async def counted(digests: list[bytes]) -> frozenset[bytes]:
        looked_up.append(len(digests))
        return await existing(digests)

    guesses._keys.existing = counted  # type: ignore[method-assign]
    told = await asyncio.gather(*(guess(guesses, number) for number in range(1000)))
    assert set(told) == {"rate_limited"}
    assert looked_up == [guesses_module.MOST_HELD]
