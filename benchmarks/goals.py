"""The goals, each beside what was reached and what the engine before reached."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.load import percentile
from benchmarks.plan import Findings, Measured, Pair

CPU_MS = 4.0
PAGE_MS = 150.0


@dataclass(frozen=True)
class Before:
    """Of the first engine (PgQueuer, a commit for each step), measured in other runs on two cores of the same kind."""

    share: str = "0.05"
    cpu: str = "12.4 (API 1.1, worker 7.0, PostgreSQL 4.3)"
    accept: str = "0.35"
    delivered: str = "p50 22, p99 not known"
    accept_p99: str = "35"
    second_worker: str = "+0 %"
    memory: str = "API 135, worker 142, largest PostgreSQL process 7"
    webhooks: str = "not measured"
    full_accept: str = "102 %"
    full_list: str = "75 %"
    full_claim: str = "not measured"
    full_end_to_end: str = "85 %"


@dataclass(frozen=True)
class Goal:
    """`met` None: not measured in this run."""

    what: str
    goal: str
    reached: str
    met: bool | None
    before: str


def judge(found: Findings) -> list[Goal]:
    now, before = found.now, found.before
    earlier = _earlier(found, before) if before is not None else Before()
    share, cpu, accept = _shares(found, now), _cpu(now), _accept_shares(found, now)
    delivered, accept_p99, second = _delivered(now), _accept_p99(now), _second_worker(now)
    return [
        Goal("end to end, share of floor 3", "≥ 0.15", _spread(share, 2), _at_least(share, 0.15), earlier.share),
        Goal(f"CPU per verification, ms ({_parts(now)})", f"≤ {CPU_MS:.0f}", _spread(cpu, 1), _at_most(cpu, CPU_MS),
             earlier.cpu),
        Goal("accept, share of floor 1", "≥ 1", _spread(accept, 2), _at_least(accept, 1), earlier.accept),
        Goal("POST → webhook at 10/s, ms", "p50 ≤ 15, p99 ≤ 40", _p50_p99(delivered),
             delivered[0] <= 15 and delivered[1] <= 40 if delivered else None, earlier.delivered),
        Goal("accept at 200/s beside a working worker, p99 in ms", "≤ 20", _spread(accept_p99, 0),
             _at_most(accept_p99, 20), earlier.accept_p99),
        Goal("a second worker adds end to end", "≥ 40 %", _spread(second, 0, sign=True), _at_least(second, 40),
             earlier.second_worker),
        Goal("memory of a process at its peak, MB", "≤ 150 each", _peaks(now),
             max(now.peaks.values()) <= 150 if now.peaks else None, earlier.memory),
        Goal("webhook deliveries alone, per second", "≥ 1,500", _spread(now.webhooks, 0), _at_least(now.webhooks, 1500),
             earlier.webhooks),
        Goal("slowest page of the console beside full tables, p95 in ms", "≤ 150", *_slowest_page(found), "there was none"),
        *(
            Goal(f"{name} beside full tables, share of empty", "≥ 90 %", *_kept(found.beside_full.get(name)), known)
            for name, known in (
                ("accept", earlier.full_accept), ("list", earlier.full_list), ("claim", earlier.full_claim),
                ("end to end", earlier.full_end_to_end),
            )
        ),
    ]  # fmt: skip


def _earlier(found: Findings, before: Measured) -> Before:
    """The earlier version, in turns with this one."""
    return Before(
        share=_spread(_shares(found, before), 2),
        cpu=f"{_spread(_cpu(before), 1)} ({_parts(before)})",
        accept=_spread(_accept_shares(found, before), 2),
        delivered=_p50_p99(_delivered(before)),
        accept_p99=_spread(_accept_p99(before), 0),
        second_worker=_spread(_second_worker(before), 0, sign=True),
        memory=_peaks(before),
        webhooks=_spread(before.webhooks, 0),
        full_accept=_kept(found.beside_full_before.get("accept"))[0],
        full_list=_kept(found.beside_full_before.get("list"))[0],
        full_end_to_end=_kept(found.beside_full_before.get("end to end"))[0],
    )


def _shares(found: Findings, measured: Measured) -> list[float]:
    return [one.per_second / bare.per_second for one, bare in zip(measured.one_worker, found.bare, strict=False)]


def _accept_shares(found: Findings, measured: Measured) -> list[float]:
    return [one / floor for one, floor in zip(measured.accept, found.accept_floor, strict=False)]


def _cpu(measured: Measured) -> list[float]:
    return [one.cost.cpu for one in measured.one_worker]


def _parts(measured: Measured) -> str:
    if not measured.one_worker:
        return "API, worker, PostgreSQL"
    return ", ".join(
        f"{name} {statistics.median(one.cost.cpu_ms[name] for one in measured.one_worker):.2f}"
        for name in measured.one_worker[0].cost.cpu_ms
    )


def _delivered(measured: Measured) -> tuple[float, float] | None:
    """Of all rounds together."""
    times = [seconds for step in measured.steps.get(10, ()) for seconds in step.delivered]
    return (percentile(times, 50) * 1000, percentile(times, 99) * 1000) if times else None


def _accept_p99(measured: Measured) -> list[float]:
    return [percentile(step.accepted, 99) * 1000 for step in measured.steps.get(200, ())]


def _second_worker(measured: Measured) -> list[float]:
    pairs = zip(measured.one_worker, measured.two_workers, strict=True)
    return [(two.per_second / one.per_second - 1) * 100 for one, two in pairs]


def _peaks(measured: Measured) -> str:
    return ", ".join(f"{name} {held:.0f}" for name, held in measured.peaks.items()) or "not measured"


def _kept(pair: Pair | None) -> tuple[str, bool | None]:
    """The quotient of medians, and those of the rounds, each with its neighbor."""
    if pair is None or not pair.full:
        return "not measured", None
    quotient = statistics.median(pair.full) / statistics.median(pair.empty)
    each = [full / empty for full, empty in zip(pair.full, pair.empty, strict=True)]
    return f"{quotient:.0%} (rounds: {min(each):.0%} to {max(each):.0%})".replace("%", " %"), quotient >= 0.9


def _slowest_page(found: Findings) -> tuple[str, bool | None]:
    if not found.page_times:
        return "not measured", None
    name, p95 = max(((name, percentile(taken, 95)) for name, taken in found.page_times.items()), key=lambda one: one[1])
    return f"{p95:.0f} ({name})", p95 <= PAGE_MS


def _p50_p99(times: tuple[float, float] | None) -> str:
    return "not measured" if times is None else f"p50 {times[0]:.0f}, p99 {times[1]:.0f}"


def _spread(values: Sequence[float], digits: int, *, sign: bool = False) -> str:
    if not values:
        return "not measured"
    plus = "+" if sign else ""
    median = f"{statistics.median(values):{plus},.{digits}f}{' %' if sign else ''}"
    return f"{median} ({min(values):{plus},.{digits}f} to {max(values):{plus},.{digits}f})"


def _at_least(values: Sequence[float], goal: float) -> bool | None:
    return statistics.median(values) >= goal if values else None


def _at_most(values: Sequence[float], goal: float) -> bool | None:
    return statistics.median(values) <= goal if values else None
