"""`covergate users`: people who sign in to the console with an account of the gateway's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from covergate import logs
from covergate import settings as environment
from covergate.settings import Settings

if TYPE_CHECKING:
    from covergate.access.console_users import ConsoleUser

_COLUMNS = ("id", "login", "name", "of", "state", "roles", "created (UTC)", "last sign-in (UTC)")
_UNKNOWN = "there is no such user, or it was revoked: see `covergate users list`"

app = typer.Typer(help="People in the console, with an account of the gateway's own.", no_args_is_help=True)


@app.command("create")
def create_user(
    login: Annotated[str, typer.Option(help="What the person types to sign in.")],
    name: Annotated[str, typer.Option(help="Who it is.")],
    role: Annotated[
        list[str] | None,
        typer.Option(
            help="Of operators operations, phi; of a tenant's people staff, webhooks, administrator. May be given several times."
        ),
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(help="The tenant whose person it is. Without it, one of the gateway's operators.")
    ] = None,
) -> None:
    """Make an account and print the one-time link by which its owner chooses the password and takes the second factor over."""
    settings = _settings()
    from covergate import startup
    from covergate.access import console_users

    async def run() -> str:
        async with startup.opened(settings, 2, "covergate users") as gateway:
            return await console_users.create_user(gateway, login=login, name=name, roles=role or (), tenant=tenant)

    _print_link(settings, startup.run(run()))


@app.command("reset")
def reset_user(login: Annotated[str, typer.Argument(help="As `users list` shows it.")]) -> None:
    """End a person's sessions and print a new link: password and second factor are chosen anew."""
    settings = _settings()
    from covergate import startup
    from covergate.access import console_users

    async def run() -> str | None:
        async with startup.opened(settings, 2, "covergate users") as gateway:
            return await console_users.reset_user(gateway, login)

    code = startup.run(run())
    if code is None:
        _fail(_UNKNOWN)
    _print_link(settings, code)


@app.command("list")
def list_users() -> None:
    """List the accounts."""
    settings = _settings()
    from covergate import startup
    from covergate.access import console_users

    async def run() -> list[ConsoleUser]:
        async with startup.opened(settings, 2, "covergate users") as gateway:
            return await console_users.list_users(gateway)

    found = startup.run(run())
    console = Console()
    if console.is_terminal:
        table = Table(*_COLUMNS)
        for user in found:
            table.add_row(*_row(user))
        console.print(table)
        return
    for user in found:
        typer.echo("\t".join(_row(user)))


@app.command("revoke")
def revoke_user(login: Annotated[str, typer.Argument(help="As `users list` shows it.")]) -> None:
    """Revoke an account: its sessions end at once, and it lets nobody in any more."""
    settings = _settings()
    from covergate import startup
    from covergate.access import console_users

    async def run() -> bool:
        async with startup.opened(settings, 2, "covergate users") as gateway:
            return await console_users.revoke_user(gateway, login)

    if not startup.run(run()):
        _fail(_UNKNOWN)


def _print_link(settings: Settings, code: str) -> None:
    typer.echo(f"{settings.public_url.rstrip('/')}/console/enter#{code}")


def _fail(what: str) -> NoReturn:
    logs.drain()
    typer.echo(f"covergate: {what}", err=True)
    raise typer.Exit(1)


def _row(user: ConsoleUser) -> list[str]:
    at = [f"{at:%Y-%m-%d %H:%M}" if at else "–" for at in (user.created_at, user.signed_in_at)]
    return [user.id, user.login, user.name, user.tenant or "operators", user.state, " ".join(user.roles), *at]


def _settings() -> Settings:
    settings = environment.load()
    logs.configure(settings.log_format, settings.log_level)
    return settings
