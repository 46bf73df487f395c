"""`make bench`: everything once, as a table on the terminal and in docs/performance.md. `--quick`: short, printed only."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import uvloop

from benchmarks import full_tables, gateway, report
from benchmarks.gateway import Setup
from benchmarks.report import Findings

PAGE = Path("docs/performance.md")


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {what}", flush=True)


async def measure(setup: Setup, *, quick: bool, full: bool) -> Findings:
    repeats, many, few = (2, 1000, 600) if quick else (3, 2000, 3000)
    found = Findings()
    with gateway.floor(setup), gateway.api(setup):
        await gateway.subscribe(setup)
        await gateway.accept_floor(setup, 200)
        await gateway.accept(setup, 200)
        for _ in range(repeats):
            found.accept_floor.append(await gateway.accept_floor(setup, few))
            found.accept.append(await gateway.accept(setup, few))
            say(f"accept: floor {found.accept_floor[-1]:.0f}/s, gateway {found.accept[-1]:.0f}/s")
        with gateway.worker(setup):
            await gateway.end_to_end(setup, 200)
            for _ in range(repeats):
                found.end_to_end_floor.append(await gateway.end_to_end_floor(setup, many))
                found.end_to_end.append(await gateway.end_to_end(setup, many))
                one = found.end_to_end[-1]
                cpu = ", ".join(f"{name} {spent:.1f}" for name, spent in one.cpu_ms.items())
                say(
                    f"end to end: floor {found.end_to_end_floor[-1]:.0f}/s, gateway {one.per_second:.0f}/s; CPU ms: {cpu}"
                )
            found.announced = await gateway.announced(setup, 50 if quick else 200, per_second=10)
            say(f"commit to delivery: p50 {report.percentile(found.announced.after_commit, 50) * 1000:.0f} ms")
            found.listing = [await gateway.listing(setup, 500) for _ in range(repeats)]
            found.peaks = gateway.peaks(setup)
        if not full:
            return found
        say("filling the tables")
        found.full = await full_tables.fill(setup)
        found.full_accept = [await gateway.accept(setup, few) for _ in range(repeats)]
        say(f"full tables: accept {found.full_accept[-1]:.0f}/s")
        with gateway.worker(setup):
            await gateway.end_to_end(setup, 200)
            found.full_listing = [await gateway.listing(setup, 500) for _ in range(repeats)]
            found.full_end_to_end = [await gateway.end_to_end(setup, many) for _ in range(repeats)]
            say(f"full tables: end to end {found.full_end_to_end[-1].per_second:.0f}/s")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="short, without the full tables, docs/performance.md as it is"
    )
    parser.add_argument(
        "--skip-full-tables", action="store_true", help="all but the full tables, whose filling takes minutes"
    )
    asked = parser.parse_args()
    quick = asked.quick
    started = time.monotonic()
    # On disk and not in memory: fsync is to cost what it costs.
    with tempfile.TemporaryDirectory(prefix="cgbench", dir="/var/tmp", ignore_cleanup_errors=True) as scratch:
        Path(scratch).chmod(0o711)  # started by root, PostgreSQL runs as another user
        with gateway.set_up(Path(scratch)) as setup:
            found = uvloop.run(measure(setup, quick=quick, full=not (quick or asked.skip_full_tables)))
    table = report.table(found, seconds=time.monotonic() - started)
    print("\n" + table)
    if not quick:
        report.write(PAGE, table)
        print(f"\nWritten to {PAGE}.")


if __name__ == "__main__":
    main()
