"""The order in which everything is measured: what is compared takes turns, so that what else the machine does falls on both."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

from benchmarks import machine, measurements, pages
from benchmarks.gateway import Gateway, fill, working
from benchmarks.load import percentile
from benchmarks.measurements import Bare, EndToEnd, Step
from benchmarks.stage import Stage

RATES = (10, 50, 100, 200, 400)
ALWAYS = 200
"""Up to this rate there is a goal, kept up with or not."""
EARLIER_ROUNDS, EARLIER_LOAD_ROUNDS, EARLIER_FULL_ROUNDS = 3, 1, 2
"""An earlier version is slower, and only its medians are wanted. Its claim is not measured: it may be a library's."""
PARTS = ("accept", "end-to-end", "load", "webhooks", "full")


@dataclass(frozen=True)
class Size:
    """How often, how many, how long (seconds)."""

    rounds: int
    accepts: int
    ends: int
    bare_ends: int
    load_rounds: int
    slowest_seconds: float
    step_seconds: float
    webhook_rounds: int
    webhooks: int
    full_rounds: int
    pages: int
    claims: int
    ended: int
    parked: int
    looks: int


FULL = Size(5, 3000, 2000, 5000, 3, 20, 12, 3, 6000, 4, 500, 100, 1_000_000, 300_000, 100)
QUICK = Size(2, 800, 400, 1500, 1, 6, 3, 1, 1000, 2, 150, 20, 30_000, 9_000, 20)


@dataclass
class Measured:
    """Of one gateway, in the order of the rounds."""

    accept: list[float] = field(default_factory=list)
    one_worker: list[EndToEnd] = field(default_factory=list)
    two_workers: list[EndToEnd] = field(default_factory=list)
    steps: dict[int, list[Step]] = field(default_factory=dict)
    at_rest: dict[str, float] = field(default_factory=dict)
    webhooks: list[float] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)


@dataclass
class Pair:
    """The same measured with empty and with full tables, in turns; rates, more is better."""

    empty: list[float] = field(default_factory=list)
    full: list[float] = field(default_factory=list)


@dataclass
class Findings:
    size: Size
    now: Measured = field(default_factory=Measured)
    before: Measured | None = None
    accept_floor: list[float] = field(default_factory=list)
    end_to_end_floor: list[float] = field(default_factory=list)
    bare: list[Bare] = field(default_factory=list)
    webhooks_floor: list[Bare] = field(default_factory=list)
    beside_full: dict[str, Pair] = field(default_factory=dict)
    beside_full_before: dict[str, Pair] = field(default_factory=dict)
    disk: list[float] = field(default_factory=list)
    """Seconds that the disk alone took to flush 8 kB, each time."""
    filled: str = ""
    page_times: dict[str, list[float]] = field(default_factory=dict)
    """Page of the console → milliseconds of each look at it, beside full tables and a working worker."""


@dataclass
class Run:
    """`gateways`: the one under test and perhaps an earlier version; `full`: their twins, whose tables get filled."""

    stage: Stage
    gateways: list[Gateway]
    full: list[Gateway]
    parts: Collection[str]
    found: Findings
    say: Callable[[str], None]

    async def measure(self) -> None:
        started = time.monotonic()
        for part, measure in (
            ("accept", self._accept),
            ("end-to-end", self._end_to_end),
            ("load", self._load),
            ("webhooks", self._webhooks),
            ("full", self._beside_full),
        ):
            if part in self.parts:
                await measure()
                self.say(f"{part}: done after {time.monotonic() - started:.0f} s")
        for gateway, measured in self._each():
            measured.peaks = gateway.peaks

    def _each(self, number: int = 0, earlier_rounds: int = EARLIER_ROUNDS) -> list[tuple[Gateway, Measured]]:
        """Who takes part in this round."""
        measured = [self.found.now] + ([self.found.before] if self.found.before is not None else [])
        everybody = list(zip(self.gateways, measured, strict=True))
        return everybody if number < earlier_rounds else everybody[:1]

    async def _accept(self) -> None:
        size, found = self.found.size, self.found
        await measurements.floor_accept(self.stage, 300)
        for gateway in self.gateways:
            await measurements.accept(gateway, 300)
        for number in range(size.rounds):
            found.accept_floor.append(await measurements.floor_accept(self.stage, size.accepts))
            for gateway, measured in self._each(number):
                measured.accept.append(await measurements.accept(gateway, size.accepts))
                self.say(f"accept: floor {found.accept_floor[-1]:.0f}/s, {gateway.name} {measured.accept[-1]:.0f}/s")

    async def _end_to_end(self) -> None:
        size, found = self.found.size, self.found
        for number in range(size.rounds):
            found.bare.append(await measurements.floor_bare(self.gateways[0], size.bare_ends))
            found.end_to_end_floor.append(await measurements.floor_end_to_end(self.gateways[0], size.ends))
            for gateway, measured in self._each(number):
                with working(gateway):
                    await measurements.end_to_end(gateway, 200)
                    measured.one_worker.append(await measurements.end_to_end(gateway, size.ends))
                    with working(gateway):
                        await measurements.end_to_end(gateway, 200)
                        measured.two_workers.append(await measurements.end_to_end(gateway, size.ends))
                one, two = measured.one_worker[-1], measured.two_workers[-1]
                cpu = ", ".join(f"{name} {spent:.1f}" for name, spent in one.cost.cpu_ms.items())
                self.say(
                    f"end to end: floor 3 {found.bare[-1].per_second:.0f}/s, floor 2 {found.end_to_end_floor[-1]:.0f}/s,"
                    f" {gateway.name} {one.per_second:.0f}/s (CPU ms: {cpu}), two workers {two.per_second:.0f}/s"
                )

    async def _load(self) -> None:
        size = self.found.size
        for number in range(size.load_rounds):
            self.found.disk += machine.flushes(self.stage.directory, size.step_seconds)
            for gateway, measured in self._each(number, EARLIER_LOAD_ROUNDS):
                with working(gateway):
                    await measurements.end_to_end(gateway, 200)
                    if not number:
                        measured.at_rest = await measurements.at_rest(gateway, 5)
                    for rate in RATES:
                        seconds = size.slowest_seconds if rate == RATES[0] else size.step_seconds
                        step = await measurements.steady(gateway, rate, seconds)
                        measured.steps.setdefault(rate, []).append(step)
                        self.say(f"{gateway.name} at {rate}/s: {_told(step)}")
                        if not step.kept_up and rate >= ALWAYS:
                            break  # more would only make the queue longer

    async def _webhooks(self) -> None:
        size, found = self.found.size, self.found
        endpoints = {gateway.name: await measurements.partners(gateway) for gateway in self.gateways}
        for number in range(size.webhook_rounds):
            found.webhooks_floor.append(await measurements.floor_bare(self.gateways[0], size.webhooks, "deliver"))
            for gateway, measured in self._each(number):
                rate = await measurements.deliveries(gateway, endpoints[gateway.name], size.webhooks)
                measured.webhooks.append(rate)
                self.say(
                    f"webhooks alone: bare {found.webhooks_floor[-1].per_second:.0f}/s, {gateway.name} {rate:.0f}/s"
                )

    async def _beside_full(self) -> None:
        size, found = self.found.size, self.found
        pairs = list(zip(self.gateways, self.full, (found.beside_full, found.beside_full_before), strict=False))
        for empty, full, _ in pairs:
            for gateway in (empty, full):
                with working(gateway):
                    await measurements.end_to_end(gateway, 200)
            self.say(f"filling the tables of {full.name}")
            filled = await fill(full, size.ended, size.parked)
            self.say(filled)
            found.filled = found.filled or filled
        measures: dict[str, Callable[[Gateway], Awaitable[float]]] = {
            "accept": lambda gateway: measurements.accept(gateway, size.accepts),
            "list": lambda gateway: measurements.listing(gateway, size.pages),
            "claim": lambda gateway: measurements.claiming(gateway, size.claims),
            "end to end": self._worked_on,
        }
        for empty, full, _ in pairs:  # caches are cold
            for gateway in (empty, full):
                for name in ("accept", "list", "claim") if (empty, full) == pairs[0][:2] else ("accept", "list"):
                    await measures[name](gateway)
        for number in range(size.full_rounds):
            for name, measure in measures.items():
                for empty, full, shares in pairs[: 2 if number < EARLIER_FULL_ROUNDS and name != "claim" else 1]:
                    pair = shares.setdefault(name, Pair())
                    for gateway in (empty, full) if number % 2 else (full, empty):
                        (pair.full if gateway is full else pair.empty).append(await measure(gateway))
                    self.say(f"{name}: {empty.name} {pair.empty[-1]:.0f}/s, {full.name} {pair.full[-1]:.0f}/s")

        with working(self.full[0]):
            found.page_times = await pages.times(self.full[0], size.looks)
        for name, taken in found.page_times.items():
            self.say(f"page {name}: p50 {percentile(taken, 50):.0f}, p95 {percentile(taken, 95):.0f} ms")

    async def _worked_on(self, gateway: Gateway) -> float:
        with working(gateway):
            await measurements.end_to_end(gateway, 200)
            return (await measurements.end_to_end(gateway, self.found.size.ends)).per_second


def _told(step: Step) -> str:
    delivered = " / ".join(f"{percentile(step.delivered, percent) * 1000:.0f}" for percent in (50, 99))
    accepted = " / ".join(f"{percentile(step.accepted, percent) * 1000:.0f}" for percent in (50, 99))
    return (
        f"{'' if step.kept_up else 'not kept up; '}POST to webhook p50/p99 {delivered} ms, POST {accepted} ms,"
        f" CPU {step.cost.cpu:.1f} ms, WAL {step.cost.wal_bytes / 1000:.1f} kB"
    )
