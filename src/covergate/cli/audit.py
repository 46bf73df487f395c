"""`covergate audit`: reading the audit, proving that nobody changed it, and taking it out to storage that is written once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from covergate import logs
from covergate import settings as environment
from covergate.errors import ConfigurationError

if TYPE_CHECKING:
    from covergate.access.audit_chain import Inspection
    from covergate.settings import Settings

app = typer.Typer(help="The audit: who read and changed what.", no_args_is_help=True)

_COLUMNS = ("at", "action", "outcome", "actor", "acting for", "address", "subject", "tenant", "request", "times")

_Noted = Annotated[
    str | None,
    typer.Option("--noted", metavar="NUMBER:DIGEST", help="A batch that was noted elsewhere; it must still be there."),
]


@app.command("list")
def list_events(
    tenant: Annotated[str | None, typer.Option(help="Only of the tenant with this id (ten_…).")] = None,
    action: Annotated[str | None, typer.Option(help="E.g. verification.read.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only by this key, operator, endpoint or user.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only of what was done to this id.")] = None,
    since: Annotated[datetime | None, typer.Option(help="UTC; at this time or later.")] = None,
    until: Annotated[datetime | None, typer.Option(help="UTC; earlier than this.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 100,
) -> None:
    """List what was done, the newest first. That it was listed is audited, too."""
    settings = _settings()
    from covergate import startup
    from covergate.access.audit import AuditFilters, list_all

    filters = AuditFilters(action, actor, subject, None, _utc(since), _utc(until))

    async def run() -> list[Any]:
        async with startup.opened(settings, 2, "covergate audit") as gateway:
            return await list_all(gateway, filters, tenant, limit)

    rows = [
        [
            f"{row.at:%Y-%m-%d %H:%M:%S}",
            row.action,
            row.outcome,
            f"{row.actor_kind} {row.actor_id or ''}".strip(),
            row.acting_user or "",
            row.address or "",
            row.subject_id or row.subject_kind or "",
            row.tenant_id or "",
            row.request_id or "",
            str(row["count"]),
        ]
        for row in startup.run(run())
    ]
    console = Console()
    if console.is_terminal:
        table = Table(*_COLUMNS)
        for cells in rows:
            table.add_row(*cells)
        console.print(table)
        return
    for cells in rows:
        typer.echo("\t".join(cells))


@app.command("verify")
def verify_audit(
    file: Annotated[
        Path | None, typer.Argument(metavar="[EXPORT]", help="An export to verify instead; that needs no database.")
    ] = None,
    noted: _Noted = None,
    after: Annotated[int, typer.Option(min=0, help="Only the rows of batches after this one, proved before.")] = 0,
) -> None:
    """Prove that no row of a closed batch was altered, removed, moved or slipped in. 0: so it is, 1: not so.

    Prints the newest batch as NUMBER:DIGEST. Kept elsewhere, it shows a later look (--noted) that the end was not cut off.
    """
    settings = _settings()
    expected = _expected(noted)
    verdict = _verify_database(settings, expected, after) if file is None else _verify_file(settings, file, expected)
    for fault in verdict.faults:
        _say(fault)
    if verdict.head is not None:
        typer.echo(f"{verdict.head[0]}:{verdict.head[1]}")
    _say(
        f"{verdict.batches} batches with {verdict.rows} rows, {verdict.not_closed} rows not closed yet,"
        f" {verdict.expired} batches past their six years"
    )
    if verdict.faults:
        raise typer.Exit(1)


@app.command("export")
def export_audit(
    after: Annotated[int, typer.Option(min=0, help="Only the batches after this number.")] = 0,
) -> None:
    """Write the closed batches to stdout as NDJSON, each row as it was digested, then its batch. That is audited, too."""
    settings = _settings()
    from covergate import startup
    from covergate.access.audit import record_command
    from covergate.access.audit_chain import exported
    from covergate.states import SubjectKind

    async def run() -> None:
        async with startup.opened(settings, 2, "covergate audit") as gateway:
            await record_command(gateway, "audit.export", SubjectKind.AUDIT)
            async for line in exported(gateway, after):
                typer.echo(line, nl=False)

    startup.run(run())


def _verify_database(settings: Settings, expected: tuple[int, str] | None, after: int) -> Inspection:
    from covergate import startup
    from covergate.access.audit import record_command
    from covergate.access.audit_chain import verify_chain
    from covergate.states import SubjectKind

    async def run() -> Inspection:
        async with startup.opened(settings, 2, "covergate audit") as gateway:
            verdict = await verify_chain(gateway, expected, after)
            await record_command(gateway, "audit.verify", SubjectKind.AUDIT)
            return verdict

    return startup.run(run())


def _verify_file(settings: Settings, file: Path, expected: tuple[int, str] | None) -> Inspection:
    from covergate.access.audit_chain import verify_export
    from covergate.db.key_ring import ring_from_settings

    # The database is not asked: without keys in the settings the embedded one's own would be made.
    ring = asyncio.run(ring_from_settings(settings.model_copy(update={"database_url": None})))
    if ring is None:
        _say(
            "without encryption keys in the settings only the digests are compared: whoever made them could make others"
        )
    try:
        return verify_export(_lines(file), ring, expected)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as lines:
        yield from lines


def _expected(text: str | None) -> tuple[int, str] | None:
    from covergate.access.audit_chain import noted

    try:
        return None if text is None else noted(text)
    except ValueError:
        raise ConfigurationError("--noted takes NUMBER:DIGEST as `covergate audit verify` printed it") from None


def _utc(given: datetime | None) -> datetime | None:
    return None if given is None else given.replace(tzinfo=UTC)


def _settings() -> Settings:
    settings = environment.load()
    logs.configure(settings.log_format, settings.log_level)
    return settings


def _say(what: str) -> None:
    typer.echo(f"covergate: {what}", err=True)
