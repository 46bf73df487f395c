"""`make chaos`: every fault, one after the other; the table goes into docs/reliability.md. 1 on any loss or doubling.

python -m tests.chaos [--only NAME …] [--list] [--print]
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
            row = await run(cluster, FAULTS[name])
            say(row.explained())
            rows.append(row)
            if written:
                report.write(rows)
    return rows


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.chaos")
    options.add_argument("--only", nargs="+", choices=list(FAULTS), help="these faults; the table is printed only")
    options.add_argument("--list", action="store_true", help="name the faults")
    options.add_argument("--print", action="store_true", help="print the table instead of writing it")
    chosen = options.parse_args()
    if chosen.list:
        print("\n".join(f"{fault.name}: {fault.text}" for fault in FAULTS.values()))  # noqa: T201
        return 0
    written = not (chosen.only or chosen.print)
    rows = asyncio.run(run_all(chosen.only or list(FAULTS), written=written))
    if not written:
        print(report.table(rows))  # noqa: T201
    else:
        say(f"the table is in {report.PAGE}")
    failed = [row.fault.name for row in rows if not row.ok]
    say(f"not clean: {', '.join(failed)}" if failed else "nothing lost, nothing doubled")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
