"""`covergate payers`: taking over the vendors' payer lists, and joining by hand what could not be matched for certain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from covergate import logs
from covergate import settings as environment

if TYPE_CHECKING:
    from covergate.payers.candidates import Linked
    from covergate.payers.store import Candidate, DirectoryPayer
    from covergate.payers.sync import Synced
    from covergate.settings import Settings

app = typer.Typer(help="The payer directory.", no_args_is_help=True)


@app.command("sync")
def sync_payers(
    mode: Annotated[Literal["test", "live"] | None, typer.Option(help="Both, unless one is named.")] = None,
) -> None:
    """Take over the payer lists of the enabled vendors that have one, now; the worker does so once a day.

    0: all were taken over, 1: one was not, 2: no enabled vendor has a list.
    """
    settings = _settings()
    from covergate import startup
    from covergate.access.audit import record_command
    from covergate.payers.sync import sync_all
    from covergate.transport.transport import Transport

    async def run() -> list[Synced]:
        async with (
            startup.opened(settings, 2, "covergate payers") as gateway,
            Transport(allow_private_network=settings.allow_private_network) as transport,
        ):
            found = await sync_all(gateway, transport, mode)
            await record_command(gateway, "payer.sync")
            return found

    found = startup.run(run())
    if not found:
        _say("no enabled vendor lists its payers; test mode needs COVERGATE_SANDBOX_URL")
        raise typer.Exit(2)
    columns = ("vendor", "mode", "listed", "known", "new", "doubtful", "error")
    _show(
        columns,
        [[s.vendor, s.mode, *map(str, (s.listed, s.linked, s.created, s.doubtful)), s.error or ""] for s in found],
    )
    if any(synced.doubtful for synced in found):
        _say("doubtful ones wait for you: see `covergate payers list-candidates`")
    if any(synced.error for synced in found):
        raise typer.Exit(1)


@app.command("list-candidates")
def list_candidates() -> None:
    """List what the vendors' lists have and nobody could match for certain, each with the payers that it may be."""
    settings = _settings()
    from covergate import startup
    from covergate.payers import candidates

    async def run() -> list[tuple[Candidate, list[DirectoryPayer]]]:
        async with startup.opened(settings, 2, "covergate payers") as gateway:
            return await candidates.list_candidates(gateway)

    rows = [
        [
            candidate.id,
            candidate.vendor,
            candidate.mode,
            candidate.listed.name,
            " ".join(f"{name}={code}" for name, code in sorted(candidate.listed.codes.items())),
            "; ".join(f"{payer.name} ({payer.id})" for payer in suggested),
        ]
        for candidate, suggested in startup.run(run())
    ]
    _show(("candidate", "vendor", "mode", "name", "codes", "may be"), rows)


@app.command("link")
def link_candidate(
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help="As `payers list-candidates` shows it.")],
    payer: Annotated[str, typer.Argument(metavar="PAYER", help="The id of the payer it is (pyr_…), or: new")],
) -> None:
    """Say which payer a candidate is. No later list undoes it."""
    settings = _settings()
    from covergate import startup
    from covergate.access.audit import record_command
    from covergate.payers import candidates
    from covergate.states import SubjectKind

    async def run() -> Linked:
        async with startup.opened(settings, 2, "covergate payers") as gateway:
            linked = await candidates.link(gateway, candidate, payer)
            if linked is candidates.Linked.DONE:
                await record_command(gateway, "payer.link", SubjectKind.PAYER, candidate)
            return linked

    linked = startup.run(run())
    if linked is candidates.Linked.NO_CANDIDATE:
        _say("there is no such candidate, or it was linked before: see `covergate payers list-candidates`")
        raise typer.Exit(1)
    if linked is candidates.Linked.NO_PAYER:
        _say("there is no such payer in the candidate's mode: see GET /v1/payers, or say: new")
        raise typer.Exit(1)


def _settings() -> Settings:
    settings = environment.load()
    logs.configure(settings.log_format, settings.log_level)
    return settings


def _show(columns: tuple[str, ...], rows: list[list[str]]) -> None:
    """A table for people, lines with tabs for programs."""
    console = Console()
    if console.is_terminal:
        table = Table(*columns)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    for row in rows:
        typer.echo("\t".join(row))


def _say(what: str) -> None:
    typer.echo(f"covergate: {what}", err=True)
