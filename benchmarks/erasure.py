"""For how long an erasure holds its locks beside full tables: from the first lock of a batch to the end of its commit.

python -m benchmarks.erasure [--ended 1000000] [--seconds 20]

By age with one eraser and with three at once, then a whole tenant; each for so many seconds. Nobody waits longer than a batch.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager

import psutil
import uvloop
from sqlalchemy.ext.asyncio import AsyncConnection

from benchmarks import gateway as gateways
from benchmarks import measurements, noise, stage
from benchmarks.load import percentile
from covergate import erasure
from covergate.gateway import Gateway
from covergate.startup import opened

BOUND_MS = 200
DAYS = 1
ERASERS = 3


class Timed(Gateway):
    """Notes for how many milliseconds each of its transactions lasted."""

    held: list[float]

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        return self._timed()

    @asynccontextmanager
    async def _timed(self) -> AsyncIterator[AsyncConnection]:
        async with super().transaction() as db:
            begun = time.perf_counter()
            yield db
        self.held.append((time.perf_counter() - begun) * 1000)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.erasure")
    parser.add_argument("--ended", type=int, default=1_000_000, help="verifications that have ended")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each turn")
    asked = parser.parse_args()
    with ExitStack() as stack:
        set_up = stack.enter_context(stage.set_up())
        gateway = stack.enter_context(gateways.running(set_up, "gateway", gateways.OWN))
        watch = noise.Watch(roots={psutil.Process().pid, set_up.postgres.pid})
        uvloop.run(_measure(gateway, watch, asked.ended, asked.seconds))
    print(f"Others used {watch.others:.2f} cores meanwhile; {watch.stolen:.2f} were stolen.")


async def _measure(gateway: gateways.Gateway, watch: noise.Watch, ended: int, seconds: float) -> None:
    with gateways.working(gateway):
        await measurements.end_to_end(gateway, 20)
    print(await gateways.fill(gateway, ended, 0), flush=True)
    settings = gateway.settings.model_copy(update={"content_days": DAYS})
    async with opened(settings, 2 * ERASERS + 1, "benchmark", migrate=False) as own:
        timed = Timed(own.settings, own.database, own.connections, own.accounts, own.tenancy)
        with watch:
            for name, erasers, erase in (
                ("by age", 1, lambda: erasure.erase_old(timed)),
                (f"by age, {ERASERS} at once", ERASERS, lambda: erasure.erase_old(timed)),
                ("a tenant", 1, lambda: erasure.erase_tenant(timed, "benchmark", dry_run=False)),
            ):
                print(f"{name}: {_told(await _held(timed, erasers, erase, seconds))}", flush=True)


async def _held(timed: Timed, erasers: int, erase: Callable[[], Awaitable[object]], seconds: float) -> list[float]:
    held: list[float] = []
    object.__setattr__(timed, "held", held)  # a gateway is frozen
    erasing = [asyncio.ensure_future(erase()) for _ in range(erasers)]
    done, going_on = await asyncio.wait(erasing, timeout=seconds)
    for one in going_on:
        one.cancel()
    await asyncio.gather(*going_on, return_exceptions=True)
    for one in done:
        one.result()
    return sorted(held)


def _told(held: list[float]) -> str:
    if not held:
        return "nothing was left to erase"
    over = sum(one > BOUND_MS for one in held)
    return (
        f"{len(held)} batches, locks held for p50 {percentile(held, 50):.0f}, p99 {percentile(held, 99):.0f},"
        f" at most {held[-1]:.0f} ms; {over} over {BOUND_MS} ms"
    )


if __name__ == "__main__":
    main()
