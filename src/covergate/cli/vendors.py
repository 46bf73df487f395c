"""`covergate vendors`: how they fare, hold and resume; and the beginning of a new one, for developers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
import typer
from rich.console import Console
from rich.table import Table

from covergate import logs
from covergate import settings as environment
from covergate.cli import vendor_template
from covergate.errors import ConfigurationError

if TYPE_CHECKING:
    from covergate.gateway import Gateway
    from covergate.overview import VendorNow
    from covergate.vendor_health.history import HistoryPoint

app = typer.Typer(help="See how the vendors fare, hold and resume them; begin a new one.", no_args_is_help=True)

_COLUMNS = ("vendor", "mode", "state", "since (UTC)", "why", "ended", "success", "p50", "p95")
_WELL = "ok"
_Brings = TypeVar("_Brings")

_Name = Annotated[str, typer.Argument(metavar="VENDOR", help="sohar, integrex, health_harbor, vsee, healthie.")]
_Mode = Annotated[str | None, typer.Option("--mode", help="test or live; both unless given.")]
_Json = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]


@app.command(
    "status", epilog="Example: covergate vendors status --mode live --json | jq '.[] | select(.state != \"ok\")'"
)
def show_vendors(mode: _Mode = None, as_json: _Json = False) -> None:
    """Show each vendor's hold, circuit, credentials, and how the last hour or two went. 0: all are well, 1: one is not."""
    modes = _modes(mode)
    from covergate.overview import vendors_now
    from covergate.vendor_health.history import vendors_together

    async def run(gateway: Gateway) -> list[dict[str, Any]]:
        async with gateway.connection() as db:
            now = await vendors_now(db, *modes)
            an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
            since = an_hour_ago.replace(minute=0, second=0, microsecond=0)
            did = {
                (one, point.vendor): point for one in modes for point in await vendors_together(db, one, "hour", since)
            }
        return [row for vendor in now for row in _rows(vendor, did.get((vendor.mode, vendor.vendor)))]

    rows = _run(run)
    if as_json:
        typer.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
    else:
        _show(rows)
    raise typer.Exit(0 if all(row["state"] == _WELL for row in rows) else 1)


@app.command(
    "hold", epilog='Example: covergate vendors hold sohar --mode live --reason "their maintenance window" --until 4h'
)
def hold_vendor(
    vendor: _Name,
    mode: _Mode = None,
    reason: Annotated[str | None, typer.Option(help="Shown to operators; no PHI, no secrets.")] = None,
    until: Annotated[
        str | None, typer.Option(help="When it ends by itself: 4h, 2d, a date or an instant; else when it is resumed.")
    ] = None,
) -> None:
    """Hold a vendor: nothing is sent to it for any tenant, its work waits. Again changes --reason and --until."""
    _known(vendor)
    modes = _modes(mode)
    from covergate.access.audit import command_line
    from covergate.access.credentials import expiry_of
    from covergate.verifications import operator

    ends = expiry_of(until)
    if ends is not None and ends - datetime.now(UTC) > operator.LONGEST_HOLD:
        raise ConfigurationError("a hold ends within 90 days, or when it is resumed")

    async def run(gateway: Gateway) -> None:
        for one in modes:
            await operator.hold(gateway, command_line(mode=one), vendor, one, reason=reason or None, until=ends)

    _run(run)


@app.command("resume", epilog="Example: covergate vendors resume sohar --mode live")
def resume_vendor(vendor: _Name, mode: _Mode = None) -> None:
    """Resume a vendor; refused credentials are tried again, too. 0: it goes on, 1: it was not held."""
    _known(vendor)
    modes = _modes(mode)
    from covergate.access.audit import command_line
    from covergate.verifications.operator import resume

    async def run(gateway: Gateway) -> bool:
        return any([await resume(gateway, vendor, one, command_line(mode=one)) for one in modes])

    if not _run(run):
        logs.drain()
        typer.echo("covergate: it was not held", err=True)
        raise typer.Exit(1)


@app.command("new")
def new_vendor(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower case, words joined by underscores: acme_health")],
    title: Annotated[str | None, typer.Option(help="The name as people write it; made from NAME unless given.")] = None,
    directory: Annotated[Path, typer.Option(help="A checkout of CoverGate.")] = Path(),
) -> None:
    """Write a vendor's folder, sandbox, cases and documentation, to be filled in; the conformance test lists what is left."""
    try:
        written = vendor_template.write(directory, name, title)
    except vendor_template.CannotWrite as error:
        raise ConfigurationError(str(error)) from None
    for path in written:
        typer.echo(path)
    typer.echo("covergate: now run pytest tests/vendors; docs/adding-a-vendor.md says what to do then", err=True)


def _run(action: Callable[[Gateway], Awaitable[_Brings]]) -> _Brings:
    settings = environment.load()
    logs.configure(settings.log_format, settings.log_level)
    from covergate import startup

    async def run() -> _Brings:
        async with startup.opened(settings, 2, "covergate vendors") as gateway:
            return await action(gateway)

    return startup.run(run())


def _modes(mode: str | None) -> tuple[str, ...]:
    if mode not in (None, "test", "live"):
        raise ConfigurationError("--mode is test or live")
    return ("live", "test") if mode is None else (mode,)


def _known(vendor: str) -> None:
    from covergate.vendors import VENDORS

    if vendor not in VENDORS:
        raise ConfigurationError(f"the vendor must be one of: {', '.join(sorted(VENDORS))}")


def _rows(now: VendorNow, did: HistoryPoint | None) -> list[dict[str, Any]]:
    """The shared account's, and one for each account of a tenant's that is in trouble."""
    return [_row(now, did, ""), *(_row(now, None, account) for account in now.accounts_in_trouble if account)]


def _row(now: VendorNow, did: HistoryPoint | None, account: str) -> dict[str, Any]:
    state, since, why = now.state_of(account)
    return {
        "vendor": now.vendor,
        "mode": now.mode,
        "account": account or None,
        "state": state,
        "since": None if since is None else since.isoformat(timespec="seconds"),
        "why": why,
        "ended": None if did is None else did.ended,
        "success_rate": None if did is None or did.success_rate is None else round(did.success_rate, 4),
        "p50_seconds": None if did is None or did.p50 is None else round(did.p50, 2),
        "p95_seconds": None if did is None or did.p95 is None else round(did.p95, 2),
    }


def _show(rows: list[dict[str, Any]]) -> None:
    """A table for people, lines with tabs for programs."""
    lines = [
        [
            row["vendor"] if row["account"] is None else f"{row['vendor']} {row['account']}",
            row["mode"],
            row["state"],
            (row["since"] or "")[:16],
            row["why"] or "",
            *(str(row[name]) if row[name] is not None else "" for name in ("ended", "success_rate")),
            *(str(row[name]) if row[name] is not None else "" for name in ("p50_seconds", "p95_seconds")),
        ]
        for row in rows
    ]
    console = Console()
    if not console.is_terminal:
        for line in lines:
            typer.echo("\t".join(line))
        return
    table = Table(*_COLUMNS)
    for line in lines:
        table.add_row(*line)
    console.print(table)
