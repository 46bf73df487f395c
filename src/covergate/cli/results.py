"""`covergate results renormalize`: reads the stored replies of ended verifications again, by today's rules."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from covergate import logs
from covergate import settings as environment
from covergate.errors import ConfigurationError

if TYPE_CHECKING:
    from covergate.verifications.renormalize import ReadAgain

app = typer.Typer(help="Read stored answers again.", no_args_is_help=True)


@app.callback()
def results() -> None:
    """Read stored answers again."""


@app.command("renormalize")
def renormalize(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's, by its name.")] = None,
    vendor: Annotated[str | None, typer.Option(help="Only those that this vendor answered.")] = None,
    since: Annotated[str | None, typer.Option(help="Only those that ended on or after this day, YYYY-MM-DD.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Keep nothing; only tell what would change.")] = False,
    announce: Annotated[
        bool, typer.Option("--announce", help="Send verification.renormalized for each that is read differently.")
    ] = False,
    values: Annotated[bool, typer.Option("--values", help="Show the values too: they are PHI.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Read the stored replies of ended verifications again, and keep each other reading beside the result.

    No end changes. Fields that are read differently are told by their paths. May be stopped and run again at any time.
    """
    settings = environment.load()
    logs.configure(settings.log_format, settings.log_level)
    try:
        day = None if since is None else datetime.combine(date.fromisoformat(since), time(), UTC)
    except ValueError:
        raise ConfigurationError("--since must be a day like 2026-11-01") from None
    if dry_run and announce:
        raise ConfigurationError("--dry-run keeps nothing that --announce could tell of: leave out one of the two")
    from covergate import startup
    from covergate.access.tenants import list_tenants
    from covergate.access.vendor_accounts import refresh_accounts
    from covergate.vendors import VENDORS
    from covergate.verifications.renormalize import ReadingScope
    from covergate.verifications.renormalize import renormalize as read_again

    if vendor is not None and vendor not in VENDORS:
        raise ConfigurationError(f"there is no such vendor; there are {', '.join(VENDORS)}")

    async def run() -> ReadAgain:
        async with startup.opened(settings, 2, "covergate results") as gateway:
            ids = [one.id for one in await list_tenants(gateway) if one.name == tenant]
            if tenant is not None and not ids:
                raise ConfigurationError("there is no such tenant: see `covergate tenants list`")
            await refresh_accounts(gateway)
            scope = ReadingScope(ids[0] if ids else None, vendor, day)
            return await read_again(gateway, scope, dry_run=dry_run, announces=announce)

    done = startup.run(run())
    if as_json:
        typer.echo(orjson.dumps(told(done, values=values), option=orjson.OPT_INDENT_2).decode())
    else:
        show_readings(done, values=values)


def told(done: ReadAgain, *, values: bool) -> dict[str, Any]:
    """Ids, paths and numbers; with `values` what stood there and what is read now."""
    return {
        "dry_run": done.dry_run,
        **{name: getattr(done, name) for name in ("read", "changed", "announced")},
        "skipped": dict(done.skipped),
        "paths": dict(sorted(done.paths.items())),
        "verifications": {
            verification_id: [
                {"path": one.path, "before": one.before, "after": one.after} if values else {"path": one.path}
                for one in found
            ]
            for verification_id, found in done.differences.items()
        },
    }


def show_readings(done: ReadAgain, *, values: bool) -> None:
    typer.echo(f"{'would be read' if done.dry_run else 'read'} differently: {done.changed} of {done.read}", err=True)
    for reason, number in sorted(done.skipped.items()):
        typer.echo(f"left out, {reason}: {number}", err=True)
    if done.announced:
        typer.echo(f"announced: {done.announced}", err=True)
    for path, number in sorted(done.paths.items()):
        typer.echo(f"{path}\t{number}")
    if values:
        for verification_id, found in done.differences.items():
            for one in found:
                before, after = (orjson.dumps(value).decode() for value in (one.before, one.after))
                typer.echo(f"{verification_id}\t{one.path}\t{before}\t{after}")
