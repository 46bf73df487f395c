"""What was found, as tables and pictures: on the terminal, and between the marks of docs/performance.md."""

from __future__ import annotations

import os
import platform
import statistics
import textwrap
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.goals import CPU_MS, judge
from benchmarks.load import percentile
from benchmarks.measurements import Cost, Step
from benchmarks.noise import QUIET, Watch
from benchmarks.picture import Line, lines, stacked_bars
from benchmarks.plan import FULL, RATES, Findings, Measured

PAGE = Path("docs/performance.md")
CPU_PICTURE, LATENCY_PICTURE = Path("docs/performance-cpu.svg"), Path("docs/performance-latency.svg")
BEGIN, END = "<!-- make bench writes from here -->", "<!-- to here -->"
FASTEST = "as fast as it goes"
_KINDS = ("PostgreSQL", "worker", "API")


def text(found: Findings, watch: Watch, *, seconds: float) -> str:
    """Markdown, without the pictures."""
    before = (
        "the earlier version, measured in turns with this one"
        if found.before is not None
        else "the first engine, measured in other runs on the same kind of machine: constants, not this run's"
    )
    parts = [
        _circumstances(found, watch, seconds),
        _fill(f"Reached: the median, and in brackets the lowest and the highest round. Before: {before}."),
        _goals(found),
        "What took turns, per second, by round: lowest, median, highest.",
        _turns(found),
    ]
    if found.now.steps:
        parts += ["Cost and latency at a steady load, of one API and one worker process:", _load(found.now)]
        parts.append(_at_rest(found.now))
    if found.page_times:
        parts += ["The console's pages beside full tables, as an operator opens them:", _pages(found)]
    return "\n\n".join(parts)


def pictures(found: Findings) -> dict[Path, str]:
    """File → SVG; none without the steady loads."""
    if not found.now.steps:
        return {}
    steps = [_step(found.now, rate) for rate in RATES]
    costs = [step.cost if step is not None and step.kept_up else None for step in steps]
    labels = [str(rate) for rate in RATES]
    if found.now.one_worker:
        costs.append(_median_cost([one.cost for one in found.now.one_worker]))
        fastest = statistics.median(one.per_second for one in found.now.one_worker)
        labels.append(f"{fastest:.0f} (most)")
    bars = {kind: [None if cost is None else cost.cpu_ms[kind] for cost in costs] for kind in _KINDS}

    def over(of: Callable[[Step], list[float]], percent: float) -> list[float | None]:
        return [percentile(of(step), percent) * 1000 if step is not None and step.kept_up else None for step in steps]

    drawn = (
        Line("webhook p99", over(lambda step: step.delivered, 99), 0, rare=True),
        Line("webhook p50", over(lambda step: step.delivered, 50), 0),
        Line("accepted p99", over(lambda step: step.accepted, 99), 1, rare=True),
        Line("accepted p50", over(lambda step: step.accepted, 50), 1),
    )
    axis = "verifications per second, one API and one worker process"
    return {
        CPU_PICTURE: stacked_bars("CPU per verification", "ms", labels, bars, CPU_MS, axis),
        LATENCY_PICTURE: lines("From POST to 202 and to the webhook", "ms", labels[: len(RATES)], drawn, axis),
    }


def write(measured: str, drawn: dict[Path, str]) -> None:
    """Replaces what the last run wrote and leaves the words around it alone."""
    shown = PAGE.read_text()
    before, _, rest = shown.partition(BEGIN)
    _, _, after = rest.partition(END)
    alternatives = {CPU_PICTURE: "CPU per verification over load", LATENCY_PICTURE: "Latency over load"}
    embedded = "\n\n".join(f"![{alternatives[path]}]({path.name})" for path in drawn)
    PAGE.write_text(f"{before}{BEGIN}\n\n{measured}\n\n{embedded}\n\n{END}{after}")
    for path, svg in drawn.items():
        path.write_text(svg)


def _circumstances(found: Findings, watch: Watch, seconds: float) -> str:
    told = [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()},",
        f"Python {platform.python_version()}; load average {watch.load_before:.1f} before,",
        f"{os.getloadavg()[0]:.1f} at the end;",
        f"the run took {seconds:.0f} s.",
        _noise(watch),
    ]
    if found.size is not FULL:
        told.insert(0, "**A short run: fewer rounds, smaller tables.**")
    late = [step.late for steps in found.now.steps.values() for step in steps if step.kept_up]
    if late:
        told.append(f"The steady load's requests were sent at most {max(late) * 1000:.0f} ms after their turn (p99).")
    if found.disk:
        told.append(
            "The disk alone flushed 8 kB in"
            f" {', '.join(f'{percentile(found.disk, share) * 1000:.1f}' for share in (50, 99, 99.9, 100))} ms"
            " (p50, p99, p99.9, longest)."
        )
    told.append(found.filled)
    return _fill(" ".join(filter(None, told)))


def _noise(watch: Watch) -> str:
    worst = watch.worst
    if worst is None:
        return "What other processes did meanwhile is not known on this system."
    told = (
        f"Other processes used {watch.others:.1%} of a core, the hypervisor took {watch.stolen:.1%};"
        f" in the worst two seconds together {worst.others + worst.stolen:.0%} ({worst.who or 'no process alone'})."
    )
    if watch.noisy_share > 0.02:
        told += f" **Noisy: for {watch.noisy_share:.0%} of the time they took more than {QUIET:.0%} of a core.**"
    return told.replace("%", " %")


def _goals(found: Findings) -> str:
    rows = [
        f"| {one.what} | {one.goal} | {one.reached} | {'' if one.met is None else 'yes' if one.met else '**no**'} |"
        f" {one.before} |"
        for one in judge(found)
    ]
    return "\n".join(["| what | goal | reached | met | before |", "| --- | --- | --- | --- | --- |", *rows])


def _turns(found: Findings) -> str:
    rows = []
    for name, measured in [("gateway", found.now), ("earlier version", found.before)]:
        if measured is None:
            continue
        rows += [
            (f"accept: {name}", measured.accept),
            (f"accept while its worker works: {name}", [one.accepted_per_second for one in measured.one_worker]),
            (f"end to end, one worker: {name}", [one.per_second for one in measured.one_worker]),
            (f"end to end, two workers: {name}", [two.per_second for two in measured.two_workers]),
            (f"webhooks alone: {name}", measured.webhooks),
        ]
    rows += [
        ("accept: floor 1", found.accept_floor),
        ("end to end: floor 2", found.end_to_end_floor),
        (f"end to end: floor 3{_bare_cpu(found)}", [bare.per_second for bare in found.bare]),
        ("webhooks alone: a bare script", [bare.per_second for bare in found.webhooks_floor]),
    ]
    for name, pair in found.beside_full.items():
        rows += [(f"{name}, empty tables", pair.empty), (f"{name}, full tables", pair.full)]
    for name, pair in found.beside_full_before.items():
        rows += [
            (f"{name}, empty tables: earlier version", pair.empty),
            (f"{name}, full tables: earlier version", pair.full),
        ]
    listed = [
        f"| {name} | {_number(min(values))} | {_number(statistics.median(values))} | {_number(max(values))} |"
        for name, values in sorted(rows, key=lambda row: row[0].partition(":")[0])
        if values
    ]
    return "\n".join(["| what | lowest | median | highest |", "| --- | ---: | ---: | ---: |", *listed])


def _bare_cpu(found: Findings) -> str:
    if not found.bare:
        return ""
    return f" ({statistics.median(bare.cpu_ms for bare in found.bare):.2f} ms of CPU each)"


def _load(measured: Measured) -> str:
    head = (
        "| verifications per second | CPU ms | API | worker | PostgreSQL | POST → 202, p50 / p99 ms |"
        " POST → webhook, p50 / p99 ms | its commit → webhook, p50 ms | WAL kB | writing transactions |"
    )
    rows = [head, "| --- " + "| ---: " * 9 + "|"]
    for rate in RATES:
        if (step := _step(measured, rate)) is None:
            continue
        if not step.kept_up:
            rows.append(f"| {rate}: not kept up |" + " |" * 9)
            continue
        after_commit = f"{percentile(step.after_commit, 50) * 1000:.0f}"
        times = [_p50_p99(step.accepted), _p50_p99(step.delivered), after_commit]
        rows.append(_cost_row(str(rate), step.cost, times))
    if measured.one_worker:
        cost = _median_cost([one.cost for one in measured.one_worker])
        fastest = statistics.median(one.per_second for one in measured.one_worker)
        rows.append(_cost_row(f"{fastest:.0f}: {FASTEST}", cost, ["", "", ""]))
    if measured.two_workers:
        cost = _median_cost([two.cost for two in measured.two_workers])
        fastest = statistics.median(two.per_second for two in measured.two_workers)
        rows.append(_cost_row(f"{fastest:.0f}: {FASTEST}, two workers", cost, ["", "", ""]))
    return "\n".join(rows)


def _cost_row(name: str, cost: Cost, times: Sequence[str]) -> str:
    parts = [f"{cost.cpu:.1f}", *(f"{cost.cpu_ms[kind]:.2f}" for kind in reversed(_KINDS))]
    return f"| {' | '.join([name, *parts, *times, f'{cost.wal_bytes / 1000:.1f}', f'{cost.writes:.2f}'])} |"


def _at_rest(measured: Measured) -> str:
    spent = ", ".join(f"{name} {milliseconds:.1f}" for name, milliseconds in measured.at_rest.items())
    return _fill(
        f"With nothing to do: {spent} ms of CPU a second; at 10/s a tenth of that is in each verification's share."
    )


def _pages(found: Findings) -> str:
    rows = [
        f"| {name} | {percentile(taken, 50):.0f} | {percentile(taken, 95):.0f} | {max(taken):.0f} |"
        for name, taken in found.page_times.items()
    ]
    return "\n".join(["| page | p50 ms | p95 ms | longest ms |", "| --- | ---: | ---: | ---: |", *rows])


def _step(measured: Measured, rate: int) -> Step | None:
    """All rounds of a rate as one: times together, costs by their median."""
    rounds = measured.steps.get(rate)
    if not rounds:
        return None

    def together(of: Callable[[Step], list[float]]) -> list[float]:
        return sorted(seconds for step in rounds for seconds in of(step))

    return Step(
        rate,
        all(step.kept_up for step in rounds),
        together(lambda step: step.accepted),
        together(lambda step: step.delivered),
        together(lambda step: step.after_commit),
        max(step.late for step in rounds),
        _median_cost([step.cost for step in rounds]),
    )


def _median_cost(costs: Sequence[Cost]) -> Cost:
    return Cost(
        {kind: statistics.median(cost.cpu_ms[kind] for cost in costs) for kind in costs[0].cpu_ms},
        statistics.median(cost.wal_bytes for cost in costs),
        statistics.median(cost.writes for cost in costs),
    )


def _p50_p99(seconds: Sequence[float]) -> str:
    return f"{percentile(seconds, 50) * 1000:.0f} / {percentile(seconds, 99) * 1000:.0f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _fill(words: str) -> str:
    return textwrap.fill(words, 120, break_on_hyphens=False)
