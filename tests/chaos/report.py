"""The table of `docs/reliability.md`, written by the run that measured it."""

from __future__ import annotations

import os
import platform
import re
import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.experiment import Row, p50
from tests.chaos.releases import CHECKOUT

PAGE = CHECKOUT / "docs" / "reliability.md"
BEGIN, END = "<!-- make chaos writes from here -->", "<!-- to here -->"

_COLUMNS = (
    *(
        "fault",
        "verifications",
        "calls on the line",
        "lost",
        "doubled",
        "needs_attention",
        "replies lost",
        "operator's words",
    ),
    *("recovery, s: p50", "max", "all ended, s", "took, s", "date"),
)
_LINE = re.compile(r"^\| (?!fault )(?!---)(?P<fault>.*?) \|.* (?P<took>\d+) \| \d{4}-\d\d-\d\d \|$", re.MULTILINE)


def table(lines: Iterable[str]) -> str:
    head = [_cells(_COLUMNS), _cells(["---", *["---:"] * (len(_COLUMNS) - 2), "---"])]
    return "\n".join([*head, *lines]) + "\n"


def _cells(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def line(row: Row) -> str:
    cells: list[object]
    ends = [f"{row.seconds:.0f}", f"{datetime.now(UTC):%Y-%m-%d}"]
    account = row.account
    if account is None:
        cells = [row.fault.text, f"skipped: {row.skipped}", *[""] * 9, *ends]
    else:
        cells = [
            row.fault.text,
            account.verifications,
            row.on_the_line,
            len(account.lost),
            len(account.doubled),
            account.needs_attention,
            account.replies_lost,
            account.resolutions,
            f"{p50(row.recovery):.1f}",
            f"{max(row.recovery):.1f}",
            f"{row.all_ended:.0f}{'†' if row.clock_moved else ''}",
            *ends,
        ]
    return _cells(cells)


def write(rows: Sequence[Row], order: Sequence[str], page: Path = PAGE) -> None:
    """The rows take the places of those with the same fault; the others stay if their fault is still in `order`."""
    before, _, rest = page.read_text().partition(BEGIN)
    written, _, after = rest.partition(END)
    lines = {match["fault"]: match[0] for match in _LINE.finditer(written)} | {
        row.fault.text: line(row) for row in rows
    }
    kept = [lines[text] for text in order if text in lines]
    took = sum(int(match["took"]) for match in map(_LINE.match, kept) if match)
    page.write_text(f"{before}{BEGIN}\n\n{_machine(took)}\n\n{table(kept)}\n{END}{after}")


def _machine(seconds: int) -> str:
    text = (
        f"Last run {datetime.now(UTC):%Y-%m-%d %H:%M} UTC on {os.cpu_count()} cores, {platform.machine()}, "
        f"{platform.system()} {platform.release().partition('-')[0]}, Python {platform.python_version()}; "
        f"all experiments below took {seconds / 60:.0f} minutes."
    )
    return textwrap.fill(text, 120)
