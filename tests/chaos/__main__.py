"""`make chaos`: every fault, one after the other, against the promises. 1 if a row misses its goal.

python -m tests.chaos [NAME …] [--list] [--write]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from tests.chaos import report
from tests.chaos.cluster import running_cluster
from tests.chaos.experiment import Row, run
from tests.chaos.faults import FAULTS


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {what}", flush=True)  # noqa: T201


async def run_all(names: list[str], *, written: bool) -> list[Row]:
    """`written`: the table grows with every row, so that a run that is cut short leaves what it found."""
    rows: list[Row] = []
    async with running_cluster() as cluster:
        for name in names:
            began = time.time()
            row = await run(cluster, FAULTS[name])
            say(row.explained())
            if not row.ok:
                say("\n".join(f"  {times} × {what}" for what, times in cluster.complaints(began).most_common()))
            rows.append(row)
            if written:
                report.write(rows, [fault.text for fault in FAULTS.values()])
    return rows


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.chaos")
    options.add_argument("names", nargs="*", metavar="NAME", help="these faults only")
    options.add_argument("--list", action="store_true", help="name the faults")
    options.add_argument("--write", action="store_true", help=f"write the rows into {report.PAGE.name}")
    chosen = options.parse_args()
    if chosen.list:
        print("\n".join(f"{fault.name}: {fault.text}" for fault in FAULTS.values()))  # noqa: T201
        return 0
    if unknown := set(chosen.names) - set(FAULTS):
        options.error(f"no fault has the name {', '.join(sorted(unknown))}; --list names them")
    began = time.monotonic()
    rows = asyncio.run(run_all(chosen.names or list(FAULTS), written=chosen.write))
    print(report.table(map(report.line, rows)))  # noqa: T201
    failed = [row.fault.name for row in rows if not row.ok]
    say(f"{len(rows)} experiments took {(time.monotonic() - began) / 60:.1f} minutes")
    say(f"not clean: {', '.join(failed)}" if failed else "nothing lost, nothing doubled, nobody asked in vain")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
