"""What was found, beside the goals: a table for the terminal and for docs/performance.md."""

from __future__ import annotations

import os
import platform
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.gateway import Announced, EndToEnd

BEGIN, END = "<!-- make bench writes from here -->", "<!-- to here -->"


@dataclass
class Findings:
    """Rates per second, in the order in which they were measured; a floor and the gateway took turns."""

    accept_floor: list[float] = field(default_factory=list)
    accept: list[float] = field(default_factory=list)
    end_to_end_floor: list[float] = field(default_factory=list)
    end_to_end: list[EndToEnd] = field(default_factory=list)
    announced: Announced | None = None
    listing: list[float] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)
    full: str = ""
    full_accept: list[float] = field(default_factory=list)
    full_listing: list[float] = field(default_factory=list)
    full_end_to_end: list[EndToEnd] = field(default_factory=list)


def percentile(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def table(found: Findings, *, seconds: float) -> str:
    """Markdown."""
    rates = [one.per_second for one in found.end_to_end]
    cpu = [sum(one.cpu_ms.values()) for one in found.end_to_end]
    parts = ", ".join(
        f"{name} {statistics.median(one.cpu_ms[name] for one in found.end_to_end):.1f}"
        for name in found.end_to_end[0].cpu_ms
    )
    rows = [
        _row("accept, floor: requests/s", _spread(found.accept_floor), "", None),
        _row("accept, gateway: requests/s", _spread(found.accept), "≥ 600", statistics.median(found.accept) >= 600),
        _share("accept, share of the floor", found.accept, found.accept_floor, 0.5),
        _row(
            "accept while the worker works: requests/s",
            _spread([one.accepted_per_second for one in found.end_to_end]),
            "",
            None,
        ),
        _row("end to end, floor: per second", _spread(found.end_to_end_floor), "", None),
        _row("end to end, gateway: per second", _spread(rates), "≥ 150", statistics.median(rates) >= 150),
        _share("end to end, share of the floor", rates, found.end_to_end_floor, 0.2),
        _row("CPU per verification: ms", f"{_spread(cpu)} ({parts})", "≤ 12", statistics.median(cpu) <= 12),
    ]
    if found.announced is not None:
        commit, post = found.announced.after_commit, found.announced.after_post
        p50 = percentile(commit, 50) * 1000
        rows += [
            _row(
                "commit → first delivery at 10/s: ms",
                f"p50 {p50:.0f}, p95 {percentile(commit, 95) * 1000:.0f}",
                "p50 < 50",
                p50 < 50,
            ),
            _row(
                "POST → first delivery at 10/s: ms",
                f"p50 {percentile(post, 50) * 1000:.0f}, p95 {percentile(post, 95) * 1000:.0f}",
                "",
                None,
            ),
        ]
    rows += [
        _row(f"peak memory, {name}: MB", f"{held:.0f}", "≤ 150", held <= 150) for name, held in found.peaks.items()
    ]
    rows.append(_row("list, pages of 20/s", _spread(found.listing), "", None))
    if found.full_accept:
        full_rates = [one.per_second for one in found.full_end_to_end]
        rows += [
            _kept("accept with full tables", found.full_accept, found.accept),
            _kept("list with full tables", found.full_listing, found.listing),
            _kept("end to end with full tables", full_rates, rates),
        ]
    head = "| what | min / median / max | goal | reached |\n| --- | --- | --- | --- |"
    return "\n".join([_circumstances(found, seconds), "", head, *rows])


def write(page: Path, measured: str) -> None:
    """Replaces what the last run wrote and leaves the words around it alone."""
    shown = page.read_text()
    before, _, rest = shown.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{measured}\n\n{END}{after}")


def _circumstances(found: Findings, seconds: float) -> str:
    loads = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    where = (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()},"
        f" Python {platform.python_version()}; load averages at the end: {loads}; the run took {seconds:.0f} s."
    )
    noise = (
        f"Noise: {_noise(found.accept_floor):.0%} between the slowest and the fastest run of floor 1,"
        f" {_noise(found.end_to_end_floor):.0%} of floor 2."
    )
    return textwrap.fill(" ".join(filter(None, (where, noise, found.full))), 120, break_on_hyphens=False)


def _noise(values: Sequence[float]) -> float:
    return max(values) / min(values) - 1


def _spread(values: Sequence[float]) -> str:
    digits = 0 if min(values) >= 100 else 1
    return " / ".join(f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))


def _row(what: str, measured: str, goal: str, reached: bool | None) -> str:
    return f"| {what} | {measured} | {goal} | {'' if reached is None else 'yes' if reached else 'no'} |"


def _share(what: str, ours: Sequence[float], floor: Sequence[float], goal: float) -> str:
    shares = [one / other for one, other in zip(ours, floor, strict=True)]
    shown = " / ".join(f"{share:.2f}" for share in (min(shares), statistics.median(shares), max(shares)))
    return _row(what, shown, f"≥ {goal}", statistics.median(shares) >= goal)


def _kept(what: str, full: Sequence[float], empty: Sequence[float]) -> str:
    kept = statistics.median(full) / statistics.median(empty)
    return _row(what, f"{_spread(full)}, {kept:.0%} of empty", "≥ 80 % of empty", kept >= 0.8)
