"""`covergate operators`: the people and tools that run the gateway. They belong to no tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from covergate import logs
from covergate import settings as environment
from covergate.settings import Settings

if TYPE_CHECKING:
    from covergate.access.operators import OperatorRow

_COLUMNS = ("id", "name", "ends with", "state", "roles", "created (UTC)", "expires (UTC)", "last used (UTC)")

app = typer.Typer(help="Operators, who belong to no tenant.", no_args_is_help=True)


@app.command("create")
def create_operator(
    name: Annotated[str, typer.Option(help="Who it is: a person or a tool.")],
    role: Annotated[
        list[str] | None, typer.Option(help="operations, phi; may be given several times. By default operations.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends: 12h, 90d, 4w, a date or an instant.")] = None,
) -> None:
    """Make an operator and print the credential, alone. It is not shown again."""
    settings = _settings()
    from covergate import startup
    from covergate.access import credentials, operators

    async def run() -> str:
        async with startup.opened(settings, 2, "covergate operators") as gateway:
            return await operators.create_operator(
                gateway, name=name, roles=role, expires_at=credentials.expiry_of(expires)
            )

    typer.echo(startup.run(run()))


@app.command("list")
def list_operators() -> None:
    """List the operators: never their credentials, but the last four characters."""
    settings = _settings()
    from covergate import startup
    from covergate.access import operators

    async def run() -> list[OperatorRow]:
        async with startup.opened(settings, 2, "covergate operators") as gateway:
            return await operators.list_operators(gateway)

    found = startup.run(run())
    console = Console()
    if console.is_terminal:
        table = Table(*_COLUMNS)
        for operator in found:
            table.add_row(*_row(operator))
        console.print(table)
        return
    for operator in found:
        typer.echo("\t".join(_row(operator)))


@app.command("revoke")
def revoke_operator(
    operator_id: Annotated[str, typer.Argument(metavar="OPERATOR_ID", help="As `operators list` shows it.")],
) -> None:
    """Revoke an operator: no process takes its credential any more."""
    settings = _settings()
    from covergate import startup
    from covergate.access import operators

    async def run() -> bool:
        async with startup.opened(settings, 2, "covergate operators") as gateway:
            return await operators.revoke_operator(gateway, operator_id)

    if not startup.run(run()):
        logs.drain()
        typer.echo(
            "covergate: there is no such operator, or it was revoked before: see `covergate operators list`", err=True
        )
        raise typer.Exit(1)


def _row(operator: OperatorRow) -> list[str]:
    return [
        operator.id,
        operator.name,
        f"…{operator.hint}",
        operator.state,
        " ".join(operator.roles),
        *(
            f"{at:%Y-%m-%d %H:%M}" if at else "–"
            for at in (operator.created_at, operator.expires_at, operator.last_used_at)
        ),
    ]


def _settings() -> Settings:
    settings = environment.load()
    logs.configure(settings.log_format, settings.log_level)
    return settings
