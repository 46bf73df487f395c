"""`covergate patients erase`: everything that tells of one patient, for good.

Member id and birth date are asked for, or read as two lines of stdin: arguments stand in the list of processes and in the shell's
history.
"""

from __future__ import annotations

import sys
from datetime import date
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from covergate import logs
from covergate import settings as environment
from covergate.errors import ConfigurationError
from covergate.timestamps import instant

if TYPE_CHECKING:
    from covergate.erasure import Erasure

app = typer.Typer(help="Erase a patient.", no_args_is_help=True)


@app.callback()
def patients() -> None:
    """Erase a patient."""


@app.command("erase")
def erase(
    tenant: Annotated[str, typer.Option(help="Whose patient: the tenant's name.")],
    mode: Annotated[Literal["test", "live"], typer.Option(help="In which mode.")] = "live",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase what a tenant holds of a patient. Asks for member id and birth date, or reads them as two lines of stdin."""
    settings = environment.load()
    logs.configure(settings.log_format, settings.log_level)
    member_id = _ask("Member id: ")
    try:
        born = date.fromisoformat(_ask("Date of birth (YYYY-MM-DD): "))
    except ValueError:
        raise ConfigurationError("the date of birth must be like 1990-09-20") from None
    from covergate import startup
    from covergate.access.audit import command_line
    from covergate.access.caller import Caller
    from covergate.access.tenants import list_tenants
    from covergate.erasure import erase_patient

    async def run(dry: bool) -> Erasure:
        async with startup.opened(settings, 2, "covergate patients") as gateway:
            ids = [one.id for one in await list_tenants(gateway) if one.name == tenant]
            if not ids:
                raise ConfigurationError("there is no such tenant: see `covergate tenants list`")
            caller, by = Caller(ids[0], mode, "cli", frozenset()), command_line(ids[0], mode)
            return await erase_patient(gateway, caller, member_id, born, dry_run=dry, by=by)

    if dry_run or not yes:
        show(startup.run(run(True)))
    if dry_run:
        return
    if not yes:
        confirm("Erase all of this for good?")
    show(startup.run(run(False)))


def show(erasure: Erasure) -> None:
    """A line for each kind."""
    done = "would be erased" if erasure.dry_run else "erased"
    typer.echo(f"{done}, of what was accepted until {instant(erasure.until)}:", err=True)
    for kind, number in erasure.counts.items():
        typer.echo(f"{kind}\t{number}")
    if not erasure.complete:
        typer.echo("There may be more: run it again.", err=True)


def confirm(question: str) -> None:
    if _ask(f"{question} [y/N]: ").lower() not in ("y", "yes"):
        raise typer.Exit(1)


def _ask(question: str) -> str:
    """On stderr: stdout carries answers only."""
    typer.echo(question, err=True, nl=False)
    return sys.stdin.readline().strip()
