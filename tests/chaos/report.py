"""The table of `docs/reliability.md`, written by the run that measured it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.experiment import Row, p50
from tests.chaos.releases import CHECKOUT

PAGE = CHECKOUT / "docs" / "reliability.md"
MARK = "<!-- chaos table -->"

_INTRODUCTION = """
`make chaos` runs two APIs, two workers, the sandbox, a partner and a durable PostgreSQL as processes of their own, brings one
fault at a time upon them under load, and balances the books by id: *lost* is what was accepted and has no end, no single
terminal event or no delivery that arrived or is visibly exhausted; *doubled* is what was submitted, created or ended more than
once. Recovery counts from the end of the fault until the partner was told the end of a verification posted then (ten of them, at
all vendors). *All ended* counts until the last verification that was accepted before or during the fault had ended; † where that
one waited out a retry of minutes or a person's word, which the run does not: it moves the clock after 12 s and plays the
operator, who submits again what the vendor does not have and gives up what it has.
"""

_HEAD = """
| fault | verifications | lost | doubled | recovery, s: p50 | max | all ended, s | date | cores |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: |
"""


def table(rows: Sequence[Row]) -> str:
    return _HEAD + "\n".join(map(_line, rows)) + "\n"


def _line(row: Row) -> str:
    day, cores = f"{datetime.now(UTC):%Y-%m-%d}", os.cpu_count()
    if row.account is None:
        return f"| {row.fault.text} | skipped: {row.skipped} | | | | | | {day} | {cores} |"
    account = row.account
    cells = [
        row.fault.text,
        account.verifications,
        len(account.lost),
        len(account.doubled),
        f"{p50(row.recovery):.1f}",
        f"{max(row.recovery):.1f}",
        f"{row.all_ended:.0f}{'†' if row.clock_moved else ''}",
        day,
        cores,
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def write(rows: Sequence[Row], page: Path = PAGE) -> None:
    """Everything from the mark on is replaced; what stands before it is somebody else's."""
    before = page.read_text() if page.exists() else "# Reliability\n\n"
    before = before.partition(MARK)[0]
    page.write_text(f"{before}{MARK}\n{_INTRODUCTION}{table(rows)}")
