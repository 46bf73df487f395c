"""`covergate top`: what is open, due, ended and in trouble, live on a terminal. No PHI."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from covergate.db.outage import DATABASE_ERRORS

if TYPE_CHECKING:
    from covergate.gateway import Gateway
    from covergate.overview import Overview, WaitingOne

EVERY_SECONDS = 2.0
LATELY_SECONDS = 300.0


async def show_top(gateway: Gateway, modes: tuple[str, ...], console: Console, *, once: bool, as_json: bool) -> None:
    """Until it is interrupted, unless `once`. A database that is away is told, and asked again."""
    if as_json:
        typer.echo(orjson.dumps(shown(await _look(gateway, modes)), option=orjson.OPT_INDENT_2))
        return
    if once:
        console.print(_drawn(await _look(gateway, modes)))
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                live.update(_drawn(await _look(gateway, modes)), refresh=True)
            except DATABASE_ERRORS as error:
                live.update(
                    Text(f"the database does not answer ({type(error).__name__}); asking again …"), refresh=True
                )
            await asyncio.sleep(EVERY_SECONDS)


async def _look(gateway: Gateway, modes: tuple[str, ...]) -> Overview:
    from covergate.overview import overview_of

    async with gateway.connection() as db:
        return await overview_of(db, *modes, seconds=LATELY_SECONDS)


def shown(seen: Overview) -> dict[str, Any]:
    """As JSON."""
    return {
        "workers": seen.workers,
        "open": None if seen.open is None else {"at": seen.open.at, "waiting_for": dict(seen.open.waiting_for)},
        "oldest_due_seconds": dict(seen.oldest_due_seconds),
        "ended_in_5_minutes": {vendor: dict(numbers) for vendor, numbers in seen.ended.items()},
        "oldest": [_waiting_row(one) for one in seen.oldest],
        "deadlines_in_an_hour": seen.deadlines.number,
        "vendors": [
            {
                "vendor": one.vendor,
                "mode": one.mode,
                "account": account or None,
                "state": state,
                "since": since,
                "why": why,
            }
            for one in seen.vendors
            for account in dict.fromkeys(["", *one.accounts_in_trouble])
            for state, since, why in [one.state_of(account)]
        ],
        "endpoints_failing": [
            {"endpoint_id": one.endpoint_id, "pending": one.pending, "tries": one.tries, "last_status": one.last_status}
            for one in seen.failing
        ],
    }


def _waiting_row(one: WaitingOne) -> dict[str, Any]:
    return {
        "id": one.verification_id,
        "vendor": one.vendor,
        "mode": one.mode,
        "waiting_for": one.waiting_for,
        "since": one.since,
        "deadline": one.deadline,
    }


def _drawn(seen: Overview) -> Group:
    now = datetime.now(UTC)
    workers = f"{seen.workers} workers" if seen.workers else "NO WORKER: nothing is worked on"
    due = ", ".join(f"{kind} {seconds:.0f} s" for kind, seconds in seen.oldest_due_seconds.items())
    head = Text(f"{now:%Y-%m-%d %H:%M:%S} UTC   {workers}   oldest due: {due}")
    return Group(
        head,
        _table(
            "open" + ("" if seen.open is None else f" at {seen.open.at:%H:%M} UTC"),
            ("waits for", "number"),
            _open(seen),
        ),
        _table("ended in the last 5 minutes", ("vendor", "what", "number"), _ended(seen)),
        _table("vendors", ("vendor", "mode", "state", "why"), _vendors(seen)),
        _table(
            f"oldest open; {seen.deadlines.number} end within the hour",
            ("id", "vendor", "waits for", "for", "ends in"),
            (
                (
                    one.verification_id,
                    one.vendor,
                    one.waiting_for or "start",
                    _span(now, one.since),
                    _span(one.deadline, now),
                )
                for one in seen.oldest
            ),
        ),
        _table(
            "webhook endpoints that fail",
            ("endpoint", "pending", "tries", "last answer"),
            (
                (one.endpoint_id, str(one.pending), str(one.tries), str(one.last_status or one.last_error or ""))
                for one in seen.failing
            ),
        ),
    )


def _table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(*columns, title=title, title_justify="left", expand=False)
    for row in rows:
        table.add_row(*row)
    if not table.row_count:
        table.add_row("–")
    return table


def _open(seen: Overview) -> Iterable[tuple[str, ...]]:
    if seen.open is not None:
        for kind, number in sorted(seen.open.waiting_for.items(), key=lambda item: -item[1]):
            yield kind, str(number)


def _ended(seen: Overview) -> Iterable[tuple[str, ...]]:
    for vendor, numbers in seen.ended.items():
        for what, number in numbers.items():
            yield vendor, what, str(number)


def _vendors(seen: Overview) -> Iterable[tuple[str, ...]]:
    for one in seen.vendors:
        for account in dict.fromkeys(["", *one.accounts_in_trouble]):
            state, _, why = one.state_of(account)
            yield f"{one.vendor} {account}".strip(), one.mode, state, why or ""


def _span(later: datetime, earlier: datetime) -> str:
    seconds = (later - earlier).total_seconds()
    for size, word in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {word}"
    return f"{max(seconds, 0):.0f} s"
